"""BufferedProtocol and set_protocol, and exceptions a protocol raises."""

import asyncio
import gc
import mmap
import socket
import sys

import pytest
from harness import (
    PAIRS,
    BufferedRecorder,
    Peer,
    Recorder,
    attached,
    iterations,
    oracle_lacks,
    run,
)


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]


@pytest.mark.parametrize("size", [1, 2, 7, 100, 65536, 1 << 20])
def test_buffered_protocol_any_buffer_size_gets_every_byte(loop, pair, size):
    async def main():
        blob = bytes(n * 31 % 251 for n in range(min(size * 50, 1 << 20)))
        async with attached(BufferedRecorder(size), pair) as (_, protocol, peer):
            task = loop.create_task(peer.send_all(blob))
            await protocol.until_size(len(blob))
            await task
            assert protocol.data == blob
            peer.close()
            await protocol.until_lost()
            assert protocol.calls[-2:] == ["eof_received", "connection_lost"]
            assert all(isinstance(hint, int) for hint in protocol.hints)

    run(loop, main())


@pytest.mark.parametrize("wrap", [bytearray, lambda b: memoryview(bytearray(b))])
def test_buffered_protocol_buffer_of_any_writable_type_is_filled(loop, wrap):
    async def main():
        protocol = BufferedRecorder()
        protocol.buffer = wrap(bytes(16))
        async with attached(protocol) as (_, _protocol, peer):
            await peer.send_all(b"0123456789")
            await protocol.until_size(10)
            assert protocol.data == b"0123456789"

    run(loop, main())


@pytest.mark.skipif(sys.maxsize == 2**31 - 1, reason="no object is so large")
def test_buffered_protocol_buffer_of_more_than_two_gib_is_filled_from_its_start(loop, pair):
    class Vast(Recorder, asyncio.BufferedProtocol):
        def get_buffer(self, sizehint):
            return self.memory

        def buffer_updated(self, nbytes):
            super().data_received(self.memory[:nbytes])

    async def main():
        protocol = Vast()
        # Nothing of it is touched but its first page.
        with mmap.mmap(-1, (2 << 30) + 4096) as protocol.memory:
            async with attached(protocol, pair) as (transport, _, peer):
                for size in (5, 10):
                    await peer.send_all(b"bytes")
                    await protocol.until_size(size)
                assert protocol.data == b"bytesbytes"
                transport.abort()
                await protocol.until_lost()

    run(loop, main())


def test_buffered_protocol_changing_its_buffer_each_time_is_obeyed(loop):
    class Changing(BufferedRecorder):
        def get_buffer(self, sizehint):
            self.buffer = bytearray(1 + len(self.data) % 5)
            return self.buffer

    async def main():
        async with attached(Changing()) as (_, protocol, peer):
            await peer.send_all(bytes(range(200)))
            await protocol.until_size(200)
            assert protocol.data == bytes(range(200))

    run(loop, main())


@pytest.mark.parametrize("empty", [b"", bytearray(), memoryview(bytearray())])
def test_buffered_protocol_empty_buffer_ends_the_connection(loop, errors, empty):
    async def main():
        protocol = BufferedRecorder()
        protocol.buffer = empty
        async with attached(protocol) as (transport, _, peer):
            await peer.send_all(b"x")
            await protocol.until_lost()
            assert isinstance(protocol.lost, RuntimeError)
            assert str(protocol.lost) == "get_buffer() returned an empty buffer"
            context = errors.pop()
            assert context["message"] == "Fatal error: protocol.get_buffer() call failed."
            assert context["exception"] is protocol.lost
            assert context["transport"] is transport
            assert context["protocol"] is protocol

    run(loop, main())


@pytest.mark.parametrize("wrong", [None, 5, b"read only", "text"])
def test_buffered_protocol_buffer_of_a_wrong_type_ends_the_connection(loop, errors, wrong):
    async def main():
        protocol = BufferedRecorder()
        protocol.buffer = wrong
        async with attached(protocol) as (_, _protocol, peer):
            await peer.send_all(b"x")
            await protocol.until_lost()
            assert isinstance(protocol.lost, (TypeError, BufferError))
            assert errors.pop()["exception"] is protocol.lost

    run(loop, main())


@pytest.mark.parametrize("where", ["get_buffer", "buffer_updated"])
def test_buffered_protocol_raising_ends_the_connection_with_that_exception(loop, errors, where):
    class Failing(BufferedRecorder):
        def get_buffer(self, sizehint):
            if where == "get_buffer":
                raise LookupError(where)
            return super().get_buffer(sizehint)

        def buffer_updated(self, nbytes):
            raise LookupError(where)

    async def main():
        async with attached(Failing()) as (_, protocol, peer):
            await peer.send_all(b"x")
            await protocol.until_lost()
            assert isinstance(protocol.lost, LookupError)
            context = errors.pop()
            assert context["message"] == f"Fatal error: protocol.{where}() call failed."
            assert context["exception"] is protocol.lost

    run(loop, main())


