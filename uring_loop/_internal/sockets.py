"""The loop's sock_*() methods: plain non-blocking sockets.

Connecting is an operation of the driver's, unless the socket's connect() is not the
socket module's own: who put theirs there (a proxy, a guard) is asked. The others try the
system call first, and only where it would block wait for the socket and try again, in the
order in which they came (asyncio serves the last one only). So nothing is ever
taken from a socket for a task that has gone: a byte that had arrived stays in
the kernel when its receiver is cancelled, where the next recv() of whatever
kind finds it, and a connection is accepted only into the hands of a running
task; and of a cancelled sock_sendall() nothing is sent any more. Errors come
from the socket object itself, as asyncio's do.

The core knows two short cuts, sock_recv() and sock_sendall() of a plain
socket.socket, whose methods nobody has replaced; they call none but fileno().

Each function is a method of EventLoop, hence the first parameter.
Source: asyncio, Working with socket objects directly.
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
import sys
from collections.abc import Coroutine

from . import addresses, operations, originals, readers, resolve
from ._stdlib import check_ssl_socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .loop import EventLoop

_WOULD_BLOCK = (BlockingIOError, InterruptedError)

# A UNIX listener whose backlog is full cannot be waited for: ask again, ever less often.
_BACKLOG_RETRY_SECONDS = 0.001
_BACKLOG_RETRY_SECONDS_MAX = 0.064

_NETWORK_SAYS = (errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ECONNRESET)


def _check(loop: EventLoop, sock: socket.socket) -> None:
    check_ssl_socket(sock)
    if loop.get_debug() and sock.gettimeout() != 0:
        raise ValueError("the socket must be non-blocking")


def _ready(loop: EventLoop, sock: socket.socket, events: int) -> Coroutine[Any, Any, int]:
    descriptor = sock.fileno()
    readers.check_descriptor_free(loop, descriptor)
    return operations.poll(loop, descriptor, events)


async def _persist(
    loop: EventLoop, sock: socket.socket, write: bool, method: str, *arguments: Any
) -> Any:
    """The result of a system call that may have to wait for its socket, and for its turn."""
    if not loop._sock_is_waited(sock, write):
        try:
            return getattr(sock, method)(*arguments)
        except _WOULD_BLOCK:
            pass
    wait = loop._sock_wait(sock, write)
    try:
        while True:
            await wait
            try:
                return getattr(sock, method)(*arguments)
            except _WOULD_BLOCK:
                wait.again()
    finally:
        wait.leave()


async def sock_recv(self: EventLoop, sock: socket.socket, n: int) -> bytes:
    """Receive up to `n` bytes; b"" is the end of the stream."""
    received = self._sock_receive(sock, n)
    if received is None:
        _check(self, sock)
        result: bytes = await _persist(self, sock, False, "recv", n)
        return result
    if isinstance(received, bytes):
        return received
    wait = received
    try:
        while True:
            await wait
            received = wait.recv(n)
            if received is not None:
                return received
    except BaseException:
        wait.leave()
        raise


async def sock_recv_into(self: EventLoop, sock: socket.socket, buf: Any) -> int:
    """Receive into a writable buffer; gives the number of bytes."""
    _check(self, sock)
    result: int = await _persist(self, sock, False, "recv_into", buf)
    return result


async def sock_recvfrom(self: EventLoop, sock: socket.socket, bufsize: int) -> tuple[bytes, Any]:
    """Receive one datagram; gives its bytes and the sender's address."""
    _check(self, sock)
    result: tuple[bytes, Any] = await _persist(self, sock, False, "recvfrom", bufsize)
    return result


async def sock_recvfrom_into(
    self: EventLoop, sock: socket.socket, buf: Any, nbytes: int = 0
) -> tuple[int, Any]:
    """Receive one datagram into a buffer; gives its size and the sender's address."""
    _check(self, sock)
    if not nbytes:
        nbytes = len(buf)
    result: tuple[int, Any] = await _persist(self, sock, False, "recvfrom_into", buf, nbytes)
    return result


