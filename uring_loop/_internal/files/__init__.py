"""What `uring_loop.files` and `uring_loop.paths` are made of.

The floors, each standing on those below it:

    os, ospath, tempfile, streams    what aiofiles has by these names
    opening                          open(), its arguments and its ways
    text                             text: decoding, lines, encoding
    binary                           bytes: what was read ahead, what waits to be written
    lines, position, closing         what both do alike; where a file is; how it ends
    unsent                           what a file has taken and not written yet
    descriptor          paths        the system calls of a file; those of `os`
    calls, numbers                   who makes them; how their arguments are checked
"""
