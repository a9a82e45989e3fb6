"""TLS: every way into it, what it checks, what it tells, and how it carries bytes."""

import asyncio
import logging
import socket
import ssl
import sys

import pytest
from harness import (
    PAIRS,
    Echo,
    Peer,
    Recorder,
    iterations,
    oracle_lacks,
    run,
    serving,
)
from tls_peer import NAME, echoed, tls_attached


async def speak_no_tls(address):
    """Be a client that is dropped."""
    plain = Peer(socket.create_connection(address))
    await plain.send_all(b"GET / HTTP/1.0\r\n\r\n")
    try:
        await plain.recv_all()
    except ConnectionResetError:
        pass
    plain.close()


async def closed(server):
    server.close()
    await iterations(5)
    await server.wait_closed()


# ---- every way in -----------------------------------------------------------------------------


def test_tls_create_connection_and_create_server_talk(loop, certificates, version):
    async def main():
        async with serving(Echo, ssl=certificates.server(version)) as (_, address):
            await echoed(
                loop.create_connection(
                    Recorder, *address, ssl=certificates.client(version), server_hostname=NAME
                )
            )

    run(loop, main())


def test_tls_host_is_the_name_that_is_checked_by_default(loop, certificates):
    async def main():
        async with serving(Echo, ssl=certificates.server()) as (_, address):
            for host in ("127.0.0.1", "localhost"):
                options = {"ssl": certificates.client(), "family": socket.AF_INET}
                await echoed(loop.create_connection(Recorder, host, address[1], **options))

    run(loop, main())


def test_tls_unix_connection_and_unix_server_talk(loop, certificates, version, tmp_path):
    path = tmp_path / "socket"

    async def main():
        server = await loop.create_unix_server(Echo, path, ssl=certificates.server(version))
        await echoed(
            loop.create_unix_connection(
                Recorder, path, ssl=certificates.client(version), server_hostname=NAME
            )
        )
        await closed(server)

    run(loop, main())


@pytest.mark.parametrize("pair", PAIRS)
def test_tls_connected_sockets_talk(loop, certificates, version, server_side, pair):
    async def main():
        options = {"server_side": server_side, "version": version, "pair": PAIRS[pair]}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            transport.write(b"hello")
            assert await peer.recv_exactly(5) == b"hello"
            await peer.send_all(b"world")
            await protocol.until_size(5)
            assert protocol.data == b"world"

    run(loop, main())


def test_tls_streams_talk(loop, certificates, version, tmp_path):
    path = tmp_path / "socket"

    async def main():
        async def handler(reader, writer):
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        context = certificates.server(version)
        tcp = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=context)
        unix = await asyncio.start_unix_server(handler, path, ssl=context)
        options = {"ssl": certificates.client(version), "server_hostname": NAME}
        address = tcp.sockets[0].getsockname()
        for opening in (
            asyncio.open_connection(*address, **options),
            asyncio.open_unix_connection(path, **options),
        ):
            reader, writer = await opening
            writer.write(b"a line\n")
            assert await reader.readline() == b"a line\n"
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
        await closed(tcp)
        await closed(unix)

    run(loop, main())


def test_tls_true_uses_the_default_context(loop, certificates, monkeypatch, tmp_path):
    path = tmp_path / "authority.pem"
    certificates.write_authority(path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))

    async def main():
        async with serving(Echo, ssl=certificates.server()) as (_, address):
            transport = await echoed(loop.create_connection(Recorder, *address, ssl=True))
            context = transport.get_extra_info("sslcontext")
            assert context.verify_mode == ssl.CERT_REQUIRED
            assert context.check_hostname is True

    run(loop, main())


def test_tls_true_does_not_trust_an_unknown_authority(loop, certificates):
    async def main():
        async with serving(Echo, ssl=certificates.server()) as (_, address):
            with pytest.raises(ssl.SSLCertVerificationError):
                await loop.create_connection(Recorder, *address, ssl=True)

    run(loop, main())


# ---- arguments --------------------------------------------------------------------------------


