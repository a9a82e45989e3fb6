"""add_reader() and its family: callbacks on a descriptor's readiness.

Owns what asyncio adds to epoll: file objects instead of descriptors, objects
that were closed while watched, and descriptors that a transport uses.  The
watching itself is the core's.

The four add/remove functions are methods of EventLoop, hence the first parameter.
Source: asyncio, Watching file descriptors.
"""

from __future__ import annotations

from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVarTuple

    Ts = TypeVarTuple("Ts")

    from .loop import EventLoop


def descriptor_of(fileobj: Any) -> int:
    """The descriptor of a file object, or the descriptor itself.  ValueError when it has none."""
    if isinstance(fileobj, int):
        descriptor = fileobj
    else:
        try:
            descriptor = int(fileobj.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"Invalid file object: {fileobj!r}") from None
    if descriptor < 0:
        raise ValueError(f"Invalid file descriptor: {descriptor}")
    return descriptor


def check_descriptor_free(loop: EventLoop, descriptor: int, fileobj: Any = None) -> None:
    """RuntimeError when an open transport of this loop owns the descriptor."""
    transport = loop._owner_of(descriptor)
    if transport is None and loop._other_transports is not None:
        other = loop._other_transports.get(descriptor)
        transport = None if other is None or other.is_closing() else other
    if transport is not None:
        fileobj = descriptor if fileobj is None else fileobj
        raise RuntimeError(f"File descriptor {fileobj!r} is used by transport {transport!r}")


def add_reader(self: EventLoop, fd: Any, callback: Callable[[*Ts], object], *args: *Ts) -> None:
    """Call callback(*args) in every turn in which `fd` is readable."""
    descriptor = descriptor_of(fd)
    check_descriptor_free(self, descriptor, fd)
    self._add_reader(descriptor, callback, *args)
    if fd is not descriptor:
        self._reader_objects[descriptor] = fd


def remove_reader(self: EventLoop, fd: Any) -> bool:
    """Stop watching `fd` for reading; whether it was watched."""
    if self.is_closed():
        return _never_watched(fd)
    descriptor = _watched_descriptor(self, self._reader_objects, fd)
    self._reader_objects.pop(descriptor, None)
    return self._remove_reader(descriptor)


def add_writer(self: EventLoop, fd: Any, callback: Callable[[*Ts], object], *args: *Ts) -> None:
    """Call callback(*args) in every turn in which `fd` is writable."""
    descriptor = descriptor_of(fd)
    check_descriptor_free(self, descriptor, fd)
    self._add_writer(descriptor, callback, *args)
    if fd is not descriptor:
        self._writer_objects[descriptor] = fd


def remove_writer(self: EventLoop, fd: Any) -> bool:
    """Stop watching `fd` for writing; whether it was watched."""
    if self.is_closed():
        return _never_watched(fd)
    descriptor = _watched_descriptor(self, self._writer_objects, fd)
    self._writer_objects.pop(descriptor, None)
    return self._remove_writer(descriptor)


def _never_watched(fileobj: Any) -> bool:
    """False, if it could have been watched at all: of a closed loop asyncio asks that much."""
    if not isinstance(fileobj, int):
        descriptor_of(fileobj)
    return False


def _watched_descriptor(loop: EventLoop, objects: dict[int, Any], fileobj: Any) -> int:
    try:
        descriptor = descriptor_of(fileobj)
    except ValueError:
        # Closed already: it is known by what it was when it was added.
        for descriptor, watched in objects.items():
            if watched is fileobj:
                return descriptor
        raise
    check_descriptor_free(loop, descriptor, fileobj)
    return descriptor
