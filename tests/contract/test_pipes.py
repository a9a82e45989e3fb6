"""connect_read_pipe and connect_write_pipe: pipes, FIFOs, terminals, sockets, devices."""

import asyncio
import contextlib
import contextvars
import errno
import fcntl
import gc
import logging
import os
import pty
import socket
import threading
import tty

import pytest
from harness import (
    PIPES_LACK,
    PIPES_PAUSE,
    Recorder,
    iterations,
    oracle_lacks,
    resource_warning,
    run,
)

variable = contextvars.ContextVar("variable", default="unset")


def pipe_pair(tmp_path):
    reader, writer = os.pipe()
    return open(reader, "rb", 0), open(writer, "wb", 0)


def fifo_pair(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    return open(reader, "rb", 0), open(path, "wb", 0)


def socket_pair(tmp_path):
    one, other = socket.socketpair()
    return open(one.detach(), "rb", 0), open(other.detach(), "wb", 0)


def terminal_pair():
    """(master, slave) of a pseudo-terminal that changes no byte."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    return open(master, "rb", 0), open(slave, "wb", 0)


PAIRS = {"pipe": pipe_pair, "fifo": fifo_pair, "socket": socket_pair}


@pytest.fixture(params=PAIRS)
def pair(request, tmp_path):
    """(reading file, writing file), both blocking."""
    reader, writer = PAIRS[request.param](tmp_path)
    os.set_blocking(reader.fileno(), True)
    yield reader, writer
    reader.close()
    writer.close()


@pytest.fixture
def pipe():
    reader, writer = pipe_pair(None)
    yield reader, writer
    reader.close()
    writer.close()


@pytest.fixture
def terminal():
    master, slave = terminal_pair()
    yield master, slave
    master.close()
    slave.close()


@contextlib.asynccontextmanager
async def read_pipe(file, protocol=None):
    """(transport, protocol); closed at the end."""
    loop = asyncio.get_running_loop()
    protocol = Recorder() if protocol is None else protocol
    transport, made = await loop.connect_read_pipe(lambda: protocol, file)
    assert made is protocol
    try:
        yield transport, protocol
    finally:
        transport.close()
        await protocol.until_lost()


@contextlib.asynccontextmanager
async def write_pipe(file, protocol=None):
    loop = asyncio.get_running_loop()
    protocol = Recorder() if protocol is None else protocol
    transport, made = await loop.connect_write_pipe(lambda: protocol, file)
    assert made is protocol
    try:
        yield transport, protocol
    finally:
        if "connection_lost" not in protocol.calls:
            transport.abort()
        await protocol.until_lost()


def in_thread(function, *args):
    """The future of a call in a thread of its own."""
    return asyncio.get_running_loop().run_in_executor(None, function, *args)


def write_all(file, data):
    os.set_blocking(file.fileno(), True)
    view = memoryview(data)
    while view:
        view = view[os.write(file.fileno(), view) :]


def read_exactly(file, size):
    os.set_blocking(file.fileno(), True)
    parts = bytearray()
    while len(parts) < size:
        part = os.read(file.fileno(), size - len(parts))
        assert part, f"end of file after {len(parts)} of {size} bytes"
        parts += part
    return bytes(parts)


def pattern(size):
    return bytes(range(256)) * (size // 256)


# Reading.


def test_read_pipe_gives_the_data_and_then_the_end_of_file(loop, pair):
    reader, writer = pair

    async def main():
        async with read_pipe(reader) as (transport, protocol):
            writer.write(b"one")
            await protocol.until_size(3)
            writer.write(b"two")
            await protocol.until_size(6)
            writer.close()
            await protocol.until_lost()
            assert transport.is_closing()
        return protocol

    protocol = run(loop, main())
    assert protocol.data == b"onetwo"
    assert protocol.names == ["connection_made", "data_received", "eof_received", "connection_lost"]
    assert protocol.lost is None
    assert reader.closed


def test_read_pipe_of_which_the_writer_has_gone_already_ends_at_once(loop, pair):
    reader, writer = pair
    writer.close()

    async def main():
        async with read_pipe(reader) as (_, protocol):
            await protocol.until_lost()
        return protocol.names

    assert run(loop, main()) == ["connection_made", "eof_received", "connection_lost"]


def test_read_pipe_delivers_what_was_written_before_the_writer_went(loop, pair):
    reader, writer = pair
    writer.write(b"the last words")
    writer.close()

    async def main():
        async with read_pipe(reader) as (_, protocol):
            await protocol.until_lost()
        return bytes(protocol.data)

    assert run(loop, main()) == b"the last words"


def test_read_pipe_gets_many_times_what_the_pipe_holds_in_order(loop, pair):
    reader, writer = pair
    data = pattern(5 << 20)

    async def main():
        async with read_pipe(reader) as (_, protocol):
            await in_thread(write_all, writer, data)
            writer.close()
            await protocol.until_lost()
        return protocol.data

    assert run(loop, main()) == data


def test_terminal_is_read_until_its_other_side_has_gone(loop, terminal):
    master, slave = terminal

    async def main():
        async with read_pipe(master) as (_, protocol):
            slave.write(b"typed")
            await protocol.until_size(5)
            slave.close()
            await protocol.until_lost()
        return protocol

    protocol = run(loop, main())
    assert protocol.data == b"typed"
    assert protocol.names == ["connection_made", "data_received", "connection_lost"]
    # The kernel's word for it; nothing for the exception handler.
    assert isinstance(protocol.lost, OSError)
    assert protocol.lost.errno == errno.EIO


def test_connection_made_comes_before_the_first_byte_and_before_connect_returns(loop, pipe):
    reader, writer = pipe
    writer.write(b"data")

    async def main():
        async with read_pipe(reader) as (transport, protocol):
            assert protocol.calls == ["connection_made"]
            assert protocol.transport is transport
            await protocol.until_called("data_received")

    run(loop, main())


def test_paused_read_pipe_takes_nothing_out_of_the_pipe(loop, loop_kind, pair):
    oracle_lacks(loop_kind, not PIPES_PAUSE, PIPES_LACK)
    reader, writer = pair

    async def main():
        async with read_pipe(reader) as (transport, protocol):
            await iterations(3)
            transport.pause_reading()
            assert not transport.is_reading()
            writer.write(b"for somebody else")
            await iterations(5)
            assert os.read(reader.fileno(), 100) == b"for somebody else"
            writer.write(b"for us")
            await iterations(5)
            assert protocol.data == b""
            transport.resume_reading()
            assert transport.is_reading()
            await protocol.until_size(6)
            return bytes(protocol.data)

    assert run(loop, main()) == b"for us"


def test_closed_read_pipe_leaves_the_data_to_those_who_share_the_pipe(loop, pipe):
    reader, writer = pipe

    async def main():
        shared = os.dup(reader.fileno())
        async with read_pipe(reader) as (transport, protocol):
            await iterations(3)
            transport.close()
            writer.write(b"for the other one")
            await protocol.until_lost()
        assert reader.closed
        await iterations(3)
        data = os.read(shared, 100)
        os.close(shared)
        return data, bytes(protocol.data)

    assert run(loop, main()) == (b"for the other one", b"")


def test_pause_in_connection_made_holds_back_the_first_read(loop, loop_kind, pipe):
    oracle_lacks(loop_kind, not PIPES_PAUSE, PIPES_LACK)
    reader, writer = pipe
    writer.write(b"data")

    class Paused(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async def main():
        async with read_pipe(reader, Paused()) as (transport, protocol):
            await iterations(5)
            assert protocol.calls == ["connection_made"]
            transport.resume_reading()
            await protocol.until_size(4)

    run(loop, main())


def test_pause_and_resume_at_every_step_lose_and_double_nothing(loop, pipe):
    reader, writer = pipe
    data = pattern(2 << 20)

    class Stuttering(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()
            loop.call_soon(self.transport.resume_reading)

    async def main():
        async with read_pipe(reader, Stuttering()) as (transport, protocol):
            written = in_thread(write_all, writer, data)
            while not written.done():
                transport.pause_reading()
                transport.resume_reading()
                transport.pause_reading()
                await asyncio.sleep(0)
                transport.resume_reading()
                await iterations(3)
            await written
            writer.close()
            await protocol.until_lost()
            return protocol.data

    assert run(loop, main()) == data


def test_pause_resume_and_close_of_a_closed_read_pipe_do_nothing(loop, loop_kind, pipe):
    oracle_lacks(loop_kind, not PIPES_PAUSE, PIPES_LACK)
    reader, _ = pipe

    async def main():
        async with read_pipe(reader) as (transport, protocol):
            transport.close()
            transport.close()
            transport.pause_reading()
            transport.resume_reading()
            assert not transport.is_reading()
            await protocol.until_lost()
            transport.close()
            transport.pause_reading()
            transport.resume_reading()
            await iterations(3)
        return protocol.calls

    assert run(loop, main()) == ["connection_made", "connection_lost"]


def test_close_in_data_received_ends_the_read_pipe(loop, pipe):
    reader, writer = pipe

    class Once(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.close()

    async def main():
        async with read_pipe(reader, Once()) as (_, protocol):
            writer.write(b"x")
            await protocol.until_lost()
            # Nothing holds on to the reading end.
            with pytest.raises(BrokenPipeError):
                writer.write(b"x")
            return protocol.names

    assert run(loop, main()) == ["connection_made", "data_received", "connection_lost"]


def test_set_protocol_gives_further_data_to_the_new_one(loop, pipe):
    reader, writer = pipe

    async def main():
        async with read_pipe(reader) as (transport, first):
            writer.write(b"one")
            await first.until_size(3)
            second = Recorder()
            transport.set_protocol(second)
            assert transport.get_protocol() is second
            writer.write(b"two")
            await second.until_size(3)
            transport.set_protocol(first)
            return bytes(first.data), bytes(second.data)

    assert run(loop, main()) == (b"one", b"two")


def test_exception_in_data_received_is_reported_and_reading_goes_on(loop, pipe, errors):
    reader, writer = pipe

    class Failing(Recorder):
        def data_received(self, data):
            super().data_received(data)
            if len(self.data) == 1:
                raise ZeroDivisionError

    async def main():
        async with read_pipe(reader, Failing()) as (_, protocol):
            writer.write(b"1")
            await protocol.until_size(1)
            writer.write(b"2")
            await protocol.until_size(2)

    run(loop, main())
    assert [type(context["exception"]) for context in errors] == [ZeroDivisionError]
    assert errors[0]["message"].startswith("Exception in callback ")
    errors.clear()


def test_keyboard_interrupt_in_data_received_ends_the_run_and_not_the_reading(loop, pipe):
    reader, writer = pipe

    class Interrupted(Recorder):
        def data_received(self, data):
            super().data_received(data)
            if len(self.data) == 1:
                raise KeyboardInterrupt

    transport, protocol = run(loop, loop.connect_read_pipe(Interrupted, reader))
    writer.write(b"1")
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()

    async def rest():
        writer.write(b"2")
        await protocol.until_size(2)
        transport.close()
        await protocol.until_lost()

    run(loop, rest())


# What can be a pipe.


@pytest.mark.parametrize("direction", ["read", "write"])
def test_regular_file_is_refused_and_stays_open(loop, tmp_path, direction):
    connect = getattr(loop, f"connect_{direction}_pipe")
    with open(tmp_path / "file", "w+b", 0) as file:
        with pytest.raises(ValueError, match="Pipe transport is "):
            run(loop, connect(Recorder, file))
        gc.collect()
        assert not file.closed


@pytest.mark.parametrize("direction", ["read", "write"])
def test_closed_file_is_refused(loop, loop_kind, pipe, direction):
    oracle_lacks(loop_kind, True, "its transport's finalizer fails after such a start")
    connect = getattr(loop, f"connect_{direction}_pipe")
    pipe[0].close()
    with pytest.raises(ValueError, match="closed file"):
        run(loop, connect(Recorder, pipe[0]))


def test_device_without_readiness_is_reported_and_nothing_is_read(loop, errors):
    async def main():
        async with read_pipe(open("/dev/null", "rb", 0)) as (_, protocol):
            await iterations(5)
            return protocol.calls[:]

    assert run(loop, main()) == ["connection_made"]
    assert [type(context["exception"]) for context in errors] == [PermissionError]
    errors.clear()


def test_device_without_readiness_can_be_written(loop):
    async def main():
        async with write_pipe(open("/dev/null", "wb", 0)) as (transport, protocol):
            transport.write(bytes(1 << 20))
            assert transport.get_write_buffer_size() == 0
            transport.close()
            await protocol.until_lost()
            return protocol.lost

    assert run(loop, main()) is None


def test_device_that_is_full_ends_the_write_pipe_with_its_error(loop):
    async def main():
        async with write_pipe(open("/dev/full", "wb", 0)) as (transport, protocol):
            transport.write(b"x")
            await protocol.until_lost()
            return protocol.lost.errno

    assert run(loop, main()) == errno.ENOSPC


def test_both_ends_are_made_non_blocking(loop, pipe):
    reader, writer = pipe

    async def main():
        async with read_pipe(reader), write_pipe(writer):
            return os.get_blocking(reader.fileno()), os.get_blocking(writer.fileno())

    assert run(loop, main()) == (False, False)


def test_extra_info_names_the_pipe(loop, pipe):
    reader, writer = pipe

    async def main():
        async with read_pipe(reader) as (one, _), write_pipe(writer) as (other, _):
            assert one.get_extra_info("pipe") is reader
            assert other.get_extra_info("pipe") is writer
            assert one.get_extra_info("socket", "none") == "none"

    run(loop, main())


@pytest.mark.parametrize("direction", ["read", "write"])
def test_cancelled_connect_closes_the_pipe(loop, pipe, direction):
    file = pipe[direction == "write"]

    async def main():
        protocol = Recorder()
        connect = getattr(loop, f"connect_{direction}_pipe")
        task = loop.create_task(connect(lambda: protocol, file))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await protocol.until_lost()
        return protocol.calls

    assert run(loop, main()) == ["connection_made", "connection_lost"]
    assert file.closed


# Writing.


def test_write_pipe_writes_at_once(loop, pair):
    reader, writer = pair

    async def main():
        async with write_pipe(writer) as (transport, _):
            transport.write(b"one")
            assert os.read(reader.fileno(), 100) == b"one"
            assert transport.get_write_buffer_size() == 0
            transport.writelines([b"two", bytearray(b"three"), memoryview(b"four")])
            transport.write(b"")
            return os.read(reader.fileno(), 100)

    assert run(loop, main()) == b"twothreefour"


def test_write_pipe_queues_what_the_pipe_does_not_hold_and_writes_it_in_order(loop, pair):
    reader, writer = pair
    data = pattern(4 << 20)

    async def main():
        async with write_pipe(writer) as (transport, protocol):
            transport.write(data[: 3 << 20])
            assert 0 < transport.get_write_buffer_size() < 3 << 20
            assert protocol.pauses == 1
            transport.write(data[3 << 20 :])
            assert protocol.pauses == 1
            got = await in_thread(read_exactly, reader, len(data))
            await protocol.until_called("resume_writing")
            assert transport.get_write_buffer_size() == 0
            transport.write(b"more")
            assert os.read(reader.fileno(), 100) == b"more"
            return got, protocol.resumes

    assert run(loop, main()) == (data, 1)


def test_write_pipe_with_something_queued_writes_behind_it_though_there_is_room(loop, pair):
    reader, writer = pair
    data = pattern(2 << 20)

    async def main():
        async with write_pipe(writer) as (transport, protocol):
            transport.write(data)
            # Room of which the loop has not been told yet.
            got = read_exactly(reader, len(data) - transport.get_write_buffer_size())
            transport.write(b"behind")
            return got + await in_thread(read_exactly, reader, len(data) + 6 - len(got))

    assert run(loop, main()) == data + b"behind"


@pytest.mark.parametrize("how", ["close", "write_eof"])
def test_closing_write_pipe_writes_what_is_queued_first(loop, pair, how):
    reader, writer = pair
    data = pattern(2 << 20)

    async def main():
        async with write_pipe(writer) as (transport, protocol):
            transport.write(data)
            getattr(transport, how)()
            assert transport.is_closing()
            assert "connection_lost" not in protocol.calls
            transport.write(b"too late")
            got = await in_thread(read_exactly, reader, len(data))
            rest = await in_thread(reader.read)
            await protocol.until_lost()
            return got == data, rest, protocol.lost

    assert run(loop, main()) == (True, b"", None)
    assert writer.closed


def test_write_eof_of_an_idle_write_pipe_closes_it_once(loop, pipe):
    reader, writer = pipe

    async def main():
        async with write_pipe(writer) as (transport, protocol):
            assert transport.can_write_eof()
            transport.write_eof()
            transport.write_eof()
            transport.close()
            await protocol.until_lost()
            await iterations(3)
            transport.close()
        return protocol.calls

    assert run(loop, main()) == ["connection_made", "connection_lost"]
    assert reader.read() == b""


def test_abort_drops_what_is_queued(loop, pair):
    reader, writer = pair
    data = pattern(1 << 20)

    async def main():
        async with write_pipe(writer) as (transport, protocol):
            transport.write(data)
            transport.abort()
            assert transport.get_write_buffer_size() == 0
            await protocol.until_lost()
            return protocol.lost

    assert run(loop, main()) is None
    got = reader.read()
    assert 0 < len(got) < len(data)
    assert data.startswith(got)


def test_abort_of_a_closing_write_pipe_drops_what_is_queued(loop, pipe):
    _, writer = pipe

    async def main():
        async with write_pipe(writer) as (transport, protocol):
            transport.write(bytes(1 << 20))
            transport.close()
            await iterations(2)
            transport.abort()
            await protocol.until_lost()
        return protocol.calls.count("connection_lost")

    assert run(loop, main()) == 1


@pytest.mark.parametrize("first", ["abort", "close"])
def test_abort_of_a_pipe_that_is_ending_ends_it_once(loop, loop_kind, pipe, first):
    oracle_lacks(loop_kind, True, "schedules connection_lost() twice, the second time of None")
    _, writer = pipe

    async def main():
        async with write_pipe(writer) as (transport, protocol):
            getattr(transport, first)()
            transport.abort()
            await protocol.until_lost()
            await iterations(3)
            transport.abort()
            await iterations(3)
        return protocol.calls

    assert run(loop, main()) == ["connection_made", "connection_lost"]


def test_reader_that_goes_ends_an_idle_write_pipe_without_an_error(loop, pair):
    reader, writer = pair

    async def main():
        async with write_pipe(writer) as (transport, protocol):
            await iterations(3)
            reader.close()
            await protocol.until_lost()
            assert transport.is_closing()
            return protocol.lost

    assert run(loop, main()) is None
    assert writer.closed


def test_reader_that_goes_ends_a_full_write_pipe_with_broken_pipe(loop, pair):
    reader, writer = pair

    async def main():
        async with write_pipe(writer) as (transport, protocol):
            transport.write(bytes(1 << 20))
            await iterations(3)
            reader.close()
            await protocol.until_lost()
            assert transport.get_write_buffer_size() == 0
            return type(protocol.lost)

    assert run(loop, main()) is BrokenPipeError


def test_write_to_a_pipe_without_a_reader_fails_at_once_and_quietly(loop, pipe):
    reader, writer = pipe

    async def main():
        async with write_pipe(writer) as (transport, protocol):
            reader.close()
            transport.write(b"x")
            assert transport.is_closing()
            await protocol.until_lost()
            return type(protocol.lost)

    assert run(loop, main()) is BrokenPipeError


def test_many_writes_after_the_loss_are_logged(loop, pipe, caplog):
    reader, writer = pipe

    async def main():
        async with write_pipe(writer) as (transport, protocol):
            reader.close()
            for _ in range(10):
                transport.write(b"x")
            await protocol.until_lost()
            transport.write(b"x")

    with caplog.at_level(logging.WARNING, "asyncio"):
        run(loop, main())
    assert {record.getMessage() for record in caplog.records} == {
        "pipe closed by peer or os.write(pipe, data) raised exception."
    }
    assert len(caplog.records) == 6


def test_socket_whose_peer_speaks_is_closed_as_a_write_pipe(loop):
    """Whatever makes it readable counts as the reader's going, on every loop."""
    one, other = socket.socketpair()

    async def main():
        async with write_pipe(open(one.detach(), "wb", 0)) as (_, protocol):
            other.send(b"hello")
            await protocol.until_lost()
            return protocol.lost

    assert run(loop, main()) is None
    other.close()


def test_terminal_is_written_while_somebody_types(loop, terminal):
    master, slave = terminal

    async def main():
        async with write_pipe(slave) as (transport, protocol):
            os.write(master.fileno(), b"typed")
            await iterations(5)
            transport.write(b"shown")
            assert read_exactly(master, 5) == b"shown"
            return protocol.calls[:]

    assert run(loop, main()) == ["connection_made"]


def test_terminal_takes_more_than_it_holds(loop, terminal):
    master, slave = terminal
    data = pattern(256 << 10)

    async def main():
        async with write_pipe(slave) as (transport, _):
            transport.write(data)
            assert transport.get_write_buffer_size() > 0
            return await in_thread(read_exactly, master, len(data))

    assert run(loop, main()) == data


def test_one_terminal_is_read_and_written_by_two_transports(loop, terminal):
    master, slave = terminal
    keyboard = open(os.dup(slave.fileno()), "rb", 0)

    async def main():
        async with read_pipe(keyboard) as (_, protocol), write_pipe(slave) as (transport, _):
            os.write(master.fileno(), b"ping")
            await protocol.until_size(4)
            transport.write(b"pong")
            return bytes(protocol.data), read_exactly(master, 4)

    assert run(loop, main()) == (b"ping", b"pong")


@pytest.mark.parametrize("data", ["text", None, 1, [b"x"]], ids=repr)
def test_write_refuses_what_are_no_bytes(loop, pipe, data):
    async def main():
        async with write_pipe(pipe[1]) as (transport, _):
            with pytest.raises(AssertionError):
                transport.write(data)
            assert not transport.is_closing()

    run(loop, main())


def test_queued_bytearray_may_be_changed_after_the_write(loop, pipe):
    reader, writer = pipe
    data = bytearray(pattern(1 << 20))
    before = bytes(data)

    async def main():
        async with write_pipe(writer) as (transport, _):
            transport.write(data)
            data[:] = bytes(len(data))
            data.clear()
            return await in_thread(read_exactly, reader, len(before))

    assert run(loop, main()) == before


def test_memoryview_of_wide_items_is_written_whole(loop, loop_kind, pipe):
    oracle_lacks(loop_kind, True, "counts items of a memoryview where bytes were written")
    reader, writer = pipe
    data = pattern(1 << 20)

    async def main():
        async with write_pipe(writer) as (transport, _):
            transport.write(memoryview(data).cast("I"))
            return await in_thread(read_exactly, reader, len(data))

    assert run(loop, main()) == data


def test_memoryview_with_gaps_is_written_whole(loop, loop_kind, pipe):
    oracle_lacks(loop_kind, True, "ends the transport with the BufferError of os.write()")
    reader, writer = pipe

    async def main():
        async with write_pipe(writer) as (transport, _):
            transport.write(memoryview(b"a-b-c-")[::2])
            return os.read(reader.fileno(), 100)

    assert run(loop, main()) == b"abc"


def test_write_buffer_limits_are_those_of_every_transport(loop, pipe):
    async def main():
        async with write_pipe(pipe[1]) as (transport, protocol):
            assert transport.get_write_buffer_limits() == (16 << 10, 64 << 10)
            transport.set_write_buffer_limits(high=100)
            assert transport.get_write_buffer_limits() == (25, 100)
            transport.set_write_buffer_limits(low=100)
            assert transport.get_write_buffer_limits() == (100, 400)
            with pytest.raises(ValueError, match="must be >= low"):
                transport.set_write_buffer_limits(high=1, low=2)
            transport.set_write_buffer_limits(high=0)
            assert protocol.pauses == 0
            transport.write(bytes(1 << 20))
            assert protocol.pauses == 1

    run(loop, main())


def test_write_in_resume_writing_of_a_closing_pipe_loses_nothing_before(loop, pipe):
    reader, writer = pipe
    data = pattern(1 << 20)

    class Eager(Recorder):
        def resume_writing(self):
            super().resume_writing()
            self.transport.write(b"again")

    async def main():
        async with write_pipe(writer, Eager()) as (transport, protocol):
            transport.set_write_buffer_limits(high=0)
            transport.write(data)
            got = await in_thread(read_exactly, reader, len(data) + 5)
            transport.close()
            await protocol.until_lost()
            return got

    assert run(loop, main()) == data + b"again"


def test_two_transports_of_one_loop_carry_megabytes_between_them(loop, pair):
    reader, writer = pair
    data = pattern(8 << 20)

    async def main():
        async with read_pipe(reader) as (_, received), write_pipe(writer) as (transport, _):
            transport.write(data)
            transport.close()
            await received.until_lost()
            return received.data

    assert run(loop, main()) == data


def test_small_pipe_carries_megabytes_all_the_same(loop, pipe):
    reader, writer = pipe
    fcntl.fcntl(writer.fileno(), fcntl.F_SETPIPE_SZ, 4096)
    data = pattern(1 << 20)

    async def main():
        async with read_pipe(reader) as (_, received), write_pipe(writer) as (transport, _):
            for start in range(0, len(data), 1000):
                transport.write(data[start : start + 1000])
            transport.close()
            await received.until_lost()
            return received.data

    assert run(loop, main()) == data


def test_stream_reader_and_writer_run_on_pipes(loop, pipe):
    reader, writer = pipe

    async def main():
        stream = asyncio.StreamReader()
        ours, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), reader)
        theirs, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, writer)
        output = asyncio.StreamWriter(theirs, protocol, None, loop)
        sent = 0

        async def send():
            nonlocal sent
            for number in range(2000):
                line = b"%d\n" % number * 100
                output.write(line)
                sent += len(line)
                await output.drain()
            output.close()

        task = loop.create_task(send())
        got = len(await stream.read())
        await task
        ours.close()
        await iterations(3)
        return got == sent

    assert run(loop, main())


