"""A call of a coroutine method of asyncio's streams, driven by hand: send(), throw(), close().

On our loops it is written in C; what a coroutine of Python's does, it does.
"""

import asyncio
import gc
import sys
import warnings
import weakref
from unittest import mock

import pytest
from harness import iterations, run
from test_stream_classes import Pair


def on_pair(loop, function, **options):
    """Run function(pair), a coroutine function."""

    async def main():
        async with Pair(**options) as pair:
            return await function(pair)

    return run(loop, main())


def unraisables(monkeypatch):
    """What could not be raised, from here on."""
    found = []
    monkeypatch.setattr(sys, "unraisablehook", lambda entry: found.append(entry.exc_value))
    return found


class Waiter:
    """What a reader waits for, given by a loop of somebody's: `results` of its steps."""

    def __init__(self, steps):
        self.steps = steps

    def __await__(self):
        return self.steps()

    def cancelled(self):
        return True

    def done(self):
        return True


def waits_for(pair, waiter):
    """The reader's next waiters are what waiter() gives."""

    class Loop:
        create_future = staticmethod(waiter)

    pair.reader._loop = Loop


# ---- send ----------------------------------------------------------------------------------


def test_stream_call_that_has_begun_to_nobody_takes_nothing_but_none(loop):
    async def main(pair):
        call = pair.reader.readline()
        with pytest.raises(TypeError, match="can't send non-None value to a just-started"):
            call.send(1)
        pair.reader.feed_data(b"abc\n")
        assert await call == b"abc\n"

    on_pair(loop, main)


def test_stream_call_without_a_result_ends_with_an_empty_stop(loop):
    async def main(pair):
        with pytest.raises(StopIteration) as caught:
            pair.writer.drain().send(None)
        assert (caught.value.args, caught.value.value) == ((), None)

    on_pair(loop, main)


@pytest.mark.parametrize("result", [(1, 2), (), KeyError("k"), StopIteration(1), None, b"bytes"])
def test_stream_call_gives_whatever_a_method_of_the_instance_has_given(loop, result):
    """Which a stop would take for its arguments, or for itself."""

    async def readuntil(separator=b"\n"):
        return result

    async def main(pair):
        pair.reader.readuntil = readuntil
        with pytest.raises(StopIteration) as caught:
            pair.reader.readline().send(None)
        assert caught.value.value is result
        assert await pair.reader.readline() is result

    on_pair(loop, main)


def test_stream_call_that_is_running_is_neither_run_thrown_at_nor_closed(loop):
    raised = []

    async def main(pair):
        async def readuntil(separator=b"\n"):
            for use in (lambda: call.send(None), lambda: call.throw(KeyError), call.close):
                with pytest.raises(ValueError, match="coroutine already executing") as caught:
                    use()
                raised.append(type(caught.value))
            assert call.cr_running
            return b"done"

        pair.reader.readuntil = readuntil
        call = pair.reader.readline()
        assert await call == b"done"

    on_pair(loop, main)
    assert raised == [ValueError] * 3


def test_stream_call_that_has_ended_is_not_used_again_but_closed(loop):
    async def main(pair):
        pair.reader.feed_data(b"abc\n")
        call = pair.reader.readline()
        await call
        for use in (lambda: call.send(None), lambda: call.throw(KeyError("k"))):
            with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                use()
        assert call.close() is None

    on_pair(loop, main)


def test_stream_call_says_what_it_is(loop):
    async def main(pair):
        call = pair.reader.readline()
        assert repr(call).startswith("<coroutine object StreamReader.readline at 0x")
        assert weakref.ref(call)() is call
        call.close()
        assert "readline" in repr(vars(type(pair.reader)).get("readline", "readline"))

    on_pair(loop, main)


# ---- throw ---------------------------------------------------------------------------------

THROWN = {
    "an instance": ((KeyError("k"),), KeyError, ("k",)),
    "a class": ((KeyError,), KeyError, ()),
    "a class and its argument": ((KeyError, "k"), KeyError, ("k",)),
    "a class and None": ((KeyError, None), KeyError, ()),
    "a class, an instance and None": ((KeyError, KeyError("k"), None), KeyError, ("k",)),
}
REFUSED = {
    "a number": (3,),
    "a class of something else": (int,),
    "an instance and a value": (KeyError("k"), "value"),
    "a traceback that is none": (KeyError, None, 3),
    "nothing": (),
    "too much": (KeyError, None, None, None),
}
# Those of more than one argument are deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:the .*signature of throw:DeprecationWarning")


