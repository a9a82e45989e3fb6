"""The order of a protocol's callbacks, and what a transport says about itself."""

import asyncio
import gc
import os
import socket

import pytest
from harness import (
    PAIRS,
    BufferedRecorder,
    Peer,
    Recorder,
    attached,
    iterations,
    resource_warning,
    run,
    serving,
    tcp_pair,
)


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]


def test_transport_callbacks_come_in_order(loop, pair):
    async def main():
        async with attached(pair=pair) as (_, protocol, peer):
            await peer.send_all(b"data")
            peer.close()
            await protocol.until_lost()
            assert protocol.names == [
                "connection_made",
                "data_received",
                "eof_received",
                "connection_lost",
            ]
            assert protocol.lost is None
            assert protocol.data == b"data"

    run(loop, main())


def test_transport_data_sent_before_it_exists_comes_after_connection_made(loop, pair):
    async def main():
        sock, other = pair()
        other.sendall(b"early")
        other.close()
        protocol = Recorder()
        await loop.create_connection(lambda: protocol, sock=sock)
        await protocol.until_lost()
        assert protocol.names == [
            "connection_made",
            "data_received",
            "eof_received",
            "connection_lost",
        ]
        assert protocol.data == b"early"

    run(loop, main())


def test_transport_peer_sends_nothing_and_closes_gives_eof_then_lost(loop, pair):
    async def main():
        async with attached(pair=pair) as (_, protocol, peer):
            peer.close()
            await protocol.until_lost()
            assert protocol.calls == ["connection_made", "eof_received", "connection_lost"]
            assert protocol.lost is None

    run(loop, main())


def test_transport_callbacks_are_never_nested(loop):
    """No callback runs inside another, whatever a protocol does in it."""

    class Busy(Recorder):
        inside = 0

        def _note(self, name):
            assert self.inside == 0, f"{name} inside another callback"
            super()._note(name)

        def data_received(self, data):
            super().data_received(data)
            self.inside += 1
            self.transport.write(b"x")
            self.transport.pause_reading()
            self.transport.resume_reading()
            if len(self.data) >= 3:
                self.transport.close()
                self.transport.abort()
            self.inside -= 1

    async def main():
        async with attached(Busy()) as (_, protocol, peer):
            for size in (1, 2, 3):
                await peer.send_all(b"x")
                await protocol.until_size(size)
            await protocol.until_lost()

    run(loop, main())


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
def test_transport_bytes_come_complete_and_in_order(loop, pair, kind):
    async def main():
        blob = os.urandom(3 << 20)
        async with attached(kind(), pair) as (_, protocol, peer):
            await peer.send_all(blob)
            await protocol.until_size(len(blob))
            assert protocol.data == blob

    run(loop, main())


def test_transport_eof_received_false_closes_the_transport(loop, pair):
    async def main():
        async with attached(Recorder(keep_open=False), pair) as (transport, protocol, peer):
            peer.sock.shutdown(socket.SHUT_WR)
            await protocol.until_lost()
            assert protocol.calls == ["connection_made", "eof_received", "connection_lost"]
            assert transport.is_closing()
            assert await peer.recv() == b""

    run(loop, main())


def test_transport_eof_received_false_flushes_what_was_written(loop, pair):
    size = 4 << 20

    class Answering(Recorder):
        def eof_received(self):
            self.transport.write(bytes(size))
            return super().eof_received()

    async def main():
        async with attached(Answering(), pair) as (_, protocol, peer):
            peer.sock.shutdown(socket.SHUT_WR)
            assert len(await peer.recv_all()) == size
            await protocol.until_lost()
            assert protocol.lost is None

    run(loop, main())


