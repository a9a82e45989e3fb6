"""How a suite of somebody else's is run: in a process, and a session, of its own."""

import os
import signal
import subprocess


def run(command, folder, environment, output, seconds):
    """The exit status of the process, or None when it had to be ended after `seconds`.

    output: where it writes to.  What it left running ends with it.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
