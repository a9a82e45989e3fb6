"""The ASGI application that the tests of servers run, in this process and in others.

    GET  /loop     which loop serves: its kind, and the worker's process id
    GET  /bytes/N  N bytes, in chunks of 64 KiB, without a Content-Length
    POST /digest   the size and SHA-256 of the body
    POST /echo     the body, as it comes
    ws   /ws       echo; "close" closes with code 4000
"""

import asyncio
import hashlib
import json
import os

CHUNK = bytes(range(256)) * 256


def content(size):
    """What /bytes/N sends."""
    return (CHUNK * (size // len(CHUNK) + 1))[:size]


def loop_kind():
    """The kind of the running loop: "asyncio", or the driver of ours."""
    return getattr(asyncio.get_running_loop(), "driver", "asyncio")


async def start(send, length=None, status=200):
    headers = [] if length is None else [(b"content-length", b"%d" % length)]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def answer(send, body, status=200):
    await start(send, len(body), status)
    await send({"type": "http.response.body", "body": body})


async def body_parts(receive):
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client is gone")
        if message["body"]:
            yield message["body"]
        if not message.get("more_body"):
            return


async def http(scope, receive, send):
    path = scope["path"]
    if path == "/loop":
        await answer(send, json.dumps({"kind": loop_kind(), "pid": os.getpid()}).encode())
    elif path.startswith("/bytes/"):
        rest = int(path.removeprefix("/bytes/"))
        await start(send)
        while rest > 0:
            part = CHUNK[:rest]
            rest -= len(part)
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    elif path == "/digest":
        digest, size = hashlib.sha256(), 0
        async for part in body_parts(receive):
            digest.update(part)
            size += len(part)
        await answer(send, json.dumps({"size": size, "digest": digest.hexdigest()}).encode())
    elif path == "/echo":
        await start(send)
        async for part in body_parts(receive):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    else:
        await answer(send, b"no such page", 404)


async def websocket(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            print("websocket: disconnected", message["code"], flush=True)
            return
        if message.get("text") == "close":
            await send({"type": "websocket.close", "code": 4000})
        elif message.get("text") is not None:
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


def tell(line):
    """In one write: print() makes several, and workers share the pipe."""
    os.write(1, f"{line}\n".encode())


async def lifespan(receive, send):
    await receive()
    tell(f"lifespan: started on {loop_kind()}")
    await send({"type": "lifespan.startup.complete"})
    await receive()
    tell("lifespan: ended")
    await send({"type": "lifespan.shutdown.complete"})


async def app(scope, receive, send):
    if scope["type"] == "http":
        await http(scope, receive, send)
    elif scope["type"] == "websocket":
        await websocket(receive, send)
    else:
        await lifespan(receive, send)
