"""Datagram transports: receiving, sending, errors, flow control, the end."""

import asyncio
import contextvars
import errno
import gc
import logging
import os
import socket
import sys
import weakref
from pathlib import Path

import pytest
from datagram_peers import (
    BURST,
    LOCAL,
    DatagramRecorder,
    connected_pair,
    endpoint,
    full_pair,
    receive_all,
    receive_count,
    udp_socket,
)
from harness import DATAGRAMS_PAUSE, iterations, oracle_lacks, resource_warning, run

HOSTS = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
SENDS_EMPTY = sys.version_info >= (3, 13)


def has_ipv6():
    try:
        udp_socket(socket.AF_INET6, "::1").close()
    except OSError:
        return False
    return True


@pytest.fixture(params=HOSTS, ids=["ipv4", "ipv6"])
def host(request):
    if request.param[0] == socket.AF_INET6 and not has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    return request.param


# ---- receiving ----


def test_datagram_arrives_whole_with_the_address_that_recvfrom_gives(loop, host):
    family, name = host

    async def main():
        async with endpoint(local_addr=(name, 0)) as (transport, protocol):
            with udp_socket(family, name) as peer:
                for data in (b"one", b"", bytes(65000), b"last"):
                    peer.sendto(data, transport.get_extra_info("sockname"))
                    await protocol.until_count(len(protocol.datagrams) + 1)
                assert protocol.payloads == [b"one", b"", bytes(65000), b"last"]
                assert {address for _, address in protocol.datagrams} == {peer.getsockname()}

    run(loop, main())


def test_many_datagrams_of_many_peers_keep_their_order_and_senders(loop, host):
    family, name = host

    async def main():
        peers = [udp_socket(family, name) for _ in range(50)]
        async with endpoint(local_addr=(name, 0)) as (transport, protocol):
            there = transport.get_extra_info("sockname")
            for number in range(20):
                for peer in peers:
                    peer.sendto(b"%d" % number, there)
                await protocol.until_count(50 * (number + 1))
            for peer in peers:
                mine = [data for data, sender in protocol.datagrams if sender == peer.getsockname()]
                assert mine == [b"%d" % number for number in range(20)]
        for peer in peers:
            peer.close()

    run(loop, main())


def test_hundreds_of_peers_are_answered_each_with_its_own(loop):
    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, addr):
            self.transport.sendto(data + b"|%d" % addr[1], addr)

    async def main():
        peers = [udp_socket() for _ in range(400)]
        async with endpoint(Server(), local_addr=LOCAL) as (transport, _):
            there = transport.get_extra_info("sockname")
            for turn in range(2):
                for peer in peers:
                    peer.sendto(b"%d" % turn, there)
                    answer = b"%d|%d" % (turn, peer.getsockname()[1])
                    assert await receive_count(peer, 1) == [answer]
        for peer in peers:
            peer.close()

    run(loop, main())


@pytest.mark.parametrize("bound", ["path", "abstract", "unnamed"])
def test_unix_datagrams_come_with_the_sender_that_recvfrom_gives(loop, tmp_path, bound):
    async def main():
        path = str(tmp_path / "server")
        async with endpoint(local_addr=path, family=socket.AF_UNIX) as (transport, protocol):
            assert transport.get_extra_info("sockname") == path
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
                if bound == "path":
                    peer.bind(str(tmp_path / "client"))
                elif bound == "abstract":
                    peer.bind("")
                peer.sendto(b"hello", path)
                await protocol.until_count(1)
                name = None if bound == "unnamed" else peer.getsockname()
                assert protocol.datagrams == [(b"hello", name)]
                if name is not None:
                    peer.setblocking(False)
                    transport.sendto(b"answer", name)
                    assert await receive_count(peer, 1) == [b"answer"]

    run(loop, main())


