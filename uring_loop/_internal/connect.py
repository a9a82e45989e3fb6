"""Outgoing connections, and transports on sockets that are connected already.

Each public function is a method of EventLoop, hence the first parameter.
Source: asyncio, Opening network connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
import socket
import sys
from collections.abc import Callable

from . import readers, resolve, tls
from ._stdlib import (
    check_ssl_socket,
    closes_given_socket,
    interleave_addresses,
    logger,
    staggered_race,
)
from .streams import open_stream
from .transports import until_made

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl as ssl_module
    from typing import Any, TypeVar

    from .loop import EventLoop

    P = TypeVar("P", bound=asyncio.BaseProtocol)
    ProtocolFactory = Callable[[], P]
    Connected = tuple[asyncio.Transport, P]

_CLOSES_GIVEN_SOCKET = closes_given_socket()
_FACTORY_APART = sys.version_info >= (3, 15)


async def create_connection(
    self: EventLoop,
    protocol_factory: ProtocolFactory[P],
    host: Any = None,
    port: Any = None,
    *,
    ssl: ssl_module.SSLContext | bool | None = None,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    sock: socket.socket | None = None,
    local_addr: tuple[str, int] | None = None,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
    happy_eyeballs_delay: float | None = None,
    interleave: int | None = None,
    all_errors: bool = False,
) -> Connected[P]:
    """Connect to a TCP server; gives (transport, protocol).

    Source: asyncio, loop.create_connection; RFC 8305 for happy_eyeballs_delay.
    """
    if server_hostname is not None and not ssl:
        raise ValueError("server_hostname is only meaningful with ssl")
    if server_hostname is None and ssl:
        # An empty server_hostname is the way to ask for no check of the name.
        if not host:
            raise ValueError("You must set server_hostname when using ssl without a host")
        server_hostname = host
    check_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
    if sock is not None:
        check_ssl_socket(sock)
    if happy_eyeballs_delay is not None and interleave is None:
        interleave = 1

    ours = host is not None or port is not None
    if ours:
        if sock is not None:
            raise ValueError("host/port and sock can not be specified at the same time")
        find = functools.partial(_find_addresses, self, family=family, proto=proto, flags=flags)
        infos = await find((host, port))
        local_infos = None if local_addr is None else await find(local_addr)
        if interleave:
            infos = interleave_addresses(infos, interleave)
        sock = await _connect_any(self, infos, local_infos, happy_eyeballs_delay, all_errors)
    elif sock is None:
        raise ValueError("host and port was not specified and no sock specified")
    elif sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A Stream Socket was expected, got {sock!r}")

    transport, protocol = await _open_transport(
        self,
        sock,
        protocol_factory,
        ssl,
        server_hostname,
        ssl_handshake_timeout=ssl_handshake_timeout,
        ssl_shutdown_timeout=ssl_shutdown_timeout,
        ours=ours,
    )
    if self.get_debug():
        sock = transport.get_extra_info("socket")
        logger.debug("%r connected to %s:%r: (%r, %r)", sock, host, port, transport, protocol)
    return transport, protocol


async def create_unix_connection(
    self: EventLoop,
    protocol_factory: ProtocolFactory[P],
    path: str | bytes | os.PathLike[str] | None = None,
    *,
    ssl: ssl_module.SSLContext | bool | None = None,
    sock: socket.socket | None = None,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> Connected[P]:
    """Connect to a UNIX stream socket; gives (transport, protocol).

    Source: asyncio, loop.create_unix_connection.
    """
    assert server_hostname is None or isinstance(server_hostname, str)
    if ssl:
        if server_hostname is None:
            raise ValueError("you have to pass server_hostname when using ssl")
    elif server_hostname is not None:
        raise ValueError("server_hostname is only meaningful with ssl")
    check_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)

    ours = path is not None
    if path is not None:
        if sock is not None:
            raise ValueError("path and sock can not be specified at the same time")
        address = os.fspath(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await self.sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
    elif sock is None:
        raise ValueError("no path and sock were specified")
    elif sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")

    return await _open_transport(
        self,
        sock,
        protocol_factory,
        ssl,
        server_hostname,
        ssl_handshake_timeout=ssl_handshake_timeout,
        ssl_shutdown_timeout=ssl_shutdown_timeout,
        ours=ours,
    )


async def connect_accepted_socket(
    self: EventLoop,
    protocol_factory: ProtocolFactory[P],
    sock: socket.socket,
    *,
    ssl: ssl_module.SSLContext | bool | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> Connected[P]:
    """A transport for a socket that was accepted elsewhere; gives (transport, protocol).

    Source: asyncio, loop.connect_accepted_socket.
    """
    if sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A Stream Socket was expected, got {sock!r}")
    check_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
    check_ssl_socket(sock)
    transport, protocol = await _open_transport(
        self,
        sock,
        protocol_factory,
        ssl,
        "",
        server_side=True,
        ssl_handshake_timeout=ssl_handshake_timeout,
        ssl_shutdown_timeout=ssl_shutdown_timeout,
    )
    if self.get_debug():
        sock = transport.get_extra_info("socket")
        logger.debug("%r handled: (%r, %r)", sock, transport, protocol)
    return transport, protocol


def check_timeouts(
    ssl: object, ssl_handshake_timeout: float | None, ssl_shutdown_timeout: float | None
) -> None:
    """ValueError for a TLS time limit without TLS."""
    if ssl_handshake_timeout is not None and not ssl:
        raise ValueError("ssl_handshake_timeout is only meaningful with ssl")
    if ssl_shutdown_timeout is not None and not ssl:
        raise ValueError("ssl_shutdown_timeout is only meaningful with ssl")


def _call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    return function(*arguments, **options)


async def _open_transport(
    loop: EventLoop,
    sock: socket.socket,
    protocol_factory: ProtocolFactory[P],
    ssl: ssl_module.SSLContext | bool | None,
    server_hostname: str | None,
    *,
    server_side: bool = False,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
    ours: bool = False,
) -> Connected[P]:
    """Protocol and transport for a connected socket, when they are ready for use.

    ours: nobody else knows the socket, so it is closed if there will be no transport; since
    Python 3.14 so is one that was given.
    """
    to_close = ours
    try:
        sock.setblocking(False)
        readers.check_descriptor_free(loop, sock.fileno(), sock)
        # Not earlier: what another transport uses is not for us to close.
        to_close = ours or _CLOSES_GIVEN_SOCKET
        # Since 3.15 the factory is not part of the connection's context.
        make = contextvars.copy_context().run if _FACTORY_APART else _call
        protocol = protocol_factory()
        waiter = loop.create_future()
        transport: asyncio.Transport
        if ssl:
            transport = make(
                tls.make_transport,
                loop,
                sock,
                protocol,
                None if isinstance(ssl, bool) else ssl,
                waiter,
                server_side=server_side,
                server_hostname=server_hostname,
                ssl_handshake_timeout=ssl_handshake_timeout,
                ssl_shutdown_timeout=ssl_shutdown_timeout,
            )
        else:
            transport = make(open_stream, loop, sock, protocol, waiter)
    except BaseException:
        if to_close:
            sock.close()
        raise
    await until_made(transport, waiter)
    if server_side:
        loop._connections_in += 1
    else:
        loop._connections_out += 1
    return transport, protocol


async def _find_addresses(
    loop: EventLoop, address: Any, *, family: int, proto: int, flags: int
) -> list[resolve.AddressInfo]:
    infos = await resolve.ensure_resolved(
        loop, address, family=family, type=socket.SOCK_STREAM, proto=proto, flags=flags
    )
    if not infos:
        raise OSError("getaddrinfo() returned empty list")
    return infos


async def _connect_any(
    loop: EventLoop,
    infos: list[resolve.AddressInfo],
    local_infos: list[resolve.AddressInfo] | None,
    happy_eyeballs_delay: float | None,
    all_errors: bool,
) -> socket.socket:
    """A socket connected to the first address that answers; closes all others."""
    errors: list[list[OSError]] = []
    connected: list[socket.socket] = []
    over = False

    async def connect_one(info: resolve.AddressInfo) -> socket.socket:
        if over:
            # The race of older Pythons may lose a cancellation, and start another attempt.
            raise asyncio.CancelledError
        mine: list[OSError] = []
        errors.append(mine)
        sock = await _connect_one(loop, info, local_infos, mine)
        connected.append(sock)
        return sock

    winner: socket.socket | None = None
    try:
        if happy_eyeballs_delay is None:
            for info in infos:
                try:
                    winner = await connect_one(info)
                    break
                except OSError:
                    continue
        else:
            attempts = [functools.partial(connect_one, info) for info in infos]
            winner = (await staggered_race(attempts, happy_eyeballs_delay, loop=loop))[0]
    finally:
        over = True
        # Two attempts may have succeeded in the same turn; or we were cancelled in one.
        for sock in connected:
            if sock is not winner:
                sock.close()
    if winner is not None:
        return winner
    failures = [error for mine in errors for error in mine]
    try:
        raise _connection_error(failures, all_errors)
    finally:
        # Their tracebacks hold these very lists: of the frames here and in each attempt.
        failures.clear()
        for mine in errors:
            mine.clear()
        errors.clear()


def _connection_error(failures: list[OSError], all_errors: bool) -> Exception:
    if not failures:
        return TimeoutError("create_connection failed")
    if all_errors:
        return ExceptionGroup("create_connection failed", failures)
    first = str(failures[0])
    if all(str(failure) == first for failure in failures):
        return failures[0]
    texts = ", ".join(str(failure) for failure in failures)
    return OSError(f"Multiple exceptions: {texts}")


async def _connect_one(
    loop: EventLoop,
    info: resolve.AddressInfo,
    local_infos: list[resolve.AddressInfo] | None,
    errors: list[OSError],
) -> socket.socket:
    """One attempt: make a socket, bind it, connect it.  Its failures go to `errors`."""
    family, kind, proto, _, address = info
    sock = None
    try:
        sock = socket.socket(family, kind, proto)
        sock.setblocking(False)
        if local_infos is not None:
            _bind_local(sock, family, local_infos, errors)
        await loop.sock_connect(sock, address)
        return sock
    except BaseException as exc:
        if isinstance(exc, OSError):
            errors.append(exc)
        if sock is not None:
            # A failure to close what nobody has used must not hide the other one.
            with contextlib.suppress(OSError):
                sock.close()
        raise


def _bind_local(
    sock: socket.socket,
    family: int,
    local_infos: list[resolve.AddressInfo],
    errors: list[OSError],
) -> None:
    for local_family, _, _, _, local_address in local_infos:
        if local_family != family:
            continue
        try:
            sock.bind(local_address)
            return
        except OSError as exc:
            text = (
                f"error while attempting to bind on address {local_address!r}: "
                f"{bind_error_text(exc)}"
            )
            errors.append(OSError(exc.errno, text))
    if errors:
        raise errors.pop()
    raise OSError(f"no matching local address with {family=} found")


def bind_error_text(exc: OSError) -> str:
    """The text of the running Python's asyncio about a failed bind()."""
    if sys.version_info >= (3, 13):
        return str(exc).lower()
    return (exc.strerror or "").lower()
