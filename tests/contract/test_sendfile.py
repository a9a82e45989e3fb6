"""sendfile and sock_sendfile: what arrives, where the file stands, what is refused."""

import asyncio
import concurrent.futures
import contextlib
import errno
import hashlib
import io
import os
import random
import socket
import ssl
import sys
import tempfile

import pytest
from file_sending import fifty_at_once, receive_all, sent_by_socket, sockets
from harness import (
    PAIRS,
    Recorder,
    attached,
    iterations,
    oracle_lacks,
    run,
    small_buffers,
    tcp_pair,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CONTENT = random.Random(1).randbytes(3 * 1024 * 1024 + 17)
# More than any pair of socket buffers takes without a reader.
HUGE = 64 << 20


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    with open(path, "rb") as opened:
        yield opened


@pytest.fixture
def huge_file(tmp_path):
    with open(tmp_path / "huge", "w+b") as opened:
        opened.truncate(HUGE)
        yield opened


async def sent_by_transport(file, *arguments, pair=tcp_pair, small=False, **options):
    loop = asyncio.get_running_loop()
    async with attached(pair=pair, small=small) as (transport, _, peer):
        received = asyncio.ensure_future(peer.recv_all())
        result = await loop.sendfile(transport, file, *arguments, **options)
        transport.close()
        return result, await received


BOTH = pytest.mark.parametrize(
    "send", [sent_by_socket, sent_by_transport], ids=["socket", "transport"]
)


def expected_part(offset, count):
    return CONTENT[offset:] if count is None else CONTENT[offset : offset + count]


@BOTH
@pytest.mark.parametrize("small", [False, True], ids=["ample", "small"])
def test_whole_file_arrives_and_position_is_behind_it(loop, file, pair, send, small):
    result, received = run(loop, send(file, pair=pair, small=small))
    assert hashlib.sha256(received).digest() == hashlib.sha256(CONTENT).digest()
    assert result == len(CONTENT)
    assert file.tell() == len(CONTENT)


def seeks_for_nothing():
    """Whether this Python's asyncio moves a file of which nothing was sent."""
    with tempfile.TemporaryFile() as file:
        update = asyncio.SelectorEventLoop._sock_sendfile_update_filepos
        # Later releases of 3.14 take no total.
        update(*(None, file.fileno(), 5, 0)[: update.__code__.co_argcount])
        return os.lseek(file.fileno(), 0, os.SEEK_CUR) == 5


SEEKS_FOR_NOTHING = seeks_for_nothing()
SIZE = len(CONTENT)
# Where windows, pages and the file end, and around it.
EDGES = st.sampled_from([0, 1, 4095, 4096, 65536, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, SIZE - 1])


@BOTH
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    offset=st.one_of(EDGES, st.integers(0, SIZE + 5000)),
    count=st.one_of(st.none(), EDGES.filter(bool), st.integers(1, SIZE + 5000)),
    small=st.booleans(),
)
def test_any_part_arrives_and_position_is_behind_it(loop, file, send, offset, count, small):
    file.seek(7)
    expected = expected_part(offset, count)
    result, received = run(loop, send(file, offset, count, small=small))
    assert received == expected
    assert result == len(expected)
    position = os.lseek(file.fileno(), 0, os.SEEK_CUR)
    assert position == (offset + result if result or SEEKS_FOR_NOTHING else 7)


@BOTH
def test_empty_file_sends_nothing(loop, tmp_path, send):
    path = tmp_path / "empty"
    path.touch()
    with open(path, "rb") as file:
        assert run(loop, send(file)) == (0, b"")
        assert file.tell() == 0


@BOTH
def test_part_of_a_file_beyond_two_gib_arrives(loop, tmp_path, send):
    start = (1 << 32) + 123
    with open(tmp_path / "sparse", "w+b") as file:
        file.seek(start)
        file.write(CONTENT)
        file.flush()
        result, received = run(loop, send(file, start - 10, 1000))
        assert received == bytes(10) + CONTENT[:990]
        assert file.tell() == start + 990
        assert result == 1000


