"""TLS peers that mean harm: garbage, cut and mutated records, storms, and bulk without a record.

What stock asyncio makes of the same bytes is the judge: the exception's type, what the protocol was
called with, what the handler was told.  URING_LOOP_TLS_FUZZ is how many mutations each test tries,
URING_LOOP_TLS_SEED what they are made from; a failure names both the seed and the number.
"""

import asyncio
import contextlib
import gc
import os
import random
import resource
import socket
import ssl

import pytest
from harness import Echo, Peer, Recorder, iterations, run, serving, tcp_pair
from openssl_calls import allow_renegotiation, renegotiate
from tls_peer import NAME, TlsPeer, tls_attached
from tls_records import (
    ALERT,
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    CLIENT_HELLO,
    HANDSHAKE,
    HELLO_REQUEST,
    RECORD_BYTES,
    Forger,
    message,
    records,
)

MUTATIONS = int(os.environ.get("URING_LOOP_TLS_FUZZ", "40"))
SEED = os.environ.get("URING_LOOP_TLS_SEED", "1")
# With many more than by default a test takes its minutes.
fuzzed = pytest.mark.timeout(60 + MUTATIONS // 10)
TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def pattern(size):
    return bytes(range(256)) * (size // 256) + bytes(size % 256)


def resident_bytes():
    """Of this process, at this moment.  Source: proc_pid_statm(5).

    Nothing under AddressSanitizer, which keeps what was freed, to see it used.
    """
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        return 0
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


# ---- one connection, and what became of it ----------------------------------------------------


async def sent_to(loop, sock, other, opening, pieces, end=True):
    """Send the pieces, each by itself, then the end; what the connection did, in short.

    opening: gives (transport, protocol), or raises.
    """
    peer = Peer(other)
    task = loop.create_task(opening)
    with contextlib.suppress(OSError):
        for piece in pieces:
            await peer.send_all(piece)
            await iterations(2)
        if end:
            peer.sock.shutdown(socket.SHUT_WR)
    protocol = None
    try:
        transport, protocol = await task
    except OSError as error:
        outcome = [type(error), getattr(error, "reason", None)]
    else:
        await protocol.until_lost()
        lost = protocol.lost
        outcome = [type(lost), getattr(lost, "reason", None)]
        outcome += [bytes(protocol.data), protocol.names]
        assert transport.is_closing()
    with contextlib.suppress(OSError):
        # Whatever it said, it has ended.
        await peer.recv_all()
    peer.close()
    assert sock.fileno() == -1 or protocol is not None
    return outcome


def open_tls(loop, context, server_side, sock):
    protocol = Recorder()
    if server_side:
        return loop.connect_accepted_socket(lambda: protocol, sock, ssl=context)
    return loop.create_connection(lambda: protocol, sock=sock, ssl=context, server_hostname=NAME)


def told_of(loop):
    """What the exception handler is told from now on, in short."""
    told = []
    loop.set_exception_handler(
        lambda _, context: told.append((context["message"], type(context.get("exception"))))
    )
    return told


@pytest.fixture
def stock():
    """A loop of stock asyncio's, whatever is under test."""
    made = asyncio.SelectorEventLoop()
    yield made
    made.close()


# ---- instead of a handshake -------------------------------------------------------------------

GARBAGE = {
    "nothing": b"",
    "a byte": b"\x16",
    "zeros": bytes(1000),
    "ones": b"\xff" * 1000,
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "SSLv2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(40),
    "an empty handshake record": b"\x16\x03\x01\x00\x00",
    "empty records": b"\x16\x03\x01\x00\x00" * 100,
    "empty data": b"\x17\x03\x03\x00\x00" * 100,
    "data too early": b"\x17\x03\x03\x00\x10" + bytes(16),
    "an alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "a warning": b"\x15\x03\x01\x00\x02\x01\x5a" * 3,
    "warnings": b"\x15\x03\x01\x00\x02\x01\x5a" * 50,
    "close_notify": b"\x15\x03\x01\x00\x02\x01\x00",
    "a heartbeat that asks for too much": b"\x18\x03\x02\x00\x03\x01\x40\x00",
    "change cipher specs": b"\x14\x03\x03\x00\x01\x01" * 50,
    "a record too long": b"\x16\x03\x01\xff\xff" + bytes(70_000),
    "a hello too long": b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(1 << 17),
    "half a hello": b"\x16\x03\x01\x00\xc0\x01\x00\x00\xbc\x03\x03" + bytes(50),
    "an unknown version": b"\x16\x07\x07\x00\x04\x01\x00\x00\x00",
    "an unknown type": b"\x63\x03\x03\x00\x04abcd",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_tls_garbage_instead_of_a_handshake_ends_as_on_stock_asyncio(
    loop, stock, certificates, server_side, name
):
    def play(on):
        context = certificates.server() if server_side else certificates.client()
        sock, other = tcp_pair()
        told = told_of(on)
        opening = open_tls(on, context, server_side, sock)
        outcome = run(on, sent_to(on, sock, other, opening, [GARBAGE[name]]))
        return outcome, told

    expected = play(stock)
    assert play(loop) == expected
    assert issubclass(expected[0][0], OSError)


@pytest.mark.parametrize("phase", ["in the handshake", "afterwards"])
def test_tls_bulk_without_a_whole_record_is_not_kept(loop, certificates, phase):
    """A head that promises more than a record may hold ends it; no head, and nothing is awaited."""
    size = 16 << 20

    async def main():
        # Of the types that there are, with the length that is just allowed, over and over.
        head = b"\x17\x03\x03\x41\x00"
        flood = (head + os.urandom(1 << 16)) * 4
        before = resident_bytes()
        if phase == "afterwards":
            async with tls_attached(certificates, server_side=True) as (_, protocol, peer):
                with contextlib.suppress(OSError):
                    for _ in range(size // len(flood)):
                        await peer.peer.send_all(flood)
                await protocol.until_lost()
                assert isinstance(protocol.lost, OSError)
                assert protocol.data == b""
        else:
            sock, other = tcp_pair()
            opening = open_tls(loop, certificates.server(), True, sock)
            outcome = await sent_to(
                loop, sock, other, opening, [flood] * (size // len(flood)), end=False
            )
            assert issubclass(outcome[0], OSError)
        assert resident_bytes() - before < size // 2

    run(loop, main())


def test_tls_records_that_never_end_are_held_up_to_a_record(loop, certificates):
    """One byte at a time of a record of the largest size, of many connections at once."""
    count = 64

    async def main():
        async with serving(Echo, ssl=certificates.server(TLS_1_2)) as (_, address):
            peers = []
            for _ in range(count):
                peers.append(
                    TlsPeer(socket.create_connection(address), certificates.client(TLS_1_2))
                )
                await peers[-1].handshake()
            gc.collect()
            before = resident_bytes()
            for peer in peers:
                record = peer.seal(pattern(RECORD_BYTES))
                await peer.peer.send_all(record[:-1])
            await iterations(20)
            # The record, its plain text, and what malloc rounds up; and nothing of 256 KiB each.
            assert resident_bytes() - before < count * 6 * RECORD_BYTES
            for peer in peers:
                peer.close()

    run(loop, main())


# ---- a session recorded, and mutated ----------------------------------------------------------


class Recorded(TlsPeer):
    """A client's bytes as they were sent, flight by flight."""

    def take(self):
        data = super().take()
        if data:
            self.flights.append(data)
        return data

    flights = None


async def recorded_hello(loop, certificates, version):
    """The flights of a real client: hello, finished with data, and close."""
    async with serving(Echo, ssl=certificates.server(version)) as (_, address):
        peer = Recorded(socket.create_connection(address), certificates.client(version))
        peer.flights = []
        await peer.handshake()
        await peer.send_all(b"GET / HTTP/1.1\r\n\r\n")
        await peer.recv_exactly(18)
        await peer.notify()
        peer.close()
    return peer.flights


def mutated(chosen, flights):
    """The flights with some of what an attacker does to them."""
    flights = [bytearray(flight) for flight in flights]
    for _ in range(chosen.choice([1, 1, 1, 2, 5])):
        flight = chosen.choice([flight for flight in flights if flight] or [bytearray(b"\0")])
        place = chosen.randrange(len(flight))
        length = chosen.randrange(1, 40)
        what = chosen.randrange(8)
        if what == 0:
            flight[place] ^= 1 << chosen.randrange(8)
        elif what == 1:
            flight[place] = chosen.choice([0, 1, 0x7F, 0x80, 0xFF, 20, 21, 22, 23])
        elif what == 2:
            del flight[place : place + length]
        elif what == 3:
            flight[place:place] = chosen.randbytes(length)
        elif what == 4:
            flight[place:place] = flight[place : place + length]
        elif what == 5:
            del flight[place:]
        elif what == 6:
            chosen.shuffle(flights)
        else:
            # The lengths of heads are what parsers trust.
            found = records(flight)
            if found:
                start = sum(map(len, found[: chosen.randrange(len(found))]))
                flight[start + 3 : start + 5] = chosen.randbytes(2)
    cut = []
    for flight in flights:
        while len(flight) and chosen.random() < 0.3:
            place = chosen.randrange(1, len(flight) + 1)
            cut.append(bytes(flight[:place]))
            del flight[:place]
        if flight:
            cut.append(bytes(flight))
    return cut


def seeds(*names):
    """A Random for each mutation, and how to say which it was."""
    for number in range(MUTATIONS):
        text = ":".join([SEED, *names, str(number)])
        yield text, random.Random(text)


@fuzzed
def test_tls_recorded_handshake_mutated_ends_as_on_stock_asyncio(
    loop, stock, certificates, version
):
    """A server gets a client's flights, of another connection, changed and cut."""
    flights = run(stock, recorded_hello(stock, certificates, version))

    def play(on, pieces):
        sock, other = tcp_pair()
        told = told_of(on)
        opening = open_tls(on, certificates.server(version), True, sock)
        return run(on, sent_to(on, sock, other, opening, pieces)), told

    for text, chosen in seeds("handshake", version.name):
        pieces = mutated(chosen, flights)
        expected = play(stock, pieces)
        assert play(loop, pieces) == expected, f"mutation {text}"


async def answered(loop, other, opening, context, chosen):
    """A server whose flights are mutated, each as it is made, before the client gets them."""
    peer = TlsPeer(other, context, server_side=True)
    task = loop.create_task(opening)
    taken = peer.take

    def take():
        data = taken()
        return b"".join(mutated(chosen, [data])) if data and chosen.random() < 0.7 else data

    peer.take = take
    shaking = loop.create_task(peer.handshake())
    # Where a mutation leaves both to wait for the other, nothing comes any more.
    for _ in range(60):
        await iterations(1)
        if shaking.done():
            break
    shaking.cancel()
    with contextlib.suppress(OSError, asyncio.CancelledError):
        await shaking
        await peer.send_all(b"answer")
    with contextlib.suppress(OSError):
        peer.peer.sock.shutdown(socket.SHUT_WR)
    try:
        _, protocol = await task
    except OSError:
        # Which error is a matter of the server's random numbers too.
        data = b""
    else:
        await protocol.until_lost()
        data = bytes(protocol.data)
    peer.close()
    return data


@fuzzed
def test_tls_server_that_answers_a_client_with_mutations_never_gets_a_wrong_byte_in(
    loop, certificates, version, errors
):
    for text, chosen in seeds("server", version.name):
        sock, other = tcp_pair()
        opening = open_tls(loop, certificates.client(version), False, sock)
        context = certificates.server(version)
        data = run(loop, answered(loop, other, opening, context, chosen))
        assert data in (b"", b"answer"), f"mutation {text}"
    for told in errors:
        # Of the handshake's failures all are OSErrors, which nobody hears of.
        raise AssertionError(told)


@fuzzed
def test_tls_records_of_a_stream_mutated_deliver_what_came_before_and_then_an_error(
    loop, certificates, version, server_side
):
    """Under the keys of the connection itself, so that all but the mutation is right."""

    async def mutation(text, chosen):
        options = {"server_side": server_side, "version": version}
        async with tls_attached(certificates, **options) as (_, protocol, peer):
            sizes = [chosen.choice([1, 100, 5000, RECORD_BYTES]) for _ in range(4)]
            whole = b"".join(map(pattern, sizes))
            flights = [peer.seal(pattern(size)) for size in sizes]
            with contextlib.suppress(OSError):
                for piece in mutated(chosen, flights):
                    await peer.peer.send_all(piece)
                    await iterations(1)
                peer.peer.sock.shutdown(socket.SHUT_WR)
            await protocol.until_lost()
            data = bytes(protocol.data)
            assert whole.startswith(data), f"mutation {text}"
            assert isinstance(protocol.lost, OSError | None), f"mutation {text}"

    for text, chosen in seeds("stream", version.name, str(server_side)):
        run(loop, mutation(text, chosen))


@fuzzed
def test_tls_messages_forged_at_random_under_the_right_keys_end_only_their_connection(
    loop, certificates, version, server_side, tmp_path
):
    """What only an authenticated peer can send: any type, any content, well sealed."""

    async def forgery(text, chosen, number):
        keylog = tmp_path / f"keys{number}"
        side = certificates.client if server_side else certificates.server
        context = side(version)
        context.keylog_filename = str(keylog)
        if not server_side:
            context.num_tickets = 0
        options = {"server_side": server_side, "version": version, "peer_context": context}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            forger = Forger(peer, keylog)
            keylog.unlink()
            sent = b""
            with contextlib.suppress(OSError):
                for _ in range(6):
                    kind = chosen.choice(
                        [APPLICATION_DATA, ALERT, HANDSHAKE, CHANGE_CIPHER_SPEC, 24, 0, 255]
                    )
                    content = chosen.choice(
                        [
                            chosen.randbytes(chosen.randrange(60)),
                            message(chosen.randrange(26), chosen.randbytes(chosen.randrange(60))),
                            bytes([chosen.randrange(1, 3), chosen.randrange(120)]),
                            b"",
                        ]
                    )
                    if kind == APPLICATION_DATA:
                        sent += content
                    await peer.peer.send_all(forger.seal(kind, content))
                    await iterations(1)
                peer.peer.sock.shutdown(socket.SHUT_WR)
            transport.write(b"still there?")
            await protocol.until_lost()
            assert sent.startswith(protocol.data), f"forgery {text}"
            assert isinstance(protocol.lost, OSError | None), f"forgery {text}"

    for number, (text, chosen) in enumerate(seeds("forged", version.name, str(server_side))):
        run(loop, forgery(text, chosen, number))


# ---- among others -----------------------------------------------------------------------------


def test_tls_hostile_connections_among_good_ones_cost_these_no_byte(
    loop, certificates, version, errors
):
    """They share a receive buffer, an error queue, and the memory of what is sent."""

    async def good(address, number):
        peer = TlsPeer(socket.create_connection(address), certificates.client(version))
        await peer.handshake()
        for turn in range(12):
            data = bytes([number, turn]) * chosen.randrange(1, 20_000)
            sealed = peer.seal(data)
            for start in range(0, len(sealed), 7_000):
                await peer.peer.send_all(sealed[start : start + 7_000])
                await iterations(1)
            assert await peer.recv_exactly(len(data)) == data
        await peer.notify()
        assert await peer.recv() == b""
        peer.close()

    async def bad(address):
        peer = TlsPeer(socket.create_connection(address), certificates.client(version))
        with contextlib.suppress(OSError):
            if chosen.random() < 0.5:
                await peer.peer.send_all(chosen.choice(list(GARBAGE.values())))
            else:
                await peer.handshake()
                for piece in mutated(chosen, [peer.seal(b"\xee" * 3_000) for _ in range(3)]):
                    await peer.peer.send_all(piece)
                    await iterations(1)
        await iterations(chosen.randrange(5))
        chosen.choice([peer.reset, peer.close])()

    async def main():
        async with serving(Echo, ssl=certificates.server(version)) as (_, address):

            async def hostile():
                while not over:
                    await bad(address)
                    count.append(1)

            over, count = [], []
            enemies = [loop.create_task(hostile()) for _ in range(4)]
            await asyncio.gather(*(good(address, number) for number in range(8)))
            over.append(True)
            await asyncio.gather(*enemies)

    chosen = random.Random(SEED)
    run(loop, main())
    assert errors == []


# ---- storms -----------------------------------------------------------------------------------


def test_tls_storm_of_renegotiations_that_are_allowed_leaves_the_stream_whole(
    loop, certificates, server_side
):
    async def main():
        server = allow_renegotiation(certificates.server(TLS_1_2))
        client = certificates.client(TLS_1_2)
        own, peers = (server, client) if server_side else (client, server)
        options = {"context": own, "peer_context": peers, "server_side": server_side}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            for number in range(60):
                renegotiate(peer)
                await peer.send_all(bytes([number]))
                await protocol.until_size(number + 1)
                transport.write(b"x")
                assert await peer.recv_exactly(1) == b"x"
            assert protocol.data == bytes(range(60))

    run(loop, main())


@pytest.mark.parametrize("count", [1, 5, 500])
def test_tls_storm_of_renegotiations_that_are_refused_ends_as_on_stock_asyncio(
    loop, stock, certificates, server_side, tmp_path, count
):
    async def main(keylog):
        server, client = certificates.server(TLS_1_2), certificates.client(TLS_1_2)
        own, peers = (server, client) if server_side else (client, server)
        own.options |= ssl.OP_NO_RENEGOTIATION
        peers.keylog_filename = str(keylog)
        options = {"context": own, "peer_context": peers, "server_side": server_side}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            forger = Forger(peer, keylog)
            asking = message(HELLO_REQUEST)
            if server_side:
                asking = message(CLIENT_HELLO, b"\3\3" + bytes(32) + b"\0\0\2\0\xff\1\0")
            with contextlib.suppress(OSError):
                for _ in range(count):
                    await peer.peer.send_all(forger.seal(HANDSHAKE, asking))
                await peer.peer.send_all(forger.data(b"behind"))
            await protocol.until(lambda: protocol.lost or protocol.data)
            assert transport.get_write_buffer_size() < 1 << 20
            return bytes(protocol.data), type(protocol.lost)

    def play(on, name):
        told = told_of(on)
        return run(on, main(tmp_path / name)), told

    expected = play(stock, "stock")
    assert play(loop, "ours") == expected


def test_tls_storm_of_warnings_ends_the_connection(loop, certificates, tmp_path, server_side):
    """OpenSSL suffers four in a row, and then no more."""

    async def main():
        side = certificates.client if server_side else certificates.server
        context = side(TLS_1_2)
        context.keylog_filename = str(tmp_path / "keys")
        options = {"server_side": server_side, "version": TLS_1_2, "peer_context": context}
        async with tls_attached(certificates, **options) as (_, protocol, peer):
            forger = Forger(peer, tmp_path / "keys")
            with contextlib.suppress(OSError):
                for _ in range(50):
                    await peer.peer.send_all(forger.alert("user_canceled", 1))
            await protocol.until_lost()
            assert isinstance(protocol.lost, ssl.SSLError)
            assert protocol.lost.reason == "TOO_MANY_WARN_ALERTS"

    run(loop, main())


def test_tls_peer_that_asks_and_never_reads_costs_no_more_than_its_answers(
    loop, certificates, tmp_path
):
    """Each key update that is asked for is answered: 22 bytes for 22, into nobody's hands."""
    count, batch = 20_000, 500

    async def main():
        context = certificates.client(TLS_1_3)
        context.keylog_filename = str(tmp_path / "keys")
        options = {"server_side": True, "version": TLS_1_3, "peer_context": context}
        async with tls_attached(certificates, small=True, **options) as (transport, protocol, peer):
            forger = Forger(peer, tmp_path / "keys")
            before = resident_bytes()
            with contextlib.suppress(OSError):
                for _ in range(count // batch):
                    sealed = b"".join(forger.key_update(True) for _ in range(batch))
                    await peer.peer.send_all(sealed)
                await peer.peer.send_all(forger.data(b"x"))
            await protocol.until(lambda: protocol.data or protocol.lost)
            assert resident_bytes() - before < 16 << 20
            assert transport.get_write_buffer_size() < count * 30

    run(loop, main())
