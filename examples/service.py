"""An ASGI application with a health check and metrics for Prometheus, served by uvicorn.

    python examples/service.py [PORT]
    uvicorn --app-dir examples service:app --loop uring_loop:new_event_loop

    GET /          which driver serves
    GET /health    200 while the loop answers within a second's delay at p99, else 503
    GET /metrics   for Prometheus: the loop's utilization, delay, operations, connections

It needs uvicorn and prometheus_client. A callback that blocks the loop is in the log.
"""

import asyncio
import json
import sys

import prometheus_client
import uvicorn

import uring_loop
import uring_loop.metrics

DELAY_MAX_NS = 1_000_000_000

registry = prometheus_client.CollectorRegistry()
registry.register(uring_loop.metrics.PrometheusCollector())
requests = prometheus_client.Counter("requests", "Requests by path", ["path"], registry=registry)


class Health:
    """What has happened since the last question says how the loop is now."""

    def __init__(self) -> None:
        self._before = None

    def look(self) -> tuple[int, dict]:
        loop = asyncio.get_running_loop()
        found = loop.statistics(since=self._before)
        self._before = loop.statistics()
        time = found["time"]
        status = 200 if time["delay"]["p99_ns"] < DELAY_MAX_NS else 503
        return status, {
            "driver": loop.driver,
            "utilization": round(time["utilization"], 3),
            "delay_p99_ms": round(time["delay"]["p99_ns"] / 1e6, 3),
            "connections": found["transports"]["transports"],
        }


health = Health()


async def app(scope, receive, send):
    """The application."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    path = scope["path"]
    kind, status = b"application/json", 200
    if path == "/":
        body = json.dumps({"driver": asyncio.get_running_loop().driver}).encode()
    elif path == "/health":
        status, facts = health.look()
        body = json.dumps(facts).encode()
    elif path == "/metrics":
        kind = prometheus_client.CONTENT_TYPE_LATEST.encode()
        body = prometheus_client.generate_latest(registry)
    else:
        status, body, path = 404, b"{}", "other"
    requests.labels(path).inc()
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def lifespan(receive, send):
    await receive()
    with uring_loop.watch_blocking(threshold=0.2):
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    uvicorn.run(app, host="127.0.0.1", port=port, loop="uring_loop:new_event_loop")
