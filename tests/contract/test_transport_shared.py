"""Who uses a transport's socket finds in the kernel what was written before."""

import asyncio
import gc
import os
import socket
import subprocess
import sys
import textwrap
import weakref

import pytest
from harness import PAIRS, Recorder, attached, iterations, run, serving


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]


USES = {
    "fileno": lambda sock: os.write(sock.fileno(), b"BODY"),
    "dup": lambda sock: with_closing(sock.dup(), lambda twin: twin.send(b"BODY")),
    "from_fd": lambda sock: with_closing(
        socket.fromfd(sock.fileno(), socket.AF_UNIX, socket.SOCK_STREAM),
        lambda twin: twin.send(b"BODY"),
    ),
    "the socket inside": lambda sock: sock._sock.send(b"BODY"),
}


def with_closing(sock, use):
    with sock:
        use(sock)


async def received(peer, size):
    return await peer.recv_exactly(size)


@pytest.mark.parametrize("use", USES)
def test_bytes_sent_past_the_transport_come_after_those_that_were_written(loop, pair, use):
    async def main():
        async with attached(pair=pair) as (transport, _, peer):
            sock = transport.get_extra_info("socket")
            for _ in range(3):
                transport.write(b"HEAD")
                USES[use](sock)
                transport.writelines([b"TA", b"IL"])
                await iterations(2)
            assert await received(peer, 36) == b"HEADBODYTAIL" * 3

    run(loop, main())


def test_number_that_was_asked_for_earlier_finds_later_writes_in_the_kernel(loop, pair):
    async def main():
        async with attached(pair=pair) as (transport, _, peer):
            number = transport.get_extra_info("socket").fileno()
            await iterations(3)
            transport.write(b"HEAD")
            os.write(number, b"BODY")
            assert await received(peer, 8) == b"HEADBODY"

    run(loop, main())


@pytest.mark.parametrize("how", [socket.SHUT_WR, socket.SHUT_RDWR])
def test_shutdown_of_the_socket_comes_after_what_was_written(loop, pair, how):
    async def main():
        async with attached(pair=pair) as (transport, protocol, peer):
            transport.write(b"last words")
            transport.get_extra_info("socket").shutdown(how)
            assert await peer.recv_all() == b"last words"
            if how == socket.SHUT_RDWR:
                await protocol.until_lost()
                assert protocol.names == ["connection_made", "eof_received", "connection_lost"]

    run(loop, main())


def test_socket_that_the_caller_holds_finds_what_was_written(loop):
    async def main():
        ours, other = socket.socketpair()
        with other:
            other.settimeout(10)
            transport, _ = await loop.create_connection(Recorder, sock=ours)
            transport.write(b"HEAD")
            socket.send_fds(ours, [b"BODY"], [other.fileno()])
            data, descriptors, _, _ = socket.recv_fds(other, 100, 1)
            for descriptor in descriptors:
                os.close(descriptor)
            while len(data) < 8:
                data += other.recv(100)
            assert data == b"HEADBODY"
            transport.write(b"last words")
            ours.shutdown(socket.SHUT_WR)
            assert other.recv(100) == b"last words"
            transport.abort()
            await iterations(3)

    run(loop, main())


def test_socket_methods_of_the_loop_find_what_was_written(loop, pair):
    async def main():
        sock, other = pair()
        with other:
            other.settimeout(10)
            transport, _ = await loop.create_connection(Recorder, sock=sock)
            twin = socket.socket(fileno=sock.fileno())
            del sock
            gc.collect()
            try:
                transport.write(b"HEAD")
                await loop.sock_sendall(twin, b"BODY")
                assert other.recv(100) == b"HEADBODY"
                transport.write(b"HEAD")
                await loop.sock_sendall(twin, memoryview(b"BODY"))
                assert other.recv(100) == b"HEADBODY"
            finally:
                twin.detach()
                transport.abort()
                await iterations(3)

    run(loop, main())


def test_writer_drained_and_its_descriptor_used_keep_their_order(loop):
    async def main():
        writers = []

        async def serve(reader, writer):
            writers.append(writer)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            client.settimeout(10)
            while not writers:
                await asyncio.sleep(0)
            [writer] = writers
            writer.write(b"HEAD")
            await writer.drain()
            os.write(writer.get_extra_info("socket").fileno(), b"BODY")
            assert client.recv(100) == b"HEADBODY"
            writer.close()
            await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(loop, main())


