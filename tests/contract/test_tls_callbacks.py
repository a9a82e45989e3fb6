"""What OpenSSL calls back through an SSLContext: server names, key logs, messages, shared keys.

All of them find their SSLObject through the connection at work: a record path of its own that
lacks it crashes.
"""

import asyncio
import contextlib
import gc
import os
import pathlib
import ssl
import subprocess
import sys

import pytest
from harness import Echo, Recorder, run, serving, tcp_pair
from tls_peer import NAME, TlsPeer, echoed, tls_attached

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


@contextlib.contextmanager
def unraisable():
    """The exceptions that a callback had nobody to raise to."""
    found = []
    before = sys.unraisablehook
    sys.unraisablehook = lambda told: found.append(told.exc_value)
    try:
        yield found
    finally:
        sys.unraisablehook = before


def connect(loop, address, context, name=NAME, protocol=Recorder):
    return loop.create_connection(protocol, *address, ssl=context, server_hostname=name)


async def talked(loop, address, context):
    """Bulk of a connection there and back, so that records go through all of its path."""
    data = bytes(range(256)) * 1024
    transport, protocol = await connect(loop, address, context)
    transport.write(data)
    await protocol.until_size(len(data))
    assert protocol.data == data
    transport.close()
    await protocol.until_lost()
    assert protocol.lost is None


# ---- the server's name ------------------------------------------------------------------------


def test_tls_sni_callback_sees_the_name_the_object_and_the_context_of_each_connection(
    loop, certificates, version
):
    seen = []

    def asked(tls, name, context):
        seen.append((type(tls), tls.server_side, name, context))

    async def main():
        context = certificates.server(version)
        context.sni_callback = asked
        async with serving(Echo, ssl=context) as (_, address):
            for name in (NAME, "localhost"):
                await echoed(connect(loop, address, certificates.client(version), name))
        assert seen == [(ssl.SSLObject, True, name, context) for name in (NAME, "localhost")]

    run(loop, main())


def test_tls_sni_callback_of_a_client_without_a_name_gets_none(loop, certificates):
    seen = []

    async def main():
        server = certificates.server()
        server.sni_callback = lambda tls, name, context: seen.append(name)
        client = certificates.client()
        client.check_hostname = False
        async with serving(Echo, ssl=server) as (_, address):
            await echoed(connect(loop, address, client, ""))
        assert seen == [None]

    run(loop, main())


def test_tls_sni_callback_switches_the_context_and_its_certificate_is_what_the_client_sees(
    loop, certificates, version
):
    made = []

    class Served(Echo):
        def connection_made(self, transport):
            super().connection_made(transport)
            made.append(transport)

    async def main():
        first, second = certificates.server(version), certificates.stranger(version)
        second.set_alpn_protocols(["second"])
        first.sni_callback = lambda tls, name, context: setattr(tls, "context", second)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        certificates.strangers.configure_trust(client)
        client.set_alpn_protocols(["second"])
        async with serving(Served, ssl=first) as (_, address):
            await talked(loop, address, client)
            tls = made[0].get_extra_info("ssl_object")
            assert tls.context is second
            # What the transport was made with is what it tells.
            assert made[0].get_extra_info("sslcontext") is first
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect(loop, address, certificates.client(version))

    run(loop, main())


def pytest_fails_when_made():
    class Never(asyncio.Protocol):
        def connection_made(self, transport):
            pytest.fail("a refused client was let in")

    return Never()


async def refused(loop, certificates, context, version):
    """What a server's handshake ends with; asyncio's resets the connection, and sends no alert."""
    sock, other = tcp_pair()
    peer = TlsPeer(other, certificates.client(version))
    protocol = Recorder()
    opening = loop.connect_accepted_socket(lambda: protocol, sock, ssl=context)
    error, peers = await asyncio.gather(opening, peer.handshake(), return_exceptions=True)
    assert isinstance(peers, OSError | None)
    assert protocol.calls == []
    peer.close()
    return error


@pytest.mark.parametrize(
    "alert",
    [
        ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME,
        ssl.ALERT_DESCRIPTION_ACCESS_DENIED,
        ssl.ALERT_DESCRIPTION_INTERNAL_ERROR,
        255,
    ],
)
def test_tls_sni_callback_returning_an_alert_fails_the_handshake(
    loop, certificates, version, alert
):
    async def main():
        context = certificates.server(version)
        context.sni_callback = lambda *_: alert
        error = await refused(loop, certificates, context, version)
        assert type(error) is ssl.SSLError
        assert error.reason == "CALLBACK_FAILED"

    run(loop, main())


class Wrong(Exception):
    """What a callback raises."""


