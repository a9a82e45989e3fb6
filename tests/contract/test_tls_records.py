"""TLS records of every shape: cut anywhere, empty, padded, alerts, new keys, ends cut off."""

import asyncio
import contextlib
import socket
import ssl
import struct

import pytest
from harness import BufferedRecorder, Recorder, iterations, oracle_lacks, run
from tls_peer import NAME, TlsPeer, tls_attached
from tls_records import (
    ALERT,
    CHANGE_CIPHER_SPEC,
    HANDSHAKE,
    HEAD_BYTES,
    KEY_UPDATE,
    NEW_SESSION_TICKET,
    RECORD_BYTES,
    WARNING,
    Forger,
    message,
    records,
)

from uring_loop._internal.tls_records import why_not_native

# The second since OpenSSL 3.2, whose record layer has an error of its own behind the first.
BAD_RECORD = ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE")


def pattern(size):
    return bytes(range(256)) * (size // 256) + bytes(size % 256)


class Buffered(BufferedRecorder):
    """With a view for its buffer, of which stock asyncio fills no copies."""

    def __init__(self):
        super().__init__()
        self.buffer = memoryview(bytearray(1 << 18))


@pytest.fixture(params=[Recorder, Buffered])
def kind(request):
    """Both kinds of protocol."""
    return request.param


@pytest.fixture
def forging(certificates, tmp_path, server_side):
    """Opens what tls_attached() does, with a Forger for what the peer sends."""

    @contextlib.asynccontextmanager
    async def attached(version, protocol=None, **options):
        keylog = tmp_path / "keys"
        side = certificates.client if server_side else certificates.server
        context = side(version)
        context.keylog_filename = str(keylog)
        if not server_side:
            # They would be records of a direction that is forged.
            context.num_tickets = 0
        async with tls_attached(
            certificates,
            protocol,
            server_side=server_side,
            version=version,
            peer_context=context,
            **options,
        ) as (transport, protocol, peer):
            yield transport, protocol, peer, Forger(peer, keylog)

    return attached


async def send_in_pieces(peer, data, sizes):
    """Each piece is received by itself, as far as a loop can see to that."""
    start = 0
    for size in sizes:
        await peer.peer.send_all(data[start : start + size])
        await iterations(2)
        start += size
    await peer.peer.send_all(data[start:])


# ---- cut anywhere -----------------------------------------------------------------------------


class Dribbling(TlsPeer):
    """Sends one byte at a time."""

    async def _flush(self):
        for byte in self.take():
            await self.peer.send_all(bytes([byte]))
            await asyncio.sleep(0)


def test_tls_handshake_and_records_that_come_byte_by_byte_are_understood(
    loop, certificates, version, server_side, kind
):
    async def main():
        options = {"server_side": server_side, "version": version, "peer_type": Dribbling}
        async with tls_attached(certificates, kind(), **options) as (transport, protocol, peer):
            transport.write(b"hello")
            assert await peer.recv_exactly(5) == b"hello"
            await peer.send_all(b"world" * 20)
            await protocol.until_size(100)
            assert protocol.data == b"world" * 20
            await peer.notify()
            await protocol.until_lost()
            assert protocol.lost is None

    run(loop, main())


@pytest.mark.parametrize("place", [1, 4, 5, 6, 100, -17, -16, -1])
def test_tls_record_cut_in_two_is_delivered_once_it_is_whole(
    loop, certificates, version, server_side, kind, place
):
    async def main():
        options = {"server_side": server_side, "version": version}
        async with tls_attached(certificates, kind(), **options) as (_, protocol, peer):
            record = peer.seal(pattern(1000))
            await peer.peer.send_all(record[:place])
            await iterations(10)
            assert protocol.data == b""
            await peer.peer.send_all(record[place:])
            await protocol.until_size(1000)
            assert protocol.data == pattern(1000)

    run(loop, main())


@pytest.mark.parametrize("step", [4, 1000, 16 * 1024, 16 * 1024 + 23])
def test_tls_stream_of_records_cut_every_so_many_bytes_arrives_whole(
    loop, certificates, version, kind, step
):
    """The pieces hold the end of one record and the beginning of the next."""
    sizes = [1, RECORD_BYTES, 300, RECORD_BYTES - 1, 7] if step > 4 else [1, 30, 2]

    async def main():
        async with tls_attached(certificates, kind(), version=version) as (_, protocol, peer):
            sealed = b"".join(peer.seal(pattern(size)) for size in sizes)
            await send_in_pieces(peer, sealed, [step] * (len(sealed) // step))
            expected = b"".join(map(pattern, sizes))
            await protocol.until_size(len(expected))
            assert protocol.data == expected

    run(loop, main())


def test_tls_whole_records_and_the_beginning_of_one_deliver_the_whole_ones(
    loop, certificates, version, kind
):
    async def main():
        async with tls_attached(certificates, kind(), version=version) as (_, protocol, peer):
            sealed = [peer.seal(pattern(500)) for _ in range(3)]
            await peer.peer.send_all(sealed[0] + sealed[1] + sealed[2][:-1])
            await protocol.until_size(1000)
            await iterations(10)
            assert len(protocol.data) == 1000
            await peer.peer.send_all(sealed[2][-1:])
            await protocol.until_size(1500)
            assert protocol.data == pattern(500) * 3

    run(loop, main())


def test_tls_records_that_come_with_the_last_flight_of_the_handshake_are_delivered(
    loop, certificates, version, kind
):
    """The client's Finished and its first data are one segment."""

    class Eager(TlsPeer):
        async def handshake(self):
            await self.handshake_first_flight()
            while True:
                self._incoming.write(await self.peer.recv())
                try:
                    self.ssl.do_handshake()
                except ssl.SSLWantReadError:
                    await self._flush()
                else:
                    break
            self.ssl.write(b"GET /\n")
            await self._flush()

    async def main():
        if version is ssl.TLSVersion.TLSv1_2:
            # Its client ends with what it receives, and not with what it sends.
            options = {"server_side": True, "version": version}
        else:
            options = {"server_side": True, "version": version, "peer_type": Eager}
        async with tls_attached(certificates, kind(), **options) as (_, protocol, peer):
            if version is ssl.TLSVersion.TLSv1_2:
                await peer.send_all(b"GET /\n")
            await protocol.until_size(6)
            assert protocol.data == b"GET /\n"
            assert protocol.names[0] == "connection_made"

    run(loop, main())


# ---- what is in them --------------------------------------------------------------------------


def test_tls_records_without_content_are_passed_over(loop, forging, version, kind):
    async def main():
        async with forging(version, kind()) as (_, protocol, peer, forger):
            empty = b"".join(forger.data() for _ in range(20))
            await peer.peer.send_all(empty + forger.data(b"one") + forger.data())
            await protocol.until_size(3)
            await peer.peer.send_all(forger.data())
            await iterations(10)
            await peer.peer.send_all(forger.data(b"two"))
            await protocol.until_size(6)
            assert protocol.data == b"onetwo"
            assert "eof_received" not in protocol.calls

    run(loop, main())


def test_tls_more_empty_records_than_openssl_suffers_end_the_connection(loop, forging, version):
    """32 in a row are let pass."""

    async def main():
        async with forging(version) as (_, protocol, peer, forger):
            await peer.peer.send_all(b"".join(forger.data() for _ in range(40)))
            await protocol.until_lost()
            assert isinstance(protocol.lost, ssl.SSLError)
            assert protocol.lost.reason in ("RECORD_TOO_SMALL", "RECORD_LAYER_FAILURE")

    run(loop, main())


@pytest.mark.parametrize("size, padding", [(1, 100), (0, RECORD_BYTES), (100, RECORD_BYTES - 100)])
def test_tls_padding_of_records_is_taken_off(loop, forging, kind, size, padding):
    async def main():
        async with forging(ssl.TLSVersion.TLSv1_3, kind()) as (_, protocol, peer, forger):
            await peer.peer.send_all(forger.data(pattern(size), padding) + forger.data(b"end"))
            await protocol.until_size(size + 3)
            assert protocol.data == pattern(size) + b"end"

    run(loop, main())


def test_tls_records_of_every_size_from_one_byte_to_the_most_arrive(loop, forging, version, kind):
    sizes = [1, 2, 15, 16, 17, 255, 4095, 4096, 4097, RECORD_BYTES - 1, RECORD_BYTES]

    async def main():
        async with forging(version, kind()) as (_, protocol, peer, forger):
            await peer.peer.send_all(b"".join(forger.data(pattern(size)) for size in sizes))
            expected = b"".join(map(pattern, sizes))
            await protocol.until_size(len(expected))
            assert protocol.data == expected

    run(loop, main())


def test_tls_record_longer_than_allowed_ends_the_connection(loop, forging, version):
    async def main():
        async with forging(version) as (_, protocol, peer, forger):
            await peer.peer.send_all(forger.data(b"before"))
            await protocol.until_size(6)
            await peer.peer.send_all(forger.data(bytes(RECORD_BYTES + 300)))
            await protocol.until_lost()
            assert isinstance(protocol.lost, ssl.SSLError)
            assert protocol.data == b"before"

    run(loop, main())


@pytest.mark.parametrize("place", [HEAD_BYTES, -1])
def test_tls_record_that_was_tampered_with_ends_the_connection_after_those_before_it(
    loop, certificates, version, server_side, place
):
    async def main():
        options = {"server_side": server_side, "version": version}
        async with tls_attached(certificates, **options) as (_, protocol, peer):
            await peer.send_all(b"before")
            await protocol.until_size(6)
            record = bytearray(peer.seal(b"secret"))
            record[place] ^= 1
            await peer.peer.send_all(record + peer.seal(b"behind"))
            await protocol.until_lost()
            assert isinstance(protocol.lost, ssl.SSLError)
            assert protocol.data == b"before"
            assert "eof_received" not in protocol.calls

    run(loop, main())


class Meddling(Recorder):
    """Answers, and reads from a TLS object of its own, whenever it gets data."""

    def __init__(self, certificates):
        super().__init__()
        self.errors = []
        ends = [(ssl.MemoryBIO(), ssl.MemoryBIO()) for _ in range(2)]
        self.other = certificates.client().wrap_bio(*ends[0], server_hostname=NAME)
        server = certificates.server().wrap_bio(*ends[1], server_side=True)
        for end in (self.other, server, self.other, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
            ends[0][0].write(ends[1][1].read())
            ends[1][0].write(ends[0][1].read())

    def data_received(self, data):
        self.transport.write(b"answer")
        try:
            self.other.read(1)
        except ssl.SSLError as error:
            self.errors.append(error)
        super().data_received(data)


class MeddlingBuffered(Meddling, asyncio.BufferedProtocol):
    def get_buffer(self, hint):
        self.buffer = memoryview(bytearray(1 << 18))
        return self.buffer

    def buffer_updated(self, count):
        self.data_received(bytes(self.buffer[:count]))


@pytest.mark.parametrize("type_", [Meddling, MeddlingBuffered])
def test_tls_error_behind_a_good_record_is_the_connections_own_and_nobody_elses(
    loop, certificates, version, server_side, type_
):
    """OpenSSL's errors are queued per thread, and it says a fatal one only once."""

    async def main():
        protocol = type_(certificates)
        options = {"server_side": server_side, "version": version}
        async with tls_attached(certificates, protocol, **options) as (_, _, peer):
            await peer.send_all(b"first")
            await protocol.until_size(5)
            good = peer.seal(b"good")
            bad = bytearray(peer.seal(b"bad"))
            bad[-1] ^= 1
            await peer.peer.send_all(good + bad)
            await protocol.until_lost()
            assert isinstance(protocol.lost, ssl.SSLError)
            assert protocol.lost.reason in BAD_RECORD
            assert {type(error) for error in protocol.errors} == {ssl.SSLWantReadError}

    run(loop, main())


def test_tls_write_in_the_turn_that_brings_a_bad_record_leaves_before_the_end(
    loop, certificates, version, server_side
):
    async def main():
        options = {"server_side": server_side, "version": version}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            bad = bytearray(peer.seal(b"bad"))
            bad[-1] ^= 1
            await peer.peer.send_all(bad)
            # A turn later it is there, and is told after what is ready has run.
            await asyncio.sleep(0)
            transport.write(b"in time")
            await protocol.until_lost()
            assert protocol.lost.reason in BAD_RECORD
            assert await peer.recv_exactly(7) == b"in time"

    run(loop, main())


def test_tls_record_replayed_ends_the_connection(loop, certificates, version, server_side):
    async def main():
        options = {"server_side": server_side, "version": version}
        async with tls_attached(certificates, **options) as (_, protocol, peer):
            record = peer.seal(b"once")
            await peer.peer.send_all(record)
            await protocol.until_size(4)
            await peer.peer.send_all(record)
            await protocol.until_lost()
            assert isinstance(protocol.lost, ssl.SSLError)
            assert protocol.data == b"once"

    run(loop, main())


# ---- alerts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["unexpected_message", "handshake_failure", "internal_error"])
def test_tls_fatal_alert_ends_the_connection_with_its_name(loop, forging, version, name):
    async def main():
        async with forging(version) as (_, protocol, peer, forger):
            await peer.peer.send_all(forger.data(b"before"))
            await protocol.until_size(6)
            await peer.peer.send_all(forger.alert(name))
            await protocol.until_lost()
            assert isinstance(protocol.lost, ssl.SSLError)
            assert name in str(protocol.lost).lower().replace(" ", "_")
            assert "eof_received" not in protocol.calls

    run(loop, main())


def test_tls_warning_that_the_user_cancelled_is_no_end(loop, forging, version):
    async def main():
        async with forging(version) as (_, protocol, peer, forger):
            await peer.peer.send_all(forger.alert("user_canceled", WARNING) + forger.data(b"x"))
            await protocol.until_size(1)
            assert protocol.lost is None

    run(loop, main())


def test_tls_data_after_close_notify_is_never_delivered(loop, forging, version, kind):
    async def main():
        async with forging(version, kind()) as (_, protocol, peer, forger):
            sealed = forger.data(b"before") + forger.alert("close_notify", WARNING)
            await peer.peer.send_all(sealed + forger.data(b"behind"))
            await protocol.until_lost()
            assert protocol.data == b"before"
            assert protocol.names[-2:] == ["eof_received", "connection_lost"]

    run(loop, main())


def test_tls_alert_cut_in_two_records_ends_the_connection(loop, forging, version):
    """RFC 8446, section 5.1: alerts are never spread over records."""

    async def main():
        async with forging(version) as (_, protocol, peer, forger):
            await peer.peer.send_all(forger.seal(ALERT, b"\x01") + forger.seal(ALERT, b"\x00"))
            await protocol.until_lost()
            assert isinstance(protocol.lost, ssl.SSLError)

    run(loop, main())


# ---- handshake messages afterwards ------------------------------------------------------------


def test_tls_peers_key_update_changes_the_key_of_what_follows(loop, forging, kind):
    async def main():
        async with forging(ssl.TLSVersion.TLSv1_3, kind()) as (_, protocol, peer, forger):
            sealed = b""
            for number in range(5):
                sealed += forger.data(b"%d" % number) + forger.key_update()
            await peer.peer.send_all(sealed + forger.data(b"end"))
            await protocol.until_size(8)
            assert protocol.data == b"01234end"

    run(loop, main())


def test_tls_key_update_that_asks_for_one_is_answered_before_what_is_written_next(loop, forging):
    async def main():
        async with forging(ssl.TLSVersion.TLSv1_3) as (transport, protocol, peer, forger):
            transport.write(b"old key")
            assert await peer.recv_exactly(7) == b"old key"
            await peer.peer.send_all(forger.key_update(requested=True) + forger.data(b"x"))
            await protocol.until_size(1)
            transport.write(b"new key")
            assert await peer.recv_exactly(7) == b"new key"
            # What it wrote with the new key the peer would not understand without the answer;
            # and the answer is a record of its own.
            last = records(peer.received)[-2:]
            assert [len(record) - HEAD_BYTES for record in last] == [5 + 1 + 16, 7 + 1 + 16]

    run(loop, main())


def test_tls_key_update_in_a_stream_of_bulk_both_ways_loses_nothing(loop, forging, kind):
    count = 60

    async def main():
        async with forging(ssl.TLSVersion.TLSv1_3, kind()) as (transport, protocol, peer, forger):
            data = pattern(RECORD_BYTES)
            sealed = [
                forger.data(data) + forger.key_update(requested=number % 3 == 0)
                for number in range(count)
            ]
            transport.write(data * count)
            await asyncio.gather(
                peer.peer.send_all(b"".join(sealed)), peer.recv_exactly(len(data) * count)
            )
            await protocol.until_size(len(data) * count)
            assert protocol.data == data * count
            transport.write(b"end")
            assert await peer.recv_exactly(3) == b"end"

    run(loop, main())


@pytest.mark.parametrize("asked", [False, True])
def test_tls_storm_of_key_updates_is_suffered_or_ends_the_connection(loop, forging, asked):
    """OpenSSL answers each; nothing grows without bound, and nobody hangs."""

    async def main():
        async with forging(ssl.TLSVersion.TLSv1_3) as (transport, protocol, peer, forger):
            await peer.peer.send_all(b"".join(forger.key_update(asked) for _ in range(300)))
            await peer.peer.send_all(forger.data(b"after"))
            await protocol.until(lambda: protocol.data == b"after" or protocol.lost)
            assert transport.get_write_buffer_size() <= 300 * 32

    run(loop, main())


def test_tls_key_update_with_a_body_that_is_none_ends_the_connection(loop, forging):
    async def main():
        async with forging(ssl.TLSVersion.TLSv1_3) as (_, protocol, peer, forger):
            await peer.peer.send_all(forger.seal(HANDSHAKE, message(KEY_UPDATE, b"\x07")))
            await protocol.until_lost()
            assert isinstance(protocol.lost, ssl.SSLError)

    run(loop, main())


def ticket(size):
    """A NewSessionTicket of TLS 1.3 (RFC 8446, section 4.6.1)."""
    head = struct.pack(">II", 7200, 0) + b"\1\0" + struct.pack(">H", size)
    return message(NEW_SESSION_TICKET, head + bytes(size) + b"\0\0")


def test_tls_session_ticket_in_pieces_among_the_data_is_none_of_it(loop, certificates, tmp_path):
    async def main():
        keylog = tmp_path / "keys"
        context = certificates.server(ssl.TLSVersion.TLSv1_3)
        context.keylog_filename = str(keylog)
        context.num_tickets = 0
        async with tls_attached(certificates, peer_context=context) as (_, protocol, peer):
            forger = Forger(peer, keylog)
            whole = ticket(300)
            sealed = forger.data(b"one") + forger.seal(HANDSHAKE, whole)
            sealed += forger.seal(HANDSHAKE, whole[:100]) + forger.seal(HANDSHAKE, whole[100:])
            await peer.peer.send_all(sealed + forger.data(b"two"))
            await protocol.until_size(6)
            assert protocol.data == b"onetwo"

    run(loop, main())


def test_tls_handshake_message_that_nobody_awaits_ends_the_connection(loop, forging, version):
    async def main():
        async with forging(version) as (_, protocol, peer, forger):
            await peer.peer.send_all(forger.data(b"x") + forger.seal(HANDSHAKE, message(99, b"x")))
            await protocol.until_lost()
            assert isinstance(protocol.lost, ssl.SSLError)

    run(loop, main())


def test_tls_change_cipher_spec_after_the_handshake_ends_the_connection(loop, forging, version):
    modern = version is ssl.TLSVersion.TLSv1_3
    if modern and ssl.OPENSSL_VERSION_INFO >= (3, 2):
        pytest.skip("since 3.2 OpenSSL's clients suffer one at any time")

    async def main():
        async with forging(version) as (_, protocol, peer, forger):
            if modern:
                stray = struct.pack(">BHH", CHANGE_CIPHER_SPEC, 0x0303, 1) + b"\1"
            else:
                stray = forger.seal(CHANGE_CIPHER_SPEC, b"\1")
            await peer.peer.send_all(stray)
            await protocol.until_lost()
            assert isinstance(protocol.lost, ssl.SSLError)

    run(loop, main())


# ---- streams that are cut off -----------------------------------------------------------------


@pytest.mark.parametrize("cut", ["between records", "in a head", "in a body"])
def test_tls_stream_cut_off_delivers_the_whole_records_and_then_its_end(
    loop, certificates, server_side, version, kind, cut
):
    async def main():
        options = {"server_side": server_side, "version": version}
        async with tls_attached(certificates, kind(), **options) as (_, protocol, peer):
            record = peer.seal(b"whole")
            rest = peer.seal(pattern(1000))
            size = {"between records": 0, "in a head": 3, "in a body": 500}[cut]
            await peer.peer.send_all(record + rest[:size])
            # A close would reset the connection if there are session tickets to read.
            peer.peer.sock.shutdown(socket.SHUT_WR)
            await protocol.until_lost()
            assert protocol.data == b"whole"
            assert protocol.names[-2:] == ["eof_received", "connection_lost"]
            assert protocol.lost is None

    run(loop, main())


# ---- what is sent -----------------------------------------------------------------------------


async def sent_records(peer, action, size):
    """The records that the transport makes of what `action` writes."""
    peer.received.clear()
    action()
    await peer.recv_exactly(size)
    return records(peer.received)


@pytest.mark.parametrize("joined", [False, True], ids=["write", "writelines"])
@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        ([1] * 200, 1),
        ([200, 40_000], 3),
        ([RECORD_BYTES - 1, 2], 2),
        ([RECORD_BYTES] * 2, 2),
        ([9_000] * 4, 4),
        ([3] * 6000, 3),
    ],
    ids=["small", "head and body", "one over", "full", "half", "tiny"],
)
def test_tls_pieces_of_one_turn_share_records_and_arrive_in_order(
    loop, loop_kind, certificates, version, sizes, count, joined
):
    """What fills a record leaves at once, with what is beyond it."""
    pieces = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    whole = b"".join(pieces)

    async def main():
        options = {"server_side": True, "version": version}
        async with tls_attached(certificates, **options) as (transport, _, peer):
            transport.write(b"x")
            await peer.recv_exactly(1)

            def write():
                if joined:
                    transport.writelines(pieces)
                else:
                    for piece in pieces:
                        transport.write(piece)

            peer.received.clear()
            write()
            assert await peer.recv_exactly(len(whole)) == whole
            if loop_kind != "asyncio" and why_not_native() is None:
                assert len(records(peer.received)) == count

    run(loop, main())


@pytest.mark.parametrize("size", [1, RECORD_BYTES, RECORD_BYTES + 1, 3 * RECORD_BYTES + 5])
def test_tls_write_leaves_as_the_fewest_records(loop, certificates, version, size):
    async def main():
        options = {"server_side": True, "version": version}
        async with tls_attached(certificates, **options) as (transport, _, peer):
            # The session tickets come first.
            transport.write(b"x")
            await peer.recv_exactly(1)
            found = await sent_records(peer, lambda: transport.write(pattern(size)), size)
            assert len(found) == -(-size // RECORD_BYTES)

    run(loop, main())


def test_tls_writelines_of_many_small_pieces_arrives_in_no_more_records_than_pieces(
    loop, certificates, version
):
    pieces = [b"%d," % number for number in range(200)]
    whole = b"".join(pieces)

    async def main():
        options = {"server_side": True, "version": version}
        async with tls_attached(certificates, **options) as (transport, _, peer):
            transport.write(b"x")
            await peer.recv_exactly(1)
            found = await sent_records(peer, lambda: transport.writelines(pieces), len(whole))
            assert 1 <= len(found) <= len(pieces)

    run(loop, main())


@pytest.mark.parametrize("pieces", [[], [b""], [b"", b"one", b"", bytearray(), b"two", b""]])
def test_tls_writelines_with_empty_pieces_sends_the_others(loop, loop_kind, certificates, pieces):
    async def main():
        async with tls_attached(certificates) as (transport, _, peer):
            transport.writelines(pieces)
            transport.write(b"end")
            expected = b"".join(pieces) + b"end"
            assert await peer.recv_exactly(len(expected)) == expected

    run(loop, main())


def test_tls_write_then_writelines_then_write_in_one_turn_keep_their_order(
    loop, certificates, version, server_side
):
    async def main():
        options = {"server_side": server_side, "version": version}
        async with tls_attached(certificates, **options) as (transport, _, peer):
            expected = b""
            for number in range(100):
                transport.write(b"a%d" % number)
                transport.writelines([b"b%d" % number, bytearray(b"c"), memoryview(b"d")])
                transport.write(pattern(number * 97 + 1))
                expected += b"a%db%dcd" % (number, number) + pattern(number * 97 + 1)
            assert await peer.recv_exactly(len(expected)) == expected

    run(loop, main())


def test_tls_bytearray_changed_after_write_returned_leaves_as_it_was(loop, certificates, version):
    """write() of a connection with room has sealed it; a slow one may keep what it was given."""

    async def main():
        async with tls_attached(certificates, version=version) as (transport, _, peer):
            data = bytearray(b"before")
            transport.write(data)
            data[:] = b"behind"
            assert await peer.recv_exactly(6) == b"before"

    run(loop, main())


def test_tls_write_from_a_slow_connection_of_every_type_arrives(loop, certificates, version):
    size = 3 << 20

    async def main():
        async with tls_attached(certificates, version=version, small=True) as (
            transport,
            protocol,
            peer,
        ):
            for wrap in (bytes, bytearray, memoryview, bytearray, bytes):
                transport.write(wrap(pattern(size)))
            assert protocol.pauses == 1
            assert await peer.recv_exactly(5 * size) == pattern(size) * 5

    run(loop, main())


def test_tls_write_of_a_view_of_wide_items_arrives_in_bytes(loop, loop_kind, certificates):
    oracle_lacks(loop_kind, True, "counts the items of a memoryview, and takes them for bytes")

    async def main():
        async with tls_attached(certificates) as (transport, _, peer):
            transport.write(memoryview(pattern(4096)).cast("I"))
            transport.write(b"end")
            assert await peer.recv_exactly(4099) == pattern(4096) + b"end"
            assert transport.get_write_buffer_size() == 0

    run(loop, main())


def test_tls_cut_in_the_middle_of_the_handshakes_last_flight_fails_it(loop, certificates):
    """The client has sent half of its Finished."""

    class Half(TlsPeer):
        async def handshake(self):
            await self.handshake_first_flight()
            while True:
                self._incoming.write(await self.peer.recv())
                try:
                    self.ssl.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                break
            await self.peer.send_all(self.take()[:-5])
            self.peer.sock.shutdown(socket.SHUT_WR)

    async def main():
        with pytest.raises((ConnectionResetError, ssl.SSLError)):
            async with tls_attached(
                certificates,
                server_side=True,
                version=ssl.TLSVersion.TLSv1_3,
                peer_type=Half,
            ):
                pass

    run(loop, main())
