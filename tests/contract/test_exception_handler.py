"""What happens to exceptions nobody catches: the handler, the log, and their own failures."""

import asyncio
import contextvars
import gc
import logging
import sys
import weakref

import pytest
from harness import iterations, run


class Strange(BaseException):
    """Neither Exception nor one of the two that stop a loop."""


def shown(arguments):
    """How this Python writes a callback's arguments outside debug mode."""
    return f"({arguments})" if sys.version_info < (3, 13) else "()"


def failing(*arguments):
    raise LookupError("from the callback")


@pytest.fixture
def plain_loop(make_loop):
    """A loop without the fixture's exception handler."""
    loop = make_loop()
    yield loop
    loop.close()


def test_exception_handler_default_is_none(plain_loop):
    assert plain_loop.get_exception_handler() is None


def test_exception_handler_set_is_returned_and_none_restores(plain_loop):
    def handler(loop, context):
        pass

    plain_loop.set_exception_handler(handler)
    assert plain_loop.get_exception_handler() is handler
    plain_loop.set_exception_handler(None)
    assert plain_loop.get_exception_handler() is None


@pytest.mark.parametrize("thing", [1, "text", []])
def test_exception_handler_not_callable_raises_type_error(plain_loop, thing):
    with pytest.raises(TypeError, match="^A callable object or None is expected, got "):
        plain_loop.set_exception_handler(thing)


@pytest.mark.parametrize("exception", [LookupError, asyncio.CancelledError, Strange, GeneratorExit])
@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_soon_threadsafe"])
def test_callback_raising_reaches_the_handler_and_the_loop_goes_on(
    loop, errors, method, exception
):
    def callback(argument):
        raise exception

    arguments = (0,) if method == "call_later" else ()
    handle = getattr(loop, method)(*arguments, callback, "argument")
    seen = []
    loop.call_soon(seen.append, "went on")
    run(loop, iterations(2))
    context = errors.pop()
    assert errors == []
    assert isinstance(context["exception"], exception)
    assert context["handle"] is handle
    assert context["message"].startswith("Exception in callback ")
    assert callback.__qualname__ + shown("'argument'") in context["message"]
    assert "source_traceback" not in context
    assert seen == ["went on"]


def test_handler_gets_loop_and_context(plain_loop):
    seen = []
    plain_loop.set_exception_handler(lambda *got: seen.append(got))
    context = {"message": "mine", "extra": 1}
    plain_loop.call_exception_handler(context)
    assert seen == [(plain_loop, context)]
    assert seen[0][1] is context


def test_default_handler_logs_message_and_traceback(plain_loop, caplog):
    plain_loop.call_soon(failing, 1)
    with caplog.at_level(logging.ERROR, "asyncio"):
        run(plain_loop, iterations(1))
    (record,) = caplog.records
    assert record.name == "asyncio"
    assert record.getMessage().startswith("Exception in callback failing" + shown(1))
    assert "handle: <Handle failing" + shown(1) in record.getMessage()
    assert record.exc_info[0] is LookupError
    assert record.exc_info[2] is not None


def test_default_handler_logs_every_key_in_order(plain_loop, caplog):
    with caplog.at_level(logging.ERROR, "asyncio"):
        plain_loop.default_exception_handler({"zebra": 1, "message": "hello", "ant": "two"})
    assert caplog.records[0].getMessage() == "hello\nant: 'two'\nzebra: 1"
    assert not caplog.records[0].exc_info


def test_default_handler_without_message_says_so(plain_loop, caplog):
    with caplog.at_level(logging.ERROR, "asyncio"):
        plain_loop.call_exception_handler({})
    assert caplog.records[0].getMessage() == "Unhandled exception in event loop"


def test_default_handler_in_debug_mode_tells_where_it_was_scheduled(plain_loop, caplog):
    plain_loop.set_debug(True)
    plain_loop.slow_callback_duration = 60
    with caplog.at_level(logging.ERROR, "asyncio"):
        plain_loop.call_soon(failing)
        run(plain_loop, iterations(1))
    text = caplog.records[0].getMessage()
    assert "Object created at (most recent call last):" in text
    assert "test_exception_handler.py" in text


def test_default_handler_in_debug_mode_names_the_running_handle(plain_loop, caplog):
    plain_loop.set_debug(True)
    plain_loop.slow_callback_duration = 60
    with caplog.at_level(logging.ERROR, "asyncio"):
        plain_loop.call_soon(plain_loop.call_exception_handler, {"message": "hello"})
        run(plain_loop, iterations(1))
    text = caplog.records[0].getMessage()
    assert "handle_traceback: Handle created at (most recent call last):" in text
    assert "test_exception_handler.py" in text