def test_tls_true_for_an_accepted_socket_raises(loop):
    sock, other = socket.socketpair()
    with pytest.raises(ValueError, match="^Server side SSL needs a valid SSLContext$"):
        run(loop, loop.connect_accepted_socket(Recorder, sock, ssl=True))
    sock.close()
    other.close()


@pytest.mark.parametrize("timeout", [0, -1, -0.5])
@pytest.mark.parametrize("option", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
def test_tls_time_limit_not_positive_raises(loop, certificates, option, timeout):
    text = f"^{option} should be a positive number, got {timeout}$"
    client = {"ssl": certificates.client(), "server_hostname": NAME, option: timeout}
    server = {"ssl": certificates.server(), option: timeout}
    for method, options in (
        (loop.create_connection, client),
        (loop.create_unix_connection, client),
        (loop.connect_accepted_socket, server),
    ):
        sock, other = socket.socketpair()
        with pytest.raises(ValueError, match=text):
            run(loop, method(Recorder, sock=sock, **options))
        sock.close()
        other.close()


def ssl_asks_for_a_name():
    try:
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="")
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("checked", [True, False])
def test_tls_server_hostname_empty_asks_for_no_check_of_the_name(loop, certificates, checked):
    if checked and ssl_asks_for_a_name():
        pytest.skip("ssl of this Python does not check a name without one")

    async def main():
        context = certificates.client()
        context.check_hostname = checked
        async with serving(Echo, ssl=certificates.server()) as (_, address):
            await echoed(
                loop.create_connection(Recorder, *address, ssl=context, server_hostname="")
            )

    run(loop, main())


def test_tls_server_hostname_refused_after_connecting_closes_the_socket(
    loop, loop_kind, certificates
):
    oracle_lacks(loop_kind, sys.version_info < (3, 14), "the socket is left to the collector")

    async def main():
        accepted = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = listener.getsockname()
            with pytest.raises(ValueError):
                await loop.create_connection(
                    Recorder, *address, ssl=certificates.client(), server_hostname=".leading.dot"
                )
            accepted.append(Peer(listener.accept()[0]))
        assert await accepted[0].recv() == b""
        accepted[0].close()

    run(loop, main())


def test_tls_ssl_socket_is_refused_everywhere(loop, certificates):
    """asyncio does TLS itself: a socket that does it too is a mistake."""
    sock, other = socket.socketpair()
    wrapped = certificates.client().wrap_socket(
        sock, server_hostname=NAME, do_handshake_on_connect=False
    )
    for opening in (
        loop.create_connection(pytest.fail, sock=wrapped),
        loop.create_server(pytest.fail, sock=wrapped),
        loop.connect_accepted_socket(pytest.fail, wrapped),
    ):
        with pytest.raises(TypeError, match="^Socket cannot be of type SSLSocket$"):
            run(loop, opening)
    wrapped.close()
    other.close()


@pytest.mark.parametrize("falsy", [0, "", None])
def test_tls_falsy_context_of_a_server_means_no_tls(loop, falsy):
    async def main():
        async with serving(Echo, ssl=falsy) as (_, address):
            await echoed(loop.create_connection(Recorder, *address))

    run(loop, main())


# ---- what is checked --------------------------------------------------------------------------


def refused(loop, client, server, error, match=None, **options):
    """The client gets `error`, and its protocol hears of nothing."""

    async def main():
        async with serving(Echo, ssl=server) as (_, address):
            protocol = Recorder()
            with pytest.raises(error, match=match) as got:
                await loop.create_connection(
                    lambda: protocol,
                    *address,
                    ssl=client,
                    **{"server_hostname": NAME, **options},
                )
            await iterations(5)
            assert protocol.calls == []
        return got.value

    return run(loop, main())


def test_tls_hostname_of_another_raises(loop, certificates, errors):
    error = refused(
        loop,
        certificates.client(),
        certificates.server(),
        ssl.SSLCertVerificationError,
        "Hostname mismatch",
        server_hostname="other.test",
    )
    assert error.verify_code == 62
    # It is an OSError: nobody hears of it but the caller.
    assert errors == []


