"""What `python -m uring_loop bench` measures: each piece of work and each server, once.

A row that does not do what it says measures something else. No time is asserted.
"""

import asyncio
import gc
import json
import os
import socket
import ssl
import struct

import pytest

from uring_loop._internal.bench import frameworks, loops, measure, micro, rows, servers

# How often nothing() is called where a thousand operations are asked for; never by most.
CALLS = {
    "call_soon": 1000,
    "call_soon_threadsafe": 1000,
    "call_later_fire": 1000,
}


@pytest.mark.parametrize("name", [*micro.ROWS, micro.LOOP_LIFE])
def test_callbacks_row_does_its_work_and_leaves_nothing(monkeypatch, loop, loop_kind, name):
    calls = []
    monkeypatch.setattr(micro, "nothing", lambda: calls.append(1))
    # What makes loops sets the variable.
    monkeypatch.setenv("URING_LOOP_DRIVER", loop_kind)
    asyncio.set_event_loop(loop)
    try:
        assert micro.sample_ns(name, loop_kind, loop, 3) > 0
    finally:
        asyncio.set_event_loop(None)
    assert gc.isenabled()
    assert len(calls) == (3 if name == "run_in_executor" else CALLS.get(name, 0))


def test_loop_life_without_a_factory_is_refused(loop):
    with pytest.raises(ValueError, match="needs the loop's factory"):
        micro.loop_life(loop, 1)


def test_worker_that_cannot_do_a_row_goes_on_and_one_without_a_loop_says_so():
    core, _ = measure.cores()
    with micro.Worker("selector", core) as worker:
        assert worker.error is None
        with pytest.raises(loops.Unavailable, match="^KeyError: 'no_such_row'$"):
            worker.sample_ns("no_such_row")
        assert worker.sample_ns("create_task") > 0
    with micro.Worker("no_such_loop", None) as worker:
        assert worker.error.startswith("no loop is called 'no_such_loop'; known: asyncio, ")
        with pytest.raises(loops.Unavailable, match="^the worker ended$"):
            worker.sample_ns("create_task")


# ---- the servers -----------------------------------------------------------------------------

LINE = b"x" * 2000 + b"\n"
REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
HTTP = ("http", *frameworks.STARTERS)
# What is sent to each kind of server that gives it back.
MESSAGES = {
    "streams": LINE,
    "frames": struct.pack(">I", len(LINE)) + LINE,
    "bulks": b"$%d\r\n%s\r\n" % (len(LINE), LINE),
    "relay": LINE * 200,
}
ECHOES = [kind for kind in servers.KINDS if kind not in (*HTTP, "datagrams")]


async def end(kept):
    """What start() gave, ended: in a benchmark the process ends instead."""
    if isinstance(kept, asyncio.Task):
        kept.cancel()
        await asyncio.wait([kept])
    elif hasattr(kept, "abort"):
        kept.abort()
    else:
        kept.close()
        await kept.wait_closed()
        while getattr(kept, "_active_count", 0) or list(getattr(kept, "_clients", ())):
            await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)


def serve(loop, use, kind, unix=None, tls=False):
    """Start a server, and `use` it where it listens."""

    async def main():
        where, kept = await servers.start(kind, unix, tls)
        try:
            await asyncio.wait_for(use(where), 30)
        finally:
            await end(kept)

    loop.run_until_complete(main())


async def exchange(reader, writer, message):
    """The message goes, and comes back; then both ends close."""
    writer.write(message)
    assert await reader.readexactly(len(message)) == message
    if writer.can_write_eof():
        writer.write_eof()
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("kind", ECHOES)
def test_server_gives_back_what_it_gets(loop, kind):
    async def use(where):
        message = MESSAGES.get(kind, LINE)
        for _ in range(2):
            await exchange(*await asyncio.open_connection("127.0.0.1", where["port"]), message)

    serve(loop, use, kind)


@pytest.mark.parametrize("kind", ECHOES)
def test_server_whose_client_resets_the_connection_says_nothing_and_serves_on(loop, kind):
    async def use(where):
        message = MESSAGES.get(kind, LINE)
        reader, writer = await asyncio.open_connection("127.0.0.1", where["port"])
        writer.write(message)
        await reader.readexactly(1)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        await exchange(*await asyncio.open_connection("127.0.0.1", where["port"]), message)

    serve(loop, use, kind)


@pytest.mark.parametrize("kind", ["protocol", "streams"])
def test_server_of_a_unix_socket_gives_back_what_it_gets(loop, tmp_path, kind):
    async def use(where):
        await exchange(*await asyncio.open_unix_connection(where["unix"]), LINE)

    serve(loop, use, kind, unix=str(tmp_path / "socket"))
    (tmp_path / "socket").unlink(missing_ok=True)


