"""The application that the files in this folder serve: it says what drives its loop.

    GET /         the driver
    GET /health   200 while the loop turns; for load balancers and orchestrators
"""

import asyncio
import json


async def app(scope, receive, send):
    """An ASGI application."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    loop = asyncio.get_running_loop()
    body = {"driver": getattr(loop, "driver", "asyncio")}
    if scope["path"] == "/health":
        body["turns"] = getattr(loop, "statistics", dict)().get("turns", 0)
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


async def lifespan(receive, send):
    """Start and stop with the server; connections to databases would be made here."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