def test_handler_raising_is_logged_and_the_loop_goes_on(plain_loop, caplog):
    def handler(loop, context):
        raise ZeroDivisionError("in the handler")

    plain_loop.set_exception_handler(handler)
    plain_loop.call_soon(failing)
    with caplog.at_level(logging.ERROR, "asyncio"):
        run(plain_loop, iterations(2))
    (record,) = caplog.records
    assert record.getMessage().startswith("Unhandled error in exception handler")
    assert record.exc_info[0] is ZeroDivisionError


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_handler_raising_an_interrupt_stops_the_run(plain_loop, exception):
    def handler(loop, context):
        raise exception

    plain_loop.set_exception_handler(handler)
    plain_loop.call_soon(failing)
    with pytest.raises(exception):
        plain_loop.run_forever()
    assert not plain_loop.is_running()
    assert plain_loop.run_until_complete(asyncio.sleep(0, 1)) == 1


def test_default_handler_overridden_and_raising_is_logged(loop_kind, plain_loop, caplog):
    class Sub(type(plain_loop)):
        def default_exception_handler(self, context):
            raise ZeroDivisionError

    loop = Sub()
    loop.call_soon(failing)
    with caplog.at_level(logging.ERROR, "asyncio"):
        run(loop, iterations(1))
        loop.set_exception_handler(failing)
        loop.call_soon(failing)
        run(loop, iterations(1))
    loop.close()
    texts = [record.getMessage() for record in caplog.records]
    assert texts == [
        "Exception in default exception handler",
        "Exception in default exception handler while handling an unexpected error "
        "in custom exception handler",
    ]


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("own", [False, True], ids=["default alone", "behind a handler"])
def test_default_handler_raising_an_interrupt_stops_the_run(plain_loop, exception, own):
    class Sub(type(plain_loop)):
        def default_exception_handler(self, context):
            raise exception

    loop = Sub()
    if own:
        loop.set_exception_handler(failing)
    loop.call_soon(failing)
    with pytest.raises(exception):
        loop.run_forever()
    assert loop.run_until_complete(asyncio.sleep(0, 1)) == 1
    loop.close()


def test_default_handler_overridden_in_a_subclass_is_called(plain_loop):
    seen = []

    class Sub(type(plain_loop)):
        def default_exception_handler(self, context):
            seen.append(context["message"])

    loop = Sub()
    loop.call_exception_handler({"message": "hello"})
    loop.close()
    assert seen == ["hello"]


def test_call_exception_handler_overridden_in_a_subclass_is_called(plain_loop):
    """pytest-asyncio-like tools and CPython's own tests replace it."""
    seen = []

    class Sub(type(plain_loop)):
        def call_exception_handler(self, context):
            seen.append(context["exception"])

    loop = Sub()
    loop.call_soon(failing)
    run(loop, iterations(1))
    loop.close()
    assert [type(exception) for exception in seen] == [LookupError]


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="asyncio of this Python runs the handler in any context"
)
def test_handler_runs_in_the_context_of_the_handle(plain_loop):
    variable = contextvars.ContextVar("variable", default="none")
    seen = []
    plain_loop.set_exception_handler(lambda *_: seen.append(variable.get()))
    context = contextvars.copy_context()
    context.run(variable.set, "of the handle")
    plain_loop.call_soon(failing, context=context)
    run(plain_loop, iterations(1))
    assert seen == ["of the handle"]


def test_task_exception_never_retrieved_reaches_the_handler(loop, errors):
    async def fail():
        raise LookupError

    async def main():
        task = loop.create_task(fail())
        await iterations(2)
        del task

    run(loop, main())
    context = errors.pop()
    assert context["message"] == "Task exception was never retrieved"
    assert isinstance(context["exception"], LookupError)
    assert "task" in context or "future" in context


def test_future_exception_never_retrieved_reaches_the_handler(loop, errors):
    loop.create_future().set_exception(LookupError())
    assert errors.pop()["message"] == "Future exception was never retrieved"


def test_task_destroyed_pending_reaches_the_handler(loop, errors):
    async def wait():
        await loop.create_future()

    async def main():
        task = loop.create_task(wait())
        await iterations(2)
        task.add_done_callback(print)
        asyncio.tasks._unregister_task(task)

    run(loop, main())
    gc.collect()
    assert errors.pop()["message"] == "Task was destroyed but it is pending!"


def test_callback_raising_does_not_keep_the_exceptions_locals_alive(loop, errors):
    class Thing:
        pass

    references = []

    def callback():
        thing = Thing()
        references.append(weakref.ref(thing))
        raise LookupError

    loop.call_soon(callback)
    run(loop, iterations(2))
    errors.clear()
    gc.collect()
    assert references[0]() is None