def test_unix_datagram_larger_than_any_udp_datagram_is_not_cut(loop, tmp_path):
    size = 150_000

    async def main():
        sock, peer = full_pair()
        peer.connect(sock.getsockname())
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * size)
        async with endpoint(sock=sock) as (_, protocol):
            data = os.urandom(size)
            try:
                peer.send(data)
            except OSError:
                pytest.skip("this machine's limit of socket buffers is below that size")
            await protocol.until_count(1)
            assert protocol.payloads == [data]
        peer.close()

    run(loop, main())


def test_what_came_before_connection_made_is_received_after_it(loop):
    async def main():
        sock = udp_socket()
        with udp_socket() as peer:
            peer.sendto(b"early", sock.getsockname())
            async with endpoint(sock=sock) as (_, protocol):
                await protocol.until_count(1)
                assert protocol.calls == ["connection_made", "datagram_received"]

    run(loop, main())


def test_exception_of_datagram_received_is_reported_and_receiving_goes_on(loop, errors):
    class Faulty(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"bad":
                raise ZeroDivisionError

    async def main():
        async with endpoint(Faulty(), local_addr=LOCAL) as (transport, protocol):
            with udp_socket() as peer:
                for data in (b"bad", b"good"):
                    peer.sendto(data, transport.get_extra_info("sockname"))
                await protocol.until_count(2)
            assert not transport.is_closing()
        assert [type(context["exception"]) for context in errors] == [ZeroDivisionError]
        assert errors[0]["message"].startswith("Exception in callback ")
        errors.clear()

    run(loop, main())


def test_keyboard_interrupt_in_datagram_received_ends_the_run_and_loses_nothing(loop):
    class Interrupting(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"stop":
                raise KeyboardInterrupt

    async def make():
        return await loop.create_datagram_endpoint(Interrupting, local_addr=LOCAL)

    transport, protocol = run(loop, make())
    with udp_socket() as peer:
        for data in (b"stop", b"1", b"2"):
            peer.sendto(data, transport.get_extra_info("sockname"))
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(protocol.until_count(3))
        assert protocol.payloads[0] == b"stop"
        for task in asyncio.all_tasks(loop):
            task.cancel()
        run(loop, protocol.until_count(3))
    assert protocol.payloads == [b"stop", b"1", b"2"]
    transport.close()
    loop.run_until_complete(iterations(3))


def test_close_inside_datagram_received_delivers_no_more(loop):
    class Closing(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.transport.close()

    async def main():
        async with endpoint(Closing(), local_addr=LOCAL) as (transport, protocol):
            with udp_socket() as peer:
                for _ in range(10):
                    peer.sendto(b"x", transport.get_extra_info("sockname"))
                await protocol.until_called("connection_lost")
            await iterations(3)
            assert protocol.calls == ["connection_made", "datagram_received", "connection_lost"]
            assert protocol.lost is None

    run(loop, main())


def test_pause_reading_holds_datagrams_back_and_resume_reading_delivers_them(loop, loop_kind):
    oracle_lacks(loop_kind, not DATAGRAMS_PAUSE, "datagram transports cannot pause")

    async def main():
        async with endpoint(local_addr=LOCAL) as (transport, protocol):
            with udp_socket() as peer:
                there = transport.get_extra_info("sockname")
                peer.sendto(b"1", there)
                await protocol.until_count(1)
                assert transport.is_reading()
                transport.pause_reading()
                transport.pause_reading()
                assert not transport.is_reading()
                peer.sendto(b"2", there)
                await iterations(5)
                peer.sendto(b"3", there)
                await iterations(5)
                assert protocol.payloads == [b"1"]
                transport.resume_reading()
                assert protocol.payloads == [b"1"]
                await protocol.until_count(3)
                peer.sendto(b"4", there)
                await protocol.until_count(4)
                assert protocol.payloads == [b"1", b"2", b"3", b"4"]

    run(loop, main())


def test_datagrams_and_flow_control_are_told_in_the_context_of_creation(loop):
    variable = contextvars.ContextVar("variable", default="none")

    class Contextual(DatagramRecorder):
        seen = ()

        def datagram_received(self, data, addr):
            self.seen += (variable.get(),)
            super().datagram_received(data, addr)

    async def main():
        variable.set("creator")
        async with endpoint(Contextual(), local_addr=LOCAL) as (transport, protocol):
            variable.set("later")
            with udp_socket() as peer:
                for count in (1, 2):
                    peer.sendto(b"x", transport.get_extra_info("sockname"))
                    await protocol.until_count(count)
            assert protocol.seen == ("creator", "creator")

    run(loop, main())


# ---- sending ----


def test_sendto_has_sent_when_it_returns(loop):
    async def main():
        async with endpoint(local_addr=LOCAL) as (transport, _):
            with udp_socket() as peer:
                transport.sendto(b"now", peer.getsockname())
                assert peer.recvfrom(10) == (b"now", transport.get_extra_info("sockname"))
                assert transport.get_write_buffer_size() == 0

    run(loop, main())


def test_sendto_of_every_bytes_like_type_sends_its_bytes_as_they_are_then(loop):
    async def main():
        async with endpoint(local_addr=LOCAL) as (transport, _):
            with udp_socket() as peer:
                there = peer.getsockname()
                changing = bytearray(b"array")
                transport.sendto(changing, there)
                changing[:] = b"other"
                transport.sendto(memoryview(b"a view")[2:], addr=there)
                transport.sendto(data=memoryview(b"12345678").cast("I"), addr=there)
                assert receive_all(peer) == [b"array", b"view", b"12345678"]

    run(loop, main())


@pytest.mark.parametrize("data", ["text", None, 5, [b"x"]])
def test_sendto_of_what_is_no_bytes_is_a_type_error_of_asyncios_words(loop, data):
    async def main():
        async with endpoint(local_addr=LOCAL) as (transport, _):
            with pytest.raises(TypeError, match="must be a bytes-like object, not") as caught:
                transport.sendto(data, LOCAL)
            assert repr(type(data).__name__) in str(caught.value)
            assert not transport.is_closing()

    run(loop, main())


def test_empty_datagram_is_sent_since_python_313_and_ignored_before(loop):
    async def main():
        async with endpoint(local_addr=LOCAL) as (transport, _):
            with udp_socket() as peer:
                for data in (b"", bytearray(), memoryview(b"")):
                    transport.sendto(data, peer.getsockname())
                assert receive_all(peer) == ([b""] * 3 if SENDS_EMPTY else [])

    run(loop, main())


@pytest.mark.parametrize(
    "address",
    [
        ("127.0.0.1", "1"),
        ("127.0.0.1", None),
        ("127.0.0.1", -1),
        ("127.0.0.1", 70000),
        ("127.0.0.1",),
        ("127.0.0.1", 1, 2, 3, 4),
        ["127.0.0.1", 1],
        (None, 1),
        (5, 1),
        "127.0.0.1",
        None,
        ("bad\0name", 1),
    ],
    ids=repr,
)
def test_sendto_an_address_that_is_none_gives_up_with_the_socket_modules_error(
    loop, errors, address
):
    async def main():
        async with endpoint(local_addr=LOCAL) as (transport, protocol):
            with udp_socket() as plain, pytest.raises(Exception) as caught:
                plain.sendto(b"x", address)
            transport.sendto(b"x", address)
            await protocol.until_called("connection_lost")
            assert type(protocol.lost) is caught.type
            assert str(protocol.lost) == str(caught.value)
            assert [context["exception"] for context in errors] == [protocol.lost]
            assert errors[0]["message"] == "Fatal write error on datagram transport"
            errors.clear()

    run(loop, main())


@pytest.mark.parametrize("address", [("/path", 1), 5, None, "\ud800"], ids=repr)
def test_sendto_a_unix_address_that_is_none_gives_up_with_the_socket_modules_error(
    loop, errors, address
):
    async def main():
        async with endpoint(family=socket.AF_UNIX) as (transport, protocol):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as plain:
                with pytest.raises(Exception) as caught:
                    plain.sendto(b"x", address)
            transport.sendto(b"x", address)
            await protocol.until_called("connection_lost")
            assert type(protocol.lost) is caught.type
            assert str(protocol.lost) == str(caught.value)
            assert [context["exception"] for context in errors] == [protocol.lost]
            errors.clear()

    run(loop, main())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), {}),
        ((), {"addr": ("127.0.0.1", 9)}),
        ((b"x", None, None), {}),
        ((b"x",), {"address": None}),
        ((b"x",), {"data": b"y"}),
        ((b"x", None), {"addr": None}),
    ],
    ids=repr,
)
def test_sendto_with_wrong_arguments_raises_type_error_and_sends_nothing(loop, arguments, named):
    async def main():
        with udp_socket() as peer:
            async with endpoint(remote_addr=peer.getsockname()) as (transport, _):
                with pytest.raises(TypeError, match="sendto"):
                    transport.sendto(*arguments, **named)
                transport.sendto(data=b"sent", addr=None)
                assert await receive_count(peer, 1) == [b"sent"]

    run(loop, main())


