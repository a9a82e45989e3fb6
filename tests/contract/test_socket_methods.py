"""A socket's own methods count, and audit hooks hear of what is done by sockets.

Proxies are subclasses whose connect() goes elsewhere, guards of test suites replace
socket.socket.connect or socket.getaddrinfo, fakes replace recv() and send().
"""

import asyncio
import errno
import os
import socket
import subprocess
import sys
from unittest import mock

import pytest
from datagram_peers import DatagramRecorder
from harness import PATIENCE_S, Echo, Recorder, oracle_lacks, run, serving
from tls_peer import NAME, echoed


class Refused(OSError):
    """What a guard raises."""


def guard(*args, **kwargs):
    raise Refused


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def proxy():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def test_sock_connect_of_a_subclass_goes_where_its_connect_goes(loop, listener, proxy):
    class Proxied(socket.socket):
        def connect(self, address):
            asked.append(address)
            return super().connect(proxy.getsockname())

    asked = []

    async def main():
        with Proxied() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, listener.getsockname())
            return sock.getpeername()

    assert run(loop, main()) == proxy.getsockname()
    assert asked == [listener.getsockname()]


def test_sock_connect_of_a_method_set_on_the_object_calls_that(loop, listener):
    class Open(socket.socket):
        """Has a __dict__."""

    async def main():
        with Open() as sock:
            sock.setblocking(False)
            sock.connect = guard
            await loop.sock_connect(sock, listener.getsockname())

    with pytest.raises(Refused):
        run(loop, main())


def test_sock_connect_of_a_subclass_without_a_connect_of_its_own_connects(loop, listener):
    class Other(socket.socket):
        """No method of its own."""

    async def main():
        with Other() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, listener.getsockname())
            return sock.getpeername()

    assert run(loop, main()) == listener.getsockname()


@pytest.mark.parametrize("error", [BlockingIOError, InterruptedError])
def test_sock_connect_of_a_connect_that_would_block_waits_for_the_socket(loop, listener, error):
    class Slow(socket.socket):
        def connect(self, address):
            super().setblocking(True)
            super().connect(address)
            super().setblocking(False)
            raise error

    async def main():
        with Slow() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, listener.getsockname())
            return sock.getpeername()

    assert run(loop, main()) == listener.getsockname()


CONNECTING = {
    "create_connection": lambda loop, address: loop.create_connection(Recorder, *address),
    "create_connection from a local address": lambda loop, address: loop.create_connection(
        Recorder, *address, local_addr=("127.0.0.1", 0)
    ),
    "happy eyeballs": lambda loop, address: loop.create_connection(
        Recorder, *address, happy_eyeballs_delay=1
    ),
    "open_connection": lambda loop, address: asyncio.open_connection(*address),
    "create_datagram_endpoint": lambda loop, address: loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=address
    ),
    "create_unix_connection": lambda loop, address: loop.create_unix_connection(
        Recorder, "/nowhere"
    ),
}


@pytest.mark.parametrize("way", CONNECTING)
def test_connect_replaced_on_the_class_is_asked_by_whatever_connects(loop, listener, way):
    with mock.patch.object(socket.socket, "connect", guard), pytest.raises(Refused):
        run(loop, CONNECTING[way](loop, listener.getsockname()))


@pytest.mark.parametrize("way", [way for way in CONNECTING if "unix" not in way])
def test_socket_class_replaced_in_its_module_is_made_and_asked(loop, listener, way):
    class Guarded(socket.socket):
        def connect(self, address):
            raise Refused

    with mock.patch.object(socket, "socket", Guarded), pytest.raises(Refused):
        run(loop, CONNECTING[way](loop, listener.getsockname()))


def test_connect_replaced_and_restored_is_asked_no_more(loop, listener):
    with mock.patch.object(socket.socket, "connect", guard), pytest.raises(Refused):
        run(loop, loop.create_connection(Recorder, *listener.getsockname()))

    async def main():
        transport, protocol = await loop.create_connection(Recorder, *listener.getsockname())
        transport.abort()
        await protocol.until_lost()

    run(loop, main())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", None, "::1"])
