"""Seccomp profiles that allow io_uring's three system calls: doctor --seccomp.

The profile is Docker's default (of version 28, https://github.com/moby/moby, Apache License 2.0)
with these three in addition: seccomp.json beside this file, the one that deploy/ has. Docker,
Podman and CRI-O read it as it is; containerd, which most of Kubernetes' nodes have, reads a
localhost profile as the runtime specification has it, in which nothing depends on a machine or
a capability.
"""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

CALLS = ["io_uring_enter", "io_uring_register", "io_uring_setup"]
TARGETS = ("docker", "podman", "kubernetes", "systemd")

Profile = dict[str, Any]

# What containers have when nobody adds or drops anything.
_CAPABILITIES = frozenset(
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP"
        " NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
    ).split()
)

# uname's word for a machine: the profile's, and the specification's.
_MACHINES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
}

# Three calls alone would forbid a unit without a filter everything else, and @system-service in
# front would give back what a unit's own filter takes away.
_DROP_IN = f"""\
# A drop-in for a unit that has a SystemCallFilter= of its own; one without needs nothing, nor does
# one that lists @system-service or @aio, in which these three are.  systemctl edit UNIT
[Service]
SystemCallFilter={" ".join(CALLS)}
# A call that is refused is an error, and not the process's end: the loop then runs on epoll.
SystemCallErrorNumber=EPERM
"""


def text(target: str, base: Profile | None = None) -> str:
    """What to give to `target`, one of TARGETS, as the text of a file.

    base: another profile to add the calls to, as Docker and Podman read them.
    Raises ValueError for what is not to be had, KeyError or TypeError for what is no profile.
    """
    if target == "systemd":
        if base is not None:
            raise ValueError("systemd has no profile to add to")
        return _DROP_IN
    profile = default() if base is None else allow(base)
    if target == "kubernetes":
        profile = flat(profile, os.uname().machine)
    elif base is None:
        return _default_text()
    return json.dumps(profile, indent=2) + "\n"


def _default_text() -> str:
    return pathlib.Path(__file__).with_name("seccomp.json").read_text(encoding="utf-8")


def default() -> Profile:
    """Docker's own with the three calls."""
    profile: Profile = json.loads(_default_text())
    return profile


def allow(profile: Profile) -> Profile:
    """`profile` with a rule in front that allows the calls, and without any that refuse them."""
    rules = []
    for rule in profile["syscalls"]:
        names = [name for name in rule.get("names", [rule.get("name")]) if name not in CALLS]
        if names:
            rules.append({**rule, "names": names})
    allowed = {"names": CALLS, "action": "SCMP_ACT_ALLOW"}
    return {**profile, "syscalls": [allowed, *rules]}


def flat(profile: Profile, machine: str) -> Profile:
    """`profile` without conditions: for this machine, and for what containers may by default.

    machine: as os.uname() names it; ValueError where the profile knows none of the name.
    Source: the runtime specification's linux.seccomp.
    """
    if "archMap" not in profile:
        return profile
    if machine not in _MACHINES:
        raise ValueError(f"the profile knows no machine {machine}")
    word, architecture = _MACHINES[machine]
    architectures = [architecture]
    for entry in profile["archMap"]:
        if entry["architecture"] == architecture:
            architectures += entry["subArchitectures"]
    rules = []
    for rule in profile["syscalls"]:
        if not _holds(rule, word):
            continue
        rule = {name: value for name, value in rule.items() if name in _OF_A_RULE}
        rules.append(rule)
    kept = {name: value for name, value in profile.items() if name not in ("archMap", "syscalls")}
    return {**kept, "architectures": architectures, "syscalls": rules}


_OF_A_RULE = ("names", "action", "errnoRet", "args")


def _holds(rule: Profile, word: str) -> bool:
    includes, excludes = rule.get("includes", {}), rule.get("excludes", {})
    return (
        _CAPABILITIES.issuperset(includes.get("caps", ()))
        and not _CAPABILITIES.intersection(excludes.get("caps", ()))
        and word in includes.get("arches", [word])
        and word not in excludes.get("arches", ())
    )