def test_sendto_a_host_name_or_an_unusual_form_is_resolved_as_the_socket_module_does(loop):
    async def main():
        async with endpoint(local_addr=LOCAL) as (transport, protocol):
            with udp_socket() as peer:
                port = peer.getsockname()[1]
                addresses = [("localhost", port), ("127.1", port), (b"127.0.0.1", port), ("", port)]
                for address in addresses:
                    transport.sendto(b"x", address)
                assert receive_all(peer) == [b"x"] * len(addresses)
            transport.sendto(b"x", ("no such host.invalid", 9))
            assert [type(error) for error in protocol.errors] == [socket.gaierror]
            assert not transport.is_closing()

    run(loop, main())


def test_sendto_with_ipv6_flow_and_scope_reaches_its_peer(loop):
    if not has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")

    async def main():
        async with endpoint(local_addr=("::1", 0)) as (transport, protocol):
            with udp_socket(socket.AF_INET6, "::1") as peer:
                port = peer.getsockname()[1]
                scope = socket.if_nametoindex("lo")
                forms = [
                    ("::1", port),
                    ("::1", port, 0),
                    ("::1", port, 7, 0),
                    ("0::1", port, 0, scope),
                ]
                for address in forms:
                    transport.sendto(b"x", address)
                assert len(receive_all(peer)) == len(forms)
                assert protocol.errors == []
                transport.sendto(b"x", ("::1%lo", port))  # a zone is for link-local addresses
                assert [type(error) for error in protocol.errors] == [socket.gaierror]
            for bad in (("::1", port, 1 << 20), ("::1", port, -1)):
                with udp_socket(socket.AF_INET6, "::1") as plain:
                    with pytest.raises(OverflowError):
                        plain.sendto(b"x", bad)

    run(loop, main())


