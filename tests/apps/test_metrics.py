"""uring_loop.metrics with the packages that it is for: scraped, and collected by a reader."""

import asyncio
import threading
import time
import urllib.request

import pytest

from uring_loop import metrics

BLOCK_SECONDS = 0.03


@pytest.fixture
def ours(loop, loop_kind):
    if loop_kind == "asyncio":
        pytest.skip("asyncio counts nothing")
    return loop


async def echo_once():
    async def serve(reader, writer):
        writer.write(await reader.readexactly(1000))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(bytes(1000))
        await reader.readexactly(1000)
        writer.close()
        await writer.wait_closed()


class TestPrometheus:
    @pytest.fixture
    def registry(self):
        prometheus = pytest.importorskip(
            "prometheus_client", reason="prometheus_client is not installed"
        )
        registry = prometheus.CollectorRegistry()
        registry.register(metrics.PrometheusCollector())
        return registry

    def value(self, registry, name, **labels):
        """Of the one sample with these labels, whatever others it has."""
        found = [
            sample.value
            for family in registry.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        assert len(found) == 1
        return found[0]

    def test_server_of_metrics_is_scraped_while_the_loop_runs(self, ours, run, registry):
        prometheus = pytest.importorskip("prometheus_client")
        server, thread = prometheus.start_http_server(0, "127.0.0.1", registry)
        url = f"http://127.0.0.1:{server.server_port}/metrics"

        def scrape():
            with urllib.request.urlopen(url) as answer:
                return answer.read().decode()

        async def main():
            await echo_once()
            time.sleep(BLOCK_SECONDS)
            await asyncio.sleep(0)
            return await asyncio.to_thread(scrape)

        try:
            text = run(main())
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
        lines = dict(
            line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")
        )
        by_name = {name.partition("{")[0]: float(value) for name, value in lines.items()}
        assert by_name["asyncio_eventloop_delay_max_seconds"] >= BLOCK_SECONDS
        assert by_name["asyncio_eventloop_turns_total"] > 0
        assert 0 < by_name["asyncio_eventloop_utilization"] <= 1
        received = next(
            value
            for name, value in lines.items()
            if name.startswith("uring_loop_io_bytes_total") and 'direction="in"' in name
        )
        assert float(received) == 2000
        assert f'asyncio_eventloop_driver="{ours.driver}"' in text
        assert "# TYPE asyncio_eventloop_time_seconds_total counter" in text
        assert "# TYPE asyncio_eventloop_delay_p99_seconds gauge" in text

    def test_delay_is_since_the_last_scrape(self, ours, run, registry):
        async def main():
            time.sleep(BLOCK_SECONDS)
            await asyncio.sleep(0.001)
            first = self.value(registry, "asyncio_eventloop_delay_max_seconds")
            for _ in range(1000):
                await asyncio.sleep(0)
            return first, self.value(registry, "asyncio_eventloop_turns_total")

        first, turns = run(main())
        assert first >= BLOCK_SECONDS
        assert turns >= 1000

    def test_loop_that_does_not_run_is_not_told(self, ours, registry):
        assert [s for family in registry.collect() for s in family.samples] == []

    def test_loops_of_two_threads_are_told_apart_by_their_number(
        self, ours, run, make_loop, registry
    ):
        other = make_loop()
        ready, done = threading.Event(), asyncio.Event()

        async def wait():
            ready.set()
            await done.wait()

        thread = threading.Thread(target=lambda: other.run_until_complete(wait()))

        async def main():
            thread.start()
            await asyncio.to_thread(ready.wait)
            return [
                sample.labels["asyncio_eventloop_number"]
                for family in registry.collect()
                for sample in family.samples
                if sample.name == "asyncio_eventloop_utilization"
            ]

        numbers = run(main())
        other.call_soon_threadsafe(done.set)
        thread.join()
        other.close()
        assert len(set(numbers)) == len(numbers) == 2


class TestOpenTelemetry:
    @pytest.fixture
    def reader(self):
        pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader

        reader = InMemoryMetricReader()
        provider = MeterProvider(metric_readers=[reader])
        metrics.observe(provider.get_meter("test"))
        yield reader
        provider.shutdown()

    def collected(self, reader):
        """name -> its points."""
        data = reader.get_metrics_data()
        return {
            metric.name: (metric.unit, list(metric.data.data_points))
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def test_instruments_are_collected_with_units_and_attributes(self, ours, run, reader):
        async def main():
            await echo_once()
            time.sleep(BLOCK_SECONDS)
            await asyncio.sleep(0)
            return self.collected(reader)

        found = run(main())
        unit, points = found["asyncio.eventloop.delay.max"]
        assert unit == "s"
        assert points[0].value >= BLOCK_SECONDS
        assert points[0].attributes["asyncio.eventloop.driver"] == ours.driver
        unit, points = found["asyncio.eventloop.time"]
        states = {point.attributes["asyncio.eventloop.state"] for point in points}
        assert states == {"active", "idle"}
        unit, points = found["uring_loop.io"]
        assert unit == "By"
        assert {point.attributes["direction"]: point.value for point in points} == {
            "in": 2000,
            "out": 2000,
        }
        assert set(found) == {metric.name for metric in metrics.METRICS}

    def test_all_instruments_of_a_collection_have_the_same_interval(self, ours, run, reader):
        async def main():
            time.sleep(BLOCK_SECONDS)
            await asyncio.sleep(0.001)
            return self.collected(reader), self.collected(reader)

        first, second = run(main())
        # A look for each instrument would leave the later ones an interval of nothing.
        assert first["asyncio.eventloop.turn.max"][1][0].value >= BLOCK_SECONDS
        assert (
            first["asyncio.eventloop.turn.max"][1][0].value
            == first["asyncio.eventloop.delay.max"][1][0].value
        )
        assert second["asyncio.eventloop.turns"][1][0].value >= (
            first["asyncio.eventloop.turns"][1][0].value
        )
