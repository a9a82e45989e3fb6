"""What statistics() tells, for Prometheus and OpenTelemetry, where their packages are installed.

    import prometheus_client, uring_loop.metrics
    prometheus_client.REGISTRY.register(uring_loop.metrics.PrometheusCollector())

    uring_loop.metrics.observe(opentelemetry.metrics.get_meter("my service"))

Names are after OpenTelemetry's conventions for the event loop of Node.js
(`nodejs.eventloop.delay.*`, `.utilization`, `.time`), as there are none for Python's, with
`asyncio` in the place of `nodejs`; `delay.min` is left out, which would be 0:

    asyncio.eventloop.delay.{mean,stddev,p50,p90,p99,max}  s  since the last look
    asyncio.eventloop.utilization                          1  since the last look
    asyncio.eventloop.time {asyncio.eventloop.state=active|idle}  s  a sum
    asyncio.eventloop.turn.{mean,stddev,p50,p90,p99,max}   s  since the last look
    asyncio.eventloop.turns                                   a sum

and, which Node.js does not have: uring_loop.operations {opcode}, .system_calls,
.operations_in_flight, .transports, .connections {direction}, .io {direction}, .pauses
{direction}, .executor.queued, .executor.threads. Each has the attributes
asyncio.eventloop.driver and, where a process has several loops, asyncio.eventloop.number.

Loops are those of this process that run when somebody looks, in whatever thread.
Since the last look means of the same collector or meter, so that each sees its own interval.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from dataclasses import dataclass

from ._internal import statistics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from ._internal.loop import EventLoop

__all__ = ["METRICS", "Metric", "PrometheusCollector", "observe"]

_NS = 1e-9
_SHOWN = ("mean", "stddev", "p50", "p90", "p99", "max")


@dataclass(frozen=True)
class Metric:
    """One metric, whoever exports it.

    kind: "gauge" or "counter".
    read: (what there is since the beginning, what since the last look) -> the values with
        their labels.
    """

    name: str
    unit: str
    kind: str
    description: str
    read: Callable[[dict[str, Any], dict[str, Any]], Iterable[tuple[dict[str, str], float]]]


def _since_last(part: str, name: str) -> Callable[[Any, Any], Any]:
    return lambda total, since: [({}, since["time"][part][f"{name}_ns"] * _NS)]


def _directions(incoming: str, outgoing: str) -> Callable[[Any, Any], Any]:
    return lambda total, since: [
        ({"direction": "in"}, total["transports"][incoming]),
        ({"direction": "out"}, total["transports"][outgoing]),
    ]


def _metrics() -> Iterator[Metric]:
    for name in _SHOWN:
        yield Metric(
            f"asyncio.eventloop.delay.{name}",
            "s",
            "gauge",
            f"How long waits what gets ready at any moment, until the loop looks: {name}",
            _since_last("delay", name),
        )
    for name in _SHOWN:
        yield Metric(
            f"asyncio.eventloop.turn.{name}",
            "s",
            "gauge",
            f"The time of the loop's turns: {name}",
            _since_last("turns", name),
        )
    yield Metric(
        "asyncio.eventloop.utilization",
        "1",
        "gauge",
        "The share of the time in which the loop did not sleep",
        lambda total, since: [({}, since["time"]["utilization"])],
    )
    yield Metric(
        "asyncio.eventloop.time",
        "s",
        "counter",
        "The time that the loop was active or idle",
        lambda total, since: [
            ({"asyncio.eventloop.state": "active"}, total["time"]["busy_ns"] * _NS),
            ({"asyncio.eventloop.state": "idle"}, total["time"]["idle_ns"] * _NS),
        ],
    )
    yield Metric(
        "asyncio.eventloop.turns",
        "{turn}",
        "counter",
        "The turns of the loop",
        lambda total, since: [({}, total["turns"])],
    )
    yield Metric(
        "uring_loop.system_calls",
        "{call}",
        "counter",
        "The system calls of the turns",
        lambda total, since: [({}, total["enters"])],
    )
    yield Metric(
        "uring_loop.operations",
        "{operation}",
        "counter",
        "Operations for the kernel, by opcode",
        lambda total, since: [
            ({"opcode": opcode}, count) for opcode, count in total["submissions"].items()
        ],
    )
    yield Metric(
        "uring_loop.operations_in_flight",
        "{operation}",
        "gauge",
        "Operations that have not ended",
        lambda total, since: [({}, total["in_flight"])],
    )
    yield Metric(
        "uring_loop.transports",
        "{transport}",
        "gauge",
        "Open transports",
        lambda total, since: [({}, total["transports"]["transports"])],
    )
    yield Metric(
        "uring_loop.connections",
        "{connection}",
        "counter",
        "Connections accepted (in) and made (out)",
        _directions("connections_in", "connections_out"),
    )
    yield Metric(
        "uring_loop.io",
        "By",
        "counter",
        "Bytes that transports received and sent",
        _directions("bytes_in", "bytes_out"),
    )
    yield Metric(
        "uring_loop.pauses",
        "{pause}",
        "counter",
        "Pauses of reading (in), and of protocols that write (out)",
        _directions("reading_pauses", "writing_pauses"),
    )
    yield Metric(
        "uring_loop.executor.queued",
        "{call}",
        "gauge",
        "Calls that wait for a thread of the default executor",
        lambda total, since: [({}, total["executor"]["queued"])],
    )
    yield Metric(
        "uring_loop.executor.threads",
        "{thread}",
        "gauge",
        "Threads of the default executor",
        lambda total, since: [({}, total["executor"]["threads"])],
    )


METRICS = tuple(_metrics())

_numbers = itertools.count()
_numbered: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def number_of(loop: EventLoop) -> int:
    """A small number for a loop, its own as long as it lives."""
    with _lock:
        if loop not in _numbered:
            _numbered[loop] = next(_numbers)
        return _numbered[loop]


def running_loops() -> list[EventLoop]:
    """The loops of ours that run now; none where nothing is compiled."""
    try:
        from . import _core
    except ImportError:
        return []
    return _core.running_loops()


class _Looks:
    """Answers of statistics(), each with what has changed since this object's last one."""

    def __init__(self) -> None:
        self._last: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def look(self) -> list[tuple[dict[str, str], dict[str, Any], dict[str, Any]]]:
        """(labels, total, since the last look) of each loop that runs."""
        found = []
        with self._lock:
            for loop in running_loops():
                total = loop.statistics()
                # Closed meanwhile.
                if not total:
                    continue
                since = statistics.difference(total, self._last.get(loop, {}))
                self._last[loop] = total
                labels = {
                    "asyncio.eventloop.driver": loop.driver,
                    "asyncio.eventloop.number": str(number_of(loop)),
                }
                found.append((labels, total, since))
        return found


