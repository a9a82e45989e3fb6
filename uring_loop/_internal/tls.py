"""TLS over any stream transport.

Owns how a TLS transport is put together.  Knows nothing of how a connection
came to be.
"""

from __future__ import annotations

import asyncio

from ._stdlib import take_buffered
from .streams import open_stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    import ssl
    from typing import Any

    from .loop import EventLoop
    from .server import Server
    from .tls_protocol import TLSProtocol
else:
    try:
        import ssl
    except ImportError:
        # A Python that was built without OpenSSL: as asyncio, all but TLS works there.
        ssl = None
    else:
        from .tls_protocol import TLSProtocol


def make_transport(
    loop: EventLoop,
    sock: socket.socket | int,
    protocol: asyncio.BaseProtocol,
    sslcontext: ssl.SSLContext | None,
    waiter: asyncio.Future[None],
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    server: Server | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> asyncio.Transport:
    """A TLS transport on a connected socket; `waiter` is done when the handshake is.

    sock: a socket or, like StreamTransport's, a descriptor that the transport will own.
    """
    if ssl is None:
        raise RuntimeError("stdlib ssl module not available")
    ssl_protocol = TLSProtocol(
        loop,
        protocol,
        sslcontext,
        waiter,
        server_side,
        server_hostname,
        ssl_handshake_timeout=ssl_handshake_timeout,
        ssl_shutdown_timeout=ssl_shutdown_timeout,
    )
    open_stream(loop, sock, ssl_protocol, None, server)
    app_transport: asyncio.Transport = ssl_protocol._app_transport
    return app_transport


async def start_tls(
    self: EventLoop,
    transport: Any,
    protocol: asyncio.BaseProtocol,
    sslcontext: ssl.SSLContext,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> asyncio.Transport:
    """Upgrade an open transport to TLS; gives the transport to use from then on.

    A method of EventLoop.  Source: asyncio, TLS Upgrade.
    """
    if ssl is None:
        raise RuntimeError("Python ssl module is not available")
    if not isinstance(sslcontext, ssl.SSLContext):
        raise TypeError(
            f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}"
        )
    if not getattr(transport, "_start_tls_compatible", False):
        raise TypeError(f"transport {transport!r} is not supported by start_tls()")
    if transport.is_closing():
        # Nobody would tell a handshake of an end that is under way, or past.
        raise ConnectionAbortedError(f"Failed to start TLS: transport {transport!r} is closing")
    waiter = self.create_future()
    ssl_protocol = TLSProtocol(
        self,
        protocol,
        sslcontext,
        waiter,
        server_side,
        server_hostname,
        ssl_handshake_timeout=ssl_handshake_timeout,
        ssl_shutdown_timeout=ssl_shutdown_timeout,
        call_connection_made=False,
    )
    # As asyncio since 3.14: a client need not wait for the server's answer before it begins.
    ssl_protocol.take_over(transport, take_buffered(protocol) if server_side else b"")
    # Nothing may be received by the new protocol before it knows its transport.
    transport.pause_reading()
    transport.set_protocol(ssl_protocol)
    connected = self.call_soon(ssl_protocol.connection_made, transport)
    resumed = self.call_soon(transport.resume_reading)
    try:
        await waiter
    except BaseException:
        transport.close()
        connected.cancel()
        resumed.cancel()
        raise
    app_transport: asyncio.Transport = ssl_protocol._app_transport
    return app_transport
