"""Addresses packed and unpacked by us mean what they mean to the socket module."""

import ipaddress
import socket
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uring_loop._internal import addresses

ports = st.integers(0, 65535)


@given(st.ip_addresses(v=4), ports)
def test_ipv4_address_packed_and_unpacked_is_the_same(host, port):
    raw = addresses.encode(socket.AF_INET, (str(host), port))
    assert len(raw) == 16
    assert addresses.decode(raw) == (str(host), port)


@given(st.ip_addresses(v=6), ports, st.integers(0, 2**20 - 1), st.integers(0, 2**32 - 1))
def test_ipv6_address_packed_and_unpacked_is_the_same(host, port, flow, scope):
    raw = addresses.encode(socket.AF_INET6, (str(host), port, flow, scope))
    assert len(raw) == 28
    name, *rest = addresses.decode(raw)
    assert ipaddress.ip_address(name) == host
    assert rest == [port, flow, scope]


def test_ipv6_zone_in_the_host_is_left_to_the_scope():
    assert addresses.encode(socket.AF_INET6, ("fe80::1%lo", 80, 0, 1)) == addresses.encode(
        socket.AF_INET6, ("fe80::1", 80, 0, 1)
    )


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (socket.AF_INET, ("localhost", 80)),
        (socket.AF_INET, ("127.0.0.1", 65536)),
        (socket.AF_INET, ("127.0.0.1", "80")),
        (socket.AF_INET, ("127.0.0.1",)),
        (socket.AF_INET6, ("127.0.0.1", 80)),
        (socket.AF_INET6, ("::1", 80, 1 << 20, 0)),
        (socket.AF_UNIX, ("/tmp/x", 80)),
    ],
)
def test_address_that_is_none_is_refused(family, address):
    with pytest.raises((AttributeError, OSError, OverflowError, TypeError, ValueError)):
        addresses.encode(family, address)


@pytest.mark.parametrize(
    ("raw", "name"),
    [(b"", ""), (b"/tmp/a\0", "/tmp/a"), (b"/tmp/a", "/tmp/a"), (b"\0abstract", b"\0abstract")],
)
def test_unix_name_unpacked_is_the_socket_modules(raw, name):
    family = socket.AF_UNIX.to_bytes(2, sys.byteorder)
    assert addresses.decode(family + raw) == name


def test_address_of_an_unknown_family_is_a_key_error():
    with pytest.raises(KeyError):
        addresses.decode(b"\xff\xff" + bytes(14))
