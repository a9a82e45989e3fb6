"""One server on one core, the load on the other, and what the server spent.

Owns processes, pinning and the arithmetic. Knows no row by name and prints
nothing. CPU time is the server process's own clock, read by the load generator
at both ends of its window: all threads, kernel and user, in nanoseconds.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from . import build as _build

SERVERS = f"{__package__}.servers"
# What stands in a loop's place for floor.c, the least that an echo server can be.
FLOOR = "floor"
FLOOR_BUFFER_SIZES = (4 << 10, 32 << 10, 256 << 10)
START_SECONDS = 20.0
STOP_SECONDS = 10.0
# How often a server that accepted is looked at, every 0.2 s, until it is idle.
SETTLE_LOOKS = 100


class MeasureError(RuntimeError):
    """A server did not start or a load did not end well; the message says how."""


@dataclass(frozen=True)
class Row:
    """One kind of work."""

    name: str
    kind: str  # of server, see _servers.KINDS
    mode: str = "echo"  # of load, see load.c
    size: int = 1024
    connections: int = 100
    in_flight: int = 1
    idle: int = 0
    unix: bool = False
    udp: bool = False
    tls: bool = False
    resume: bool = False  # of TLS: each connection with the session of the one before
    shape: str = ""  # of messages: lines, frames, bulks
    note: str = ""


@dataclass(frozen=True)
class Sample:
    """What one run of one row on one loop showed."""

    messages: int
    seconds: float
    cpu_us: float  # the server's CPU time per message
    p50_us: float
    p99_us: float
    load_share: float  # of its core; near 1.0 the load is what limits
    calls: float | None = None  # system calls of the server per message
    calls_how: str = ""

    @property
    def per_second(self) -> float:
        return self.messages / self.seconds


def cores() -> tuple[int | None, int | None]:
    """A core for the server and one for the load; None, None when there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        return None, None
    # The last ones: the first core tends to take the machine's interrupts.
    return allowed[-1], allowed[-2]


@contextlib.contextmanager
def looking_at(process: int) -> Iterator[None]:
    """A process that has gone is an error like any other of a row."""
    try:
        yield
    except OSError as error:
        raise MeasureError(f"the server {process} has gone: {error}") from error


def cpu_seconds(process: int) -> float:
    """The CPU time of another process. Source: clock_getcpuclockid(3), glibc's encoding."""
    with looking_at(process):
        return time.clock_gettime(((~process) << 3) | 2)


def memory_bytes(process: int) -> int:
    """Resident memory that is the process's own. Source: proc_pid_smaps(5)."""
    total = 0
    with looking_at(process):
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    for line in text.splitlines():
        if line.startswith(("Private_Clean:", "Private_Dirty:")):
            total += int(line.split()[1]) * 1024
    return total


def has_floor(row: Row) -> bool:
    """Whether floor.c is the least for this row: it echoes what arrives in one buffer."""
    return row.kind == "protocol" and row.size * row.in_flight <= FLOOR_BUFFER_SIZES[-1]


def server_command(loop: str, row: Row) -> list[str]:
    """The command line of the row's server, but for where it listens and runs."""
    if loop != FLOOR:
        return [sys.executable, "-m", SERVERS, "--loop", loop, "--kind", row.kind]
    size = next(size for size in FLOOR_BUFFER_SIZES if row.size * row.in_flight <= size)
    program = _build.program("floor_tls" if row.tls else FLOOR)
    return [str(program), "--buffer-size", str(size)]