@pytest.mark.parametrize(
    "offset, count, error",
    [
        (0, 0, ValueError),
        (0, -1, ValueError),
        (0, 1.5, TypeError),
        (0, "1", TypeError),
        (-1, None, ValueError),
        (1.5, None, TypeError),
        (None, None, TypeError),
        (0, b"", TypeError),
    ],
)
@BOTH
def test_a_range_that_is_none_is_refused_in_asyncios_words(loop, file, send, offset, count, error):
    subject = "offset" if count is None else "count"
    kind = "non-negative" if count is None else "positive"
    value = offset if count is None else count
    with pytest.raises(error) as caught:
        run(loop, send(file, offset, count))
    assert str(caught.value) == f"{subject} must be a {kind} integer (got {value!r})"
    assert file.tell() == 0


@BOTH
def test_text_file_is_refused(loop, file, send):
    with open(file.name, encoding="latin-1") as text:
        with pytest.raises(ValueError, match="^file should be opened in binary mode$"):
            run(loop, send(text))


def test_datagram_socket_is_refused(loop, file):
    async def main():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            with pytest.raises(ValueError, match="^only SOCK_STREAM type sockets are supported$"):
                await loop.sock_sendfile(sock, file)

    run(loop, main())


def test_blocking_socket_is_refused_in_debug_mode(loop, file):
    loop.set_debug(True)

    async def main():
        with sockets() as (sock, _):
            sock.setblocking(True)
            with pytest.raises(ValueError, match="^the socket must be non-blocking$"):
                await loop.sock_sendfile(sock, file)

    run(loop, main())


def test_tls_socket_is_refused(loop, file):
    async def main():
        with sockets() as (sock, _):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            with context.wrap_socket(sock, do_handshake_on_connect=False) as wrapped:
                with pytest.raises(TypeError):
                    await loop.sock_sendfile(wrapped, file)

    run(loop, main())


def test_socket_of_a_transport_is_refused(loop, loop_kind, huge_file):
    oracle_lacks(loop_kind, True, "sends a first piece before it looks whose the socket is")

    async def main():
        async with attached() as (transport, _, _):
            with pytest.raises(RuntimeError, match="is used by transport"):
                await loop.sock_sendfile(transport.get_extra_info("socket"), huge_file)

    run(loop, main())


def test_socket_that_is_full_already_is_waited_for(loop, file):
    async def main():
        with sockets(small=True) as (sock, peer):
            filled = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    filled += sock.send(bytes(1 << 16))
            sending = asyncio.ensure_future(loop.sock_sendfile(sock, file))
            await iterations(5)
            assert not sending.done()
            received = asyncio.ensure_future(receive_all(peer))
            assert await sending == len(CONTENT)
            sock.close()
            assert (await received)[filled:] == CONTENT

    run(loop, main())


def test_connection_that_is_lost_while_its_socket_is_full_is_a_connection_error(
    loop, file, monkeypatch
):
    sendfile = os.sendfile
    sent = []

    def lose(*arguments):
        if sent:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        sent.append(sendfile(*arguments[:-1], 1000))
        return sent[0]

    async def main():
        with sockets() as (sock, peer):
            monkeypatch.setattr(os, "sendfile", lose)
            with pytest.raises(ConnectionError, match="socket is not connected"):
                await loop.sock_sendfile(sock, file)
            monkeypatch.undo()
            sock.close()
            return await receive_all(peer)

    assert run(loop, main()) == CONTENT[:1000]
    assert file.tell() == 1000


class OnlyReadable:
    """A file that has no descriptor and no position."""

    def __init__(self, data):
        self._rest = io.BytesIO(data)

    def readinto(self, buffer):
        return self._rest.readinto(buffer)


@BOTH
def test_object_that_can_only_be_read_is_sent_from_where_it_is(loop, send):
    result, received = run(loop, send(OnlyReadable(CONTENT)))
    assert result == len(CONTENT)
    assert received == CONTENT


