"""gunicorn's workers on our event loop: gunicorn -k uring_loop.workers.NAME app:app

    UvicornWorker    of the package uvicorn-worker
    ASGIWorker       gunicorn's own, of gunicorn 24 and later
    AiohttpWorker    aiohttp's GunicornWebWorker

Each class is made when it is first asked for, so that only its own package
need be installed.  A worker makes its loop after the fork; what the loop needs
is imported before, once for all workers, for until a worker has its own signal
handlers it does not hear gunicorn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from . import EventLoop as _imported_before_the_fork  # noqa: F401
from . import new_event_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _make_uvicorn_worker() -> type:
    from uvicorn_worker import UvicornWorker

    class UringUvicornWorker(UvicornWorker):  # type: ignore[misc]  # Any here
        """uvicorn, with --loop uring_loop:new_event_loop."""

        CONFIG_KWARGS = {**UvicornWorker.CONFIG_KWARGS, "loop": "uring_loop:new_event_loop"}

    return UringUvicornWorker


def _make_asgi_worker() -> type:
    from gunicorn.workers.gasgi import ASGIWorker

    class UringASGIWorker(ASGIWorker):  # type: ignore[misc]  # Any here
        """gunicorn's ASGI worker; its --asgi-loop knows no other loops by name."""

        def _setup_event_loop(self) -> None:
            self.loop = new_event_loop()
            asyncio.set_event_loop(self.loop)

    return UringASGIWorker


def _make_aiohttp_worker() -> type:
    from aiohttp.worker import GunicornWebWorker

    class UringAiohttpWorker(GunicornWebWorker):  # type: ignore[misc]  # Any here
        """aiohttp's worker, which asks asyncio for its loop."""

        def init_process(self) -> None:
            self.loop = new_event_loop()
            asyncio.set_event_loop(self.loop)
            # Past GunicornWebWorker's own, whose only work is to make another loop.
            super(GunicornWebWorker, self).init_process()

    return UringAiohttpWorker


_MAKERS: dict[str, Callable[[], type]] = {
    "ASGIWorker": _make_asgi_worker,
    "AiohttpWorker": _make_aiohttp_worker,
    "UvicornWorker": _make_uvicorn_worker,
}


def __getattr__(name: str) -> Any:
    if name not in _MAKERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    worker = globals()[name] = _MAKERS[name]()
    return worker


def __dir__() -> list[str]:
    return sorted({*_MAKERS, *(name for name in globals() if name.startswith("__"))})
