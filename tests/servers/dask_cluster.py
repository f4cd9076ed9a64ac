"""A Dask cluster that gives a slow machine time, and a process of its own that has one.

Dask complains, in logs and warnings, where it is slow to make a directory, to answer or to end
a process: no test is about that. ``python -m tests.servers.dask_cluster DIRECTORY
threads|processes`` tells the address of a scheduler with one worker, which ends with its stdin.
"""

import contextlib
import subprocess
import sys
from pathlib import Path

import dask
from distributed import LocalCluster

PATIENCE = {
    "distributed.admin.tick.limit": "1h",
    "distributed.comm.timeouts.connect": "5m",
    "distributed.comm.timeouts.tcp": "5m",
    "distributed.scheduler.worker-ttl": None,
    "distributed.worker.profile.enabled": False,
}


@contextlib.contextmanager
def patient_cluster(workers, directory, *, processes):
    """Run a cluster with files in *directory* in this process; workers have two threads each."""
    with (
        dask.config.set({**PATIENCE, "temporary-directory": str(directory)}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=2,
            processes=processes,
            host="127.0.0.1",
            protocol="tcp",
            dashboard_address=None,
            memory_limit=None,
        ) as running,
    ):
        yield running


@contextlib.contextmanager
def scheduler(directory, kind):
    """Run a cluster that keeps its files in *directory*; give the address of its scheduler."""
    command = [sys.executable, "-m", "tests.servers.dask_cluster", str(directory), kind]
    log = directory / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=out,
            cwd=Path(__file__).parents[2],
        )
    with process:  # which closes its stdin, and waits
        address = process.stdout.readline().decode().strip()
        assert address.startswith("tcp://"), log.read_text()
        yield address


def main(directory, kind):
    """Run a cluster until stdin ends."""
    with patient_cluster(1, directory, processes=kind == "processes") as running:
        sys.stdout.write(f"{running.scheduler_address}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
