"""A loop that ran in one thread and is closed by another leaves nothing behind."""

import asyncio
import gc
import os
import socket
import threading
import weakref

import pytest
from harness import Recorder


def in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


async def receiving(loop, sock):
    transport, _ = await loop.create_connection(Recorder, sock=sock)
    return transport


async def sending(loop, sock):
    transport, _ = await loop.create_connection(Recorder, sock=sock)
    transport.write(bytes(2 << 20))
    await asyncio.sleep(0)
    return transport


async def polling(loop, sock):
    sock.setblocking(False)
    task = loop.create_task(loop.sock_recv(sock, 10))
    await asyncio.sleep(0)
    return task


@pytest.mark.parametrize("pending", [receiving, sending, polling])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_loop_closed_by_another_thread_with_an_operation_pending_is_freed(
    make_unwatched_loop, pending
):
    def once():
        loop = make_unwatched_loop()
        loop.set_exception_handler(lambda *_: None)
        ours, peer = socket.socketpair()
        kept = []
        in_thread(lambda: kept.append(loop.run_until_complete(pending(loop, ours))))
        loop.close()
        kept.clear()
        ours.close()
        peer.close()
        return weakref.ref(loop)

    reference = once()
    gc.collect()
    assert reference() is None


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_transport_found_garbage_by_another_thread_as_the_loop_ends_is_closed(loop):
    """The other thread may not touch the driver; what it asks of the loop comes too late."""
    before = len(os.listdir("/proc/self/fd"))
    peer = None

    async def main():
        nonlocal peer
        ours, peer = socket.socketpair()
        transport, _ = await loop.create_connection(Recorder, sock=ours)
        transport.pause_reading()
        del ours
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        box = [transport]
        del transport
        in_thread(box.clear)

    loop.run_until_complete(main())
    in_thread(gc.collect)
    loop.close()
    gc.collect()
    peer.close()
    assert len(os.listdir("/proc/self/fd")) < before
