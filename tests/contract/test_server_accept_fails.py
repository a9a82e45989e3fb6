"""A server that cannot accept, or cannot open what it has accepted: who hears of it, what is left.

Each for the three ways in which a connection comes: opened by the core, with TLS, by the
accept() of somebody's own socket.
"""

import asyncio
import contextlib
import errno
import logging
import socket
from unittest import mock

import pytest
from harness import (
    Peer,
    Recorder,
    descriptors_below,
    iterations,
    oracle_lacks,
    run,
)
from tls_peer import NAME

LEFT_TO_GC = "the accepted socket is left to the garbage collector"


class EchoRecorder(Recorder):
    """Writes back what it gets; all that there are in `made`."""

    made = []

    def __init__(self):
        super().__init__()
        self.made.append(self)

    def data_received(self, data):
        super().data_received(data)
        self.transport.write(data)


@pytest.fixture
def echo():
    """The class, of which there are no instances yet."""
    EchoRecorder.made.clear()
    yield EchoRecorder
    EchoRecorder.made.clear()


class Accepting(socket.socket):
    """Counts what it accepts, and fails as often as it is told to."""

    failures = ()
    accepted = 0

    def accept(self):
        if self.failures:
            raise self.failures.pop()
        found = super().accept()
        self.accepted += 1
        return found


@pytest.fixture(params=["core", "tls", "own accept"])
def way(request, certificates):
    """(a listening socket, what create_server() is given, what a client gives)"""
    is_tls = request.param == "tls"
    kind = Accepting if request.param == "own accept" else socket.socket
    with kind() as sock:
        sock.bind(("127.0.0.1", 0))
        server = {"sock": sock, "ssl": certificates.server() if is_tls else None}
        client = {"ssl": certificates.client(), "server_hostname": NAME} if is_tls else {}
        yield sock, server, client


@pytest.fixture
def accepting():
    with Accepting() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


@contextlib.contextmanager
def no_descriptors():
    """None can be opened, where a loop has been made that accepts already."""
    with socket.socket() as lowest:
        number = lowest.fileno()
    with descriptors_below(number):
        yield


async def until(predicate):
    while not predicate():
        await asyncio.sleep(0)


async def answered(loop, sock, client):
    """Somebody who connects is served."""
    transport, protocol = await loop.create_connection(Recorder, *sock.getsockname(), **client)
    transport.write(b"ping")
    await protocol.until_size(4)
    transport.close()
    await protocol.until_lost()


async def end(server):
    server.close()
    await server.wait_closed()
    for protocol in EchoRecorder.made:
        # One whose client began no TLS has never heard of a connection.
        if protocol.transport is not None:
            await protocol.until_lost()


def test_server_closed_before_it_tries_again_accepts_no_more(
    loop, loop_kind, errors, way, monkeypatch
):
    oracle_lacks(loop_kind, True, "it tries again on a closed socket, and reports that")
    monkeypatch.setattr("uring_loop._internal.server.ACCEPT_RETRY_DELAY", 0.01)
    sock, options, _ = way

    async def main():
        server = await loop.create_server(Recorder, **options)
        with socket.socket() as client:
            with no_descriptors():
                client.connect(sock.getsockname())
                await until(lambda: errors)
            server.close()
            await server.wait_closed()
            # Timers come in the order of their times.
            await asyncio.sleep(0.02)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        assert sock.fileno() == -1

    run(loop, main())
    (context,) = errors
    assert context["message"] == "socket.accept() out of system resource"
    assert context["exception"].errno == errno.EMFILE
    errors.clear()


def test_server_without_a_descriptor_tries_again_and_serves(
    loop, loop_kind, errors, way, monkeypatch, echo
):
    monkeypatch.setattr("uring_loop._internal.server.ACCEPT_RETRY_DELAY", 0.01)
    monkeypatch.setattr("asyncio.constants.ACCEPT_RETRY_DELAY", 0.01)
    sock, options, client = way

    async def main():
        server = await loop.create_server(echo, **options, backlog=1)
        with socket.socket() as first:
            with no_descriptors():
                first.connect(sock.getsockname())
                await until(lambda: errors)
        await answered(loop, sock, client)
        await end(server)

    run(loop, main())
    assert {context["exception"].errno for context in errors} == {errno.EMFILE}
    errors.clear()


