"""The aiohttp application that gunicorn's worker of aiohttp serves."""

import asyncio

from aiohttp import web


async def loop(request):
    kind = getattr(asyncio.get_running_loop(), "driver", "asyncio")
    return web.json_response({"kind": kind})


async def make():
    """What gunicorn is given: awaited in each worker."""
    application = web.Application()
    application.router.add_get("/loop", loop)
    return application
