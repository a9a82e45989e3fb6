"""Fixtures of the contract tests: certificates, made once per session, and kinds of TLS."""

import ssl

import pytest


@pytest.fixture(scope="session")
def certificates():
    """A certificate authority of our own; see tls_peer.Certificates."""
    from tls_peer import Certificates

    return Certificates()


@pytest.fixture(params=["TLSv1_2", "TLSv1_3"])
def version(request):
    """The version that both ends are held to."""
    return ssl.TLSVersion[request.param]


@pytest.fixture(params=["client", "server"])
def server_side(request):
    """Whether the transport under test is the server's."""
    return request.param == "server"
