"""What the datagram tests share: a recording protocol, endpoints that are cleaned up."""

import asyncio
import contextlib
import socket

from harness import NotingWriting, iterations

LOCAL = ("127.0.0.1", 0)
# More than any socket buffer of a test holds.
BURST = 2000


class DatagramRecorder(NotingWriting, asyncio.DatagramProtocol):
    """Notes every call; `datagrams` are (data, address), `errors` what error_received() got."""

    def __init__(self):
        super().__init__()
        self.datagrams = []
        self.errors = []

    async def until_count(self, count):
        await self.until(lambda: len(self.datagrams) >= count)

    @property
    def payloads(self):
        return [data for data, _ in self.datagrams]

    def datagram_received(self, data, addr):
        assert type(data) is bytes
        self.datagrams.append((data, addr))
        self._note("datagram_received")

    def error_received(self, exc):
        self.errors.append(exc)
        self._note("error_received")


@contextlib.asynccontextmanager
async def endpoint(protocol=None, **options):
    """(transport, protocol) of an endpoint of the running loop, closed afterwards."""
    protocol = DatagramRecorder() if protocol is None else protocol
    loop = asyncio.get_running_loop()
    transport, made = await loop.create_datagram_endpoint(lambda: protocol, **options)
    assert made is protocol
    try:
        yield transport, protocol
    finally:
        if not transport.is_closing():
            transport.abort()
        await iterations(3)


@contextlib.asynccontextmanager
async def connected_pair():
    """Two endpoints, connected to each other over UDP."""
    one, other = udp_socket(), udp_socket()
    one.connect(other.getsockname())
    other.connect(one.getsockname())
    async with endpoint(sock=one) as first, endpoint(sock=other) as second:
        yield first, second


def udp_socket(family=socket.AF_INET, host="127.0.0.1"):
    """A bound, non-blocking socket of the loopback."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((host, 0))
    return sock


def full_pair():
    """(sock, peer): a connected AF_UNIX pair that holds a few datagrams and no more.

    Each knows the other by name, as a peer that asyncio sends to with send().
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in (sock, peer):
        end.setblocking(False)
        end.bind("")  # the kernel chooses an abstract name
    sock.connect(peer.getsockname())
    return sock, peer


def receive_all(sock):
    """Every datagram that waits in a plain socket."""
    found = []
    while True:
        try:
            found.append(sock.recv(1 << 18))
        except BlockingIOError:
            return found


async def receive_count(sock, count):
    """`count` datagrams from a plain socket, by readiness."""
    loop = asyncio.get_running_loop()
    return [await loop.sock_recv(sock, 1 << 18) for _ in range(count)]