class Server:
    """A server process under one loop, pinned; ends with the with block."""

    def __init__(self, loop: str, row: Row, trace: Path | None = None) -> None:
        self.loop = loop
        self.row = row
        self._trace = trace
        self._directory = tempfile.TemporaryDirectory(prefix="perf-")

    def __enter__(self) -> "Server":
        server_core, self.load_core = cores()
        command = self.command()
        if self.row.unix:
            command += ["--unix", str(Path(self._directory.name) / "socket")]
        if self.row.tls:
            command.append("--tls")
        if server_core is not None:
            command += ["--core", str(server_core)]
        if self._trace is not None:
            command = [str(_build.program("trace_calls")), str(self._trace), *command]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            self.address = self._answer()
        except BaseException:
            self.close()
            raise
        self.pid = int(str(self.address["pid"]))
        return self

    def command(self) -> list[str]:
        """What is started, but for where it listens and runs."""
        return server_command(self.loop, self.row)

    def processes(self) -> list[int]:
        """Whose CPU time is the server's."""
        return [self.pid]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._directory.cleanup()

    def _answer(self) -> dict[str, object]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], START_SECONDS)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            raise MeasureError(f"{self.loop}: the server for {self.row.name} did not start")
        answer: dict[str, object] = json.loads(line)
        if "error" in answer:
            raise MeasureError(str(answer["error"]))
        return answer

    def statistics(self) -> dict[str, float]:
        """The loop's own counters; empty when it keeps none."""
        assert self._process.stdin is not None
        self._process.stdin.write("statistics\n")
        self._process.stdin.flush()
        answer = self._answer()["statistics"]
        assert isinstance(answer, dict)
        return answer

    def memory_bytes(self) -> int:
        return memory_bytes(self.pid)

    def load_command(self, **changes: object) -> list[str]:
        """The load generator's command line for this server's row."""
        row = self.row
        settings: dict[str, object] = {
            "mode": row.mode,
            "connections": row.connections,
            "size": row.size,
            "in-flight": row.in_flight,
            "idle": row.idle,
            **changes,
        }
        command = [str(_build.program("load_tls" if row.tls else "load"))]
        if row.unix:
            command += ["--unix", str(self.address["unix"])]
        else:
            command += ["--udp" if row.udp else "--tcp", str(self.address["port"])]
        for name, value in settings.items():
            command += [f"--{name}", str(value)]
        if row.tls:
            command.append("--tls")
        if row.resume:
            command.append("--resume")
        if row.shape:
            command += ["--shape", row.shape]
        if row.idle:
            command.append("--speak")
        if self.load_core is not None:
            command += ["--core", str(self.load_core)]
        return command

    def load(
        self,
        seconds: float = 1.0,
        warm_up: float = 0.25,
        messages: int = 0,
        count_calls: bool = False,
    ) -> Sample:
        """Drive the server for a while. Raises MeasureError when a byte was wrong."""
        command = self.load_command(seconds=seconds, messages=messages)
        command += ["--warm-up", str(warm_up)]
        for process in self.processes():
            command += ["--server", str(process)]
        if self._trace is not None:
            command += ["--counter", str(self._trace)]
        elif count_calls:
            command.append("--count-calls")
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + warm_up + 90, check=False
        )
        if result.returncode:
            raise MeasureError(f"{self.loop}, {self.row.name}: {complaint(result)}")
        return sample(json.loads(result.stdout))

    @contextlib.contextmanager
    def hold(self, connections: int, speak: bool) -> Iterator[None]:
        """Keep that many silent connections open inside the with block."""
        command = self.load_command(mode="idle", connections=connections, idle=0)
        if speak:
            command.append("--speak")
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin is not None and process.stdout is not None
        with process:
            line = process.stdout.readline()
            ready = json.loads(line) if line else {"ready": 0, "errors": connections}
            if ready["ready"] == connections and not ready["errors"]:
                yield
            process.stdin.close()
            last = process.stdout.readline()
            held = json.loads(last) if last else {"errors": connections}
        if ready["errors"] or held["errors"]:
            reason = held.get("first_error", "the load generator gave up")
            raise MeasureError(
                f"{self.loop}: {held['errors']} of {connections} held connections: {reason}"
            )


def complaint(result: subprocess.CompletedProcess[str]) -> str:
    """Why a load ended badly, in one line."""
    if not result.stdout:
        return result.stderr.strip() or f"the load ended with status {result.returncode}"
    counted = json.loads(result.stdout)
    return f"{counted['errors']} errors, the first: {counted['first_error']}"


def sample(counted: dict[str, float]) -> Sample:
    messages = int(counted["messages"])
    calls = counted.get("server_calls")
    return Sample(
        messages=messages,
        seconds=counted["seconds"],
        cpu_us=counted["server_cpu_seconds"] / messages * 1e6,
        p50_us=counted["p50_us"],
        p99_us=counted["p99_us"],
        load_share=counted["load_cpu_seconds"] / counted["seconds"],
        calls=None if calls is None else calls / messages,
        calls_how=str(counted.get("calls_how", "")),
    )


def measure(loop: str, row: Row, seconds: float, warm_up: float = 0.25) -> Sample:
    """A fresh server, one window. Fresh, so that luck with addresses averages out."""
    with Server(loop, row) as server:
        return server.load(seconds, warm_up)


def hold_cost(loop: str, row: Row, connections: int, speak: bool) -> tuple[float, float]:
    """Open and hold idle connections. Returns bytes and CPU seconds of the server for one."""
    with Server(loop, row) as server:
        # The first connection pays for imports and pools; it is not what is measured.
        with server.hold(1, speak=True):
            pass
        memory = server.memory_bytes()
        cpu = cpu_seconds(server.pid)
        with server.hold(connections, speak):
            # The server may have accepted less than the kernel did: let it finish.
            settled = cpu_seconds(server.pid)
            for _ in range(SETTLE_LOOKS):
                time.sleep(0.2)
                now = cpu_seconds(server.pid)
                if now - settled < 0.005:
                    break
                settled = now
            else:
                raise MeasureError(f"{loop}: the server does not come to rest")
            cpu = cpu_seconds(server.pid) - cpu
            memory = server.memory_bytes() - memory
    return memory / connections, cpu / connections


def count_calls(loop: str, row: Row, seconds: float = 0.3) -> tuple[float | None, str]:
    """System calls of the server per message, and how they were counted.

    A run of its own, so that counting never touches a measured time. First the
    kernel's tracepoint; where that is refused, ptrace; (None, reason) when
    neither is allowed.
    """
    with Server(loop, row) as server:
        counted = server.load(seconds, 0.2, count_calls=True)
    if counted.calls is not None:
        return counted.calls, counted.calls_how
    with tempfile.TemporaryDirectory(prefix="perf-") as directory:
        try:
            with Server(loop, row, trace=Path(directory) / "counter") as server:
                counted = server.load(seconds, 0.2)
        except MeasureError as error:
            return None, f"neither the tracepoint nor ptrace is allowed here ({error})"
    return counted.calls, counted.calls_how