@pytest.mark.parametrize("how", ["new", "waiting"])
@pytest.mark.parametrize("what", THROWN)
def test_stream_call_raises_what_is_thrown_at_it_and_has_ended(loop, how, what):
    arguments, kind, expected = THROWN[what]

    async def main(pair):
        call = pair.reader.readline()
        if how == "waiting":
            call.send(None)
        with pytest.raises(kind) as caught:
            call.throw(*arguments)
        assert caught.value.args == expected
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            call.send(None)
        assert pair.reader._waiter is None
        pair.reader.feed_data(b"abc\n")
        assert await pair.reader.readline() == b"abc\n"

    on_pair(loop, main)


@pytest.mark.parametrize("what", REFUSED)
def test_stream_call_that_is_thrown_no_exception_at_can_still_be_awaited(loop, what):
    async def main(pair):
        call = pair.reader.readline()
        with pytest.raises(TypeError):
            call.throw(*REFUSED[what])
        pair.reader.feed_data(b"abc\n")
        assert await call == b"abc\n"

    on_pair(loop, main)


def test_stream_call_has_the_traceback_that_came_with_what_is_thrown(loop):
    try:
        raise KeyError("first")
    except KeyError as error:
        thrown = error

    def lines(error):
        found, traceback = [], error.__traceback__
        while traceback is not None:
            found.append(traceback.tb_lineno)
            traceback = traceback.tb_next
        return found

    async def main(pair):
        (place,) = lines(thrown)
        with pytest.raises(KeyError) as caught:
            pair.reader.readline().throw(thrown)
        assert place in lines(caught.value)

    on_pair(loop, main)


@pytest.mark.parametrize("result", [None, b"caught", (1, 2)])
def test_stream_call_of_a_method_that_catches_what_is_thrown_gives_its_result(loop, result):
    async def main(pair):
        async def readuntil(separator=b"\n"):
            try:
                await loop.create_future()
            except KeyError:
                return result

        pair.reader.readuntil = readuntil
        call = pair.reader.readline()
        call.send(None)
        with pytest.raises(StopIteration) as caught:
            call.throw(KeyError("k"))
        assert caught.value.value == result

    on_pair(loop, main)


# ---- readline() catches what its wait raises ----------------------------------------------------


def incomplete():
    return asyncio.IncompleteReadError(b"par", 10)


@pytest.mark.parametrize("how", ["thrown", "set on the reader", "set before"])
def test_readline_that_an_incomplete_read_ends_gives_the_partial_line(loop, how):
    """As a proxy hands on to one side what the other has ended with."""

    async def main(pair):
        if how == "set before":
            pair.reader.set_exception(incomplete())
            assert await pair.reader.readline() == b"par"
            return
        call = pair.reader.readline()
        if how == "thrown":
            call.send(None)
            with pytest.raises(StopIteration) as caught:
                call.throw(incomplete())
            assert caught.value.value == b"par"
        else:
            task = asyncio.create_task(call)
            await iterations(2)
            pair.reader.set_exception(incomplete())
            assert await task == b"par"
        assert pair.reader._waiter is None

    on_pair(loop, main)


@pytest.mark.parametrize("how", ["thrown", "set on the reader", "set before"])
@pytest.mark.parametrize("consumed, kept", [(1, b"cd\n"), (0, b"")])
def test_readline_that_an_overrun_ends_drops_the_line_and_says_so(loop, how, consumed, kept):
    overrun = asyncio.LimitOverrunError("too long", consumed)

    async def main(pair):
        if how != "set before":
            call = pair.reader.readline()
            waiter = call.send(None)
            assert waiter is pair.reader._waiter
        pair.reader._buffer += b"a\ncd\n"
        with pytest.raises(ValueError) as caught:
            if how == "set before":
                pair.reader.set_exception(overrun)
                await pair.reader.readline()
            elif how == "thrown":
                call.throw(overrun)
            else:
                pair.reader.set_exception(overrun)
                waiter._asyncio_future_blocking = False
                call.send(None)
        assert caught.value.args == ("too long",)
        assert caught.value.__context__ is overrun
        assert bytes(pair.reader._buffer) == kept

    on_pair(loop, main)