@BOTH
@pytest.mark.parametrize("size", [0, 1, 16384, 300_000])
def test_object_without_descriptor_is_read(loop, send, size):
    file = io.BytesIO(CONTENT[:size])
    assert run(loop, send(file)) == (size, CONTENT[:size])
    assert file.tell() == size


@BOTH
def test_object_without_descriptor_is_read_from_offset_for_count(loop, send):
    file = io.BytesIO(CONTENT)
    result, received = run(loop, send(file, 1000, 70_000, small=True))
    assert received == CONTENT[1000:71_000]
    assert (result, file.tell()) == (70_000, 71_000)


@BOTH
def test_object_without_descriptor_and_no_fallback_is_refused(loop, send):
    with pytest.raises(asyncio.SendfileNotAvailableError, match="^not a regular file$"):
        run(loop, send(io.BytesIO(b"data"), fallback=False))


def test_closed_file_is_refused(loop, file):
    file.close()
    with pytest.raises(ValueError):
        run(loop, sent_by_socket(file))


def test_closing_transport_is_refused(loop, file):
    async def main():
        async with attached() as (transport, _, _):
            transport.close()
            with pytest.raises(RuntimeError, match="^Transport is closing$"):
                await loop.sendfile(transport, file)

    run(loop, main())


def test_other_transport_is_refused(loop, file):
    class Other(asyncio.Transport):
        def is_closing(self):
            return False

    with pytest.raises(RuntimeError, match="^sendfile is not supported for transport "):
        run(loop, loop.sendfile(Other(), file))


def test_queued_bytes_go_first_and_later_writes_follow(loop, file):
    prefix = b"before" * 100_000

    async def main():
        async with attached(small=True) as (transport, _, peer):
            received = asyncio.ensure_future(peer.recv_all())
            transport.write(prefix)
            result = await loop.sendfile(transport, file)
            transport.write(b"after")
            transport.close()
            assert await received == prefix + CONTENT + b"after"
            return result

    assert run(loop, main()) == len(CONTENT)


@contextlib.asynccontextmanager
async def stuck(file, *arguments):
    """(task, transport, protocol, peer): a sendfile whose peer does not read yet."""
    loop = asyncio.get_running_loop()
    async with attached(small=True) as (transport, protocol, peer):
        task = asyncio.ensure_future(loop.sendfile(transport, file, *arguments))
        await peer.readable()
        await iterations(5)
        assert not task.done()
        yield task, transport, protocol, peer


@pytest.mark.parametrize("method, data", [("write", b"x"), ("writelines", [b"x"])])
def test_write_meanwhile_is_refused(loop, loop_kind, file, method, data):
    oracle_lacks(
        loop_kind,
        method == "writelines" and sys.version_info < (3, 12),
        "writelines() does not look",
    )

    async def main():
        async with stuck(file) as (task, transport, _, peer):
            received = asyncio.ensure_future(peer.recv_all())
            with pytest.raises(RuntimeError, match="sendfile is in progress"):
                getattr(transport, method)(data)
            assert await task == len(CONTENT)
            transport.close()
            assert await received == CONTENT

    run(loop, main())


def test_second_sendfile_meanwhile_is_refused_and_the_first_goes_on(loop, loop_kind, file):
    oracle_lacks(loop_kind, True, "refuses it with a KeyError of its own")

    async def main():
        async with stuck(file) as (task, transport, _, peer):
            received = asyncio.ensure_future(peer.recv_all())
            with pytest.raises(RuntimeError, match="^Empty waiter is already set$"):
                await loop.sendfile(transport, file)
            assert await task == len(CONTENT)
            transport.close()
            assert await received == CONTENT

    run(loop, main())


def test_reading_is_paused_meanwhile_and_goes_on_afterwards(loop, file):
    async def main():
        async with stuck(file) as (task, transport, protocol, peer):
            assert not transport.is_reading()
            await peer.send_all(b"meanwhile")
            await iterations(5)
            assert not protocol.data
            await peer.recv_exactly(len(CONTENT))
            assert await task == len(CONTENT)
            assert transport.is_reading()
            await protocol.until_size(9)
            assert protocol.data == b"meanwhile"

    run(loop, main())


