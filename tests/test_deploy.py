"""The files in deploy/: parsed, and as far as a machine without containers can, run.

The seccomp profile is loaded as a container engine loads it, by libseccomp, in a child that
then makes a loop.
"""

import configparser
import contextlib
import ctypes
import http.client
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys

import pytest
from ports import free_port
from test_choice import needs_ring

from uring_loop._internal import seccomp

DEPLOY = pathlib.Path(__file__).parents[1] / "deploy"
DOCTOR = [sys.executable, "-m", "uring_loop", "doctor"]
IO_URING = {"io_uring_enter", "io_uring_register", "io_uring_setup"}


def text(name):
    return (DEPLOY / name).read_text()


def yaml_of(name):
    yaml = pytest.importorskip("yaml", reason="PyYAML is missing")
    return list(yaml.safe_load_all(text(name)))


def unit(name):
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read_string(text(name))
    return parser


# ---- the seccomp profile ---------------------------------------------------------------


def test_profile_without_conditions_is_flat_already():
    mine = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []}
    given = json.loads(seccomp.text("kubernetes", mine))
    allowed = {"names": seccomp.CALLS, "action": "SCMP_ACT_ALLOW"}
    assert given == {**mine, "syscalls": [allowed]}


# Loads the rules that hold for a process without capabilities, on this kernel and machine.
CONFINE = """
import ctypes, errno, json, os, platform, sys

class Comparison(ctypes.Structure):
    _fields_ = [("index", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64),
                ("b", ctypes.c_uint64)]

OPS = {"SCMP_CMP_NE": 1, "SCMP_CMP_EQ": 4, "SCMP_CMP_MASKED_EQ": 7}
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())

def holds(rule):
    includes, excludes = rule.get("includes", {}), rule.get("excludes", {})
    return (
        "caps" not in includes
        and ARCH in includes.get("arches", [ARCH])
        and ARCH not in excludes.get("arches", [])
    )

def confine(profile):
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    filter = ctypes.c_void_p(library.seccomp_init(ERRNO | profile["defaultErrnoRet"]))
    for rule in filter_rules(profile):
        action = ALLOW
        if rule["action"] == "SCMP_ACT_ERRNO":
            action = ERRNO | rule.get("errnoRet", profile["defaultErrnoRet"])
        comparisons = []
        for each in rule.get("args", []):
            # Of a masked one: (argument & value) == 0.
            comparisons.append(Comparison(each["index"], OPS[each["op"]], each["value"], 0))
        array = (Comparison * max(len(comparisons), 1))(*comparisons)
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number == -1:
                continue  # Newer than the library; engines leave it out, too.
            status = library.seccomp_rule_add_array(
                filter, action, number, len(comparisons), array)
            assert status in (0, -errno.EEXIST, -errno.EACCES, -errno.EDOM), (name, status)
    status = library.seccomp_load(filter)
    if status != 0:
        print("no filter:", os.strerror(-status))
        sys.exit(77)

def filter_rules(profile):
    return [rule for rule in profile["syscalls"] if holds(rule)]

confine(json.loads(sys.argv[1]))
# It is on: only who administers the system may have a namespace of users.
assert ctypes.CDLL(None).unshare(0x10000000) == -1
from uring_loop.__main__ import main
sys.exit(main(["doctor", "--json"]))
"""


def doctor_under(profile):
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        pytest.skip("libseccomp is missing")
    done = subprocess.run(
        [sys.executable, "-c", CONFINE, json.dumps(profile)],
        env={**os.environ, "URING_LOOP_DRIVER": "auto"},
        capture_output=True,
        text=True,
        timeout=50,
    )
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode in (0, 1), done.stderr + done.stdout
    return json.loads(done.stdout)


def without_io_uring(profile):
    rules = [rule for rule in profile["syscalls"] if not IO_URING & set(rule["names"])]
    return {**profile, "syscalls": rules}


