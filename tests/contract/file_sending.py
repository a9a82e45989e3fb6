"""What the sendfile tests share: pairs of plain sockets, and files sent over them."""

import asyncio
import contextlib
import random

from harness import small_buffers, tcp_pair


@contextlib.contextmanager
def sockets(pair=tcp_pair, small=False):
    """Two connected non-blocking sockets, closed afterwards."""
    one, other = pair()
    if small:
        small_buffers(one, other)
    for sock in (one, other):
        sock.setblocking(False)
    with one, other:
        yield one, other


async def receive_all(sock):
    """Everything up to the end of the stream."""
    loop = asyncio.get_running_loop()
    parts = bytearray()
    while part := await loop.sock_recv(sock, 1 << 16):
        parts += part
    return bytes(parts)


async def sent_by_socket(file, *arguments, pair=tcp_pair, small=False, **options):
    """(result, what arrived) of one sock_sendfile()."""
    loop = asyncio.get_running_loop()
    with sockets(pair, small) as (sock, peer):
        received = asyncio.ensure_future(receive_all(peer))
        result = await loop.sock_sendfile(sock, file, *arguments, **options)
        sock.close()
        return result, await received


async def fifty_at_once(tmp_path, send):
    """Fifty files of their own, each sent over a pair that holds half of it or over an ample one.

    send: a coroutine function of an open file and `small`; gives (result, what arrived).
    """
    contents = [random.Random(number).randbytes(400_000 + number) for number in range(50)]
    for number, content in enumerate(contents):
        (tmp_path / str(number)).write_bytes(content)

    async def one(number):
        with open(tmp_path / str(number), "rb") as file:
            result, received = await send(file, small=number % 2 == 0)
            assert result == file.tell() == len(contents[number])
        assert received == contents[number]

    await asyncio.gather(*map(one, range(50)))
