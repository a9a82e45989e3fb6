"""asyncio's streams and ours, side by side: the same calls, the same results, the same state.

Hypothesis finds the calls. Both readers are on one loop; asyncio's is what it always is, the
other was adopted as a transport of ours adopts it, and whatever asyncio's does, it does.
"""

import asyncio
import sys

from hypothesis import example, given, settings
from hypothesis import strategies as st

import uring_loop
from uring_loop import _core

LETTERS = (b"a", b"b", b"\n")

# What a reader is told to have failed with, or what is thrown at a call; made for each side.
ERRORS = {
    "broken": lambda: OSError("broken"),
    "class": lambda: ValueError,
    "incomplete": lambda: asyncio.IncompleteReadError(b"par", 10),
    "overrun": lambda: asyncio.LimitOverrunError("far", 1),
    "none": lambda: 3,
}


class Transport(asyncio.Transport):
    """Notes what it is asked; one that cannot be paused says so."""

    def __init__(self, pausable=True):
        super().__init__()
        self.calls = []
        self.pausable = pausable
        self.closing = False

    def pause_reading(self):
        if not self.pausable:
            raise NotImplementedError
        self.calls.append("pause")

    def resume_reading(self):
        self.calls.append("resume")

    def is_closing(self):
        return self.closing

    def write(self, data):
        self.calls.append(("write", data))

    def close(self):
        self.closing = True


class Side:
    """A reader, its protocol, its writer, and the calls that are made of them."""

    def __init__(self, loop, limit, pausable, ours):
        self.loop = loop
        self.transport = Transport(pausable)
        self.reader = asyncio.StreamReader(limit, loop=loop)
        self.writer = None
        self.protocol = asyncio.StreamReaderProtocol(self.reader, self.connected, loop=loop)
        if ours:
            _core.adopt_stream(self.protocol, loop)
        self.protocol.connection_made(self.transport)
        assert (type(self.reader) is not asyncio.StreamReader) == ours
        assert (type(self.writer) is not asyncio.StreamWriter) == ours
        self.calls = []
        self.views = []
        self.raised = []

    def connected(self, reader, writer):
        assert reader is self.reader
        self.writer = writer

    def close(self):
        for view in self.views:
            view.release()
        for call in self.calls:
            if isinstance(call, asyncio.Task):
                call.cancel()
            else:
                call.close()
        spin(self.loop)
        for call in self.calls:
            if isinstance(call, asyncio.Task) and not call.cancelled():
                call.exception()
        self.transport.closing = True

    # ---- what can be done ----

    def feed(self, data):
        self.protocol.data_received(data)

    def feed_reader(self, data):
        self.reader.feed_data(data)

    def feed_eof(self):
        self.protocol.eof_received()

    def fail(self, error):
        self.reader.set_exception(ERRORS[error]())

    def lose(self, broken):
        self.protocol.connection_lost(OSError("lost") if broken else None)

    def pause_writing(self):
        self.protocol.pause_writing()

    def resume_writing(self):
        self.protocol.resume_writing()

    def write(self, data):
        self.writer.write(data)

    def start(self, name, args):
        self.calls.append(self.loop.create_task(self.method(name)(*args)))

    def begin(self, name, args):
        """A call that is driven by hand."""
        self.calls.append(self.method(name)(*args))

    def method(self, name):
        return getattr(self.writer if name == "drain" else self.reader, name)

    def drive(self, which, how):
        """send() or close() of a call that was begun, or which error is thrown at it."""
        call = self.calls[which % len(self.calls)] if self.calls else None
        if call is None or isinstance(call, asyncio.Task):
            return "nothing"
        if how == "send":
            return type(call.send(None)).__name__
        if how in ERRORS:
            return type(call.throw(ERRORS[how]())).__name__
        return call.close()

    def cancel(self, which):
        if self.calls:
            call = self.calls[which % len(self.calls)]
            if isinstance(call, asyncio.Task):
                call.cancel("enough")

    def clear(self):
        """As programs do."""
        self.reader._buffer.clear()

    def hold(self):
        """The buffer cannot be resized."""
        self.views.append(memoryview(self.reader._buffer))

    def let_go(self):
        if self.views:
            self.views.pop().release()

    def do(self, name, *args):
        try:
            result = getattr(self, name)(*args)
        except BaseException as error:
            result = described(error)
        self.raised.append((name, result))

    # ---- what is compared ----

    def state(self):
        reader, protocol = self.reader, self.protocol
        return {
            "buffer": bytes(reader._buffer),
            "at_eof": reader.at_eof(),
            "waiter": None if reader._waiter is None else reader._waiter.done(),
            "exception": described(reader._exception),
            "has transport": reader._transport is not None,
            "paused": reader._paused,
            "limit": reader._limit,
            "attributes": list(vars(reader)),
            "protocol": (protocol._paused, protocol._connection_lost, list(vars(protocol))),
            "drain waiters": len(protocol._drain_waiters),
            "transport": self.transport.calls,
            "raised": self.raised,
            "calls": [outcome(call) for call in self.calls],
        }


