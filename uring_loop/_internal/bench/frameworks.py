"""Web frameworks as servers under load. Owns what is particular to each of them."""

import asyncio
import importlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

BODY = b"Hello, World!\n"
LARGE_BODY = b"x" * (10 << 10)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Missing(RuntimeError):
    """The framework is not installed."""


def find(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Missing(f"{error}: pip install the project's extra `bench`") from error


def application(body: bytes) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """An ASGI application that answers everything with `body`."""
    start = {
        "type": "http.response.start",
        "status": 200,
        "headers": [
            (b"content-type", b"text/plain"),
            (b"content-length", str(len(body)).encode()),
        ],
    }
    content = {"type": "http.response.body", "body": body}

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start)
        await send(content)

    return answer


async def start_uvicorn(body: bytes, backlog: int) -> tuple[int, object]:
    """uvicorn on httptools, in this loop. Returns the port, and what has to be kept alive."""
    uvicorn = find("uvicorn")
    find("httptools")
    server = uvicorn.Server(
        uvicorn.Config(
            application(body),
            host="127.0.0.1",
            port=0,
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="error",
            backlog=backlog,
        )
    )
    task = asyncio.get_running_loop().create_task(server.serve())
    while not server.started:
        if task.done():
            await task
        await asyncio.sleep(0.01)
    return server.servers[0].sockets[0].getsockname()[1], task


async def start_aiohttp(body: bytes, backlog: int) -> tuple[int, object]:
    """aiohttp's server, in this loop. Returns the port, and what has to be kept alive."""
    web = find("aiohttp.web")

    async def answer(request: object) -> object:
        return web.Response(body=body, content_type="text/plain")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=backlog).start()
    return runner.addresses[0][1], runner


Starter = Callable[[int], Awaitable[tuple[int, object]]]
STARTERS: dict[str, Starter] = {
    "uvicorn": lambda backlog: start_uvicorn(BODY, backlog),
    "uvicorn_10k": lambda backlog: start_uvicorn(LARGE_BODY, backlog),
    "aiohttp": lambda backlog: start_aiohttp(BODY, backlog),
}
