"""UNIX stream sockets: servers and connections."""

import asyncio
import errno
import os
import queue
import socket
import sys
import threading

import pytest
from harness import Echo, Peer, Recorder, iterations, oracle_lacks, run


async def echoed(loop, path):
    transport, protocol = await loop.create_unix_connection(Recorder, path)
    transport.write(b"ping")
    await protocol.until_size(4)
    assert protocol.data == b"ping"
    transport.close()
    await protocol.until_lost()
    return transport


async def closed(server):
    server.close()
    # A server transport's end is one iteration behind its peer's.
    await iterations(3)
    await server.wait_closed()


@pytest.mark.parametrize("kind", ["str", "bytes", "path", "abstract"])
def test_unix_server_and_connection_by_path_talk(loop, tmp_path, kind):
    path = {
        "str": str(tmp_path / "socket"),
        "bytes": os.fsencode(tmp_path / "socket"),
        "path": tmp_path / "socket",
        "abstract": f"\0uring-loop-test-{os.getpid()}",
    }[kind]

    async def main():
        server = await loop.create_unix_server(Echo, path)
        assert server.is_serving()
        assert server.sockets[0].family == socket.AF_UNIX
        await echoed(loop, path)
        await closed(server)

    run(loop, main())


def test_unix_connection_extra_info_names_the_path(loop, tmp_path):
    path = str(tmp_path / "socket")

    async def main():
        server = await loop.create_unix_server(Echo, path)
        transport = await echoed(loop, path)
        assert transport.get_extra_info("peername") == path
        assert transport.get_extra_info("sockname") == ""
        await closed(server)

    run(loop, main())


def test_unix_connection_of_a_socket_takes_it_over(loop):
    async def main():
        sock, other = socket.socketpair()
        transport, protocol = await loop.create_unix_connection(Recorder, sock=sock)
        peer = Peer(other)
        transport.write(b"hello")
        assert await peer.recv_exactly(5) == b"hello"
        peer.close()
        await protocol.until_lost()

    run(loop, main())


def test_unix_server_of_a_socket_serves(loop, tmp_path):
    path = str(tmp_path / "socket")

    async def main():
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        server = await loop.create_unix_server(Echo, sock=sock)
        await echoed(loop, path)
        await closed(server)

    run(loop, main())


def test_unix_server_replaces_a_stale_socket(loop, tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))

    async def main():
        server = await loop.create_unix_server(Echo, path)
        await echoed(loop, path)
        await closed(server)

    run(loop, main())


def test_unix_server_on_a_regular_file_raises_and_keeps_it(loop, tmp_path):
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(OSError, match="Address .* is already in use") as got:
        run(loop, loop.create_unix_server(Echo, path))
    assert got.value.errno == errno.EADDRINUSE
    assert path.read_text() == "precious"


def test_unix_server_in_a_missing_directory_raises(loop, tmp_path):
    with pytest.raises(FileNotFoundError):
        run(loop, loop.create_unix_server(Echo, tmp_path / "missing" / "socket"))


@pytest.mark.parametrize("cleanup", [True, False])
def test_unix_server_closed_removes_its_socket_when_asked(loop, loop_kind, tmp_path, cleanup):
    oracle_lacks(loop_kind, sys.version_info < (3, 13), "create_unix_server has no cleanup_socket")
    path = tmp_path / "socket"

    async def main():
        server = await loop.create_unix_server(Echo, path, cleanup_socket=cleanup)
        assert path.exists()
        await closed(server)

    run(loop, main())
    assert path.exists() is not cleanup


def test_unix_server_not_started_serves_after_start_serving(loop, tmp_path):
    path = tmp_path / "socket"

    async def main():
        server = await loop.create_unix_server(Echo, path, start_serving=False)
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await loop.create_unix_connection(pytest.fail, path)
        await server.start_serving()
        await echoed(loop, path)
        await closed(server)

    run(loop, main())


def test_unix_connection_to_nothing_raises(loop, tmp_path):
    with pytest.raises(FileNotFoundError):
        run(loop, loop.create_unix_connection(pytest.fail, tmp_path / "missing"))


