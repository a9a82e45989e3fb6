"""The numbers that a call of a file or a path is given, checked as io and os check them.

A request has fields of 32 and 64 bits.  What does not fit is refused here, with
the type of exception that io or os raises, before anything else is done.
"""

from __future__ import annotations

import errno
import operator
import sys

from ..operations import os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_INT_MAX = 2**31 - 1
_OFFSET_MAX = 2**63 - 1


def size(number: Any) -> int:
    """A size to take, which must fit into an index."""
    value = operator.index(number)
    if not -sys.maxsize - 1 <= value <= sys.maxsize:
        raise OverflowError("cannot fit 'int' into an index-sized integer")
    return value


def wanted(number: Any) -> int:
    """A size to read; -1, or None, for all."""
    return -1 if number is None else size(number)


def offset(number: Any) -> int:
    """A place in a file or a length of it, with a sign."""
    value = operator.index(number)
    if not -_OFFSET_MAX - 1 <= value <= _OFFSET_MAX:
        raise OverflowError(f"a file has no place {value}: it takes more than 63 bits")
    return value


def place(number: Any) -> int:
    """A place in a file or a length of it, from 0 on."""
    value = offset(number)
    if value < 0:
        raise os_error(-errno.EINVAL)
    return value


def c_int(number: Any) -> int:
    """A number that C keeps in an int: permissions, a descriptor that may be negative."""
    value = operator.index(number)
    if not -_INT_MAX - 1 <= value <= _INT_MAX:
        raise OverflowError(f"{value} does not fit into a C int")
    return value


def descriptor(fd: Any) -> int:
    """An open file's descriptor, or that of an object that has fileno()."""
    if isinstance(fd, int):
        number = fd
    else:
        try:
            fileno = fd.fileno
        except AttributeError:
            raise TypeError("argument must be an int, or have a fileno() method") from None
        number = fileno()
        if not isinstance(number, int):
            raise TypeError("fileno() returned a non-integer")
    number = c_int(number)
    if number < 0:
        raise ValueError(f"file descriptor cannot be a negative integer ({number})")
    return number


def directory(dir_fd: Any, default: int) -> int:
    """`dir_fd` as os takes it; None is `default`."""
    if dir_fd is None:
        return default
    if not hasattr(type(dir_fd), "__index__"):
        raise TypeError(f"argument should be integer or None, not {type(dir_fd).__name__}")
    return c_int(dir_fd)