def test_same_address_object_serves_sockets_of_both_families(loop):
    if not has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")

    async def main():
        with udp_socket(socket.AF_INET6, "::1") as peer:
            address = ("::1", peer.getsockname()[1])
            async with endpoint(local_addr=("::1", 0)) as (six, _):
                six.sendto(b"6", address)
                async with endpoint(local_addr=LOCAL) as (four, protocol):
                    four.sendto(b"4", address)
                    assert [type(error) for error in protocol.errors] == [socket.gaierror]
                six.sendto(b"6", address)
                assert receive_all(peer) == [b"6", b"6"]

    run(loop, main())


# ---- connected ----


def test_connected_endpoint_sends_to_its_peer_and_to_no_other(loop):
    async def main():
        with udp_socket() as peer:
            there = peer.getsockname()
            async with endpoint(remote_addr=there) as (transport, _):
                assert transport.get_extra_info("peername") == there
                transport.sendto(b"1")
                transport.sendto(b"2", None)
                transport.sendto(b"3", (there[0], there[1]))
                with pytest.raises(ValueError, match="Invalid address: must be None or") as caught:
                    transport.sendto(b"4", ("127.0.0.1", 1))
                assert str(there) in str(caught.value)
                assert receive_all(peer) == [b"1", b"2", b"3"]

    run(loop, main())


