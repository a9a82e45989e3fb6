"""The first program of the guest: finishes its file systems, runs the command, ends the machine.

guest.py CONTROL, where CONTROL is a folder shared with the host: in `job.json` what to do; `output`
and `status` are written here. Needs nothing but Python: the guest sees the host's files, read-only
but for the project's folder.
"""

import ctypes
import errno
import fcntl
import json
import os
import pathlib
import resource
import socket
import struct
import subprocess
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
POWER_OFF = 0x4321FEDC
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def mount(kind, target, options=""):
    os.makedirs(target, exist_ok=True)
    if LIBC.mount(b"none", target.encode(), kind.encode(), 0, options.encode()) != 0:
        error = ctypes.get_errno()
        if error != errno.EBUSY:  # the kernel, or what started us, has mounted it
            raise OSError(error, os.strerror(error), target)


def prepare(job):
    mount("proc", "/proc")
    mount("sysfs", "/sys")
    mount("devtmpfs", "/dev")
    mount("devpts", "/dev/pts", "gid=5,mode=620,ptmxmode=666")
    mount("tmpfs", "/dev/shm")
    for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        link = pathlib.Path("/dev", name)
        if not link.exists() and not link.is_symlink():
            link.symlink_to(f"/proc/self/{target}")
    for module in job["modules"]:
        subprocess.run(["/sbin/insmod", module], check=True)
    with socket.socket() as sock:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(sock, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))
    for name, value in job["sysctls"].items():
        pathlib.Path("/proc/sys", name.replace(".", "/")).write_text(value)
    resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (8 << 20, 8 << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(control):
    job = json.loads((control / "job.json").read_text())
    status = 125
    with open(control / "output", "ab", buffering=0) as output:
        try:
            prepare(job)
            done = subprocess.run(
                job["command"],
                cwd=job["folder"],
                env=job["environment"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            status = done.returncode
        except BaseException as exc:
            output.write(f"guest: {type(exc).__name__}: {exc}\n".encode())
    (control / "status").write_text(str(status))
    os.sync()
    LIBC.reboot(POWER_OFF)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
