"""Names and addresses: getaddrinfo() and getnameinfo().

Names are looked up in the default executor, because the C library blocks.
What is numeric already is answered at once, by the same C functions or, in the
plainest case, without them; the answers are those of socket.getaddrinfo() to the
letter.
"""

from __future__ import annotations

import logging
import socket
import sys

from . import originals
from ._stdlib import logger, numeric_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .loop import EventLoop

    AddressInfo = tuple[Any, Any, int, str, Any]

_NUMERIC_NAMES = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
_AF_INET = socket.AF_INET
# The socket types of which getaddrinfo() knows the protocol: as it names both.
_KINDS: dict[int, tuple[socket.SocketKind, int]] = {
    socket.SOCK_STREAM: (socket.SOCK_STREAM, int(socket.IPPROTO_TCP)),
    socket.SOCK_DGRAM: (socket.SOCK_DGRAM, int(socket.IPPROTO_UDP)),
}


async def getaddrinfo(
    self: EventLoop,
    host: Any,
    port: Any,
    *,
    family: int = 0,
    type: int = 0,
    proto: int = 0,
    flags: int = 0,
) -> list[AddressInfo]:
    """Look up addresses.  Source: asyncio, DNS; socket.getaddrinfo."""
    self._check_closed()
    arguments = (host, port, family, type, proto)
    # Somebody else's getaddrinfo() or run_in_executor() is asked about every name.
    if originals.is_own_function("getaddrinfo") and _uses_own_executor(self):
        if not flags and not self.get_debug():
            info = _dotted_quad(*arguments)
            if info is not None:
                sys.audit("socket.getaddrinfo", *arguments)
                return [info]
        if _is_numeric(host) and _is_numeric_port(port):
            return _look_up(self, *arguments, flags)
    return await self.run_in_executor(None, _look_up, self, *arguments, flags)


async def getnameinfo(self: EventLoop, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
    """Look up the names of an address.  Source: asyncio, DNS; socket.getnameinfo."""
    self._check_closed()
    if (
        flags & _NUMERIC_NAMES == _NUMERIC_NAMES
        and originals.is_own_function("getnameinfo")
        and _uses_own_executor(self)
    ):
        return socket.getnameinfo(sockaddr, flags)
    return await self.run_in_executor(None, socket.getnameinfo, sockaddr, flags)


async def ensure_resolved(
    loop: EventLoop,
    address: Any,
    *,
    family: int = 0,
    type: int = socket.SOCK_STREAM,
    proto: int = 0,
    flags: int = 0,
) -> list[AddressInfo]:
    """The addresses of (host, port, ...), without a look-up where it is an address already."""
    host, port = address[:2]
    info = numeric_address(host, port, family, type, proto, *address[2:])
    if info is not None:
        return [info]
    return await loop.getaddrinfo(host, port, family=family, type=type, proto=proto, flags=flags)


def _dotted_quad(host: Any, port: Any, family: Any, type: Any, proto: Any) -> AddressInfo | None:
    """The answer of getaddrinfo() for an IPv4 address and a port, for one type of sockets."""
    if (
        host.__class__ is not str
        or port.__class__ is not int
        or not 0 <= port <= 65535
        or (family != 0 and family != _AF_INET)
        or not isinstance(type, int)
    ):
        return None
    if type not in _KINDS:
        return None
    kind, protocol = _KINDS[type]
    if proto != 0 and proto != protocol:
        return None
    try:
        # Takes nothing but four numbers without leading zeros: the text is the canonical one.
        socket.inet_pton(_AF_INET, host)
    except (OSError, ValueError):
        return None
    return _AF_INET, kind, protocol, "", (host, port)


def _uses_own_executor(loop: EventLoop) -> bool:
    own: Any = loop._own_run_in_executor
    return getattr(loop.run_in_executor, "__func__", None) is own.__func__


def _is_numeric(host: Any) -> bool:
    """Whether the C library looks nothing up for it: of that it is told only once."""
    if host is None:
        return True
    if isinstance(host, bytes):
        try:
            host = host.decode("ascii")
        except UnicodeDecodeError:
            return False
    # inet_aton() ends at a blank, and getaddrinfo() does not.
    if not isinstance(host, str) or any(character.isspace() for character in host):
        return False
    try:
        if ":" in host:
            socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
        else:
            # Forms like "127.1" and "0x7f.1" too.
            socket.inet_aton(host)
    except (OSError, ValueError):
        return False
    return True


def _is_numeric_port(port: Any) -> bool:
    if port is None or isinstance(port, int):
        return True
    return isinstance(port, str | bytes) and port.isdigit()


def _look_up(
    loop: EventLoop, host: Any, port: Any, family: int, type: int, proto: int, flags: int
) -> list[Any]:
    if not loop.get_debug():
        return socket.getaddrinfo(host, port, family, type, proto, flags)
    parts = [f"{host}:{port!r}"]
    names = {"family": family, "type": type, "proto": proto, "flags": flags}
    parts += [f"{name}={value!r}" for name, value in names.items() if value]
    what = ", ".join(parts)
    logger.debug("Get address info %s", what)
    started = loop.time()
    infos = socket.getaddrinfo(host, port, family, type, proto, flags)
    seconds = loop.time() - started
    level = logging.INFO if seconds >= loop.slow_callback_duration else logging.DEBUG
    logger.log(level, "Getting address info %s took %.3fms: %r", what, seconds * 1e3, infos)
    return infos
