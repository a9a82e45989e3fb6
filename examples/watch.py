"""Watch a descriptor until it has something to read.

One end of a pair of sockets is watched; a later callback sends to the other,
as if it came from the network.
"""

import asyncio
import socket

one, other = socket.socketpair()
loop = asyncio.new_event_loop()


def readable() -> None:
    data = one.recv(100)
    print("Received:", data.decode())
    # One message is all we came for.
    loop.remove_reader(one)
    loop.stop()


loop.add_reader(one, readable)
loop.call_soon(other.send, b"abc")
try:
    loop.run_forever()
finally:
    one.close()
    other.close()
    loop.close()
