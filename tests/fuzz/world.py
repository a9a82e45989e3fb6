"""Runs one program on one loop over real sockets, and says what must be the same on every loop.

The peers are plain sockets, moved by the program and by nobody else. After its steps the faults
stop: limits are lifted, peers read and send what they have, and everything must finish.

What is wrong whatever the loop (a byte that nobody sent, a call out of order, something that
never ends) is in `violations`; what is compared with other loops is in `outcome`.
"""

import asyncio
import contextlib
import errno
import os
import resource
import socket
import ssl
import struct
import tempfile
import threading
import time

from hostile import Hostile, Planned
from peers import Peer, tcp_pair, text
from pipe_ends import PipeEnds
from protocols import Buffered, Datagrams, Line, Plain, Streams


class World(Hostile, PipeEnds):
    """One run of one program."""

    def __init__(self, loop, program, contexts, files, patience_s):
        self.loop = loop
        self.patience_s = patience_s
        self.program = program
        self.tls = contexts if program["tls"] else None
        self.files = files
        self.violations = []
        self.raised = []  # (step's name, exception's type)
        self.handled = []  # of the exception handler
        self.compares_handled = True
        self.interrupts = 0
        self.tasks = []
        self.lines = []
        self.timers = [0, 0]
        self.steps = 0
        self.states = set()
        self.restore, self.short_for = None, 0
        self.hostile_handlers = []  # strikes that are to come from the exception handler
        self.kept = []
        self.is_over = False  # the faults have stopped

    def wrong(self, what):
        if what not in self.violations:
            self.violations.append(what)

    def ended_twice(self):
        """asyncio's transports call connection_lost() twice, who end in resume_writing()."""
        self.compares_handled = False

    # ---- from outside ----

    def run(self):
        """The outcome; KeyboardInterrupt out of callbacks ends a run, and the next goes on."""
        before = len(os.listdir("/proc/self/fd"))
        self.loop.set_exception_handler(self.handle)
        main = self.loop.create_task(self.main())
        while True:
            try:
                self.loop.run_until_complete(main)
                break
            except KeyboardInterrupt:
                self.interrupts += 1
            except RuntimeError as error:
                if "Event loop stopped" not in str(error):
                    raise
            if self.interrupts > 1000:
                self.wrong("an endless row of interrupts")
                break
        self.lift()
        for line in self.lines:
            line.peer.close()
        pending = asyncio.all_tasks(self.loop)
        if pending:
            self.wrong(f"tasks are left: {pending}")
        outcome = self.outcome()
        for _ in range(3):
            self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        after = len(os.listdir("/proc/self/fd"))
        # Its own few (epoll, ring, wake-ups) were there before, and have gone.
        if after > before:
            self.wrong(f"{after - before} descriptors are left")
        return outcome

    def handle(self, loop, context):
        error = context.get("exception")
        if isinstance(error, Planned) or error is None:
            pass
        elif not isinstance(error, (OSError, ssl.SSLError)):
            self.handled.append(type(error).__name__)
        if self.hostile_handlers:
            self.hostile_handlers.pop(0)()

    def outcome(self):
        lines = []
        for line in self.lines:
            note = line.note
            told = {"grammar": [note.calls[:1], note.calls[-1:]]}
            if line.clean:
                told["peer got"] = len(line.peer.received)
                told["lost with"] = type(note.lost_with).__name__
                told["eof"] = "eof_received" in note.calls
                told["pairs"] = note.write_paused
                told["reacted"] = sorted(note.reacted)
            lines.append(told)
        return {
            "lines": lines,
            "raised": self.raised,
            "handled": sorted(self.handled) if self.compares_handled else None,
            "pipe": self.pipe_outcome(),
            "timers": self.timers,
        }

    # ---- the program ----

    async def main(self):
        await self.set_up()
        for step in self.program["steps"]:
            name, *arguments = step
            self.steps += 1
            try:
                answer = getattr(self, f"do_{name}")(*arguments)
                if asyncio.iscoroutine(answer):
                    await answer
            except Planned:
                pass
            except KeyboardInterrupt:
                # Of a callback inside a call of ours. A task that ends in one ends the loop for
                # good, in asyncio too.
                self.interrupts += 1
            except Exception as error:
                line = self.lines[arguments[0]] if name in NAMING else None
                if line is None or line.clean:
                    self.raised.append((name, type(error).__name__))
            self.note_state(name)
            self.short_for -= 1
            if self.short_for < 0:
                self.lift()
        await self.quiet()

    def note_state(self, name):
        for line in self.lines:
            self.states.add(
                (
                    name,
                    line.note.calls[-1] if line.note.calls else "",
                    line.note.read_paused,
                    line.note.write_paused,
                    line.closed,
                    line.eof_written,
                    line.peer.closed,
                    line.peer.ended,
                    self.tls is not None,
                )
            )

    async def set_up(self):
        loop = self.loop
        self.directory = tempfile.TemporaryDirectory()
        for number, plan in enumerate(self.program["connections"]):
            self.lines.append(await self.connect(number, plan))
        self.plain, self.plain_peer = socket.socketpair()
        self.watched, self.watched_peer = socket.socketpair()
        for sock in (self.plain, self.plain_peer, self.watched, self.watched_peer):
            sock.setblocking(False)
        self.plain_got, self.plain_sent = bytearray(), 0
        self.plain_given, self.plain_taken = 0, bytearray()
        self.plain_receiver = self.plain_sender = None
        self.plain_is_clean = True
        self.watch_calls, self.is_watched = 0, False
        # The first watch of a loop on the ring needs a descriptor: DIFFERENCES.md.
        loop.add_reader(self.watched, self.watch_ready)
        loop.remove_reader(self.watched)
        ours, self.datagram_peer = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in "12")
        for sock in (ours, self.datagram_peer):
            # Without a name a socket is not connected, to asyncio.
            sock.bind("")
            sock.setblocking(False)
        ours.connect(self.datagram_peer.getsockname())
        self.datagram_peer.connect(ours.getsockname())
        self.datagrams_sent, self.datagrams_back, self.datagrams_seen = [], [], []
        self.endpoint, self.datagrams = await loop.create_datagram_endpoint(Datagrams, sock=ours)
        await self.set_up_pipe()
        self.file = None
        self.file_model, self.file_position, self.file_is_clean = bytearray(), 0, True
        self.file_task = None

    async def connect(self, number, plan):
        make = {"plain": Plain, "buffered": Buffered, "streams": Streams}[plan["protocol"]]
        protocol = make(self, number)
        kind, loop = plan["kind"], self.loop
        server_context, client_context = self.tls or (None, None)
        options = {"ssl": client_context, "server_hostname": "server.test"} if self.tls else {}
        server = None
        if kind in ("unix", "tcp"):
            ours, theirs = socket.socketpair() if kind == "unix" else tcp_pair()
            ours.setblocking(False)
            peer = Peer(theirs, server_context, True)
            made = loop.create_task(
                loop.create_connection(lambda: protocol, sock=ours, **options)
            )
        elif kind == "client":
            listener = socket.create_server(("127.0.0.1", 0))
            made = loop.create_task(
                loop.create_connection(lambda: protocol, *listener.getsockname(), **options)
            )
            await asyncio.sleep(0)
            listener.setblocking(False)
            theirs = await self.until(lambda: self.accepted(listener), "the client to come")
            listener.close()
            peer = Peer(theirs, server_context, True)
        else:
            server = await loop.create_server(
                lambda: protocol, "127.0.0.1", 0, ssl=server_context
            )
            theirs = socket.create_connection(server.sockets[0].getsockname())
            peer = Peer(theirs, client_context, False)
            made = loop.create_task(self.until(lambda: line.note.calls, "connection_made()"))
        line = Line(protocol, peer)
        if self.tls:
            await self.until(peer.shake, "the peer's handshake")
        await self.until(made.done, "the connection")
        made.result()
        if server is not None:
            server.close()
        line.transport = line.note.transport
        return line

    @staticmethod
    def accepted(listener):
        with contextlib.suppress(BlockingIOError):
            return listener.accept()[0]

    async def until(self, predicate, what):
        """Turns until it is true; a lost byte or wake-up shows by its never being so."""
        deadline = time.monotonic() + self.patience_s
        while not (found := predicate()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited in vain for {what}")
            await asyncio.sleep(0)
        return found

    # ---- steps: our side ----

    def react(self, number, action):
        line = self.lines[number]
        if self.is_over:
            return
        if action == "interrupt":
            # TLS of the standard library does not survive it; of ours it must.
            raise KeyboardInterrupt
        if action == "raise":
            line.clean = False
            raise Planned
        if action == "stop":
            self.loop.stop()
        elif action == "write":
            self.do_write(number, 100)
        else:
            getattr(self, f"do_{action}")(number)

    def usable(self, line):
        return not line.closed and "connection_lost" not in line.note.calls

    def do_write(self, number, size, mutable=False):
        line = self.lines[number]
        if self.usable(line) and not line.eof_written:
            data = text(line.written, size)
            line.written += len(data)
            line.transport.write(data)

    def do_writelines(self, number, sizes):
        line = self.lines[number]
        if self.usable(line) and not line.eof_written:
            data = text(line.written, sum(sizes))
            line.written += len(data)
            pieces, start = [], 0
            for size in sizes:
                pieces.append(data[start : start + size])
                start += size
            line.transport.writelines(pieces)

    def do_write_eof(self, number):
        line = self.lines[number]
        if self.usable(line) and not line.eof_written and line.transport.can_write_eof():
            line.eof_written = True
            line.transport.write_eof()

    def do_close(self, number):
        line = self.lines[number]
        line.closed = True
        unread = len(line.note.received) < line.peer.sent
        if line.note.read_paused or unread or not line.peer.ended:
            # What the peer still sends, or nobody has read, may end in a reset, which takes
            # bytes along.
            line.clean = False
        line.transport.close()

    def do_abort(self, number):
        line = self.lines[number]
        line.closed, line.clean = True, False
        line.transport.abort()

    def do_pause(self, number):
        line = self.lines[number]
        if self.usable(line) and line.reader() is None:
            line.note.read_paused = True
            line.transport.pause_reading()

    def do_resume(self, number):
        line = self.lines[number]
        if self.usable(line) and line.reader() is None:
            line.note.resumed |= line.note.read_paused
            line.note.read_paused = False
            line.transport.resume_reading()

    def do_limits(self, number, high):
        # asyncio's TLS pauses for good at 0, with nothing to send.
        self.lines[number].transport.set_write_buffer_limits(high=high or int(self.program["tls"]))

    def do_look(self, number):
        transport = self.lines[number].transport
        repr(transport)
        if transport.get_write_buffer_size() < 0:
            self.wrong("a write buffer of less than nothing")
        transport.is_closing()
        transport.get_extra_info("peername")

    def do_react(self, number, event, action):
        if action == "interrupt" and self.tls is not None:
            action = "stop"
        if event == "resume_writing" and action in ("close", "abort"):
            self.ended_twice()
        self.lines[number].note.reactions[event] = action

    def do_read(self, number, how, size):
        line = self.lines[number]
        if line.reader() is None:
            return
        if line.note.__dict__.get("reading") is not None and not line.note.reading.done():
            return
        line.note.reading = self.spawn(self.read(line, how, size))

    async def read(self, line, how, size):
        try:
            if how == "readline":
                line.note.received += await line.reader().readline()
            else:
                line.note.received += await getattr(line.reader(), how)(size)
        except asyncio.IncompleteReadError as error:
            line.note.received += error.partial
        except (OSError, Planned):
            # Of a protocol that raised: whether a read had begun by then is a race.
            line.clean = False

    def spawn(self, coroutine):
        task = self.loop.create_task(coroutine)
        self.tasks.append(task)
        return task

    def do_cancel(self, index):
        if self.tasks:
            self.tasks[index % len(self.tasks)].cancel()

    async def do_turns(self, count):
        for _ in range(count):
            for line in self.lines:
                line.peer.flush()
            await asyncio.sleep(0)

    # ---- steps: the peers and the faults ----

    def do_peer_send(self, number, size):
        self.lines[number].peer.send(size)

    def do_peer_read(self, number, size):
        self.lines[number].peer.read(size)

    def do_peer_eof(self, number):
        if self.tls is not None:
            # The end of one direction is the end of both.
            self.lines[number].clean = False
        self.lines[number].peer.end()
        self.lines[number].peer.finish_end()

    def do_peer_close(self, number):
        self.lines[number].clean = False
        self.lines[number].peer.close()

    def do_peer_reset(self, number):
        self.lines[number].clean = False
        self.lines[number].peer.close(reset=True)

    def do_replace(self, number):
        """The transport's number names another file from here on: somebody closed it."""
        line = self.lines[number]
        sock = line.transport.get_extra_info("socket")
        if sock is None or sock.fileno() < 0 or line.replaced or self.restore is not None:
            return
        line.clean, line.replaced = False, True
        other, end = socket.socketpair()
        with other, end:
            os.dup2(other.fileno(), sock.fileno(), inheritable=False)
        # The old file has gone, so the peer hears the end; the new one's is heard by us.

    def do_shortage(self, count):
        """No descriptor can be opened for so many steps."""
        if self.restore is None:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            self.restore = (soft, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            try:
                socket.socketpair()
            except OSError as error:
                if error.errno != errno.EMFILE:
                    raise
            self.short_for = count

    def lift(self):
        if self.restore is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, self.restore)
            self.restore = None

    # ---- steps: plain sockets, datagrams, files, timers, readers, threads ----

    def do_plain_recv(self, size):
        if self.plain_receiver is None or self.plain_receiver.done():
            self.plain_receiver = self.spawn(self.plain_receive(size))

    async def plain_receive(self, size):
        self.plain_got += await self.loop.sock_recv(self.plain, size)

    def do_plain_arrive(self, size):
        with contextlib.suppress(BlockingIOError):
            self.plain_sent += self.plain_peer.send(text(self.plain_sent, size))

    def do_plain_send(self, size):
        if self.plain_is_clean and (self.plain_sender is None or self.plain_sender.done()):
            self.plain_sender = self.spawn(self.plain_give(size))

    async def plain_give(self, size):
        data = text(self.plain_given, size)
        self.plain_given += len(data)
        try:
            await self.loop.sock_sendall(self.plain, data)
        except asyncio.CancelledError:
            self.plain_is_clean = False
            raise

    def plain_take(self):
        with contextlib.suppress(BlockingIOError):
            while data := self.plain_peer.recv(1 << 16):
                self.plain_taken += data

    def do_datagram(self, size, count):
        for _ in range(count):
            data = struct.pack("=I", len(self.datagrams_sent)) + bytes(size)
            self.datagrams_sent.append(data)
            self.endpoint.sendto(data)

    def do_datagram_back(self, size, count):
        for _ in range(count):
            data = struct.pack("=I", len(self.datagrams_back)) + bytes(size)
            with contextlib.suppress(BlockingIOError):
                self.datagram_peer.send(data)
                self.datagrams_back.append(data)

    def datagrams_take(self):
        with contextlib.suppress(BlockingIOError):
            while data := self.datagram_peer.recv(1 << 16):
                self.datagrams_seen.append(data)

    async def do_file(self, how, size):
        """One after another; what a cancelled write has done nobody knows."""
        if self.file_task is not None and not self.file_task.done():
            await asyncio.wait([self.file_task])
        if self.file_is_clean and self.restore is None:
            self.file_task = self.spawn(self.use_file(how, size))

    async def use_file(self, how, size):
        try:
            if self.file is None:
                name = os.path.join(self.directory.name, "file")
                self.file = await self.files.open(name, "w+b")
            if how == "write":
                data = text(self.file_position, size)
                await self.file.write(data)
                end = self.file_position + size
                if len(self.file_model) < end:
                    self.file_model += bytes(end - len(self.file_model))
                self.file_model[self.file_position : end] = data
                self.file_position = end
            elif how == "read":
                data = await self.file.read(size)
                expected = self.file_model[self.file_position : self.file_position + size]
                if data != expected:
                    self.wrong(f"a file gave {len(data)} bytes that are not what was written")
                self.file_position += len(data)
            elif how == "seek":
                self.file_position = size % (len(self.file_model) + 1)
                await self.file.seek(self.file_position)
            else:
                await self.file.truncate(size)
                if size < len(self.file_model):
                    del self.file_model[size:]
                else:
                    self.file_model += bytes(size - len(self.file_model))
        except (asyncio.CancelledError, OSError):
            self.file_is_clean = False
            raise

    def do_timer(self, delay, action):
        self.timers[0] += 1
        self.loop.call_later(delay, self.timer, action)

    def timer(self, action):
        self.timers[1] += 1
        if action == "raise":
            raise Planned
        if action == "interrupt":
            raise KeyboardInterrupt

    def do_watch(self, action):
        if action == "add":
            self.loop.add_reader(self.watched, self.watch_ready)
            self.is_watched = True
        elif action == "remove":
            if self.loop.remove_reader(self.watched) is not self.is_watched:
                self.wrong("remove_reader() does not know whether there was one")
            self.is_watched = False
        else:
            with contextlib.suppress(BlockingIOError):
                self.watched_peer.send(b"x")

    def watch_ready(self):
        if not self.is_watched:
            self.wrong("a reader was called after it was removed")
        with contextlib.suppress(BlockingIOError):
            self.watch_calls += len(self.watched.recv(100))

    def do_thread(self):
        """Another thread schedules: nothing of it is lost."""
        self.timers[0] += 3

        def work():
            for _ in range(3):
                self.loop.call_soon_threadsafe(self.timer, "note")

        thread = threading.Thread(target=work)
        thread.start()
        self.loop.call_soon(thread.join)

    # ---- the end: no faults any more ----

    def settle(self):
        """One round of what peers without faults do."""
        for line in self.lines:
            line.peer.flush()
            line.peer.finish_end()
            while line.peer.read(1 << 18):
                pass
            if line.peer.eof and line.peer.tls is not None:
                # The answer to close_notify, which asyncio waits for.
                line.peer.end()
        self.plain_take()
        self.datagrams_take()

    async def quiet(self):
        """Everything finishes: or it is a violation."""
        # Whether a step that waited for a thread has let them run already is a race.
        await asyncio.sleep(0)
        self.is_over = True
        self.hostile_handlers.clear()
        self.lift()
        for line in self.lines:
            line.note.reactions.clear()
            if line.note.read_paused and self.usable(line):
                self.do_resume(self.lines.index(line))
            if line.note.__dict__.get("reading") is not None:
                line.note.reading.cancel()
            if line.replaced:
                # epoll has forgotten the file: only who aborts can hear of the end.
                with contextlib.suppress(Exception):
                    line.transport.abort()
        self.do_watch("remove")

        def rested():
            self.settle()
            return all(self.arrived(line) for line in self.lines)

        await self.finally_(rested, "the bytes of connections")
        for task in self.tasks:
            if task is not self.file_task and task is not self.plain_sender:
                task.cancel()
        await self.finally_(lambda: self.settle() or all(t.done() for t in self.tasks), "tasks")
        for task in self.tasks:
            error = None if task.cancelled() or not task.done() else task.exception()
            # When a file is opened, in or after the shortage, is a race.
            if error is not None and getattr(error, "errno", None) != errno.EMFILE:
                self.raised.append(("task", type(error).__name__))
        with contextlib.suppress(BlockingIOError):
            while len(self.plain_got) < self.plain_sent:
                self.plain_got += self.plain.recv(1 << 16)
        if self.plain_got != text(0, self.plain_sent):
            self.wrong("a plain socket lost or doubled bytes")
        self.plain_take()
        if self.plain_taken != text(0, len(self.plain_taken)) or (
            self.plain_is_clean and len(self.plain_taken) != self.plain_given
        ):
            self.wrong("a plain socket sent what nobody gave it")
        await self.end_datagrams()
        await self.end_pipe()
        await self.end_lines()
        await self.finally_(lambda: self.timers[0] == self.timers[1], "timers")
        if self.file is not None:
            with contextlib.suppress(OSError):
                await self.file.close()
        for sock in (self.plain, self.plain_peer, self.watched, self.watched_peer):
            sock.close()
        self.datagram_peer.close()
        self.directory.cleanup()

    async def finally_(self, predicate, what):
        try:
            await self.until(predicate, what)
        except TimeoutError as error:
            self.wrong(f"nothing is broken any more, and yet: {error}")

    def arrived(self, line):
        """Whether all that was sent either way has come, as far as it must."""
        if line.reader() is not None:
            if line.note.__dict__.get("reading") is None or line.note.reading.done():
                self.do_read(self.lines.index(line), "read", 100_000)
        got, sent = line.note.received, line.peer.received
        if got != text(0, len(got)) or sent != text(0, len(sent)):
            self.wrong("a connection lost, doubled or moved bytes")
            return True
        if not line.clean or line.closed:
            return not line.closed or "connection_lost" in line.note.calls
        return len(got) == line.peer.sent and len(sent) == line.written

    async def end_datagrams(self):
        def all_there():
            self.datagrams_take()
            return (
                self.datagrams_seen == self.datagrams_sent
                and self.datagrams.got == self.datagrams_back
            )

        await self.finally_(all_there, "datagrams")
        self.endpoint.close()
        await self.finally_(lambda: self.datagrams.lost, "the end of the datagrams")

    async def end_lines(self):
        """The peers end; then our side closes what is left."""
        for line in self.lines:
            line.peer.end()
        await self.finally_(
            lambda: (
                self.settle()
                or all(
                    not line.clean
                    or line.closed
                    or "eof_received" in line.note.calls
                    or "connection_lost" in line.note.calls
                    for line in self.lines
                )
            ),
            "the end of streams",
        )
        for line in self.lines:
            if line.clean:
                if line.note.write_paused and "connection_lost" not in line.note.calls:
                    self.wrong("pause_writing() without resume_writing()")
                line.transport.close()
            else:
                # asyncio's abort() of what is through may raise.
                with contextlib.suppress(Exception):
                    line.transport.abort()
        await self.finally_(
            lambda: (
                self.settle()
                or all("connection_lost" in line.note.calls for line in self.lines)
            ),
            "connection_lost()",
        )


# The steps whose first argument is a connection.
NAMING = frozenset(
    "write writelines pause resume limits react read write_eof close abort look peer_send "
    "peer_read peer_eof peer_close peer_reset replace hostile elsewhere fork drop".split()
)
