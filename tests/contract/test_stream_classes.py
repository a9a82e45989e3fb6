"""What programs see of asyncio's classes of streams: their types, methods, attributes, calls.

What others put into their place, on a class, on an instance or in a subclass, is called.
"""

import asyncio
import gc
import inspect
import socket
import subprocess
import sys
import warnings
import weakref
from unittest import mock

import pytest
from harness import iterations, run


async def connected(factory):
    """What factory() gives, as the protocol of one end of a socket pair; and the other end."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    _, protocol = await asyncio.get_running_loop().create_connection(factory, sock=ours)
    return protocol, theirs


class Pair:
    """A reader and a writer over a socket pair, as asyncio.open_connection() makes them."""

    def __init__(self, limit=2**16, reader=asyncio.StreamReader):
        self.limit = limit
        self.reader_class = reader

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        self.reader = self.reader_class(limit=self.limit, loop=loop)
        self.protocol, self.peer = await connected(
            lambda: asyncio.StreamReaderProtocol(self.reader, loop=loop)
        )
        self.writer = asyncio.StreamWriter(
            self.protocol._transport, self.protocol, self.reader, loop
        )
        return self

    async def __aexit__(self, *error):
        self.writer.close()
        self.peer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            pass


async def served(handler):
    """What handler(reader, writer) returns, as a server's callback."""
    result = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        try:
            result.set_result(await handler(reader, writer))
        except BaseException as error:
            result.set_exception(error)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"one\ntwo\n")
    try:
        return await result
    finally:
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()


# ---- types -------------------------------------------------------------------------------


def test_streams_of_both_sides_are_instances_of_asyncios_classes(loop):
    async def handler(reader, writer):
        assert isinstance(reader, asyncio.StreamReader)
        assert isinstance(writer, asyncio.StreamWriter)
        assert isinstance(writer.transport.get_protocol(), asyncio.StreamReaderProtocol)
        assert repr(reader).startswith("<StreamReader ")
        assert repr(writer).startswith("<StreamWriter transport=")
        return type(reader).__name__, type(writer).__name__

    assert run(loop, served(handler)) == ("StreamReader", "StreamWriter")


def test_streams_attributes_are_asyncios_own(loop):
    async def main():
        names = list(vars(asyncio.StreamReader(loop=loop)))
        async with Pair() as pair:
            buffer = pair.reader._buffer
            assert type(buffer) is bytearray
            pair.peer.send(b"abc\n")
            assert await pair.reader.readline() == b"abc\n"
            assert pair.reader._buffer is buffer
            assert pair.reader._transport is pair.writer.transport
            assert pair.reader._loop is loop
            assert list(vars(pair.reader)) == names

    run(loop, main())


def test_streams_methods_tell_what_they_are(loop):
    async def main():
        async with Pair() as pair:
            for name in ("readline", "readuntil", "readexactly", "read"):
                method = getattr(pair.reader, name)
                original = getattr(asyncio.StreamReader, name)
                assert inspect.iscoroutinefunction(method), name
                assert method.__doc__ == original.__doc__
                assert method.__name__ == name
                assert method.__self__ is pair.reader
                assert inspect.signature(method) == inspect.signature(
                    original.__get__(pair.reader)
                )
            assert not inspect.iscoroutinefunction(pair.reader.feed_data)

    run(loop, main())


def test_streams_with_keywords_take_them(loop):
    async def main():
        async with Pair() as pair:
            pair.peer.send(b"abcdef|g")
            assert await pair.reader.read(n=1) == b"a"
            assert await pair.reader.readexactly(n=2) == b"bc"
            assert await pair.reader.readuntil(separator=b"|") == b"def|"
            with pytest.raises(TypeError):
                pair.reader.readexactly()
            with pytest.raises(TypeError):
                pair.reader.readline(1)

    run(loop, main())


# ---- what others put there ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["readline", "readuntil", "_wait_for_data", "feed_data"])
def test_streams_a_method_patched_on_the_class_is_called(loop, name):
    """Before and after the patch is not: mock.patch() on asyncio's own class."""
    calls = []
    original = getattr(asyncio.StreamReader, name)

    def spy(self, *args):
        calls.append(name)
        return original(self, *args)

    async def main():
        async with Pair() as pair:
            for patched in (False, True, False):
                calls.clear()
                with mock.patch.object(
                    asyncio.StreamReader, name, spy if patched else original
                ):
                    reading = asyncio.create_task(pair.reader.readline())
                    await iterations(2)
                    pair.peer.send(b"abc\n")
                    assert await reading == b"abc\n"
                assert bool(calls) == patched

    run(loop, main())


