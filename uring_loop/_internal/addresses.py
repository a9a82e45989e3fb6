"""Socket addresses: the kernel's struct sockaddr and what Python makes of it.

Both directions, for the families whose form we know; the socket module has no
such function. Source: sockaddr(3type), ip(7), ipv6(7), unix(7).
"""

from __future__ import annotations

import os
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Address = Any

_IPV4_PADDING = bytes(8)
# The 20 bits of a flow label; RFC 8200.
_FLOW_MAX = (1 << 20) - 1


def _decode_ipv4(raw: bytes) -> Address:
    return socket.inet_ntop(socket.AF_INET, raw[4:8]), int.from_bytes(raw[2:4], "big")


def _decode_ipv6(raw: bytes) -> Address:
    host = socket.inet_ntop(socket.AF_INET6, raw[8:24])
    port = int.from_bytes(raw[2:4], "big")
    flow = int.from_bytes(raw[4:8], "big")
    scope = int.from_bytes(raw[24:28], sys.byteorder)
    return host, port, flow, scope


def _decode_unix(raw: bytes) -> Address:
    path = raw[2:]
    if path[:1] == b"\0":
        return path  # an abstract name: bytes, as the socket module gives it
    return os.fsdecode(path.split(b"\0", 1)[0])


_DECODERS: dict[int, Callable[[bytes], Any]] = {
    socket.AF_INET: _decode_ipv4,
    socket.AF_INET6: _decode_ipv6,
    socket.AF_UNIX: _decode_unix,
}


def decode(raw: bytes) -> Address:
    """A kernel's struct sockaddr as the address that the socket module would give.

    raw: the struct, as long as the kernel said it is. KeyError for families
    whose form we do not know. Source: socket.getpeername.
    """
    return _DECODERS[int.from_bytes(raw[:2], sys.byteorder)](raw)


def encode(family: int, address: Address) -> bytes:
    """A numeric Internet address as the struct sockaddr that connect(2) takes.

    family: AF_INET or AF_INET6. ValueError, TypeError or OSError when the
    address is none, or not numeric; the socket module then has better words.
    """
    host, port, *rest = address
    name: bytes = family.to_bytes(2, sys.byteorder) + port.to_bytes(2, "big")
    if family == socket.AF_INET:
        return name + socket.inet_pton(family, host) + _IPV4_PADDING
    if family != socket.AF_INET6:
        raise ValueError(f"not an Internet address family: {family}")
    flow, scope = (*rest, 0, 0)[:2]
    if flow > _FLOW_MAX:
        raise OverflowError(f"no flow label: {flow}")
    # The zone of a link-local address is in `scope` already.
    packed = socket.inet_pton(family, host.partition("%")[0])
    name += flow.to_bytes(4, "big") + packed + scope.to_bytes(4, sys.byteorder)
    return name
