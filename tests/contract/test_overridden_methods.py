"""A subclass's, a patched class's or a loop's own methods are used where asyncio uses them."""

import asyncio
import socket
from fractions import Fraction
from unittest import mock

import pytest
from harness import Recorder, iterations, run


def subclass_of(loop, **methods):
    """A loop of a subclass with these methods; closed by the caller."""
    return type("Loop", (type(loop),), methods)()


@pytest.fixture
def make_subclass(loop):
    made = []

    def make(**methods):
        made.append(subclass_of(loop, **methods))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_time_patched_on_the_class_moves_timers_both_ways(loop):
    base = loop.time()
    fired = []
    with mock.patch.object(type(loop), "time", lambda self: 100.0):
        assert loop.call_later(5, print).when() == 105.0
    assert loop.call_later(5, print).when() >= base + 5
    loop.call_later(500, fired.append, "due")
    loop.call_later(0, loop.stop)
    with mock.patch.object(type(loop), "time", lambda self: base + 1000):
        loop.run_forever()
    assert fired == ["due"]


def test_time_patched_on_a_base_of_the_class_moves_timers(make_subclass):
    class_of_both = type(make_subclass())
    loop = class_of_both()
    try:
        with mock.patch.object(class_of_both.__mro__[1], "time", lambda self: 100.0):
            assert loop.call_later(5, print).when() == 105.0
        assert loop.call_later(5, print).when() != 105.0
    finally:
        loop.close()


def test_time_patched_while_the_loop_runs_moves_timers(loop):
    async def main():
        event = asyncio.Event()
        now = loop.time()
        loop.call_later(500, event.set)
        with mock.patch.object(type(loop), "time", lambda self: now + 1000):
            await event.wait()
        await asyncio.sleep(0)

    loop.run_until_complete(main())


def test_time_that_cannot_be_got_raises_what_its_getting_raises(loop):
    with mock.patch.object(type(loop), "time", property(lambda self: 1 / 0)):
        with pytest.raises(ZeroDivisionError):
            loop.call_later(5, print)
    loop.call_later(0, loop.stop)
    loop.run_forever()


