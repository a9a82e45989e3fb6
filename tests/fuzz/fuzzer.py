"""The differential fuzzer: new programs on three kinds of loop, for as long as one likes.

    python tests/fuzz/fuzzer.py --seconds 60              new programs, from a seed that is printed
    python tests/fuzz/fuzzer.py --seed 7 --seconds 60     the same again
    python tests/fuzz/fuzzer.py --program 123             the program of that seed alone
    python tests/fuzz/fuzzer.py --replay kept/name.json   a program that was kept

A worker process runs the programs, so that a crash or a hang is a violation like another, with
the program that made it. What fails is made smaller and printed; a copy of it in kept/ is run by
every run of the tests from then on.
"""

import argparse
import asyncio
import faulthandler
import json
import logging
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time
import warnings

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import programs  # noqa: E402
import world  # noqa: E402

KINDS = ("uring", "selector", "asyncio")
# A program takes some milliseconds; this is for the most loaded of machines.
HANG_S = 120
# How long something may take to finish once nothing is broken. A program is made smaller with
# less; and so is what stock asyncio gets, whose losses are no violations.
PATIENCE_S, IMPATIENCE_S = 20, 1


def make_loop(kind):
    if kind == "asyncio":
        return asyncio.SelectorEventLoop()
    import uring_loop

    return uring_loop.EventLoop(driver=kind)


def contexts():
    """A server's and a client's; None where certificates cannot be made."""
    import ssl

    try:
        import trustme
    except ImportError:
        return None
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    certificate = authority.issue_cert("server.test", key_type=trustme.KeyType.ECDSA)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    return server, client


def available():
    """The kinds of loop that can be had here."""
    kinds = []
    for kind in KINDS:
        try:
            make_loop(kind).close()
        except (OSError, RuntimeError):
            continue
        kinds.append(kind)
    return kinds


class Differ:
    """Runs programs on each kind of loop, and compares."""

    def __init__(self):
        self.contexts = contexts()
        self.kinds = available()
        self.steps = 0
        self.states = set()

    def run(self, program, patience_s=PATIENCE_S):
        """What is wrong with it, as a list of lines; empty for nothing."""
        from uring_loop import files

        if program["tls"] and self.contexts is None:
            program = {**program, "tls": False}
        found, outcomes = [], {}
        # A child of asyncio's shares its parent's epoll set, and undoes its watches; and none of
        # asyncio's transports is to be used by another thread.
        alone = any(step[0] in ("fork", "elsewhere") for step in program["steps"])
        for kind in self.kinds:
            if alone and kind == "asyncio":
                continue
            patience = IMPATIENCE_S if kind == "asyncio" else patience_s
            one = world.World(make_loop(kind), program, self.contexts, files, patience)
            try:
                outcomes[kind] = one.run()
            except Exception as error:
                one.violations.append(f"the program ended in {error!r}")
            self.steps += one.steps
            self.states |= one.states
            if kind == "asyncio":
                # asyncio is the oracle of what is the same, not of what is right: its known
                # losses (tests/test_known_bugs.py) are not ours.
                if one.violations:
                    outcomes.pop(kind, None)
            else:
                found += [f"{kind}: {what}" for what in one.violations]
        forget_races(outcomes.values())
        kinds = list(outcomes)
        for kind in kinds[1:]:
            if outcomes[kind] != outcomes[kinds[0]]:
                found.append(f"{kinds[0]}: {outcomes[kinds[0]]}\n{kind}: {outcomes[kind]}")
        return found


def forget_races(outcomes):
    """Whether a reaction came before the faults stopped is a race: data may be a turn later.

    Of a line that is not clean on each loop only the grammar is compared. Where other reactions
    came, other bytes were written, and perhaps the end was not read: that all arrived which was
    written each loop has shown for itself.
    """
    for lines in zip(*(outcome["lines"] for outcome in outcomes), strict=True):
        if len({len(line) for line in lines}) > 1:
            for line in lines:
                for name in set(line) - {"grammar"}:
                    del line[name]
        reacted = [line.pop("reacted", None) for line in lines]
        if any(each != reacted[0] for each in reacted):
            for line in lines:
                line.pop("peer got")
                line.pop("eof")


def fails(differ):
    def again(program):
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        return bool(differ.run(program, IMPATIENCE_S))

    return again


def work(options):
    """The worker: programs until the time is over, one line of JSON for each event."""
    warnings.simplefilter("ignore")
    logging.disable()
    differ = Differ()
    chance = random.Random(options.seed)
    deadline = time.monotonic() + options.seconds
    count = 0
    while count == 0 or time.monotonic() < deadline:
        seed = options.program if options.program is not None else chance.getrandbits(48)
        program = options.replayed or programs.draw(seed)
        tell(running=program)
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        found = differ.run(program)
        count += 1
        if found:
            tell(found=found, program=program)
            small = program if options.replayed else programs.smaller(program, fails(differ))
            tell(violation=differ.run(small, IMPATIENCE_S) or found, program=small)
        faulthandler.cancel_dump_traceback_later()
        if options.program is not None or options.replayed:
            break
    tell(
        programs=count,
        steps=differ.steps,
        states=len(differ.states),
        loops=differ.kinds,
    )


def tell(**what):
    print(json.dumps(what), flush=True)


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--program", type=int)
    parser.add_argument("--replay", type=pathlib.Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.replayed = json.loads(options.replay.read_text()) if options.replay else None
    if options.seed is None:
        options.seed = int.from_bytes(os.urandom(4))
    return options


def main(arguments=None):
    """Runs the worker; 1 when there was a violation."""
    options = parse(arguments)
    if options.worker:
        work(options)
        return 0
    print(f"seed: {options.seed} (--seed {options.seed} draws the same again)", flush=True)
    command = [sys.executable, __file__, "--worker", "--seed", str(options.seed)]
    command += ["--seconds", str(options.seconds)]
    if options.program is not None:
        command += ["--program", str(options.program)]
    if options.replay:
        command += ["--replay", str(options.replay)]
    figures, violations, running = {}, 0, None
    with tempfile.TemporaryFile("w+") as complaints:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=complaints, text=True
        ) as worker:
            for line in worker.stdout:
                event = json.loads(line)
                if "running" in event:
                    running = event["running"]
                elif "found" in event:
                    print(f"seed of the program: {event['program']['seed']}")
                    print("\n".join(event["found"]), flush=True)
                elif "violation" in event:
                    violations += 1
                    print("made smaller:", *event["violation"], sep="\n")
                    print(f"program: {programs.text(event['program'])}", flush=True)
                else:
                    figures = event
        if worker.returncode != 0:
            violations += 1
            complaints.seek(0)
            print(f"the worker ended with {worker.returncode}:\n{complaints.read()[-6000:]}")
            print(f"program: {programs.text(running)}")
    print(
        f"seeds 1, programs {figures.get('programs', 0)} on {figures.get('loops', [])}, "
        f"steps {figures.get('steps', 0)}, states {figures.get('states', 0)}, "
        f"violations {violations}"
    )
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
