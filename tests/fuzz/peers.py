"""The other ends of a program's connections, and the bytes that are sent: they know no loop."""

import contextlib
import socket
import ssl
import struct

POOL = bytes(range(251)) * 4000


def text(start, size):
    """Bytes that tell where they belong."""
    offset = start % 251
    return POOL[offset : offset + size]


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        return one, listener.accept()[0]


class Peer:
    """The other end of a connection: a plain socket, with TLS by hand."""

    def __init__(self, sock, context, server_side):
        sock.setblocking(False)
        self.sock = sock
        self.received = bytearray()
        self.unsent = bytearray()
        self.sent = 0
        self.ended = self.closed = self.eof = self.gone = False
        self.tls = None
        if context is not None:
            self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self.tls = context.wrap_bio(
                self.incoming,
                self.outgoing,
                server_side=server_side,
                server_hostname=None if server_side else "server.test",
            )
            self.shaken = False

    def flush(self):
        """Hand the kernel what waits; whether nothing does any more."""
        if self.tls is not None:
            self.unsent += self.outgoing.read()
        try:
            while self.unsent and not self.closed:
                del self.unsent[: self.sock.send(self.unsent)]
        except BlockingIOError:
            return False
        except OSError:
            self.gone = True
            self.unsent.clear()
        return True

    def shake(self):
        """One step of the handshake; whether it is done."""
        self._feed(1 << 16)
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
            self.shaken = True
        self.flush()
        return self.shaken

    def send(self, size):
        if self.closed or self.ended or self.gone:
            return
        data = text(self.sent, size)
        self.sent += len(data)
        if self.tls is not None:
            view = memoryview(data)
            while view:
                view = view[self.tls.write(view) :]
        else:
            self.unsent += data
        self.flush()

    def _feed(self, size):
        try:
            data = self.sock.recv(size)
        except BlockingIOError:
            return None
        except OSError:
            self.gone = True
            data = b""
        if self.tls is not None:
            if data:
                self.incoming.write(data)
            else:
                self.incoming.write_eof()
        return data

    def read(self, size):
        """Up to so many bytes of the wire; whether there was something."""
        if self.closed or self.eof:
            return False
        data = self._feed(size)
        if data is None:
            return False
        if self.tls is None:
            self.received += data
            self.eof = not data
        else:
            try:
                while part := self.tls.read(1 << 16):
                    self.received += part
                self.eof = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                self.eof = True
            if not data:
                self.eof = True
        self.flush()
        return True

    def end(self):
        """No more bytes from here."""
        if self.closed or self.ended:
            return
        self.ended = True
        if self.tls is not None:
            with contextlib.suppress(ssl.SSLError):
                self.tls.unwrap()
        self.flush()

    def finish_end(self):
        """The end itself, once everything before it has gone."""
        if self.ended and self.flush() and self.tls is None and not self.closed:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)

    def close(self, reset=False):
        if not self.closed:
            self.closed = True
            if reset and self.sock.family == socket.AF_INET:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()
