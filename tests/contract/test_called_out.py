"""What the loop calls out to (a __del__, a repr, a buffer, a hook) changes what it works on."""

import asyncio
import contextlib
import functools
import gc
import logging
import socket
import sys
import types
import warnings
import weakref

import pytest
from harness import PAIRS, BufferedRecorder, Recorder, attached, iterations, oracle_lacks, run

BUFFERS = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="classes of Python's have buffers since Python 3.12"
)


@pytest.fixture
def sockets():
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.setblocking(False)
        yield one, other


class AtEnd:
    """Calls back when it is freed; can be a callback itself."""

    def __init__(self, function, *arguments):
        self.function = function
        self.arguments = arguments

    def __call__(self, *ignored):
        pass

    def __del__(self):
        self.function(*self.arguments)


# Watches and handles.


@pytest.mark.parametrize("side", ["reader", "writer"])
@pytest.mark.parametrize("debug", [False, True])
def test_watch_removed_by_the_end_of_the_one_that_it_replaces_is_gone(loop, sockets, side, debug):
    loop.set_debug(debug)
    one, _ = sockets
    add, remove = getattr(loop, f"add_{side}"), getattr(loop, f"remove_{side}")
    calls = []
    add(one, AtEnd(remove, one))
    add(one, calls.append, 1)
    # Its memory is not in use twice.
    handles = [loop.call_soon(calls.append, number) for number in range(2, 12)]
    assert len({id(handle) for handle in handles}) == len(handles)
    run(loop, iterations(3))
    assert calls == list(range(2, 12))
    assert not remove(one)


def test_watch_replaced_by_the_end_of_the_one_that_it_replaces(loop, sockets):
    one, other = sockets
    calls = []
    loop.add_reader(one, AtEnd(loop.add_reader, one, calls.append, "last"))
    loop.add_reader(one, calls.append, "first")
    other.send(b"x")
    run(loop, iterations(3))
    assert set(calls) == {"last"}
    assert loop.remove_reader(one)


CHAINS = {
    "method": lambda handle: types.MethodType(print, handle),
    "partial": lambda handle: functools.partial(print, handle),
    "list": lambda handle: [handle].append,
    "keyword": lambda handle: functools.partial(print, file=handle),
}


@pytest.mark.parametrize(
    "link, timer", [(link, False) for link in CHAINS] + [("method", True)]
)
def test_chain_of_handles_through_their_callbacks_is_freed(make_loop, link, timer):
    loop = make_loop()
    handle = loop.call_soon(int)
    for _ in range(300_000):
        callback = CHAINS[link](handle)
        handle = loop.call_later(1, callback) if timer else loop.call_soon(callback)
    end = weakref.ref(handle)
    del handle, callback
    loop.close()
    assert end() is None


class Stop(BaseException):
    """No Exception, so nobody takes it for an error of a callback's."""


class Odd:
    def __repr__(self):
        raise Stop


@pytest.mark.parametrize("method", ["call_soon", "call_later"])
def test_handle_whose_repr_raises_in_debug_mode_is_cancelled_all_the_same(loop, method):
    loop.set_debug(True)
    arguments = (0,) if method == "call_later" else ()
    handle = getattr(loop, method)(*arguments, pytest.fail, Odd())
    with pytest.raises(Stop):
        handle.cancel()
    assert handle.cancelled()
    handle.cancel()
    loop.set_debug(False)
    run(loop, iterations(3))


@pytest.mark.parametrize("side", ["reader", "writer"])
def test_watch_replaced_by_another_whose_repr_raises_in_debug_mode_is_replaced(
    loop, sockets, side
):
    one, _ = sockets
    add, remove = getattr(loop, f"add_{side}"), getattr(loop, f"remove_{side}")
    calls = []

    loop.set_debug(True)
    add(one, pytest.fail, Odd())
    with pytest.raises(Stop):
        add(one, calls.append, "new")
    loop.set_debug(False)
    sockets[1].send(b"x")
    run(loop, iterations(3))
    assert set(calls) == {"new"}
    assert remove(one)
    assert not remove(one)


# Plain sockets.


def test_wait_for_a_socket_ended_by_somebody_else_waits_again(loop, loop_kind, sockets):
    oracle_lacks(loop_kind, True, "sock_recv() returns what somebody else has set")
    one, other = sockets

    async def main():
        task = asyncio.ensure_future(loop.sock_recv(one, 10))
        for _ in range(3):
            await iterations(2)
            task._fut_waiter.set_result(None)
        await iterations(3)
        other.send(b"x")
        return await task

    assert run(loop, main()) == b"x"


