"""What a server does when things go wrong, and what is left of it."""

import asyncio
import contextlib
import gc
import os
import socket
import sys
import weakref

import pytest
from harness import (
    Echo,
    Peer,
    Recorder,
    descriptors_below,
    iterations,
    oracle_lacks,
    resource_warning,
    run,
    serving,
)


def no_descriptors():
    """The process can open no descriptor more."""
    lowest = os.dup(0)
    os.close(lowest)
    return descriptors_below(lowest)


@contextlib.contextmanager
def other_listener_instead(mine):
    """Close a listening socket, whose number is another's then: the one this gives.

    At the end that one takes a connection, which whoever knew the number has left to it.
    """
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.setblocking(False)
        number = mine.fileno()
        mine.close()
        os.dup2(other.fileno(), number)
        yield other
        taken, _ = other.accept()
        taken.close()
        os.close(number)


async def answered(address):
    peer = Peer(socket.create_connection(address))
    await peer.send_all(b"ping")
    assert await peer.recv_exactly(4) == b"ping"
    peer.close()


def test_serve_forever_cancelled_closes_the_clients_too(loop, loop_kind):
    oracle_lacks(
        loop_kind,
        (3, 12) <= sys.version_info < (3, 14),
        "some patch releases wait for clients that never leave",
    )

    async def main():
        protocol = Recorder()
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        serving_forever = loop.create_task(server.serve_forever())
        client = Peer(socket.create_connection(server.sockets[0].getsockname()))
        await protocol.until_called("connection_made")
        serving_forever.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving_forever
        assert server.sockets == ()
        assert not server.is_serving()
        if sys.version_info >= (3, 12):
            assert await client.recv() == b""
            assert protocol.names == ["connection_made", "connection_lost"]
        client.close()
        await protocol.until_lost()

    run(loop, main())


def test_serve_forever_ended_by_close_raises_cancelled(loop):
    async def main():
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        task = loop.create_task(server.serve_forever())
        await iterations(2)
        server.close()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.wait_closed()

    run(loop, main())


def test_server_closed_inside_connection_made_keeps_that_connection(loop):
    class Closing(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            server.close()

    protocol = Closing()
    server = None

    async def main():
        nonlocal server
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        client = Peer(socket.create_connection(server.sockets[0].getsockname()))
        await client.send_all(b"hello")
        await protocol.until_size(5)
        client.close()
        await protocol.until_lost()
        await server.wait_closed()

    run(loop, main())


def test_server_closed_inside_its_protocol_factory_harms_nobody(loop, loop_kind):
    oracle_lacks(loop_kind, True, "the accepted socket is left to the garbage collector")

    async def main():
        def factory():
            server.close()
            return Recorder()

        server = await loop.create_server(factory, "127.0.0.1", 0)
        client = Peer(socket.create_connection(server.sockets[0].getsockname()))
        assert await client.recv() == b""
        client.close()
        await server.wait_closed()

    run(loop, main())


@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt])
def test_server_factory_raising_what_ends_programs_ends_the_loop(loop, loop_kind, exception):
    oracle_lacks(loop_kind, True, "the accepted socket is left to the garbage collector")
    inner = []

    def factory():
        if not inner:
            inner.append(exception)
            raise exception
        return Echo()

    async def start():
        return await loop.create_server(factory, "127.0.0.1", 0)

    server = loop.run_until_complete(start())
    address = server.sockets[0].getsockname()
    client = socket.create_connection(address)
    with pytest.raises(exception):
        loop.run_forever()
    client.close()

    async def rest():
        await answered(address)
        server.close()
        await iterations(3)
        await server.wait_closed()

    run(loop, rest())


@pytest.mark.parametrize("exception", [LookupError, asyncio.CancelledError, GeneratorExit])
def test_server_factory_raising_anything_else_is_told_in_debug_mode_only(
    loop, loop_kind, errors, exception
):
    oracle_lacks(loop_kind, True, "the accepted socket is left to the garbage collector")
    loop.slow_callback_duration = 60

    async def main():
        def factory():
            raise exception

        server = await loop.create_server(factory, "127.0.0.1", 0)
        for debug in (False, True):
            loop.set_debug(debug)
            client = Peer(socket.create_connection(server.sockets[0].getsockname()))
            assert await client.recv() == b""
            client.close()
        server.close()
        await server.wait_closed()

    run(loop, main())
    (context,) = errors
    assert isinstance(context["exception"], exception)
    errors.clear()