def test_getaddrinfo_replaced_is_asked_about_every_name(loop, host):
    wanted = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 9))]
    with mock.patch.object(socket, "getaddrinfo", return_value=wanted) as fake:
        found = run(loop, loop.getaddrinfo(host, 80, type=socket.SOCK_STREAM))
    assert found == wanted
    assert fake.call_args.args == (host, 80, 0, socket.SOCK_STREAM, 0, 0)
    assert fake.call_count == 1


@pytest.mark.parametrize("flags", [0, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV])
def test_getnameinfo_replaced_is_asked(loop, flags):
    with mock.patch.object(socket, "getnameinfo", return_value=("a", "b")) as fake:
        assert run(loop, loop.getnameinfo(("127.0.0.1", 80), flags)) == ("a", "b")
    fake.assert_called_once_with(("127.0.0.1", 80), flags)


class Fake(socket.socket):
    """Says what it was asked for."""

    asked: list

    def recv(self, *args):
        self.asked.append("recv")
        return super().recv(*args).upper()

    def recv_into(self, *args):
        self.asked.append("recv_into")
        return super().recv_into(*args)

    def recvfrom(self, *args):
        self.asked.append("recvfrom")
        data, address = super().recvfrom(*args)
        return data.upper(), address

    def send(self, data, *args):
        self.asked.append("send")
        return super().send(bytes(data).upper(), *args)

    def sendto(self, data, *args):
        self.asked.append("sendto")
        return super().sendto(bytes(data).upper(), *args)


@pytest.fixture
def fake_pair():
    ours, theirs = socket.socketpair()
    fake = Fake(fileno=ours.detach())
    fake.asked = []
    fake.setblocking(False)
    theirs.setblocking(False)
    with fake, theirs:
        yield fake, theirs


def test_sock_methods_call_a_subclasss_own(loop, fake_pair):
    fake, theirs = fake_pair

    async def main():
        theirs.send(b"data")
        received = [await loop.sock_recv(fake, 100)]
        task = asyncio.ensure_future(loop.sock_recv(fake, 100))
        await asyncio.sleep(0)
        theirs.send(b"later")
        received.append(await task)
        await loop.sock_sendall(fake, b"sent")
        return received, await loop.sock_recv(theirs, 100)

    assert run(loop, main()) == ([b"DATA", b"LATER"], b"SENT")
    assert set(fake.asked) == {"recv", "send"}


def test_sock_methods_call_what_was_put_on_the_class(loop):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.send(b"x")
        run(loop, loop.sock_sendall(ours, b"before"))
        with mock.patch.object(socket.socket, "recv", guard), pytest.raises(Refused):
            run(loop, loop.sock_recv(ours, 1))
        with mock.patch.object(socket.socket, "send", guard), pytest.raises(Refused):
            run(loop, loop.sock_sendall(ours, b"x"))
        assert run(loop, loop.sock_recv(ours, 1)) == b"x"


class Accepting(socket.socket):
    """Counts what it accepts, and fails as often as it is told to."""

    failures = ()
    accepted = 0

    def accept(self):
        if self.failures:
            raise self.failures.pop()
        connection, address = super().accept()
        self.accepted += 1
        return connection, address


@pytest.fixture
def accepting():
    with Accepting() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


@pytest.mark.parametrize("is_tls", [False, True])
def test_server_of_a_subclass_accepts_by_its_accept(loop, accepting, certificates, is_tls):
    async def main():
        server = await loop.create_server(
            Echo, sock=accepting, ssl=certificates.server() if is_tls else None
        )
        options = {"ssl": certificates.client(), "server_hostname": NAME} if is_tls else {}
        for _ in range(3):
            await echoed(
                loop.create_connection(Recorder, *accepting.getsockname(), **options)
            )
        accepted = accepting.accepted
        server.close()
        await server.wait_closed()
        return accepted

    assert run(loop, main()) == 3
    assert accepting.fileno() == -1


