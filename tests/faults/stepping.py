"""``zfuse``, with every step of its write and sync path named; it can die at one of them.

``python -m tests.faults.stepping SPEC COMMAND...``, SPEC is JSON: log, a file that gets a line
for each step that is reached, and die, the line at which the process kills itself, or null.
Steps are the statements that change a session, the changes of its blobs, and the changes of
the store; each has a line before and one after it, and a write one in its middle.
"""

import functools
import itertools
import json
import os
import signal
import sqlite3
import sys
import threading
from collections import defaultdict

import zfuse.cli.serving  # noqa: F401 - all that will be watched
from zfuse.cli.main import main
from zfuse.fs.blobs import Blobs
from zfuse.fs.journal import Journal
from zfuse.storage.local import LocalStorage

_LOOKING = ("SELECT", "PRAGMA")


class Steps:
    """Counts the steps of each name, as their order differs from run to run."""

    def __init__(self, log, die):
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._die = die
        self._lock = threading.Lock()
        self._numbers = defaultdict(itertools.count)

    def begin(self, name):
        with self._lock:
            step = f"{name} #{next(self._numbers[name])}"
        self.reach(f"{step} before")
        return step

    def reach(self, line):
        os.write(self._log, line.encode() + b"\n")
        if line == self._die:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(self, call, name):
        """Return *call* as a step; *name* is made of its arguments."""

        @functools.wraps(call)
        def watched(*args, **kwargs):
            step = self.begin(name(*args))
            result = call(*args, **kwargs)
            self.reach(f"{step} after")
            return result

        return watched

    def watched_async(self, call, name):
        @functools.wraps(call)
        async def watched(*args, **kwargs):
            step = self.begin(name(*args))
            result = await call(*args, **kwargs)
            self.reach(f"{step} after")
            return result

        return watched


def watch_statements(steps):
    class Watched(sqlite3.Connection):
        def execute(self, statement, *values):
            if statement.lstrip().startswith(_LOOKING):
                return super().execute(statement, *values)
            step = steps.begin(_brief(statement))
            result = super().execute(statement, *values)
            steps.reach(f"{step} after")
            return result

        executemany = steps.watched(sqlite3.Connection.executemany, lambda _, s, __: _brief(s))
        executescript = steps.watched(sqlite3.Connection.executescript, lambda *_: "schema")

    sqlite3.connect = functools.partial(sqlite3.connect, factory=Watched)


def _brief(statement):
    words = statement.replace("INSERT OR REPLACE", "INSERT").split()
    return " ".join(words[: 4 if words[0] == "UPDATE" else 3])


def watch_blobs(steps):
    for name in ("open_new", "copy", "remove", "sync"):
        call = steps.watched(getattr(Blobs, name), lambda *_, name=name: f"blob {name}")
        setattr(Blobs, name, call)
    for name in ("sync", "close"):
        call = steps.watched(getattr(Journal, name), lambda *_, name=name: f"journal {name}")
        setattr(Journal, name, call)

    class WatchedOs:
        ftruncate = staticmethod(steps.watched(os.ftruncate, lambda *_: "blob truncate"))

        def __getattr__(self, name):
            return getattr(os, name)

        @staticmethod
        def pwrite(descriptor, data, offset):
            step = steps.begin("blob write")
            half = len(data) // 2
            written = os.pwrite(descriptor, data[:half], offset)
            steps.reach(f"{step} middle")
            if written == half:
                written += os.pwrite(descriptor, data[half:], offset + half)
            steps.reach(f"{step} after")
            return written

    for name, module in list(sys.modules.items()):
        if name.startswith("zfuse.fs.overlay_") and hasattr(module, "os"):
            module.os = WatchedOs()


def watch_storage(steps):
    for name in ("put", "put_file", "delete"):
        call = getattr(LocalStorage, name)
        watched = steps.watched_async(
            call, lambda _, key, *__, name=name: f"store {name} {key.partition('/')[0]}"
        )
        setattr(LocalStorage, name, watched)


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    all_steps = Steps(told["log"], told["die"])
    watch_statements(all_steps)
    watch_blobs(all_steps)
    watch_storage(all_steps)
    sys.argv = ["zfuse", *sys.argv[2:]]
    main()
