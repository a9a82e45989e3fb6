"""Index the words of all files in a folder, many files at once; then look words up.

    python examples/indexer.py FOLDER WORD ...

Prints the files in which all the words are. Files are opened, asked and read by the ring (on
epoll, by threads of the driver's own); what this thread does is the counting.
"""

import asyncio
import collections
import os
import re
import sys

import uring_loop

AT_ONCE = 64
SIZE_MAX = 16 << 20
WORD = re.compile(rb"[A-Za-z_][A-Za-z_0-9]+")


async def walk(folder: str):
    """Every file below the folder; links are not followed."""
    folders = [folder]
    while folders:
        place = folders.pop()
        for entry in await uring_loop.paths.scandir(place):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                yield entry.path


async def words(path: str) -> set[bytes]:
    async with uring_loop.open(path, "rb") as file:
        text = await file.read(SIZE_MAX)
    # What has a zero byte is no text.
    return set() if b"\0" in text[:1024] else {word.lower() for word in WORD.findall(text)}


async def index(folder: str) -> dict[bytes, set[str]]:
    """Word -> the files that have it."""
    found: dict[bytes, set[str]] = collections.defaultdict(set)
    queue: asyncio.Queue[str | None] = asyncio.Queue(2 * AT_ONCE)

    async def work() -> None:
        while (path := await queue.get()) is not None:
            try:
                for word in await words(path):
                    found[word].add(path)
            except OSError as error:
                print(f"{path}: {error.strerror}", file=sys.stderr)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
        async for path in walk(folder):
            await queue.put(path)
        for _ in range(AT_ONCE):
            await queue.put(None)
    return found


async def main(folder: str, wanted: list[str]) -> None:
    found = await index(folder)
    sets = [found.get(word.lower().encode(), set()) for word in wanted]
    for path in sorted(set.intersection(*sets)):
        print(os.path.relpath(path, folder))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    uring_loop.run(main(sys.argv[1], sys.argv[2:]))
