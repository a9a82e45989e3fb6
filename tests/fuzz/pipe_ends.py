"""Both ends of one pipe as transports: a part of each program's world."""

import asyncio
import os

from hostile import Planned
from peers import text

ACTIONS = ("write", "pause", "resume", "close", "close reader", "abort")
REACTIONS = (*ACTIONS, "raise", "interrupt")
EVENTS = ("data_received", "eof_received", "pause_writing", "resume_writing", "connection_lost")
# What is drawn often: little comes after the others.
MOSTLY = ("write", "write", "write", "pause", "resume", "resume")


class PipeEnd(asyncio.Protocol):
    """Of either end: its calls and bytes, and what it does at the next of a kind."""

    def __init__(self, world, name):
        self.world = world
        self.name = name
        self.calls = []
        self.received = bytearray()
        self.reactions = {}
        self.paused = False  # of writing
        self.lost_with = None

    def heard(self, event):
        if "connection_lost" in self.calls or (event == "eof_received" and event in self.calls):
            self.world.wrong(f"{event}() of a pipe's {self.name} after {self.calls}")
        if self.calls[-1:] != [event]:
            self.calls.append(event)
        reaction = self.reactions.pop(event, None)
        if reaction is not None:
            self.world.pipe_act(reaction, 5_000)

    def connection_made(self, transport):
        self.heard("connection_made")

    def data_received(self, data):
        if not self.world.source.is_reading():
            self.world.wrong("data of a pipe that is paused or closed")
        self.received += data
        self.heard("data_received")

    def eof_received(self):
        self.heard("eof_received")

    def pause_writing(self):
        if self.paused:
            self.world.wrong("pause_writing() of a pipe twice")
        self.paused = True
        self.heard("pause_writing")

    def resume_writing(self):
        if not self.paused:
            self.world.wrong("resume_writing() of a pipe without a pause")
        self.paused = False
        self.heard("resume_writing")

    def connection_lost(self, error):
        self.lost_with = error
        self.heard("connection_lost")


class PipeEnds:
    """The steps `pipe` and `pipe_react`."""

    async def set_up_pipe(self):
        reading, writing = os.pipe()
        self.source, self.source_heard = await self.loop.connect_read_pipe(
            lambda: PipeEnd(self, "reader"), open(reading, "rb", 0)
        )
        self.sink, self.sink_heard = await self.loop.connect_write_pipe(
            lambda: PipeEnd(self, "writer"), open(writing, "wb", 0)
        )
        self.pipe_written = 0
        self.pipe_is_clean = True  # nobody has thrown away what was written
        self.pipe_is_cut = False  # asyncio's abort() of what ends anyway ends it twice

    def do_pipe(self, action, size):
        self.pipe_act(action, size)

    def do_pipe_react(self, event, reaction):
        if event == "resume_writing" and reaction in ("close", "abort"):
            self.ended_twice()
        # Whether it comes before the end of everything is a race.
        self.pipe_is_clean &= reaction in ACTIONS[:4]
        for heard in (self.source_heard, self.sink_heard):
            heard.reactions[event] = reaction

    def pipe_act(self, action, size):
        if action == "write" and not self.sink.is_closing():
            data = text(self.pipe_written, size)
            self.pipe_written += size
            self.sink.write(data)
        elif action == "pause" and self.source.is_reading():
            self.source.pause_reading()
        elif action == "resume" and not self.source.is_closing():
            self.source.resume_reading()
        elif action == "close":
            self.sink.close()
        elif action == "close reader":
            self.pipe_is_clean, self.pipe_is_cut = False, True
            self.source.close()
        elif action == "abort" and not self.pipe_is_cut and not self.sink.is_closing():
            self.pipe_is_clean, self.pipe_is_cut = False, True
            self.sink.abort()
        elif action == "raise":
            self.pipe_is_clean = False
            raise Planned
        elif action == "interrupt":
            self.pipe_is_clean = False
            raise KeyboardInterrupt

    async def end_pipe(self):
        """All that was written arrives, both ends hear of the end."""
        ends = (self.source_heard, self.sink_heard)
        for heard in ends:
            heard.reactions.clear()
        self.pipe_act("resume", 0)
        got = self.source_heard.received
        if self.pipe_is_clean:
            await self.finally_(lambda: len(got) == self.pipe_written, "the bytes of a pipe")
            self.sink.close()
        else:
            self.pipe_act("abort", 0)
            self.source.close()
        await self.finally_(
            lambda: all("connection_lost" in heard.calls for heard in ends), "the end of a pipe"
        )
        if got != text(0, len(got)):
            self.wrong("a pipe lost, doubled or moved bytes")

    def pipe_outcome(self):
        if not self.pipe_is_clean:
            return None
        ends = (self.source_heard, self.sink_heard)
        return [
            [heard.calls[:1], heard.calls[-1:], type(heard.lost_with).__name__, heard.paused]
            for heard in ends
        ]