def test_address_is_ignored_on_a_socket_that_was_given_connected(loop):
    async def main():
        async with connected_pair() as ((one, _), (_, other)):
            one.sendto(b"x", ("127.0.0.1", 1))
            one.sendto(b"y")
            await other.until_count(2)
            assert other.payloads == [b"x", b"y"]

    run(loop, main())


def test_refused_datagram_is_told_and_the_endpoint_goes_on(loop):
    async def main():
        gone = udp_socket()
        there = gone.getsockname()
        gone.close()
        async with endpoint(remote_addr=there) as (transport, protocol):
            for count in (1, 2, 3):
                transport.sendto(b"anybody?")
                await protocol.until(lambda count=count: len(protocol.errors) >= count)
            assert {type(error) for error in protocol.errors} == {ConnectionRefusedError}
            assert not transport.is_closing()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
                back.bind(there)
                back.connect(transport.get_extra_info("sockname"))
                back.send(b"back")
                await protocol.until_count(1)
            assert protocol.payloads == [b"back"]

    run(loop, main())


def test_second_send_to_nobody_hears_of_the_first_before_sendto_returns(loop):
    async def main():
        gone = udp_socket()
        there = gone.getsockname()
        gone.close()
        async with endpoint(remote_addr=there) as (transport, protocol):
            transport.sendto(b"1")
            transport.sendto(b"2")
            assert [type(error) for error in protocol.errors] == [ConnectionRefusedError]

    run(loop, main())


def test_datagram_that_is_too_long_is_an_error_before_sendto_returns(loop):
    async def main():
        async with endpoint(local_addr=LOCAL) as (transport, protocol):
            transport.sendto(bytes(66000), ("127.0.0.1", 9))
            assert [error.errno for error in protocol.errors] == [errno.EMSGSIZE]
            assert transport.get_write_buffer_size() == 0
            assert not transport.is_closing()

    run(loop, main())


def test_exception_of_error_received_in_sendto_is_the_callers(loop):
    class Faulty(DatagramRecorder):
        def error_received(self, exc):
            raise ZeroDivisionError

    async def main():
        async with endpoint(Faulty(), local_addr=LOCAL) as (transport, _):
            with pytest.raises(ZeroDivisionError):
                transport.sendto(bytes(66000), ("127.0.0.1", 9))
            assert not transport.is_closing()

    run(loop, main())


def test_sendto_inside_error_received_and_datagram_received_works(loop):
    class Insisting(DatagramRecorder):
        def error_received(self, exc):
            super().error_received(exc)
            self.transport.sendto(b"short", self.where)

        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.transport.sendto(data * 2, addr)

    async def main():
        async with endpoint(Insisting(), local_addr=LOCAL) as (transport, protocol):
            with udp_socket() as peer:
                protocol.where = peer.getsockname()
                transport.sendto(bytes(66000), protocol.where)
                peer.sendto(b"ab", transport.get_extra_info("sockname"))
                assert await receive_count(peer, 2) == [b"short", b"abab"]

    run(loop, main())


# ---- a full socket ----


def fill(transport, size=100):
    """Send numbered datagrams until something waits; how many were sent and queued."""
    for number in range(BURST):
        transport.sendto(b"%06d" % number + bytes(size - 6))
        if transport.get_write_buffer_size():
            return number + 1
    raise AssertionError("the socket never got full")


def numbers(payloads):
    return [int(data[:6]) for data in payloads]


