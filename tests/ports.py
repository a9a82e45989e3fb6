"""Ports for those who must name one: a server in a child, a peer who is to be refused.

One that was bound to 0 and closed again may be the next that the kernel gives away, to a test that
runs beside this one. These the kernel gives to nobody by itself.
"""

import pathlib
import random
import socket

_GIVEN = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST, _TRIES = 10_000, 100


def free_port():
    """A TCP port that nobody has on any address, and nobody gets who does not name it."""
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    end = max(int(_GIVEN.read_text().split()[0]), _FIRST + _TRIES)
    # The tests beside this one draw others, whatever seed they share.
    for port in random.SystemRandom().sample(range(_FIRST, end), _TRIES):
        try:
            with socket.create_server(
                ("", port), family=family, dualstack_ipv6=family == socket.AF_INET6
            ):
                return port
        except OSError:
            continue
    raise AssertionError(f"of {_TRIES} ports each is somebody's")
