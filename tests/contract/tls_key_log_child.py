"""A process of its own that began with SSLKEYLOGFILE: both ends from create_default_context()."""

import asyncio
import ssl
import sys


async def main(authority, own, name):
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_context.load_cert_chain(own)
    client_context = ssl.create_default_context(cafile=authority)

    async def handler(reader, writer):
        writer.write(await reader.readexactly(1 << 18))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=server_context)
    reader, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(), ssl=client_context, server_hostname=name
    )
    writer.write(bytes(1 << 18))
    print(len(await reader.read()))
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


kind, *arguments = sys.argv[1:]
if kind == "asyncio":
    factory = asyncio.SelectorEventLoop
else:
    import uring_loop

    factory = uring_loop.new_event_loop
with asyncio.Runner(loop_factory=factory) as runner:
    runner.run(main(*arguments))