class PrometheusCollector:
    """A collector for prometheus_client's registry: register() it.

    Names and labels have underscores for dots, counters end with `_total`, and seconds and
    bytes are in the name, as Prometheus has it: asyncio_eventloop_delay_p99_seconds.

    ImportError without prometheus_client.
    """

    def __init__(self) -> None:
        from prometheus_client import core

        self._core = core
        self._looks = _Looks()

    def describe(self) -> list[Any]:
        """No metric: a registry that asks for names shall not take that for a look."""
        return []

    def collect(self) -> Iterator[Any]:
        """The metrics of each loop that runs."""
        looks = self._looks.look()
        for metric in METRICS:
            name = metric.name.replace(".", "_")
            unit = {"s": "seconds", "By": "bytes"}.get(metric.unit, "")
            counter = metric.kind == "counter"
            make = (
                self._core.CounterMetricFamily if counter else self._core.GaugeMetricFamily
            )
            family = make(name, metric.description, unit=unit)
            for labels, total, since in looks:
                for more, value in metric.read(total, since):
                    all_labels = {
                        key.replace(".", "_"): text for key, text in {**labels, **more}.items()
                    }
                    full = family.name + ("_total" if counter else "")
                    family.add_sample(full, all_labels, value)
            yield family


def observe(meter: Any) -> list[Any]:
    """Make observable instruments of an OpenTelemetry meter; gives them.

    meter: what opentelemetry.metrics.get_meter() gives.

    ImportError without opentelemetry's API.
    """
    from opentelemetry.metrics import Observation

    looks = _Looks()
    instruments = []
    # One look for all instruments of a collection: the first asks, the others are told the same.
    state = _Round(looks)
    for metric in METRICS:

        def read(options: Any, metric: Metric = metric) -> list[Any]:
            return [
                Observation(value, {**labels, **more})
                for labels, total, since in state.look(metric)
                for more, value in metric.read(total, since)
            ]

        counter = metric.kind == "counter"
        make = meter.create_observable_counter if counter else meter.create_observable_gauge
        instruments.append(
            make(
                metric.name, callbacks=[read], unit=metric.unit, description=metric.description
            )
        )
    return instruments


class _Round:
    """One look for each round in which every metric asks once."""

    def __init__(self, looks: _Looks) -> None:
        self._looks = looks
        self._asked: set[str] = set()
        self._found: list[tuple[dict[str, str], dict[str, Any], dict[str, Any]]] = []
        self._lock = threading.Lock()

    def look(self, metric: Metric) -> list[tuple[dict[str, str], dict[str, Any], dict[str, Any]]]:
        """What was found in this round; a metric that asks again begins the next."""
        with self._lock:
            if not self._asked or metric.name in self._asked:
                self._asked.clear()
                self._found = self._looks.look()
            self._asked.add(metric.name)
            return self._found


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
