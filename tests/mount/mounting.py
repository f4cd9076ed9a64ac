"""Real mounts for tests: made by the command, ended in any case, and never waited for long."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zfuse.daemon.control import call_mount
from zfuse.daemon.mountinfo import MountPoint, zfuse_mounts

READY_S = 90
END_S = 60
"""What no mount needs, however busy the machine is; tests that hang are guarded otherwise."""


@dataclass
class Mounted:
    """A mount that a test made: its directory, its daemon, and what that wrote to stderr."""

    path: Path
    daemon: subprocess.Popen
    log: Path

    @property
    def mount_point(self) -> MountPoint:
        return next(m for m in zfuse_mounts() if m.path == self.path)

    def call(self, command, **arguments):
        return call_mount(self.mount_point, command, timeout_s=60, **arguments)

    def metric(self, name, **labels):
        """Return a sample of .zfuse/stats, summed over those that have *labels*."""
        text = next(self.path.glob(".zfuse/stats")).read_text()
        total = 0.0
        for line in text.splitlines():
            key, _, value = line.rpartition(" ")
            wanted = all(f'{k}="{v}"' in key for k, v in labels.items())
            if key.partition("{")[0] == f"zfuse_{name}" and wanted:
                total += float(value)
        return total


@contextlib.contextmanager
def mounting(
    location, directory: Path, *arguments, env=None, start=("-m", "zfuse")
) -> Iterator[Mounted]:
    """Mount *location* at *directory* with ``zfuse mount``, and unmount it afterwards.

    A traceback in the daemon's log is a failure, whatever the readers saw. *start* is what
    Python runs for ``zfuse``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    log = directory.parent / f"{directory.name}.log"
    command = [sys.executable, *start, "mount", str(location), str(directory), *arguments]
    with log.open("wb") as out:
        daemon = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, "PYTHONFAULTHANDLER": "1", **(env or {})},
        )
    try:
        _wait_until_ready(directory, daemon, log)
        yield Mounted(directory, daemon, log)
    finally:
        end(directory, daemon, log)
    told = log.read_text()
    assert "Traceback" not in told, f"the daemon of {directory} met a bug:\n{told[-4000:]}"


def failing_mount(location, directory: Path, *arguments, env=None) -> tuple[int, str]:
    """Run ``zfuse mount``, which must end by itself; return its exit code and its one line."""
    directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "zfuse", "mount", str(location), str(directory), *arguments]
    environment = {**os.environ, **(env or {})}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            _, said = process.communicate(timeout=READY_S)
        except subprocess.TimeoutExpired:
            subprocess.run(["fusermount3", "-u", "-z", str(directory)], check=False, timeout=END_S)
            process.kill()
            raise AssertionError(f"{location} is mounted, or tries to") from None
    lines = said.splitlines()
    assert len(lines) == 1, said
    assert lines[0].startswith("zfuse: ")
    assert not any(mount.path == directory for mount in zfuse_mounts())
    return process.returncode, lines[0]


def end(directory: Path, daemon: subprocess.Popen, log: Path) -> None:
    """Unmount; where that does not work in time, abort the connection and kill the daemon.

    What its threads were doing then is in the failure.
    """
    mount = next((m for m in zfuse_mounts() if m.path == directory), None)
    if mount is not None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(["fusermount3", "-u", "-z", str(directory)], check=False, timeout=END_S)
    try:
        daemon.wait(END_S)
    except subprocess.TimeoutExpired:
        daemon.send_signal(signal.SIGABRT)  # faulthandler writes the stacks of all threads
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.wait(2)
        if mount is not None:
            minor = mount.device.partition(":")[2]
            with contextlib.suppress(OSError):
                Path(f"/sys/fs/fuse/connections/{minor}/abort").write_text("1")
        daemon.send_signal(signal.SIGKILL)
        daemon.wait(END_S)
        told = log.read_text()[-6000:]
        raise AssertionError(f"the daemon of {directory} did not end by itself:\n{told}") from None


def _wait_until_ready(directory: Path, daemon: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if daemon.poll() is not None:
            raise AssertionError(f"mount ended with {daemon.returncode}: {log.read_text()}")
        mount = next((m for m in zfuse_mounts() if m.path == directory), None)
        if mount is not None:
            with contextlib.suppress(Exception):
                call_mount(mount, "status", timeout_s=5)
                return
        time.sleep(0.02)
    daemon.kill()
    raise AssertionError(f"mount was not ready in {READY_S} s: {log.read_text()}")
