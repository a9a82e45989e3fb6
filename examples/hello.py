"""Say hello from a callback, then stop the loop.

Runs on whatever event loop the current policy makes; nothing here knows which.
"""

import asyncio


def say_hello(loop: asyncio.AbstractEventLoop) -> None:
    print("Hello World")
    loop.stop()


loop = asyncio.new_event_loop()
loop.call_soon(say_hello, loop)
try:
    # Blocks until say_hello() stops the loop.
    loop.run_forever()
finally:
    loop.close()
