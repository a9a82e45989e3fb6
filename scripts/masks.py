"""The contract tests on rings that lack something (`make masks`): one machine for many kernels.

    python scripts/masks.py                       every mask; a line for each
    python scripts/masks.py tiny defer_taskrun    these
    python scripts/masks.py tiny -- -k streams    with arguments for pytest

Each mask switches kernel features off (URING_LOOP_DISABLE), or makes the ring and its buffers
tiny (URING_LOOP_SIZES). The line ends as pytest's output does; what a failing run said is in
build/masks/NAME.txt. The exit status is 1 if one failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "build" / "masks"
SUITE = ["-q", "tests/contract", "--loop=uring", "-p", "no:cacheprovider"]
# A turn of a tiny ring takes in little, and two suites share the machine.
TEST_SECONDS = 100
AT_ONCE = 2

TINY = "sq_entries=2,cq_entries=4,buffer_count=4,buffer_size=16"
# Kernels that lack several.
PLAIN = ("single_issuer", "defer_taskrun", "coop_taskrun")
LINUX_5_19 = (
    "single_issuer",
    "defer_taskrun",
    "multishot_recv",
    "multishot_unix",
    "sync_cancel",
    "restricted",
    "no_iowait",
)


@dataclass(frozen=True)
class Mask:
    name: str
    disable: tuple[str, ...] = ()
    sizes: str = ""


def all_masks() -> dict[str, Mask]:
    """By name.  RuntimeError without a ring, on which there would be nothing but skips."""
    sys.path.insert(0, str(ROOT))
    import uring_loop

    loop = uring_loop.EventLoop(driver="uring")
    features = tuple(loop.report()["features"])
    loop.close()
    masks = [
        *(Mask(feature, (feature,)) for feature in features),
        Mask("plain", PLAIN),
        Mask("as-5.19", LINUX_5_19),
        Mask("as-5.10", tuple(feature for feature in features if feature != "ext_arg")),
        Mask("all", features),
        Mask("tiny", (), TINY),
        Mask("tiny-all", features, TINY),
    ]
    return {mask.name: mask for mask in masks}


def run(mask: Mask, arguments: list[str]) -> bool:
    """Whether the suite passed; tells it."""
    environment = os.environ | {
        "URING_LOOP_DISABLE": ",".join(mask.disable),
        "URING_LOOP_SIZES": mask.sizes,
    }
    command = [sys.executable, "-m", "pytest", *SUITE, f"--timeout={TEST_SECONDS}", *arguments]
    output = OUTPUT / f"{mask.name}.txt"
    with open(output, "wb") as file:
        status = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT
        ).returncode
    lines = output.read_text(errors="replace").splitlines()
    verdict = lines[-1].strip("= ") if lines else f"no output, exit status {status}"
    print(f"{mask.name:18} {verdict}", flush=True)
    if status == 0:
        output.unlink()
    return status == 0


def main(arguments: list[str]) -> int:
    split = arguments.index("--") if "--" in arguments else len(arguments)
    names, for_pytest = arguments[:split], arguments[split + 1 :]
    try:
        masks = all_masks()
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    unknown = [name for name in names if name not in masks]
    if unknown:
        print(f"no mask {', '.join(unknown)}; there are {', '.join(masks)}", file=sys.stderr)
        return 2
    OUTPUT.mkdir(parents=True, exist_ok=True)
    chosen = [masks[name] for name in names or masks]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        passed = list(pool.map(lambda mask: run(mask, for_pytest), chosen))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