@pytest.mark.parametrize("wrong", [Wrong, KeyboardInterrupt, "text"])
def test_tls_sni_callback_that_goes_wrong_fails_the_handshake_and_the_server_serves_on(
    loop, certificates, version, wrong
):
    asked = []

    def failing(tls, name, context):
        asked.append(name)
        if len(asked) > 1:
            return None
        if wrong == "text":
            return wrong
        raise wrong(name)

    async def main():
        context = certificates.server(version)
        context.sni_callback = failing
        error = await refused(loop, certificates, context, version)
        assert type(error) is ssl.SSLError
        assert error.reason == "CALLBACK_FAILED"
        async with serving(Echo, ssl=context) as (_, address):
            await talked(loop, address, certificates.client(version))

    with unraisable() as found:
        run(loop, main())
        assert len(found) == 1
        assert type(found[0]) is (TypeError if wrong == "text" else wrong)
        found.clear()


def test_tls_sni_callback_that_closes_the_server_leaves_its_connection(loop, certificates):
    """It runs in the middle of the handshake, in the middle of the loop's work."""

    async def main():
        context = certificates.server()
        servers = []
        context.sni_callback = lambda *_: servers[0].close()
        async with serving(Echo, ssl=context) as (server, address):
            servers.append(server)
            await talked(loop, address, certificates.client())

    run(loop, main())


def test_tls_sni_callback_may_collect_and_connect_by_itself(loop, certificates):
    """Whatever Python does in it: here another whole handshake, by hand."""

    def nested(tls, name, context):
        gc.collect()
        ends = []
        pipes = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends.append(certificates.server().wrap_bio(*pipes, server_side=True))
        ends.append(certificates.client().wrap_bio(*reversed(pipes), server_hostname=NAME))
        done = set()
        while len(done) < 2:
            for end in reversed(ends):
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()
                    done.add(end)

    async def main():
        context = certificates.server()
        context.sni_callback = nested
        async with serving(Echo, ssl=context) as (_, address):
            await talked(loop, address, certificates.client())

    run(loop, main())


# ---- key logs ---------------------------------------------------------------------------------

LABELS = {
    "TLSv1_2": {"CLIENT_RANDOM"},
    "TLSv1_3": {
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_TRAFFIC_SECRET_0",
        "CLIENT_TRAFFIC_SECRET_0",
    },
}


def labels(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return {line.split()[0] for line in lines}


def test_tls_key_log_is_written_at_both_ends(loop, certificates, version, tmp_path):
    async def main():
        ends = []
        for name in ("server", "client"):
            context = getattr(certificates, name)(version)
            context.keylog_filename = str(tmp_path / name)
            ends.append(context)
        server, client = ends
        async with serving(Echo, ssl=server) as (_, address):
            await talked(loop, address, client)
        assert LABELS[version.name] <= labels(tmp_path / "server")
        assert LABELS[version.name] <= labels(tmp_path / "client")

    run(loop, main())


def test_tls_key_log_of_the_environment_is_written_by_a_default_context(
    loop_kind, certificates, tmp_path
):
    """SSLKEYLOGFILE, read by create_default_context() in a process that began with it."""
    authority, own, keys = tmp_path / "authority", tmp_path / "own", tmp_path / "keys"
    certificates.write_authority(authority)
    certificates.write_server(own)
    program = pathlib.Path(__file__).parent / "tls_key_log_child.py"
    environment = {
        **os.environ,
        "SSLKEYLOGFILE": str(keys),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
    }
    command = [sys.executable, str(program), loop_kind, str(authority), str(own), NAME]
    child = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50)
    assert (child.returncode, child.stdout, child.stderr) == (0, "262144\n", "")
    assert LABELS["TLSv1_3"] <= labels(keys)


# ---- messages ---------------------------------------------------------------------------------


def test_tls_message_callback_is_told_of_both_directions_and_the_records_arrive(
    loop, certificates, version, server_side
):
    told = []

    def message(tls, direction, tls_version, content_type, message_type, data):
        told.append((type(tls), direction, getattr(content_type, "name", content_type)))

    async def main():
        side = certificates.server if server_side else certificates.client
        context = side(version)
        context._msg_callback = message
        options = {"server_side": server_side, "version": version, "context": context}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            assert {kind for kind, _, _ in told} == {ssl.SSLObject}
            assert {direction for _, direction, _ in told} == {"read", "write"}
            assert "HANDSHAKE" in {content for _, _, content in told}
            told.clear()
            data = bytes(100_000)
            transport.write(data)
            assert await peer.recv_exactly(len(data)) == data
            assert {direction for _, direction, _ in told} == {"write"}
            told.clear()
            await peer.send_all(data)
            await protocol.until_size(len(data))
            assert "read" in {direction for _, direction, _ in told}
            await peer.notify()
            await protocol.until_lost()
            assert "ALERT" in {content for _, _, content in told}

    run(loop, main())


