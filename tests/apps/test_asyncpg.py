"""asyncpg against a real PostgreSQL, started here on the loopback and a UNIX socket."""

import asyncio
import glob
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile

import pytest
from ports import free_port

asyncpg = pytest.importorskip("asyncpg", reason="asyncpg is not installed")


def find_programs():
    """The directory of initdb and postgres; None where there is none."""
    # Debian keeps the server's programs off the path.
    places = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    found = shutil.which("initdb", path=os.pathsep.join([os.environ.get("PATH", ""), *places]))
    return None if found is None else pathlib.Path(found).parent


PROGRAMS = find_programs()


@pytest.fixture(scope="module")
def identity():
    """Whose process the server is: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("we are root, and there is no user postgres whose the server could be")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@pytest.fixture(scope="module")
def cluster(identity):
    """(directory, port) of a running server."""
    if PROGRAMS is None:
        pytest.skip("PostgreSQL's server is not installed")
    # Not in tmp_path, which is closed to other users.
    directory = pathlib.Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    try:
        if identity:
            os.chown(directory, identity["user"], identity["group"])
        subprocess.run(
            [PROGRAMS / "initdb", "-D", directory / "data", "-U", "postgres", "-A", "trust"]
            + ["-E", "UTF8", "--locale=C", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=directory,
            **identity,
        )
        port = free_port()
        with open(directory / "log", "wb") as log:
            server = subprocess.Popen(
                [PROGRAMS / "postgres", "-D", directory / "data", "-k", directory]
                + ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-F"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=directory,
                start_new_session=True,
                **identity,
            )
        try:
            asyncio.run(until_it_answers(server, directory, port))
            yield directory, port
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)
    finally:
        shutil.rmtree(directory)


async def until_it_answers(server, directory, port):
    while True:
        try:
            connection = await asyncpg.connect(host="127.0.0.1", port=port, user="postgres")
        except (OSError, asyncpg.CannotConnectNowError):
            assert server.poll() is None, (directory / "log").read_text()
            await asyncio.sleep(0.02)
        else:
            await connection.close()
            return


@pytest.fixture(params=["tcp", "unix"])
def address(request, cluster):
    directory, port = cluster
    host = "127.0.0.1" if request.param == "tcp" else str(directory)
    return {"host": host, "port": port, "user": "postgres"}


@pytest.fixture
def with_connection(run, address):
    """Runs a coroutine function with an open connection."""

    def with_connection(function):
        async def main():
            connection = await asyncpg.connect(**address)
            try:
                await function(connection)
            finally:
                await connection.close()

        run(main())

    return with_connection


def test_values_of_every_kind_come_back(with_connection):
    async def main(connection):
        large = os.urandom(8 << 20)
        row = await connection.fetchrow(
            "select $1::bytea as bytes, $2::text as text, $3::int[] as numbers",
            *(large, "ä" * 100_000, list(range(10_000))),
        )
        assert row["bytes"] == large
        assert row["text"] == "ä" * 100_000
        assert row["numbers"] == list(range(10_000))
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.fetch("select 1 / 0")
        assert await connection.fetchval("select 1") == 1

    with_connection(main)


def test_cursor_reads_many_rows_in_portions(with_connection):
    async def main(connection):
        total = 0
        async with connection.transaction():
            rows = connection.cursor("select generate_series(1, 20000) as n", prefetch=500)
            async for row in rows:
                total += row["n"]
        assert total == 20000 * 20001 // 2

    with_connection(main)


def test_copy_goes_in_and_out(with_connection, tmp_path):
    async def main(connection):
        await connection.execute("create temp table things (number int, text text)")
        records = [(number, f"text {number}" * 10) for number in range(50_000)]
        await connection.copy_records_to_table("things", records=records)
        path = tmp_path / "things.csv"
        await connection.copy_from_table("things", output=path, format="csv")
        assert path.read_bytes().count(b"\n") == 50_000
        await connection.execute("truncate things")
        with path.open("rb") as source:
            await connection.copy_to_table("things", source=source, format="csv")
        rows = await connection.fetch("select number, text from things order by number")
        assert [tuple(row) for row in rows] == records

    with_connection(main)


def test_notifications_reach_every_listener(run, address):
    async def main():
        speaker = await asyncpg.connect(**address)
        listeners = [await asyncpg.connect(**address) for _ in range(5)]
        heard = asyncio.Queue()
        for listener in listeners:
            await listener.add_listener("news", lambda *message: heard.put_nowait(message[-1]))
        for number in range(20):
            await speaker.execute(f"notify news, '{number}'")
        got = [await heard.get() for _ in range(100)]
        assert sorted(got) == sorted(str(number) for number in range(20) for _ in listeners)
        for connection in (speaker, *listeners):
            await connection.close()

    run(main())


def test_cancelled_query_stops_in_the_server(run, address):
    """asyncpg sends the cancel by a connection of its own."""

    async def main():
        connection = await asyncpg.connect(**address)
        other = await asyncpg.connect(**address)

        async def sleeping():
            return await other.fetchval(
                "select count(*) from pg_stat_activity"
                " where pid = $1 and state = 'active' and query like '%pg_sleep%'",
                connection.get_server_pid(),
            )

        waiting = asyncio.create_task(connection.fetch("select pg_sleep(1000)"))
        while not await sleeping():
            pass
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await connection.fetchval("select 1") == 1
        assert not await sleeping()
        with pytest.raises(asyncio.TimeoutError):
            await connection.fetch("select pg_sleep(1000)", timeout=0.1)
        assert await connection.fetchval("select 2") == 2
        await connection.close()
        await other.close()

    run(main())


def test_pool_serves_more_tasks_than_it_has_connections(run, address):
    async def one(pool, number):
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("update counter set n = n + 1")
            return await connection.fetchval("select $1::int", number)

    async def main():
        async with asyncpg.create_pool(min_size=2, max_size=8, **address) as pool:
            await pool.execute("create unlogged table counter as select 0 as n")
            answers = await asyncio.gather(*[one(pool, number) for number in range(200)])
            assert answers == list(range(200))
            assert await pool.fetchval("select n from counter") == 200
            await pool.execute("drop table counter")

    run(main())


def test_connection_that_the_server_ends_is_an_error(run, address):
    async def main():
        connection = await asyncpg.connect(**address)
        other = await asyncpg.connect(**address)
        waiting = asyncio.create_task(connection.fetch("select pg_sleep(1000)"))
        pid = connection.get_server_pid()
        # Ended between its two messages, asyncpg takes the next for a misuse of its own.
        asked = "select wait_event from pg_stat_activity where pid = $1"
        while await other.fetchval(asked, pid) != "PgSleep":
            pass
        assert await other.fetchval("select pg_terminate_backend($1)", pid)
        with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError)):
            await waiting
        await connection.close()
        await other.close()

    run(main())
