"""Making our loops where programs make their own: URING_LOOP_AUTO, and what it switches on.

    1     what asyncio makes by itself (asyncio.run(), Runner, new_event_loop()) is ours
    all   and so is what the program asks for by name: asyncio.SelectorEventLoop,
          asyncio.EventLoop, and all of uvloop, installed or not

`python -m uring_loop run` sets it for a program and its children; the hook (_internal/hook.py) lets
every Python of an environment honour it.  Nothing of asyncio is imported before the program
imports it, which is why this module is not in _internal, where everything needs asyncio.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from typing import Any

VARIABLE = "URING_LOOP_AUTO"
OFF, ASYNCIO, ALL = "0", "1", "all"

# What uvloop has, which is what others ask it for.
_UVLOOP_NAMES = ("EventLoopPolicy", "Loop", "install", "new_event_loop", "run")

# How far it has gone in this process.
_reached = OFF


def wanted() -> str:
    """What the environment says: OFF, ASYNCIO or ALL."""
    value = os.environ.get(VARIABLE) or OFF
    if value not in (OFF, ASYNCIO, ALL):
        raise ValueError(f"{VARIABLE} must be '0', '1' or 'all', not {value!r}")
    return value


def start() -> None:
    """Do what the environment says, now or as soon as the program imports asyncio."""
    global _reached
    extent = wanted()
    if extent == OFF or _reached in (extent, ALL):
        return
    _reached = extent
    if extent == ALL:
        sys.modules.setdefault("uvloop", _StandIn("uvloop"))
    if "asyncio" in sys.modules:
        take_over(extent)
    else:
        sys.meta_path.insert(0, _AfterAsyncio(extent))


def take_over(extent: str = ASYNCIO) -> None:
    """Make our loops wherever asyncio makes some, from now on."""
    import asyncio

    from . import new_event_loop
    from ._internal import _stdlib

    if sys.version_info < (3, 16):
        from ._internal.policy import EventLoopPolicy

        _stdlib.set_event_loop_policy(EventLoopPolicy())
    else:
        _stdlib.set_loop_maker(new_event_loop)
    if extent == ALL:
        from . import EventLoop

        stand_in = _by_name(EventLoop, asyncio.SelectorEventLoop)
        for name in ("SelectorEventLoop", "EventLoop"):
            if hasattr(asyncio, name):
                setattr(asyncio, name, stand_in)


def _by_name(ours: type, theirs: type) -> type:
    """A class of ours that is called as asyncio.SelectorEventLoop is."""

    class EventLoop(ours):  # type: ignore[misc]
        def __new__(cls, selector: Any = None) -> Any:
            # Who brings a selector means the loop that asks it.
            return super().__new__(cls) if selector is None else theirs(selector)

        def __init__(self, selector: Any = None) -> None:
            super().__init__()

    EventLoop.__module__ = ours.__module__
    EventLoop.__qualname__ = ours.__qualname__
    return EventLoop


class _StandIn(types.ModuleType):
    """A module of uvloop's names, each of which is ours."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "uring_loop, in uvloop's place: URING_LOOP_AUTO is `all`.")
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.__all__ = _UVLOOP_NAMES

    def __getattr__(self, name: str) -> Any:
        import uring_loop

        if name in _UVLOOP_NAMES or name == "__version__":
            return getattr(uring_loop, name)
        raise AttributeError(f"uring_loop, in the place of {self.__name__!r}, has no {name!r}")


class _AfterAsyncio(importlib.abc.MetaPathFinder):
    """Takes over when asyncio has been imported, and is gone then.

    Not when it was only looked for: `python -m asyncio` does so before it imports it.
    """

    def __init__(self, extent: str) -> None:
        self._extent = extent

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: Any = None
    ) -> ModuleSpec | None:
        if fullname != "asyncio":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self, self._extent)
        return spec


class _Loader(importlib.abc.Loader):
    """asyncio's own loader, and what comes after it."""

    def __init__(self, loader: Any, finder: _AfterAsyncio, extent: str) -> None:
        self._loader = loader
        self._finder = finder
        self._extent = extent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:
        made: types.ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: types.ModuleType) -> None:
        # What asks the module for its file or its resources finds its own loader.
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
            take_over(self._extent)