def test_server_whose_accept_has_no_descriptor_left_tries_again(loop, accepting):
    accepting.failures = [OSError(errno.EMFILE, "none left")]
    contexts = []
    loop.set_exception_handler(lambda _, context: contexts.append(context))

    async def main():
        server = await loop.create_server(Echo, sock=accepting)
        await echoed(loop.create_connection(Recorder, *accepting.getsockname()))
        server.close()
        await server.wait_closed()

    run(loop, main())
    assert [context["exception"].errno for context in contexts] == [errno.EMFILE]
    assert accepting.accepted == 1


def test_accept_replaced_on_the_class_is_asked(loop):
    refused = []

    def refuse(sock):
        refused.append(sock)
        raise BlockingIOError

    async def main():
        with mock.patch.object(socket.socket, "accept", refuse):
            server = await loop.create_server(Echo, "127.0.0.1", 0)
            with socket.create_connection(server.sockets[0].getsockname()):
                while not refused:
                    await asyncio.sleep(0)
            server.close()
            await server.wait_closed()

    run(loop, main())
    assert refused


# Heard in a child, because a hook stays for good.
HEARD = """
import asyncio, socket, sys
import MODULE

EVENTS = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto",
          "socket.getnameinfo")
heard = []

def hook(event, arguments):
    if event in EVENTS and listening:
        kinds = tuple(
            "socket" if isinstance(argument, socket.socket) else argument
            for argument in arguments
        )
        heard.append((event, *kinds))

listening = False
sys.addaudithook(hook)

async def main():
    global listening
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        listening = True
        WORK
        listening = False
    for event in heard:
        print(*(str(part).replace(str(address[1]), "PORT") for part in event))

with asyncio.Runner(loop_factory=MODULE.new_event_loop) as runner:
    runner.run(main())
"""

WORK = {
    "create_connection": """
        transport, _ = await loop.create_connection(asyncio.Protocol, *address)
        transport.abort()
    """,
    "create_connection by name": """
        transport, _ = await loop.create_connection(
            asyncio.Protocol, "localhost", address[1], family=socket.AF_INET
        )
        transport.abort()
    """,
    "create_connection from a local address": """
        transport, _ = await loop.create_connection(
            asyncio.Protocol, *address, local_addr=("127.0.0.1", 0)
        )
        transport.abort()
    """,
    "sock_connect": """
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
    """,
    "sock_connect refused by the address": """
        with socket.socket() as sock:
            sock.setblocking(False)
            try:
                await loop.sock_connect(sock, ("127.0.0.1", 99999))
            except OverflowError:
                pass
    """,
    "datagrams": """
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        transport.sendto(b"x", ("127.0.0.1", address[1]))
        transport.abort()
    """,
    "connected datagrams": """
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=address
        )
        transport.sendto(b"x")
        transport.abort()
    """,
    "getaddrinfo of an address": """
        await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    """,
    "getaddrinfo of an address in short": """
        await loop.getaddrinfo("127.1", 80)
    """,
    "getaddrinfo of an address of another family": """
        try:
            await loop.getaddrinfo("127.0.0.1", 80, family=socket.AF_INET6)
        except OSError:
            pass
    """,
    "getaddrinfo of a name that looks like an address": """
        try:
            await loop.getaddrinfo("1.2.3.4.invalid", 80)
        except OSError:
            pass
    """,
    "getnameinfo": """
        await loop.getnameinfo(("127.0.0.1", 80), 3)
    """,
    "create_server": """
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        server.close()
    """,
}


# Refused before anything is done.
SILENT = {"sock_connect refused by the address"}