@BUFFERS
def test_socket_closed_by_the_buffer_that_is_sent_sends_to_no_stranger(loop, sockets):
    one, _ = sockets
    strangers = []

    class Data:
        def __buffer__(self, flags):
            one.close()
            strangers.extend(socket.socketpair())
            return memoryview(b"secret")

    with pytest.raises(OSError):
        run(loop, loop.sock_sendall(one, Data()))
    for stranger in strangers:
        stranger.setblocking(False)
        with pytest.raises(BlockingIOError):
            stranger.recv(10)
    for stranger in strangers:
        stranger.close()


# Transports.


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]


def test_transport_ended_by_the_warning_of_its_being_dropped(loop, sockets, monkeypatch):
    one, other = sockets
    transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=one))
    transport.pause_reading()
    found = weakref.ref(transport)
    warned = []

    def hook(message, *ignored):
        if found() is not None and "unclosed transport" in str(message):
            warned.append(message)
            found().abort()
            loop.run_until_complete(asyncio.sleep(0.001))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", hook)
        del transport
        gc.collect()
    assert found() is None
    warned.clear()
    run(loop, iterations(3))
    assert other.recv(1) == b""


def test_paused_transport_without_its_finalizer_is_closed_when_dropped(loop, sockets):
    one, other = sockets
    transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=one))
    kind = type(transport)
    theirs = kind.__dict__.get("__del__")
    kind.__del__ = lambda self: None
    try:
        transport.pause_reading()
        run(loop, iterations(3))
        del transport
        with warnings.catch_warnings():
            # asyncio's socket warns instead.
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
            one.close()
            run(loop, iterations(3))
    finally:
        if theirs is None:
            del kind.__del__
        else:
            kind.__del__ = theirs
    assert other.recv(1) == b""


def test_protocol_that_is_lost_within_its_being_lost_is_lost_once_more(loop, pair):
    class Again(Recorder):
        def connection_lost(self, exc):
            super().connection_lost(exc)
            if self.calls.count("connection_lost") == 1:
                self.transport._call_connection_lost(None)

    async def main():
        async with attached(Again(), pair) as (transport, protocol, _):
            transport.abort()
            await protocol.until_lost()
            await iterations(3)
            assert protocol.calls.count("connection_lost") == 2

    if isinstance(loop, asyncio.SelectorEventLoop):
        loop.set_exception_handler(lambda loop, context: None)  # its socket is None by then
    run(loop, main())


def test_protocol_set_by_get_buffer_is_told_of_what_was_received(loop, pair):
    class Leaving(BufferedRecorder):
        def get_buffer(self, sizehint):
            self.transport.set_protocol(successor)
            return super().get_buffer(sizehint)

    async def main():
        async with attached(Leaving(), pair) as (_, first, peer):
            await peer.send_all(b"12345")
            await successor.until(lambda: successor.calls)
            assert "buffer_updated" not in first.calls
            assert successor.calls == ["buffer_updated"]

    successor = BufferedRecorder()
    run(loop, main())


@BUFFERS
@pytest.mark.parametrize("method", ["abort", "close"])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_stream_ended_by_the_buffer_that_is_written(loop, pair, method, kind):
    class Data(kind):
        def __buffer__(self, flags):
            getattr(transport, method)()
            return memoryview(b"from the buffer")

    async def main():
        nonlocal transport
        async with attached(pair=pair) as (transport, protocol, _):
            transport.write(Data(b"12345"))
            await protocol.until_lost()
            assert protocol.lost is None

    transport = None
    run(loop, main())


@pytest.mark.parametrize("method", ["abort", "close"])
def test_stream_ended_by_the_length_of_what_is_written(loop, pair, method):
    class Data(bytearray):
        def __len__(self):
            getattr(transport, method)()
            return super().__len__()

    async def main():
        nonlocal transport
        async with attached(pair=pair) as (transport, protocol, _):
            transport.write(Data(b"12345"))
            await protocol.until_lost()

    transport = None
    run(loop, main())


def test_full_datagram_transport_aborted_by_the_copy_of_what_is_sent_waits_for_nothing(loop):
    class Data(bytes):
        times = 0

        def __bytes__(self):
            Data.times += 1
            transport.abort()
            return b"a copy"

    class Protocol(asyncio.DatagramProtocol):
        def connection_lost(self, exc):
            lost.set_result(exc)

    async def main():
        nonlocal transport, lost
        lost = loop.create_future()
        one, other = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
        with other:
            for sock in one, other:
                sock.bind("")
            one.connect(other.getsockname())
            transport, _ = await loop.create_datagram_endpoint(Protocol, sock=one)
            while not transport.get_write_buffer_size():
                transport.sendto(b"x")
            transport.sendto(Data(b"12345"))
            assert Data.times
            assert await lost is None
            await iterations(3)
            assert transport.get_extra_info("socket").fileno() == -1

    transport = lost = None
    run(loop, main())