def test_transport_that_was_paused_stays_paused(loop, file):
    async def main():
        async with attached() as (transport, _, peer):
            transport.pause_reading()
            received = asyncio.ensure_future(peer.recv_exactly(len(CONTENT)))
            await loop.sendfile(transport, file)
            assert not transport.is_reading()
            assert await received == CONTENT

    run(loop, main())


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 10])
def test_cancelled_in_any_turn_position_says_what_was_sent(loop, loop_kind, file, turns):
    oracle_lacks(loop_kind, True, "leaves the position where it was when it is cancelled")

    async def main():
        async with attached(small=True) as (transport, _, peer):
            task = asyncio.ensure_future(loop.sendfile(transport, file))
            await iterations(turns)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            position = file.tell()
            transport.write(b"after")
            transport.close()
            assert await peer.recv_all() == CONTENT[:position] + b"after"

    run(loop, main())


def test_cancelled_socket_sendfile_can_be_continued_at_the_position(loop, loop_kind, file):
    oracle_lacks(loop_kind, True, "leaves the position where it was when it is cancelled")

    async def main():
        with sockets(small=True) as (sock, peer):
            parts = bytearray()
            for size in (1, 100_000, 1_000_000):
                task = asyncio.ensure_future(loop.sock_sendfile(sock, file, file.tell()))
                while len(parts) < size:
                    parts += await loop.sock_recv(peer, 65536)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            received = asyncio.ensure_future(receive_all(peer))
            await loop.sock_sendfile(sock, file, file.tell())
            sock.close()
            assert parts + await received == CONTENT

    run(loop, main())


def test_peer_that_closes_half_way_is_an_error_and_position_is_defined(loop, huge_file):
    async def main():
        async with stuck(huge_file) as (task, transport, protocol, peer):
            await peer.recv_exactly(100_000)
            peer.reset()
            with pytest.raises(ConnectionError):
                await task
            assert 100_000 <= huge_file.tell() < HUGE
            await protocol.until_lost()
            assert transport.is_closing()

    run(loop, main())


@pytest.mark.parametrize("method", ["abort", "close"])
def test_transport_that_is_closed_half_way_ends_sendfile(loop, loop_kind, huge_file, method):
    oracle_lacks(loop_kind, True, "waits for ever")

    async def main():
        async with stuck(huge_file) as (task, transport, protocol, peer):
            getattr(transport, method)()
            with pytest.raises(ConnectionError, match="^Connection is closed by peer$"):
                await task
            await protocol.until_lost()
            position = huge_file.tell()
            assert len(await peer.recv_all()) == position

    run(loop, main())


def test_transport_that_is_aborted_after_a_reset_ends_sendfile(loop, loop_kind, huge_file):
    """There is nothing left then to shut down."""
    oracle_lacks(loop_kind, True, "waits for ever")

    async def main():
        async with stuck(huge_file) as (task, transport, protocol, peer):
            peer.reset()
            transport.abort()
            with pytest.raises(ConnectionError):
                await task
            await protocol.until_lost()

    run(loop, main())


def test_transport_that_is_aborted_before_its_queue_is_empty_ends_sendfile(loop, file):
    async def main():
        async with attached(small=True) as (transport, protocol, peer):
            transport.write(b"x" * HUGE)
            task = asyncio.ensure_future(loop.sendfile(transport, file))
            await peer.readable()
            transport.abort()
            with pytest.raises(ConnectionError):
                await task
            await protocol.until_lost()
            assert file.tell() == 0

    run(loop, main())