@needs_ring
def test_loop_runs_on_io_uring_under_the_profile():
    facts = doctor_under(json.loads(text("seccomp.json")))
    assert facts["driver"] == "uring"
    assert not any(facts["self_test"].values())


@needs_ring
def test_loop_runs_on_epoll_under_the_profile_without_its_three_calls():
    """Which is what an engine's default is, and what the profile differs by."""
    facts = doctor_under(without_io_uring(json.loads(text("seccomp.json"))))
    assert facts["driver"] == "selector"
    assert "EPERM" in facts["reason"]
    assert not any(facts["self_test"].values())


@needs_ring
def test_a_stricter_profile_is_mended_by_the_doctor():
    profile = without_io_uring(json.loads(text("seccomp.json")))
    refusal = {"names": sorted(IO_URING), "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
    profile["syscalls"].append(refusal)
    done = subprocess.run(
        [*DOCTOR, "--seccomp", "docker", "--base", "-"],
        input=json.dumps(profile),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert doctor_under(json.loads(done.stdout))["driver"] == "uring"


def test_mending_keeps_every_other_rule_and_takes_old_ones_by_name():
    rules = [
        {"names": ["read", "io_uring_enter"], "action": "SCMP_ACT_ERRNO"},
        {"name": "write", "action": "SCMP_ACT_ALLOW"},
        {"names": ["io_uring_setup"], "action": "SCMP_ACT_ERRNO"},
    ]
    mended = seccomp.allow({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules})
    assert set(mended["syscalls"][0]["names"]) == IO_URING
    assert [rule["names"] for rule in mended["syscalls"][1:]] == [["read"], ["write"]]
    assert mended["syscalls"][1]["action"] == "SCMP_ACT_ERRNO"


def printed(target, *arguments):
    done = subprocess.run(
        [*DOCTOR, "--seccomp", target, *arguments], capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("target", ["docker", "podman"])
def test_profile_that_the_doctor_prints_is_the_one_of_this_folder(target):
    assert printed(target) == text("seccomp.json")


@needs_ring
def test_loop_runs_on_io_uring_under_the_profile_for_kubernetes():
    """It has no conditions, for a runtime that knows none: they would hold for everybody."""
    profile = json.loads(printed("kubernetes"))
    assert set(profile) == {"defaultAction", "defaultErrnoRet", "architectures", "syscalls"}
    for rule in profile["syscalls"]:
        assert set(rule) <= {"names", "action", "errnoRet", "args"}
    assert doctor_under(profile)["driver"] == "uring"
    assert doctor_under(without_io_uring(profile))["driver"] == "selector"


def test_profile_for_kubernetes_allows_nothing_that_dockers_keeps_for_the_capable():
    rules = json.loads(printed("kubernetes"))["syscalls"]
    allowed = {
        name
        for rule in rules
        if rule["action"] == "SCMP_ACT_ALLOW" and "args" not in rule
        for name in rule["names"]
    }
    assert allowed >= IO_URING | {"read", "chroot"}
    assert not allowed & {"mount", "bpf", "unshare", "setns", "kexec_load", "clone3"}
    (clone3,) = (rule for rule in rules if "clone3" in rule["names"])
    assert clone3["errnoRet"] == 38


@pytest.mark.parametrize(("machine", "names"), [("aarch64", 2), ("s390x", 2), ("riscv64", 1)])
def test_profile_without_conditions_is_of_one_machine(machine, names):
    profile = seccomp.flat(seccomp.default(), machine)
    assert len(profile["architectures"]) == names
    listed = {name for rule in profile["syscalls"] for name in rule["names"]}
    assert "arch_prctl" not in listed
    assert ("s390_pci_mmio_read" in listed) == (machine == "s390x")


def test_profile_for_an_unknown_machine_is_refused():
    with pytest.raises(ValueError, match="no machine pdp11"):
        seccomp.flat(seccomp.default(), "pdp11")


def test_seccomp_options_that_make_no_sense_are_refused_in_one_line(tmp_path):
    (tmp_path / "list").write_text("[1]")
    for arguments in (
        ["--base", "-"],
        ["--seccomp", "docker", "--base", str(tmp_path / "list")],
        ["--seccomp", "systemd", "--base", str(DEPLOY / "seccomp.json")],
    ):
        done = subprocess.run(
            [*DOCTOR, *arguments], input="{", capture_output=True, text=True, timeout=50
        )
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1].startswith("python -m uring_loop doctor: error:")


def test_drop_in_for_systemd_is_read_by_it_and_names_what_its_group_has(tmp_path):
    """Parsed, beside a unit with a filter of its own; nothing here starts a unit."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is missing")
    drop_in = printed("systemd")
    (names,) = re.findall(r"^SystemCallFilter=(.*)$", drop_in, re.MULTILINE)
    assert set(names.split()) == IO_URING
    group = subprocess.run(
        [analyze, "syscall-filter", "@aio"], capture_output=True, text=True, timeout=50
    )
    assert IO_URING <= set(group.stdout.split())
    service = tmp_path / "probe.service"
    service.write_text("[Service]\nExecStart=/bin/true\nSystemCallFilter=@basic-io\n")
    (tmp_path / "probe.service.d").mkdir()
    (tmp_path / "probe.service.d" / "io_uring.conf").write_text(drop_in)
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(service)], capture_output=True, text=True, timeout=50
    )
    # Of other units of the machine it complains, too.
    assert "probe.service" not in done.stderr + done.stdout
    (tmp_path / "probe.service.d" / "io_uring.conf").write_text(drop_in.replace("setup", "sesame"))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(service)], capture_output=True, text=True, timeout=50
    )
    assert "io_uring_sesame" in done.stderr + done.stdout


# ---- what the files say ------------------------------------------------------------------

HEALTH = "python -m uring_loop doctor > /dev/null || test $? -eq 1"


def docker_instructions():
    """(instruction, rest), with continued lines joined."""
    lines = re.sub(r"\\\n\s*", "", text("Dockerfile")).splitlines()
    return [tuple(line.split(None, 1)) for line in lines if line and not line.startswith("#")]


def command_of_image():
    (command,) = (json.loads(rest) for word, rest in docker_instructions() if word == "CMD")
    return command


def test_image_copies_what_is_there_and_runs_as_nobody_special():
    instructions = docker_instructions()
    assert instructions[0][0] == "FROM"
    for word, rest in instructions:
        if word == "COPY":
            assert (DEPLOY / rest.split()[0]).exists()
    assert [rest for word, rest in instructions if word == "USER"] == ["app"]
    assert HEALTH in dict(instructions)["HEALTHCHECK"]


def test_compose_file_uses_the_profile_and_gives_time_to_end():
    (compose,) = yaml_of("compose.yaml")
    service = compose["services"]["app"]
    profile = next(each for each in service["security_opt"] if each.startswith("seccomp="))
    assert (DEPLOY / profile.partition("=")[2]).resolve() == DEPLOY / "seccomp.json"
    command = command_of_image()
    own = int(command[command.index("--timeout-graceful-shutdown") + 1])
    assert int(service["stop_grace_period"].rstrip("s")) > own
    assert service["ulimits"]["nofile"] >= 65536


def test_kubernetes_objects_fit_each_other_and_the_image():
    deployment, service = yaml_of("kubernetes.yaml")
    pod = deployment["spec"]["template"]
    assert (deployment["kind"], service["kind"]) == ("Deployment", "Service")
    labels = pod["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == service["spec"]["selector"]
    profile = pod["spec"]["securityContext"]["seccompProfile"]
    assert profile == {"type": "Localhost", "localhostProfile": "profiles/uring_loop.json"}
    (container,) = pod["spec"]["containers"]
    (port,) = container["ports"]
    command = command_of_image()
    assert str(port["containerPort"]) == command[command.index("--port") + 1]
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": port["name"]}
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    own = int(command[command.index("--timeout-graceful-shutdown") + 1])
    wait = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["spec"]["terminationGracePeriodSeconds"] > own + wait


def test_quadlet_has_the_profile_and_the_health_check():
    container = unit("uring_loop.container")["Container"]
    assert container["SeccompProfile"].endswith("/seccomp.json")
    assert container["HealthCmd"] == HEALTH


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is missing")
def test_systemd_accepts_the_units(tmp_path):
    # Only what has to exist on the machine that runs them is another here.
    for name in ("uring_loop.service", "uring_loop.socket"):
        content = text(name).replace("/srv/app/.venv/bin/uvicorn", "/bin/true")
        content = content.replace("WorkingDirectory=/srv/app", "WorkingDirectory=/")
        (tmp_path / name).write_text(content)
    done = subprocess.run(
        ["systemd-analyze", "verify", *sorted(map(str, tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        timeout=50,
    )
    about_ours = [line for line in done.stderr.splitlines() if "uring_loop" in line]
    assert (done.returncode, about_ours) == (0, [])


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is missing")
def test_systemds_own_groups_of_calls_have_those_of_the_ring():
    def group(name):
        command = ["systemd-analyze", "syscall-filter", name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50)
        return {line.strip() for line in done.stdout.splitlines()}

    assert IO_URING <= group("@aio")
    assert "@aio" in group(unit("uring_loop.service")["Service"]["SystemCallFilter"])


# ---- run ----------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["auto", "selector"])
def test_health_check_passes_on_either_driver(driver):
    done = run_in_shell(HEALTH, URING_LOOP_DRIVER=driver)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_health_check_fails_where_no_loop_can_be_made():
    assert run_in_shell(HEALTH, URING_LOOP_DRIVER="no such driver").returncode != 0


def run_in_shell(command, **variables):
    folder = os.path.dirname(sys.executable)
    path = os.pathsep.join([folder, os.environ["PATH"]])
    # The environment's interpreter, by the name that the command has.
    return subprocess.run(
        ["sh", "-c", command],
        env={**os.environ, "PATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=50,
    )


@contextlib.contextmanager
def server(command, **options):
    """uvicorn as the command says, with this interpreter."""
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    arguments = [sys.executable, "-m", *command]
    child = subprocess.Popen(
        arguments, cwd=DEPLOY, stderr=subprocess.PIPE, text=True, start_new_session=True, **options
    )
    try:
        for line in child.stderr:
            if "Uvicorn running on" in line:
                break
        yield child
        child.send_signal(signal.SIGTERM)
        rest = child.stderr.read()
        # uvicorn ends itself by the signal that it got.
        assert child.wait(40) in (0, -signal.SIGTERM), rest
        assert "Application shutdown complete" in rest
        assert "Traceback" not in rest
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        child.stderr.close()


def fetch(port, path):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as client:
        client.request("GET", path)
        return json.loads(client.getresponse().read())


def driver_of_a_new_loop():
    import uring_loop

    loop = uring_loop.new_event_loop()
    loop.close()
    return loop.driver


def test_command_of_the_image_serves_on_our_loop():
    port = free_port()
    command = command_of_image()
    command[command.index("--port") + 1] = str(port)
    command[command.index("--host") + 1] = "127.0.0.1"
    with server(command):
        assert fetch(port, "/") == {"driver": driver_of_a_new_loop()}
        assert fetch(port, "/health")["turns"] > 0


def test_connections_made_while_the_service_restarts_are_served():
    """The socket unit's promise, with this process in systemd's place."""
    command = shlex.split(unit("uring_loop.service")["Service"]["ExecStart"])
    command[0] = "uvicorn"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        number = listener.fileno()
        command[command.index("--fd") + 1] = str(number)
        os.set_inheritable(number, True)
        with server(command, pass_fds=[number]):
            assert fetch(port, "/") == {"driver": driver_of_a_new_loop()}
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        client.request("GET", "/health")
        with server(command, pass_fds=[number]):
            assert client.getresponse().status == 200
            client.close()
