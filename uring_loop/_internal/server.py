"""Servers: listening sockets, and a transport for each connection they accept.

The core's Listener accepts, and opens the connections; those with TLS are put
together here.  States of a Server: made -> serving -> closed, where closed may
still have clients; wait_closed() waits for those.

create_server() and create_unix_server() are methods of EventLoop, hence their
first parameter.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import itertools
import os
import socket
import sys
import weakref
from collections.abc import Callable, Iterable

from .._core import ClientList, Listener
from . import originals, resolve, tls, unix_files
from ._stdlib import (
    ACCEPT_RETRY_DELAY,
    TransportSocket,
    check_ssl_socket,
    logger,
    set_reuse_port,
)
from .connect import bind_error_text, check_timeouts
from .operations import OUT_OF_RESOURCE, os_error
from .socket_views import ServerSocket
from .streams import open_stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl as ssl_module
    from typing import Any

    from .loop import EventLoop

    ProtocolFactory = Callable[[], asyncio.BaseProtocol]

# Errors of the listening socket itself: to try again would only fail again.
_UNUSABLE = (errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EOPNOTSUPP)

# Until 3.12 asyncio's wait_closed() did not wait for a server that was closed already.
_WAITS_FOR_CLIENTS = sys.version_info >= (3, 12)
# Since 3.13 asyncio passes over addresses of a family that is not enabled.
_SKIPS_UNAVAILABLE = sys.version_info >= (3, 13)
# Since 3.13 asyncio removes the file of a UNIX socket when its server is closed.
_CLEANS_UP_SOCKET = sys.version_info >= (3, 13)

# Since 3.15 connections have the context of who made their server, not of who started it.
_KEEPS_CONTEXT = sys.version_info >= (3, 15)


class Server(ClientList, asyncio.Server):
    """A server of an EventLoop.  Source: asyncio, Server objects."""

    def __init__(
        self,
        loop: EventLoop,
        sockets: list[socket.socket],
        protocol_factory: ProtocolFactory,
        ssl_context: ssl_module.SSLContext | None,
        backlog: int,
        ssl_handshake_timeout: float | None,
        ssl_shutdown_timeout: float | None = None,
        *,
        shared: bool,
        socket_file: tuple[str | bytes, int] | None = None,
    ) -> None:
        # asyncio.Server is a base for isinstance() only; nothing of it runs.
        self._loop = loop
        self._sockets: list[socket.socket] | None = sockets
        self._protocol_factory = protocol_factory
        self._ssl_context = ssl_context
        self._context = contextvars.copy_context() if _KEEPS_CONTEXT else None
        self._backlog = backlog
        self._ssl_handshake_timeout = ssl_handshake_timeout
        self._ssl_shutdown_timeout = ssl_shutdown_timeout
        self._socket_file = socket_file
        # Sockets that the caller made may be accepted from by other processes too.
        self._shared = shared
        self._acceptors: list[_Acceptor] = []
        self._waiters: list[asyncio.Future[None]] | None = []
        self._serving = False
        self._serving_forever_fut: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<{self.__class__.__name__} sockets={self.sockets!r}>"

    def get_loop(self) -> EventLoop:
        """The loop that it serves in."""
        return self._loop

    def is_serving(self) -> bool:
        """Whether it accepts connections."""
        return self._serving

    @property
    def sockets(self) -> tuple[TransportSocket, ...]:  # type: ignore[override]
        """Its listening sockets; none once it is closed."""
        return tuple(ServerSocket(sock, self) for sock in self._sockets or ())

    async def start_serving(self) -> None:
        """Accept connections from now on."""
        self._start_serving()
        # The kernel has the accept by the time this returns.
        await asyncio.sleep(0)

    async def serve_forever(self) -> None:
        """Serve until cancelled, then close."""
        if self._serving_forever_fut is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        self._start_serving()
        self._serving_forever_fut = self._loop.create_future()
        try:
            await self._serving_forever_fut
        except asyncio.CancelledError:
            try:
                self.close()
                if _WAITS_FOR_CLIENTS:
                    # As later patch releases: or it would wait for clients that never leave.
                    self.close_clients()
                await self.wait_closed()
            finally:
                raise
        finally:
            self._serving_forever_fut = None

    def close(self) -> None:
        """Stop accepting and close the listening sockets; connections stay open."""
        sockets = self._sockets
        if sockets is None:
            return
        self._sockets = None
        self._clients_closed = True
        self._serving = False
        if self._loop._runs_elsewhere():
            # Its driver must let go of the sockets before they are closed.
            self._loop._hand_over(self._close, sockets)
        else:
            self._close(sockets)

    def _close(self, sockets: list[socket.socket]) -> None:
        self._stop_accepting()
        for sock in sockets:
            sock.close()
        self._remove_socket_file()
        serving = self._serving_forever_fut
        if serving is not None and not serving.done():
            serving.cancel()
            self._serving_forever_fut = None
        if not self._clients:
            self._wake_waiters()

    def close_clients(self) -> None:
        """Close every open connection."""
        for transport in self._clients:
            transport.close()

    def abort_clients(self) -> None:
        """Close every open connection at once, without sending what is buffered."""
        for transport in self._clients:
            transport.abort()

    async def wait_closed(self) -> None:
        """Wait until it is closed and its connections too."""
        if self._waiters is None or (self._sockets is None and not _WAITS_FOR_CLIENTS):
            return
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _detach(self) -> None:
        """The last of the clients has gone, and the server is closed."""
        # The cycle collector may have found it in any thread.
        if self._loop._runs_elsewhere():
            self._loop._hand_over(self._wake_waiters)
        else:
            self._wake_waiters()

    def _start_serving(self) -> None:
        if self._serving:
            return
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        self._serving = True
        try:
            for sock in self._sockets:
                kind = _Acceptor if originals.accepts_by_itself(sock) else _SocketAcceptor
                acceptor = kind(self, sock)
                sock.listen(self._backlog)
                self._acceptors.append(acceptor)
                acceptor.start()
        except BaseException:
            self._stop_accepting()
            raise

    def _share(self) -> None:
        """Others may accept from our sockets from now on."""
        if self._shared:
            return
        self._shared = True
        for acceptor in self._acceptors:
            acceptor.share()

    def _stop_accepting(self) -> None:
        for acceptor in self._acceptors:
            acceptor.stop()
        self._acceptors.clear()
        # The kernel lets go of the sockets now, so that their addresses are free at once.
        self._loop._submit()
        self._serving = False

    def _wake_waiters(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def _remove_socket_file(self) -> None:
        if self._socket_file is None:
            return
        file, self._socket_file = self._socket_file, None
        unix_files.remove_own(*file)


class _Acceptor:
    """Accepts the connections of one listening socket of a server."""

    __slots__ = ("_listener", "_loop", "_server", "_sock")

    def __init__(self, server: Server, sock: socket.socket) -> None:
        # The listener holds the server, for as long as the loop accepts for it and is open.
        self._server = weakref.ref(server)
        self._loop = server._loop
        self._sock = sock
        context = server._context
        if context is None:
            context = contextvars.copy_context()
        self._listener: Listener | None
        arguments = self._loop, sock.fileno()
        if server._ssl_context:
            callback, factory = self._open_tls, None
        else:
            callback, factory = self._opened, server._protocol_factory
        self._listener = Listener(*arguments, callback, server._shared, context, factory, server)

    def start(self) -> None:
        if self._listener is None:
            return
        if self._sock.fileno() < 0:
            # Its number may be another's by now.
            raise ValueError("the listening socket was closed: do not close it before its server")
        self._listener.start()

    def stop(self) -> None:
        """For good: server.start_serving() makes another."""
        listener, self._listener = self._listener, None
        # It refers to us: both are freed with their last name, as everything of asyncio's is.
        if listener is not None:
            listener.stop()

    def share(self) -> None:
        """Others may accept from the socket from now on."""
        if self._listener is not None:
            self._listener.share()

    # A connection came (its descriptor), or accepting failed (-errno).

    def _opened(
        self,
        descriptor: int,
        protocol: asyncio.BaseProtocol | None = None,
        transport: asyncio.Transport | None = None,
        exc: BaseException | None = None,
    ) -> None:
        """The core opens connections by itself; of this it tells, and of all in debug mode."""
        if descriptor < 0:
            self._accept_failed(os_error(descriptor))
        elif exc is not None:
            self._open_failed(descriptor, protocol, exc)
        else:
            assert transport is not None
            self._log_accepted(transport)

    def _open(self, server: Server, descriptor: int | socket.socket) -> None:
        protocol = waiter = None
        try:
            protocol = server._protocol_factory()
            if server._ssl_context:
                waiter = self._loop.create_future()
                transport = tls.make_transport(
                    self._loop,
                    descriptor,
                    protocol,
                    server._ssl_context,
                    waiter,
                    server_side=True,
                    server=server,
                    ssl_handshake_timeout=server._ssl_handshake_timeout,
                    ssl_shutdown_timeout=server._ssl_shutdown_timeout,
                )
            else:
                transport = open_stream(self._loop, descriptor, protocol, None, server)
        except BaseException as exc:
            self._open_failed(descriptor, protocol, exc)
            return
        if waiter is not None and not self._await_handshake(protocol, transport, waiter):
            return
        if self._loop.get_debug():
            self._log_accepted(transport)

    def _await_handshake(
        self,
        protocol: asyncio.BaseProtocol,
        transport: asyncio.Transport,
        waiter: asyncio.Future[None],
    ) -> bool:
        """Whether somebody will hear how it ends; else there is no connection."""
        handshake = self._handshake(protocol, transport, waiter)
        try:
            # A task, so that cancelling all tasks at the end of a program ends it too.
            self._loop.create_task(handshake)
        except BaseException as exc:
            handshake.close()
            transport.abort()
            if isinstance(exc, SystemExit | KeyboardInterrupt):
                raise
            # As of any callback of asyncio's.
            self._loop.call_exception_handler(
                {
                    "message": "No task could be made for an incoming connection",
                    "exception": exc,
                    "transport": transport,
                }
            )
            return False
        return True

    async def _handshake(
        self,
        protocol: asyncio.BaseProtocol,
        transport: asyncio.Transport,
        waiter: asyncio.Future[None],
    ) -> None:
        try:
            await waiter
        except BaseException as exc:
            # The waiter refers to the exception, and that to this frame.
            del waiter
            transport.close()
            self._report(protocol, transport, exc)

    def _open_failed(
        self,
        descriptor: int | socket.socket,
        protocol: asyncio.BaseProtocol | None,
        exc: BaseException,
    ) -> None:
        """There is no transport, which would have been the descriptor's owner."""
        if isinstance(descriptor, int):
            os.close(descriptor)
        else:
            socket.socket.close(descriptor)
        self._report(protocol, None, exc)

    def _report(
        self,
        protocol: asyncio.BaseProtocol | None,
        transport: asyncio.Transport | None,
        exc: BaseException,
    ) -> None:
        """Tell of a connection that could not be opened, in debug mode, as asyncio does."""
        if isinstance(exc, SystemExit | KeyboardInterrupt):
            raise exc
        if not self._loop.get_debug():
            return
        context: dict[str, Any] = {
            "message": "Error on transport creation for incoming connection",
            "exception": exc,
        }
        if protocol is not None:
            context["protocol"] = protocol
        if transport is not None:
            context["transport"] = transport
        self._loop.call_exception_handler(context)

    def _log_accepted(self, transport: asyncio.Transport) -> None:
        sock = transport.get_extra_info("socket")
        peer = transport.get_extra_info("peername")
        logger.debug("%r got a new connection from %r: %r", self._server(), peer, sock)

    def _open_tls(self, descriptor: int) -> None:
        if descriptor < 0:
            self._accept_failed(os_error(descriptor))
            return
        server = self._server()
        assert server is not None
        self._open(server, descriptor)

    def _accept_failed(self, exc: OSError) -> None:
        if exc.errno in OUT_OF_RESOURCE:
            message = "socket.accept() out of system resource"
        else:
            # accept(2): also errors of the network that belong to one connection.
            message = "socket.accept() failed"
        self._loop.call_exception_handler(
            {"message": message, "exception": exc, "socket": TransportSocket(self._sock)}
        )
        if exc.errno not in _UNUSABLE:
            self._loop.call_later(ACCEPT_RETRY_DELAY, self.start)