@pytest.mark.parametrize("name, arguments", [("readuntil", ()), ("readexactly", (3,))])
def test_other_reads_that_an_incomplete_read_ends_raise_it(loop, name, arguments):
    error = incomplete()

    async def main(pair):
        task = asyncio.create_task(getattr(pair.reader, name)(*arguments))
        await iterations(2)
        pair.reader.set_exception(error)
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await task
        assert caught.value is error

    on_pair(loop, main)


# ---- the end of a call that nobody awaits to its end ---------------------------------------------


def test_stream_call_dropped_amid_an_exception_leaves_that_as_it_is(loop):
    async def main(pair):
        with warnings.catch_warnings(record=True) as caught, pytest.raises(ZeroDivisionError):
            warnings.simplefilter("always")
            print(pair.reader.readexactly(1), 1 // 0)
        assert [str(entry.message) for entry in caught] == [
            "coroutine 'StreamReader.readexactly' was never awaited"
        ]

    on_pair(loop, main)


def test_stream_call_never_awaited_where_warnings_are_errors_is_told_of(loop, monkeypatch):
    found = unraisables(monkeypatch)

    async def main(pair):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pair.reader.readexactly(1)
            gc.collect()
        assert [(type(error), str(error)) for error in found] == [
            (RuntimeWarning, "coroutine 'StreamReader.readexactly' was never awaited")
        ]

    on_pair(loop, main)


def test_stream_call_dropped_in_a_method_that_does_not_end_is_told_of(loop, monkeypatch):
    found = unraisables(monkeypatch)

    async def main(pair):
        async def readuntil(separator=b"\n"):
            while len(found) == 0:
                try:
                    await asyncio.sleep(0)
                except GeneratorExit:
                    await asyncio.sleep(0)

        pair.reader.readuntil = readuntil
        call = pair.reader.readline()
        call.send(None)
        with pytest.raises(RuntimeError, match="coroutine ignored GeneratorExit"):
            call.close()
        call = pair.reader.readline()
        call.send(None)
        del call
        gc.collect()
        assert str(found[0]) == "coroutine ignored GeneratorExit"
        del pair.reader.readuntil

    on_pair(loop, main)


def test_stream_call_that_its_own_end_brings_back_has_ended(loop):
    kept = []

    async def main(pair):
        async def readuntil(separator=b"\n"):
            try:
                await asyncio.sleep(0)
            finally:
                kept.append(reference())

        pair.reader.readuntil = readuntil
        call = pair.reader.readline()
        reference = weakref.ref(call)
        call.send(None)
        del call
        gc.collect()
        assert len(kept) == 1
        del pair.reader.readuntil
        if kept[0] is not None:
            with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                kept[0].send(None)
        kept.clear()
        gc.collect()
        assert reference() is None
        pair.reader.feed_data(b"abc\n")
        assert await pair.reader.readline() == b"abc\n"

    on_pair(loop, main)


# ---- what is waited for --------------------------------------------------------------------------


def test_stream_call_of_a_reader_whose_waiter_is_no_awaitable_says_so(loop):
    async def main(pair):
        waits_for(pair, object)
        with pytest.raises(TypeError, match="can't be used in 'await' expression"):
            await pair.reader.readline()

    on_pair(loop, main)


def test_stream_call_of_a_reader_whose_waiter_is_done_looks_again(loop):
    made = []

    def steps():
        return
        yield

    async def main(pair):
        def waiter():
            made.append(pair.reader)
            if len(made) == 3:
                pair.reader._buffer += b"abc\n"
            return Waiter(steps)

        waits_for(pair, waiter)
        assert await pair.reader.readline() == b"abc\n"
        assert pair.reader._waiter is None

    on_pair(loop, main)
    assert len(made) == 3


def test_stream_call_of_a_reader_whose_waiter_fails_at_once_raises_it(loop):
    def steps():
        raise KeyError("k")
        yield

    async def main(pair):
        waits_for(pair, lambda: Waiter(steps))
        with pytest.raises(KeyError):
            await pair.reader.readline()
        assert pair.reader._waiter is None

    on_pair(loop, main)


# ---- drain() ---------------------------------------------------------------------------------


def test_drain_of_a_transport_that_does_not_know_whether_it_closes_asks_once(loop):
    async def main(pair):
        transport = pair.writer.transport
        pair.writer._transport = mock.Mock()
        pair.writer._transport.is_closing.side_effect = [KeyError("k"), False, False]
        with pytest.raises(KeyError):
            await pair.writer.drain()
        assert pair.writer._transport.is_closing.call_count == 1
        pair.writer._transport = transport

    on_pair(loop, main)
