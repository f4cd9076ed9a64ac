"""Going on in the background: the parent waits until the child says that it is ready.

The child is forked before anything starts a thread, so this module and who calls it import
nothing that would (numpy does).
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

_TAIL_LINES: Final = 20
_SAID: Final = "zfuse: "
"""How the line begins that tells why a command failed."""


class Reporter:
    """The child's line to the parent that waits for it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def log_to(self, path: Path) -> None:
        """Send standard output and error to the end of *path* from now on."""
        path.parent.mkdir(parents=True, exist_ok=True)
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._send({"log": str(path), "offset": os.lseek(log, 0, os.SEEK_END)})
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(log, stream.fileno())
        os.close(log)

    def ready(self, facts: Mapping[str, Any]) -> None:
        """Let the parent end; *facts* are what it returns."""
        self._send({"ready": facts})
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _send(self, message: Mapping[str, Any]) -> None:
        if self._descriptor is not None:
            with suppress(OSError):  # the parent was ended; the child goes on
                os.write(self._descriptor, json.dumps(message).encode() + b"\n")


def detach(work: Callable[[Reporter], int], done: Callable[[Mapping[str, Any]], None]) -> int:
    """Run *work* in a child of its own session.

    In the parent: call *done* with the facts once the child is ready, and return 0; if the
    child ends before that, show what it logged and return its exit code. In the child:
    return what *work* returns.
    """
    source, sink = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(source)
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        return work(Reporter(sink))
    os.close(sink)
    try:
        return _wait(child, source, done)
    except KeyboardInterrupt:
        os.kill(child, signal.SIGTERM)
        raise


def _wait(child: int, source: int, done: Callable[[Mapping[str, Any]], None]) -> int:
    log: Mapping[str, Any] | None = None
    with open(source) as messages:
        for line in messages:
            message = json.loads(line)
            if "ready" in message:
                done(message["ready"])
                return 0
            log = message
    _, status = os.waitpid(child, 0)
    ended = os.waitstatus_to_exitcode(status)
    code = ended if ended > 0 else 1
    if log is not None:
        with Path(log["log"]).open(errors="replace") as text:
            text.seek(log["offset"])
            lines = text.readlines()
        sys.stderr.writelines(lines[-_TAIL_LINES:])
        if len(lines) <= _TAIL_LINES and lines and lines[-1].startswith(_SAID):
            return code  # all that there is to know is said
        print(
            f"zfuse: the daemon {_how(ended)} before the mount was ready; its log is {log['log']}",
            file=sys.stderr,
        )
    return code


def _how(ended: int) -> str:
    if ended < 0:
        return f"was killed by {signal.Signals(-ended).name}"
    return f"ended with exit code {ended}"