def test_what_a_full_socket_does_not_take_waits_and_leaves_in_order(loop):
    async def main():
        sock, peer = full_pair()
        async with endpoint(sock=sock) as (transport, protocol):
            count = fill(transport)
            for number in range(count, count + 100):
                transport.sendto(b"%06d" % number)
            assert len(await receive_count(peer, count + 100)) == count + 100
            await iterations(3)
            assert protocol.errors == []
        peer.close()

    run(loop, main())


def test_order_is_kept_between_queue_and_direct_sends(loop):
    async def main():
        sock, peer = full_pair()
        async with endpoint(sock=sock) as (transport, _):
            got, sent = [], 0
            while sent < 500:
                transport.sendto(b"%06d" % sent)
                sent += 1
                if sent % 37 == 0:
                    got += receive_all(peer)
                    await iterations(1)
            got += await receive_count(peer, sent - len(got))
            assert numbers(got) == list(range(500))
        peer.close()

    run(loop, main())


def test_write_buffer_counts_data_and_since_python_313_a_header_each(loop, loop_kind):
    async def main():
        sock, peer = full_pair()
        async with endpoint(sock=sock) as (transport, _):
            fill(transport)
            header = 8 if SENDS_EMPTY else 0
            assert transport.get_write_buffer_size() == 100 + header
            transport.sendto(b"12345")
            assert transport.get_write_buffer_size() == 105 + 2 * header
            transport.abort()
        peer.close()

    run(loop, main())


def test_mutable_data_may_change_once_sendto_has_queued_it(loop):
    async def main():
        sock, peer = full_pair()
        async with endpoint(sock=sock) as (transport, _):
            count = fill(transport)
            data = bytearray(b"mine")
            transport.sendto(data)
            transport.sendto(memoryview(data))
            data[:] = b"else"
            assert (await receive_count(peer, count + 2))[-2:] == [b"mine", b"mine"]
        peer.close()

    run(loop, main())


def test_protocol_is_paused_above_high_water_and_resumed_when_drained(loop, loop_kind):
    oracle_lacks(
        loop_kind, SENDS_EMPTY, "the headers of what has left stay counted, so it never resumes"
    )

    async def main():
        sock, peer = full_pair()
        async with endpoint(sock=sock) as (transport, protocol):
            transport.set_write_buffer_limits(high=500, low=200)
            assert transport.get_write_buffer_limits() == (200, 500)
            count = fill(transport)
            while not protocol.pauses:
                transport.sendto(bytes(100))
                count += 1
            assert transport.get_write_buffer_size() > 500
            transport.sendto(bytes(100))
            assert protocol.pauses == 1
            await receive_count(peer, count + 1)
            await protocol.until_called("resume_writing")
            assert protocol.resumes == 1
            assert transport.get_write_buffer_size() == 0
        peer.close()

    run(loop, main())


def test_limits_that_contradict_each_other_are_refused(loop):
    async def main():
        async with endpoint(local_addr=LOCAL) as (transport, _):
            assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
            transport.set_write_buffer_limits(low=100)
            assert transport.get_write_buffer_limits() == (100, 400)
            with pytest.raises(ValueError, match="must be >= low"):
                transport.set_write_buffer_limits(high=1, low=2)

    run(loop, main())


def test_close_flushes_the_queue_before_connection_lost(loop):
    async def main():
        sock, peer = full_pair()
        async with endpoint(sock=sock) as (transport, protocol):
            count = fill(transport)
            transport.sendto(b"queued")
            transport.close()
            assert transport.is_closing()
            transport.sendto(b"late")
            await iterations(3)
            assert "connection_lost" not in protocol.calls
            assert (await receive_count(peer, count + 2))[-2:] == [b"queued", b"late"]
            await protocol.until_called("connection_lost")
            assert protocol.lost is None
        peer.close()

    run(loop, main())


