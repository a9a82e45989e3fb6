"""run.py's exit status: what went wrong under a kernel is not lost in a table."""

import importlib.util
import json
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent


@pytest.fixture
def runner(monkeypatch):
    """The module, for which every program is installed."""
    monkeypatch.syspath_prepend(str(HERE))
    # tests/conformance has a module of that name too.
    specification = importlib.util.spec_from_file_location("kernels_run", HERE / "run.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    monkeypatch.setattr(module, "check_programs", lambda name: None)
    return module


class Kernel:
    is_uml = True

    def __init__(self, name):
        self.name = name


FACTS = {"driver": "uring", "kernel": "Linux 6.12 x86_64", "features": {}, "reason": None}
DOCTOR = (0, json.dumps(FACTS))
PASSED = (0, "10 passed")


def exit_status(runner, monkeypatch, *answers, arguments=("6.1-uml",)):
    """Of main(), where run() gives these answers one after the other."""
    left = list(answers)
    monkeypatch.setattr(runner, "fetch", Kernel)
    monkeypatch.setattr(runner, "run", lambda *_, **options: left.pop(0))
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    status = runner.main()
    assert left == []
    return status


def test_all_passed_is_0(runner, monkeypatch, capsys):
    assert exit_status(runner, monkeypatch, DOCTOR, PASSED) == 0
    assert "all: 10 passed" in capsys.readouterr().out


@pytest.mark.parametrize("status", [1, 2, 5, -11])
def test_tests_that_failed_are_1(runner, monkeypatch, status):
    assert exit_status(runner, monkeypatch, DOCTOR, (status, "1 failed")) == 1


def test_guest_that_died_in_the_tests_is_1(runner, monkeypatch, capsys):
    assert exit_status(runner, monkeypatch, DOCTOR, (125, "the guest said nothing")) == 1
    assert "the guest ended before the tests did" in capsys.readouterr().out


def test_guest_that_died_in_the_doctor_is_1(runner, monkeypatch):
    assert exit_status(runner, monkeypatch, (125, "the guest said nothing: panic")) == 1


def test_doctor_whose_self_test_failed_is_1(runner, monkeypatch):
    assert exit_status(runner, monkeypatch, (3, DOCTOR[1]), PASSED) == 1


def test_doctor_on_the_selector_is_well(runner, monkeypatch):
    facts = FACTS | {"driver": "selector", "reason": "no ring"}
    assert exit_status(runner, monkeypatch, (1, json.dumps(facts)), PASSED) == 0


def test_doctor_without_a_loop_is_1(runner, monkeypatch):
    facts = {"driver": None, "reason": "no descriptor", "cure": None, "self_test": {}}
    assert exit_status(runner, monkeypatch, (3, json.dumps(facts))) == 1


def test_failure_under_one_kernel_is_kept_while_the_others_run(runner, monkeypatch):
    answers = [DOCTOR, (1, "1 failed"), DOCTOR, PASSED]
    assert exit_status(runner, monkeypatch, *answers, arguments=("5.10-uml", "6.1-uml")) == 1


def test_kernel_that_cannot_be_had_is_125_and_the_others_run(runner, monkeypatch, capsys):
    def fetch(name):
        if name == "5.10-uml":
            raise runner.FetchError("no mirror")
        return Kernel(name)

    left = [DOCTOR, PASSED]
    monkeypatch.setattr(runner, "fetch", fetch)
    monkeypatch.setattr(runner, "run", lambda *_, **options: left.pop(0))
    monkeypatch.setattr(sys, "argv", ["run.py", "5.10-uml", "6.1-uml"])
    assert runner.main() == 125
    output = capsys.readouterr()
    assert "5.10-uml: no mirror" in output.err
    assert "all: 10 passed" in output.out