def test_server_whose_socket_was_shut_down_reports_once_and_does_not_spin(loop, loop_kind, errors):
    oracle_lacks(loop_kind, True, "reports it in every iteration")

    async def main():
        async with serving(Echo) as (server, address):
            await answered(address)
            server.sockets[0]._sock.shutdown(socket.SHUT_RDWR)
            while not errors:
                await asyncio.sleep(0)
            await iterations(20)

    run(loop, main())
    (context,) = errors
    assert context["message"] == "socket.accept() failed"
    assert isinstance(context["exception"], OSError)
    errors.clear()


def test_server_clients_that_reset_before_they_are_accepted_are_no_error(loop):
    async def main():
        async with serving(Echo, start_serving=False) as (server, address):
            sock = server.sockets[0]._sock
            sock.listen(100)
            for _ in range(10):
                Peer(socket.create_connection(address)).reset()
            kept = Peer(socket.create_connection(address))
            await server.start_serving()
            await kept.send_all(b"ping")
            assert await kept.recv_exactly(4) == b"ping"
            kept.close()

    run(loop, main())


def test_server_knows_the_address_of_a_client_that_has_reset(loop):
    async def main():
        names = loop.create_future()

        class Client(asyncio.Protocol):
            def connection_made(self, transport):
                names.set_result(transport.get_extra_info("peername"))
                transport.abort()

        async with serving(Client) as (_, address):
            peer = socket.create_connection(address)
            expected = peer.getsockname()
            Peer(peer).reset()
            assert await names == expected

    run(loop, main())


def test_listening_socket_closed_under_its_server_takes_no_connection_of_others(
    loop, loop_kind, errors
):
    """Its number may be another listener's by then."""

    async def main():
        mine = socket.create_server(("127.0.0.1", 0))
        server = await loop.create_server(Recorder, sock=mine)
        await iterations(2)
        address = mine.getsockname()
        with other_listener_instead(mine) as other, socket.socket() as probe:
            # On io_uring the kernel still has the first one, and takes a last connection.
            probe.setblocking(False)
            probe.connect_ex(address)
            client = socket.create_connection(other.getsockname())
            await iterations(10)
        client.close()
        if loop_kind != "asyncio":
            server.close()

    run(loop, main())
    errors.clear()


def refusals(errors, kind):
    return sum(isinstance(error["exception"], kind) for error in errors)


def test_server_that_tries_again_finds_its_socket_closed_and_says_so(
    loop, loop_kind, errors, monkeypatch
):
    monkeypatch.setattr("uring_loop._internal.server.ACCEPT_RETRY_DELAY", 0.01)
    monkeypatch.setattr("asyncio.constants.ACCEPT_RETRY_DELAY", 0.01)

    async def main():
        mine = socket.create_server(("127.0.0.1", 0))
        client = socket.socket()
        server = await loop.create_server(Recorder, sock=mine)
        with no_descriptors():
            client.connect(mine.getsockname())
            while not errors:
                await asyncio.sleep(0)
        with other_listener_instead(mine) as other:
            late = socket.create_connection(other.getsockname())
            # asyncio has asked until the backlog was through, and tries again for each refusal.
            while refusals(errors, ValueError) < refusals(errors, OSError):
                await asyncio.sleep(0.001)
        for sock in (late, client):
            sock.close()
        if loop_kind != "asyncio":
            server.close()

    run(loop, main())
    errors.clear()


def test_connection_that_fails_after_its_socket_was_asked_for_is_closed_once(
    loop, loop_kind, errors
):
    """Or whoever gets the number in between finds it closed."""
    oracle_lacks(loop_kind, True, "it leaves the socket to the garbage collector")
    strangers, numbers = [], []

    class Failing(asyncio.Protocol):
        @property
        def connection_made(self):
            for transport in server._clients:
                numbers.append(transport.get_extra_info("socket").fileno())
            raise AttributeError("no connection is wanted")

    async def main():
        nonlocal server
        server = await loop.create_server(Failing, "127.0.0.1", 0)
        loop.set_exception_handler(
            lambda loop, context: strangers.append(os.open(os.devnull, os.O_RDONLY))
        )
        loop.set_debug(True)
        with socket.create_connection(server.sockets[0].getsockname()):
            while not strangers:
                await asyncio.sleep(0)
            await iterations(3)
        gc.collect()
        # The stranger has got that number, and still has it.
        assert strangers == numbers
        for number in strangers:
            os.close(number)
        server.close()

    server = None
    run(loop, main())


def test_wait_closed_of_a_closed_server_answers_at_once_and_its_address_is_free(loop):
    async def main():
        for _ in range(10):
            server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            await iterations(1)
            server.close()
            waiting = server.wait_closed()
            with pytest.raises(StopIteration):
                waiting.send(None)
            with socket.socket() as another:
                another.bind(address)

    run(loop, main())


