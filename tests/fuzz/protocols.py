"""The protocols of a program: they check asyncio's contract, record, and react."""

import asyncio


class Hearing:
    """A protocol of the program's: asyncio's contract, checked, and the program's reactions."""

    def __init__(self, world, number):
        self.world = world
        self.number = number
        self.transport = None
        self.received = bytearray()
        self.calls = []
        self.lost_with = None
        self.reactions = {}
        self.reacted = []  # those that came before the faults stopped
        self.write_paused = self.read_paused = self.resumed = False

    def heard(self, name):
        if "connection_lost" in self.calls:
            self.world.wrong(f"{name}() after connection_lost() of {self.number}")
        if not self.calls and name != "connection_made":
            self.world.wrong(f"{name}() before connection_made() of {self.number}")
        if name == "eof_received" and name in self.calls and self.resumed:
            # As asyncio: who pauses and resumes after the end hears of it again.
            self.resumed = False
        elif name in ("eof_received", "connection_made", "connection_lost") and name in self.calls:
            self.world.wrong(f"{name}() twice of {self.number}")
        if self.calls[-1:] != [name] or name != "data_received":
            self.calls.append(name)
        reaction = self.reactions.pop(name, None)
        if reaction is not None:
            if not self.world.is_over:
                self.reacted.append((name, reaction))
            # As asyncio: of an end that was interrupted the next run tells once more.
            self.resumed |= (name, reaction) == ("eof_received", "interrupt")
            self.world.react(self.number, reaction)

    def connection_made(self, transport):
        self.transport = transport
        self.heard("connection_made")

    def took(self, data):
        if self.read_paused:
            self.world.wrong(f"data while reading was paused of {self.number}")
        if "eof_received" in self.calls:
            self.world.wrong(f"data after the end of {self.number}")
        self.received += data
        self.heard("data_received")

    def eof_received(self):
        self.heard("eof_received")
        return self.world.tls is None

    def pause_writing(self):
        if self.write_paused:
            self.world.wrong(f"pause_writing() twice of {self.number}")
        self.write_paused = True
        self.heard("pause_writing")

    def resume_writing(self):
        if not self.write_paused:
            self.world.wrong(f"resume_writing() without a pause of {self.number}")
        self.write_paused = False
        self.heard("resume_writing")

    def connection_lost(self, error):
        self.lost_with = error
        self.heard("connection_lost")


class Plain(Hearing, asyncio.Protocol):
    def data_received(self, data):
        self.took(data)


class Buffered(Hearing, asyncio.BufferedProtocol):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.buffer = bytearray(5000)

    def get_buffer(self, hint):
        return self.buffer

    def buffer_updated(self, count):
        self.took(self.buffer[:count])


class Streams(asyncio.StreamReaderProtocol):
    """StreamReader and StreamWriter, with the same record of what was called."""

    def __init__(self, world, number):
        self.reader = asyncio.StreamReader(loop=world.loop, limit=1 << 22)
        super().__init__(self.reader, loop=world.loop)
        self.note = Hearing(world, number)

    def connection_made(self, transport):
        super().connection_made(transport)
        self.note.connection_made(transport)

    def data_received(self, data):
        super().data_received(data)
        self.note.heard("data_received")

    def eof_received(self):
        super().eof_received()
        return self.note.eof_received()

    def pause_writing(self):
        super().pause_writing()
        self.note.pause_writing()

    def resume_writing(self):
        super().resume_writing()
        self.note.resume_writing()

    def connection_lost(self, error):
        super().connection_lost(error)
        self.note.connection_lost(error)


class Line:
    """One connection: our transport, its protocol, the peer, and what was asked of them."""

    def __init__(self, protocol, peer):
        self.protocol = protocol
        self.note = protocol.note if isinstance(protocol, Streams) else protocol
        self.peer = peer
        self.transport = None
        self.written = 0
        self.clean = True  # nothing was broken on purpose, so every byte must arrive
        self.replaced = False
        self.eof_written = self.closed = False

    def reader(self):
        return self.protocol.reader if isinstance(self.protocol, Streams) else None


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.got = []
        self.lost = False

    def datagram_received(self, data, address):
        self.got.append(data)

    def connection_lost(self, error):
        self.lost = True
