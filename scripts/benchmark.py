"""What the benchmarks share: a mount that ends in any case, memory of a process, a table."""

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mount.mounting import end

READY_S = 60


@dataclass(frozen=True)
class Figures:
    """The values that the rounds gave for one question."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    def as_json(self) -> dict[str, float]:
        """Return median and extremes."""
        return {"median": self.median, "min": min(self.values), "max": max(self.values)}


@dataclass(frozen=True)
class Daemon:
    """A running ``zfuse mount``; ``started`` is when its process was made (perf_counter)."""

    process: subprocess.Popen[bytes]
    directory: Path
    started: float

    def memory_mb(self, field: str = "VmRSS") -> float:
        """Return the resident memory, or with VmHWM the most there ever was, in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith(f"{field}:"))
        return int(line.split()[1]) * 1024 / 1e6

    def cpu_s(self) -> float:
        """Return the processor time that it has used, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait_for(self, path: Path) -> bytes:
        """Return the content of *path* as soon as there is a file."""
        while time.perf_counter() - self.started < READY_S:
            with contextlib.suppress(FileNotFoundError):
                return path.read_bytes()
            if self.process.poll() is not None:
                break
            time.sleep(0.001)
        log = self.directory.with_suffix(".log").read_text()
        sys.exit(f"the mount did not show {path}: {log}")


@contextlib.contextmanager
def mount(
    url: str, directory: Path, *options: str, env: Mapping[str, str] | None = None
) -> Iterator[Daemon]:
    """Mount *url* at the new *directory* as long as the block runs; *env* adds variables."""
    directory.mkdir()
    command = [sys.executable, "-m", "zfuse", "mount", "--log-level", "warning"]
    log = directory.with_suffix(".log")
    started = time.perf_counter()
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, *options, url, str(directory)],
            stdin=subprocess.DEVNULL,
            stderr=out,
            env={**os.environ, **(env or {})},
        )
    try:
        yield Daemon(process, directory, started)
    finally:
        end(directory, process, log)
        directory.rmdir()


def table(rows: Mapping[str, Figures], *, limits: Mapping[str, str] | None = None) -> str:
    """Return median, least and most of each row, with what it should be."""
    width = max(len(name) for name in rows)
    lines = [f"{'':{width}}  {'median':>10} {'min':>10} {'max':>10}"]
    for name, figures in rows.items():
        cells = (figures.median, min(figures.values), max(figures.values))
        wanted = (limits or {}).get(name, "")
        lines.append(f"{name:{width}}  " + " ".join(f"{c:10.3f}" for c in cells) + f"  {wanted}")
    return "\n".join(line.rstrip() for line in lines)
