"""Leave the loop by SIGINT or SIGTERM instead of dying of them.

Run it and press Ctrl-C, or send the signal with kill(1).
"""

import asyncio
import functools
import os
import signal


def leave(name: str, loop: asyncio.AbstractEventLoop) -> None:
    print(f"got signal {name}: exit", flush=True)
    loop.stop()


async def main() -> None:
    loop = asyncio.get_running_loop()
    for name in ("SIGINT", "SIGTERM"):
        loop.add_signal_handler(getattr(signal, name), functools.partial(leave, name, loop))
    print(f"pid {os.getpid()}: send SIGINT or SIGTERM to leave", flush=True)
    await asyncio.sleep(3600)


loop = asyncio.new_event_loop()
task = loop.create_task(main())
try:
    # Returns when the signal has stopped the loop.
    loop.run_forever()
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
finally:
    loop.close()
