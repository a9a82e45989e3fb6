"""Every row that is measured under load, by name. Owns the list, nothing else."""

from .measure import Row

KIB = 1024

ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        Row("echo_64", "protocol", size=64, note="echo by protocol, 64 B"),
        Row("echo_1k", "protocol", note="echo by protocol, 1 KiB"),
        Row("echo_48k", "protocol", size=48 * KIB, note="echo by protocol, 48 KiB"),
        Row("echo_100k", "protocol", size=100 * KIB, note="echo by protocol, 100 KiB"),
        Row(
            "buffered_100k",
            "buffered",
            size=100 * KIB,
            note="echo by BufferedProtocol, 100 KiB",
        ),
        Row("buffered_1k", "buffered", note="echo by BufferedProtocol, 1 KiB"),
        Row("streams_1k", "streams", shape="lines", note="readline, write, drain, 1 KiB"),
        Row("frames_1k", "frames", shape="frames", note="readexactly of a length and 1 KiB"),
        Row(
            "bulks_40",
            "bulks",
            shape="bulks",
            size=40,
            in_flight=16,
            note="readline, readexactly: Redis's strings of 40 B, 16 in flight",
        ),
        Row(
            "paused_4k", "chunks", size=4 * KIB, note="StreamReader of limit 1 KiB, 4 KiB"
        ),
        Row("relay_100k", "relay", size=100 * KIB, connections=20, note="relay and echo, 100 KiB"),
        Row("sockets_1k", "sockets", note="sock_recv, sock_sendall, 1 KiB"),
        Row("unix_1k", "protocol", unix=True, note="echo by protocol, 1 KiB, UNIX socket"),
        Row("udp_echo", "datagrams", udp=True, size=512, connections=50, note="UDP echo, 512 B"),
        Row("pipelined_1k", "protocol", in_flight=16, note="echo, 1 KiB, 16 in flight"),
        Row(
            "among_idle_1k",
            "protocol",
            idle=9_900,
            note="echo, 1 KiB, 100 active of 10,000 connections",
        ),
        Row("one_connection_1k", "protocol", connections=1, note="echo, 1 KiB, one connection"),
        Row("tls_64", "protocol", tls=True, connections=50, size=64, note="TLS 1.3 echo, 64 B"),
        Row("tls_1k", "protocol", tls=True, connections=50, note="TLS 1.3 echo, 1 KiB"),
        Row(
            "tls_16k",
            "protocol",
            tls=True,
            connections=50,
            size=16 * KIB,
            note="TLS 1.3 echo, 16 KiB",
        ),
        Row(
            "tls_100k",
            "protocol",
            tls=True,
            connections=50,
            size=100 * KIB,
            note="TLS 1.3 echo, 100 KiB",
        ),
        Row(
            "tls_streams_1k",
            "streams",
            tls=True,
            connections=50,
            shape="lines",
            note="readline, write, drain over TLS 1.3, 1 KiB",
        ),
        Row(
            "tls_handshake",
            "protocol",
            mode="connect",
            tls=True,
            connections=50,
            size=100,
            note="TLS 1.3 handshake (ECDSA P-256), one 100 B request, reset",
        ),
        Row(
            "tls_resume",
            "protocol",
            mode="connect",
            tls=True,
            resume=True,
            connections=50,
            size=100,
            note="the same with the session of the connection before",
        ),
        Row("uvicorn", "uvicorn", mode="http", connections=64, note="uvicorn with httptools"),
        Row(
            "uvicorn_10k",
            "uvicorn_10k",
            mode="http",
            connections=64,
            note="uvicorn with httptools, 10 KiB body",
        ),
        Row("aiohttp", "aiohttp", mode="http", connections=64, note="aiohttp server"),
        Row("http", "http", mode="http", connections=64, note="HTTP request and response"),
        Row(
            "connect_close",
            "protocol",
            mode="connect",
            size=100,
            note="connect, one 100 B request, reset",
        ),
    )
}
IDLE = Row("idle_10000", "idle", size=64, note="10,000 idle connections")
IDLE_CONNECTIONS = 10_000