def test_abort_drops_the_queue_at_once(loop):
    async def main():
        sock, peer = full_pair()
        async with endpoint(sock=sock) as (transport, protocol):
            count = fill(transport)
            transport.sendto(b"dropped")
            transport.abort()
            await protocol.until_called("connection_lost")
            assert protocol.lost is None
            await iterations(3)
            assert len(receive_all(peer)) < count + 1
        peer.close()

    run(loop, main())


def test_peer_that_leaves_while_datagrams_wait_for_it_is_an_error(loop):
    async def main():
        sock, peer = full_pair()
        async with endpoint(sock=sock) as (transport, protocol):
            fill(transport)
            peer.close()
            await protocol.until_called("error_received")
            assert isinstance(protocol.errors[0], ConnectionRefusedError)
            assert not transport.is_closing()
            transport.close()
            await protocol.until_called("connection_lost")

    run(loop, main())


def test_full_peer_of_an_unconnected_unix_socket_gets_all_in_order(loop, tmp_path):
    # One more than a peer holds fills it: 10 as the kernel comes, 512 with systemd.
    count = 200 + int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text())

    async def main():
        path = str(tmp_path / "peer")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            peer.setblocking(False)
            peer.bind(path)
            async with endpoint(family=socket.AF_UNIX) as (transport, protocol):
                for number in range(count):
                    transport.sendto(b"%06d" % number, path)
                assert transport.get_write_buffer_size() > 0
                assert numbers(await receive_count(peer, count)) == list(range(count))
                assert protocol.errors == []

    run(loop, main())


# ---- the end ----


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_ending_tells_the_protocol_once_and_later(loop, ending):
    async def main():
        async with endpoint(local_addr=LOCAL) as (transport, protocol):
            sock = transport.get_extra_info("socket")
            getattr(transport, ending)()
            getattr(transport, ending)()
            assert transport.is_closing()
            assert protocol.calls == ["connection_made"]
            await protocol.until_called("connection_lost")
            await iterations(3)
            assert protocol.calls == ["connection_made", "connection_lost"]
            assert protocol.lost is None
            assert sock.fileno() == -1

    run(loop, main())


def test_sendto_between_close_and_connection_lost_is_as_in_asyncio(loop):
    async def main():
        with udp_socket() as peer:
            there = peer.getsockname()
            async with endpoint(local_addr=LOCAL) as (transport, _):
                transport.close()
                transport.sendto(b"still", there)
                assert receive_all(peer) == [b"still"]
            async with endpoint(remote_addr=there) as (transport, _):
                transport.close()
                transport.sendto(b"not any more")
                assert receive_all(peer) == []

    run(loop, main())


def test_sendto_to_a_closed_connected_endpoint_warns_from_the_fifth_on(loop, caplog):
    async def main():
        with udp_socket() as peer:
            async with endpoint(remote_addr=peer.getsockname()) as (transport, _):
                transport.abort()
                await iterations(3)
                for _ in range(4):
                    transport.sendto(b"x")
                assert caplog.messages == []
                transport.sendto(b"x")
                assert caplog.messages == ["socket.send() raised exception."]

    with caplog.at_level(logging.WARNING, "asyncio"):
        run(loop, main())


def test_sendto_after_connection_lost_of_an_unconnected_endpoint_does_nothing(loop, loop_kind):
    oracle_lacks(loop_kind, True, "it uses what connection_lost() has cleared, and fails inside")

    async def main():
        async with endpoint(local_addr=LOCAL) as (transport, protocol):
            transport.close()
            await protocol.until_called("connection_lost")
            transport.sendto(b"x", ("127.0.0.1", 9))
            assert transport.get_protocol() is None

    run(loop, main())


def test_transport_that_nobody_closed_warns_when_its_loop_has_gone(make_loop):
    loop = make_loop()
    transport, protocol = loop.run_until_complete(
        loop.create_datagram_endpoint(DatagramRecorder, local_addr=LOCAL)
    )
    watched = weakref.ref(transport)
    loop.close()
    with resource_warning("unclosed transport <"):
        del transport, protocol
        gc.collect()
    # The recorded warning held the transport once more; since 3.15 a weak reference sees that,
    # and the cycle of transport and protocol waits for the next collection.
    gc.collect()
    assert watched() is None