def test_unix_connection_refused_raises(loop, tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
    with pytest.raises(ConnectionRefusedError):
        run(loop, loop.create_unix_connection(pytest.fail, path))


def test_unix_connection_with_the_backlog_full_waits_or_fails_but_never_hangs(loop, tmp_path):
    """connect(2) on a UNIX socket answers EAGAIN there, which is no EINPROGRESS."""
    path = str(tmp_path / "socket")

    async def main():
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(0)
            fillers = []
            for _ in range(4):
                sock = socket.socket(socket.AF_UNIX)
                sock.setblocking(False)
                sock.connect_ex(path)
                fillers.append(sock)
            task = loop.create_task(loop.create_unix_connection(Recorder, path))
            await iterations(20)
            if not task.done():
                task.cancel()
            await iterations(2)
            try:
                await task
            except (OSError, asyncio.CancelledError):
                pass
            for sock in fillers:
                sock.close()

    run(loop, main())


def test_unix_path_too_long_raises(loop, tmp_path):
    path = str(tmp_path / ("x" * 200))
    with pytest.raises(OSError, match="AF_UNIX path too long"):
        run(loop, loop.create_unix_server(Echo, path))
    with pytest.raises(OSError, match="AF_UNIX path too long"):
        run(loop, loop.create_unix_connection(pytest.fail, path))


def connection_arguments():
    yield {}, "no path and sock were specified"
    yield {"path": "x", "sock": True}, "path and sock can not be specified at the same time"
    yield {"path": "x", "server_hostname": "x"}, "server_hostname is only meaningful with ssl"
    for option in ("ssl_handshake_timeout", "ssl_shutdown_timeout"):
        yield {"path": "x", option: 1}, f"{option} is only meaningful with ssl"
    yield {"path": "x", "ssl": True}, "you have to pass server_hostname when using ssl"


@pytest.mark.parametrize("options, text", list(connection_arguments()))
def test_unix_connection_bad_combination_raises_value_error(loop, options, text):
    with socket.socket(socket.AF_UNIX) as sock:
        if "sock" in options:
            options = {**options, "sock": sock}
        with pytest.raises(ValueError, match=f"^{text}$"):
            run(loop, loop.create_unix_connection(pytest.fail, **options))


def server_arguments():
    yield {}, ValueError, "path was not specified, and no sock specified"
    text = "path and sock can not be specified at the same time"
    yield {"path": "x", "sock": True}, ValueError, text
    yield {"path": "x", "ssl": True}, TypeError, "ssl argument must be an SSLContext or None"
    for option in ("ssl_handshake_timeout", "ssl_shutdown_timeout"):
        yield {"path": "x", option: 1}, ValueError, f"{option} is only meaningful with ssl"


@pytest.mark.parametrize("options, error, text", list(server_arguments()))
def test_unix_server_bad_combination_raises(loop, options, error, text):
    with socket.socket(socket.AF_UNIX) as sock:
        if "sock" in options:
            options = {**options, "sock": sock}
        with pytest.raises(error, match=f"^{text}$"):
            run(loop, loop.create_unix_server(pytest.fail, **options))


@pytest.mark.parametrize("method", ["create_unix_connection", "create_unix_server"])
@pytest.mark.parametrize("family, kind", [("AF_INET", "SOCK_STREAM"), ("AF_UNIX", "SOCK_DGRAM")])
def test_unix_socket_of_another_kind_raises_value_error(loop, method, family, kind):
    with socket.socket(getattr(socket, family), getattr(socket, kind)) as sock:
        with pytest.raises(ValueError, match="^A UNIX Domain Stream Socket was expected, got "):
            run(loop, getattr(loop, method)(pytest.fail, sock=sock))


@pytest.mark.parametrize("path", [5.0, object()])
def test_unix_path_of_a_wrong_type_raises_type_error(loop, path):
    with pytest.raises(TypeError):
        run(loop, loop.create_unix_connection(pytest.fail, path))
    with pytest.raises(TypeError):
        run(loop, loop.create_unix_server(pytest.fail, path))


# ---- files in the way ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_unix_server_on_what_is_no_socket_raises_and_keeps_it(loop, tmp_path, kind):
    path = tmp_path / "thing"
    path.mkdir() if kind == "directory" else os.mkfifo(path)
    text = f"Address {str(path)!r} is already in use"
    with pytest.raises(OSError, match=text) as got:
        run(loop, loop.create_unix_server(Echo, path))
    assert got.value.errno == errno.EADDRINUSE
    assert path.is_dir() or path.is_fifo()


def test_unix_server_through_a_link_replaces_the_link_not_its_target(loop, tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(target))
    link.symlink_to(target)

    async def main():
        server = await loop.create_unix_server(Echo, link)
        assert not link.is_symlink()
        await echoed(loop, link)
        await closed(server)

    run(loop, main())
    assert target.is_socket()


def test_unix_server_that_may_not_remove_the_stale_socket_says_so(
    loop, tmp_path, monkeypatch, caplog
):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))

    def refusing(path):
        raise PermissionError(errno.EACCES, "refused")

    monkeypatch.setattr(os, "remove", refusing)
    with pytest.raises(OSError, match="Address .* is already in use") as got:
        run(loop, loop.create_unix_server(Echo, path))
    assert got.value.errno == errno.EADDRINUSE
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    text = f"Unable to check or remove stale UNIX socket {str(path)!r}: PermissionError("
    assert record.getMessage().startswith(text)