def described(error):
    """All that a program can see of an exception, but for its traceback."""
    if error is None:
        return None
    return (
        type(error),
        error.args,
        getattr(error, "partial", None),
        getattr(error, "expected", None),
        getattr(error, "consumed", None),
        described(error.__context__),
        described(error.__cause__),
        error.__suppress_context__,
    )


def outcome(call):
    if not isinstance(call, asyncio.Task):
        return (call.__name__, call.__qualname__, call.cr_running, call.cr_suspended)
    if not call.done():
        return "pending"
    if call.cancelled():
        return "cancelled"
    if call.exception() is not None:
        return described(call.exception())
    return call.result()


def spin(loop, turns=4):
    for _ in range(turns):
        loop.call_soon(loop.stop)
        loop.run_forever()


DATA = st.lists(st.sampled_from(LETTERS), max_size=9).map(b"".join)
SEPARATORS = [b"\n", b"ab", b"aba", b"", bytearray(b"b"), memoryview(b"\n"), 3]
if sys.version_info >= (3, 13):
    SEPARATORS += [(b"a", b"\n"), (b"ab", b"b"), ()]
SIZES = st.integers(-2, 12)
READS = st.one_of(
    st.tuples(st.just("readline"), st.just(())),
    st.tuples(st.just("__anext__"), st.just(())),
    st.tuples(st.just("readuntil"), st.sampled_from(SEPARATORS).map(lambda each: (each,))),
    st.tuples(st.just("readuntil"), st.just(())),
    st.tuples(st.sampled_from(["readexactly", "read"]), SIZES.map(lambda size: (size,))),
    st.tuples(st.sampled_from(["readexactly", "read"]), st.sampled_from([(2.5,), (True,), ()])),
    st.tuples(st.just("drain"), st.just(())),
)
STEPS = st.one_of(
    st.tuples(st.just("feed"), DATA),
    st.tuples(st.just("feed"), DATA),
    st.tuples(st.just("feed_reader"), DATA | DATA.map(bytearray)),
    st.tuples(st.just("feed_eof")),
    st.tuples(st.just("fail"), st.sampled_from(["broken", "incomplete", "overrun"])),
    st.tuples(st.just("lose"), st.booleans()),
    st.tuples(st.just("pause_writing")),
    st.tuples(st.just("resume_writing")),
    st.tuples(st.just("write"), DATA),
    READS.map(lambda call: ("start", *call)),
    READS.map(lambda call: ("start", *call)),
    READS.map(lambda call: ("begin", *call)),
    st.tuples(st.just("drive"), st.integers(0, 5), st.sampled_from(["send", "close", *ERRORS])),
    st.tuples(st.just("cancel"), st.integers(0, 5)),
    st.tuples(st.just("clear")),
    st.tuples(st.just("hold")),
    st.tuples(st.just("let_go")),
    st.tuples(st.just("spin"), st.integers(1, 4)),
    st.tuples(st.just("spin"), st.integers(1, 4)),
)


def play(loop, limit, pausable, steps):
    sides = [Side(loop, limit, pausable, ours) for ours in (False, True)]
    loop.set_exception_handler(lambda loop, context: None)
    try:
        for step in (*steps, ("spin", 4)):
            if step[0] == "spin":
                spin(loop, step[1])
            else:
                for side in sides:
                    side.do(*step)
            theirs, ours = (side.state() for side in sides)
            assert ours == theirs, step
    finally:
        for side in sides:
            side.close()


@settings(max_examples=400, deadline=None)
@given(st.integers(1, 12), st.booleans(), st.lists(STEPS, max_size=24))
@example(4, True, [("start", "readline", ()), ("spin", 1), ("feed", b"aaaaaaaaa"), ("spin", 4)])
@example(4, True, [("feed", b"aaaa\naaaaa\n"), *[("start", "readline", ()), ("spin", 2)] * 2])
@example(4, True, [("feed", b"aaaaaaaa\n"), ("start", "readline", ()), ("spin", 4)])
@example(2, True, [("feed", b"aaaaa"), ("start", "readexactly", (7,)), ("spin", 2), ("feed", b"a")])
@example(3, False, [("feed", b"aaaaaaa"), ("feed", b"a"), ("start", "read", (2,)), ("spin", 1)])
@example(9, True, [("start", "read", (3,)), ("spin", 1), ("cancel", 0), ("feed", b"ab")])
@example(9, True, [("start", "readexactly", (3,)), ("spin", 1), ("feed_eof",), ("spin", 2)])
@example(9, True, [("start", "readline", ()), ("spin", 1), ("fail", "incomplete"), ("spin", 2)])
@example(9, True, [("begin", "readline", ()), ("drive", 0, "none"), ("drive", 0, "send")])
@example(9, True, [("begin", "drain", ()), *[("drive", 0, "send"), ("drive", 0, "none")] * 2])
def test_readers_and_writers_do_what_asyncios_do(limit, pausable, steps):
    loop = uring_loop.EventLoop(driver="selector")
    try:
        play(loop, limit, pausable, steps)
    finally:
        loop.close()
