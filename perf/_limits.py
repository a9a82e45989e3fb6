"""What this machine lets a measurement have: open files and memory, or a line that says no."""

import resource
from pathlib import Path

# For what a process has open besides the connections.
FILES_BESIDE = 200


def files(connections: int) -> str | None:
    """Let this process and its children open so many connections, or say why not."""
    wanted = connections + FILES_BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return None
    try:
        # Only root may raise the hard one.
        highest = hard if hard == resource.RLIM_INFINITY else max(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, highest))
    except (OSError, ValueError):
        return f"a process may open {hard:,} files here (ulimit -n) and {wanted:,} are needed"
    return None


def memory(wanted: int) -> str | None:
    """Why so many bytes are not to be had; None where they are. Source: proc_meminfo(5)."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
            if free < wanted:
                return f"{free >> 20:,} MiB of memory are free and {wanted >> 20:,} are needed"
    return None
