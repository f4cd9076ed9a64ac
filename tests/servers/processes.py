"""Starting a server, waiting for it, and stopping exactly that process."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

GRPC_OFFSET = 10_000  # SeaweedFS opens each port once more, this much higher


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, here and GRPC_OFFSET above."""
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < count:
            low = held.enter_context(socket.socket())
            low.bind(("127.0.0.1", 0))
            port = low.getsockname()[1]
            high = held.enter_context(socket.socket())
            if port + GRPC_OFFSET > 65_535:
                continue
            with contextlib.suppress(OSError):
                high.bind(("127.0.0.1", port + GRPC_OFFSET))
                found.append(port)
    return found


@contextlib.contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen]:
    """Run *command* with its output in *log*; it ends with the block, or with this process."""
    if setpriv := shutil.which("setpriv"):
        command = [setpriv, "--pdeathsig", "KILL", *command]
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=log.parent
        )
    try:
        yield process
    finally:
        process.kill()  # nothing it has is worth a clean end, which takes SeaweedFS 10 s
        process.wait()


def wait_until(ready, process: subprocess.Popen, log: Path, seconds: float = 60) -> None:
    """Return once ready() is true; fail with the log's tail if the server dies or takes long."""
    end = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            raise RuntimeError(f"{process.args} did not come up:\n{tail}")
        time.sleep(0.05)


def accepts(port: int) -> bool:
    """Tell whether somebody listens on *port*."""
    with contextlib.closing(socket.socket()) as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