def test_buffered_protocol_paused_inside_buffer_updated_gets_no_more(loop):
    class Pausing(BufferedRecorder):
        updates = 0

        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            self.updates += 1
            self.transport.pause_reading()

    async def main():
        async with attached(Pausing(size=10)) as (transport, protocol, peer):
            await peer.send_all(bytes(range(100)))
            # How many of the ten there are in each is the receive's business.
            while len(protocol.data) < 100:
                before, updates = len(protocol.data), protocol.updates
                transport.resume_reading()
                await protocol.until_size(before + 1)
                await iterations(3)
                assert protocol.updates == updates + 1
                assert before < len(protocol.data) <= before + 10
            assert protocol.data == bytes(range(100))

    run(loop, main())


@pytest.mark.parametrize("first", [Recorder, BufferedRecorder])
@pytest.mark.parametrize("second", [Recorder, BufferedRecorder])
def test_set_protocol_later_bytes_go_to_the_new_one(loop, pair, first, second):
    async def main():
        old, new = first(), second()
        async with attached(old, pair) as (transport, _, peer):
            await peer.send_all(b"old")
            await old.until_size(3)
            assert transport.set_protocol(new) is None
            assert transport.get_protocol() is new
            await peer.send_all(b"new")
            await new.until_size(3)
            peer.close()
            await new.until_lost()
            assert old.data == b"old"
            assert new.data == b"new"
            assert old.names[-1] in ("data_received", "buffer_updated")
            assert new.calls[-2:] == ["eof_received", "connection_lost"]
            assert "connection_made" not in new.calls

    run(loop, main())


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
def test_set_protocol_inside_data_received_the_rest_goes_to_the_new_one(loop, kind):
    class Upgrading(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()
            self.transport.set_protocol(self.successor)
            loop.call_soon(self.transport.resume_reading)

    async def main():
        blob = bytes(2 << 20)
        protocol = Upgrading()
        protocol.successor = kind()
        async with attached(protocol) as (_, _protocol, peer):
            task = loop.create_task(peer.send_all(blob))
            await protocol.until_size(1)
            await protocol.successor.until_size(len(blob) - len(protocol.data))
            await task
            assert protocol.calls.count("data_received") == 1

    run(loop, main())


def test_set_protocol_while_paused_the_kept_bytes_go_to_the_new_one(loop):
    async def main():
        for rounds in range(4):
            old, new = Recorder(), BufferedRecorder(2)
            async with attached(old) as (transport, _, peer):
                peer.sock.send(b"kept bytes")
                await iterations(rounds)
                transport.pause_reading()
                transport.set_protocol(new)
                transport.resume_reading()
                await new.until_size(10 - len(old.data))
                assert bytes(old.data + new.data) == b"kept bytes"

    run(loop, main())


def test_set_protocol_flow_control_goes_to_the_new_one(loop):
    async def main():
        old, new = Recorder(), Recorder()
        async with attached(old, socket.socketpair) as (transport, _, peer):
            transport.write(bytes(4 << 20))
            assert old.pauses == 1
            transport.set_protocol(new)
            await peer.recv_exactly(4 << 20)
            await new.until_called("resume_writing")
            assert old.resumes == 0

    run(loop, main())


class Failing(Recorder):
    """Raises a LookupError from one of its callbacks."""

    def __init__(self, where):
        super().__init__()
        self.where = where
        self.raised = None

    def _note(self, name):
        super()._note(name)
        if name == self.where and self.raised is None:
            self.raised = LookupError(name)
            raise self.raised


@pytest.mark.parametrize("where", ["data_received", "eof_received"])
def test_protocol_raising_ends_the_connection_with_that_exception(loop, errors, where):
    async def main():
        protocol = Failing(where)
        async with attached(protocol) as (transport, _, peer):
            await peer.send_all(b"data")
            peer.sock.shutdown(socket.SHUT_WR)
            await protocol.until_lost()
            assert protocol.lost is protocol.raised
            context = errors.pop()
            assert context["message"] == f"Fatal error: protocol.{where}() call failed."
            assert context["exception"] is protocol.raised
            assert context["transport"] is transport
            assert context["protocol"] is protocol
            assert protocol.calls[-2:] == [where, "connection_lost"]

    run(loop, main())


def test_answer_of_eof_received_that_is_neither_true_nor_false_ends_the_connection(
    loop, loop_kind, errors
):
    oracle_lacks(loop_kind, True, "it asks again, and fails again, for ever")

    class Undecided(Recorder):
        def eof_received(self):
            super().eof_received()
            return Neither()

    class Neither:
        def __bool__(self):
            raise LookupError("neither")

    async def main():
        async with attached(Undecided()) as (_, protocol, peer):
            peer.sock.shutdown(socket.SHUT_WR)
            await protocol.until_lost()
            context = errors.pop()
            assert context["message"] == "Fatal error: protocol.eof_received() call failed."
            assert context["exception"] is protocol.lost
            assert isinstance(protocol.lost, LookupError)
            assert protocol.calls == ["connection_made", "eof_received", "connection_lost"]

    run(loop, main())


class Classless(Recorder):
    """Of which isinstance() raises."""

    @property
    def __class__(self):
        raise LookupError("no class")


def test_set_protocol_to_one_whose_class_cannot_be_asked_raises_and_keeps_the_old(loop):
    async def main():
        async with attached() as (transport, protocol, peer):
            with pytest.raises(LookupError, match="no class"):
                transport.set_protocol(Classless())
            assert transport.get_protocol() is protocol
            await peer.send_all(b"data")
            await protocol.until_size(4)

    run(loop, main())


# asyncio has made half a transport by then, which complains.
@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("factory", "error"), [(object, AttributeError), (Classless, LookupError)]
)
def test_connection_of_what_is_no_protocol_is_refused(loop, pair, factory, error):
    async def main():
        one, other = pair()
        with one, other:
            with pytest.raises(error):
                await loop.create_connection(factory, sock=one)
            gc.collect()
            await iterations(2)

    run(loop, main())


