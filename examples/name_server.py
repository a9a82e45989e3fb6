"""A name server over UDP, which knows the IPv4 addresses of a file in the form of /etc/hosts.

    python examples/name_server.py HOSTS [PORT]
    dig @127.0.0.1 -p PORT name

Names that it does not know do not exist (NXDOMAIN); other types than A have no answer.
Source: RFC 1035, section 4.
"""

import asyncio
import ipaddress
import signal
import struct
import sys

import uring_loop

HEADER = struct.Struct("!6H")
RESPONSE, AUTHORITATIVE, RECURSION_DESIRED = 0x8000, 0x0400, 0x0100
NO_ERROR, FORMAT_ERROR, NO_SUCH_NAME, NOT_IMPLEMENTED = 0, 1, 3, 4
TYPE_A, CLASS_IN = 1, 1
TTL_SECONDS = 60


def read_hosts(text: str) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if address and (parsed := ipaddress.ip_address(address)).version == 4:
            for name in names:
                found.setdefault(name.lower(), []).append(parsed.packed)
    return found


def question(message: bytes) -> tuple[str, int, int]:
    """The name and the type that are asked for, and where the question ends."""
    labels, at = [], HEADER.size
    while length := message[at]:
        if length > 63:
            raise ValueError("no label of a question")
        labels.append(message[at + 1 : at + 1 + length].decode("ascii").lower())
        at += 1 + length
    kind, of_class = struct.unpack_from("!2H", message, at + 1)
    if of_class != CLASS_IN:
        raise ValueError("not of the Internet")
    return ".".join(labels), kind, at + 5


def reply(message: bytes, hosts: dict[str, list[bytes]]) -> bytes | None:
    """The answer to a query; None for what is none."""
    if len(message) < HEADER.size:
        return None
    number, flags, questions, *_ = HEADER.unpack_from(message)
    if flags & RESPONSE:
        return None
    status, asked, records = NO_ERROR, b"", []
    if flags & 0x7800:
        status = NOT_IMPLEMENTED
    else:
        try:
            if questions != 1:
                raise ValueError("one question at a time")
            name, kind, end = question(message)
        except (ValueError, IndexError, struct.error):
            status = FORMAT_ERROR
        else:
            asked = message[HEADER.size : end]
            if name not in hosts:
                status = NO_SUCH_NAME
            elif kind == TYPE_A:
                records = hosts[name]
    flags = RESPONSE | AUTHORITATIVE | flags & RECURSION_DESIRED | status
    # 0xC00C: the name of the question.
    answers = [
        struct.pack("!3HIH", 0xC00C, TYPE_A, CLASS_IN, TTL_SECONDS, 4) + address
        for address in records
    ]
    header = HEADER.pack(number, flags, 1 if asked else 0, len(answers), 0, 0)
    return header + asked + b"".join(answers)


class NameServer(asyncio.DatagramProtocol):
    def __init__(self, hosts: dict[str, list[bytes]]) -> None:
        self.hosts = hosts

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        if (answer := reply(data, self.hosts)) is not None:
            self.transport.sendto(answer, address)


async def main(path: str, port: int) -> None:
    async with uring_loop.open(path) as file:
        hosts = read_hosts(await file.read())
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    transport, _ = await loop.create_datagram_endpoint(
        lambda: NameServer(hosts), local_addr=("127.0.0.1", port)
    )
    host, port = transport.get_extra_info("sockname")
    print(f"listening on {host}:{port}, driver {loop.driver}", flush=True)
    await stop.wait()
    transport.close()


if __name__ == "__main__":
    uring_loop.run(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0))