class _SocketAcceptor(_Acceptor):
    """The same for a socket whose accept() is somebody's own: that is called when one has come."""

    __slots__ = ("_context", "_held", "_number")

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self._server = weakref.ref(server)
        self._loop = server._loop
        self._sock = sock
        self._listener = None
        self._context = server._context or contextvars.copy_context()
        # The server, while nothing but a timer will accept for it again.
        self._held: Server | None = None
        # The descriptor that is watched, or -1.
        self._number = -1

    def start(self) -> None:
        self._held = None
        server = self._server()
        if server is not None and server._sockets is not None:
            self._number = self._sock.fileno()
            # The loop holds the server, for as long as it watches for it.
            self._loop._add_reader(self._number, self._accept, server)

    def stop(self) -> None:
        self._held = None
        number, self._number = self._number, -1
        if number >= 0 and not self._loop.is_closed():
            self._loop._remove_reader(number)

    def _accept(self, server: Server) -> None:
        for _ in range(server._backlog):
            try:
                connection, _ = self._sock.accept()
                connection.setblocking(False)
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                if exc.errno not in OUT_OF_RESOURCE:
                    raise
                self.stop()
                self._held = server
                self._accept_failed(exc)
                return
            self._loop._connections_in += 1
            self._context.copy().run(self._open, server, connection)


