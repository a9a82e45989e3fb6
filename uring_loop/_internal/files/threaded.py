"""Functions that the ring has no operation for, awaited: a thread calls them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine

from . import calls

TYPE_CHECKING = False
if TYPE_CHECKING:
    import concurrent.futures
    from typing import Any, ParamSpec, Protocol, TypeVar

    Q = ParamSpec("Q")
    T = TypeVar("T")

    R_co = TypeVar("R_co", covariant=True)

    class Call(Protocol[R_co]):
        """Takes what its namesake in `os` takes."""

        def __call__(
            self,
            *arguments: Any,
            loop: asyncio.AbstractEventLoop | None = None,
            executor: concurrent.futures.Executor | None = None,
            **options: Any,
        ) -> Coroutine[Any, Any, R_co]: ...


async def in_thread(
    function: Callable[Q, T], *arguments: Q.args, **options: Q.kwargs
) -> T:
    """Call it in a thread.  What it is doing is not interrupted when the caller is cancelled."""
    return await calls.of_loop().make(None, None, lambda: function(*arguments, **options))


def threaded(function: Callable[Q, T]) -> Callable[Q, Coroutine[Any, Any, T]]:
    """The function as a coroutine function."""

    async def call(*arguments: Q.args, **options: Q.kwargs) -> T:
        return await in_thread(function, *arguments, **options)

    call.__name__ = call.__qualname__ = function.__name__
    call.__doc__ = f"{function.__module__}.{function.__name__}(), in a thread."
    return call


def wrap(function: Callable[..., T]) -> Call[T]:
    """The function as a coroutine function, called by the executor or the loop's default one."""

    @functools.wraps(function)
    async def call(
        *arguments: Any,
        loop: asyncio.AbstractEventLoop | None = None,
        executor: concurrent.futures.Executor | None = None,
        **options: Any,
    ) -> T:
        if loop is None:
            loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            executor, functools.partial(function, *arguments, **options)
        )

    return call


def takes_loop(function: Callable[..., Coroutine[Any, Any, T]]) -> Call[T]:
    """The coroutine function with aiofiles' two arguments, which have no say."""

    @functools.wraps(function)
    async def call(
        *arguments: Any,
        loop: asyncio.AbstractEventLoop | None = None,
        executor: concurrent.futures.Executor | None = None,
        **options: Any,
    ) -> T:
        return await function(*arguments, **options)

    return call
