"""A short search with the differential fuzzer in every run, and what it found once."""

import json
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
KEPT = sorted((HERE / "kept").glob("*.json"))


def fuzz(*arguments):
    return subprocess.run(
        [sys.executable, str(HERE / "fuzzer.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.timeout(300)
def test_new_programs_do_the_same_on_every_loop(seed):
    ended = fuzz("--seconds", "4", "--seed", str(seed))
    assert ended.returncode == 0, ended.stdout
    assert "violations 0" in ended.stdout


@pytest.mark.parametrize("program", KEPT, ids=lambda path: path.stem)
def test_program_that_failed_once_does_the_same_on_every_loop(program):
    ended = fuzz("--replay", str(program))
    assert ended.returncode == 0, ended.stdout


def test_fuzzer_finds_a_byte_that_is_lost_and_makes_the_program_smaller(monkeypatch):
    """A search that cannot fail would be none."""
    monkeypatch.syspath_prepend(str(HERE))
    import fuzzer
    import programs
    import world

    class Deaf(world.Plain):
        def data_received(self, data):
            super().data_received(data[1:] if len(data) > 10_000 else data)

    monkeypatch.setattr(world, "Plain", Deaf)
    monkeypatch.setattr(fuzzer, "PATIENCE_S", 1)
    differ = fuzzer.Differ()
    differ.kinds = [kind for kind in differ.kinds if kind != "asyncio"][:1]
    if not differ.kinds:
        pytest.skip("none of our loops can be made here")
    noise = [["turns", 1], ["plain_arrive", 5], ["look", 0], ["timer", 0, "note"]]
    program = {
        "seed": 0,
        "tls": False,
        "connections": [{"kind": "unix", "protocol": "plain"}],
        "steps": [*noise, ["peer_send", 0, 70_000], *noise],
    }
    assert not differ.run({**program, "steps": noise})
    small = programs.smaller(program, lambda candidate: bool(differ.run(candidate, 0.2)))
    assert small["steps"] == [["peer_send", 0, 70_000]]


def test_program_is_the_same_for_the_same_seed_and_survives_being_written(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    import programs

    drawn = [programs.draw(seed) for seed in range(50)]
    assert drawn == [programs.draw(seed) for seed in range(50)]
    assert [json.loads(programs.text(program)) for program in drawn] == drawn
    # All that may happen does.
    assert {step[0] for program in drawn * 4 for step in program["steps"]} == set(programs.STEPS)
