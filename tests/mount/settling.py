"""Waiting until nothing is under way, before something is counted, and after.

What a reader has had is not all that it caused: the kernel reads ahead of it, and tells the
daemon only later which files are closed.
"""

import time
from collections.abc import Callable
from pathlib import Path

from tests.mount.mounting import Mounted
from tests.servers.fault_proxy import FaultProxy

PATIENCE_S = 60
LOOKS = 5
PAUSE_S = 0.05


def wait_for(condition: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """Return once *condition* holds; fail if that takes longer than any busy machine needs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(PAUSE_S)


def settle(mount: Mounted, proxy: FaultProxy) -> None:
    """Return once nothing is under way from kernel to daemon, nor from there to the store.

    That is when the daemon answered several times in a row, and all the while the kernel
    waited for nothing and *proxy*, which is before the store, heard nothing.
    """
    seen: list[int] = []

    def stands_still() -> bool:
        mount.call("status")
        if requests_of_kernel(mount) or proxy.under_way:
            seen.clear()
            return False
        seen.append(len(proxy.requests))
        return len(seen) >= LOOKS and len(set(seen[-LOOKS:])) == 1

    wait_for(stands_still)


def requests_of_kernel(mount: Mounted) -> int:
    """Return how many requests the daemon has not answered yet; 0 where nobody may know that."""
    minor = mount.mount_point.device.partition(":")[2]
    try:
        return int(Path(f"/sys/fs/fuse/connections/{minor}/waiting").read_text())
    except OSError:
        return 0
