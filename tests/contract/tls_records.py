"""TLS records made by hand: what OpenSSL would not send, under the keys of a real handshake.

A Forger takes over one direction of a TlsPeer whose context kept a key log (RFC 9850) and whose
handshake is over.  From then on the peer itself may read and may not write.
"""

import struct

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

# RFC 8446, sections 5.1, 4 and 6.
CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
HELLO_REQUEST, CLIENT_HELLO, NEW_SESSION_TICKET, FINISHED, KEY_UPDATE = 0, 1, 4, 20, 24
WARNING, FATAL = 1, 2
ALERTS = {
    "close_notify": 0,
    "unexpected_message": 10,
    "bad_record_mac": 20,
    "handshake_failure": 40,
    "certificate_unknown": 46,
    "internal_error": 80,
    "user_canceled": 90,
    "no_renegotiation": 100,
}
RECORD_BYTES = 1 << 14
HEAD_BYTES = 5
# Of both ciphers that OpenSSL prefers: AES-256-GCM with SHA-384.
CIPHERS = {"TLSv1.3": "TLS_AES_256_GCM_SHA384", "TLSv1.2": "ECDHE-ECDSA-AES256-GCM-SHA384"}
HASH = hashes.SHA384
KEY_BYTES = 32


def records(data):
    """The whole records at the beginning of `data`, with their heads."""
    found = []
    start = 0
    while len(data) - start >= HEAD_BYTES:
        end = start + HEAD_BYTES + struct.unpack_from(">H", data, start + 3)[0]
        if end > len(data):
            break
        found.append(bytes(data[start:end]))
        start = end
    return found


def message(kind, body=b""):
    """A handshake message."""
    return struct.pack(">I", kind << 24 | len(body)) + body


class Forger:
    """Seals records of any kind and length for the direction in which `peer` writes."""

    def __init__(self, peer, keylog):
        version = peer.ssl.version()
        assert peer.ssl.cipher()[0] == CIPHERS[version]
        self._server_side = peer.ssl.server_side
        self._modern = version == "TLSv1.3"
        secrets = {}
        for line in keylog.read_text().splitlines():
            if not line.startswith("#"):
                label, random, secret = line.split()
                secrets[label] = (bytes.fromhex(random), bytes.fromhex(secret))
        if self._modern:
            side = "SERVER" if self._server_side else "CLIENT"
            self._secret = secrets[f"{side}_TRAFFIC_SECRET_0"][1]
            self._take_secret()
        else:
            self._take_key_block(*secrets["CLIENT_RANDOM"], server_random_of(peer))

    # RFC 8446, sections 7.1 to 7.3.

    def _expand(self, label, size):
        info = struct.pack(">HB", size, len(label) + 6) + b"tls13 " + label + b"\0"
        return HKDFExpand(HASH(), size, info).derive(self._secret)

    def _take_secret(self):
        self._aead = AESGCM(self._expand(b"key", KEY_BYTES))
        self._iv = self._expand(b"iv", 12)
        self._sequence = 0

    def update_key(self):
        """After a KeyUpdate that was sealed with the old one."""
        self._secret = self._expand(b"traffic upd", HASH.digest_size)
        self._take_secret()

    # RFC 5246, sections 5 and 6.3, RFC 5288, section 3.

    def _take_key_block(self, client_random, master, server_random):
        seed = b"key expansion" + server_random + client_random
        block = b""
        step = seed
        while len(block) < 2 * KEY_BYTES + 2 * 4:
            step = hmac_of(master, step)
            block += hmac_of(master, step + seed)
        side = 1 if self._server_side else 0
        self._aead = AESGCM(block[side * KEY_BYTES :][:KEY_BYTES])
        self._iv = block[2 * KEY_BYTES + side * 4 :][:4]
        # Its Finished was the first.
        self._sequence = 1

    def seal(self, kind, content=b"", padding=0):
        """One record.  padding: zeros behind the content (TLS 1.3)."""
        sequence = struct.pack(">Q", self._sequence)
        self._sequence += 1
        if self._modern:
            plain = content + bytes([kind]) + bytes(padding)
            head = struct.pack(">BHH", APPLICATION_DATA, 0x0303, len(plain) + 16)
            nonce = bytes(a ^ b for a, b in zip(self._iv, bytes(4) + sequence, strict=True))
            return head + self._aead.encrypt(nonce, plain, head)
        bound = sequence + struct.pack(">BHH", kind, 0x0303, len(content))
        sealed = sequence + self._aead.encrypt(self._iv + sequence, content, bound)
        return struct.pack(">BHH", kind, 0x0303, len(sealed)) + sealed

    def data(self, content=b"", padding=0):
        return self.seal(APPLICATION_DATA, content, padding)

    def alert(self, name, level=FATAL):
        return self.seal(ALERT, bytes([level, ALERTS[name]]))

    def key_update(self, requested=False):
        """TLS 1.3: what follows is sealed with the next key."""
        sealed = self.seal(HANDSHAKE, message(KEY_UPDATE, bytes([requested])))
        self.update_key()
        return sealed


def hmac_of(key, data):
    made = hmac.HMAC(key, HASH())
    made.update(data)
    return made.finalize()


def server_random_of(peer):
    """From the ServerHello, of a handshake in the clear."""
    flight = records(peer.sent if peer.ssl.server_side else peer.received)
    hello = flight[0][HEAD_BYTES:]
    assert hello[0] == 2
    return hello[6:38]
