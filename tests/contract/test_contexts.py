"""Which contextvars context each kind of callback runs in."""

import asyncio
import contextvars
import ctypes
import gc
import os
import signal
import socket
import sys
import threading
import weakref

import pytest
from harness import Peer, Recorder, iterations, oracle_lacks, run

variable = contextvars.ContextVar("variable", default="unset")


def context_of(value):
    context = contextvars.copy_context()
    context.run(variable.set, value)
    return context


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_callback_given_a_context_runs_in_it(loop, method):
    seen = []
    context = context_of("given")

    def callback():
        seen.append(variable.get())
        variable.set("changed")

    arguments = (0,) if method in ("call_later", "call_at") else ()
    getattr(loop, method)(*arguments, callback, context=context)
    run(loop, iterations(2))
    assert seen == ["given"]
    assert context[variable] == "changed"
    assert variable.get() == "unset"


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_callback_without_a_context_runs_in_a_copy_of_the_callers(loop, method):
    seen = []

    def schedule():
        variable.set("of the caller")
        arguments = (0,) if method in ("call_later", "call_at") else ()
        getattr(loop, method)(*arguments, callback)
        variable.set("changed after scheduling")

    def callback():
        seen.append(variable.get())
        variable.set("changed inside")

    contextvars.copy_context().run(schedule)
    run(loop, iterations(2))
    assert seen == ["of the caller"]
    assert variable.get() == "unset"


def test_callbacks_of_one_caller_have_separate_copies(loop):
    seen = []

    def callback(value):
        seen.append(variable.get())
        variable.set(value)

    loop.call_soon(callback, "one")
    loop.call_soon(callback, "two")
    run(loop, iterations(1))
    assert seen == ["unset", "unset"]


def test_callback_context_none_means_a_copy(loop):
    seen = []
    loop.call_soon(lambda: seen.append(variable.get()), context=None)
    loop.call_later(0, lambda: seen.append(variable.get()), context=None)
    run(loop, iterations(2))
    assert seen == ["unset", "unset"]


def test_callback_context_of_a_wrong_type_reaches_handler_or_raises(loop, errors):
    try:
        loop.call_soon(print, context=5)
    except TypeError:
        return
    run(loop, iterations(1))
    assert isinstance(errors.pop()["exception"], (TypeError, AttributeError))


@pytest.mark.parametrize("direction", ["reader", "writer"])
def test_watcher_runs_in_a_copy_of_the_context_of_add(loop, direction):
    async def main():
        one, other = socket.socketpair()
        other.send(b"x")
        seen = []
        done = loop.create_future()

        def ready():
            seen.append(variable.get())
            variable.set("changed inside")
            if len(seen) == 2:
                getattr(loop, f"remove_{direction}")(one)
                done.set_result(None)

        add = getattr(loop, f"add_{direction}")
        context_of("of the caller").run(add, one, ready)
        await done
        one.close()
        other.close()
        return seen

    # One handle, hence one copy, serves every event.
    assert run(loop, main()) == ["of the caller", "changed inside"]


def test_signal_handler_runs_in_the_context_of_add(loop):
    async def main():
        seen = []
        done = asyncio.Event()

        def handler():
            seen.append(variable.get())
            done.set()

        context_of("of the caller").run(loop.add_signal_handler, signal.SIGUSR1, handler)
        os.kill(os.getpid(), signal.SIGUSR1)
        await done.wait()
        loop.remove_signal_handler(signal.SIGUSR1)
        return seen

    assert run(loop, main()) == ["of the caller"]


class ContextRecorder(Recorder):
    """Notes the variable at every callback."""

    def __init__(self):
        super().__init__()
        self.values = {}

    def _note(self, name):
        self.values.setdefault(name, []).append(variable.get())
        super()._note(name)


