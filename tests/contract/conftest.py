"""Fixtures of the contract tests: certificates, made once per session."""

import pytest


@pytest.fixture(scope="session")
def certificates():
    """A certificate authority of our own; see tls_peer.Certificates."""
    pytest.importorskip("trustme", reason="trustme, which makes the certificates, is missing")
    from tls_peer import Certificates

    return Certificates()