def test_unix_server_below_a_regular_file_raises_and_says_so(loop, tmp_path, caplog):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        run(loop, loop.create_unix_server(Echo, tmp_path / "file" / "socket"))
    assert caplog.messages[0].startswith("Unable to check or remove stale UNIX socket ")


def test_unix_server_path_with_a_null_byte_raises_value_error(loop, loop_kind):
    oracle_lacks(loop_kind, True, "leaves the socket to the collector")
    with pytest.raises(ValueError, match="null"):
        run(loop, loop.create_unix_server(Echo, "a\0b"))


# ---- what is removed at the end -----------------------------------------------------------------


@pytest.fixture
def cleans(loop_kind):
    oracle_lacks(loop_kind, sys.version_info < (3, 13), "create_unix_server has no cleanup_socket")


def test_unix_server_closed_keeps_what_somebody_else_put_there(loop, tmp_path, cleans):
    path = tmp_path / "socket"

    async def main():
        server = await loop.create_unix_server(Echo, path, cleanup_socket=True)
        # Another inode for certain: the first is kept by a second name.
        os.link(path, tmp_path / "kept")
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            await closed(server)

    run(loop, main())
    assert path.is_socket()


def test_unix_server_replaced_by_another_leaves_the_socket_of_that(loop, tmp_path, cleans):
    path = tmp_path / "socket"

    async def main():
        one = await loop.create_unix_server(Echo, path, cleanup_socket=True)
        # Its inode is not to be had again.
        os.link(path, tmp_path / "kept")
        two = await loop.create_unix_server(Echo, path, cleanup_socket=True)
        await closed(one)
        assert path.is_socket()
        await echoed(loop, path)
        await closed(two)

    run(loop, main())
    assert not path.exists()


def test_unix_server_whose_file_is_gone_closes_quietly(loop, tmp_path, cleans, caplog):
    path = tmp_path / "socket"

    async def main():
        server = await loop.create_unix_server(Echo, path, cleanup_socket=True)
        path.unlink()
        await closed(server)

    run(loop, main())
    assert caplog.messages == []


@pytest.mark.parametrize("start", [True, False])
def test_unix_server_of_a_bound_socket_removes_its_file(loop, tmp_path, cleans, start):
    path = tmp_path / "socket"

    async def main():
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        server = await loop.create_unix_server(
            Echo, sock=sock, cleanup_socket=True, start_serving=start
        )
        await closed(server)

    run(loop, main())
    assert not path.exists()


def test_unix_server_of_a_bound_socket_whose_file_is_gone_serves_nobody_and_closes_quietly(
    loop, tmp_path, cleans, caplog
):
    path = tmp_path / "socket"

    async def main():
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        path.unlink()
        server = await loop.create_unix_server(Echo, sock=sock, cleanup_socket=True)
        path.touch()
        await closed(server)

    run(loop, main())
    assert path.exists()
    assert caplog.messages == []


def test_unix_server_that_may_not_remove_its_file_says_so(
    loop, tmp_path, cleans, monkeypatch, caplog
):
    path = tmp_path / "socket"

    def refusing(path):
        raise PermissionError(errno.EACCES, "refused")

    async def main():
        server = await loop.create_unix_server(Echo, path, cleanup_socket=True)
        monkeypatch.setattr(os, "unlink", refusing)
        await closed(server)

    run(loop, main())
    assert path.is_socket()
    text = f"Unable to clean up listening UNIX socket {str(path)!r}: PermissionError("
    assert caplog.messages[0].startswith(text)


@pytest.mark.parametrize("name", ["abstract", "bytes"])
def test_unix_server_of_an_abstract_name_has_nothing_to_remove(loop, cleans, name):
    address = f"\0uring-loop-cleanup-{os.getpid()}"
    if name == "bytes":
        address = address.encode()

    async def main():
        for _ in range(2):
            server = await loop.create_unix_server(Echo, address, cleanup_socket=True)
            await echoed(loop, address)
            await closed(server)

    run(loop, main())


def test_unix_server_without_the_argument_cleans_up_as_this_python_does(loop, tmp_path):
    path = tmp_path / "socket"

    async def main():
        await closed(await loop.create_unix_server(Echo, path))

    run(loop, main())
    assert path.exists() is (sys.version_info < (3, 13))


