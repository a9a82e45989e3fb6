"""What the TLS tests share: certificates, and a TLS peer on a plain socket.

The peer drives ssl.SSLObject by hand, so that a test can stall it, break off in
any phase, or leave out what a polite peer would send.
"""

import asyncio
import contextlib
import ssl

import pytest
from harness import Peer, Receiving, Recorder, iterations, small_buffers, tcp_pair

# Skips whatever module, or fixture, imports this one.
trustme = pytest.importorskip("trustme", reason="trustme, which makes certificates, is missing")

NAME = "server.test"

# More than a handshake; what comes after it nobody looks at.
KEPT_BYTES = 1 << 16


class Certificates:
    """One authority, a server and a client certified by it; contexts are made per call."""

    def __init__(self):
        self.authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self._server = self.authority.issue_cert(
            NAME, "localhost", "127.0.0.1", key_type=trustme.KeyType.ECDSA
        )
        self._client = self.authority.issue_cert(
            "client@server.test", key_type=trustme.KeyType.ECDSA
        )
        self.strangers = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self._stranger = self.strangers.issue_cert(NAME, key_type=trustme.KeyType.ECDSA)

    def server(self, version=None, clients=None):
        """A server's context.  clients: ssl.CERT_* for the certificates of its clients."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.configure_cert(context)
        if clients is not None:
            self.authority.configure_trust(context)
            context.verify_mode = clients
        return _of_version(context, version)

    def stranger(self, version=None):
        """A server's context, with a certificate of the authority unknown here."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._stranger.configure_cert(context)
        return _of_version(context, version)

    def client(self, version=None, certificate=None):
        """A client's context.  certificate: "own" or "strange", of an authority unknown here."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.authority.configure_trust(context)
        if certificate is not None:
            own = {"own": self._client, "strange": self._stranger}[certificate]
            own.configure_cert(context)
        return _of_version(context, version)

    def write_authority(self, path):
        """Write the authority's certificate to a file, for SSL_CERT_FILE."""
        self.authority.cert_pem.write_to_path(str(path))

    def write_server(self, path):
        """Write the server's key and certificates to a file, for load_cert_chain()."""
        self._server.private_key_and_cert_chain_pem.write_to_path(str(path))


def _of_version(context, version):
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


# The first releases of 3.11 take a connection that was cut for one that was closed.
CUT_IS_CLOSED = bool(
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).options & getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
)


class TlsPeer(Receiving):
    """The other end of a TLS connection under test, over a harness.Peer."""

    def __init__(self, sock, context, *, server_side=False):
        self.peer = Peer(sock)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.received = bytearray()
        """The records that came, up to KEPT_BYTES of them."""
        self.sent = bytearray()
        """The records that left, likewise."""
        self.ssl = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=None if server_side else NAME,
        )

    async def _drive(self, call, *arguments):
        while True:
            try:
                result = call(*arguments)
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self.peer.recv()
                if data:
                    self._incoming.write(data)
                    if len(self.received) < KEPT_BYTES:
                        self.received += data
                else:
                    self._incoming.write_eof()
            else:
                await self._flush()
                return result

    async def _flush(self):
        if data := self.take():
            await self.peer.send_all(data)

    def take(self):
        """The records that are to be sent now; the caller sends them instead."""
        data = self._outgoing.read()
        if len(self.sent) < KEPT_BYTES:
            self.sent += data
        return data

    def seal(self, data):
        """The records of `data`, not yet sent."""
        self.ssl.write(data)
        return self.take()

    async def handshake(self):
        await self._drive(self.ssl.do_handshake)

    async def handshake_first_flight(self):
        """Send what a handshake begins with, and wait for no answer."""
        try:
            self.ssl.do_handshake()
        except ssl.SSLWantReadError:
            await self._flush()

    async def send_all(self, data):
        view = memoryview(data)
        while view:
            view = view[await self._drive(self.ssl.write, view[:65536]) :]

    async def recv(self, size=65536):
        """At least one byte, or b"" for close_notify."""
        try:
            return await self._drive(self.ssl.read, size)
        except ssl.SSLZeroReturnError:
            return b""

    async def notify(self):
        """Send close_notify, without waiting for the other's."""
        try:
            self.ssl.unwrap()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            # What the other has written meanwhile may be read all the same.
            if error.reason != "APPLICATION_DATA_AFTER_CLOSE_NOTIFY":
                raise
        await self._flush()

    def reset(self):
        self.peer.reset()

    def close(self):
        self.peer.close()


@contextlib.asynccontextmanager
async def tls_attached(
    certificates,
    protocol=None,
    *,
    server_side=False,
    version=None,
    pair=tcp_pair,
    small=False,
    context=None,
    peer_context=None,
    peer_type=TlsPeer,
    **options,
):
    """(transport, protocol, peer): a TLS transport of the running loop and its TLS peer.

    context, peer_context: instead of those that the certificates make.
    peer_type: of the peer, a kind of TlsPeer.
    """
    loop = asyncio.get_running_loop()
    sock, other = pair()
    if small:
        small_buffers(sock, other)
    protocol = Recorder() if protocol is None else protocol
    if server_side:
        peer = peer_type(other, peer_context or certificates.client(version))
        context = context or certificates.server(version)
        opening = loop.connect_accepted_socket(lambda: protocol, sock, ssl=context, **options)
    else:
        peer = peer_type(other, peer_context or certificates.server(version), server_side=True)
        context = context or certificates.client(version)
        opening = loop.create_connection(
            lambda: protocol, sock=sock, ssl=context, server_hostname=NAME, **options
        )
    # Whoever holds the socket has each write sent at once.
    del sock
    try:
        (transport, made), _ = await asyncio.gather(opening, peer.handshake())
    except BaseException:
        peer.close()
        raise
    assert made is protocol
    del opening
    try:
        yield transport, protocol, peer
    finally:
        peer.close()
        # asyncio's of Python 3.11.2 has let go of this when it was closed twice, and fails.
        is_stock = isinstance(loop, asyncio.SelectorEventLoop)
        if not is_stock or transport._ssl_protocol is not None:
            transport.abort()
        await iterations(5)


async def echoed(opening):
    """Open, check that bytes go both ways, close; the transport while it was open."""
    transport, protocol = await opening
    transport.write(b"ping")
    await protocol.until_size(4)
    assert protocol.data == b"ping"
    transport.close()
    await protocol.until_lost()
    assert protocol.lost is None
    assert protocol.names[0] == "connection_made"
    assert protocol.names[-1] == "connection_lost"
    return transport