def test_tls_message_callback_that_is_taken_away_in_mid_stream_is_told_no_more(loop, certificates):
    told = []

    async def main():
        context = certificates.client()
        context._msg_callback = lambda *what: told.append(what)
        async with tls_attached(certificates, context=context) as (transport, protocol, peer):
            assert told
            context._msg_callback = None
            await peer.send_all(b"more")
            await protocol.until_size(4)
            transport.write(b"less")
            assert await peer.recv_exactly(4) == b"less"

    run(loop, main())


def test_tls_message_callback_that_raises_in_the_handshake_fails_it(loop, certificates, errors):
    def failing(*what):
        raise Wrong

    async def main():
        context = certificates.server()
        context._msg_callback = failing
        assert type(await refused(loop, certificates, context, None)) is Wrong

    run(loop, main())
    told = errors.pop()
    assert told["message"] == "Fatal error: protocol.buffer_updated() call failed."
    assert type(told["exception"]) is Wrong


@pytest.mark.parametrize("direction", ["read", "write"])
def test_tls_message_callback_that_raises_in_mid_stream_ends_the_connection(
    loop, certificates, errors, direction
):
    armed = []

    def failing(tls, told_direction, *what):
        if armed and told_direction == direction:
            raise Wrong

    async def main():
        context = certificates.client()
        context._msg_callback = failing
        async with tls_attached(certificates, context=context) as (transport, protocol, peer):
            armed.append(True)
            if direction == "read":
                await peer.send_all(b"x")
            else:
                transport.write(b"x")
            await protocol.until_lost()
            assert type(protocol.lost) is Wrong

    run(loop, main())
    told = errors.pop()
    assert told["message"] == "Fatal error on SSL protocol"
    assert type(told["exception"]) is Wrong


def test_tls_interrupt_out_of_a_message_callback_leaves_what_was_written_for_the_next_run(
    loop, certificates
):
    armed = []

    def interrupting(tls, direction, *what):
        if armed and direction == "write":
            armed.clear()
            raise KeyboardInterrupt

    async def write(transport):
        armed.append(True)
        transport.write(b"x")
        await asyncio.sleep(0)
        pytest.fail("the interrupt has not ended the run")

    async def main():
        context = certificates.client()
        context._msg_callback = interrupting
        async with tls_attached(certificates, context=context) as (transport, protocol, peer):
            go_on = loop.create_future()
            opened.set_result((transport, go_on))
            await go_on
            transport.write(b"yz")
            received = await peer.recv_exactly(3)
            # The record of which OpenSSL told had been made: it may come twice, in asyncio too.
            if received == b"xxy":
                received = b"xy" + await peer.recv_exactly(1)
            assert received == b"xyz"
            assert protocol.calls == ["connection_made"]

    opened = loop.create_future()
    task = loop.create_task(main())
    transport, go_on = loop.run_until_complete(opened)
    writing = loop.create_task(write(transport))
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(writing)
    go_on.set_result(None)
    run(loop, asyncio.wait({task}))
    task.result()
    assert writing.done()


@pytest.mark.parametrize("direction", ["read", "write"])
def test_tls_message_callback_of_a_context_that_sni_chose_ends_the_connection_when_it_raises(
    loop, certificates, errors, direction
):
    armed = []

    def failing(tls, told_direction, *what):
        if armed and told_direction == direction:
            raise Wrong

    chosen = certificates.server()
    chosen._msg_callback = failing

    def choose(tls, name, context):
        tls.context = chosen

    async def main():
        context = certificates.server()
        context.sni_callback = choose
        options = {"server_side": True, "context": context}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            armed.append(True)
            if direction == "read":
                await peer.send_all(b"x")
            else:
                transport.write(b"x")
            await protocol.until_lost()
            assert type(protocol.lost) is Wrong

    run(loop, main())
    told = errors.pop()
    assert told["message"] == "Fatal error on SSL protocol"
    assert type(told["exception"]) is Wrong


# ---- keys that both ends share ----------------------------------------------------------------

needs_psk = pytest.mark.skipif(
    not getattr(ssl, "HAS_PSK", False), reason="ssl of this Python knows no shared keys"
)


def psk_contexts(version, key=b"\x01" * 32, other=None):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    asked = []

    def served(identity):
        asked.append(identity)
        return other or key

    for context in (server, client):
        context.minimum_version = context.maximum_version = version
        context.set_ciphers("PSK")
    server.set_psk_server_callback(served, "hint")
    client.set_psk_client_callback(lambda hint: ("identity", key))
    return server, client, asked


@needs_psk
def test_tls_shared_key_takes_the_place_of_certificates(loop, version):
    async def main():
        server, client, asked = psk_contexts(version)
        async with serving(Echo, ssl=server) as (_, address):
            await talked(loop, address, client)
        assert set(asked) == {"identity"}

    run(loop, main())


