"""Print the date and time at a steady pace, then stop.

    python examples/clock.py [SECONDS] [INTERVAL]
"""

import asyncio
import datetime
import sys


def tick(loop: asyncio.AbstractEventLoop, end: float, interval: float) -> None:
    print(datetime.datetime.now(), flush=True)
    if loop.time() + interval < end:
        loop.call_later(interval, tick, loop, end, interval)
    else:
        loop.stop()


seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
interval = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0

loop = asyncio.new_event_loop()
loop.call_soon(tick, loop, loop.time() + seconds, interval)
try:
    loop.run_forever()
finally:
    loop.close()
