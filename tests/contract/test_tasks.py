"""Futures, tasks and task factories, as far as the loop makes them."""

import asyncio
import contextvars
import sys

import pytest
from harness import iterations, oracle_lacks, run


async def coroutine_of_this_test():
    await asyncio.sleep(0)
    return "result"


def test_create_future_belongs_to_the_loop(loop):
    future = loop.create_future()
    assert isinstance(future, asyncio.Future)
    assert future.get_loop() is loop
    assert not future.done()


def test_future_callbacks_run_through_the_loop_in_order(loop):
    seen = []
    future = loop.create_future()
    for number in range(5):
        future.add_done_callback(lambda _, number=number: seen.append(number))
    future.set_result(None)
    assert seen == []
    run(loop, iterations(1))
    assert seen == [0, 1, 2, 3, 4]


def test_create_task_returns_a_task_of_the_loop(loop):
    task = loop.create_task(coroutine_of_this_test())
    assert isinstance(task, asyncio.Task)
    assert task.get_loop() is loop
    assert loop.run_until_complete(task) == "result"


def test_create_task_name_is_kept(loop):
    task = loop.create_task(coroutine_of_this_test(), name="named")
    assert task.get_name() == "named"
    loop.run_until_complete(task)
    task = loop.create_task(coroutine_of_this_test())
    assert task.get_name().startswith("Task-")
    loop.run_until_complete(task)


def test_create_task_context_is_used(loop):
    variable = contextvars.ContextVar("variable", default="outside")

    async def read():
        await asyncio.sleep(0)
        return variable.get()

    context = contextvars.copy_context()
    context.run(variable.set, "inside")
    assert loop.run_until_complete(loop.create_task(read(), context=context)) == "inside"
    assert loop.run_until_complete(loop.create_task(read())) == "outside"


@pytest.mark.parametrize("thing", [None, 1, print, "text"])
def test_create_task_of_no_coroutine_raises_type_error(loop, thing):
    with pytest.raises(TypeError, match="a coroutine was expected, got "):
        loop.create_task(thing)


def test_tasks_run_interleaved_in_order_of_creation(loop):
    seen = []

    async def work(name):
        for number in range(3):
            seen.append((name, number))
            await asyncio.sleep(0)

    async def main():
        await asyncio.gather(work("a"), work("b"))

    run(loop, main())
    assert seen == [(name, number) for number in range(3) for name in "ab"]


def test_task_cancelled_while_waiting_for_a_timer_ends_at_once(loop):
    async def main():
        task = loop.create_task(asyncio.sleep(3600))
        await iterations(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(loop, main())


def test_task_factory_default_is_none_and_set_is_returned(loop):
    assert loop.get_task_factory() is None

    def factory(loop, coroutine, **options):
        return asyncio.Task(coroutine, loop=loop, **options)

    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None


def test_task_factory_not_callable_raises_type_error(loop):
    with pytest.raises(TypeError, match="^task factory must be a callable or None$"):
        loop.set_task_factory(1)


def test_task_factory_makes_every_task(loop):
    made = []

    class Mine(asyncio.Task):
        pass

    def factory(loop, coroutine, **options):
        # asyncio up to 3.13 gives only a context that was asked for; later also the name.
        task = Mine(coroutine, loop=loop, **options)
        made.append(task)
        return task

    loop.set_task_factory(factory)

    async def main():
        one = asyncio.create_task(coroutine_of_this_test(), name="one")
        other = asyncio.ensure_future(coroutine_of_this_test())
        await asyncio.gather(one, other)
        return one, other

    one, other = run(loop, main())
    assert type(one) is Mine
    assert type(other) is Mine
    assert one.get_name() == "one"
    assert one in made
    assert other in made


@pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="asyncio of this Python demands set_name() of a task"
)
def test_task_factory_whose_tasks_cannot_be_named_is_warned_of(loop):
    made = object()

    def factory(loop, coroutine, **options):
        coroutine.close()
        return made

    loop.set_task_factory(factory)
    with pytest.warns(DeprecationWarning, match=r"^Task\.set_name\(\) was added in Python 3\.8"):
        assert loop.create_task(coroutine_of_this_test(), name="named") is made
    loop.set_task_factory(None)


