"""Whether what we go around is still the standard library's own.

A connection that the driver makes passes no connect() of the socket object, a look-up
that needs none passes no getaddrinfo(). Who has put something in their place (a proxy, a
guard of a test suite, a fake) is to be asked, as asyncio does, which calls both.
"""

from __future__ import annotations

import _socket
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Immutable, other than socket.socket, its subclass in Python.
_NATIVE: Any = _socket.socket


def is_own_method(sock: Any, name: str) -> bool:
    """Whether sock.name() is the C function that the socket module brought.

    Not a subclass's, not one that was set on the class, nor on the object.
    """
    # A mock says that it is an instance.
    if not issubclass(type(sock), _NATIVE):
        return False
    native = getattr(_NATIVE, name).__get__(sock)
    return bool(getattr(sock, name, None) == native)


def accepts_by_itself(sock: Any) -> bool:
    """Whether sock.accept() is the function that is written in the socket module."""
    function = getattr(getattr(sock, "accept", None), "__func__", None)
    return getattr(function, "__globals__", None) is vars(socket)


def is_own_function(name: str) -> bool:
    """Whether socket.name() is written in the socket module, or is the C module's."""
    function = getattr(socket, name)
    written_there = getattr(function, "__globals__", None) is vars(socket)
    return written_there or function is getattr(_socket, name, None)