def test_transport_that_is_aborted_as_its_queue_gets_empty_sends_nothing_of_the_file(
    loop, loop_kind, file
):
    oracle_lacks(loop_kind, True, "the file is sent over a connection that is aborted")

    class Aborting(Recorder):
        def resume_writing(self):
            super().resume_writing()
            # Before sendfile(), which is woken next, goes on.
            loop.call_soon(self.transport.abort)

    async def main():
        async with attached(Aborting(), small=True) as (transport, protocol, peer):
            transport.write(bytes(1 << 20))
            sending = asyncio.ensure_future(loop.sendfile(transport, file))
            received = await peer.recv_all()
            with pytest.raises(ConnectionError, match="Connection is closed by peer"):
                await sending
            assert received == bytes(1 << 20)
            assert file.tell() == 0
            assert protocol.lost is None

    run(loop, main())


def test_cancelled_before_the_queue_is_empty_leaves_a_transport_that_writes(loop, loop_kind, file):
    oracle_lacks(loop_kind, True, "refuses every write from then on")
    queued = b"x" * (8 << 20)

    async def main():
        async with attached(small=True) as (transport, _, peer):
            transport.write(queued)
            task = asyncio.ensure_future(loop.sendfile(transport, file))
            await iterations(2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert transport.is_reading()
            transport.write(b"after")
            transport.close()
            assert await peer.recv_all() == queued + b"after"

    run(loop, main())


def test_file_that_shrinks_meanwhile_ends_early(loop, huge_file):
    async def main():
        async with stuck(huge_file) as (task, transport, _, peer):
            huge_file.truncate(os.lseek(huge_file.fileno(), 0, os.SEEK_CUR) + (4 << 20))
            received = asyncio.ensure_future(peer.recv_all())
            result = await task
            transport.close()
            assert len(await received) == result == huge_file.tell()
            assert result < HUGE

    run(loop, main())


def test_file_that_grows_meanwhile_is_sent_to_its_new_end(loop, tmp_path):
    with open(tmp_path / "growing", "w+b") as file:
        file.write(CONTENT)
        file.flush()

        async def main():
            async with stuck(file) as (task, transport, _, peer):
                with open(file.name, "ab") as writer:
                    writer.write(b"more")
                received = asyncio.ensure_future(peer.recv_all())
                assert await task == len(CONTENT) + 4
                transport.close()
                assert await received == CONTENT + b"more"

        run(loop, main())


def test_fifty_at_once_each_get_their_own_file(loop, tmp_path):
    run(loop, fifty_at_once(tmp_path, sent_by_transport))


@contextlib.asynccontextmanager
async def over_tls(certificates):
    """(transport, protocol) of a client and its server's protocol, connected by TLS."""
    loop = asyncio.get_running_loop()
    one, other = tcp_pair()
    small_buffers(one, other)
    remote = Recorder()
    accepted = asyncio.ensure_future(
        loop.connect_accepted_socket(lambda: remote, other, ssl=certificates.server())
    )
    transport, protocol = await loop.create_connection(
        Recorder, sock=one, ssl=certificates.client(), server_hostname="localhost"
    )
    remote_transport, _ = await accepted
    try:
        yield transport, protocol, remote
    finally:
        transport.abort()
        remote_transport.abort()
        await remote.until_lost()
        await protocol.until_lost()
        await iterations(3)


def test_tls_transport_sends_by_reading(loop, file, certificates):
    async def main():
        async with over_tls(certificates) as (transport, protocol, remote):
            transport.write(b"before")
            assert await loop.sendfile(transport, file, 5, 1_000_000) == 1_000_000
            assert transport.get_protocol() is protocol
            assert transport.is_reading()
            assert file.tell() == 1_000_005
            transport.write(b"after")
            await remote.until_size(1_000_011)
            assert remote.data == b"before" + CONTENT[5:1_000_005] + b"after"

    run(loop, main())


def test_tls_transport_that_is_paused_both_ways_sends_and_is_as_it_was(loop, file, certificates):
    """Its own protocol hears nothing of the pauses of meanwhile, and of the end of its own."""

    async def main():
        async with over_tls(certificates) as (transport, protocol, remote):
            remote.transport.pause_reading()
            before = 0
            while protocol.pauses == protocol.resumes:
                transport.write(bytes(1 << 20))
                before += 1 << 20
                # What the kernel takes it has taken by then.
                await iterations(20)
            pauses = protocol.pauses
            transport.pause_reading()
            sending = asyncio.ensure_future(loop.sendfile(transport, file))
            await iterations(3)
            assert not sending.done()
            assert transport.get_protocol() is not protocol
            remote.transport.resume_reading()
            assert await sending == len(CONTENT)
            assert transport.get_protocol() is protocol
            assert not transport.is_reading()
            await remote.until_size(before + len(CONTENT))
            assert remote.data[before:] == CONTENT
            assert (protocol.pauses, protocol.resumes) == (pauses, pauses)

    run(loop, main())


def test_tls_transport_lost_while_sendfile_waits_for_room_is_an_error_and_the_protocols_loss(
    loop, huge_file, certificates
):
    async def main():
        async with over_tls(certificates) as (transport, protocol, remote):
            loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
            remote.transport.pause_reading()
            sending = asyncio.ensure_future(loop.sendfile(transport, huge_file))
            stuck = 0
            while stuck < 5:
                # The thread has read what comes next, and there was no room for it.
                await loop.run_in_executor(None, int)
                await iterations(3)
                stuck = stuck + 1 if transport._protocol_paused else 0
            assert transport.get_protocol() is not protocol
            transport.abort()
            with pytest.raises(ConnectionError):
                await sending
            await protocol.until_lost()
            assert protocol.lost is None

    run(loop, main())


def test_who_stands_in_for_a_protocol_during_sendfile_takes_no_other_calls(
    loop, file, certificates
):
    async def main():
        async with over_tls(certificates) as (transport, protocol, _):
            sending = asyncio.ensure_future(loop.sendfile(transport, file))
            while transport.get_protocol() is protocol:
                await iterations(1)
            stand_in = transport.get_protocol()
            for name, arguments in (
                ("connection_made", (transport,)),
                ("data_received", (b"x",)),
                ("eof_received", ()),
            ):
                with pytest.raises(RuntimeError, match="^Invalid state: "):
                    getattr(stand_in, name)(*arguments)
            await sending

    run(loop, main())


def test_transport_that_tells_of_no_pauses_is_refused(loop, file):
    class Strange(asyncio.Transport):
        _sendfile_compatible = asyncio.constants._SendfileMode.FALLBACK

        def is_closing(self):
            return False

    async def main():
        with pytest.raises(TypeError, match="^transport should be _FlowControlMixin instance$"):
            await loop.sendfile(Strange(), file)

    run(loop, main())


def test_tls_transport_refuses_a_negative_count_and_leaves_the_position(loop, file, certificates):
    async def main():
        async with over_tls(certificates) as (transport, protocol, _):
            file.seek(7)
            with pytest.raises(ValueError, match="^negative count$"):
                await loop.sendfile(transport, file, 7, -1)
            assert file.tell() == 7
            assert transport.get_protocol() is protocol
            assert transport.is_reading()

    run(loop, main())


def test_tls_transport_without_fallback_is_refused(loop, file, certificates):
    async def main():
        async with over_tls(certificates) as (transport, _, _):
            with pytest.raises(RuntimeError, match="^fallback is disabled and native sendfile is"):
                await loop.sendfile(transport, file, fallback=False)

    run(loop, main())


def test_tls_peer_that_is_lost_half_way_is_an_error(loop, loop_kind, huge_file, certificates):
    oracle_lacks(loop_kind, True, "now and then it writes the rest into a connection that is gone")

    async def main():
        async with over_tls(certificates) as (transport, _, remote):
            task = asyncio.ensure_future(loop.sendfile(transport, huge_file))
            await remote.until_size(100_000)
            remote.transport.abort()
            with pytest.raises(ConnectionError):
                await task
            assert 100_000 <= huge_file.tell() < HUGE

    run(loop, main())