def test_task_factory_gets_the_context_asked_for(loop):
    seen = []

    def factory(loop, coroutine, **options):
        seen.append(options.get("context"))
        return asyncio.Task(coroutine, loop=loop, **options)

    context = contextvars.copy_context()
    loop.set_task_factory(factory)
    loop.run_until_complete(loop.create_task(coroutine_of_this_test(), context=context))
    assert seen[0] is context


@pytest.mark.parametrize(
    "given", [{}, {"name": None}, {"context": None}, {"name": None, "context": None}, {"name": "x"}]
)
@pytest.mark.skipif(
    sys.version_info < (3, 14), reason="asyncio of this Python chooses what it passes to a factory"
)
def test_task_factory_gets_the_keywords_that_were_given_and_no_others(loop, given):
    seen = []

    def factory(loop, coroutine, **options):
        seen.append(options)
        return asyncio.Task(coroutine, loop=loop, **options)

    loop.set_task_factory(factory)
    loop.run_until_complete(loop.create_task(coroutine_of_this_test(), **given))
    assert seen[0] == given


@pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="asyncio of this Python passes on whatever was given"
)
def test_task_factory_without_options_is_enough_for_keywords_that_are_none(loop):
    def factory(loop, coroutine):
        return asyncio.Task(coroutine, loop=loop)

    loop.set_task_factory(factory)
    task = loop.create_task(coroutine_of_this_test(), name=None, context=None)
    assert loop.run_until_complete(task) == "result"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio of this Python has no eager tasks")
def test_eager_task_factory_runs_the_coroutine_before_create_task_returns(loop):
    loop.set_task_factory(asyncio.eager_task_factory)
    seen = []

    async def child():
        seen.append("child")
        return "result"

    async def main():
        task = asyncio.create_task(child())
        seen.append("main")
        assert task.done()
        return await task

    assert run(loop, main()) == "result"
    assert seen == ["child", "main"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio of this Python has no eager tasks")
def test_eager_task_that_blocks_finishes_later(loop):
    loop.set_task_factory(asyncio.eager_task_factory)

    async def main():
        future = loop.create_future()

        async def child():
            return await future

        task = asyncio.create_task(child(), name="eager")
        assert not task.done()
        assert task.get_name() == "eager"
        future.set_result(1)
        return await task

    assert run(loop, main()) == 1


def test_task_group_waits_for_all_and_cancels_on_error(loop):
    async def fail():
        await asyncio.sleep(0)
        raise LookupError

    async def main():
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                waiting = group.create_task(asyncio.sleep(3600))
                group.create_task(fail())
        assert waiting.cancelled()
        assert [type(error) for error in caught.value.exceptions] == [LookupError]

    run(loop, main())


def test_gather_of_hundreds_returns_results_in_order(loop):
    async def value(number):
        for _ in range(number % 4):
            await asyncio.sleep(0)
        return number

    async def main():
        return await asyncio.gather(*(value(n) for n in range(300)))

    assert run(loop, main()) == list(range(300))


def test_synchronisation_primitives_work_across_tasks(loop):
    async def main():
        queue = asyncio.Queue(3)
        lock = asyncio.Lock()
        got = []

        async def produce():
            for number in range(50):
                await queue.put(number)
            await queue.put(None)

        async def consume():
            while (item := await queue.get()) is not None:
                async with lock:
                    got.append(item)

        await asyncio.gather(produce(), consume())
        return got

    assert run(loop, main()) == list(range(50))


def test_current_task_and_all_tasks_know_the_tasks_of_the_loop(loop):
    async def main():
        task = asyncio.current_task()
        other = loop.create_task(iterations(3))
        found = asyncio.all_tasks()
        await other
        return task in found, other in found, other in asyncio.all_tasks()

    assert run(loop, main()) == (True, True, False)


def test_task_source_traceback_outside_debug_is_none(loop):
    task = loop.create_task(coroutine_of_this_test())
    assert not task._source_traceback
    loop.run_until_complete(task)


def test_create_task_on_the_loop_of_an_unknown_keyword_raises(loop, loop_kind):
    oracle_lacks(loop_kind, sys.version_info >= (3, 13, 3), "it passes keywords on to the factory")
    coroutine = coroutine_of_this_test()
    with pytest.raises(TypeError):
        loop.create_task(coroutine, unknown=1)
    coroutine.close()
