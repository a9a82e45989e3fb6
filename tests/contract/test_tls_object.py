"""get_extra_info("ssl_object"): the ssl module's own object, at any time and afterwards."""

import contextlib
import gc
import ssl
import sys
import weakref

import pytest
from harness import Recorder, iterations, run
from tls_peer import NAME, tls_attached


def pattern(size):
    return bytes(range(256)) * (size // 256) + bytes(size % 256)


def answers(tls):
    """What it says of itself, by every question there is."""
    found = {
        "version": tls.version(),
        "cipher": tls.cipher(),
        "shared_ciphers": tls.shared_ciphers(),
        "compression": tls.compression(),
        "alpn": tls.selected_alpn_protocol(),
        "peercert": tls.getpeercert(),
        "binary": tls.getpeercert(binary_form=True),
        "unique": tls.get_channel_binding("tls-unique"),
        "reused": tls.session_reused,
        "server_side": tls.server_side,
        "server_hostname": tls.server_hostname,
        "context": tls.context,
        "pending": tls.pending(),
    }
    for name in ("get_verified_chain", "get_unverified_chain"):
        if hasattr(tls, name):
            chain = getattr(tls, name)()
            found[name] = chain and list(map(bytes, chain))
    return found


def test_tls_object_is_the_ssl_modules_own_and_always_the_same(loop, certificates, server_side):
    async def main():
        async with tls_attached(certificates, server_side=server_side) as (transport, _, peer):
            tls = transport.get_extra_info("ssl_object")
            assert type(tls) is ssl.SSLObject
            await peer.send_all(b"x")
            assert transport.get_extra_info("ssl_object") is tls

    run(loop, main())


def test_tls_object_of_a_context_with_its_own_class_is_of_that_class(
    loop, certificates, server_side
):
    class Own(ssl.SSLObject):
        pass

    async def main():
        side = certificates.server if server_side else certificates.client
        context = side()
        context.sslobject_class = Own
        options = {"server_side": server_side, "context": context}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            assert type(transport.get_extra_info("ssl_object")) is Own
            transport.write(b"x")
            assert await peer.recv_exactly(1) == b"x"
            await peer.send_all(b"y")
            await protocol.until_size(1)

    run(loop, main())


def test_tls_object_whose_class_overrides_reading_and_writing_is_asked(loop, certificates):
    """A program that counts its plain bytes so."""
    counts = {"read": 0, "write": 0}

    class Counting(ssl.SSLObject):
        def read(self, *arguments):
            read = super().read(*arguments)
            counts["read"] += read if type(read) is int else len(read)
            return read

        def write(self, data):
            written = super().write(data)
            counts["write"] += written
            return written

    async def main():
        context = certificates.client()
        context.sslobject_class = Counting
        async with tls_attached(certificates, context=context) as (transport, protocol, peer):
            transport.write(pattern(50_000))
            assert await peer.recv_exactly(50_000) == pattern(50_000)
            await peer.send_all(pattern(30_000))
            await protocol.until_size(30_000)
            assert counts == {"read": 30_000, "write": 50_000}

    run(loop, main())


def test_tls_object_that_takes_little_at_a_time_is_called_until_all_is_written(
    loop, certificates
):
    class Sparing(ssl.SSLObject):
        def write(self, data):
            with memoryview(data) as view:
                return super().write(view[:10_000])

    async def main():
        context = certificates.client()
        context.sslobject_class = Sparing
        async with tls_attached(certificates, context=context) as (transport, _, peer):
            data = bytearray(pattern(35_000))
            transport.writelines([pattern(15_000), data])
            # And nothing of it is held any more.
            data.clear()
            received = await peer.recv_exactly(50_000)
            assert received == pattern(15_000) + pattern(35_000)

    run(loop, main())


class Standing:
    """For a TLS object, of which it is none."""

    def __init__(self, tls):
        self._tls = tls

    def __getattr__(self, name):
        return getattr(self._tls, name)


def test_tls_object_of_a_context_that_only_behaves_like_one_is_used(loop, certificates):
    class Context(ssl.SSLContext):
        def wrap_bio(self, *args, **options):
            return Standing(super().wrap_bio(*args, **options))

    async def main():
        context = Context(ssl.PROTOCOL_TLS_CLIENT)
        certificates.authority.configure_trust(context)
        async with tls_attached(certificates, context=context) as (transport, protocol, peer):
            transport.write(b"ping")
            assert await peer.recv_exactly(4) == b"ping"
            await peer.send_all(b"pong")
            await protocol.until_size(4)
            assert protocol.data == b"pong"

    run(loop, main())


def test_tls_object_is_not_there_before_the_handshake_is_over(loop, certificates, server_side):
    seen = []

    class Looking(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            seen.append(transport.get_extra_info("ssl_object"))

    async def main():
        options = {"server_side": server_side}
        async with tls_attached(certificates, Looking(), **options) as (transport, _, _):
            assert seen == [transport.get_extra_info("ssl_object")]
            assert seen[0].version()

    run(loop, main())


def test_tls_object_answers_the_same_in_every_callback_and_between(
    loop, certificates, version, server_side
):
    found = []

    class Asking(Recorder):
        def _note(self, name):
            if self.transport is not None:
                found.append((name, answers(self.transport.get_extra_info("ssl_object"))))
            super()._note(name)

    async def main():
        options = {"server_side": server_side, "version": version}
        async with tls_attached(certificates, Asking(), **options) as (transport, protocol, peer):
            tls = transport.get_extra_info("ssl_object")
            before = answers(tls)
            assert before["cipher"][0] == peer.ssl.cipher()[0]
            assert before["unique"] == peer.ssl.get_channel_binding("tls-unique")
            assert before["server_hostname"] == (None if server_side else NAME)
            if not server_side:
                assert before["binary"]
                assert ("DNS", NAME) in before["peercert"]["subjectAltName"]
            for size in (1, 100, 50_000):
                transport.write(pattern(size))
                assert answers(tls) == before
                assert await peer.recv_exactly(size) == pattern(size)
                expected = len(protocol.data) + size
                await peer.send_all(pattern(size))
                await protocol.until_size(expected)
                assert answers(tls) == before
            await peer.notify()
            await protocol.until_lost()
            names = {name for name, _ in found}
            assert names == {"connection_made", "data_received", "eof_received", "connection_lost"}
            for name, told in found:
                assert told | {"unique": None} == before | {"unique": None}, name

    run(loop, main())


@pytest.mark.parametrize("how", ["close", "abort", "peer"])
def test_tls_object_kept_beyond_its_connection_and_its_loop_still_answers(
    make_unwatched_loop, certificates, version, server_side, how
):
    """The memory that its records went through may be gone."""
    loop = make_unwatched_loop()

    async def main():
        options = {"server_side": server_side, "version": version}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            tls = transport.get_extra_info("ssl_object")
            transport.write(b"x")
            await peer.recv_exactly(1)
            if how == "peer":
                peer.close()
            else:
                getattr(transport, how)()
                if how == "close":
                    assert await peer.recv() == b""
                    await peer.notify()
            await protocol.until_lost()
            return tls

    try:
        tls = run(loop, main())
        run(loop, iterations(5))
    finally:
        loop.close()
    del loop
    gc.collect()
    assert tls.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
    answers(tls)
    assert isinstance(tls.session, ssl.SSLSession | None)
    for _ in range(100):
        for call, arguments in (
            (tls.read, (100,)),
            (tls.read, (100, bytearray(100))),
            (tls.write, (pattern(100_000),)),
            (tls.pending, ()),
            (tls.do_handshake, ()),
            (tls.unwrap, ()),
        ):
            with contextlib.suppress(ssl.SSLError):
                call(*arguments)
    del tls
    gc.collect()


def test_tls_object_refers_to_nothing_that_keeps_the_transport(loop, certificates):
    """And the transport goes although the object stays."""

    async def main():
        async with tls_attached(certificates) as (transport, protocol, peer):
            tls = transport.get_extra_info("ssl_object")
            transport.abort()
            await protocol.until_lost()
            protocol.transport = None
            return tls, weakref.ref(transport)

    tls, transport = run(loop, main())
    run(loop, iterations(5))
    gc.collect()
    assert transport() is None
    assert tls.version()


# ---- user code that reads and writes by itself ------------------------------------------------


def test_tls_object_written_by_user_code_leaves_with_what_the_transport_writes_next(
    loop, certificates, version, server_side
):
    async def main():
        options = {"server_side": server_side, "version": version}
        async with tls_attached(certificates, **options) as (transport, _, peer):
            tls = transport.get_extra_info("ssl_object")
            transport.write(b"1")
            assert tls.write(b"2") == 1
            transport.write(b"3")
            assert tls.write(pattern(40_000)) == 40_000
            transport.writelines([b"4", b"5"])
            expected = b"123" + pattern(40_000) + b"45"
            assert await peer.recv_exactly(len(expected)) == expected

    run(loop, main())


def test_tls_object_written_by_user_code_leaves_when_something_is_received(
    loop, certificates, server_side
):
    async def main():
        options = {"server_side": server_side}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            tls = transport.get_extra_info("ssl_object")
            tls.write(b"own")
            await peer.send_all(b"x")
            assert await peer.recv_exactly(3) == b"own"
            assert protocol.data == b"x"

    run(loop, main())


def test_tls_object_written_in_data_received_leaves_when_it_returns(
    loop, certificates, version, server_side
):
    class Answering(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.get_extra_info("ssl_object").write(b"own " + data)

    async def main():
        options = {"server_side": server_side, "version": version}
        async with tls_attached(certificates, Answering(), **options) as (_, _, peer):
            for number in range(3):
                await peer.send_all(b"%d" % number)
                assert await peer.recv_exactly(5) == b"own %d" % number

    run(loop, main())


async def read_by_itself(tls, size):
    """Once something has come."""
    while True:
        with contextlib.suppress(ssl.SSLWantReadError):
            return tls.read(size)
        await iterations(1)


def test_tls_object_read_by_user_code_while_paused_takes_what_the_protocol_then_lacks(
    loop, certificates, version, server_side
):
    async def main():
        options = {"server_side": server_side, "version": version}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            tls = transport.get_extra_info("ssl_object")
            with pytest.raises(ssl.SSLWantReadError):
                tls.read(100)
            transport.pause_reading()
            await peer.send_all(b"abcdef")
            assert await read_by_itself(tls, 2) == b"ab"
            assert tls.pending() == 4
            buffer = bytearray(3)
            assert tls.read(1, buffer) == 1
            assert buffer == b"c\0\0"
            assert tls.pending() == 3
            assert protocol.data == b""
            await peer.send_all(b"ghi")
            transport.resume_reading()
            await protocol.until_size(6)
            assert protocol.data == b"defghi"
            assert tls.pending() == 0

    run(loop, main())


def test_tls_object_read_in_data_received_finds_nothing_left_and_breaks_nothing(
    loop, certificates, version, server_side
):
    found = []

    class Reading(Recorder):
        def data_received(self, data):
            super().data_received(data)
            tls = self.transport.get_extra_info("ssl_object")
            try:
                found.append(tls.read(1 << 20))
            except ssl.SSLWantReadError:
                found.append(b"")

    async def main():
        options = {"server_side": server_side, "version": version}
        async with tls_attached(certificates, Reading(), **options) as (_, protocol, peer):
            data = pattern(200_000)
            await peer.send_all(data)
            await protocol.until(lambda: len(protocol.data) + sum(map(len, found)) == len(data))
            # In a turn whose bytes it has taken already.
            await peer.send_all(b"end")
            await protocol.until(lambda: protocol.data.endswith(b"end"))

    run(loop, main())


def test_tls_object_read_into_what_is_no_buffer_raises_and_the_stream_goes_on(loop, certificates):
    async def main():
        async with tls_attached(certificates) as (transport, protocol, peer):
            tls = transport.get_extra_info("ssl_object")
            for call in (
                lambda: tls.read(10, b"read only"),
                lambda: tls.read(-1),
                lambda: tls.write("text"),
                lambda: tls.get_channel_binding("unknown"),
            ):
                with pytest.raises((TypeError, ValueError, ssl.SSLError)):
                    call()
            await peer.send_all(b"still")
            await protocol.until_size(5)
            transport.write(b"there")
            assert await peer.recv_exactly(5) == b"there"

    run(loop, main())


def test_tls_object_whose_call_failed_leaves_no_error_to_another_connection(loop, certificates):
    """OpenSSL's errors are queued per thread: one that is left lying falls to whoever is next."""
    other = certificates.server()

    async def main():
        async with (
            tls_attached(certificates) as (_, bad, bad_peer),
            tls_attached(certificates) as (transport, good, good_peer),
        ):
            for _ in range(20):
                tls = transport.get_extra_info("ssl_object")
                with pytest.raises(ssl.SSLWantReadError):
                    tls.read(1)
                with contextlib.suppress(ssl.SSLError):
                    other.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO()).write(b"x")
                await good_peer.send_all(b"x")
            await bad_peer.peer.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
            await good_peer.send_all(b"y")
            await bad.until_lost()
            await good.until_size(21)
            assert isinstance(bad.lost, ssl.SSLError)
            transport.write(b"z")
            assert await good_peer.recv_exactly(1) == b"z"
            assert good.lost is None

    run(loop, main())


def test_tls_object_unwrapped_by_user_code_lets_nothing_more_be_written(
    loop, certificates, server_side
):
    async def main():
        options = {"server_side": server_side}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            tls = transport.get_extra_info("ssl_object")
            with pytest.raises(ssl.SSLWantReadError):
                tls.unwrap()
            transport.write(b"too late")
            await protocol.until_lost()
            assert isinstance(protocol.lost, ssl.SSLError)
            assert protocol.lost.reason == "PROTOCOL_IS_SHUTDOWN"

    run(loop, main())


def test_tls_object_is_freed_with_its_connection_though_its_class_has_a_finalizer(
    loop, certificates
):
    freed = []

    class Finalized(ssl.SSLObject):
        def __del__(self):
            freed.append(self.version())

    async def main():
        context = certificates.client()
        context.sslobject_class = Finalized
        async with tls_attached(certificates, context=context) as (transport, protocol, peer):
            await peer.notify()
            await protocol.until_lost()
            protocol.transport = None

    run(loop, main())
    run(loop, iterations(5))
    gc.collect()
    assert freed == ["TLSv1.3"]


def test_tls_contexts_refer_count_is_what_it_was_after_its_connections(loop, certificates):
    """A context that a connection kept would keep its certificates for ever."""

    async def main(context):
        async with tls_attached(certificates, context=context) as (transport, protocol, peer):
            await peer.send_all(b"x")
            await protocol.until_size(1)
            protocol.transport = None

    context = certificates.client()
    before = sys.getrefcount(context)
    for _ in range(3):
        run(loop, main(context))
        run(loop, iterations(5))
    gc.collect()
    assert sys.getrefcount(context) == before