@pytest.mark.parametrize("name", ["readuntil", "_maybe_resume_transport", "feed_data"])
def test_streams_a_method_set_on_the_instance_is_called(loop, name):
    async def main():
        async with Pair() as pair:
            original = getattr(pair.reader, name)
            spy = mock.Mock(side_effect=original)
            setattr(pair.reader, name, spy)
            pair.peer.send(b"abc\n")
            assert await pair.reader.readline() == b"abc\n"
            assert spy.called
            spy.reset_mock()
            delattr(pair.reader, name)
            pair.peer.send(b"def\n")
            assert await pair.reader.readline() == b"def\n"
            assert not spy.called

    run(loop, main())


@pytest.mark.parametrize("name", ["readuntil", "_maybe_resume_transport", "feed_data"])
def test_streams_a_method_patched_on_the_class_that_an_instance_has_is_called(loop, name):
    """Which is one of ours on our loops."""
    calls = []

    async def main():
        async with Pair() as pair:
            original = getattr(type(pair.reader), name)

            def spy(self, *args):
                calls.append(name)
                return original(self, *args)

            with mock.patch.object(type(pair.reader), name, spy):
                pair.peer.send(b"abc\n")
                assert await pair.reader.readline() == b"abc\n"
            assert calls

    run(loop, main())


def test_streams_a_property_of_the_class_comes_before_the_instances_attribute(loop):
    """With a value that the attribute does not have: lines of 4 bytes at most."""

    async def main():
        async with Pair() as pair:
            limit = property(lambda self: 4, lambda self, value: None)
            with mock.patch.object(asyncio.StreamReader, "_limit", limit, create=True):
                pair.peer.send(b"much longer\n")
                with pytest.raises(ValueError):
                    await pair.reader.readline()
            pair.peer.send(b"much longer\n")
            assert await pair.reader.readline() == b"much longer\n"

    run(loop, main())


def test_streams_attributes_in_any_order_are_found(loop):
    async def main():
        async with Pair() as pair:
            for stream in (pair.reader, pair.writer, pair.protocol):
                stream.__dict__ = dict(reversed(stream.__dict__.items()))
            pair.peer.send(b"abc\ndef")
            assert await pair.reader.readline() == b"abc\n"
            assert await pair.reader.readexactly(3) == b"def"
            pair.writer.write(b"x")
            await pair.writer.drain()
            await iterations(2)
            assert pair.peer.recv(10) == b"x"

    run(loop, main())


def test_streams_an_attribute_is_not_taken_for_one_that_has_its_place_elsewhere(loop):
    """Two readers whose attributes have another order: of a flag and a flag."""

    async def main():
        for first, second in (("_eof", "_paused"), ("_paused", "_eof")):
            async with Pair() as pair:
                attributes = pair.reader.__dict__
                rest = {name: attributes[name] for name in attributes if name != second}
                order = [name for name in rest if name != first]
                pair.reader.__dict__ = {
                    name: attributes[name] for name in (order[0], first, second, *order[1:])
                }
                pair.reader._paused = True
                reading = asyncio.create_task(pair.reader.read(10))
                await iterations(2)
                assert not reading.done()
                pair.peer.send(b"abc")
                assert await reading == b"abc"

    run(loop, main())


def test_streams_attributes_under_names_that_are_only_equal_are_found(loop):
    async def main():
        async with Pair() as pair:
            for stream in (pair.reader, pair.writer, pair.protocol):
                stream.__dict__ = {
                    "".join(list(name)): value for name, value in vars(stream).items()
                }
            pair.peer.send(b"abc\n")
            assert await pair.reader.readline() == b"abc\n"
            pair.writer.write(b"x")
            await pair.writer.drain()
            await iterations(2)
            assert pair.peer.recv(10) == b"x"

    run(loop, main())


READS = {"readline": (), "readexactly": (3,), "read": (10,)}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("name", ["_buffer", "_waiter", "_eof", "_exception", "_paused", "_loop"])
def test_streams_an_attribute_that_was_deleted_is_missed_as_asyncio_misses_it(loop, read, name):
    async def main():
        async with Pair() as pair:
            value = getattr(pair.reader, name)
            delattr(pair.reader, name)
            try:
                with pytest.raises(AttributeError, match=name):
                    await asyncio.wait_for(getattr(pair.reader, read)(*READS[read]), 30)
            finally:
                setattr(pair.reader, name, value)
            pair.reader.feed_data(b"ab\n")
            assert await getattr(pair.reader, read)(*READS[read]) == b"ab\n"

    run(loop, main())