@needs_psk
def test_tls_shared_key_that_differs_fails_the_handshake(loop, version):
    async def main():
        server, client, _ = psk_contexts(version, other=b"\x02" * 32)
        async with serving(pytest_fails_when_made, ssl=server) as (_, address):
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                await connect(loop, address, client)

    run(loop, main())


@needs_psk
def test_tls_shared_key_callback_that_raises_fails_the_handshake(loop, version):
    async def main():
        server, client, _ = psk_contexts(version)

        def failing(hint):
            raise LookupError(hint)

        client.set_psk_client_callback(failing)
        async with serving(pytest_fails_when_made, ssl=server) as (_, address):
            with pytest.raises((LookupError, ssl.SSLError, ConnectionResetError)):
                await connect(loop, address, client)

    with unraisable() as found:
        run(loop, main())
        found.clear()


# ---- ALPN and certificates --------------------------------------------------------------------


def test_tls_alpn_by_the_context_that_the_sni_callback_chose(loop, certificates):
    """The name comes before the protocols, and a server of many hosts relies on it."""

    async def main():
        first, second = certificates.server(), certificates.server()
        first.set_alpn_protocols(["http/1.1"])
        second.set_alpn_protocols(["h2"])
        first.sni_callback = lambda tls, name, context: setattr(tls, "context", second)
        client = certificates.client()
        client.set_alpn_protocols(["http/1.1", "h2"])
        async with serving(Echo, ssl=first) as (_, address):
            transport, protocol = await connect(loop, address, client)
            tls = transport.get_extra_info("ssl_object")
            assert tls.selected_alpn_protocol() == "h2"
            transport.close()
            await protocol.until_lost()

    run(loop, main())


@pytest.mark.skipif(not hasattr(ssl.SSLContext, "post_handshake_auth"), reason="no such option")
@pytest.mark.parametrize("certificate", ["own", None, "strange"])
def test_tls_server_asks_for_the_certificate_in_mid_stream(
    loop, loop_kind, certificates, certificate
):
    """TLS 1.3 post-handshake authentication; the client under test answers by itself."""

    async def main():
        context = certificates.client(certificate=certificate)
        context.post_handshake_auth = True
        server = certificates.server(clients=ssl.CERT_OPTIONAL)
        # Asked for later, and not in the handshake.
        server.verify_mode = ssl.CERT_REQUIRED
        server.post_handshake_auth = True
        options = {"context": context, "peer_context": server}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            transport.write(b"GET /secret\n")
            assert await peer.recv_exactly(12) == b"GET /secret\n"
            assert peer.ssl.getpeercert() is None
            peer.ssl.verify_client_post_handshake()
            # The request leaves with what is written next.
            await peer.send_all(b"who are you?")
            await protocol.until_size(12)
            transport.write(b"me")
            if certificate != "own":
                with pytest.raises(ssl.SSLError):
                    await peer.recv_exactly(2)
                return
            assert await peer.recv_exactly(2) == b"me"
            assert peer.ssl.getpeercert()["subjectAltName"] == (("email", "client@server.test"),)

    run(loop, main())


@pytest.mark.parametrize("certificate", ["own", None])
def test_tls_transport_asks_for_the_certificate_in_mid_stream(loop, certificates, certificate):
    """The same at the server: user code calls the SSLObject of its transport."""

    async def main():
        server = certificates.server(clients=ssl.CERT_REQUIRED)
        server.post_handshake_auth = True
        client = certificates.client(certificate=certificate)
        client.post_handshake_auth = True
        options = {"server_side": True, "context": server, "peer_context": client}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            tls = transport.get_extra_info("ssl_object")
            assert tls.getpeercert() is None
            tls.verify_client_post_handshake()
            transport.write(b"who?")
            assert await peer.recv_exactly(4) == b"who?"
            await peer.send_all(b"me")
            if certificate is None:
                await protocol.until_lost()
                assert isinstance(protocol.lost, ssl.SSLError)
                assert protocol.data == b""
                return
            await protocol.until_size(2)
            names = tls.getpeercert()["subjectAltName"]
            assert names == (("email", "client@server.test"),)
            # It was asked for once, at the handshake's end.
            assert transport.get_extra_info("peercert") is None

    run(loop, main())


def test_tls_post_handshake_authentication_of_a_client_that_refuses_it_raises(loop, certificates):
    async def main():
        server = certificates.server(clients=ssl.CERT_REQUIRED)
        server.post_handshake_auth = True
        options = {"server_side": True, "context": server}
        with contextlib.suppress(ssl.SSLError):
            async with tls_attached(certificates, **options) as (transport, protocol, peer):
                tls = transport.get_extra_info("ssl_object")
                with pytest.raises(ssl.SSLError):
                    tls.verify_client_post_handshake()
                # Nothing happened to the stream.
                await peer.send_all(b"still")
                await protocol.until_size(5)

    run(loop, main())