async def read_by(loop, create_future, readers_loop):
    """What is read of a connection, and how often create_future() was called for it."""
    ours, theirs = socket.socketpair()
    with theirs:
        reader = asyncio.StreamReader(loop=readers_loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        await iterations(2)
        create_future.reset_mock()
        task = asyncio.create_task(reader.read(10))
        await iterations(2)
        calls = create_future.call_count
        theirs.send(b"data")
        data = await task
        transport.abort()
        await iterations(2)
    return data, calls


def test_create_future_is_asked_for_what_a_stream_waits_for(make_subclass, loop):
    create_future = mock.Mock(side_effect=lambda: asyncio.Future(loop=subclassed))
    subclassed = make_subclass(create_future=lambda self: create_future())
    assert run(subclassed, read_by(subclassed, create_future, subclassed)) == (b"data", 1)


def test_create_future_of_whatever_a_stream_was_given_as_its_loop_is_asked(loop):
    given = mock.Mock(create_future=mock.Mock(side_effect=loop.create_future))
    given.get_debug.return_value = False
    assert run(loop, read_by(loop, given.create_future, given)) == (b"data", 1)


def test_time_set_on_the_loop_and_deleted_counts_no_more(loop):
    loop.time = lambda: 100.0
    assert loop.call_later(5, print).when() == 105.0
    del loop.time
    assert loop.call_later(5, print).when() == pytest.approx(loop.time() + 5, abs=1)


def test_time_set_on_the_class_a_thousand_times_is_followed_each_time(make_subclass):
    """CPython gives a type only so many versions."""
    loop = make_subclass()
    for number in range(1500):
        type(loop).time = lambda self, number=number: float(number)
        assert loop.call_later(1, print).when() == number + 1
    del type(loop).time
    assert loop.call_later(1, print).when() > 0
    with mock.patch.object(type(loop), "time", lambda self: 7.0):
        assert loop.call_later(1, print).when() == 8.0


def test_call_later_goes_through_call_at(make_subclass, loop):
    seen = []

    def call_at(self, when, callback, *args, context=None):
        seen.append((callback, args))
        return super(type(self), self).call_at(when, callback, *args, context=context)

    subclassed = make_subclass(call_at=call_at)
    subclassed.call_later(1, print, 1, 2, 3, 4, 5).cancel()
    subclassed.run_until_complete(asyncio.sleep(0.001))
    assert seen[0] == (print, (1, 2, 3, 4, 5))
    assert len(seen) == 2


def test_call_later_gives_call_at_the_sum_and_returns_what_it_returns(loop):
    handle = mock.Mock(_source_traceback=None)
    with (
        mock.patch.object(type(loop), "time", lambda self: Fraction(1, 3)),
        mock.patch.object(type(loop), "call_at", mock.Mock(return_value=handle)) as call_at,
    ):
        assert loop.call_later(Fraction(1, 3), print) is handle
    assert call_at.call_args.args[-2:] == (Fraction(2, 3), print)


def test_call_later_of_a_call_at_that_raises_raises_that(loop):
    with mock.patch.object(type(loop), "call_at", mock.Mock(side_effect=ZeroDivisionError)):
        with pytest.raises(ZeroDivisionError):
            loop.call_later(1, print)
        with pytest.raises(TypeError):
            loop.call_later(None, print)


def test_call_soon_hears_of_what_transports_and_tasks_schedule(make_subclass):
    seen = []

    def call_soon(self, callback, *args, context=None):
        seen.append(getattr(callback, "__name__", type(callback).__name__))
        return super(type(self), self).call_soon(callback, *args, context=context)

    loop = make_subclass(call_soon=call_soon)

    async def main():
        ours, theirs = socket.socketpair()
        with theirs:
            transport, protocol = await loop.create_connection(Recorder, sock=ours)
            transport.close()
            await protocol.until_lost()
            await iterations(2)

    run(loop, main())
    assert "connection_made" in seen
    assert "_call_connection_lost" in seen


def test_call_soon_that_wraps_what_it_is_given_is_obeyed(make_subclass):
    wrapped = []

    def call_soon(self, callback, *args, context=None):
        def wrapper(*args):
            wrapped.append(callback)
            return callback(*args)

        return super(type(self), self).call_soon(wrapper, *args, context=context)

    loop = make_subclass(call_soon=call_soon)

    async def main():
        ours, theirs = socket.socketpair()
        with theirs:
            transport, protocol = await loop.create_connection(Recorder, sock=ours)
            made = list(protocol.calls)
            transport.abort()
            await protocol.until_lost()
        return made

    assert run(loop, main()) == ["connection_made"]
    assert wrapped


def test_call_soon_threadsafe_and_readers_do_not_go_through_call_soon(make_subclass):
    seen = []

    def call_soon(self, callback, *args, context=None):
        seen.append(callback)
        return super(type(self), self).call_soon(callback, *args, context=context)

    loop = make_subclass(call_soon=call_soon)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        called = []
        loop.call_soon_threadsafe(called.append, "threadsafe")
        loop.add_writer(ours, lambda: (called.append("writer"), loop.stop()))
        loop.run_forever()
        loop.remove_writer(ours)
    assert sorted(called)[-2:] == ["threadsafe", "writer"]
    assert seen == []


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("getaddrinfo", lambda loop: loop.create_connection(Recorder, "localhost", 1)),
        ("sock_connect", lambda loop: loop.create_connection(Recorder, "127.0.0.1", 1)),
        ("sock_connect", lambda loop: loop.create_unix_connection(Recorder, "/nowhere")),
        ("run_in_executor", lambda loop: loop.getaddrinfo("localhost", 1)),
        ("run_in_executor", lambda loop: loop.getaddrinfo("127.0.0.1", 1, type=1)),
        ("run_in_executor", lambda loop: loop.getnameinfo(("127.0.0.1", 1), 3)),
        ("call_exception_handler", lambda loop: fail_in_callback(loop)),
        ("default_exception_handler", lambda loop: fail_in_callback(loop)),
        ("create_task", lambda loop: ensure(loop)),
    ],
)
def test_methods_that_asyncio_calls_by_name_are_called_by_name(make_subclass, name, use):
    class Called(Exception):
        pass

    seen = []

    def method(self, *args, **kwargs):
        seen.append(name)
        if name == "create_task":
            return super(type(self), self).create_task(*args, **kwargs)
        if not name.endswith("handler"):
            raise Called

    loop = make_subclass(**{name: method})

    async def main():
        try:
            await use(loop)
        except Called:
            pass

    loop.run_until_complete(main())
    assert seen


async def fail_in_callback(loop):
    loop.call_soon(lambda: 1 / 0)
    await iterations(2)


async def ensure(loop):
    async def nothing():
        pass

    await asyncio.ensure_future(nothing())


def test_timer_handle_that_somebody_made_can_be_cancelled(loop):
    handle = asyncio.TimerHandle(loop.time() + 1, print, (), loop)
    handle.cancel()
    assert handle.cancelled()