def test_protocol_raising_in_connection_made_reaches_the_handler_and_goes_on(loop, errors):
    """asyncio treats it as any callback's exception: the connection lives."""

    async def main():
        protocol = Failing("connection_made")
        async with attached(protocol) as (transport, _, peer):
            assert isinstance(errors.pop()["exception"], LookupError)
            assert not transport.is_closing()
            await peer.send_all(b"data")
            await protocol.until_size(4)

    run(loop, main())


def test_protocol_raising_in_connection_lost_reaches_the_handler_and_closes(loop, errors):
    async def main():
        async with attached(Failing("connection_lost")) as (transport, protocol, peer):
            transport.close()
            await protocol.until_lost()
            assert await peer.recv() == b""
            assert errors.pop()["exception"] is protocol.raised
            assert transport.get_extra_info("socket").fileno() == -1

    run(loop, main())


@pytest.mark.parametrize("where", ["pause_writing", "resume_writing"])
def test_protocol_raising_in_flow_control_reaches_the_handler_and_goes_on(loop, errors, where):
    async def main():
        protocol = Failing(where)
        async with attached(protocol, socket.socketpair) as (transport, _, peer):
            transport.write(bytes(4 << 20))
            await peer.recv_exactly(4 << 20)
            await protocol.until_called("resume_writing")
            await iterations(2)
            context = errors.pop()
            assert context["message"] == f"protocol.{where}() failed"
            assert context["exception"] is protocol.raised
            assert context["transport"] is transport
            assert context["protocol"] is protocol
            assert not transport.is_closing()
            transport.write(b"!")
            assert await peer.recv_exactly(1) == b"!"

    run(loop, main())


@pytest.mark.parametrize("exception", [asyncio.CancelledError, GeneratorExit])
def test_protocol_raising_a_base_exception_ends_only_its_connection(loop, errors, exception):
    class Strange(Recorder):
        def data_received(self, data):
            raise exception

    async def main():
        async with attached(Strange()) as (_, protocol, peer):
            await peer.send_all(b"x")
            await protocol.until_lost()
            assert isinstance(protocol.lost, exception)
            assert errors.pop()["exception"] is protocol.lost

    run(loop, main())


def test_protocol_raising_os_error_ends_the_connection_without_the_handler(loop, errors):
    """asyncio takes an OSError for the network's fault and does not report it."""

    class Unlucky(Recorder):
        def data_received(self, data):
            raise OSError("mine")

    async def main():
        async with attached(Unlucky()) as (_, protocol, peer):
            await peer.send_all(b"x")
            await protocol.until_lost()
            assert str(protocol.lost) == "mine"

    run(loop, main())
    assert errors == []


def test_protocol_raising_while_bytes_wait_drops_them(loop, errors):
    async def main():
        async with attached(Failing("data_received"), socket.socketpair) as (
            transport,
            protocol,
            peer,
        ):
            transport.write(bytes(4 << 20))
            await peer.send_all(b"x")
            await protocol.until_lost()
            assert protocol.lost is protocol.raised
            assert len(await peer.recv_all()) < 4 << 20
            errors.clear()

    run(loop, main())


def test_protocol_method_replaced_on_the_instance_is_called(loop):
    """What is looked up, and when, is the protocol's attribute at the time of the event."""

    async def main():
        async with attached() as (_, protocol, peer):
            await peer.send_all(b"one")
            await protocol.until_size(3)
            seen = loop.create_future()
            protocol.eof_received = lambda: seen.set_result("replaced")
            peer.sock.shutdown(socket.SHUT_WR)
            assert await seen == "replaced"
            await protocol.until_lost()

    run(loop, main())


def test_peer_class_of_these_tests_sends_and_receives(loop):
    """The tests' own tool, checked once."""

    async def main():
        one, other = map(Peer, socket.socketpair())
        task = loop.create_task(one.send_all(bytes(2 << 20)))
        assert await other.recv_exactly(2 << 20) == bytes(2 << 20)
        await task
        one.close()
        assert await other.recv() == b""
        other.close()

    run(loop, main())