async def sock_sendall(self: EventLoop, sock: socket.socket, data: Any) -> None:
    """Send all of `data`; after an error nobody knows how much of it went out."""
    sent = self._sock_send(sock, data)
    if sent is None:
        return
    if sent is False:
        _check(self, sock)
        sent = 0
        if not self._sock_is_waited(sock, True):
            try:
                sent = sock.send(data)
            except _WOULD_BLOCK:
                pass
            else:
                if sent == memoryview(data).nbytes:
                    return
    # Whatever ends this, the caller's buffer is free again.
    with memoryview(data) as whole, whole.cast("B") as view:
        await _send_rest(self, sock, view, sent)


async def _send_rest(loop: EventLoop, sock: socket.socket, view: memoryview, sent: int) -> None:
    wait = loop._sock_wait(sock, True)
    try:
        while True:
            await wait
            try:
                with view[sent:] as rest:
                    sent += sock.send(rest)
                if sent == len(view):
                    return
            except _WOULD_BLOCK:
                pass
            wait.again()
    finally:
        wait.leave()


async def sock_sendto(self: EventLoop, sock: socket.socket, data: Any, address: Any) -> int:
    """Send one datagram to `address`; gives the number of bytes."""
    _check(self, sock)
    result: int = await _persist(self, sock, True, "sendto", data, address)
    return result


async def sock_connect(self: EventLoop, sock: socket.socket, address: Any) -> None:
    """Connect to a remote address; a host name in it is resolved first."""
    _check(self, sock)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        infos = await resolve.ensure_resolved(
            self, address, family=sock.family, type=sock.type, proto=sock.proto
        )
        address = infos[0][4]
        if not originals.is_own_method(sock, "connect"):
            await _connect_by_readiness(self, sock, address)
            return
        try:
            name = addresses.encode(sock.family, address)
        except (AttributeError, OSError, OverflowError, TypeError, ValueError):
            pass  # the socket module says what is wrong with it
        else:
            await _connect(self, sock, name, address)
            return
    await _connect_by_readiness(self, sock, address)


async def _connect(loop: EventLoop, sock: socket.socket, name: bytes, address: Any) -> None:
    descriptor = sock.fileno()
    readers.check_descriptor_free(loop, descriptor)
    sys.audit("socket.connect", sock, address)
    try:
        # Whoever scheduled us may wait for the connection elsewhere, without the loop:
        # it is under way when this task first pauses, as by connect(2).
        await operations.connect(loop, descriptor, name)
    except OSError as exc:
        # asyncio's words for what only the network could tell.
        if exc.errno in _NETWORK_SAYS:
            raise OSError(exc.errno, f"Connect call failed {address}") from None
        raise


async def _connect_by_readiness(loop: EventLoop, sock: socket.socket, address: Any) -> None:
    retry_seconds = _BACKLOG_RETRY_SECONDS
    while True:
        try:
            sock.connect(address)
            return
        except _WOULD_BLOCK as exc:
            # unix(7): connect() answers EAGAIN for a full backlog and starts nothing.
            if sock.family != socket.AF_UNIX or exc.errno != errno.EAGAIN:
                break
        await asyncio.sleep(retry_seconds)
        retry_seconds = min(retry_seconds * 2, _BACKLOG_RETRY_SECONDS_MAX)
    await _ready(loop, sock, select.POLLOUT)
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error != 0:
        raise OSError(error, f"Connect call failed {address}")


async def sock_accept(self: EventLoop, sock: socket.socket) -> tuple[socket.socket, Any]:
    """Accept a connection; gives a non-blocking socket and the peer's address."""
    _check(self, sock)
    connection, address = await _persist(self, sock, False, "accept")
    connection.setblocking(False)
    return connection, address
