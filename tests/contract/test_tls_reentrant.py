"""TLS protocols that act on their transport from inside of a callback, and what comes of it.

Each callback with each action, on the loop under test and on stock asyncio in the same test: calls,
exceptions, what the handler was told and what the peer got must be the same.
"""

import asyncio
import contextlib
import logging
import ssl

import pytest
from harness import BufferedRecorder, Recorder, iterations, run
from tls_peer import tls_attached

ONE, TWO = b"one" * 10, b"two" * 10


class Acting:
    """Acts once, at the end of the callback called `at`."""

    def __init__(self, at, action):
        super().__init__()
        self.at = at
        self.action = action
        self.acted = False

    def _act(self, name):
        if name == self.at and not self.acted:
            self.acted = True
            self._condition.changed()
            self.action(self)

    def _note(self, name):
        super()._note(name)
        self._act(name)


class ActingRecorder(Acting, Recorder):
    pass


class ActingBuffered(Acting, BufferedRecorder):
    def __init__(self, at, action):
        super().__init__(at, action)
        self.buffer = memoryview(bytearray(1 << 16))

    def get_buffer(self, sizehint):
        buffer = super().get_buffer(sizehint)
        self._act("get_buffer")
        return buffer


class Wrong(Exception):
    """What a callback raises."""


def raising(error):
    def action(protocol):
        raise error("on purpose")

    return action


def pausing(protocol):
    transport = protocol.transport
    transport.pause_reading()
    asyncio.get_running_loop().call_later(0.001, transport.resume_reading)


def pausing_for_no_time(protocol):
    protocol.transport.pause_reading()
    protocol.transport.resume_reading()


def writing(protocol):
    protocol.transport.write(b"answer")


def writing_and_closing(protocol):
    protocol.transport.write(b"answer")
    protocol.transport.close()


def closing_twice(protocol):
    protocol.transport.close()
    protocol.transport.abort()


def writing_lines(protocol):
    protocol.transport.writelines([b"a", b"nsw", b"er"])


def switching(kind):
    """To a new protocol of another kind, which notes for the first."""

    def action(protocol):
        transport = protocol.transport
        second = kind("never", None)
        second.transport = transport
        second.calls = protocol.calls
        second.data = protocol.data
        second._condition = protocol._condition
        protocol.second = second
        transport.set_protocol(second)

    return action


def closing(protocol):
    protocol.transport.close()


def aborting(protocol):
    protocol.transport.abort()


def asking(protocol):
    transport = protocol.transport
    assert transport.get_extra_info("ssl_object").version() == "TLSv1.3"
    assert not transport.is_closing() or protocol.at in ("eof_received", "connection_lost")
    transport.get_write_buffer_size()
    transport.get_write_buffer_limits()


def limiting(protocol):
    protocol.transport.set_write_buffer_limits(high=0)
    protocol.transport.write(b"answer")


ACTIONS = {
    "nothing": lambda protocol: None,
    "ask": asking,
    "write": writing,
    "writelines": writing_lines,
    "limit": limiting,
    "close": closing,
    "abort": aborting,
    "close and abort": closing_twice,
    "write and close": writing_and_closing,
    "pause": pausing,
    "pause for no time": pausing_for_no_time,
    "become plain": switching(ActingRecorder),
    "become buffered": switching(ActingBuffered),
    "raise": raising(Wrong),
    "raise an OSError": raising(OSError),
}
PLACES = {
    ActingRecorder: ["connection_made", "data_received", "eof_received", "connection_lost"],
    ActingBuffered: ["get_buffer", "buffer_updated", "eof_received"],
}
# Once the connection is lost there is nothing to act on.
LATE = ["nothing", "ask", "write", "close", "abort", "raise", "raise an OSError"]


async def played(loop, certificates, protocol, server_side):
    """What happened, as far as it is the same each time."""
    peers = b""
    made = True
    told = []
    before = loop._exception_handler
    loop.set_exception_handler(
        lambda _, context: told.append((context["message"], type(context.get("exception"))))
    )
    try:
        options = {"server_side": server_side, "version": ssl.TLSVersion.TLSv1_3}
        async with tls_attached(certificates, protocol, **options) as (transport, _, peer):
            with contextlib.suppress(OSError):
                if protocol.at == "eof_received":
                    transport.write(b"early")
                    peers += await peer.recv_exactly(5)
                await peer.send_all(ONE)
                await protocol.until(
                    lambda: len(protocol.data) == len(ONE) or transport.is_closing()
                )
                if not transport.is_closing():
                    # In a turn of its own, and then as the last thing before the end.
                    await peer.send_all(TWO)
                    await protocol.until(
                        lambda: len(protocol.data) == len(ONE + TWO) or transport.is_closing()
                    )
                await iterations(3)
                await peer.notify()
            await protocol.until_called("connection_lost")
            with contextlib.suppress(OSError):
                peers += await peer.recv_all()
    except (Wrong, OSError) as error:
        made = type(error)
    await iterations(5)
    loop.set_exception_handler(before)
    owner = getattr(protocol, "second", protocol)
    calls = [name for n, name in enumerate(protocol.calls) if protocol.calls[n - 1 : n] != [name]]
    return {
        "made": made,
        "acted": protocol.acted,
        "calls": calls,
        "data": bytes(protocol.data),
        "lost": type(owner.lost),
        "told": told,
        "peer": peers,
    }


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
@pytest.mark.parametrize(
    "kind, at, action",
    [
        (kind, at, action)
        for kind, places in PLACES.items()
        for at in places
        for action in (LATE if at == "connection_lost" else ACTIONS)
    ],
)
def test_tls_protocol_that_acts_in_a_callback_gets_what_stock_asyncio_gives(
    loop, certificates, kind, at, action, server_side
):
    def play(on):
        protocol = kind(at, ACTIONS[action])
        return run(on, played(on, certificates, protocol, server_side))

    stock = asyncio.SelectorEventLoop()
    try:
        expected = play(stock)
    finally:
        stock.close()
    assert expected["acted"]
    assert play(loop) == expected