@pytest.mark.parametrize("event", ["pauses reading", "resumes reading", "received EOF"])
@pytest.mark.parametrize("method", ["abort", "close", "pause_reading"])
def test_transport_changed_by_the_log_of_what_happens_to_it(loop, pair, event, method, caplog):
    class Handler:
        def __init__(self, transport):
            self.transport = transport
            self.level = 0

        def handle(self, record):
            if event in record.getMessage() and self.transport is not None:
                transport, self.transport = self.transport, None
                getattr(transport, method)()
            return True

    async def main():
        async with attached(pair=pair) as (transport, protocol, peer):
            log = logging.getLogger("asyncio")
            handler = Handler(transport)
            log.addHandler(handler)
            level = log.level
            log.setLevel(logging.DEBUG)
            loop.set_debug(True)
            try:
                transport.pause_reading()
                await peer.send_all(b"x")
                await iterations(3)
                if not transport.is_closing():
                    transport.resume_reading()
                peer.close()
                await iterations(10)
            finally:
                loop.set_debug(False)
                log.removeHandler(handler)
                log.setLevel(level)
            if not transport.is_closing():
                transport.abort()
            await protocol.until_lost()

    run(loop, main())


@contextlib.contextmanager
def log_that_raises(loop, event, error):
    """The loop is in debug mode, and its log raises once when it is told of this."""
    raised = []

    class Handler:
        level = 0

        def handle(self, record):
            if event in record.getMessage() and not raised:
                raised.append(event)
                raise error

    log, handler = logging.getLogger("asyncio"), Handler()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    loop.set_debug(True)
    try:
        yield
    finally:
        loop.set_debug(False)
        log.removeHandler(handler)
        log.setLevel(level)
    assert raised


@pytest.mark.parametrize("method", ["pause_reading", "resume_reading"])
@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt])
def test_transport_whose_log_raises_raises_that_and_is_paused_or_resumed(
    loop, pair, method, error
):
    async def main():
        async with attached(pair=pair) as (transport, protocol, peer):
            with log_that_raises(loop, method.replace("_", "s "), error):
                for each in ("pause_reading", "resume_reading"):
                    if each == method:
                        with pytest.raises(error):
                            getattr(transport, each)()
                    else:
                        getattr(transport, each)()
                    assert transport.is_reading() == (each == "resume_reading")
            await peer.send_all(b"x")
            await protocol.until_size(1)

    run(loop, main())


def test_interrupt_of_the_log_of_an_end_ends_the_run_and_the_end_is_told_in_the_next(loop, pair):
    async def connect():
        one, other = pair()
        return *await loop.create_connection(Recorder, sock=one), other

    transport, protocol, other = run(loop, connect())
    with log_that_raises(loop, "received EOF", KeyboardInterrupt):
        other.close()
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
    assert protocol.calls == ["connection_made"]
    run(loop, protocol.until_lost())
    assert protocol.calls == ["connection_made", "eof_received", "connection_lost"]


def test_log_of_an_end_that_raises_is_told_and_so_is_the_end(loop, pair, errors, monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append(what.exc_type))

    async def main():
        async with attached(pair=pair) as (_, protocol, peer):
            with log_that_raises(loop, "received EOF", LookupError):
                peer.close()
                await protocol.until_lost()
            assert protocol.calls == ["connection_made", "eof_received", "connection_lost"]
            assert protocol.lost is None

    run(loop, main())
    assert [type(context["exception"]) for context in errors] + told == [LookupError]
    errors.clear()


def test_transport_that_its_protocol_has_ended_while_it_was_opened_is_given_up(loop, loop_kind):
    oracle_lacks(loop_kind, True, "a transport that fails to open is left half open")

    class Hostile(asyncio.Protocol):
        armed = True

        @property
        def connection_made(self):
            if self.armed:
                self.armed = False
                for transport in gc.get_referrers(self):
                    if hasattr(transport, "_call_connection_lost"):
                        transport.abort()
                        transport._call_connection_lost(None)
                raise ZeroDivisionError
            return lambda transport: None

    async def main():
        sock, other = socket.socketpair()
        with sock, other:
            with pytest.raises(ZeroDivisionError):
                await loop.create_connection(Hostile, sock=sock)
            await asyncio.sleep(0)

    loop.run_until_complete(main())
