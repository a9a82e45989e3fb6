"""getaddrinfo and getnameinfo."""

import asyncio
import logging
import re
import socket

import pytest
from harness import run


@pytest.mark.parametrize(
    "host, port, options",
    [
        ("127.0.0.1", 80, {"type": socket.SOCK_STREAM}),
        ("127.0.0.1", 80, {}),
        ("127.0.0.1", 0, {"type": socket.SOCK_DGRAM}),
        ("127.0.0.1", "80", {"type": socket.SOCK_STREAM, "proto": socket.IPPROTO_TCP}),
        ("127.0.0.1", b"80", {"type": socket.SOCK_STREAM}),
        ("127.0.0.1", None, {"type": socket.SOCK_STREAM}),
        (b"127.0.0.1", 80, {"type": socket.SOCK_STREAM}),
        ("127.1", 80, {"type": socket.SOCK_STREAM}),
        ("0x7f.1", 80, {"type": socket.SOCK_STREAM}),
        ("::1", 80, {"type": socket.SOCK_STREAM}),
        ("::1", 80, {}),
        ("::ffff:127.0.0.1", 80, {"family": socket.AF_INET6, "type": socket.SOCK_STREAM}),
        ("::1%lo", 80, {"type": socket.SOCK_STREAM}),
        ("fe80::1%1", 80, {"type": socket.SOCK_STREAM}),
        ("127.0.0.1", 80, {"family": socket.AF_INET}),
        ("127.0.0.1", "http", {"type": socket.SOCK_STREAM}),
        (None, 80, {"type": socket.SOCK_STREAM}),
        (None, 80, {"type": socket.SOCK_STREAM, "flags": socket.AI_PASSIVE}),
        ("", 80, {"type": socket.SOCK_STREAM}),
        ("localhost", 80, {"type": socket.SOCK_STREAM}),
        ("127.0.0.1", 80, {"type": socket.SOCK_STREAM, "flags": socket.AI_NUMERICHOST}),
        ("127.0.0.1", 80, {"type": socket.SOCK_STREAM, "flags": socket.AI_CANONNAME}),
        ("127.0.0.1", 65536, {"type": socket.SOCK_STREAM}),
        ("127.000.0.1", 80, {"type": socket.SOCK_STREAM}),
        ("127.0.0.1", True, {"type": socket.SOCK_STREAM}),
        ("127.0.0.1", 80, {"type": socket.SOCK_RAW}),
        ("127.0.0.1", 80, {"type": 1, "family": 2, "proto": socket.IPPROTO_TCP}),
        ("127.0.0.1", 80, {"type": socket.SOCK_DGRAM, "proto": socket.IPPROTO_TCP}),
        ("127.0.0.1\0", 80, {"type": socket.SOCK_STREAM}),
        ("127.0.0.1", -1, {"type": socket.SOCK_STREAM}),
        (b"\xff", 80, {"type": socket.SOCK_STREAM}),
    ],
)
def test_getaddrinfo_answers_as_the_socket_module(loop, host, port, options):
    def outcome(call):
        try:
            return call()
        except (OSError, ValueError, OverflowError) as error:
            return type(error), str(error)

    expected = outcome(lambda: socket.getaddrinfo(host, port, **options))
    got = outcome(lambda: run(loop, loop.getaddrinfo(host, port, **options)))
    assert got == expected


@pytest.mark.parametrize(
    "host, options",
    [
        ("127.0.0.1", {"family": socket.AF_INET6}),
        ("::1", {"family": socket.AF_INET}),
        ("300.0.0.1", {"flags": socket.AI_NUMERICHOST}),
        ("no number", {"flags": socket.AI_NUMERICHOST}),
    ],
)
def test_getaddrinfo_of_a_bad_name_raises_gaierror(loop, host, options):
    with pytest.raises(socket.gaierror) as expected:
        socket.getaddrinfo(host, 80, **options)
    with pytest.raises(socket.gaierror) as got:
        run(loop, loop.getaddrinfo(host, 80, **options))
    assert got.value.errno == expected.value.errno


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({}, "127.0.0.1:80"),
        (
            {"family": socket.AF_INET, "type": socket.SOCK_STREAM, "proto": 6, "flags": 4},
            f"127.0.0.1:80, family={socket.AF_INET!r}, type={socket.SOCK_STREAM!r}, proto=6,"
            " flags=4",
        ),
    ],
)
def test_getaddrinfo_in_debug_mode_tells_the_log_how_long_it_took(
    loop, caplog, options, what, slow
):
    loop.set_debug(True)
    if slow:
        loop.slow_callback_duration = 0
    with caplog.at_level(logging.DEBUG, logger="asyncio"):
        infos = run(loop, loop.getaddrinfo("127.0.0.1", 80, **options))
    assert infos == socket.getaddrinfo("127.0.0.1", 80, **options)
    asked, told = (each for each in caplog.records if "ddress info" in each.getMessage())
    assert asked.getMessage() == f"Get address info {what}"
    text = rf"Getting address info {re.escape(what)} took \d+\.\d{{3}}ms: {re.escape(repr(infos))}"
    assert re.fullmatch(text, told.getMessage())
    assert (asked.levelno, told.levelno) == (logging.DEBUG, logging.INFO if slow else logging.DEBUG)


@pytest.mark.parametrize("host", [5, 1.5, ["127.0.0.1"]])
def test_getaddrinfo_of_a_host_of_a_wrong_type_raises_type_error(loop, host):
    with pytest.raises(TypeError):
        run(loop, loop.getaddrinfo(host, 80))


@pytest.mark.parametrize(
    "address, flags",
    [
        (("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
        (("127.0.0.1", 80), socket.NI_NUMERICHOST),
        (("::1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
        (("::1", 443, 0, 0), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
        (("fe80::1", 443, 0, 1), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
    ],
)
def test_getnameinfo_answers_as_the_socket_module(loop, address, flags):
    assert run(loop, loop.getnameinfo(address, flags)) == socket.getnameinfo(address, flags)


@pytest.mark.parametrize("address", [(), ("127.0.0.1",), ("127.0.0.1", "80"), 5, "127.0.0.1"])
def test_getnameinfo_of_a_bad_address_raises_what_the_socket_module_raises(loop, address):
    flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    with pytest.raises(Exception) as expected:
        socket.getnameinfo(address, flags)
    with pytest.raises(type(expected.value)):
        run(loop, loop.getnameinfo(address, flags))


def test_getaddrinfo_many_at_once_all_answer(loop):
    async def main():
        return await asyncio.gather(
            *(loop.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM) for port in range(50))
        )

    answers = run(loop, main())
    assert [answer[0][4] for answer in answers] == [("127.0.0.1", port) for port in range(50)]