def test_protocol_callbacks_run_in_the_context_that_made_the_connection(loop):
    """Every callback but the flow control of the writer's own write() call."""

    async def main():
        sock, other = socket.socketpair()
        peer = Peer(other)
        protocol = ContextRecorder()

        async def connect():
            variable.set("of the maker")
            transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
            return transport

        transport = await loop.create_task(connect())
        variable.set("of somebody else")
        await peer.send_all(b"data")
        await protocol.until_called("data_received")
        transport.write(bytes(8 << 20))
        await peer.recv_exactly(8 << 20)
        await protocol.until_called("resume_writing")
        other.shutdown(socket.SHUT_WR)
        await protocol.until_lost()
        peer.close()
        return protocol.values

    values = run(loop, main())
    assert values.keys() == {
        "connection_made",
        "data_received",
        "pause_writing",
        "resume_writing",
        "eof_received",
        "connection_lost",
    }
    for name in ("connection_made", "data_received", "eof_received", "connection_lost"):
        assert set(values[name]) == {"of the maker"}, name


def test_protocol_paused_and_resumed_reading_gets_data_in_the_context_of_resume(loop):
    """asyncio registers the reader anew in resume_reading(), with the context of that moment."""

    async def main():
        sock, other = socket.socketpair()
        peer = Peer(other)
        protocol = ContextRecorder()
        variable.set("of the maker")
        transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
        transport.pause_reading()
        await peer.send_all(b"data")
        transport.resume_reading()
        await protocol.until_called("data_received")
        transport.abort()
        await protocol.until_lost()
        peer.close()
        return protocol.values["data_received"]

    assert run(loop, main()) == ["of the maker"]


def test_protocol_of_a_server_has_the_context_of_the_server(loop):
    async def main():
        protocols = []

        def factory():
            protocols.append(ContextRecorder())
            return protocols[-1]

        async def start():
            variable.set("of the server")
            return await loop.create_server(factory, "127.0.0.1", 0)

        server = await loop.create_task(start())
        variable.set("of the client")
        client = Peer(socket.create_connection(server.sockets[0].getsockname()))
        await client.send_all(b"data")
        client.close()
        while not protocols:
            await asyncio.sleep(0)
        await protocols[0].until_lost()
        server.close()
        await server.wait_closed()
        return protocols[0].values

    values = run(loop, main())
    for name in ("connection_made", "data_received", "eof_received", "connection_lost"):
        assert set(values[name]) == {"of the server"}, name


def test_future_done_callback_runs_in_the_context_of_add(loop):
    async def main():
        seen = []
        future = loop.create_future()
        future.add_done_callback(lambda _: seen.append(variable.get()), context=context_of("given"))
        future.set_result(None)
        await iterations(1)
        return seen

    assert run(loop, main()) == ["given"]


class Trail(Recorder):
    """Leaves its own mark in the context at each call, after noting what it finds there."""

    def __init__(self):
        self.trail = []
        self._mark("F")
        super().__init__()

    def _mark(self, letter):
        self.trail.append(letter + variable.get())
        variable.set(variable.get() + letter)

    def connection_made(self, transport):
        self._mark("M")
        super().connection_made(transport)

    def data_received(self, data):
        self._mark("D")
        super().data_received(data)

    def connection_lost(self, exc):
        self._mark("L")
        super().connection_lost(exc)


# Since 3.15 all of a connection runs in one context; the factory's is not a client's.
ONE_CONTEXT = sys.version_info >= (3, 15)


def test_connection_of_a_client_runs_in_the_contexts_that_asyncio_gives_it(loop):
    async def main():
        one, other = socket.socketpair()
        with other:
            variable.set("a")
            transport, protocol = await loop.create_connection(Trail, sock=one)
            assert variable.get() == "aF"
            variable.set("b")
            other.send(b"1")
            await protocol.until_size(1)
            transport.close()
            await protocol.until_lost()
        return protocol.trail

    expected = ["Fa", "Ma", "DaM", "LaMD"] if ONE_CONTEXT else ["Fa", "MaF", "DaF", "Lb"]
    assert run(loop, main()) == expected


