"""asyncio's SSLProtocol, with what it loses or leaves hanging mended, and with less to do.

    UNWRAPPED -> DO_HANDSHAKE -> WRAPPED -> FLUSHING -> SHUTDOWN -> UNWRAPPED

The state machine is the standard library's.  Each method here takes the place of
one that goes wrong in a corner, or costs more than it must, and says which.  What runs
for each record is C's (`_core.Records`), unless tls_records.py says that it cannot be.
"""

from __future__ import annotations

import ssl

from .. import _core
from . import tls_records
from ._stdlib import SSLProtocol, SSLProtocolState, SSLProtocolTransport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .loop import EventLoop

_WANTS_MORE = (ssl.SSLWantReadError, ssl.SSLSyscallError)
_READS = (SSLProtocolState.WRAPPED, SSLProtocolState.FLUSHING)
_WRITES = (SSLProtocolState.WRAPPED, SSLProtocolState.DO_HANDSHAKE)

# A TLS record's plain text, which is what one read gives at most.  RFC 8446, section 5.1.
_RECORD_BYTES = 1 << 14

# The bytes that are received at a time.
_RECEIVED_BYTES = 1 << 18


def _receive_buffer(loop: EventLoop) -> memoryview:
    """The memory that all connections of a loop receive into, in turn.

    One buffer that stays warm in the cache instead of one for each connection.
    """
    if loop._receive_buffer is None:
        loop._receive_buffer = memoryview(bytearray(_RECEIVED_BYTES))
    return loop._receive_buffer


# Limits above this are reached only by what a single write() encrypts at once.
_HELD_BYTES = 1 << 16


class SSLTransport(SSLProtocolTransport):  # type: ignore[misc]  # private, and so Any
    """asyncio's transport of a TLS connection; write() and writelines() are C's."""

    # Where those find it.
    __slots__ = ("_ssl_protocol",)

    def abort(self) -> None:
        """Close at once, without the data that is not sent yet."""
        # A second close() lets go of it, which asyncio's abort() asks since a later 3.11 only.
        if self._ssl_protocol is not None:
            super().abort()