# ---- connections --------------------------------------------------------------------------------


def test_unix_server_backlog_reaches_listen(loop, tmp_path, monkeypatch):
    backlogs = []
    listen = socket.socket.listen

    def noting(self, backlog):
        backlogs.append(backlog)
        listen(self, backlog)

    monkeypatch.setattr(socket.socket, "listen", noting)

    async def main():
        for number, options in enumerate(({}, {"backlog": 7})):
            path = tmp_path / str(number)
            await closed(await loop.create_unix_server(Echo, path, **options))

    run(loop, main())
    assert backlogs == [100, 7]


def test_unix_server_of_an_unbound_socket_raises(loop, loop_kind):
    """unix(7): what has no name cannot listen."""
    oracle_lacks(loop_kind, sys.version_info >= (3, 13), "IndexError from the empty name")
    with socket.socket(socket.AF_UNIX) as sock:
        with pytest.raises(OSError) as got:
            run(loop, loop.create_unix_server(Echo, sock=sock))
        assert got.value.errno == errno.EINVAL
        assert sock.fileno() != -1


@pytest.mark.parametrize("method", ["create_unix_connection", "create_unix_server"])
def test_unix_blocking_socket_is_made_nonblocking(loop, tmp_path, method):
    async def main():
        sock, other = socket.socketpair()
        if method == "create_unix_server":
            other.close()
            sock.close()
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(str(tmp_path / "socket"))
            server = await loop.create_unix_server(Echo, sock=sock)
            assert sock.gettimeout() == 0
            await closed(server)
        else:
            _, protocol = await loop.create_unix_connection(Recorder, sock=sock)
            assert sock.gettimeout() == 0
            other.close()
            await protocol.until_lost()

    run(loop, main())


def test_unix_server_hostname_of_a_wrong_type_is_refused(loop):
    with pytest.raises(AssertionError):
        run(loop, loop.create_unix_connection(pytest.fail, "x", ssl=True, server_hostname=b"x"))


@pytest.mark.parametrize("turns", range(6))
def test_unix_connection_cancelled_at_any_turn_leaves_nothing(loop, tmp_path, turns):
    path = tmp_path / "socket"

    async def main():
        server = await loop.create_unix_server(Echo, path)
        task = loop.create_task(loop.create_unix_connection(Recorder, path))
        await iterations(turns)
        task.cancel()
        try:
            transport, protocol = await task
        except asyncio.CancelledError:
            pass
        else:
            transport.abort()
            await protocol.until_lost()
        await iterations(3)
        await closed(server)

    run(loop, main())


def test_unix_connection_factory_raising_closes_the_socket(loop, loop_kind, tmp_path):
    oracle_lacks(loop_kind, sys.version_info < (3, 14), "the socket is left to the collector")
    path = tmp_path / "socket"

    async def main():
        def factory():
            raise LookupError

        server = await loop.create_unix_server(Echo, path)
        with pytest.raises(LookupError):
            await loop.create_unix_connection(factory, path)
        await iterations(3)
        await closed(server)

    run(loop, main())


def test_unix_server_peer_has_no_name(loop, tmp_path):
    """A client that did not bind is nobody: peername is the empty string, sockname the path."""
    path = str(tmp_path / "socket")

    async def main():
        served = Recorder()
        server = await loop.create_unix_server(lambda: served, path)
        _, client = await loop.create_unix_connection(Recorder, path)
        await served.until_called("connection_made")
        assert served.transport.get_extra_info("peername") in ("", None)
        assert served.transport.get_extra_info("sockname") == path
        client.transport.close()
        await client.until_lost()
        await served.until_lost()
        await closed(server)

    run(loop, main())


def test_unix_stream_whose_end_comes_with_its_last_bytes_tells_both(loop):
    """The two wake-ups of the kernel race the loop's look at the first (CVE-2026-23473)."""
    rounds = 300
    given = queue.SimpleQueue()

    def send_and_end():
        while (sock := given.get()) is not None:
            sock.send(b"x" * 123)
            sock.shutdown(socket.SHUT_WR)

    async def main():
        for _ in range(rounds):
            ours, theirs = socket.socketpair()
            with theirs:
                _, protocol = await loop.create_connection(Recorder, sock=ours)
                given.put(theirs)
                await protocol.until_lost()
                assert protocol.data == b"x" * 123
                assert protocol.names[-2:] == ["eof_received", "connection_lost"]

    thread = threading.Thread(target=send_and_end)
    thread.start()
    try:
        run(loop, main())
    finally:
        given.put(None)
        thread.join()
