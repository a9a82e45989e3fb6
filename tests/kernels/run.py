#!/usr/bin/env python3
"""The tests under other kernels: user-mode Linux, or qemu.

    python tests/kernels/run.py                        every kernel, as a table for docs/kernels.md
    python tests/kernels/run.py 5.10-uml 6.12          these
    python tests/kernels/run.py 6.12 --part kernel     only what is closest to the kernel
    python tests/kernels/run.py 6.12 --command 'python -m uring_loop doctor'

The guest sees this machine's files, so the same Python, compiler and build. It can write in the
project's folder, and everywhere else what it writes is gone with it; it has a loopback interface
and no network. A kernel is fetched once (see fetch.py).

Needs root, kmod, apt; for kernels that are not "-uml" also qemu-system-x86, cpio and
busybox-static. Without KVM qemu emulates, ten times slower or more; there only the contract
tests run, on the driver that was chosen, unless --part says otherwise.

Exit status: 1 when tests failed or a guest died, 125 when a kernel could not be had.
"""

import argparse
import gzip
import json
import lzma
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from fetch import KERNELS, FetchError, fetch

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ALL = ["tests", "--ignore=tests/apps", "--ignore=tests/conformance"]
ALL += ["--loop=uring", "--loop=selector"]
# Of the contract, what asks the most of a kernel; a quarter of it.
CLOSE = ["forks", "load", "datagrams", "server", "server_shared", "socket_cancel", "splice"]
CLOSE += ["transport_close", "transport_order", "transport_read", "transport_write"]
CLOSE += ["statistics", "unix", "watchers", "watchers_rare"]
# Exit statuses of the doctor whose self-test passed: on a ring, on the selector.
DOCTOR_WELL = (0, 1)
PARTS = ("all", "contract", "kernel")
# Alone in user-mode Linux's one CPU, or emulated: time is another than here.
TEST_SECONDS = 600
PATIENCE_SECONDS = 120

INIT = """#!/bin/sh
/bin/busybox mkdir -p /proc /sys /dev /host /rw /new
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod "$module" || echo "cannot load $module"; done
share=trans=virtio,version=9p2000.L,cache=loose,msize=262144
mount -t 9p -o "ro,$share" root /host
mount -t tmpfs rw /rw
mkdir /rw/upper /rw/work
mount -t overlay -o lowerdir=/host,upperdir=/rw/upper,workdir=/rw/work overlay /new
for part in proc sys dev; do mount --move "/$part" "/new/$part"; done
mount -t 9p -o "trans=virtio,version=9p2000.L,cache=none,msize=262144" project "/new@PROJECT@"
exec switch_root /new @PYTHON@ @GUEST@ @CONTROL@
"""


def run(kernel, command, *, sysctls=None, seconds=7200, memory_mb=2048, show=True):
    """Run a command under a kernel; its exit status and its output."""
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kernel-", dir=ROOT / "build") as folder:
        control = pathlib.Path(folder)
        modules = [str(path) for path in kernel.modules("ipv6")] if kernel.is_uml else []
        job = {
            "command": command,
            "folder": str(ROOT),
            "environment": {
                **os.environ,
                "HOME": "/tmp",
                "TMPDIR": "/tmp",
                "TEST_PATIENCE_S": str(PATIENCE_SECONDS),
            },
            "sysctls": sysctls or {},
            "modules": modules,
        }
        (control / "job.json").write_text(json.dumps(job))
        output = control / "output"
        output.touch()
        machine = _uml if kernel.is_uml else _qemu
        with open(control / "console", "wb") as console:
            process = subprocess.Popen(
                machine(kernel, control, memory_mb),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            _follow(process, output, seconds, show)
        finally:
            _end(process)
        status = control / "status"
        if not status.exists():
            tail = (control / "console").read_text(errors="replace").splitlines()[-30:]
            return 125, "the guest said nothing:\n" + "\n".join(tail)
        return int(status.read_text()), output.read_text(errors="replace")


def _follow(process, output, seconds, show):
    deadline = time.monotonic() + seconds
    shown = 0
    running = True
    while running and time.monotonic() < deadline:
        time.sleep(0.2)
        # Asked before the reading: the last words are shown too.
        running = process.poll() is None
        if show:
            data = output.read_bytes()
            sys.stdout.write(data[shown:].decode(errors="replace"))
            sys.stdout.flush()
            shown = len(data)


def _end(process):
    if process.poll() is None:
        os.killpg(process.pid, 9)
    process.wait()
    # The processes of a user-mode Linux are its children's children; they share its session.
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        pass


def _uml(kernel, control, memory_mb):
    start = control / "init"
    project = shlex.quote(str(ROOT))
    # The root is the host's own file system, read-only: what is written elsewhere must not stay.
    start.write_text(
        "#!/bin/sh\n"
        "for scratch in /tmp /var/tmp /run; do mount -t tmpfs -o mode=1777 tmpfs $scratch; done\n"
        f"mkdir -p {project}\n"
        f"mount -t hostfs none {project} -o {project}\n"
        f"exec {sys.executable} {HERE / 'guest.py'} {control}\n"
    )
    start.chmod(0o755)
    return [
        kernel.image,
        f"mem={memory_mb}M",
        f"uml_dir={control}",
        "rootfstype=hostfs",
        "rootflags=/",
        "ro",
        f"init={start}",
        "con=null",
        "con0=null,fd:1",
        "ssl=null",
        "quiet",
        "panic=-1",
    ]


def _qemu(kernel, control, memory_mb):
    initramfs = control / "initramfs"
    _make_initramfs(kernel, control, initramfs)
    shared = "security_model=none,multidevs=remap"
    fast = _has_kvm()
    return [
        "qemu-system-x86_64",
        *("-nodefaults", "-display", "none", "-no-reboot", "-machine", "q35"),
        *("-accel", "kvm" if fast else "tcg", "-cpu", "host" if fast else "max,la57=off"),
        # Emulated processors do not see each other's patched code in time.
        *("-smp", "2" if fast else "1", "-m", str(memory_mb)),
        *("-kernel", kernel.image, "-initrd", initramfs, "-serial", "stdio"),
        *("-append", "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable"),
        *("-virtfs", f"local,path=/,mount_tag=root,readonly=on,{shared}"),
        *("-virtfs", f"local,path={ROOT},mount_tag=project,{shared}"),
    ]


def _has_kvm():
    # A virtual machine may have the device and a processor that refuses.
    flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    return os.access("/dev/kvm", os.R_OK | os.W_OK) and ("vmx" in flags or "svm" in flags)


def _make_initramfs(kernel, control, archive):
    tree = control / "tree"
    for folder in ("bin", "modules"):
        (tree / folder).mkdir(parents=True)
    shutil.copy(shutil.which("busybox"), tree / "bin/busybox")
    (tree / "bin/sh").symlink_to("busybox")
    modules = kernel.modules("virtio_pci", "9pnet_virtio", "9p", "overlay")
    for number, path in enumerate(modules):
        data = path.read_bytes()
        if path.suffix == ".xz":
            data = lzma.decompress(data)
        name = path.name.partition(".ko")[0]
        (tree / f"modules/{number:02}-{name}.ko").write_bytes(data)
    text = INIT
    for word, value in {
        "PROJECT": ROOT,
        "PYTHON": sys.executable,
        "GUEST": HERE / "guest.py",
        "CONTROL": control,
    }.items():
        text = text.replace(f"@{word}@", str(value))
    (tree / "init").write_text(text)
    (tree / "init").chmod(0o755)
    names = subprocess.run(["find", "."], cwd=tree, capture_output=True, check=True).stdout
    made = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"],
        cwd=tree,
        input=names,
        capture_output=True,
        check=True,
    )
    archive.write_bytes(gzip.compress(made.stdout, 1))


