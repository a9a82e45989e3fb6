"""What waits for one of the driver's operations, seen from its end: number, error, cancellation.

The verb is made up, and so are its answers: which of them the kernel gives when is its own affair.
"""

import asyncio
import errno

import pytest
from harness import iterations, run

from uring_loop._internal import operations


class Verb:
    """Starts what ends when the test says so."""

    def __init__(self, at_once=None, cancelled=-errno.EALREADY):
        self.at_once = at_once
        self.cancelled = cancelled
        self.asked = 0

    def __call__(self, callback, *arguments):
        if self.at_once is not None:
            return self.at_once
        self.callback = callback
        return self

    def cancel(self):
        """As Request's: 0 where it has ended by that, and calls back no more."""
        self.asked += 1
        return self.cancelled

    def end(self, result):
        self.result = result
        self.callback(self)


@pytest.fixture(params=[operations.run, operations.run_to_end])
def start(request, loop, loop_kind):
    if loop_kind == "asyncio":
        pytest.skip("stock asyncio has no such operations")
    return lambda verb: request.param(loop, verb)


async def started(coroutine):
    task = asyncio.ensure_future(coroutine)
    await iterations(2)
    return task


def test_operation_that_is_done_at_once_gives_its_number_or_its_error(loop, start):
    assert run(loop, start(Verb(at_once=7))) == 7
    with pytest.raises(BrokenPipeError):
        run(loop, start(Verb(at_once=-errno.EPIPE)))


def test_operation_that_ends_later_gives_its_number_or_its_error(loop, start):
    async def main(result):
        verb = Verb()
        task = await started(start(verb))
        assert not task.done()
        verb.end(result)
        return await task

    assert run(loop, main(7)) == 7
    with pytest.raises(BrokenPipeError):
        run(loop, main(-errno.EPIPE))


@pytest.mark.parametrize("result", [7, -errno.ECANCELED])
def test_operation_cancelled_to_its_end_is_waited_for(loop, loop_kind, result):
    if loop_kind == "asyncio":
        pytest.skip("stock asyncio has no such operations")

    async def main():
        verb = Verb()
        task = await started(operations.run_to_end(loop, verb))
        for asked in (1, 2):
            task.cancel()
            await iterations(3)
            assert not task.done()
            assert verb.asked == asked
        verb.end(result)
        with pytest.raises(asyncio.CancelledError):
            await task

    run(loop, main())


def test_operation_that_ends_by_its_cancellation_is_waited_for_no_longer(loop, loop_kind):
    if loop_kind == "asyncio":
        pytest.skip("stock asyncio has no such operations")

    async def main():
        verb = Verb(cancelled=0)
        task = await started(operations.run_to_end(loop, verb))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert verb.asked == 1

    run(loop, main())


def test_waiter_that_has_ended_without_memory_to_call_back_is_not_told_again(loop):
    """Who calls again after a MemoryError would hide that it hangs."""

    class Ending(asyncio.Future):
        def set_result(self, result):
            super().set_result(result)
            raise MemoryError

    class Waiting(asyncio.Future):
        def set_result(self, result):
            raise MemoryError

    for kind, error in ((Ending, RuntimeError), (Waiting, MemoryError)):
        future = kind(loop=loop)
        with pytest.raises(error):
            operations.wake(future, future.set_result, None)
