"""Commits to a local repository, each time in a process that dies one step later.

``python -m tests.faults.dying_writer SPEC``, SPEC is JSON: directory. A step is a change
of a file below the directory, or a lock taken. Commit n sets the chunk n of ``/a``. For each death
there is a line on stdout, and a last one when a commit came through; a line on stdin asks for
the next one.
"""

import json
import os
import signal
import sys
from pathlib import Path

import trio

from tests.repo.driving import open_session

_EVENTS = {"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.truncate", "fcntl.flock"}


def die_at(step, directory):
    """Kill this process right before its step number *step* (from 0)."""
    seen = 0

    def hook(event, args):
        nonlocal seen
        if event not in _EVENTS or not _changes(event, args, directory):
            return
        if seen == step:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

    sys.addaudithook(hook)


def _changes(event, args, directory):
    if event == "fcntl.flock":
        return True
    path = args[1] if event in {"os.rename", "os.link"} else args[0]
    if not str(path).startswith(directory):
        return False
    return event != "open" or bool(args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


async def commit(directory, number, step):
    session = await open_session(Path(directory))
    die_at(step, directory)
    await session.set_chunk("/a", (number,), b"%d" % number * 600)
    await session.commit(f"commit {number}")


def main():
    spec = json.loads(sys.argv[1])
    for step in range(1000):
        child = os.fork()
        if child == 0:
            trio.run(commit, spec["directory"], step, step)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        died = os.WIFSIGNALED(status)
        assert died or status == 0
        sys.stdout.write(json.dumps({"step": step, "died": died}) + "\n")
        sys.stdout.flush()
        if not died or not sys.stdin.readline():
            return


if __name__ == "__main__":
    main()