# Life.


def test_callbacks_of_a_read_pipe_run_in_the_context_that_made_it(loop, pipe):
    reader, writer = pipe
    values = {}

    class Noting(Recorder):
        def _note(self, name):
            values[name] = variable.get()
            super()._note(name)

    async def main():
        async def connect():
            variable.set("of the maker")
            return await loop.connect_read_pipe(Noting, reader)

        _, protocol = await loop.create_task(connect())
        variable.set("of somebody else")
        writer.write(b"x")
        await protocol.until_size(1)
        writer.close()
        await protocol.until_lost()

    run(loop, main())
    names = ["connection_made", "data_received", "eof_received", "connection_lost"]
    assert values == dict.fromkeys(names, "of the maker")


def test_debug_mode_tells_the_log_of_pauses_and_of_how_a_terminal_ended(
    loop, loop_kind, terminal, caplog
):
    oracle_lacks(loop_kind, not PIPES_PAUSE, PIPES_LACK)
    master, slave = terminal
    loop.set_debug(True)

    async def main():
        async with read_pipe(master) as (transport, protocol):
            transport.pause_reading()
            transport.resume_reading()
            slave.close()
            await protocol.until_lost()
        return type(transport).__name__, protocol.lost

    with caplog.at_level(logging.DEBUG, logger="asyncio"):
        name, lost = run(loop, main())
    assert lost.errno == errno.EIO
    told = [record for record in caplog.records if record.getMessage().startswith(f"<{name}")]
    for record, text in zip(
        told,
        ["> pauses reading", "> resumes reading", ">: Fatal read error on pipe transport"],
        strict=True,
    ):
        assert record.levelno == logging.DEBUG
        assert record.getMessage().endswith(text)
    assert told[-1].exc_info[1] is lost