@pytest.mark.parametrize("read", READS)
def test_streams_flags_that_somebody_has_set_to_numbers_mean_what_these_do(loop, read):
    async def main():
        async with Pair() as pair:
            pair.reader._eof = pair.reader._paused = 0
            reading = asyncio.create_task(getattr(pair.reader, read)(*READS[read]))
            await iterations(2)
            assert not reading.done()
            pair.peer.send(b"ab\n")
            assert await reading == b"ab\n"
            pair.reader._eof = 1
            if read == "readexactly":
                with pytest.raises(asyncio.IncompleteReadError):
                    await pair.reader.readexactly(3)
            else:
                assert await getattr(pair.reader, read)(*READS[read]) == b""

    run(loop, main())


@pytest.mark.parametrize("limit", [sys.maxsize // 2 + 1, sys.maxsize, sys.maxsize + 1, 2**80])
def test_streams_a_limit_that_nothing_reaches_is_none(loop, limit):
    async def main():
        async with Pair(limit=limit) as pair:
            reading = asyncio.create_task(pair.reader.readline())
            await iterations(2)
            pair.peer.send(b"abc\ndef")
            assert await reading == b"abc\n"
            assert await pair.reader.readexactly(3) == b"def"
            assert not pair.reader._paused

    run(loop, main())


def test_streams_a_waiter_that_somebody_else_has_woken_refuses_to_be_woken_again(loop):
    async def main():
        async with Pair() as pair:
            reading = asyncio.create_task(pair.reader.readline())
            await iterations(2)
            pair.reader._waiter.set_result(None)
            with pytest.raises(asyncio.InvalidStateError):
                pair.reader.feed_data(b"abc\n")
            assert await reading == b"abc\n"

    run(loop, main())


@pytest.mark.parametrize("line", [b"abc\n", b"much too long\n"])
def test_streams_a_transport_that_cannot_be_resumed_tells_the_reader_who_has_taken(loop, line):
    async def main():
        async with Pair(limit=4) as pair:
            transport = pair.reader._transport
            pair.reader._transport = mock.Mock()
            pair.reader._transport.resume_reading.side_effect = KeyError("k")
            pair.reader._paused = True
            pair.reader._buffer += line + b"def\n"
            with pytest.raises(KeyError):
                await pair.reader.readline()
            assert not pair.reader._paused
            pair.reader._transport = transport
            assert await pair.reader.readline() == b"def\n"

    run(loop, main())


def test_streams_attributes_of_others_on_the_instance_change_nothing(loop):
    async def main():
        async with Pair() as pair:
            pair.reader.peer = pair.writer.peer = "somebody"
            pair.peer.send(b"abc\n")
            assert await pair.reader.readline() == b"abc\n"
            pair.writer.write(b"x")
            await pair.writer.drain()
            assert pair.reader.peer == "somebody"

    run(loop, main())


def test_streams_a_subclass_of_the_reader_has_its_methods_called(loop):
    calls = []

    class Reader(asyncio.StreamReader):
        def feed_data(self, data):
            calls.append(("feed_data", bytes(data)))
            super().feed_data(data)

        async def readuntil(self, separator=b"\n"):
            calls.append("readuntil")
            return await super().readuntil(separator)

    async def main():
        async with Pair(reader=Reader) as pair:
            assert type(pair.reader) is Reader
            pair.peer.send(b"abc\n")
            assert await pair.reader.readline() == b"abc\n"

    run(loop, main())
    assert sorted(calls, key=str) == [("feed_data", b"abc\n"), "readuntil"]


def test_streams_a_subclass_of_the_protocol_has_its_methods_called(loop):
    received = []

    class Protocol(asyncio.StreamReaderProtocol):
        def data_received(self, data):
            received.append(data)
            super().data_received(data)

    async def main():
        reader = asyncio.StreamReader(loop=loop)
        protocol, peer = await connected(lambda: Protocol(reader, loop=loop))
        assert type(protocol) is Protocol
        peer.send(b"abc\n")
        assert await reader.readline() == b"abc\n"
        protocol._transport.close()
        peer.close()
        await protocol._closed

    run(loop, main())
    assert received == [b"abc\n"]


def test_streams_data_received_patched_on_the_protocols_class_is_called(loop):
    received = []

    async def main():
        async with Pair() as pair:
            with mock.patch.object(
                asyncio.StreamReaderProtocol,
                "data_received",
                lambda self, data: received.append(data),
            ):
                pair.peer.send(b"lost")
                while not received:
                    await asyncio.sleep(0)
            pair.peer.send(b"abc\n")
            assert await pair.reader.readline() == b"abc\n"

    run(loop, main())
    assert received == [b"lost"]


def test_streams_a_servers_callback_is_its_own_to_those_who_ask(loop):
    async def handler(reader, writer):
        return writer.transport.get_protocol()._client_connected_cb.__qualname__

    assert run(loop, served(handler)).endswith("serve")


def test_streams_a_protocol_that_refuses_a_second_connection_has_its_callback_again(loop):
    """The reader has its transport: asyncio asserts that, before it calls back."""
    calls = []

    async def main():
        reader = asyncio.StreamReader(loop=loop)

        def connected_cb(reader, writer):
            calls.append(writer)

        protocol, peer = await connected(
            lambda: asyncio.StreamReaderProtocol(reader, connected_cb, loop=loop)
        )
        assert len(calls) == 1
        with pytest.raises(AssertionError):
            protocol.connection_made(calls[0].transport)
        assert protocol._client_connected_cb is connected_cb
        assert len(calls) == 1
        calls[0].close()
        peer.close()
        await calls[0].wait_closed()

    run(loop, main())


@pytest.mark.parametrize("name", ["write", "drain", "is_closing"])
def test_streams_a_method_patched_on_the_writers_class_is_called(loop, name):
    async def handler(reader, writer):
        original = getattr(asyncio.StreamWriter, name)
        with mock.patch.object(asyncio.StreamWriter, name, autospec=True) as patched:
            patched.side_effect = original
            writer.write(b"x")
            await writer.drain()
            assert not writer.is_closing()
            return patched.call_count

    assert run(loop, served(handler)) == 1


# ---- calls ----------------------------------------------------------------------------------


def test_streams_calls_are_coroutines(loop):
    async def main():
        async with Pair() as pair:
            call = pair.reader.readline()
            assert asyncio.iscoroutine(call)
            assert inspect.isawaitable(call)
            assert call.__qualname__ == "StreamReader.readline"
            task = asyncio.create_task(call)
            await iterations(2)
            assert "StreamReader.readline" in repr(task)
            assert task.get_stack() is not None
            pair.peer.send(b"abc\n")
            assert await task == b"abc\n"
            assert await asyncio.gather(pair.writer.drain(), pair.writer.drain()) == [None] * 2

    run(loop, main())


@pytest.mark.parametrize("waits", [False, True])
def test_streams_a_call_is_awaited_once(loop, waits):
    async def main():
        async with Pair() as pair:
            call = pair.reader.readline()
            if waits:
                first = asyncio.create_task(call)
                await iterations(2)
                with pytest.raises(RuntimeError, match="awaited already|already executing"):
                    await call
                pair.peer.send(b"abc\n")
                assert await first == b"abc\n"
            else:
                pair.reader.feed_data(b"abc\n")
                assert await call == b"abc\n"
            with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                await call

    run(loop, main())


def test_streams_a_call_that_nobody_awaits_is_warned_of(loop):
    async def main():
        async with Pair() as pair:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                pair.reader.readexactly(1)
                gc.collect()
            closed = pair.reader.readexactly(1)
            closed.close()
        return [str(warning.message) for warning in caught]

    assert run(loop, main()) == ["coroutine 'StreamReader.readexactly' was never awaited"]


def test_streams_a_call_dropped_in_the_middle_leaves_no_waiter(loop):
    async def main():
        async with Pair() as pair:
            call = pair.reader.readexactly(3)
            waiter = call.send(None)
            assert waiter is pair.reader._waiter
            del call
            gc.collect()
            assert pair.reader._waiter is None
            pair.peer.send(b"abc")
            assert await pair.reader.readexactly(3) == b"abc"

    run(loop, main())


def test_streams_a_call_in_a_cycle_with_its_reader_is_garbage(loop):
    async def main():
        async with Pair() as pair:
            pair.reader.call = pair.reader.readexactly(3)
            pair.reader.call.send(None)
            reader = weakref.ref(pair.reader)
        del pair
        # What was scheduled for the end of the connection holds the reader too.
        await iterations(3)
        gc.collect()
        assert reader() is None

    run(loop, main())


def test_streams_a_read_timed_out_leaves_what_comes_later(loop):
    async def main():
        async with Pair() as pair:
            for _ in range(3):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(pair.reader.readexactly(4), 0.001)
                assert pair.reader._waiter is None
            pair.peer.send(b"abcd")
            assert await asyncio.wait_for(pair.reader.readexactly(4), 30) == b"abcd"

    run(loop, main())


def test_streams_two_reads_at_once_are_refused(loop):
    async def main():
        async with Pair() as pair:
            first = asyncio.create_task(pair.reader.readline())
            await iterations(2)
            for read, name in (("readexactly", "readexactly"), ("readline", "readuntil")):
                with pytest.raises(RuntimeError, match=f"^{name}\\(\\) called while another"):
                    await getattr(pair.reader, read)(*([1] if read == "readexactly" else []))
            pair.peer.send(b"abc\n")
            assert await first == b"abc\n"

    run(loop, main())


def test_streams_an_error_inside_of_an_except_has_its_context(loop):
    async def main():
        async with Pair() as pair:
            pair.reader.feed_data(b"ab")
            pair.reader.feed_eof()
            try:
                raise KeyError("before")
            except KeyError as before:
                with pytest.raises(asyncio.IncompleteReadError) as caught:
                    await pair.reader.readexactly(3)
                assert caught.value.__context__ is before
                assert (caught.value.partial, caught.value.expected) == (b"ab", 3)

    run(loop, main())


def test_streams_read_with_a_buffer_that_is_held_says_so(loop):
    async def main():
        async with Pair() as pair:
            pair.reader.feed_data(b"abc\n")
            with memoryview(pair.reader._buffer), pytest.raises(BufferError):
                await pair.reader.readline()
            assert await pair.reader.readline() == b"abc\n"

    run(loop, main())


def test_streams_data_for_a_buffer_that_is_held_ends_the_connection(loop):
    contexts = []
    loop.set_exception_handler(lambda _, context: contexts.append(context))

    async def main():
        # Once from the reader, and once from the end of the connection.
        with pytest.raises(BufferError):
            async with Pair() as pair:
                with memoryview(pair.reader._buffer):
                    pair.peer.send(b"no room")
                    with pytest.raises(BufferError):
                        await pair.reader.read(1)
                assert pair.writer.is_closing()

    run(loop, main())
    (context,) = contexts
    assert context["message"] == "Fatal error: protocol.data_received() call failed."
    assert isinstance(context["exception"], BufferError)


def test_streams_unclosed_writer_warns(loop):
    if not hasattr(asyncio.StreamWriter, "__del__"):
        pytest.skip("a forgotten StreamWriter of this Python leaves its connection open")

    async def main():
        pair = await Pair().__aenter__()
        closed = pair.protocol._closed
        peer = pair.peer
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del pair
            gc.collect()
        await closed
        peer.close()
        return [str(warning.message) for warning in caught]

    caught = run(loop, main())
    # asyncio's own warns since 3.13; before, the transport does.
    assert len(caught) >= (sys.version_info >= (3, 13))
    assert all(message.startswith("unclosed ") for message in caught)


def test_streams_in_debug_mode_work_too(loop):
    async def main():
        loop.set_debug(True)
        async with Pair(limit=4) as pair:
            pair.peer.send(b"abc\ndefghijklmnop\n")
            assert await pair.reader.readline() == b"abc\n"
            with pytest.raises(ValueError):
                await pair.reader.readline()
            pair.writer.write(b"x")
            await pair.writer.drain()

    run(loop, main())


def test_streams_a_class_that_was_patched_before_us_stays_as_it_is(loop_kind):
    """And what it was patched with is called."""
    program = """
import asyncio, sys
called = []
async def readline(self, original=asyncio.StreamReader.readline):
    called.append(type(self))
    return await original(self)
asyncio.StreamReader.readline = readline
import uring_loop
async def main():
    async def answer(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"line\\n")
    assert await reader.readline() == b"line\\n"
    assert called == [asyncio.StreamReader] * 2, called
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
with asyncio.Runner(
    loop_factory=asyncio.SelectorEventLoop if "asyncio" in sys.argv else uring_loop.new_event_loop
) as runner:
    runner.run(main())
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program, loop_kind], check=True)
