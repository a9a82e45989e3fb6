"""What the core's own functions of sockets, watches, streams and TLS say to wrong arguments.

Python's half calls them with others; a slip there must not become a crash.
"""

import asyncio
import select
import socket
import ssl

import pytest

import uring_loop
from uring_loop import _core
from uring_loop._internal import tls_records
from uring_loop._internal.tls_protocol import SSLProtocolState

READER = asyncio.StreamReader


class NoSlot:
    _ssl_protocol = None


class NoProtocol:
    pass


@pytest.fixture
def loop():
    loop = uring_loop.EventLoop(driver="selector")
    yield loop
    loop.close()


def closed_socket():
    sock = socket.socket()
    sock.close()
    return sock


def poll(loop, **keywords):
    return _core.Poll(loop, 0, select.POLLIN, print, **keywords)


def bios():
    return ssl.MemoryBIO(), ssl.MemoryBIO()


def ssl_object(*buffers):
    return ssl.create_default_context().wrap_bio(*buffers, server_hostname="server.test")


@pytest.fixture
def native():
    """OpenSSL was found, as the first connection has it found."""
    reason = tls_records.why_not_native()
    if reason is not None:
        pytest.skip(reason)


def tls_classes(transport):
    states = SSLProtocolState.WRAPPED, SSLProtocolState.FLUSHING
    return _core.tls_set_classes(transport, *states)


def stream_class(asyncio_class, sample, names=(), state=(), usual=0):
    return _core.set_stream_class(asyncio_class, sample, names, state, usual)


REFUSED = {
    "add_reader without a callback": (lambda loop: loop._add_reader(0), TypeError),
    "add_writer of nothing": (lambda loop: loop._add_writer(), TypeError),
    "watch_again of no number": (lambda loop: loop._watch_again("0"), TypeError),
    "poll of keywords": (lambda loop: poll(loop, fd=0), TypeError),
    "poll of no loop": (lambda loop: poll(None), TypeError),
    "receive of one argument": (lambda loop: loop._sock_receive(1), TypeError),
    "send of one argument": (lambda loop: loop._sock_send(1), TypeError),
    "wait of one argument": (lambda loop: loop._sock_wait(1), TypeError),
    "wait in no direction": (lambda loop: loop._sock_wait(socket.socket, 1), TypeError),
    "waited of one argument": (lambda loop: loop._sock_is_waited(1), TypeError),
    "wait of a closed socket": (lambda loop: loop._sock_wait(closed_socket(), False), OSError),
    "method of no class": (lambda loop: _core.StreamMethod(1, "read"), TypeError),
    "method that is Python's": (lambda loop: _core.StreamMethod(READER, "at_eof"), ValueError),
    "method of another class": (lambda loop: _core.StreamMethod(int, "read"), AttributeError),
    "stream of one argument": (lambda loop: _core.adopt_stream(1), TypeError),
    "stream class of no type": (lambda loop: stream_class(1, READER(loop=loop)), TypeError),
    "stream class of another name": (lambda loop: stream_class(READER, NoSlot()), TypeError),
    "stream class without a method": (
        lambda loop: stream_class(READER, READER(loop=loop), ("no_such",)),
        AttributeError,
    ),
    "records of two arguments": (lambda loop: _core.Records()._open_records(1, 2), TypeError),
    "TLS classes of no class": (lambda loop: tls_classes(1), TypeError),
    "TLS class without a slot": (lambda loop: tls_classes(NoSlot), TypeError),
    "TLS class without a protocol": (lambda loop: tls_classes(NoProtocol), AttributeError),
}


@pytest.mark.parametrize("what", REFUSED)
def test_arguments_that_are_wrong_are_refused(loop, what):
    call, error = REFUSED[what]
    with pytest.raises(error):
        call(loop)


@pytest.mark.parametrize("size", [-1, 1 << 20, 1 << 80, "1"])
def test_arguments_of_a_wait_that_receives_are_a_size_that_was_waited_with(loop, size):
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        wait = loop._sock_receive(one, 10)
        with pytest.raises((ValueError, OverflowError, TypeError)):
            wait.recv(size)
        wait.leave()


def test_arguments_of_a_watch_that_was_never_made_watch_nothing(loop):
    for number in (-1, 1 << 20, 1 << 40):
        assert loop._watch_again(number) is None


def test_arguments_of_records_that_are_open_are_refused(native):
    records, buffers = _core.Records(), bios()
    tls = ssl_object(*buffers)
    own = records._open_records(tls._sslobj, *buffers)
    with pytest.raises(RuntimeError, match="called before"):
        records._open_records(tls._sslobj, *buffers)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    assert own[1].pending > 0


def test_arguments_that_are_not_the_records_own_open_none(native):
    buffers = bios()
    tls = ssl_object(*buffers)
    for socket_, incoming, outgoing in (
        (tls._sslobj, *bios()),
        (tls._sslobj, *reversed(buffers)),
        (object(), *buffers),
        (tls._sslobj, 1, 2),
    ):
        assert _core.Records()._open_records(socket_, incoming, outgoing) is None
    # And it is as it was.
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    assert buffers[1].pending > 0