def test_repr_tells_descriptor_and_state(loop, pipe):
    reader, writer = pipe

    async def main():
        async with read_pipe(reader) as (one, received), write_pipe(writer) as (other, sent):
            await iterations(2)
            assert f"fd={reader.fileno()} polling" in repr(one)
            one.pause_reading()
            assert "idle" in repr(one)
            assert f"fd={writer.fileno()} idle bufsize=0" in repr(other)
            other.write(bytes(1 << 20))
            size = other.get_write_buffer_size()
            assert f"polling bufsize={size}" in repr(other)
            other.close()
            assert "closing" in repr(other)
            other.abort()
            one.close()
            assert "closing" in repr(one)
            await received.until_lost()
            await sent.until_lost()
            assert "closed" in repr(one)
            assert "closed" in repr(other)

    run(loop, main())


@pytest.mark.parametrize("direction", ["read", "write"])
def test_transport_left_open_at_the_loop_s_end_warns_and_closes_its_pipe(
    make_loop, pipe, direction
):
    loop = make_loop()
    file = pipe[direction == "write"]
    connect = getattr(loop, f"connect_{direction}_pipe")
    transport, _ = run(loop, connect(asyncio.Protocol, file))
    run(loop, iterations(3))
    loop.close()
    assert "open" in repr(transport)
    with resource_warning("unclosed transport <"):
        del transport, _
        gc.collect()
    assert file.closed