def test_connection_of_a_server_runs_in_the_contexts_that_asyncio_gives_it(loop):
    protocols = []

    def factory():
        protocols.append(Trail())
        return protocols[-1]

    async def main():
        variable.set("a")
        server = await loop.create_server(factory, "127.0.0.1", 0, start_serving=False)
        variable.set("b")
        await server.start_serving()
        variable.set("c")
        client, _ = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        client.write(b"1")
        while not protocols:
            await asyncio.sleep(0)
        await protocols[0].until_size(1)
        client.close()
        await protocols[0].until_lost()
        server.close()
        return protocols[0].trail

    expected = ["Fa", "MaF", "DaFM", "LaFMD"] if ONE_CONTEXT else ["Fb", "MbF", "DbF", "LbFD"]
    assert run(loop, main()) == expected


class Value:
    """Can be referred to weakly."""


def test_callback_kept_token_is_of_another_context_in_the_next_callback(loop):
    tokens, refused = [], []

    def first():
        tokens.append(variable.set("first"))

    def second():
        try:
            variable.reset(tokens[0])
        except ValueError as error:
            refused.append("different Context" in str(error))

    loop.call_soon(first)
    run(loop, iterations(1))
    loop.call_soon(second)
    run(loop, iterations(1))
    assert refused == [True]


def test_handle_that_has_run_keeps_the_context_in_which_it_ran(loop):
    handle = loop.call_soon(variable.set, "one")
    other = loop.call_soon(variable.set, "two")
    before = handle._context
    run(loop, iterations(1))
    loop.call_soon(variable.set, "three")
    run(loop, iterations(1))
    assert handle._context is before
    assert handle._context[variable] == "one"
    assert other._context[variable] == "two"


def test_context_asked_for_inside_the_callback_outlives_it_unchanged(loop):
    kept = []

    def callback():
        variable.set("inside")
        kept.append(handles.pop()._context)

    handles = [loop.call_soon(callback)]
    run(loop, iterations(1))
    loop.call_soon(variable.set, "later")
    run(loop, iterations(1))
    assert kept[0][variable] == "inside"


def test_context_of_a_callback_ends_with_its_handle(loop):
    handle = loop.call_soon(variable.set, "value")
    context = weakref.ref(handle._context)
    del handle
    run(loop, iterations(2))
    assert context() is None


def test_value_set_in_a_callback_ends_with_the_callback(loop):
    value = Value()
    reference = weakref.ref(value)
    loop.call_soon(variable.set, value)
    del value
    run(loop, iterations(2))
    assert reference() is None


def test_value_of_the_caller_lives_as_long_as_what_was_scheduled(loop):
    seen = []
    value = Value()
    reference = weakref.ref(value)
    context = context_of(value)
    del value
    timer = context.run(loop.call_later, 60, print)
    context.run(loop.call_soon, lambda: seen.append(variable.get() is reference()))
    del context
    run(loop, iterations(2))
    assert seen == [True]
    assert reference() is not None
    timer.cancel()
    del timer
    run(loop, iterations(2))
    assert reference() is None


def test_callback_that_runs_another_handle_has_a_context_of_its_own(loop):
    seen = []

    def inner():
        seen.append(variable.get())
        variable.set("inner")

    def outer():
        variable.set("outer")
        loop.call_soon(inner)._run()
        seen.append(variable.get())

    handle = loop.call_soon(outer)
    run(loop, iterations(2))
    # The last is the turn of the handle that was run by hand.
    assert seen == ["outer", "outer", "inner"]
    assert handle._context[variable] == "outer"


def logged_kinds(caplog):
    """The exceptions that the default exception handler has logged."""
    return [record.exc_info[0] for record in caplog.records]


def test_callback_whose_context_is_entered_already_is_told_of_and_the_next_is_called(loop, caplog):
    context = context_of("given")
    called = []
    # asyncio calls another one in that context, since 3.12, and so not at all.
    loop.set_exception_handler(None)

    def inside():
        loop.call_soon(called.append, "in it", context=context)
        loop.call_soon(called.append, "after it")
        loop.call_soon(loop.stop)
        loop.run_forever()

    context.run(inside)
    assert called == ["after it"]
    assert logged_kinds(caplog) == [RuntimeError]
    assert "is already entered" in caplog.text


