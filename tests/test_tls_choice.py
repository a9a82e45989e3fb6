"""Who encrypts: C, by the OpenSSL that is in the process, or Python; and what is said of that.

It is decided once per process, so most of these run in children.
"""

import asyncio
import json
import ssl
import subprocess
import sys

import pytest
from test_choice import run_python

from uring_loop import _core
from uring_loop._internal import tls_records

native = pytest.mark.skipif(
    tls_records.why_not_native() is not None,
    reason="this process's OpenSSL is not called from C",
)

TELL = """
import json
from uring_loop._internal import tls_records
print(json.dumps(tls_records.report()))
"""


def told(program=TELL, **environment):
    child = run_python(program, **environment)
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


@native
def test_tls_of_an_ordinary_python_is_native_and_says_so():
    facts = told()
    assert facts == {"records": "native", "reason": None, "openssl": ssl.OPENSSL_VERSION}


@pytest.mark.parametrize("choice", ["auto", ""])
def test_tls_choice_that_leaves_it_open_is_as_none(choice):
    assert told(URING_LOOP_TLS=choice) == told()


def test_tls_choice_of_python_is_obeyed_and_given_as_the_reason():
    facts = told(URING_LOOP_TLS="python")
    assert (facts["records"], facts["reason"]) == ("python", "URING_LOOP_TLS=python")


def test_tls_choice_that_is_unknown_is_a_value_error_that_names_the_choices():
    child = run_python(TELL, URING_LOOP_TLS="quick")
    assert child.returncode == 1
    assert "URING_LOOP_TLS is 'quick'; it must be auto, native or python" in child.stderr


HIDDEN = """
import _ssl, json
from uring_loop._internal import tls_records
_ssl.__file__ = {path!r}
"""


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/nowhere/_ssl.so", "the ssl module is not a library of its own"),
        (None, "the ssl module is not a library of its own"),
        ("libc.so.6", "the ssl module's OpenSSL is linked into it, and hidden"),
    ],
)
def test_tls_whose_openssl_is_hidden_is_pythons_and_says_why(path, reason):
    program = HIDDEN.format(path=path) + "print(json.dumps(tls_records.report()))"
    facts = told(program)
    assert (facts["records"], facts["reason"]) == ("python", reason)


def test_tls_choice_of_native_where_it_is_not_to_be_had_is_a_runtime_error():
    program = HIDDEN.format(path="/nowhere/_ssl.so") + "tls_records.report()"
    child = run_python(program, URING_LOOP_TLS="native")
    assert child.returncode == 1
    assert "RuntimeError: URING_LOOP_TLS=native is not to be had" in child.stderr


@native
@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_tls_object_that_does_not_look_as_expected_is_left_alone(wrong):
    """Another object in its place, or BIOs that are not those under it."""
    bios = [ssl.MemoryBIO(), ssl.MemoryBIO()]
    inner = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_bio(*bios, server_side=True)._sslobj
    things = [inner, *bios]
    things[wrong] = ssl.MemoryBIO() if wrong else (1, 2, 3)
    assert _core.Records()._open_records(*things) is None


@native
def test_tls_object_that_has_our_bios_does_not_get_them_twice():
    bios = [ssl.MemoryBIO(), ssl.MemoryBIO()]
    inner = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_bio(*bios, server_side=True)._sslobj
    records = _core.Records()
    incoming, outgoing = records._open_records(inner, *bios)
    with pytest.raises(RuntimeError, match="was called before"):
        records._open_records(inner, *bios)
    assert _core.Records()._open_records(inner, *bios) is None
    assert incoming.write(b"abc") == 3
    assert (incoming.pending, outgoing.pending) == (3, 0)
    assert (incoming.read(2), incoming.read(), incoming.read()) == (b"ab", b"c", b"")
    with pytest.raises(TypeError):
        incoming.write("abc")


@native
def test_tls_records_without_a_connection_refuse_and_do_nothing():
    records = _core.Records()
    with pytest.raises(TypeError, match="3 arguments"):
        records._open_records()
    assert records._read_records() is False
    records._seal()
    records._attach(object())
    records._detach()
    with pytest.raises(AttributeError):
        records._state  # noqa: B018  # the access is what is tried
    with pytest.raises(TypeError):
        _core.tls_set_classes(object, 1)
    with pytest.raises(AttributeError):
        _core.tls_set_classes(object, 1, 2)


def test_tls_is_told_by_report_and_doctor():
    async def main():
        return asyncio.get_running_loop().report()["tls"]

    program = "import asyncio, json, uring_loop; print(json.dumps(uring_loop.run(main())))"
    source = "async def main():\n    return asyncio.get_running_loop().report()['tls']\n"
    assert told("import asyncio\n" + source + program) == tls_records.report()
    doctor = subprocess.run(
        [sys.executable, "-m", "uring_loop", "doctor"], capture_output=True, text=True, timeout=60
    )
    assert f"  TLS: records in {'C' if tls_records.why_not_native() is None else 'Python'}" in (
        doctor.stdout
    )