def test_socket_of_a_transport_that_is_garbage_or_closed_is_closed(loop):
    async def main():
        async with attached() as (transport, protocol, peer):
            sock = transport.get_extra_info("socket")
            assert sock is transport.get_extra_info("socket")
            assert "TransportSocket" in repr(sock)
            transport.write(b"x")
            transport.close()
            await protocol.until_lost()
            await iterations(2)
            assert sock.fileno() == -1
            with pytest.raises(OSError):
                sock.getpeername()

    run(loop, main())


def test_socket_that_outlives_its_transport_is_closed(loop):
    async def main():
        sock, other = socket.socketpair()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=sock)
        kept = transport.get_extra_info("socket")
        gone = weakref.ref(transport)
        transport.abort()
        del transport, sock, _
        await iterations(3)
        gc.collect()
        assert gone() is None
        assert kept.fileno() == -1
        with pytest.raises(OSError):
            kept.getsockname()
        other.close()

    run(loop, main())


def test_connection_that_nobody_has_accepted_is_the_heirs_when_its_server_is_closed(loop):
    async def main():
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        await iterations(3)
        listening = server.sockets[0]
        heir = socket.socket(fileno=os.dup(listening.fileno()))
        address = listening.getsockname()
        await iterations(3)
        clients = [socket.create_connection(address) for _ in range(8)]
        await asyncio.sleep(0)
        server.close()
        await iterations(3)
        heir.settimeout(10)
        for client in clients:
            heir.accept()[0].close()
            client.close()
        heir.close()

    run(loop, main())


def test_connection_that_nobody_has_accepted_is_reset_when_its_server_is_closed(loop):
    async def main():
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        await iterations(3)
        clients = [socket.create_connection(address) for _ in range(4)]
        await asyncio.sleep(0)
        server.close()
        await iterations(2)
        for client in clients:
            client.settimeout(10)
            with client, pytest.raises(ConnectionResetError):
                client.recv(1)

    run(loop, main())


def test_server_whose_descriptor_was_asked_for_goes_on_accepting(loop):
    served = []

    def factory():
        served.append(Recorder())
        return served[-1]

    async def main():
        async with serving(factory) as (server, address):
            for rounds in range(1, 4):
                assert server.sockets[0].fileno() >= 0
                with server.sockets[0].dup() as twin:
                    assert twin.getsockname() == address
                clients = [socket.create_connection(address) for _ in range(5)]
                while len(served) < 5 * rounds:
                    await asyncio.sleep(0)
                for client in clients:
                    client.close()
                for protocol in served:
                    await protocol.until_lost()

    run(loop, main())


SEND_AT_ONCE = """
    import asyncio, os, socket, sys
    import uring_loop

    ours, other = socket.socketpair()
    descriptor = ours.detach()

    async def main():
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(
            asyncio.Protocol, sock=socket.socket(fileno=descriptor))
        transport.write(b"last words")
        other.setblocking(False)
        try:
            print(other.recv(100).decode())
        except BlockingIOError:
            print("nothing yet")
        transport.abort()

    options = {} if sys.argv[1] == "default" else {"send_at_once": sys.argv[1] == "yes"}
    with asyncio.Runner(loop_factory=lambda: uring_loop.EventLoop(**options)) as runner:
        runner.run(main())
"""


@pytest.mark.parametrize(
    ("option", "variable", "said"),
    [
        ("yes", None, "last words"),
        ("default", "1", "last words"),
        ("default", None, "nothing yet"),
        ("default", "0", "nothing yet"),
        ("no", "1", "nothing yet"),
    ],
)
def test_loop_that_sends_at_once_has_each_write_in_the_kernel(loop_kind, option, variable, said):
    if loop_kind == "asyncio":
        pytest.skip("stock asyncio has no such option: it always does")
    environment = {**os.environ}
    environment.pop("URING_LOOP_SEND_AT_ONCE", None)
    if variable is not None:
        environment["URING_LOOP_SEND_AT_ONCE"] = variable
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(SEND_AT_ONCE), option],
        capture_output=True, text=True, env=environment, timeout=60,
    )
    assert (result.stdout.strip(), result.stderr) == (said, "")