def test_paused_read_pipe_that_nobody_refers_to_is_garbage(loop, pipe):
    reader, _ = pipe

    async def main():
        transport, protocol = await loop.connect_read_pipe(asyncio.Protocol, reader)
        await iterations(3)
        transport.pause_reading()
        await iterations(3)
        with resource_warning("unclosed transport <"):
            del transport, protocol
            gc.collect()

    run(loop, main())
    assert reader.closed


def test_idle_read_pipe_that_nobody_refers_to_lives_on(loop, pipe):
    reader, writer = pipe
    protocol = Recorder()

    async def main():
        await loop.connect_read_pipe(lambda: protocol, reader)
        protocol.transport = None
        gc.collect()
        writer.write(b"x")
        await protocol.until_size(1)
        writer.close()
        await protocol.until_lost()

    run(loop, main())


def test_close_after_the_loop_is_closed_closes_the_pipe(make_loop, loop_kind, pipe):
    oracle_lacks(loop_kind, True, "raises that the loop is closed, and keeps the pipe open")
    loop = make_loop()
    reader, writer = pipe
    one, _ = run(loop, loop.connect_read_pipe(asyncio.Protocol, reader))
    other, _ = run(loop, loop.connect_write_pipe(asyncio.Protocol, writer))
    other.write(bytes(1 << 20))
    loop.close()
    one.close()
    other.abort()
    assert reader.closed
    assert writer.closed


