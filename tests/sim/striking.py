"""Hostile callers: Python that comes back from a call out of C, and what it does there.

A base of machine.Machine, so every machine has it. A machine says by `strikes()` what its user may
do at any moment, with its model told; here is from where that is done: out of each place that
tests/fuzz/hostile.py names, by another thread, in the child of a fork, at the end of a loop that
was dropped unclosed. Beside the machine's own there are strikes that belong to the loop: to raise,
to stop, to nest a run, to close it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import warnings
import weakref

from fake_driver import FakeDriver
from hostile_callables import Nothing, at_end
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from simulation import IORING_OP_READ, Planned, SimLoop

from uring_loop._internal.streams import StreamTransport

OF_LOOP = ("raise", "stop", "nest", "close the loop")
# A number chooses one of the machine's own.
anything = st.one_of(st.integers(0, 99), st.integers(0, 99), st.sampled_from(OF_LOOP))
CHILD_S = 60
# Of numbers below the machine may have closed some, and look whether they are.
UNUSED = 700

_audits = []
_hooked = False


def _audit(event, arguments):
    # Of the core; those of sockets that the simulation makes are none.
    if _audits and event in ("socket.sendto", "socket.sendmsg"):
        _audits.pop()()


class Shouting(logging.Handler):
    """Comes back from the next log line."""

    def __init__(self, strike):
        super().__init__()
        self.strike = strike

    def handleError(self, record):
        """Silent: what is raised here is raised on purpose."""

    def emit(self, record):
        logging.getLogger("asyncio").removeHandler(self)
        with contextlib.suppress(Planned):
            self.strike()


def strikes_by(**drawn):
    """A rule of programs whose callers are hostile."""

    def decorated(function):
        return rule(**drawn)(precondition(lambda self: self.is_hostile)(function))

    return decorated


class Striking:
    """The rules; `era` tells those that are still to come from what has been called off.

    Half of the programs have none of them: so many rules leave little of what comes between.
    """

    era = 0
    is_child = False
    is_hostile = False

    @initialize(is_hostile=st.booleans())
    def choose_callers(self, is_hostile):
        self.is_hostile = is_hostile

    def strikes(self):
        """What the user may do at any moment: functions."""
        return []

    def child_strikes(self):
        """The same of a child, for what it writes or shuts down its parent's peer sees too."""
        return self.strikes()

    def transports(self):
        """Those whose methods call out: [(transport, may it be written to)]."""
        return []

    def call_off(self):
        """No strike that is still to come does anything."""
        self.era += 1
        self.sim.loop.strike_from_handler = self.sim.loop.strike_from_time = None
        # Called outside a run, it would shorten the next.
        self.sim.loop._stopping = False
        _audits.clear()

    def striking(self, what):
        """The function that does it, once, unless it was called off."""
        left, era = [what], self.era

        def strike():
            # Of a loop that has been closed the end of everything is heard, too.
            if left and era == self.era and not self.sim.loop.is_closed():
                self.strike(left.pop())

        return strike

    def strike(self, what):
        loop = self.sim.loop
        if what == "raise":
            raise Planned
        if what == "stop":
            loop.stop()
        elif what == "nest":
            if loop.is_running():
                self.refused(loop._run)
        elif what == "close the loop":
            if loop.is_running():
                self.refused(loop._close)
        else:
            own = self.child_strikes() if self.is_child else self.strikes()
            if own:
                own[what % len(own)]()

    def refused(self, method):
        try:
            method()
        except RuntimeError:
            return
        self.driver.violation(f"{method.__name__}() was not refused in a run")

    # ---- places ----

    @strikes_by(what=anything, inside=st.booleans(), cancelled=st.booleans())
    def strike_from_del(self, what, inside, cancelled):
        strike = self.striking(what)

        def place():
            if cancelled:
                self.sim.loop.call_later(10, at_end(strike)).cancel()
            else:
                self.sim.loop.call_soon(at_end(strike))

        self.perform(inside, place)

    @strikes_by(what=anything, inside=st.booleans())
    def strike_from_repr(self, what, inside):
        strike = self.striking(what)

        def place():
            with contextlib.suppress(Planned):
                repr(self.sim.loop.call_soon(print_nothing, at_end(strike)))

        self.perform(inside, place)

    @strikes_by(what=anything)
    def strike_from_weakref(self, what):
        strike = self.striking(what)
        target = Nothing()
        self.kept.append(weakref.ref(target, lambda _: strike()))
        self.sim.loop.call_soon(target)

    @strikes_by(what=anything)
    def strike_from_handler(self, what):
        self.sim.loop.strike_from_handler = self.striking(what)
        self.sim.loop.call_soon(raises)

    @strikes_by(what=anything)
    def strike_from_time(self, what):
        """Of the loop's own turn: for how long may it sleep?"""
        self.sim.loop.strike_from_time = None
        self.sim.loop.call_later(0, Nothing())
        self.sim.loop.strike_from_time = self.striking(what)

    @strikes_by(what=anything, inside=st.booleans())
    def strike_from_length(self, what, inside):
        strike = self.striking(what)

        class Number(float):
            def __float__(self):
                strike()
                return 0.0

            def __add__(self, other):
                strike()
                return float(other)

            __radd__ = __add__

        def place():
            with contextlib.suppress(Planned):
                self.sim.loop.call_later(Number(0), Nothing())

        self.perform(inside, place)

    @strikes_by(what=anything)
    def strike_from_unraisable(self, what):
        strike = self.striking(what)

        class Falls(Nothing):
            def __del__(self):
                raise Planned

        self.strike_from_hook = strike
        self.sim.loop.call_soon(Falls())

    @strikes_by(what=anything, inside=st.booleans())
    def strike_from_warning(self, what, inside):
        """A transport that nobody has closed is freed."""
        strike = self.striking(what)
        wire = self.sim.wire(UNUSED)
        held = [StreamTransport(self.sim.loop, wire.sock.detach(), asyncio.Protocol())]
        # Reading would hold it, and so does a pause until the turn's end.
        self.turns(1)
        held[0].pause_reading()
        self.turns(2)

        def place():
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.showwarning = lambda *arguments, **options: strike()
                held.clear()

        self.perform(inside, place)

    @strikes_by(what=anything, inside=st.booleans(), after=st.integers(1, 4))
    def strike_from_collector(self, what, inside, after):
        """In the middle of an allocation, or of a collection that was asked for."""
        strike = self.striking(what)
        left = after

        def collected(phase, info):
            nonlocal left
            left -= 1
            if left == 0:
                gc.callbacks.remove(collected)
                with contextlib.suppress(Planned):
                    strike()

        def place():
            gc.collect(0)

        gc.callbacks.append(collected)
        before = gc.get_threshold()
        gc.set_threshold(1)
        try:
            self.perform(inside, place)
            self.turns(1)
        finally:
            gc.set_threshold(*before)
            if collected in gc.callbacks:
                gc.callbacks.remove(collected)

    @strikes_by(what=st.integers(0, 99), index=st.integers(0, 3), inside=st.booleans())
    def strike_from_lines(self, what, index, inside):
        self.perform(inside, self.write_hostile, self.striking(what), index, "lines")

    @strikes_by(what=st.integers(0, 99), index=st.integers(0, 3), inside=st.booleans())
    def strike_from_buffer(self, what, index, inside):
        if sys.version_info >= (3, 12):
            self.perform(inside, self.write_hostile, self.striking(what), index, "buffer")

    def write_hostile(self, strike, index, place):
        """Of no bytes, so that the model needs to know nothing."""

        def lines():
            yield b""
            strike()
            yield b""

        class Data(bytearray):
            def __buffer__(self, flags):
                strike()
                return memoryview(b"")

        usable = [transport for transport, writable in self.transports() if writable]
        if not usable:
            return
        transport = usable[index % len(usable)]
        # What it was made to refuse meanwhile is refused.
        with contextlib.suppress(RuntimeError):
            if place == "lines":
                transport.writelines(lines())
            else:
                transport.write(Data(b"of these none is shown"))

    @strikes_by(what=anything, index=st.integers(0, 3), inside=st.booleans())
    def strike_from_log(self, what, index, inside):
        """Debug mode tells of a pause."""
        handler = Shouting(self.striking(what))

        def place():
            known = [transport for transport, _ in self.transports()]
            if not known:
                return
            logger = logging.getLogger("asyncio")
            level, logger.disabled, logger.propagate = logger.level, False, False
            logger.setLevel(logging.DEBUG)
            logger.addHandler(handler)
            debug, self.sim.loop._debug = self.sim.loop._debug, True
            try:
                repr(known[index % len(known)])
                known[index % len(known)].set_write_buffer_limits(high=65536)
                self.tell_in_debug(known[index % len(known)])
            finally:
                self.sim.loop._debug = debug
                logger.removeHandler(handler)
                logger.setLevel(level)
                logger.disabled, logger.propagate = True, True

        self.perform(inside, place)

    def tell_in_debug(self, transport):
        """Have the transport write a line to the log, if the machine knows how."""

    @strikes_by(what=anything)
    def strike_from_audit(self, what):
        global _hooked
        if not _hooked:
            _hooked = True
            sys.addaudithook(_audit)
        strike = self.striking(what)

        def quietly():
            with contextlib.suppress(Planned):
                strike()

        _audits[:] = [quietly]

    # ---- threads, forks, loops dropped ----

    @strikes_by(what=anything, inside=st.booleans())
    def strike_in_thread(self, what, inside):
        """Another thread does it, while the loop's is in a callback."""
        if what in ("nest", "close the loop"):
            return
        strike = self.striking(what)
        raised = []

        def work():
            try:
                strike()
            except Planned:
                pass
            except Exception as error:
                raised.append(error)

        def place():
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()

        self.perform(inside, place)
        assert not raised, raised

    @strikes_by(
        what=anything, inside=st.booleans(), then=st.sampled_from(["go", "collect", "close"])
    )
    def strike_in_child(self, what, inside, then):
        """The child of a fork does it, and more; the parent goes on unharmed."""
        if self.forks >= 2:
            return
        self.forks += 1
        strike = self.striking(what)
        statuses = []

        def place():
            # As the loop does: what was written is in the kernel before a fork.
            self.sim.loop._send_queued()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pid = os.fork()
            if pid == 0:
                self.end_as_child(strike, then)
            statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

        self.perform(inside, place)
        assert not any(statuses), f"the child ended with {statuses}"

    def end_as_child(self, strike, then):
        status = 1
        self.is_child = True
        try:
            signal.alarm(CHILD_S)
            with contextlib.suppress(Planned):
                strike()
            if then == "collect":
                gc.collect()
            elif then == "close":
                if self.sim.loop.is_running():
                    self.refused(self.sim.loop._close)
                else:
                    self.sim.loop._close()
            status = 3 if self.driver.violations else 0
            for violation in self.driver.violations:
                os.write(2, f"in the child: {violation!r}\n".encode())
        finally:
            os._exit(status)

    @strikes_by(what=anything)
    def strike_from_dropped_loop(self, what):
        """A loop with work is dropped unclosed; what dies with it strikes."""
        strike = self.striking(what)
        driver = FakeDriver()
        driver.close = lambda: None
        loop = SimLoop(driver)
        loop.call_soon(at_end(strike))
        loop.call_later(10, at_end(strike))
        loop._request(at_end(strike), at_end(strike), (IORING_OP_READ, 3, 0, 0, 0, 0))
        wire = self.sim.wire(UNUSED)
        loop._add_reader(wire.fd, at_end(strike))
        del loop
        gc.collect()
        driver.check()
        assert driver.is_shut_down and driver.operations == {}
        driver.free()


def raises():
    raise Planned


def print_nothing(*ignored):
    pass