def test_factory_raising_closes_the_connection_and_the_next_is_served(
    loop, loop_kind, errors, way, echo
):
    oracle_lacks(loop_kind, True, LEFT_TO_GC)
    sock, options, client = way
    refused = []

    def factory():
        if len(refused) < 2:
            refused.append(True)
            raise LookupError("no more of these")
        return echo()

    async def main():
        server = await loop.create_server(factory, **options)
        for debug in (False, True):
            loop.set_debug(debug)
            peer = Peer(socket.create_connection(sock.getsockname()))
            assert await peer.recv() == b""
            peer.close()
        loop.set_debug(False)
        await answered(loop, sock, client)
        await end(server)

    loop.slow_callback_duration = 60
    run(loop, main())
    # Only debug mode tells.
    (context,) = errors
    assert context["message"] == "Error on transport creation for incoming connection"
    assert isinstance(context["exception"], LookupError)
    assert not context.keys() & {"protocol", "transport"}
    errors.clear()


def test_tls_server_whose_task_factory_fails_reports_and_resets_the_connection(
    loop, loop_kind, errors, certificates
):
    oracle_lacks(loop_kind, True, LEFT_TO_GC)

    def refuse(*arguments, **options):
        raise LookupError("no more tasks")

    async def main():
        server = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=certificates.server())
        peer = Peer(socket.create_connection(server.sockets[0].getsockname()))
        loop.set_task_factory(refuse)
        await until(lambda: errors)
        loop.set_task_factory(None)
        # It was never begun to serve.
        assert await peer.recv() == b""
        peer.close()
        await end(server)
        await iterations(3)

    run(loop, main())
    (context,) = errors
    assert isinstance(context["exception"], LookupError)
    errors.clear()


def test_tls_server_whose_task_factory_is_interrupted_ends_the_run(loop, loop_kind, certificates):
    oracle_lacks(loop_kind, True, LEFT_TO_GC)

    def interrupt(*arguments, **options):
        loop.set_task_factory(None)
        raise KeyboardInterrupt

    async def start():
        return await loop.create_server(Recorder, "127.0.0.1", 0, ssl=certificates.server())

    server = run(loop, start())
    with socket.create_connection(server.sockets[0].getsockname()) as client:
        loop.set_task_factory(interrupt)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        run(loop, end(server))
        assert client.recv(1) == b""


# ---- the accept() of somebody's own socket ----------------------------------------------


def test_own_accept_failing_otherwise_is_reported_and_the_server_goes_on(
    loop, errors, accepting, echo
):
    accepting.failures = [OSError(errno.EPERM, "not this one")]

    async def main():
        server = await loop.create_server(echo, sock=accepting)
        await answered(loop, accepting, {})
        await end(server)

    run(loop, main())
    (context,) = errors
    assert context["exception"].errno == errno.EPERM
    errors.clear()


def test_own_accept_takes_no_more_in_a_turn_than_the_backlog(loop, accepting, echo):
    async def main():
        server = await loop.create_server(echo, sock=accepting, backlog=2, start_serving=False)
        accepting.listen(10)
        clients = [socket.create_connection(accepting.getsockname()) for _ in range(5)]
        counts = []
        await server.start_serving()
        while accepting.accepted < 5:
            await asyncio.sleep(0)
            counts.append(accepting.accepted)
        await until(lambda: len(echo.made) == 5)
        for client in clients:
            client.close()
        await end(server)
        return counts

    counts = run(loop, main())
    assert sorted(set(counts) - {0}) == [2, 4, 5]


def test_own_accept_in_debug_mode_is_logged(loop, accepting, caplog, echo):
    loop.set_debug(True)
    loop.slow_callback_duration = 60

    async def main():
        server = await loop.create_server(echo, sock=accepting)
        await answered(loop, accepting, {})
        await end(server)

    with caplog.at_level(logging.DEBUG, "asyncio"):
        run(loop, main())
    texts = [record.getMessage() for record in caplog.records]
    assert sum("got a new connection from ('127.0.0.1'," in text for text in texts) == 1


def test_own_accept_whose_socket_is_shared_serves_on(loop, echo):
    accepted = []

    def accept(sock, original=socket.socket.accept):
        accepted.append(sock)
        return original(sock)

    async def main():
        with mock.patch.object(socket.socket, "accept", accept):
            server = await loop.create_server(echo, "127.0.0.1", 0)
            with server.sockets[0].dup() as other:
                await answered(loop, other, {})
            await end(server)

    run(loop, main())
    assert accepted