async def create_server(
    self: EventLoop,
    protocol_factory: ProtocolFactory,
    host: str | Iterable[str] | None = None,
    port: Any = None,
    *,
    family: int = socket.AF_UNSPEC,
    flags: int = socket.AI_PASSIVE,
    sock: socket.socket | None = None,
    backlog: int = 100,
    ssl: ssl_module.SSLContext | bool | None = None,
    reuse_address: bool | None = None,
    reuse_port: bool | None = None,
    keep_alive: bool | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
    start_serving: bool = True,
) -> Server:
    """Listen on a TCP port, of one host, several or all.

    Source: asyncio, loop.create_server.
    """
    if isinstance(ssl, bool):
        raise TypeError("ssl argument must be an SSLContext or None")
    check_timeouts(ssl is not None, ssl_handshake_timeout, ssl_shutdown_timeout)
    if sock is not None:
        check_ssl_socket(sock)

    ours = host is not None or port is not None
    if ours:
        if sock is not None:
            raise ValueError("host/port and sock can not be specified at the same time")
        hosts: Iterable[Any]
        if host == "":
            hosts = [None]
        elif isinstance(host, str) or not isinstance(host, Iterable):
            hosts = [host]
        else:
            hosts = host
        found = await asyncio.gather(
            *[_find_addresses(self, name, port, family, flags) for name in hosts]
        )
        # Hosts may share addresses; each is bound once.
        infos = dict.fromkeys(itertools.chain.from_iterable(found))
        sockets = _bind_all(
            self,
            infos,
            reuse_address=reuse_address is None or reuse_address,
            reuse_port=reuse_port,
            keep_alive=keep_alive,
        )
    else:
        if sock is None:
            raise ValueError("Neither host/port nor sock were specified")
        if sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")
        sockets = [sock]
    for sock in sockets:
        sock.setblocking(False)

    server = Server(
        self,
        sockets,
        protocol_factory,
        ssl,
        backlog,
        ssl_handshake_timeout,
        ssl_shutdown_timeout,
        shared=not ours,
    )
    if start_serving:
        await _start(server, ours=ours)
    if self.get_debug():
        logger.info("%r is serving", server)
    return server