def check_programs(name):
    """What is missing on this machine to run a kernel, by its package."""
    needed = [("modprobe", "kmod")]
    if not name.endswith("-uml"):
        needed += [("qemu-system-x86_64", "qemu-system-x86"), ("cpio", "cpio")]
        needed += [("busybox", "busybox-static")]
    missing = [package for program, package in needed if shutil.which(program) is None]
    if missing:
        raise FetchError(f"install {' '.join(missing)}")


def selection(part, driver):
    """What pytest shall run."""
    if part == "all":
        return ALL
    if part == "contract":
        return ["tests/contract", f"--loop={driver}"]
    return [*(f"tests/contract/test_{name}.py" for name in CLOSE), f"--loop={driver}"]


def row(kernel, title, sysctls, part):
    """One line of the table, and whether all went well."""
    doctor = [sys.executable, "-m", "uring_loop", "doctor", "--json"]
    status, text = run(kernel, doctor, sysctls=sysctls, show=False)
    try:
        facts = json.loads(text[text.index("{") :])
    except ValueError:
        return f"| {title} | doctor ended with {status} | {text.strip()[-200:]} | |", False
    if facts["driver"] is None:
        return f"| {title} | none | {facts['reason']} | |", False
    well = status in DOCTOR_WELL
    missing = [
        name
        for name, feature in facts["features"].items()
        if not feature["used"] and not feature["why"].endswith("does more")
    ]
    release = facts["kernel"].split()[1]
    driver = facts["driver"]
    suite = [sys.executable, "-m", "pytest", "-q", *selection(part, driver)]
    suite += ["-p", "no:cacheprovider", f"--timeout={TEST_SECONDS}"]
    status, text = run(kernel, suite, sysctls=sysctls)
    if status == 125:
        print(text, file=sys.stderr)
        result = "the guest ended before the tests did"
    else:
        result = (text.strip() or f"status {status}").splitlines()[-1].strip("= ")
    words = f"without {', '.join(missing)}" if missing else facts["reason"] or "all"
    if not well:
        words += "; the doctor's self-test failed"
    return f"| {title} ({release}) | {driver} | {words} | {part}: {result} |", well and status == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kernel", nargs="*", help=f"{', '.join(KERNELS)}; default: all")
    parser.add_argument("--command", help="instead of the tests; a line for bash")
    parser.add_argument("--part", choices=PARTS, help="of the tests")
    parser.add_argument("--disable-io-uring", action="store_true", help="by the sysctl, from 6.6")
    options = parser.parse_args()
    # Or the guest would go on alone.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sysctls = {"kernel.io_uring_disabled": "2"} if options.disable_io_uring else {}
    rows = []
    failed = 0
    for name in options.kernel or KERNELS:
        try:
            check_programs(name)
            kernel = fetch(name)
            if options.command:
                status, text = run(kernel, ["bash", "-c", options.command], sysctls=sysctls)
                if status == 125:
                    print(text, file=sys.stderr)
                if status != 0:
                    return status
                continue
            title = f"{name}, io_uring disabled" if sysctls else name
            fast = kernel.is_uml or _has_kvm()
            part = options.part or ("all" if fast else "contract")
            line, well = row(kernel, title, sysctls, part)
            rows.append(line)
            failed = max(failed, 0 if well else 1)
        except FetchError as exc:
            print(f"{name}: {exc}", file=sys.stderr)
            failed = 125
    if rows:
        print("\n| kernel | driver | kernel features | tests |\n|---|---|---|---|")
        print("\n".join(rows))
    return failed


if __name__ == "__main__":
    sys.exit(main())
