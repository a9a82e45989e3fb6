"""Hostile callers: Python that comes back from a call out; threads, forks, loops dropped.

CONTRIBUTING.md says what a call out is. PLACES are the kinds that a program can strike from;
tests/test_calls_out.py derives from the C sources which CPython functions call out, and holds
that each belongs to one of these places.
"""

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
import warnings
import weakref

from hostile_callables import Nothing, at_end

PLACES = (
    "del",  # a reference that may be the last one is dropped
    "repr",
    "buffer",  # __buffer__, Python 3.12
    "lines",  # an iterator's __next__
    "length",  # __len__, __bool__, __index__ of an argument
    "weakref",
    "handler",  # the exception handler
    "time",  # an overridden time()
    "unraisable",  # sys.unraisablehook
    "warning",  # warnings.showwarning
    "log",  # a handler of the logger
    "audit",  # a hook of sys.addaudithook
    "collector",  # gc.callbacks: where memory of the collector's is allocated
)

# The places that are in a method of the transport itself.
OF_TRANSPORT = {"lines", "buffer", "log"}

_audits = []


def _audit(event, arguments):
    if _audits and not event.startswith(("os.", "fcntl")):
        _audits.pop()()


class Planned(Exception):
    """What a program raises on purpose."""


class Shouting(logging.Handler):
    """Comes back from the next log line."""

    def __init__(self, strike):
        super().__init__()
        self.strike = strike

    def emit(self, record):
        logging.getLogger("asyncio").removeHandler(self)
        self.strike()


class Hostile:
    """The steps; a base of world.World."""

    def do_hostile(self, number, place, action):
        """The next call out to that place does `action` to the transport.

        In which turn a connection is told to be lost is a race. So only what is done to it waits
        for that: a place that calls no method of the transport comes in any case, with its timer.
        """
        line = self.lines[number]
        if place in OF_TRANSPORT and not self.strikable(line):
            return

        def strike():
            with contextlib.suppress(Planned):
                if self.strikable(line):
                    self.react(number, action)

        getattr(self, f"from_{place}")(number, line, strike)

    def strikable(self, line):
        return self.usable(line) and not line.eof_written

    def from_del(self, number, line, strike):
        self.loop.call_soon(at_end(strike))
        self.loop.call_later(10, at_end(strike)).cancel()
        if self.is_watched:
            # What a watch replaces is freed in the middle of add_reader().
            self.loop.add_reader(self.watched, at_end(strike))
            self.loop.add_reader(self.watched, self.watch_ready)

    def from_repr(self, number, line, strike):
        repr(self.loop.call_soon(at_end(strike), at_end(strike)))

    def from_weakref(self, number, line, strike):
        target = Nothing()
        self.kept.append(weakref.ref(target, lambda _: strike()))
        self.loop.call_soon(target)

    def from_handler(self, number, line, strike):
        self.hostile_handlers.append(strike)
        self.loop.call_soon(self.raises)

    def raises(self):
        raise Planned

    def from_lines(self, number, line, strike):
        line.clean = False

        def lines():
            yield b""
            strike()
            yield b""

        line.transport.writelines(lines())

    def from_buffer(self, number, line, strike):
        if sys.version_info < (3, 12):
            return
        line.clean = False

        class Data:
            def __buffer__(self, flags):
                strike()
                return memoryview(b"")

        line.transport.write(Data())

    def from_length(self, number, line, strike):
        class Number(float):
            def __float__(self):
                strike()
                return 0.0

            def __add__(self, other):
                strike()
                return float(other)

            __radd__ = __add__

            def __lt__(self, other):
                strike()
                return False

        self.timers[0] += 1
        self.loop.call_later(Number(0), self.timer, "note")

    def from_time(self, number, line, strike):
        own = type(self.loop).time

        def time():
            # Once: it would end in itself.
            self.loop.__dict__.pop("time", None)
            strike()
            return own(self.loop)

        self.loop.time = time
        self.timers[0] += 1
        self.loop.call_later(0, self.timer, "note")

    def from_unraisable(self, number, line, strike):
        before = sys.unraisablehook

        class Falls:
            def __call__(self):
                pass

            def __del__(self):
                raise Planned

        def hook(unraisable):
            sys.unraisablehook = before
            strike()

        sys.unraisablehook = hook
        self.loop.call_soon(Falls())

    def from_warning(self, number, line, strike):
        before = warnings.showwarning

        def show(*arguments, **options):
            warnings.showwarning = before
            strike()

        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = show
            one, other = socket.socketpair()
            del one
            other.close()
        warnings.showwarning = before

    def from_log(self, number, line, strike):
        logger = logging.getLogger("asyncio")
        logging.disable(logging.NOTSET)
        level = logger.level
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        handler = Shouting(strike)
        logger.addHandler(handler)
        debug = self.loop.get_debug()
        try:
            self.loop.set_debug(True)
            line.transport.pause_reading()
            line.note.resumed = True
            line.transport.resume_reading()
            if line.note.read_paused and self.usable(line):
                line.transport.pause_reading()
        finally:
            self.loop.set_debug(debug)
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = True
            logging.disable()

    def from_audit(self, number, line, strike):
        if not self.hooked:
            type(self).hooked = True
            sys.addaudithook(_audit)
        _audits.append(strike)
        try:
            self.endpoint.sendto(b"audited", None)
            self.datagrams_sent.append(b"audited")
        finally:
            _audits.clear()

    hooked = False

    def from_collector(self, number, line, strike):
        def collected(phase, info):
            gc.callbacks.remove(collected)
            strike()

        gc.callbacks.append(collected)
        gc.collect()

    # ---- threads, forks, loops dropped ----

    def do_elsewhere(self, number, action):
        """Another thread does it while the loop goes on."""
        line = self.lines[number]
        line.clean = False
        if not self.usable(line):
            return

        def work():
            # asyncio's debug mode, and what the program had closed meanwhile, may refuse it.
            with contextlib.suppress(Exception):
                self.react(number, action)

        if action == "write" and self.tls is not None:
            # Handed over to the loop's thread: what that writes meanwhile is sent before.
            action = "pause"
        thread = threading.Thread(target=work)
        thread.start()
        if action == "write":
            # Two threads that write at once have no order.
            thread.join()
        self.loop.call_soon(thread.join)

    def do_fork(self, number, action):
        """A child uses, closes or collects what it inherited; the parent goes on unharmed."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(60)
            with contextlib.suppress(BaseException):
                self.in_child(number, action)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if os.waitstatus_to_exitcode(status) != 0:
            self.wrong(f"a child that was to {action} ended with {status}")

    def in_child(self, number, action):
        transport = self.lines[number].transport
        if action == "use":
            transport.pause_reading()
            self.loop.call_soon(Nothing())
            transport.get_write_buffer_size()
            self.loop.remove_reader(self.watched)
        elif action == "close":
            transport.abort()
            self.loop.stop()
        else:
            self.lines.clear()
            del transport
            gc.collect()

    def do_drop(self, number, action):
        """A loop with work is dropped unclosed; what dies with it strikes."""
        line = self.lines[number]

        def strike():
            with contextlib.suppress(Planned):
                if self.strikable(line):
                    self.react(number, action)

        if self.restore is not None:
            return
        loop = type(self.loop)()
        loop.call_soon(at_end(strike))
        loop.call_later(10, at_end(strike))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one, other = socket.socketpair()
            with one, other:
                loop.add_reader(one, at_end(strike))
                del loop
                gc.collect()