def test_transport_eof_received_true_keeps_the_write_side(loop, pair):
    async def main():
        async with attached(Recorder(keep_open=True), pair) as (transport, protocol, peer):
            await peer.send_all(b"question")
            peer.sock.shutdown(socket.SHUT_WR)
            await protocol.until_called("eof_received")
            assert not transport.is_closing()
            await iterations(5)
            assert protocol.calls.count("eof_received") == 1
            transport.write(b"answer")
            assert await peer.recv_exactly(6) == b"answer"
            transport.close()
            await protocol.until_lost()
            assert await peer.recv() == b""
            assert protocol.names == [
                "connection_made",
                "data_received",
                "eof_received",
                "connection_lost",
            ]

    run(loop, main())


def test_transport_extra_info_of_tcp(loop):
    async def main():
        async with attached() as (transport, _, peer):
            assert transport.get_extra_info("peername") == peer.sock.getsockname()
            assert transport.get_extra_info("sockname") == peer.sock.getpeername()
            sock = transport.get_extra_info("socket")
            assert isinstance(sock, asyncio.trsock.TransportSocket)
            assert sock.family == socket.AF_INET
            assert sock.type == socket.SOCK_STREAM
            assert sock.fileno() >= 0
            assert sock.getsockname() == peer.sock.getpeername()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert transport.get_extra_info("sslcontext") is None
            assert transport.get_extra_info("unknown") is None
            assert transport.get_extra_info("unknown", "default") == "default"
            assert transport.get_extra_info("peername", "default") == peer.sock.getsockname()

    run(loop, main())


def test_transport_extra_info_of_a_server_side_has_all_three(loop):
    async def main():
        made = loop.create_future()

        class Server(Recorder):
            def connection_made(self, transport):
                made.set_result([transport.get_extra_info(n) for n in names])

        names = ("socket", "sockname", "peername")
        async with serving(Server) as (_, address):
            client = Peer(socket.create_connection(address))
            sock, sockname, peername = await made
            assert sockname == address
            assert peername == client.sock.getsockname()
            assert sock.getsockname() == address
            client.close()

    run(loop, main())


def test_transport_extra_info_stays_after_close(loop):
    async def main():
        async with attached() as (transport, protocol, peer):
            names = peer.sock.getpeername(), peer.sock.getsockname()
            transport.close()
            await protocol.until_lost()
            assert transport.get_extra_info("sockname") == names[0]
            assert transport.get_extra_info("peername") == names[1]
            await iterations(2)
            assert transport.get_extra_info("socket").fileno() == -1

    run(loop, main())


def test_transport_socket_first_asked_for_after_close_is_a_closed_one(loop):
    async def main():
        async with attached() as (transport, protocol, _):
            transport.close()
            await protocol.until_lost()
            await iterations(2)
            sock = transport.get_extra_info("socket")
            assert isinstance(sock, asyncio.trsock.TransportSocket)
            assert sock.fileno() == -1

    run(loop, main())


def test_transport_is_the_kind_of_object_asyncio_makes(loop):
    async def main():
        async with attached() as (transport, protocol, _):
            assert isinstance(transport, asyncio.Transport)
            assert transport.can_write_eof() is True
            assert transport.is_closing() is False
            assert transport.is_reading() is True
            assert transport.get_protocol() is protocol
            assert transport.get_write_buffer_size() == 0
            assert hash(transport) is not None
            assert transport == transport

    run(loop, main())


def test_transport_repr_tells_that_writing_waits_for_room(loop):
    async def main():
        async with attached() as (transport, _, _peer):
            assert "write=<idle, bufsize=0>" in repr(transport)
            transport.write(bytes(64 << 20))
            queued = transport.get_write_buffer_size()
            assert queued > 0
            assert f"write=<polling, bufsize={queued}>" in repr(transport)

    run(loop, main())


def test_transport_repr_tells_descriptor_and_state(loop):
    async def main():
        async with attached() as (transport, protocol, _):
            fd = transport.get_extra_info("socket").fileno()
            assert f"fd={fd}" in repr(transport)
            transport.close()
            assert "closing" in repr(transport) or "closed" in repr(transport)
            await protocol.until_lost()
            await iterations(2)
            assert "closed" in repr(transport)

    run(loop, main())


