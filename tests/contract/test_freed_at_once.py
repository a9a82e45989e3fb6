"""What is closed and dropped is freed by its last reference, without the cycle collector."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import warnings
import weakref

import pytest
from harness import iterations, run


@pytest.fixture(autouse=True)
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Quiet(asyncio.Protocol):
    """Can be weakly referenced, which asyncio.Protocol cannot."""

    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc):
        self.lost.set_result(None)


async def nothing(loop):
    return []


async def timers_and_callbacks(loop):
    loop.call_later(1000, print)
    loop.call_soon_threadsafe(loop.is_closed)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(loop.create_future(), 0.001)
    await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))
    return []


async def executor_and_look_up(loop):
    await loop.run_in_executor(None, int)
    await loop.getaddrinfo("localhost", 80)
    await loop.shutdown_default_executor()
    return []


async def signal_handler(loop):
    loop.add_signal_handler(signal.SIGUSR2, print)
    return []


async def watchers_left(loop):
    ours, theirs = socket.socketpair()
    loop.add_reader(ours, print)
    loop.add_writer(theirs, int)
    await iterations(2)
    return [ours, theirs]


async def cancelled_receive(loop):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        task = asyncio.ensure_future(loop.sock_recv(ours, 10))
        await iterations(2)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return [task]


async def refused_connection(loop):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with contextlib.suppress(OSError):
            await loop.create_connection(Quiet, *sock.getsockname())
    return []


async def connection(loop):
    server = await loop.create_server(Quiet, "127.0.0.1", 0)
    transport, protocol = await loop.create_connection(Quiet, *server.sockets[0].getsockname())
    transport.write(b"x")
    transport.close()
    await protocol.lost
    server.close()
    await iterations(3)
    return [transport, protocol]


async def streams(loop):
    async def echo(reader, writer):
        writer.write(await reader.readexactly(5))
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hello")
    await reader.read()
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    return [reader, writer]


async def server_closed(loop):
    server = await loop.create_server(Quiet, "127.0.0.1", 0)
    server.close()
    await iterations(3)
    return [server]


async def server_left_serving(loop):
    return [await loop.create_server(Quiet, "127.0.0.1", 0)]


async def server_never_started(loop):
    return [await loop.create_server(Quiet, "127.0.0.1", 0, start_serving=False)]


async def serve_forever_cancelled(loop):
    server = await loop.create_server(Quiet, "127.0.0.1", 0, start_serving=False)
    task = asyncio.ensure_future(server.serve_forever())
    await iterations(3)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return [server, task]


async def datagrams(loop):
    class Protocol(asyncio.DatagramProtocol):
        pass

    transport, protocol = await loop.create_datagram_endpoint(
        Protocol, local_addr=("127.0.0.1", 0)
    )
    transport.sendto(b"x", transport.get_extra_info("sockname"))
    transport.close()
    await iterations(5)
    return [transport, protocol]


async def pipes(loop):
    reading, writing = os.pipe()
    reader, protocol = await loop.connect_read_pipe(Quiet, open(reading, "rb", 0))
    writer, _ = await loop.connect_write_pipe(Quiet, open(writing, "wb", 0))
    writer.write(b"x")
    writer.close()
    await protocol.lost
    await iterations(3)
    return [reader, writer, protocol]


async def sent_file(loop):
    ours, theirs = socket.socketpair()
    transport, protocol = await loop.create_connection(Quiet, sock=ours)
    other, other_protocol = await loop.create_connection(Quiet, sock=theirs)
    with open(__file__, "rb") as file:
        await loop.sendfile(transport, file)
    transport.close()
    other.close()
    await protocol.lost
    await other_protocol.lost
    await iterations(3)
    return [transport, protocol]


WORK = [
    nothing,
    timers_and_callbacks,
    executor_and_look_up,
    signal_handler,
    watchers_left,
    cancelled_receive,
    refused_connection,
    connection,
    streams,
    server_closed,
    server_left_serving,
    server_never_started,
    serve_forever_cancelled,
    datagrams,
    pipes,
    sent_file,
]
# Of asyncio before 3.13 a server's side of a connection may be left to the collector.
LEFT_BY_OLDER_ASYNCIO = {connection, sent_file}


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("work", WORK, ids=lambda work: work.__name__)
def test_closed_loop_and_what_it_has_served_are_freed_at_once(
    make_unwatched_loop, loop_kind, work
):
    if loop_kind == "asyncio" and sys.version_info < (3, 13) and work in LEFT_BY_OLDER_ASYNCIO:
        pytest.skip("this Python's asyncio leaves its transports to the collector")
    loop = make_unwatched_loop()
    references = []

    async def refer():
        references.extend(weakref.ref(thing) for thing in await work(asyncio.get_running_loop()))

    run(loop, refer())
    references.append(weakref.ref(loop))
    loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del loop
    left = [reference() for reference in references if reference() is not None]
    assert left == []


def test_loop_made_by_the_policy_is_freed_at_once(make_unwatched_loop):
    """asyncio.run() and asyncio.Runner drop theirs so."""
    loop = make_unwatched_loop()
    reference = weakref.ref(loop)
    with asyncio.Runner(loop_factory=[loop].pop) as runner:
        runner.run(asyncio.sleep(0))
    del loop, runner
    assert reference() is None
