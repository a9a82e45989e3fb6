"""The whole public interface: every name, every signature, and what a closed loop answers."""

import asyncio
import concurrent.futures
import inspect
import signal
import socket

import pytest


def public_names(thing):
    return {name for name in dir(thing) if not name.startswith("_")}


@pytest.fixture
def stock():
    loop = asyncio.SelectorEventLoop()
    yield loop
    loop.close()


NAMES = sorted(public_names(asyncio.AbstractEventLoop) | public_names(asyncio.SelectorEventLoop))


@pytest.mark.parametrize("name", NAMES)
def test_public_name_is_there_and_takes_every_call_that_asyncios_takes(loop, stock, name):
    method, model = getattr(loop, name), getattr(stock, name)
    assert callable(method)
    ours = inspect.signature(method).parameters
    takes_any_keyword = any(each.kind is each.VAR_KEYWORD for each in ours.values())
    expected = list(inspect.signature(model).parameters.values())
    for position, wanted in enumerate(expected):
        if wanted.kind is wanted.VAR_KEYWORD:
            assert takes_any_keyword
            continue
        if wanted.name not in ours and wanted.kind is wanted.KEYWORD_ONLY and takes_any_keyword:
            continue
        assert wanted.name in ours
        found = ours[wanted.name]
        assert (found.kind, found.default) == (wanted.kind, wanted.default)
        if wanted.kind is wanted.POSITIONAL_OR_KEYWORD:
            assert list(ours).index(wanted.name) == position
    # What ours has in addition nobody has to give.
    names = {each.name for each in expected}
    for extra in (each for each in ours.values() if each.name not in names):
        assert extra.kind is extra.VAR_KEYWORD or extra.default is not extra.empty
    assert inspect.iscoroutinefunction(method) == inspect.iscoroutinefunction(model)


@pytest.mark.parametrize("name", NAMES)
def test_public_method_is_not_the_abstract_loops_own(loop, stock, name):
    """That one only raises NotImplementedError; a Python to come may add another."""
    abstract = getattr(asyncio.AbstractEventLoop, name, None)
    if getattr(type(stock), name) is abstract:
        pytest.skip("stock asyncio's loop leaves it so, too")
    assert getattr(type(loop), name) is not abstract


def test_attributes_that_programs_set_are_there(loop, stock):
    assert loop.slow_callback_duration == stock.slow_callback_duration == 0.1
    loop.slow_callback_duration = 1
    assert loop.slow_callback_duration == 1
    loop.attribute_of_mine = "kept"
    assert loop.attribute_of_mine == "kept"


@pytest.mark.parametrize("kind", ["call_soon", "call_later"])
def test_handles_have_every_public_name_of_asyncios(loop, kind):
    arguments = {"call_soon": (print,), "call_later": (1, print)}[kind]
    handle = getattr(loop, kind)(*arguments)
    handle.cancel()
    model = {"call_soon": asyncio.Handle, "call_later": asyncio.TimerHandle}[kind]
    assert isinstance(handle, model)
    for name in public_names(model):
        assert callable(getattr(handle, name))


def test_servers_have_every_public_name_of_asyncios(loop):
    async def main():
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        missing = {
            name for name in public_names(asyncio.base_events.Server) if not hasattr(server, name)
        }
        server.close()
        await server.wait_closed()
        return missing

    assert loop.run_until_complete(main()) == set()


# A closed loop.

REFUSED = {
    "call_soon": lambda loop: loop.call_soon(print),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(print),
    "call_later": lambda loop: loop.call_later(1, print),
    "call_at": lambda loop: loop.call_at(1, print),
    "run_forever": lambda loop: loop.run_forever(),
    "create_task": lambda loop: loop.create_task(None),
    "run_in_executor": lambda loop: loop.run_in_executor(None, print),
    "add_reader": lambda loop: loop.add_reader(0, print),
    "add_writer": lambda loop: loop.add_writer(0, print),
}
REFUSED_COROUTINES = {
    "getaddrinfo": lambda loop: loop.getaddrinfo("127.0.0.1", 80),
    "getnameinfo": lambda loop: loop.getnameinfo(("127.0.0.1", 80)),
    "getnameinfo of numbers": lambda loop: loop.getnameinfo(
        ("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    ),
    "create_connection": lambda loop: loop.create_connection(asyncio.Protocol, "127.0.0.1", 1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_closed_loop_refuses(make_loop, name):
    loop = make_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        REFUSED[name](loop)


@pytest.mark.parametrize("name", REFUSED_COROUTINES)
def test_closed_loop_refuses_to_begin(make_loop, name):
    loop = make_loop()
    loop.close()
    coroutine = REFUSED_COROUTINES[name](loop)
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        coroutine.send(None)


def test_closed_loop_receives_and_sends_what_needs_no_waiting(make_loop):
    loop = make_loop()
    loop.close()
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.send(b"x")
        with pytest.raises(StopIteration) as caught:
            loop.sock_recv(one, 1).send(None)
        assert caught.value.value == b"x"
        with pytest.raises(StopIteration):
            loop.sock_sendall(one, b"y").send(None)
        assert other.recv(1) == b"y"
        with pytest.raises(RuntimeError, match="^Event loop is closed$"):
            loop.sock_recv(one, 1).send(None)


def test_closed_loop_still_answers_what_asks_nothing_of_it(make_loop):
    loop = make_loop()
    loop.close()
    loop.close()
    loop.stop()
    loop.set_debug(True)
    assert loop.get_debug()
    assert not loop.is_running()
    assert loop.is_closed()
    assert "closed=True" in repr(loop)
    assert isinstance(loop.time(), float)
    assert loop.create_future().get_loop() is loop
    for descriptor in (0, -1):
        assert loop.remove_reader(descriptor) is False
        assert loop.remove_writer(descriptor) is False
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    with concurrent.futures.ThreadPoolExecutor() as executor:
        assert loop.set_default_executor(executor) is None


@pytest.mark.parametrize("method", ["remove_reader", "remove_writer"])
@pytest.mark.parametrize("thing", ["text", None, 1.5, object()])
def test_closed_loop_asked_about_what_is_no_file_raises_value_error(make_loop, method, thing):
    loop = make_loop()
    loop.close()
    with pytest.raises(ValueError, match="Invalid file object"):
        getattr(loop, method)(thing)


def test_create_task_on_a_closed_loop_closes_no_coroutine_of_the_caller(make_loop):
    async def coroutine():
        return 1

    loop = make_loop()
    loop.close()
    given = coroutine()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.create_task(given)
    with pytest.raises(StopIteration):
        given.send(None)