def test_tls_authority_unknown_raises(loop, certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    refused(loop, context, certificates.server(), ssl.SSLCertVerificationError)


def test_tls_no_version_in_common_raises(loop, certificates):
    refused(
        loop,
        certificates.client(ssl.TLSVersion.TLSv1_2),
        certificates.server(ssl.TLSVersion.TLSv1_3),
        (ssl.SSLError, ConnectionResetError),
    )


def test_tls_server_that_speaks_no_tls_raises(loop, certificates):
    async def main():
        async with serving(Greeter) as (_, address):
            with pytest.raises(ssl.SSLError):
                await loop.create_connection(
                    Recorder,
                    *address,
                    ssl=certificates.client(),
                    server_hostname=NAME,
                )

    class Greeter(asyncio.Protocol):
        def connection_made(self, transport):
            transport.write(b"220 speak friend and enter\r\n")

    run(loop, main())


def test_tls_client_that_speaks_no_tls_is_dropped_and_the_server_serves_on(loop, certificates):
    async def main():
        made = []

        def factory():
            made.append(Echo())
            return made[-1]

        async with serving(factory, ssl=certificates.server()) as (_, address):
            await speak_no_tls(address)
            assert not hasattr(made[0], "transport")
            await echoed(
                loop.create_connection(
                    Recorder, *address, ssl=certificates.client(), server_hostname=NAME
                )
            )

    run(loop, main())


@pytest.mark.parametrize("need", [ssl.CERT_REQUIRED, ssl.CERT_OPTIONAL])
def test_tls_client_certificate_reaches_the_server(loop, certificates, version, need):
    async def main():
        served = []

        def factory():
            served.append(Recorder())
            return served[-1]

        context = certificates.server(version, clients=need)
        async with serving(factory, ssl=context) as (_, address):
            transport, protocol = await loop.create_connection(
                Recorder,
                *address,
                ssl=certificates.client(version, "own"),
                server_hostname=NAME,
            )
            transport.write(b"x")
            await served_until(served)
            await served[0].until_size(1)
            certificate = served[0].transport.get_extra_info("peercert")
            assert certificate["subjectAltName"] == (("email", "client@server.test"),)
            transport.close()
            await protocol.until_lost()
            await served[0].until_lost()

    run(loop, main())


async def served_until(served):
    while not served or served[0].transport is None:
        await asyncio.sleep(0)


def test_tls_client_certificate_optional_and_absent_is_let_in(loop, certificates, version):
    async def main():
        context = certificates.server(version, clients=ssl.CERT_OPTIONAL)
        async with serving(Echo, ssl=context) as (_, address):
            await echoed(
                loop.create_connection(
                    Recorder, *address, ssl=certificates.client(version), server_hostname=NAME
                )
            )

    run(loop, main())


@pytest.mark.parametrize("certificate", [None, "strange"])
def test_tls_client_certificate_missing_or_strange_is_refused(
    loop, certificates, version, certificate
):
    """In TLS 1.3 the client hears of it only after its own handshake."""

    async def main():
        context = certificates.server(version, clients=ssl.CERT_REQUIRED)
        async with serving(pytest_fails_when_made, ssl=context) as (_, address):
            protocol = Recorder()
            try:
                await loop.create_connection(
                    lambda: protocol,
                    *address,
                    ssl=certificates.client(version, certificate),
                    server_hostname=NAME,
                )
            except (ssl.SSLError, ConnectionResetError):
                return
            assert version is ssl.TLSVersion.TLSv1_3
            await protocol.until_lost()
            assert protocol.data == b""

    run(loop, main())


def pytest_fails_when_made():
    class Never(asyncio.Protocol):
        def connection_made(self, transport):
            pytest.fail("a client without certificate was let in")

    return Never()


# ---- what is told -----------------------------------------------------------------------------


def test_tls_extra_info_tells_of_the_session_and_the_socket(loop, certificates, version):
    async def main():
        client = certificates.client(version)
        async with serving(Echo, ssl=certificates.server(version)) as (_, address):
            transport, protocol = await loop.create_connection(
                Recorder, *address, ssl=client, server_hostname=NAME
            )
            tls = transport.get_extra_info("ssl_object")
            assert isinstance(tls, ssl.SSLObject)
            assert tls.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
            assert tls.server_hostname == NAME
            names = transport.get_extra_info("peercert")["subjectAltName"]
            assert ("DNS", NAME) in names
            assert transport.get_extra_info("cipher") == tls.cipher()
            assert transport.get_extra_info("compression") is None
            assert transport.get_extra_info("sslcontext") is client
            assert transport.get_extra_info("peername") == address
            sock = transport.get_extra_info("socket")
            assert isinstance(sock, asyncio.trsock.TransportSocket)
            assert transport.get_extra_info("sockname") == sock.getsockname()
            assert transport.get_extra_info("no such thing", "default") == "default"
            transport.close()
            await protocol.until_lost()

    run(loop, main())


def test_tls_server_name_reaches_the_sni_callback_which_may_switch_the_context(loop, certificates):
    async def main():
        asked = []
        other = certificates.server()

        def choose(tls, name, context):
            asked.append(name)
            tls.context = other

        context = certificates.server()
        context.sni_callback = choose
        async with serving(Echo, ssl=context) as (_, address):
            await echoed(
                loop.create_connection(
                    Recorder, *address, ssl=certificates.client(), server_hostname=NAME
                )
            )
        assert asked == [NAME]

    run(loop, main())


def test_tls_sni_callback_refusing_fails_the_handshake(loop, certificates):
    context = certificates.server()
    context.sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    refused(loop, certificates.client(), context, (ssl.SSLError, ConnectionResetError))


@pytest.mark.parametrize("offered, chosen", [(["h2", "http/1.1"], "h2"), (["other"], None)])
def test_tls_alpn_agrees_on_a_protocol(loop, certificates, offered, chosen):
    async def main():
        server, client = certificates.server(), certificates.client()
        server.set_alpn_protocols(["h2", "http/1.1"])
        client.set_alpn_protocols(offered)
        async with serving(Echo, ssl=server) as (_, address):
            transport, protocol = await loop.create_connection(
                Recorder, *address, ssl=client, server_hostname=NAME
            )
            tls = transport.get_extra_info("ssl_object")
            assert tls.selected_alpn_protocol() == chosen
            transport.close()
            await protocol.until_lost()

    run(loop, main())


def test_tls_debug_mode_logs_the_handshake_at_both_ends(loop, certificates, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 60

    async def main():
        async with serving(Echo, ssl=certificates.server()) as (_, address):
            await echoed(
                loop.create_connection(
                    Recorder, *address, ssl=certificates.client(), server_hostname=NAME
                )
            )

    with caplog.at_level(logging.DEBUG, "asyncio"):
        run(loop, main())
    texts = [record.getMessage() for record in caplog.records]
    assert sum("starts SSL handshake" in text for text in texts) == 2
    assert sum("SSL handshake took" in text for text in texts) == 2
    assert sum("got a new connection from" in text for text in texts) == 1
    assert sum(" connected to 127.0.0.1:" in text for text in texts) == 1


def test_tls_debug_mode_reports_a_handshake_that_failed_at_the_server(loop, certificates, errors):
    loop.set_debug(True)
    loop.slow_callback_duration = 60

    async def main():
        async with serving(Echo, ssl=certificates.server()) as (_, address):
            await speak_no_tls(address)
            while not errors:
                await asyncio.sleep(0)

    run(loop, main())
    context = errors.pop()
    assert context["message"] == "Error on transport creation for incoming connection"
    assert isinstance(context["exception"], ssl.SSLError)
    assert isinstance(context["protocol"], Echo)
    assert "transport" in context
    assert errors == []


def test_tls_protocol_raising_in_connection_made_fails_the_connect(loop, certificates, errors):
    class Failing(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise LookupError("made")

    async def main():
        async with serving(Echo, ssl=certificates.server()) as (_, address):
            with pytest.raises(LookupError):
                await loop.create_connection(
                    Failing, *address, ssl=certificates.client(), server_hostname=NAME
                )

    run(loop, main())
    context = errors.pop()
    assert context["message"] == "Fatal error: protocol.buffer_updated() call failed."
    assert isinstance(context["exception"], LookupError)