@pytest.mark.parametrize("work", WORK)
def test_audit_hooks_hear_what_they_hear_of_asyncio(loop_kind, work):
    def heard_of(module):
        done = subprocess.run(
            [sys.executable, "-c", HEARD.replace("MODULE", module).replace("WORK", WORK[work])],
            env=os.environ,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    expected = heard_of("asyncio")
    assert expected.startswith("socket.") or work in SILENT
    assert heard_of("asyncio" if loop_kind == "asyncio" else "uring_loop") == expected


def test_audit_hook_that_ends_the_endpoint_that_sends_lets_it_send_to_no_stranger(loop_kind):
    """The descriptor's number is somebody else's before the hook returns."""
    oracle_lacks(loop_kind, True, "its protocol is None, and is told")
    program = """
import asyncio, os, socket, sys
import uring_loop

told = []

class Protocol(asyncio.DatagramProtocol):
    def error_received(self, exc):
        told.append(exc)

async def main():
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", 0))
    number = transport.get_extra_info("socket").fileno()
    transport.pause_reading()
    await asyncio.sleep(0.001)
    stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.bind(("127.0.0.1", 0))
    peer.setblocking(False)

    def hook(event, arguments):
        if event == "socket.sendto" and transport.get_extra_info("socket").fileno() == number:
            transport.abort()
            transport._call_connection_lost(None)
            os.dup2(stranger.fileno(), number)

    sys.addaudithook(hook)
    transport.sendto(b"secret", peer.getsockname())
    assert transport._state == "closed", transport._state
    try:
        print("received", peer.recv(100))
    except BlockingIOError:
        print("nothing", told)
    os.close(number)

uring_loop.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", program],
        env=os.environ,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("nothing []\n", "")


def test_audit_hook_that_raises_refuses_the_connection(loop_kind):
    program = """
import asyncio, socket, sys
import MODULE

def hook(event, arguments):
    if event == "socket.connect":
        raise PermissionError("no")

async def main():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sys.addaudithook(hook)
        try:
            await asyncio.open_connection(*listener.getsockname())
        except PermissionError as error:
            print(error)
        listener.settimeout(0)
        try:
            listener.accept()
        except BlockingIOError:
            print("nobody came")

with asyncio.Runner(loop_factory=MODULE.new_event_loop) as runner:
    runner.run(main())
"""
    module = "asyncio" if loop_kind == "asyncio" else "uring_loop"
    done = subprocess.run(
        [sys.executable, "-c", program.replace("MODULE", module)],
        env=os.environ,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.returncode) == ("no\nnobody came\n", 0), done.stderr


def test_stream_transport_calls_a_subclasss_own(loop, fake_pair):
    fake, theirs = fake_pair

    async def main():
        transport, protocol = await loop.create_connection(Recorder, sock=fake)
        assert transport.get_extra_info("socket").fileno() == fake.fileno()
        theirs.send(b"data")
        await protocol.until_size(4)
        transport.write(b"sent")
        received = await loop.sock_recv(theirs, 100)
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(fake, print)
        transport.close()
        await protocol.until_lost()
        return protocol.data, received, await loop.sock_recv(theirs, 100)

    assert run(loop, main()) == (b"DATA", b"SENT", b"")
    assert set(fake.asked) == {"recv", "send"}
    assert fake.fileno() == -1


def test_stream_transport_of_a_subclass_sends_much_and_resumes_its_protocol(loop, fake_pair):
    fake, theirs = fake_pair
    size = 3_000_000

    async def main():
        transport, protocol = await loop.create_connection(Recorder, sock=fake)
        transport.write(b"x" * size)
        await protocol.until_called("pause_writing")
        received = 0
        while received < size:
            received += len(await loop.sock_recv(theirs, 1 << 20))
        await protocol.until_called("resume_writing")
        transport.abort()
        await protocol.until_lost()
        return received

    assert run(loop, main()) == size


@pytest.mark.parametrize("fallback", [False, True])
def test_stream_transport_of_a_subclass_sends_a_file(loop, fake_pair, tmp_path, fallback):
    fake, theirs = fake_pair
    path = tmp_path / "file"
    path.write_bytes(b"file " * 100)

    async def main():
        transport, protocol = await loop.create_connection(Recorder, sock=fake)
        transport.write(b"first")
        with path.open("rb") as file:
            sent = await loop.sendfile(transport, file, fallback=fallback)
        transport.write(b"last")
        transport.close()
        await protocol.until_lost()
        return sent, await loop.sock_recv(theirs, 1000)

    assert run(loop, main()) == (500, b"FIRST" + b"file " * 100 + b"LAST")


def test_tls_over_a_subclass_goes_by_its_methods(loop, certificates):
    class Counting(socket.socket):
        def send(self, *args):
            asked.append("send")
            return super().send(*args)

    asked = []

    async def main():
        async with serving(Echo, ssl=certificates.server()) as (_, address):
            sock = Counting()
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            await echoed(
                loop.create_connection(
                    Recorder, sock=sock, ssl=certificates.client(), server_hostname=NAME
                )
            )

    run(loop, main())
    assert asked


def test_start_tls_over_a_subclass_goes_by_its_methods(loop, certificates):
    class Counting(socket.socket):
        def send(self, *args):
            asked.append("send")
            return super().send(*args)

    asked = []

    async def main():
        async with serving(Echo, ssl=certificates.server()) as (_, address):
            sock = Counting()
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            plain, protocol = await loop.create_connection(Recorder, sock=sock)
            transport = await loop.start_tls(
                plain, protocol, certificates.client(), server_hostname=NAME
            )
            transport.write(b"hello")
            await protocol.until_size(5)
            transport.close()
            await protocol.until_lost()
            return protocol.data

    assert run(loop, main()) == b"hello"
    assert asked


@pytest.mark.parametrize("connected", [False, True])
def test_datagram_transport_calls_a_subclasss_own(loop, connected):
    fake = Fake(socket.AF_INET, socket.SOCK_DGRAM)
    fake.asked = []
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for sock in (fake, other):
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(PATIENCE_S)
    if connected:
        fake.connect(other.getsockname())

    async def main():
        transport, protocol = await loop.create_datagram_endpoint(DatagramRecorder, sock=fake)
        for number in range(3):
            other.sendto(b"data", fake.getsockname())
            await protocol.until_count(number + 1)
        transport.sendto(b"sent", None if connected else other.getsockname())
        transport.close()
        await protocol.until_called("connection_lost")
        return [data for data, _ in protocol.datagrams]

    with other:
        assert run(loop, main()) == [b"DATA"] * 3
        assert other.recv(100) == b"SENT"
    assert set(fake.asked) - {"sendto" if connected else "send"} == {
        "recvfrom",
        "send" if connected else "sendto",
    }


@pytest.mark.parametrize("error", [OSError, ZeroDivisionError])
def test_datagram_transport_whose_sockets_methods_raise_is_told_as_of_any(loop, error):
    class Failing(socket.socket):
        def recvfrom(self, *args):
            super().recvfrom(*args)
            raise error("recvfrom")

    sock = Failing(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    contexts = []
    loop.set_exception_handler(lambda _, context: contexts.append(context))

    async def main():
        transport, protocol = await loop.create_datagram_endpoint(DatagramRecorder, sock=sock)
        transport.sendto(b"x", sock.getsockname())
        if error is OSError:
            await protocol.until(lambda: protocol.errors)
            transport.close()
        await protocol.until_called("connection_lost")
        return protocol.errors, protocol.calls[-1]

    errors, last = run(loop, main())
    assert last == "connection_lost"
    if error is OSError:
        assert [str(exc) for exc in errors] == ["recvfrom"]
        assert contexts == []
    else:
        assert [type(context["exception"]) for context in contexts] == [ZeroDivisionError]