def test_waiting_for_a_pipe_of_a_closed_loop_is_refused(make_loop, pipe):
    loop = make_loop()
    reader, writer = pipe
    one, _ = run(loop, loop.connect_read_pipe(asyncio.Protocol, reader))
    other, _ = run(loop, loop.connect_write_pipe(asyncio.Protocol, writer))
    one.pause_reading()
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        one.resume_reading()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        other.write(bytes(1 << 20))
    with resource_warning("unclosed transport"):
        del one, other


def test_pipes_work_in_a_loop_that_changes_its_thread(make_loop, pipe):
    loop = make_loop()
    reader, writer = pipe
    protocol = Recorder()

    async def step(size):
        writer.write(b"x")
        await protocol.until_size(size)

    transport, _ = run(loop, loop.connect_read_pipe(lambda: protocol, reader))
    run(loop, step(1))
    thread = threading.Thread(target=lambda: run(loop, step(2)))
    thread.start()
    thread.join()
    run(loop, step(3))
    transport.close()
    run(loop, protocol.until_lost())
    loop.close()
    assert protocol.data == b"xxx"


def test_descriptor_that_is_used_again_belongs_to_its_new_owner(loop):
    """Hundreds of pipes in turn, each with the numbers of the last."""

    async def main():
        for number in range(200):
            reader, writer = pipe_pair(None)
            async with read_pipe(reader) as (one, received), write_pipe(writer) as (other, sent):
                other.write(b"%d" % number)
                if number % 2:
                    other.close()
                    await received.until_lost()
                else:
                    await received.until_called("data_received")
                    one.close()
                    other.close()
                    await received.until_lost()
                await sent.until_lost()
                assert received.data == b"%d" % number

    run(loop, main())
