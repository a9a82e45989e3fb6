"""Calls of OpenSSL's that the ssl module has not, on the SSLObject of a peer.

The SSL* is looked for in the object and believed only when its two BIOs are the ones that the
object was made with.
"""

import _ssl
import ctypes
import ssl

import pytest

_POINTERS = ("SSL_get_rbio", "SSL_get_wbio")
_NUMBERS = ("SSL_renegotiate", "SSL_renegotiate_pending", "SSL_version", "SSL_key_update")


def _library():
    """libssl as `_ssl` has it, None where it gives no names."""
    library = ctypes.CDLL(getattr(_ssl, "__file__", None))
    try:
        for name in (*_POINTERS, *_NUMBERS):
            function = getattr(library, name)
            function.argtypes = [ctypes.c_void_p]
            function.restype = ctypes.c_void_p if name in _POINTERS else ctypes.c_int
    except AttributeError:
        return None
    library.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
    return library


def _word(thing, number):
    """The word behind the head of an object."""
    size = ctypes.sizeof(ctypes.c_void_p)
    place = id(thing) + object.__basicsize__ + number * size
    return ctypes.c_void_p.from_address(place).value


def pointer_of(peer):
    """(libssl, the SSL* of a TlsPeer); skips the test where they are not to be had."""
    library = _library()
    if library is None:
        pytest.skip("OpenSSL is a part of this Python that gives no names of its functions")
    own = peer.ssl._sslobj
    pointer = _word(own, 1)
    bios = [_word(bio, 0) for bio in (peer._incoming, peer._outgoing)]
    if [getattr(library, name)(pointer) for name in _POINTERS] != bios:
        pytest.skip("the SSL* of this Python's SSLObject is not where it is elsewhere")
    return library, ctypes.c_void_p(pointer)


def renegotiate(peer):
    """TLS 1.2: the next call of the peer's begins a new handshake."""
    library, pointer = pointer_of(peer)
    assert library.SSL_renegotiate(pointer) == 1


def update_key(peer, requested=False):
    """TLS 1.3: the next record of the peer's is a KeyUpdate."""
    library, pointer = pointer_of(peer)
    assert library.SSL_key_update(pointer, int(requested)) == 1


def allow_renegotiation(context):
    """By the client: OpenSSL 3 must be told.  SSL_OP_ALLOW_CLIENT_RENEGOTIATION."""
    if ssl.OPENSSL_VERSION_INFO >= (3, 0):
        context.options |= 1 << 8
    return context