@pytest.mark.parametrize("kind", ["protocol", "streams"])
def test_server_with_tls_gives_back_what_it_gets(loop, kind):
    pytest.importorskip("trustme", reason="trustme, which makes certificates, is missing")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    async def use(where):
        address = "127.0.0.1", where["port"]
        await exchange(*await asyncio.open_connection(*address, ssl=context), LINE)

    serve(loop, use, kind, tls=True)


def test_server_of_datagrams_sends_each_back(loop):
    async def use(where):
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", where["port"]))
            for size in (1, 512):
                await loop.sock_sendall(sock, bytes(size))
                assert await loop.sock_recv(sock, 1000) == bytes(size)

    serve(loop, use, "datagrams")


def test_server_of_http_answers_each_request_in_order_and_ends_what_is_none(loop):
    async def use(where):
        reader, writer = await asyncio.open_connection("127.0.0.1", where["port"])
        for part in (REQUEST[:10], REQUEST[10:] + REQUEST, REQUEST[:-2], REQUEST[-2:]):
            writer.write(part)
            await asyncio.sleep(0)
        expected = servers.HTTP_RESPONSE * 3
        assert await reader.readexactly(len(expected)) == expected
        writer.write(b"POST" + REQUEST[3:])
        with pytest.raises(ConnectionResetError):
            while await reader.read(100):
                pass
            # An end without a reset is one, too.
            raise ConnectionResetError
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    serve(loop, use, "http")


def test_server_of_files_sends_the_one_that_is_asked_for_and_closes(loop, tmp_path):
    content = os.urandom(100_000)
    (tmp_path / "file").write_bytes(content)

    async def use(where):
        reader, writer = await asyncio.open_connection("127.0.0.1", where["port"])
        writer.write(b"file %s\n" % str(tmp_path / "file").encode())
        assert await reader.read() == content
        writer.close()
        await writer.wait_closed()

    serve(loop, use, "file")


def test_relay_stops_either_side_when_the_other_takes_nothing(loop):
    """And loses nothing by that."""
    size = 16 << 20

    async def use(where):
        reader, writer = await asyncio.open_connection("127.0.0.1", where["port"], limit=1 << 16)
        writer.write(bytes(size))
        got = 0
        while got < size:
            got += len(await reader.read(1 << 20))
        await exchange(reader, writer, LINE)

    serve(loop, use, "relay")


@pytest.mark.parametrize("kind", ["uvicorn", "aiohttp"])
def test_framework_as_a_server_answers_with_its_body_and_counts(kind):
    for name in ("uvicorn", "httptools") if kind == "uvicorn" else ("aiohttp",):
        pytest.importorskip(name)
    with measure.Server("selector", measure.Row(kind, kind, mode="http")) as server:
        assert server.address["driver"] == "selector"
        with socket.create_connection(("127.0.0.1", server.address["port"])) as client:
            client.sendall(REQUEST)
            with client.makefile("rb") as answer:
                head, _, body = answer.read().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert body == frameworks.BODY
        assert server.statistics()["transports"]["connections_in"] == 1


def test_server_that_cannot_be_says_why_in_a_line(loop, monkeypatch, capsys):
    async def start(*arguments):
        frameworks.find("no_such_framework")

    monkeypatch.setattr(servers, "start", start)
    loop.run_until_complete(servers.serve("uvicorn", None, False))
    assert "no_such_framework" in json.loads(capsys.readouterr().out)["error"]


def test_server_of_a_loop_that_there_is_not_is_an_error_of_its_row():
    with pytest.raises(measure.MeasureError, match="^no loop is called 'no_such_loop'; known: "):
        measure.Server("no_such_loop", rows.ROWS["echo_1k"]).__enter__()


def test_framework_that_is_not_there_is_named():
    with pytest.raises(frameworks.Missing, match="no_such_framework.*pip install the project"):
        frameworks.find("no_such_framework")


def test_statistics_are_whatever_a_loop_counts(loop, loop_kind):
    found = servers.statistics(loop)
    assert bool(found) == (loop_kind != "asyncio")

    class Slotted:
        __slots__ = ("turns",)

    class Other:
        statistics = Slotted()

    Other.statistics.turns = 3
    assert servers.statistics(Other()) == {"turns": 3}


def test_every_row_under_load_has_a_server_of_its_kind():
    assert {row.kind for row in rows.ROWS.values()} <= set(servers.KINDS)
    assert rows.IDLE.kind in servers.KINDS
