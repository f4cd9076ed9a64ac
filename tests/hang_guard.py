"""A pytest plugin for tests that hang on a mount; scripts/test loads it.

A system call that waits for a FUSE daemon is beyond pytest-timeout: no Python code runs until
it returns. After --hang-seconds of one test, or four fifths of its own timeout if that is more,
this aborts the zfuse mounts below the run's temporary directory, so that the call fails
(ECONNABORTED) and the test with it, and the run goes on.
"""

import contextlib
import sys
import threading
from pathlib import Path

import pytest


def pytest_addoption(parser):
    parser.addoption("--hang-seconds", type=float, default=480.0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    timer = threading.Timer(patience_s(item), abort_mounts, [item.config, item.nodeid])
    timer.daemon = True
    timer.start()
    try:
        return (yield)
    finally:
        timer.cancel()


def patience_s(item):
    timeout = item.get_closest_marker("timeout")
    own = 0 if timeout is None else 0.8 * timeout.args[0]
    return max(item.config.getoption("--hang-seconds"), own)


def abort_mounts(config, nodeid):
    base = config.getoption("basetemp")
    if base is None:
        return  # whose mounts are whose is not known
    for mount in mounts_below(str(Path(base).resolve())):
        print(f"hang_guard: {nodeid} hangs: aborting {mount}", file=sys.__stderr__)
        with contextlib.suppress(OSError):  # it may end by itself right now
            mount.joinpath("abort").write_text("1")


def mounts_below(base, mountinfo=Path("/proc/self/mountinfo")):
    """Return the control directories of the zfuse mounts below the directory *base*."""
    found = []
    for line in mountinfo.read_text().splitlines():
        left, _, right = line.partition(" - ")
        _, _, device, _, mountpoint, *_ = left.split(" ")
        if right.startswith("fuse.zfuse ") and mountpoint.startswith(base + "/"):
            found.append(Path("/sys/fs/fuse/connections", device.partition(":")[2]))
    return found
