"""Datagram endpoints: their creation, and the half of the transport that is not hot.

The hot half (receiving, sending, the queue, closing) is the C type
`_core.Datagram`; names, repr and limits are in transports.py. Knows neither
verbs nor drivers.
Source: asyncio, loop.create_datagram_endpoint.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable

from .. import _core
from . import _stdlib, originals, readers, resolve, unix_files
from ._stdlib import logger
from .transports import SocketTransport, until_made

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from .loop import EventLoop

    P = TypeVar("P", bound=asyncio.BaseProtocol)
    ProtocolFactory = Callable[[], P]

    # (family, proto) and the local and the remote address, either of which may be None.
    Candidate = tuple[int, int, Any, Any]

# Methods of the socket that asyncio's transport calls; so do we, if they are somebody's own.
_METHODS = ("recvfrom", "send", "sendto")
_SENDS_EMPTY = _stdlib.datagram_sends_empty()
# Since empty datagrams can be sent they count as something in the write buffer.
_HEADER_BYTES = 8 if _SENDS_EMPTY else 0
_EXPECTED = "A datagram socket" if sys.version_info >= (3, 13) else "A UDP Socket"


class DatagramTransport(SocketTransport, _core.Datagram):
    """A datagram socket, connected or not, on either driver.

    sock: a socket object, which the transport owns from here on.
    address: the only one that sendto() may name; None for any.
    The protocol's connection_made() is called in the next turn, then receiving
    starts, then `waiter` (a future) gets its result.
    Source: asyncio, Transports and protocols.
    """

    _socket_kind = socket.SOCK_DGRAM

    def __init__(
        self,
        loop: EventLoop,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: Any = None,
        waiter: asyncio.Future[None] | None = None,
    ) -> None:
        by_socket = not all(originals.is_own_method(sock, name) for name in _METHODS)
        super().__init__(
            loop, sock, protocol, address, waiter, _SENDS_EMPTY, _HEADER_BYTES, by_socket
        )


async def create_datagram_endpoint(
    self: EventLoop,
    protocol_factory: ProtocolFactory[P],
    local_addr: Any = None,
    remote_addr: Any = None,
    *,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    reuse_port: bool | None = None,
    allow_broadcast: bool | None = None,
    sock: socket.socket | None = None,
) -> tuple[DatagramTransport, P]:
    """Make a datagram socket and a transport for it; gives (transport, protocol).

    A method of EventLoop. Source: asyncio, loop.create_datagram_endpoint.
    """
    peer = None
    ours = sock is None
    if sock is not None:
        if sock.type == socket.SOCK_STREAM:
            raise ValueError(f"{_EXPECTED} was expected, got {sock!r}")
        options = {
            "local_addr": local_addr,
            "remote_addr": remote_addr,
            "family": family,
            "proto": proto,
            "flags": flags,
            "reuse_port": reuse_port,
            "allow_broadcast": allow_broadcast,
        }
        given = ", ".join(f"{name}={value}" for name, value in options.items() if value)
        if given:
            raise ValueError(
                "socket modifier keyword arguments can not be used when sock is specified. "
                f"({given})"
            )
        sock.setblocking(False)
    else:
        candidates = await _find_candidates(self, local_addr, remote_addr, family, proto, flags)
        failures: list[OSError] = []
        try:
            for candidate in candidates:
                try:
                    sock = await _open_socket(self, candidate, reuse_port, allow_broadcast)
                except OSError as exc:
                    failures.append(exc)
                else:
                    peer = candidate[3]
                    break
            else:
                raise failures[0]
        finally:
            # Their tracebacks hold this very frame.
            failures.clear()

    try:
        readers.check_descriptor_free(self, sock.fileno(), sock)
        protocol = protocol_factory()
        waiter = self.create_future()
        transport = DatagramTransport(self, sock, protocol, peer, waiter)
    except BaseException:
        if ours:
            sock.close()
        raise
    if self.get_debug():
        if local_addr:
            logger.info(
                "Datagram endpoint local_addr=%r remote_addr=%r created: (%r, %r)",
                local_addr,
                remote_addr,
                transport,
                protocol,
            )
        else:
            logger.debug(
                "Datagram endpoint remote_addr=%r created: (%r, %r)",
                remote_addr,
                transport,
                protocol,
            )
    await until_made(transport, waiter)
    return transport, protocol


async def _find_candidates(
    loop: EventLoop, local_addr: Any, remote_addr: Any, family: int, proto: int, flags: int
) -> list[Candidate]:
    """The meanings that the arguments may have, in the order in which they are tried."""
    if not (local_addr or remote_addr):
        if family == 0:
            raise ValueError("unexpected address family")
        return [(family, proto, None, None)]
    if family == socket.AF_UNIX:
        for address in (local_addr, remote_addr):
            if address is not None and not isinstance(address, str):
                raise TypeError("string is expected")
        if local_addr:
            unix_files.remove_stale(local_addr)
        return [(family, proto, local_addr, remote_addr)]

    found: dict[tuple[int, int], list[Any]] = {}
    for side, address in enumerate((local_addr, remote_addr)):
        if address is None:
            continue
        if not (isinstance(address, tuple) and len(address) == 2):
            raise TypeError("2-tuple is expected")
        infos = await resolve.ensure_resolved(
            loop, address, family=family, type=socket.SOCK_DGRAM, proto=proto, flags=flags
        )
        if not infos:
            raise OSError("getaddrinfo() returned empty list")
        for info_family, _, info_proto, _, resolved in infos:
            found.setdefault((info_family, info_proto), [None, None])[side] = resolved
    # Both ends must be of one family and protocol.
    candidates = [
        (*key, *pair)
        for key, pair in found.items()
        if not (local_addr and pair[0] is None) and not (remote_addr and pair[1] is None)
    ]
    if not candidates:
        raise ValueError("can not get address information")
    return candidates


async def _open_socket(
    loop: EventLoop, candidate: Candidate, reuse_port: Any, allow_broadcast: Any
) -> socket.socket:
    """A socket for one candidate, bound and connected as far as it says."""
    family, proto, local, remote = candidate
    sock = socket.socket(family=family, type=socket.SOCK_DGRAM, proto=proto)
    try:
        if reuse_port:
            _stdlib.set_reuse_port(sock)
        if allow_broadcast:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setblocking(False)
        if local:
            sock.bind(local)
        # Connected to a broadcast address it would hear nobody's answer.
        if remote and not allow_broadcast:
            await loop.sock_connect(sock, remote)
    except BaseException:
        sock.close()
        raise
    return sock
