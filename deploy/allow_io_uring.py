"""Adds io_uring's three system calls to a seccomp profile: allow_io_uring.py < DEFAULT > MINE

For a container engine whose own default is newer, or stricter, than seccomp.json beside this file.
"""

import json
import sys

CALLS = ["io_uring_enter", "io_uring_register", "io_uring_setup"]


def allow(profile: dict) -> dict:
    """The profile with a rule in front that allows the calls, and without any that refuse them."""
    rules = []
    for rule in profile["syscalls"]:
        names = [name for name in rule.get("names", [rule.get("name")]) if name not in CALLS]
        if names:
            rules.append({**rule, "names": names})
    allowed = {"names": CALLS, "action": "SCMP_ACT_ALLOW"}
    return {**profile, "syscalls": [allowed, *rules]}


if __name__ == "__main__":
    json.dump(allow(json.load(sys.stdin)), sys.stdout, indent=2)
    print()