async def create_unix_server(
    self: EventLoop,
    protocol_factory: ProtocolFactory,
    path: str | bytes | os.PathLike[str] | None = None,
    *,
    sock: socket.socket | None = None,
    backlog: int = 100,
    ssl: ssl_module.SSLContext | bool | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
    start_serving: bool = True,
    cleanup_socket: bool = _CLEANS_UP_SOCKET,
) -> Server:
    """Listen on a UNIX stream socket.  Source: asyncio, loop.create_unix_server."""
    if isinstance(ssl, bool):
        raise TypeError("ssl argument must be an SSLContext or None")
    check_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)

    if path is not None:
        if sock is not None:
            raise ValueError("path and sock can not be specified at the same time")
        sock = _bind_unix(os.fspath(path))
    elif sock is None:
        raise ValueError("path was not specified, and no sock specified")
    elif sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")

    socket_file = unix_files.find(sock) if cleanup_socket else None
    sock.setblocking(False)
    server = Server(
        self,
        [sock],
        protocol_factory,
        ssl,
        backlog,
        ssl_handshake_timeout,
        ssl_shutdown_timeout,
        shared=path is None,
        socket_file=socket_file,
    )
    if start_serving:
        await _start(server, ours=path is not None)
    return server


async def _start(server: Server, *, ours: bool) -> None:
    """Start a server that nobody has seen yet; ours: nor its sockets, which end with it."""
    try:
        await server.start_serving()
    except BaseException:
        if ours:
            server.close()
        else:
            server._stop_accepting()
        raise


