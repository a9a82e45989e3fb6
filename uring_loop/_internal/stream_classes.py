"""asyncio's streams on this loop: subclasses of their classes whose hot methods are C's.

asyncio makes a StreamReader, a StreamReaderProtocol and a StreamWriter itself, by their
exact classes, and no loop is asked. What a transport of ours is given becomes an instance
of the subclass, which has the same layout and no attributes of its own; subclasses of
others stay what they are. asyncio's classes are not touched: each method here calls
asyncio's for what is rare, and whenever somebody has replaced anything of the class.
"""

from __future__ import annotations

import asyncio

from .. import _core
from . import _stdlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# asyncio's class -> ours.
CLASSES: dict[type, type] = {}

# Which methods are C's, of each class.
_READER = ("feed_data", "readline", "readuntil", "readexactly", "read")
_WRITER = ("write", "writelines", "is_closing", "drain")
_PROTOCOL = ("connection_made", "data_received", "_drain_helper")


def _subclass(base: type, methods: tuple[str, ...]) -> type:
    """A class that cannot be told from its base, but by being another."""
    return type(
        base.__name__,
        (base,),
        {
            "__slots__": (),
            "__doc__": base.__doc__,
            "__module__": __name__,
            **{name: _core.StreamMethod(base, name) for name in methods},
        },
    )


class _Loop:
    """As much of a loop as the classes ask for when they are made."""

    def create_future(self) -> _Loop:
        return self

    def set_result(self, result: None) -> None:
        pass

    def done(self) -> bool:
        return False

    def get_debug(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return True


class _Failed:
    """The reader of a readline() whose wait has failed, as asyncio's readline() sees it."""

    def __init__(self, reader: Any, error: BaseException) -> None:
        self._reader = reader
        self._error = error

    async def readuntil(self, separator: bytes) -> bytes:
        raise self._error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


def line_failed(readline: Any, reader: Any, error: BaseException) -> Any:
    """What asyncio's readline() gives, or raises, when what it has waited for has raised."""
    try:
        return readline(_Failed(reader, error)).send(None)
    except StopIteration as stop:
        return stop.value


def install_stream_classes() -> None:
    """Let the core know the classes. Called once, when the loop is imported.

    Where a class is not as asyncio has written it, or of another layout, it stays as it is.
    """
    loop: Any = _Loop()
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, print, loop=loop)
    writer = asyncio.StreamWriter(loop, protocol, reader, loop)
    for instance, methods in ((reader, _READER), (writer, _WRITER), (protocol, _PROTOCOL)):
        base = type(instance)
        names = _stdlib.own_methods(base)
        if names is None or not set(methods) <= set(names):
            continue
        state = vars(instance)
        own = _subclass(base, methods)
        try:
            # As the core will.
            instance.__class__ = own
        except TypeError:
            continue
        CLASSES[base] = own
        _core.set_stream_class(
            base,
            instance,
            names,
            tuple(name for name in state if not hasattr(base, name)),
            # Only a server's protocols have that one.
            len(state) - ("_strong_reader" in state),
        )
