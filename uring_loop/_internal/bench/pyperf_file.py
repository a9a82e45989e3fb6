"""Results in pyperf's file format, which takes no pyperf to write.

    python -m pyperf compare_to asyncio.json uring.json

Source: pyperf's documentation, "pyperf JSON format", version 1.0. A value is of one
operation, in seconds or bytes; each is a run of its own, as each was measured in its round.
"""

from collections.abc import Iterable

from . import report as _report

# To the units that pyperf knows.
_SCALES = {
    "ns": (1e-9, "second"),
    "us": (1e-6, "second"),
    "ms": (1e-3, "second"),
    "B": (1.0, "byte"),
    "MiB": (float(1 << 20), "byte"),
}


def of(results: Iterable[_report.Result], loop: str) -> dict[str, object]:
    """The rows of one loop, for a file of its own: the names match the other loops'."""
    benchmarks = []
    for result in results:
        cell = result.cells.get(loop)
        if cell is None or not cell.good:
            continue
        scale, unit = _SCALES[result.unit]
        runs = [
            {"values": [round(value) if unit == "byte" else value]}
            for value in (seen * scale for seen in cell.values)
        ]
        metadata = {"name": result.name, "unit": unit, "description": result.note}
        benchmarks.append({"metadata": metadata, "runs": runs})
    facts = _report.machine()
    metadata = {
        "event_loop": loop,
        "platform": f"Linux {facts['kernel']}",
        "python_version": str(facts["python"]),
    }
    return {"version": "1.0", "metadata": metadata, "benchmarks": benchmarks}