def leave(context):
    ctypes.pythonapi.PyContext_Exit(ctypes.py_object(context))


@pytest.mark.parametrize("fails", [False, True])
def test_callback_that_leaves_another_context_behind_is_told_of(
    loop, loop_kind, caplog, monkeypatch, fails
):
    """Only C can, as coroutines of C (greenlets) do that are left in the middle."""
    told, called = [], []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: told.append(unraisable.exc_type))
    own, other = context_of("own"), context_of("other")

    def callback():
        ctypes.pythonapi.PyContext_Enter(ctypes.py_object(other))
        if fails:
            raise ZeroDivisionError

    loop.set_exception_handler(None)
    loop.call_soon(callback, context=own)
    loop.call_soon(called.append, "after it")
    loop.call_soon(loop.stop)
    loop.run_forever()
    leave(other)
    leave(own)
    kinds = logged_kinds(caplog)
    assert called == ["after it"]
    if fails and loop_kind != "asyncio":
        assert (kinds, told) == ([ZeroDivisionError], [RuntimeError])
    else:
        assert (kinds, told) == ([RuntimeError], [])
    assert variable.get() == "unset"


def test_value_that_dies_with_a_callbacks_context_finds_no_handle_any_more(loop):
    found = []

    class Last:
        def __del__(self):
            found.append(handle())

    handle = weakref.ref(loop.call_soon(lambda: variable.set(Last())))
    run(loop, iterations(2))
    assert found == [None]


def test_value_that_dies_with_a_callbacks_context_may_run_another_loop(loop, make_loop):
    """Which has contexts of its own to keep for later, more than are kept."""
    other = make_loop()
    ran = []

    def run_other():
        handles = [other.call_soon(ran.append, number) for number in range(20)]
        assert all(handle._context is not None for handle in handles)
        handles.clear()
        run(other, iterations(2))
        other.close()

    class Last:
        def __del__(self):
            thread = threading.Thread(target=run_other)
            thread.start()
            thread.join()

    def contexts():
        gc.collect()
        return sum(type(found) is contextvars.Context for found in gc.get_objects())

    before = contexts()
    loop.call_soon(lambda: variable.set(Last()))
    run(loop, iterations(2))
    assert ran == list(range(20))
    assert contexts() - before < 20


def test_context_asked_for_while_it_is_made_is_one_context(loop, loop_kind):
    """The core keeps contexts for later, and whoever finds one may watch its end."""
    oracle_lacks(loop_kind, sys.version_info < (3, 12), "Handle has no get_context()")
    for _ in range(8):
        loop.call_soon(object)
    run(loop, iterations(2))
    handle = context_of("given").run(loop.call_soon, object)
    inner = []
    watchers = [
        weakref.ref(found, lambda _: inner.append(handle.get_context()))
        for found in gc.get_objects()
        if type(found) is contextvars.Context and gc.is_tracked(found)
    ]
    context = handle.get_context()
    assert context[variable] == "given"
    assert all(found is context for found in inner)
    watchers.clear()
    run(loop, iterations(1))


def test_queue_that_empties_in_a_context_that_is_replaced_meanwhile_leaves_it(loop, loop_kind):
    """sendfile() waits for the queue with a future, whose done() may be anybody's."""
    oracle_lacks(loop_kind, True, "it sets the result of a future twice")
    size = 4 << 20

    class Waiter(asyncio.Future):
        def done(self):
            if transport is not None and not transport.is_reading():
                transport.resume_reading()
            return super().done()

    async def main():
        nonlocal transport
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        connected, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        connected.pause_reading()
        connected.write(bytes(size))
        loop.create_future = lambda: Waiter(loop=loop)
        waiter = connected._make_empty_waiter()
        del loop.create_future
        transport = connected
        received = 0
        while received < size:
            received += len(await loop.sock_recv(theirs, 1 << 20))
        await waiter
        connected.abort()
        await iterations(2)
        theirs.close()

    transport = None
    run(loop, main())