def test_transport_protocol_without_eof_received_of_its_own_closes_at_eof(loop):
    async def main():
        class Minimal(asyncio.Protocol):
            def __init__(self):
                self.lost = loop.create_future()

            def connection_lost(self, exc):
                self.lost.set_result(exc)

        protocol = Minimal()
        sock, other = tcp_pair()
        await loop.create_connection(lambda: protocol, sock=sock)
        other.sendall(b"ignored")
        other.close()
        assert await protocol.lost is None

    run(loop, main())


def test_transport_protocol_without_base_class_works(loop):
    """asyncio calls the methods; it does not ask for a base class."""

    async def main():
        calls = []
        lost = loop.create_future()

        class Plain:
            def connection_made(self, transport):
                calls.append("connection_made")

            def data_received(self, data):
                calls.append(data)

            def eof_received(self):
                calls.append("eof_received")

            def connection_lost(self, exc):
                lost.set_result(exc)

        sock, other = tcp_pair()
        await loop.create_connection(Plain, sock=sock)
        other.sendall(b"data")
        other.close()
        assert await lost is None
        assert calls == ["connection_made", b"data", "eof_received"]

    run(loop, main())


def test_transport_unclosed_and_collected_warns_and_closes_the_socket(loop):
    async def main():
        sock, other = tcp_pair()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=sock)
        transport.pause_reading()
        await iterations(2)
        del sock
        with resource_warning("unclosed transport <"):
            del transport
        peer = Peer(other)
        assert await peer.recv() == b""
        peer.close()

    run(loop, main())


def test_transport_of_a_closed_loop_collected_warns(make_loop):
    loop = make_loop()

    async def main():
        sock, other = tcp_pair()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=sock)
        return transport, other

    transport, other = loop.run_until_complete(main())
    loop.close()
    with resource_warning("unclosed transport <"):
        del transport
    other.close()


def test_transport_reading_server_side_keeps_itself_alive(loop):
    """Nobody refers to an accepted transport but the loop."""
    async def main():
        lost = loop.create_future()

        class Server(asyncio.Protocol):
            def connection_lost(self, exc):
                lost.set_result(exc)

        server = await loop.create_server(Server, "127.0.0.1", 0)
        client = Peer(socket.create_connection(server.sockets[0].getsockname()))
        await iterations(5)
        gc.collect()
        await iterations(2)
        assert not lost.done()
        client.close()
        await lost
        server.close()
        await server.wait_closed()

    run(loop, main())


def test_descriptor_of_a_transport_is_refused_by_add_reader(loop, loop_kind):
    async def main():
        async with attached() as (transport, _, _peer):
            sock = transport.get_extra_info("socket")
            for method in ("add_reader", "add_writer", "remove_reader", "remove_writer"):
                arguments = (print,) if method.startswith("add") else ()
                for descriptor in (sock.fileno(), sock):
                    with pytest.raises(RuntimeError, match="is used by transport"):
                        getattr(loop, method)(descriptor, *arguments)

    run(loop, main())


def test_descriptor_of_a_closed_transport_may_be_watched_again(loop):
    async def main():
        async with attached() as (transport, protocol, peer):
            fd = transport.get_extra_info("socket").fileno()
            transport.close()
            await protocol.until_lost()
            await iterations(2)
            one, other = socket.socketpair()
            if fd == other.fileno():
                one, other = other, one
            elif fd != one.fileno():
                os.dup2(one.fileno(), fd)
                one.close()
                one = socket.socket(fileno=fd)
            ready = loop.create_future()
            loop.add_reader(fd, lambda: ready.done() or ready.set_result(None))
            other.send(b"x")
            await ready
            assert loop.remove_reader(fd) is True
            one.close()
            other.close()

    run(loop, main())


def test_transport_sock_of_blocking_mode_is_made_nonblocking(loop):
    async def main():
        sock, other = tcp_pair()
        sock.setblocking(True)
        transport, protocol = await loop.create_connection(Recorder, sock=sock)
        assert os.get_blocking(sock.fileno()) is False
        transport.abort()
        await protocol.until_lost()
        other.close()

    run(loop, main())
