"""Where TLS records are encrypted and decrypted: in C, or by Python's own calls.

Chosen once, when the first TLS connection is made or somebody asks.  In C by the
OpenSSL that Python's ssl module uses, which is found in the process; where it is not
to be found (it is linked into the interpreter and hidden, say), by the ssl module.
"""

from __future__ import annotations

import functools
import os
import ssl

from .. import _core

_CHOICES = ("auto", "native", "python")


@functools.cache
def why_not_native() -> str | None:
    """None when records are C's; else why they are Python's.

    ValueError when URING_LOOP_TLS is none of auto, native and python; RuntimeError when
    it is native and that is not to be had.
    """
    choice = os.environ.get("URING_LOOP_TLS", "auto") or "auto"
    if choice not in _CHOICES:
        raise ValueError(f"URING_LOOP_TLS is {choice!r}; it must be auto, native or python")
    if choice == "python":
        return "URING_LOOP_TLS=python"
    reason = _core.tls_find_openssl(_library()) or _try()
    if reason is not None and choice == "native":
        raise RuntimeError(f"URING_LOOP_TLS=native is not to be had: {reason}")
    return reason


def _library() -> str:
    """The file of the module under ssl; no file at all where it is built in."""
    import _ssl

    return getattr(_ssl, "__file__", None) or ""


def _try() -> str | None:
    """Whether OpenSSL's object is found in Python's, and two of them understand each other."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Without a name, for which a codec would be imported.
    context.check_hostname = False
    client = context.wrap_bio(incoming, outgoing)
    inner = client._sslobj  # type: ignore[attr-defined]
    buffers = _core.Records()._open_records(inner, incoming, outgoing)
    if buffers is None:
        return "OpenSSL's object is not where CPython 3.11 to 3.15 have it"
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        # A ClientHello has gone through our memory, not through the MemoryBIO.
        if buffers[1].pending > 0 and outgoing.pending == 0:
            return None
    except ssl.SSLError as error:
        # A configuration that lets no default client begin says nothing of other contexts.
        return f"OpenSSL does not begin a handshake: {error}"
    return "OpenSSL does not use the memory that it was given"


def report() -> dict[str, str | None]:
    """Who encrypts, why, and by which OpenSSL.

    records: "native" or "python".
    reason: why not native; None when it is.
    openssl: what the ssl module says of its version.
    """
    reason = why_not_native()
    return {
        "records": "native" if reason is None else "python",
        "reason": reason,
        "openssl": ssl.OPENSSL_VERSION,
    }