async def _find_addresses(
    loop: EventLoop, host: Any, port: Any, family: int, flags: int
) -> list[resolve.AddressInfo]:
    infos = await resolve.ensure_resolved(
        loop, (host, port), family=family, type=socket.SOCK_STREAM, flags=flags
    )
    if not infos:
        raise OSError(f"getaddrinfo({host!r}) returned empty list")
    return infos


def _bind_all(
    loop: EventLoop,
    infos: Iterable[resolve.AddressInfo],
    *,
    reuse_address: bool,
    reuse_port: bool | None,
    keep_alive: bool | None,
) -> list[socket.socket]:
    """A bound socket for each address; none stays open when one fails."""
    sockets: list[socket.socket] = []
    try:
        for family, kind, proto, _, address in infos:
            try:
                sock = socket.socket(family, kind, proto)
            except OSError:
                # A combination that this system does not have.
                if loop.get_debug():
                    logger.warning(
                        "create_server() failed to create socket.socket(%r, %r, %r)",
                        family,
                        kind,
                        proto,
                        exc_info=True,
                    )
                continue
            sockets.append(sock)
            if reuse_address:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
            # Linux 6.13 refuses SO_REUSEPORT on what is not an Internet socket.
            if reuse_port and family in (socket.AF_INET, socket.AF_INET6):
                set_reuse_port(sock)
            if keep_alive:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, True)
            if family == socket.AF_INET6:
                # One family per socket: the other has a socket of its own.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, True)
            try:
                sock.bind(address)
            except OSError as exc:
                text = (
                    f"error while attempting to bind on address {address!r}: {bind_error_text(exc)}"
                )
                if exc.errno == errno.EADDRNOTAVAIL and _SKIPS_UNAVAILABLE:
                    sockets.pop().close()
                    if loop.get_debug():
                        logger.warning(text)
                    continue
                raise OSError(exc.errno, text) from None
        if not sockets and _SKIPS_UNAVAILABLE:
            addresses = [info[4] for info in infos]
            raise OSError(f"could not bind on any address out of {addresses!r}")
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bind_unix(path: str | bytes) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        unix_files.remove_stale(path)
        sock.bind(path)
    except OSError as exc:
        sock.close()
        if exc.errno == errno.EADDRINUSE:
            raise OSError(errno.EADDRINUSE, f"Address {path!r} is already in use") from None
        raise
    except BaseException:
        sock.close()
        raise
    return sock
