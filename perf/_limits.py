"""What this machine lets a measurement have: open files and memory, or a line that says no."""

import resource
from pathlib import Path

# For what a process has open besides the connections.
FILES_BESIDE = 200


def files(connections: int) -> tuple[int, str | None]:
    """Let this process and its children open so many connections.

    Returns how many may be, and why not all: rounded down to thousands, then.
    """
    wanted = connections + FILES_BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections, None
    try:
        # Only who has CAP_SYS_RESOURCE may raise the hard one.
        highest = hard if hard == resource.RLIM_INFINITY else max(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, highest))
        return connections, None
    except (OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    possible = max(0, hard - FILES_BESIDE) // 1000 * 1000
    return possible, f"a process may open {hard:,} files here (ulimit -n)"


def memory(count: int, each: int) -> tuple[int, str | None]:
    """How many of so many bytes there is memory for, and why not for all.

    Source: proc_meminfo(5).
    """
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
            if free < count * each:
                return free // each // 1000 * 1000, f"{free >> 20:,} MiB of memory are free"
    return count, None
