"""Datagram endpoints of a socket whose methods are somebody's own, or that is only like one."""

import socket
import sys

import pytest
from datagram_peers import endpoint, receive_count, udp_socket
from harness import iterations, run


class Scripted(socket.socket):
    """Its methods do what `script` says under their name, once each, before they do their own."""

    def __init__(self):
        super().__init__(socket.AF_INET, socket.SOCK_DGRAM)
        self.script = {}
        self.setblocking(False)
        self.bind(("127.0.0.1", 0))

    def _do(self, name, *args):
        step = self.script.pop(name, None)
        return getattr(super(), name)(*args) if step is None else step(*args)

    def recvfrom(self, *args):
        return self._do("recvfrom", *args)

    def send(self, *args):
        return self._do("send", *args)

    def sendto(self, *args):
        return self._do("sendto", *args)

    def detach(self):
        return self._do("detach")

    def close(self):
        return self._do("close")


def raising(error):
    def step(*args):
        raise error

    return step


@pytest.fixture(params=[False, True], ids=["unconnected", "connected"])
def pair(request):
    """(sock, peer, address, method): what to say to sendto(), and what that calls."""
    sock = Scripted()
    with udp_socket() as peer:
        peer.connect(sock.getsockname())
        if request.param:
            sock.connect(peer.getsockname())
            yield sock, peer, None, "send"
        else:
            yield sock, peer, peer.getsockname(), "sendto"


@pytest.mark.parametrize("error", [BlockingIOError, InterruptedError])
def test_recvfrom_that_would_block_is_asked_again_and_nobody_is_told(loop, pair, error):
    sock, peer, _, _ = pair

    async def main():
        async with endpoint(sock=sock) as (_, protocol):
            sock.script["recvfrom"] = raising(error())
            peer.send(b"data")
            await protocol.until_count(1)
            assert protocol.datagrams == [(b"data", peer.getsockname())]
            assert protocol.errors == []
            assert sock.script == {}

    run(loop, main())


@pytest.mark.parametrize("make", [tuple, list, iter], ids=["tuple", "list", "iterator"])
def test_recvfrom_may_give_any_pair(loop, pair, make):
    sock, peer, _, _ = pair

    async def main():
        async with endpoint(sock=sock) as (_, protocol):
            sock.script["recvfrom"] = lambda size: make([b"data", "address"])
            peer.send(b"real")
            await protocol.until_count(2)
            assert protocol.datagrams == [(b"data", "address"), (b"real", peer.getsockname())]

    run(loop, main())


@pytest.mark.parametrize("answer", [(b"data",), (b"data", 1, 2), 5, None], ids=repr)
def test_recvfrom_that_gives_no_pair_ends_the_endpoint_with_what_unpacking_raises(
    loop, errors, pair, answer
):
    sock, peer, _, _ = pair
    with pytest.raises((TypeError, ValueError)) as caught:
        _, _ = answer

    async def main():
        async with endpoint(sock=sock) as (_, protocol):
            sock.script["recvfrom"] = lambda size: answer
            peer.send(b"data")
            await protocol.until_called("connection_lost")
            assert type(protocol.lost) is caught.type
            (context,) = errors
            assert context["message"] == "Fatal read error on datagram transport"
            assert context["exception"] is protocol.lost
            errors.clear()

    run(loop, main())


@pytest.mark.parametrize("error", [BlockingIOError, InterruptedError])
def test_send_that_would_block_is_tried_again_and_the_order_is_kept(loop, loop_kind, pair, error):
    # Asyncio's of 3.13 never takes off again what it adds for a header.
    counts = loop_kind != "asyncio" or sys.version_info < (3, 13)
    sock, peer, address, method = pair

    async def main():
        async with endpoint(sock=sock) as (transport, protocol):
            sock.script[method] = raising(error())
            transport.sendto(b"first", address)
            assert transport.get_write_buffer_size() >= 5
            transport.sendto(b"second", address)
            assert await receive_count(peer, 2) == [b"first", b"second"]
            assert transport.get_write_buffer_size() == 0 or not counts
            assert protocol.errors == []

    run(loop, main())


def test_send_that_raises_an_error_of_the_system_is_told_and_the_endpoint_goes_on(loop, pair):
    sock, peer, address, method = pair
    failure = OSError("no route today")

    async def main():
        async with endpoint(sock=sock) as (transport, protocol):
            sock.script[method] = raising(failure)
            transport.sendto(b"lost", address)
            assert protocol.errors == [failure]
            transport.sendto(b"sent", address)
            assert await receive_count(peer, 1) == [b"sent"]

    run(loop, main())


def test_send_that_raises_anything_else_ends_the_endpoint(loop, errors, pair):
    sock, _, address, method = pair
    failure = LookupError("not mine")

    async def main():
        async with endpoint(sock=sock) as (transport, protocol):
            sock.script[method] = raising(failure)
            transport.sendto(b"lost", address)
            await protocol.until_called("connection_lost")
            assert protocol.lost is failure
            assert errors.pop()["message"] == "Fatal write error on datagram transport"

    run(loop, main())


# ---- what is only like a socket ----


class Like:
    """All that asyncio asks of a socket, and no detach()."""

    def __init__(self, sock):
        self._sock = sock
        self.type, self.family, self.proto = sock.type, sock.family, sock.proto
        for name in ("recvfrom", "send", "sendto", "fileno", "getsockname", "getpeername"):
            setattr(self, name, getattr(sock, name))
        self.setblocking = sock.setblocking
        self.failure = None

    def close(self):
        self._sock.close()
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_what_is_like_a_socket_talks_and_is_closed_by_its_own_close(loop, ending):
    sock = udp_socket()

    async def main():
        with udp_socket() as peer:
            async with endpoint(sock=Like(sock)) as (transport, protocol):
                peer.sendto(b"to it", sock.getsockname())
                await protocol.until_count(1)
                transport.sendto(b"from it", peer.getsockname())
                assert await receive_count(peer, 1) == [b"from it"]
                getattr(transport, ending)()
                await protocol.until_called("connection_lost")
                await iterations(2)
                assert sock.fileno() == -1

    run(loop, main())


# asyncio's transport then takes itself for open.
@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
def test_close_of_what_is_like_a_socket_that_raises_is_told(loop, errors, monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append(what.exc_value))
    like = Like(udp_socket())
    failure = like.failure = LookupError("closed, and yet")

    async def main():
        async with endpoint(sock=like) as (transport, protocol):
            transport.close()
            await protocol.until_called("connection_lost")
            await iterations(2)
            # asyncio's is a callback that raises; ours has called the protocol in it by then.
            assert [context["exception"] for context in errors] + told == [failure]
            errors.clear()
            assert like.fileno() == -1

    run(loop, main())


# asyncio has made half a transport by then.
@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
def test_protocol_without_connection_made_is_refused_when_the_endpoint_is_made(loop):
    sock = udp_socket()
    with sock, pytest.raises(AttributeError, match="connection_made"):
        run(loop, loop.create_datagram_endpoint(object, sock=sock))
