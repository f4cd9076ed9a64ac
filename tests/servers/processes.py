"""Starting a server, waiting for it, and stopping exactly that process."""

import contextlib
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

GRPC_OFFSET = 10_000  # SeaweedFS opens each port once more, this much higher
_LOWEST = range(10_000, 20_000)
"""Below the ports that Linux gives to clients: none of theirs takes one that is free now."""

UP_S = 120
_dice = random.SystemRandom()  # Hypothesis seeds the other one, alike in two runs at a time


@contextlib.contextmanager
def free_ports(count: int) -> Iterator[list[int]]:
    """Give ports that nobody listens on, here and GRPC_OFFSET above, until the block ends.

    No other run of the tests gets them meanwhile.
    """
    found: list[int] = []
    with contextlib.ExitStack() as reserved:
        while len(found) < count:
            port = _dice.choice(_LOWEST)
            mark = reserved.enter_context(socket.socket(socket.AF_UNIX))
            with contextlib.suppress(OSError):
                mark.bind(f"\0zfuse-tests-port-{port}")  # a name that ends with the process
                if _is_free(port) and _is_free(port + GRPC_OFFSET):
                    found.append(port)
        yield found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


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


@contextlib.contextmanager
def serving(
    count: int,
    command_on: Callable[[list[int]], list[str]],
    is_ready: Callable[[list[int]], bool],
    log: Path,
) -> Iterator[list[int]]:
    """Run the command for *count* ports that are free, and return them once it is ready.

    Where it does not come up it is tried with others: somebody else may have taken one.
    """
    with contextlib.ExitStack() as stack:
        for again in (True, False):
            ports = stack.enter_context(free_ports(count))
            process = stack.enter_context(running(command_on(ports), log))
            try:
                _wait_until(partial(is_ready, ports), process, log)
            except RuntimeError:
                if not again:
                    raise
                stack.close()
            else:
                break
        yield ports


def _wait_until(is_ready: Callable[[], bool], process: subprocess.Popen, log: Path) -> None:
    """Return once is_ready() of a server that lives; else fail with the log's tail."""
    end = time.monotonic() + UP_S
    while not is_ready():
        if process.poll() is not None or time.monotonic() > end:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            raise RuntimeError(f"{process.args} did not come up:\n{tail}")
        time.sleep(0.05)


def accepts(port: int) -> bool:
    """Tell whether somebody listens on *port*."""
    with contextlib.closing(socket.socket()) as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