@pytest.mark.parametrize("name", ["_app_protocol_get_buffer", "_app_protocol_buffer_updated"])
def test_tls_private_attribute_that_is_gone_ends_the_connection_with_an_attribute_error(
    loop, certificates, errors, name
):
    async def main():
        async with tls_attached(certificates, BufferedRecorder()) as (transport, protocol, peer):
            delattr(transport._ssl_protocol, name)
            await peer.send_all(b"data")
            await protocol.until_lost()
            assert isinstance(protocol.lost, AttributeError)
            assert [type(context["exception"]) for context in errors] == [AttributeError]
            errors.clear()

    run(loop, main())


class Heard(logging.Handler):
    """Acts, once, when a transport's fatal error is logged."""

    def __init__(self, act):
        super().__init__(logging.DEBUG)
        self.act = act
        self.acted = False

    def handle(self, record):
        if record.exc_info and not self.acted:
            self.acted = True
            self.act()


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
@pytest.mark.parametrize("action", ["pause_reading", "abort", "interrupt"])
def test_tls_connection_that_is_stopped_by_the_log_of_its_failed_write_delivers_nothing(
    loop, certificates, kind, action
):
    """Written in the turn that brings data, so that it is encrypted first: OpenSSL refuses it."""
    logger = logging.getLogger("asyncio")
    level = logger.level

    def act():
        if action == "interrupt":
            raise KeyboardInterrupt
        getattr(protocol.transport, action)()

    protocol, handler = kind(), Heard(act)

    async def main():
        async with tls_attached(certificates, protocol) as (transport, _, peer):
            loop.set_debug(True)
            await peer.send_all(b"data")
            with contextlib.suppress(ssl.SSLWantReadError):
                transport.get_extra_info("ssl_object").unwrap()
            await asyncio.sleep(0)
            transport.write(b"too late")
            await protocol.until_lost()

    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        if action == "interrupt":
            task = loop.create_task(main())
            with pytest.raises(KeyboardInterrupt):
                loop.run_until_complete(task)
            if task.done():
                # Where it was raised by write().
                assert isinstance(task.exception(), KeyboardInterrupt)
                run(loop, protocol.until_lost())
            else:
                run(loop, task)
        else:
            run(loop, main())
    finally:
        loop.set_debug(False)
        logger.setLevel(level)
        logger.removeHandler(handler)
    assert handler.acted
    assert protocol.data == b""
    assert protocol.calls.count("connection_lost") == 1


def test_two_connections_one_within_the_other_get_each_what_is_its(loop, certificates):
    """Whoever runs the loop's handles by hand: the memory that both receive into is the loop's."""

    def run_deliveries():
        for handle in list(loop._ready):
            if getattr(handle._callback, "__name__", None) == "_deliver_held_back":
                handle._run()

    class Outer(Recorder):
        def data_received(self, data):
            inner_below.resume_reading()
            run_deliveries()
            super().data_received(data)

    async def main():
        nonlocal inner_below
        async with (
            tls_attached(certificates, Outer()) as (outer, outer_protocol, outer_peer),
            tls_attached(certificates) as (inner, inner_protocol, inner_peer),
        ):
            below = outer._ssl_protocol._transport
            inner_below = inner._ssl_protocol._transport
            for transport in (below, inner_below):
                transport.pause_reading()
            # Read when reading goes on, not before.
            await iterations(3)
            await outer_peer.send_all(b"outer" * 1000)
            await inner_peer.send_all(b"inner" * 1000)
            await iterations(3)
            below.resume_reading()
            await outer_protocol.until_size(5000)
            await inner_protocol.until_size(5000)
            assert outer_protocol.data == b"outer" * 1000
            assert inner_protocol.data == b"inner" * 1000
            await outer_peer.send_all(b"again")
            await outer_protocol.until_size(5005)

    inner_below = None
    run(loop, main())