def test_loop_close_with_datagrams_in_flight_and_in_the_queue_leaks_nothing(make_loop):
    loop = make_loop()
    sock, peer = full_pair()
    peer.connect(sock.getsockname())

    async def main():
        transport, _ = await loop.create_datagram_endpoint(DatagramRecorder, sock=sock)
        fill(transport)
        await iterations(2)
        peer.send(b"nobody will read this")
        return transport

    transport = loop.run_until_complete(main())
    loop.close()
    with resource_warning("unclosed transport <"):
        del transport
        gc.collect()
    assert sock.fileno() == -1
    peer.close()


def test_process_that_sends_closes_and_stops_has_sent(loop):
    async def make():
        return await loop.create_datagram_endpoint(DatagramRecorder, local_addr=LOCAL)

    transport, _ = run(loop, make())
    with udp_socket() as peer:
        transport.sendto(b"between runs", peer.getsockname())
        transport.close()
        assert receive_all(peer) == [b"between runs"]
    loop.run_until_complete(iterations(2))


def test_hundreds_of_endpoints_are_freed_with_what_they_refer_to(loop):
    async def main():
        references = []
        for _ in range(5):
            endpoints = []
            for _ in range(100):
                made = await loop.create_datagram_endpoint(DatagramRecorder, local_addr=LOCAL)
                endpoints.append(made)
            first = endpoints[0][0].get_extra_info("sockname")
            for transport, _protocol in endpoints:
                transport.sendto(b"x", first)
            await endpoints[0][1].until_count(100)
            for transport, _protocol in endpoints:
                transport.close()
            references += [weakref.ref(thing) for pair in endpoints for thing in pair]
            del endpoints, made, transport, _protocol
            # A turn takes in no more of their ends than the completion queue holds.
            await iterations(100 + 3)
        gc.collect()
        assert [thing for thing in references if thing() is not None] == []

    run(loop, main())


def test_facts_about_an_endpoint_are_the_sockets(loop):
    async def main():
        async with endpoint(local_addr=LOCAL) as (transport, protocol):
            sock = transport.get_extra_info("socket")
            assert sock.getsockname() == transport.get_extra_info("sockname")
            assert sock.type == socket.SOCK_DGRAM
            assert transport.get_extra_info("peername") is None
            assert transport.get_extra_info("nothing", 5) == 5
            assert transport.get_protocol() is protocol
            assert isinstance(transport, asyncio.Transport)
            text = repr(transport)
            assert f" fd={sock.fileno()} read=polling write=<idle, bufsize=0>>" in text
            transport.close()
            assert " closing fd=" in repr(transport)
            await iterations(3)
            assert " closed fd=" in repr(transport)

    run(loop, main())


def test_transport_is_a_datagram_transport_on_every_python(loop, loop_kind):
    oracle_lacks(loop_kind, sys.version_info < (3, 12), "it is none before 3.12")

    async def main():
        async with endpoint(local_addr=LOCAL) as (transport, _):
            assert isinstance(transport, asyncio.DatagramTransport)

    run(loop, main())


def test_set_protocol_gives_what_comes_next_to_another(loop):
    async def main():
        async with endpoint(local_addr=LOCAL) as (transport, first):
            second = DatagramRecorder()
            with udp_socket() as peer:
                peer.sendto(b"1", transport.get_extra_info("sockname"))
                await first.until_count(1)
                transport.set_protocol(second)
                peer.sendto(b"2", transport.get_extra_info("sockname"))
                await second.until_count(1)
            transport.close()
            await second.until_called("connection_lost")
            assert first.calls == ["connection_made", "datagram_received"]

    run(loop, main())
