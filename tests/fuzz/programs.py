"""Random programs of asyncio calls and faults: drawn from a seed, written as JSON, made smaller.

A program is {"tls", "connections": [{"kind", "protocol"}], "steps": [[name, argument, ...]]};
world.py says what each step does. Nothing here knows a loop.
"""

import json
import random
import time

import pipe_ends
from hostile import PLACES

KINDS = ("unix", "tcp", "server", "client")
PROTOCOLS = ("plain", "buffered", "streams")
EVENTS = (
    "data_received",
    "eof_received",
    "pause_writing",
    "resume_writing",
    "connection_lost",
)
STRIKES = ("close", "abort", "pause", "resume", "write", "raise", "stop")
REACTIONS = (*STRIKES, "write_eof", "interrupt")
SIZES = (0, 1, 2, 100, 4096, 16384, 70_000, 300_000)

# Each with how often it is drawn.
STEPS = {
    "write": 8,
    "writelines": 3,
    "turns": 12,
    "peer_send": 8,
    "peer_read": 6,
    "pause": 3,
    "resume": 4,
    "limits": 1,
    "react": 5,
    "read": 3,
    "write_eof": 1,
    "close": 1,
    "abort": 1,
    "peer_eof": 1,
    "peer_close": 1,
    "peer_reset": 1,
    "replace": 1,
    "shortage": 1,
    "plain_recv": 3,
    "plain_send": 3,
    "plain_arrive": 3,
    "datagram": 3,
    "datagram_back": 2,
    "pipe": 5,
    "pipe_react": 2,
    "file": 3,
    "timer": 2,
    "watch": 2,
    "thread": 1,
    "hostile": 6,
    "elsewhere": 1,
    "fork": 0.5,
    "drop": 0.5,
    "cancel": 5,
    "look": 2,
}
WITHOUT = {"turns", "shortage", "timer", "thread", "cancel", "file", "datagram", "datagram_back"}
WITHOUT |= {"plain_recv", "plain_send", "plain_arrive", "watch", "pipe", "pipe_react"}


def draw(seed, tls=None):
    """The program of that seed."""
    chance = random.Random(seed)
    count = chance.randint(1, 3)
    return {
        "seed": seed,
        "tls": chance.random() < 0.3 if tls is None else tls,
        "connections": [
            {"kind": chance.choice(KINDS), "protocol": chance.choice(PROTOCOLS)}
            for _ in range(count)
        ],
        "steps": [_step(chance, count) for _ in range(chance.randint(3, 40))],
    }


def _step(chance, count):
    name = chance.choices(list(STEPS), STEPS.values())[0]
    arguments = {
        "write": lambda: [chance.choice(SIZES)],
        "writelines": lambda: [[chance.choice(SIZES[:6]) for _ in range(chance.randint(0, 5))]],
        "turns": lambda: [chance.randint(1, 4)],
        "peer_send": lambda: [chance.choice(SIZES[1:])],
        "peer_read": lambda: [chance.choice((1, 1, 1000, 100_000, 10**6))],
        "limits": lambda: [chance.choice((0, 1, 1000, 65536))],
        "react": lambda: [chance.choice(EVENTS), chance.choice(REACTIONS)],
        "read": lambda: [
            chance.choice(("read", "readexactly", "readline")),
            chance.choice(SIZES[1:6]),
        ],
        "shortage": lambda: [chance.randint(1, 4)],
        "plain_recv": lambda: [chance.choice((1, 100, 5000))],
        "plain_send": lambda: [chance.choice((1, 1000, 300_000))],
        "plain_arrive": lambda: [chance.choice((1, 100, 5000))],
        "datagram": lambda: [chance.choice((1, 100, 1400)), chance.randint(1, 20)],
        "datagram_back": lambda: [chance.choice((1, 100, 1400)), chance.randint(1, 5)],
        "pipe": lambda: [
            chance.choice((*pipe_ends.MOSTLY * 4, *pipe_ends.ACTIONS)),
            chance.choice(SIZES),
        ],
        "pipe_react": lambda: [
            chance.choice(pipe_ends.EVENTS),
            chance.choice(pipe_ends.REACTIONS),
        ],
        "file": lambda: [
            chance.choice(("write", "read", "seek", "truncate")),
            chance.choice(SIZES[1:6]),
        ],
        "timer": lambda: [
            chance.choice((0, 0.0005, 0.002)),
            chance.choice(("note", "raise", "interrupt")),
        ],
        "watch": lambda: [chance.choice(("add", "remove", "arrive"))],
        "hostile": lambda: [chance.choice(PLACES), chance.choice(STRIKES)],
        "elsewhere": lambda: [chance.choice(STRIKES[:5])],
        "fork": lambda: [chance.choice(("use", "close", "collect"))],
        "drop": lambda: [chance.choice(STRIKES[:5])],
        "cancel": lambda: [chance.randint(0, 9)],
    }.get(name, list)()
    return [name, *([] if name in WITHOUT else [chance.randrange(count)]), *arguments]


def smaller(program, fails, seconds=40):
    """The smallest program found in that time that still fails; `fails(program)` runs one."""
    deadline = time.monotonic() + seconds

    def attempt(candidate):
        nonlocal program
        if time.monotonic() > deadline:
            return False
        if fails(candidate):
            program = candidate
            return True
        return False

    size = max(1, len(program["steps"]) // 2)
    while size:
        start = 0
        while start < len(program["steps"]):
            steps = program["steps"]
            if not attempt({**program, "steps": steps[:start] + steps[start + size :]}):
                start += size
        size //= 2
    if program["tls"]:
        attempt({**program, "tls": False})
    for number in reversed(range(len(program["connections"]))):
        used = {step[1] for step in program["steps"] if step[0] not in WITHOUT}
        if len(program["connections"]) > 1 and not used & set(
            range(number, len(program["connections"]))
        ):
            connections = program["connections"]
            attempt({**program, "connections": connections[:number] + connections[number + 1 :]})
    for number in range(len(program["connections"])):
        for easier in ({"kind": "unix"}, {"protocol": "plain"}):
            connections = [dict(each) for each in program["connections"]]
            connections[number].update(easier)
            if connections != program["connections"]:
                attempt({**program, "connections": connections})
    return program


def text(program):
    """As it is printed, and kept in kept/."""
    return json.dumps(program)