class TLSProtocol(_core.Records, SSLProtocol):  # type: ignore[misc]  # private, and so Any
    """TLS between a stream transport and the user's protocol."""

    _upgraded = False
    # OpenSSL's, of a close() with something unread.
    _refusal: BaseException | None = None
    # The buffer of all connections holds what the driver receives.
    _roomy = True
    # asyncio's gives each connection a buffer of this size.
    max_size = 0
    if TYPE_CHECKING:
        # asyncio's, as far as they are set here.
        _incoming: Any
        _outgoing: Any
        _app_transport: Any
        _app_transport_created: bool

    def __init__(self, loop: EventLoop, *args: Any, **options: Any) -> None:
        super().__init__(loop, *args, **options)  # pyright: ignore[reportCallIssue]
        self._ssl_buffer_view = _receive_buffer(loop)
        if tls_records.why_not_native() is None and _is_plain(self._sslcontext, self._sslobj):
            buffers = self._open_records(self._sslobj._sslobj, self._incoming, self._outgoing)
            if buffers is not None:
                self._incoming, self._outgoing = buffers

    def _get_app_transport(self) -> Any:
        """As asyncio's, but of a class of ours."""
        if self._app_transport is None:
            if self._app_transport_created:
                raise RuntimeError("Creating _SSLProtocolTransport twice")
            self._app_transport = SSLTransport(self._loop, self)
            self._app_transport_created = True
        return self._app_transport

    def _set_app_protocol(self, app_protocol: Any) -> None:
        """As asyncio's; streams of asyncio's get classes of ours, as on a transport of ours."""
        if not self._loop.get_debug():
            _core.adopt_stream(app_protocol, self._loop)
        super()._set_app_protocol(app_protocol)

    def connection_made(self, transport: Any) -> None:
        """As asyncio's, but a stream of ours gives what it receives to C at once.

        A handshake that could not begin, for want of memory, ends the connection: with asyncio's it
        would be there for ever, for its close() waits for a handshake's end. And a transport that
        was closed before begins none; asyncio has forgotten it, and would serve who connected.
        """
        closed = self._app_transport is not None and self._app_transport._closed
        try:
            if closed:
                self._transport = transport
                self._abort()
                return
            self._attach(transport)
            super().connection_made(transport)
        except Exception as exc:
            self._transport = transport
            self._abort(exc)
            raise

    def take_over(self, transport: Any, received: bytes) -> None:
        """Before connection_made(): what an upgraded connection brings along.

        received: the beginning of the peer's handshake, when it came before the upgrade.
        """
        self._upgraded = True
        if received:
            self._incoming.write(received)
        if getattr(transport, "_protocol_paused", False):
            # The user's protocol was told to pause; it is we who will be told to resume.
            self._ssl_writing_paused = True
            self._app_writing_paused = True

    def get_buffer(self, size_hint: int) -> memoryview:
        """As asyncio's, but one for all connections of a loop.

        What is received into it goes on into the BIO before anything else happens.
        """
        return self._ssl_buffer_view

    def _on_handshake_complete(self, handshake_exc: Any) -> None:
        """As asyncio's; an SNI callback may have changed the context, and what calls back."""
        if handshake_exc is None and not _is_plain(self._sslobj.context, self._sslobj):
            self._leave_records()
        super()._on_handshake_complete(handshake_exc)

    def buffer_updated(self, nbytes: int) -> None:
        """As asyncio's; called where no stream of ours gives to C what it receives."""
        self._incoming.write(self._ssl_buffer_view[:nbytes])
        self._go_on()

    def _go_on(self) -> None:
        """Something was received: asyncio's buffer_updated(), when that has kept it."""
        if self._state is SSLProtocolState.DO_HANDSHAKE:
            self._do_handshake()
        elif self._state is SSLProtocolState.WRAPPED:
            self._do_read()
        elif self._state is SSLProtocolState.FLUSHING:
            self._do_flush()
        elif self._state is SSLProtocolState.SHUTDOWN:
            self._do_shutdown()

    def _set_write_buffer_limits(self, high: Any = None, low: Any = None) -> None:
        super()._set_write_buffer_limits(high, low)
        self._writes_freely = self._outgoing_high_water >= _HELD_BYTES

    def _get_write_buffer_size(self) -> int:
        """As asyncio's, which has sent what was written in this turn, as far as that goes."""
        self._seal()
        size: int = super()._get_write_buffer_size()
        return size

    def _get_extra_info(self, name: str, default: Any = None) -> Any:
        """As asyncio's: who uses the socket finds in the kernel what was written."""
        self._seal()
        return super()._get_extra_info(name, default)

    def _write_appdata(self, list_of_data: Any) -> None:
        """As asyncio's, but two threads never use one TLS object at a time."""
        if self._loop._runs_elsewhere():
            # The caller may change what is not bytes.
            pieces = [d if type(d) is bytes else bytes(memoryview(d)) for d in list_of_data]
            self._loop._hand_over(self._write_appdata, pieces)
            return
        self._seal()
        if self._state not in _WRITES:
            super()._write_appdata(list_of_data)  # counts what is lost
            return
        for data in list_of_data:
            self._write_backlog.append(data)
            self._write_buffer_size += len(data)
        try:
            if self._state is SSLProtocolState.WRAPPED:
                self._do_write()
        except Exception as ex:
            self._fatal_error(ex, "Fatal error on SSL protocol")

    def connection_lost(self, exc: BaseException | None) -> None:
        """As asyncio's, but a loss during the handshake of start_tls() is told to everybody.

        Who waits for the handshake must not take it for a success, and the protocol has been
        told of the connection's beginning.
        """
        exc = exc or self._refusal
        self._detach()
        if self._upgraded and self._state is SSLProtocolState.DO_HANDSHAKE:
            self._set_state(SSLProtocolState.UNWRAPPED)
            if exc is None:
                error = "connection closed during SSL handshake"
                self._wakeup_waiter(ConnectionAbortedError(error))
        super().connection_lost(exc)

    def eof_received(self) -> bool | None:
        """As asyncio's, but the transport stays open while what came before waits for a reader."""
        self._seal()
        keep_open = super().eof_received()
        return keep_open or self._state is SSLProtocolState.FLUSHING

    def _do_read(self) -> None:
        """As asyncio's, but goes through what is to be sent only if there is something."""
        if self._state not in _READS:
            return
        try:
            if not self._app_reading_paused:
                done = self._read_records()
                if done is None or (not done and not self._app_protocol_is_buffer):
                    # Of an end, or an error, no buffer is asked for: the error is the thread's.
                    self._do_read__copied()
                elif not done:
                    self._do_read__buffered()
                self._after_read()
            else:
                self._control_ssl_reading()
        except Exception as ex:
            self._fatal_error(ex, "Fatal error on SSL protocol")

    def _after_read(self) -> None:
        """What asyncio does whenever it has read."""
        if self._write_backlog:
            self._do_write()
        elif (
            self._outgoing.pending or self._app_writing_paused or not self._outgoing_high_water
        ):
            self._process_outgoing()
        self._control_ssl_reading()

    def _do_read__copied(self) -> None:
        """As asyncio's, but reads no more than there can be, and not once more to be refused."""
        read = self._sslobj.read
        incoming = self._incoming
        chunks = []
        chunk = None
        try:
            while True:
                # Less than a record may be asked for: then the rest of it is pending.
                expected = incoming.pending
                chunk = read(expected if 0 < expected < _RECORD_BYTES else _RECORD_BYTES)
                if not chunk:
                    break
                chunks.append(chunk)
                if not incoming.pending and not self._sslobj.pending():
                    break
        except _WANTS_MORE:
            pass
        if chunks:
            self._app_protocol.data_received(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        if chunk == b"":
            # close_notify
            self._call_eof_received()
            self._start_shutdown()

    def _do_write(self) -> None:
        """As asyncio's, but does not copy the rest of the data for each record."""
        backlog = self._write_backlog
        write = self._sslobj.write
        try:
            while backlog:
                data = backlog[0]
                size = len(data)
                count = write(data)
                if count < size:
                    # A view of a bytearray would keep its owner from changing its size.
                    rest = data if type(data) is bytearray else memoryview(data)
                    backlog[0] = rest[count:]
                    self._write_buffer_size -= count
                else:
                    backlog.popleft()
                    self._write_buffer_size -= size
        except _WANTS_MORE:
            pass
        self._process_outgoing()

    def _do_read__buffered(self) -> None:
        """As asyncio's, but whole, for buffers of every type and size.

        A slice of a bytearray is a copy, and what is read into that is lost.  So is what
        would be read in a later turn, when the peer has closed meanwhile.
        """
        ended = blocked = False
        while not ended and not blocked:
            size_hint = self._get_read_buffer_size()
            filled = 0
            with memoryview(self._app_protocol_get_buffer(size_hint)).cast("B") as buffer:
                if not buffer:
                    raise RuntimeError("get_buffer() returned an empty buffer")
                try:
                    while not ended and filled < len(buffer):
                        count = self._sslobj.read(len(buffer) - filled, buffer[filled:])
                        filled += count
                        ended = count == 0
                except _WANTS_MORE:
                    blocked = True
            if filled:
                self._app_protocol_buffer_updated(filled)
            if self._state not in _READS:
                return
            if self._app_reading_paused:
                break
            if not self._app_protocol_is_buffer and not ended and not blocked:
                self._do_read__copied()
                return
        if ended:
            self._call_eof_received()
            self._start_shutdown()

    def _do_flush(self) -> None:
        """As asyncio's, but what the peer sent before its end of file waits for the reader.

        And a protocol that aborts while it gets the rest leaves nothing to shut down.
        """
        self._do_read()
        if self._state is not SSLProtocolState.FLUSHING:
            return
        if self._app_reading_paused and not self._app_transport.is_closing():
            return  # resume_reading() comes back here
        self._set_state(SSLProtocolState.SHUTDOWN)
        self._do_shutdown()

    def _start_shutdown(self) -> None:
        """As asyncio's, but close() also ends a connection whose reader has paused for good.

        And two threads never use one TLS object at a time.
        """
        if self._loop._runs_elsewhere():
            try:
                self._loop._check_debug_thread()
            except RuntimeError:
                # Nothing has happened, and the loop's thread may still close it.
                self._app_transport._closed = False
                raise
            self._loop._hand_over(self._start_shutdown)
            return
        self._seal()
        if self._state is SSLProtocolState.FLUSHING and self._app_reading_paused:
            self._app_transport._closed = True
            self._do_flush()
        else:
            super()._start_shutdown()

    def _on_shutdown_complete(self, shutdown_exc: BaseException | None) -> None:
        """As asyncio's, but a close() with something unread sends what was written before.

        OpenSSL refuses to close while the peer's data waits; asyncio takes that for a broken
        connection, and drops what the transport has queued.  connection_lost() tells of it.
        """
        if getattr(shutdown_exc, "reason", None) == "APPLICATION_DATA_AFTER_CLOSE_NOTIFY":
            self._process_outgoing()
            self._refusal, shutdown_exc = shutdown_exc, None
        super()._on_shutdown_complete(shutdown_exc)

    def _abort(self, exc: BaseException | None = None) -> None:
        """As asyncio's since 3.13: before, TLS within TLS could not be aborted for a reason."""
        self._seal()
        self._set_state(SSLProtocolState.UNWRAPPED)
        if self._transport is not None:
            self._transport._force_close(exc)


def _is_plain(context: ssl.SSLContext, sslobj: Any) -> bool:
    """Whether C may do what the methods of `sslobj` do.

    What a message callback raises is kept in OpenSSL's object for these to raise.
    """
    kind = type(sslobj)
    return (
        isinstance(sslobj, ssl.SSLObject)
        and getattr(context, "_msg_callback", None) is None
        and kind.read is ssl.SSLObject.read
        and kind.write is ssl.SSLObject.write
    )


_core.tls_set_classes(SSLTransport, SSLProtocolState.WRAPPED, SSLProtocolState.FLUSHING)
