"""asyncio's SSLProtocol, with what it loses or leaves hanging mended.

    UNWRAPPED -> DO_HANDSHAKE -> WRAPPED -> FLUSHING -> SHUTDOWN -> UNWRAPPED

The state machine is the standard library's.  Each method here takes the place of
one that goes wrong in a corner, and says in which.
"""

from __future__ import annotations

import ssl
from typing import Any

from ._stdlib import SSLProtocol, SSLProtocolState

_WANTS_MORE = (ssl.SSLWantReadError, ssl.SSLSyscallError)


class TLSProtocol(SSLProtocol):
    """TLS between a stream transport and the user's protocol."""

    _upgraded = False

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

    def connection_lost(self, exc: BaseException | None) -> None:
        """As asyncio's, but a loss during the handshake of start_tls() is told to everybody.

        Who waits for the handshake must not take it for a success, and the protocol has been
        told of the connection's beginning.
        """
        if self._upgraded and self._state is SSLProtocolState.DO_HANDSHAKE:
            self._set_state(SSLProtocolState.UNWRAPPED)
            if exc is None:
                error = "connection closed during SSL handshake"
                self._wakeup_waiter(ConnectionAbortedError(error))
        super().connection_lost(exc)

    def eof_received(self) -> bool | None:
        """As asyncio's, but the transport stays open while what came before waits for a reader."""
        keep_open = super().eof_received()
        return keep_open or self._state is SSLProtocolState.FLUSHING

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
            if self._state not in (SSLProtocolState.WRAPPED, SSLProtocolState.FLUSHING):
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
        """As asyncio's, but close() also ends a connection whose reader has paused for good."""
        if self._state is SSLProtocolState.FLUSHING and self._app_reading_paused:
            self._app_transport._closed = True
            self._do_flush()
        else:
            super()._start_shutdown()

    def _abort(self, exc: BaseException | None = None) -> None:
        """As asyncio's since 3.13: before, TLS within TLS could not be aborted for a reason."""
        self._set_state(SSLProtocolState.UNWRAPPED)
        if self._transport is not None:
            self._transport._force_close(exc)
