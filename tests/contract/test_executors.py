"""run_in_executor, the default executor and its shutdown; asynchronous generators at shutdown."""

import asyncio
import concurrent.futures
import contextvars
import gc
import sys
import threading

import pytest
from harness import iterations, oracle_lacks, run


def test_run_in_executor_runs_in_another_thread_and_returns(loop):
    async def main():
        return await loop.run_in_executor(None, threading.get_ident)

    assert run(loop, main()) != threading.get_ident()


def test_run_in_executor_passes_arguments_and_exceptions(loop):
    async def main():
        assert await loop.run_in_executor(None, divmod, 7, 3) == (2, 1)
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, divmod, 1, 0)

    run(loop, main())


def test_run_in_executor_default_threads_are_named_asyncio(loop):
    async def main():
        return await loop.run_in_executor(None, lambda: threading.current_thread().name)

    assert run(loop, main()).startswith("asyncio")


def test_run_in_executor_given_one_uses_it(loop):
    with concurrent.futures.ThreadPoolExecutor(thread_name_prefix="mine") as executor:

        async def main():
            return await loop.run_in_executor(executor, lambda: threading.current_thread().name)

        assert run(loop, main()).startswith("mine")


def test_run_in_executor_returns_a_future_before_anything_runs(loop):
    future = loop.run_in_executor(None, str, 5)
    assert isinstance(future, asyncio.Future)
    assert loop.run_until_complete(future) == "5"


def test_run_in_executor_hundreds_at_once_all_come_back(loop):
    async def main():
        jobs = [loop.run_in_executor(None, abs, -n) for n in range(300)]
        return await asyncio.gather(*jobs)

    assert run(loop, main()) == list(range(300))


def test_run_in_executor_cancelled_future_is_harmless(loop):
    release = threading.Event()

    async def main():
        future = loop.run_in_executor(None, release.wait)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        release.set()

    run(loop, main())


def test_to_thread_carries_the_context(loop):
    variable = contextvars.ContextVar("variable")

    async def main():
        variable.set("value")
        return await asyncio.to_thread(variable.get)

    assert run(loop, main()) == "value"


def test_set_default_executor_is_used(loop):
    executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="default")
    loop.set_default_executor(executor)

    async def main():
        return await loop.run_in_executor(None, lambda: threading.current_thread().name)

    assert run(loop, main()).startswith("default")


@pytest.mark.parametrize("thing", [None, 1, "text"])
def test_set_default_executor_of_no_thread_pool_raises_type_error(loop, thing):
    with pytest.raises(TypeError, match="^executor must be ThreadPoolExecutor instance$"):
        loop.set_default_executor(thing)


def test_shutdown_default_executor_waits_for_running_jobs(loop):
    release = threading.Event()
    seen = []

    def job():
        assert release.wait(20)
        seen.append("job done")

    async def main():
        future = loop.run_in_executor(None, job)
        shutdown = asyncio.ensure_future(loop.shutdown_default_executor())
        await iterations(3)
        assert not shutdown.done()
        release.set()
        await shutdown
        seen.append("shut down")
        await future

    run(loop, main())
    assert seen == ["job done", "shut down"]


def test_shutdown_default_executor_without_one_returns(loop):
    run(loop, loop.shutdown_default_executor())
    run(loop, loop.shutdown_default_executor())


def test_shutdown_default_executor_afterwards_the_default_refuses(loop):
    async def main():
        await loop.run_in_executor(None, print)
        await loop.shutdown_default_executor()
        with pytest.raises(RuntimeError, match="^Executor shutdown has been called$"):
            loop.run_in_executor(None, print)

    run(loop, main())


def test_shutdown_default_executor_afterwards_another_executor_still_works(loop):
    async def main():
        await loop.shutdown_default_executor()
        with concurrent.futures.ThreadPoolExecutor() as executor:
            return await loop.run_in_executor(executor, abs, -1)

    assert run(loop, main()) == 1