def test_server_closed_and_dropped_is_collected(loop):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        await answered(server.sockets[0].getsockname())
        server.close()
        await iterations(3)
        await server.wait_closed()
        return weakref.ref(server)

    reference = run(loop, main())
    run(loop, iterations(3))
    gc.collect()
    assert reference() is None


def test_server_forgotten_with_its_loop_warns_of_its_sockets(make_unwatched_loop):
    loop = make_unwatched_loop()

    async def main():
        return await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)

    server = loop.run_until_complete(main())
    with resource_warning("unclosed <socket.socket"):
        loop.close()
        del loop, server
        gc.collect()


async def with_a_paused_client(loop):
    """(a server, its client, a list that alone refers to the client's transport)."""
    made = []

    class Paused(asyncio.Protocol):
        def connection_made(self, transport):
            transport.pause_reading()
            made.append(transport)

    server = await loop.create_server(Paused, "127.0.0.1", 0)
    client = Peer(socket.create_connection(server.sockets[0].getsockname()))
    while not made:
        await asyncio.sleep(0)
    await iterations(3)
    return server, client, made


def test_server_refers_to_its_clients_weakly(loop, loop_kind):
    """A connection that everybody has forgotten must be found out, server or not."""
    oracle_lacks(loop_kind, sys.version_info < (3, 13), "never counts a client that was forgotten")

    async def main():
        server, client, made = await with_a_paused_client(loop)
        with resource_warning("unclosed transport <"):
            made.clear()
            gc.collect()
        server.close()
        await iterations(3)
        await server.wait_closed()
        client.close()

    run(loop, main())


def test_wait_closed_before_and_after_close_with_clients(loop, loop_kind):
    async def main():
        protocol = Recorder()
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        client = Peer(socket.create_connection(server.sockets[0].getsockname()))
        await protocol.until_called("connection_made")
        early = loop.create_task(server.wait_closed())
        await iterations(2)
        server.close()
        late = loop.create_task(server.wait_closed())
        await iterations(3)
        assert not early.done()
        # Until 3.12 asyncio did not wait for the clients of a server that was closed already.
        assert late.done() is (sys.version_info < (3, 12))
        client.close()
        await early
        await late
        await protocol.until_lost()

    run(loop, main())


def test_wait_closed_cancelled_leaves_the_others_waiting(loop):
    async def main():
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        first, second = (loop.create_task(server.wait_closed()) for _ in range(2))
        await iterations(2)
        # And the server ends before the task has heard of it.
        first.cancel()
        server.close()
        await second
        with pytest.raises(asyncio.CancelledError):
            await first

    run(loop, main())


def test_last_client_forgotten_in_another_thread_ends_wait_closed(loop, loop_kind):
    oracle_lacks(loop_kind, True, "never counts a client that was forgotten")

    async def main():
        server, client, made = await with_a_paused_client(loop)
        closed = loop.create_task(server.wait_closed())
        await iterations(2)
        server.close()
        await iterations(3)
        assert not closed.done()
        with resource_warning("unclosed transport <"):
            await loop.run_in_executor(None, made.clear)
        await closed
        client.close()

    run(loop, main())


def test_start_serving_of_a_closed_server_raises(loop, loop_kind):
    oracle_lacks(loop_kind, True, "it stumbles over having no sockets, and says that it serves")

    async def main():
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        server.close()
        with pytest.raises(RuntimeError, match="^server <Server sockets=\\(\\)> is closed$"):
            await server.start_serving()
        assert not server.is_serving()

    run(loop, main())


def test_server_async_with_waits_for_its_clients(loop, loop_kind):
    async def main():
        protocol = Recorder()
        async with await loop.create_server(lambda: protocol, "127.0.0.1", 0) as server:
            client = Peer(socket.create_connection(server.sockets[0].getsockname()))
            await protocol.until_called("connection_made")
            loop.call_later(0.01, client.close)
        if sys.version_info >= (3, 12):
            assert protocol.calls[-1] == "connection_lost"
        await protocol.until_lost()

    run(loop, main())


def test_server_debug_mode_logs_serving_and_each_connection(loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 60

    async def main():
        async with serving(Echo) as (server, address):
            await answered(address)

    with caplog.at_level("DEBUG", "asyncio"):
        run(loop, main())
    texts = [record.getMessage() for record in caplog.records]
    assert sum("is serving" in text for text in texts) == 1
    assert sum("got a new connection from" in text for text in texts) == 1
