"""The position of a file of bytes: its own, or the descriptor's, which others share.

A file's position is its own, and each call of the kernel names its offset,
until somebody else may have the descriptor's: it was adopted, fileno() has
given it away, the process has forked.  From then on the kernel's position is
the truth, as for io's files: children, duplicates and the file move it, and
calls are made where it is (`Descriptor.own_position`).  What was only read
ahead is given back when the number is given away.
"""

from __future__ import annotations

import os
import weakref

from .calls import Serial
from .descriptor import Descriptor
from .unsent import Unsent

# The files whose position is still their own, by id.
_private: dict[int, weakref.ref[PositionedFile]] = {}


def _share_all() -> None:
    """Before a fork: the child will have each of these files, and its position, too."""
    for reference in list(_private.values()):
        file = reference()
        if file is not None and file._descriptor.number >= 0 and not file.closed:
            file._share()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_share_all)


class PositionedFile:
    """A descriptor, a position, and what was read ahead from there or not sent yet.

    appending: whether what is written goes to the end, wherever the position is.
    """

    def __init__(self, descriptor: Descriptor, appending: bool) -> None:
        self._descriptor = descriptor
        self._appending = appending
        self._serial = Serial()
        self._position = 0
        # Read ahead: the byte at _index is the one at _position.
        self._buffer = b""
        self._index = 0
        # Ends at the position.
        self._unsent = Unsent(descriptor, appending)
        # The place where the descriptor was put for others while a call was under way.
        self._lent_at: int | None = None

    @property
    def closed(self) -> bool:
        """Whether it is closed, or close() has been called."""
        raise NotImplementedError

    def _begin_at(self, position: int, shared: bool) -> None:
        self._position = position
        if shared and self._descriptor.seekable:
            self._descriptor.own_position = True
        if not self._descriptor.own_position:
            _private[id(self)] = weakref.ref(self)

    def _end_privacy(self) -> None:
        _private.pop(id(self), None)

    def _share(self) -> None:
        """Others may use the descriptor from now on: it is put where the file is."""
        descriptor = self._descriptor
        if not descriptor.seekable:
            return
        if descriptor.own_position:
            if not self._serial.busy:
                self._give_back()
            return
        if self._lent_at is None:
            # Bytes on their way to an offset will be there.
            self._lent_at = self._position - self._unsent.size + self._unsent.on_its_way
            os.lseek(descriptor.number, self._lent_at, os.SEEK_SET)
        if not self._serial.busy:
            self._end_lending()

    def _end_lending(self) -> None:
        """The last call that named its offset is over: what it moved, the descriptor moves."""
        place = self._position - self._unsent.size
        if self._appending:
            # A write has moved it already.
            os.lseek(self._descriptor.number, place, os.SEEK_SET)
        elif self._lent_at is not None and place != self._lent_at:
            os.lseek(self._descriptor.number, place - self._lent_at, os.SEEK_CUR)
        self._take_own_position()
        self._buffer = b""
        self._index = 0

    def _take_own_position(self, place: int | None = None) -> None:
        """From now on the kernel's position is the truth; perhaps put it at `place` first."""
        self._lent_at = None
        if place is not None:
            os.lseek(self._descriptor.number, place, os.SEEK_SET)
        self._descriptor.own_position = True
        self._end_privacy()

    def _place(self, offset: int) -> int | None:
        """The offset that a call names; None: where the descriptor is."""
        return None if self._descriptor.own_position else offset

    def _find_position(self) -> int:
        """The position; somebody else may have moved it."""
        if self._descriptor.own_position and self._descriptor.seekable:
            unread = len(self._buffer) - self._index
            at = os.lseek(self._descriptor.number, 0, os.SEEK_CUR)
            self._position = at - unread + self._unsent.size
        return self._position

    def _drop_read_ahead(self) -> None:
        unread = len(self._buffer) - self._index
        if unread and self._descriptor.own_position:
            if not self._descriptor.seekable:
                return  # a stream gives its bytes once
            os.lseek(self._descriptor.number, -unread, os.SEEK_CUR)
        self._buffer = b""
        self._index = 0

    def _give_back(self) -> None:
        """Others get to read what was only read ahead, unless they have moved on since."""
        unread = len(self._buffer) - self._index
        if unread and self._descriptor.own_position and self._descriptor.seekable:
            at = os.lseek(self._descriptor.number, 0, os.SEEK_CUR)
            if at == self._position + unread:
                self._drop_read_ahead()