def test_shutdown_default_executor_out_of_time_warns_and_returns(loop, loop_kind):
    oracle_lacks(loop_kind, sys.version_info < (3, 13), "no timeout, or one that waits anyway")
    release = threading.Event()

    async def main():
        future = loop.run_in_executor(None, release.wait, 20)
        with pytest.warns(RuntimeWarning, match="did not finishing joining its threads within"):
            await loop.shutdown_default_executor(timeout=0.01)
        release.set()
        await future

    run(loop, main())


def test_shutdown_default_executor_that_fails_raises_that(loop):
    class Failing(concurrent.futures.ThreadPoolExecutor):
        def shutdown(self, wait=True, **options):
            super().shutdown(wait, **options)
            if wait and not failed:
                failed.append(True)
                raise LookupError("not like this")

    failed = []
    loop.set_default_executor(Failing())
    with pytest.raises(LookupError, match="not like this"):
        run(loop, loop.shutdown_default_executor())


def test_executor_that_ends_after_its_loop_was_closed_tells_nobody(make_loop, loop_kind):
    oracle_lacks(loop_kind, sys.version_info < (3, 13), "no timeout, or one that waits anyway")
    loop = make_loop()
    release = threading.Event()
    before = set(threading.enumerate())

    async def main():
        loop.run_in_executor(None, release.wait, 20)
        with pytest.warns(RuntimeWarning, match="did not finishing joining its threads within"):
            await loop.shutdown_default_executor(timeout=0.01)

    run(loop, main())
    loop.close()
    release.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()


def test_asyncgen_dropped_after_its_loop_was_closed_harms_nobody(make_loop):
    loop = make_loop()

    async def generate():
        yield 1

    async def main():
        generator = generate()
        await anext(generator)
        return generator

    generator = run(loop, main())
    loop.close()
    del generator
    gc.collect()


def test_close_does_not_wait_for_the_executor(make_loop):
    loop = make_loop()
    release = threading.Event()
    future = loop.run_in_executor(None, release.wait, 20)
    loop.close()
    assert not release.is_set()
    release.set()
    del future


def test_shutdown_asyncgens_closes_the_suspended_ones(loop):
    seen = []

    async def generate():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            seen.append("closed")

    async def main():
        generator = generate()
        assert await anext(generator) == 1
        return generator

    generator = run(loop, main())
    assert seen == []
    run(loop, loop.shutdown_asyncgens())
    assert seen == ["closed"]
    del generator


def test_shutdown_asyncgens_one_failing_reaches_the_handler_and_the_rest_close(loop, errors):
    seen = []

    async def generate(fails):
        try:
            yield
        finally:
            seen.append(fails)
            if fails:
                raise LookupError

    async def main():
        generators = [generate(False), generate(True), generate(False)]
        for generator in generators:
            await anext(generator)
        await loop.shutdown_asyncgens()
        return generators

    generators = run(loop, main())
    assert sorted(seen) == [False, False, True]
    context = errors.pop()
    assert isinstance(context["exception"], LookupError)
    assert context["asyncgen"] in generators
    assert context["message"].startswith(
        "an error occurred during closing of asynchronous generator "
    )


def test_asyncgen_collected_while_running_is_closed_by_the_loop(loop):
    seen = []

    async def main():
        closed = asyncio.Event()

        async def generate():
            try:
                yield
            finally:
                await asyncio.sleep(0)
                seen.append("closed")
                closed.set()

        generator = generate()
        await anext(generator)
        del generator
        gc.collect()
        await closed.wait()

    run(loop, main())
    assert seen == ["closed"]


def test_asyncgen_started_after_the_shutdown_warns(loop):
    async def generate():
        yield

    async def main():
        await loop.shutdown_asyncgens()
        generator = generate()
        with pytest.warns(ResourceWarning, match="was scheduled after loop.shutdown_asyncgens"):
            await anext(generator)
        await generator.aclose()

    run(loop, main())


def test_asyncgen_hooks_are_restored_after_the_run(loop):
    before = sys.get_asyncgen_hooks()

    async def main():
        return sys.get_asyncgen_hooks()

    during = run(loop, main())
    assert during.firstiter is not None
    assert during.finalizer is not None
    assert sys.get_asyncgen_hooks() == before
