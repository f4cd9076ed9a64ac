"""Write 256 chunks of 1 MiB: zarr-python on a mount and zfuse sync, against icechunk's own.

Both write random bytes with zarr-python to a new repository of their own, in a local directory
and on an S3 server (SeaweedFS), in turn, each in a fresh process. The clock starts when the
array is made and stops when the commit is in the repository; opening is not counted, and
starting the interpreter of the command ``zfuse sync`` is shown in a row of its own.

The row "plain directory" is the same writer on a local directory: what zarr-python itself takes.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import icechunk
import numpy as np
import zarr
from benchmark import Figures, mount, table
from zarr.storage import LocalStore

from tests.servers.seaweedfs import REGION, serve_s3
from zfuse.daemon.control import call

icechunk.set_logs_filter("error")  # not the advice about concurrent commits

CHUNK = 1 << 20


@dataclass(frozen=True)
class Place:
    """Where a repository is: a directory, or a prefix of a bucket."""

    url: str
    endpoint: str | None = None
    access_key: str | None = None
    secret_key: str | None = None

    def storage(self) -> icechunk.Storage:
        """Return the official library's storage."""
        if self.endpoint is None:
            return icechunk.local_filesystem_storage(self.url)
        bucket, _, prefix = self.url.removeprefix("s3://").partition("/")
        return icechunk.s3_storage(
            bucket=bucket,
            prefix=prefix,
            region=REGION,
            endpoint_url=self.endpoint,
            allow_http=True,
            force_path_style=True,
            access_key_id=self.access_key,
            secret_access_key=self.secret_key,
        )

    def environment(self) -> dict[str, str]:
        """Return the variables with which ``zfuse mount`` finds the credentials."""
        if self.access_key is None or self.secret_key is None:
            return {}
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}

    def options(self) -> list[str]:
        """Return the options of ``zfuse mount``."""
        if self.endpoint is None:
            return []
        return ["--endpoint-url", self.endpoint, "--region", REGION, "--force-path-style"]


def values(chunks: int) -> np.ndarray:
    """Return what is written."""
    return np.random.default_rng(1).integers(0, 256, chunks * CHUNK, dtype="u1")


def write(store: zarr.abc.store.Store, data: np.ndarray) -> None:
    """Write the array."""
    array = zarr.create_array(
        store, name="a", shape=data.shape, chunks=(CHUNK,), dtype="u1", compressors=None
    )
    array[...] = data


def write_officially(place: Place, chunks: int) -> dict[str, float]:
    """Write and commit with the official library."""
    session = icechunk.Repository.open(place.storage()).writable_session("main")
    data = values(chunks)
    start = time.perf_counter()
    write(session.store, data)
    written = time.perf_counter()
    session.commit("random bytes")
    end = time.perf_counter()
    return {"write": written - start, "commit": end - written}


def write_mounted(root: Path, chunks: int, *, syncs: bool) -> dict[str, float]:
    """Write below a directory, and commit if it is a mount."""
    data = values(chunks)
    start = time.perf_counter()
    write(LocalStore(root), data)
    written = time.perf_counter()
    if syncs:
        told = call(root, "sync", branch="main", message="random bytes")
        if told["snapshot"] is None:
            raise SystemExit("the sync found nothing to commit")
    end = time.perf_counter()
    return {"write": written - start, "commit": end - written}


def run_writer(chosen: argparse.Namespace, *arguments: str) -> dict[str, float]:
    """Run one writer in a fresh process."""
    command = [sys.executable, __file__, "--chunks", str(chosen.chunks)]
    command += ["--concurrency", str(chosen.concurrency), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=600)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def compare(chosen: argparse.Namespace, work: Path, new_place: "Places") -> list[dict[str, float]]:
    """Let both write in turn; return the figures of each round."""
    rounds = []
    for number in range(chosen.rounds):
        if number % 2:
            ours = ours_once(chosen, work, new_place())
            theirs = theirs_once(chosen, new_place())
        else:
            theirs = theirs_once(chosen, new_place())
            ours = ours_once(chosen, work, new_place())
        shutil.rmtree(work / "plain", ignore_errors=True)
        plain = run_writer(chosen, "--directory", str(work / "plain"))
        rounds.append(_figures(ours, theirs, plain, chosen.chunks))
        os.sync()
    return rounds


def theirs_once(chosen: argparse.Namespace, place: Place) -> dict[str, float]:
    """Write to a new repository with the official library."""
    icechunk.Repository.create(place.storage())
    return run_writer(chosen, "--icechunk", json.dumps(asdict(place)))


def ours_once(chosen: argparse.Namespace, work: Path, place: Place) -> dict[str, float]:
    """Write to a new repository through a mount, and see that the official library reads it."""
    icechunk.Repository.create(place.storage())
    directory = work / "mount"
    options = [*place.options(), "--rw", "--branch", "main", "--journal", str(work / "journal")]
    with mount(place.url, directory, *options, env=place.environment()) as daemon:
        while not directory.is_mount():
            time.sleep(0.01)
        before = daemon.cpu_s()
        found = run_writer(chosen, "--sync", "--directory", str(directory))
        found |= {"memory": daemon.memory_mb("VmHWM"), "cpu": daemon.cpu_s() - before}
        start = time.perf_counter()
        command = [sys.executable, "-m", "zfuse", "sync", str(directory), "-m", "nothing"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found["command"] = time.perf_counter() - start
    session = icechunk.Repository.open(place.storage()).readonly_session("main")
    written = zarr.open_array(session.store, path="a", mode="r")[...]
    if not np.array_equal(written, values(chosen.chunks)):
        raise SystemExit("icechunk reads something else than what was written")
    return found


def _figures(
    ours: dict[str, float], theirs: dict[str, float], plain: dict[str, float], chunks: int
) -> dict[str, float]:
    megabytes = chunks * CHUNK / 1e6
    whole = {
        "zfuse": ours["write"] + ours["commit"],
        "icechunk": theirs["write"] + theirs["commit"],
    }
    return {
        "icechunk write (s)": theirs["write"],
        "icechunk commit (s)": theirs["commit"],
        "zfuse write (s)": ours["write"],
        "zfuse sync (s)": ours["commit"],
        "plain directory write (s)": plain["write"],
        "icechunk (MB/s)": megabytes / whole["icechunk"],
        "zfuse (MB/s)": megabytes / whole["zfuse"],
        "zfuse / icechunk": whole["icechunk"] / whole["zfuse"],
        "empty zfuse sync command (s)": ours["command"],
        "daemon memory (MB)": ours["memory"],
        "daemon CPU (s)": ours["cpu"],
    }


class Places:
    """Makes places for new repositories, each below the last URL of its kind."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._count = 0

    def __call__(self) -> Place:
        """Return the next place."""
        self._count += 1
        told = asdict(self._place)
        return Place(**{**told, "url": f"{self._place.url}/{self._count}"})


def run(chosen: argparse.Namespace) -> Iterator[tuple[str, list[dict[str, float]]]]:
    """Compare on each kind of storage, and yield its name and figures."""
    with tempfile.TemporaryDirectory(prefix="zfuse-bench.") as temporary:
        work = Path(temporary)
        if chosen.only != "s3":
            yield "local directory", compare(chosen, work, Places(Place(str(work / "local"))))
        if chosen.only != "local":
            (work / "s3").mkdir()
            with serve_s3(work / "s3") as s3:
                url = f"s3://{s3.make_bucket()}/repositories"
                place = Place(url, s3.endpoint, s3.access_key, s3.secret_key)
                yield "S3 (SeaweedFS)", compare(chosen, work, Places(place))


def show(name: str, rounds: list[dict[str, float]]) -> None:
    """Print a table, with the ratio of the medians below."""
    rows = {row: Figures([found[row] for found in rounds]) for row in rounds[0]}
    print(f"\n{name}\n{table(rows)}")
    ratio = rows["zfuse (MB/s)"].median / rows["icechunk (MB/s)"].median
    print(f"ratio of medians {ratio:.2f} (wanted: at least 1.0)", flush=True)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each [5]")
    parser.add_argument("--chunks", type=int, default=256, help="chunks of 1 MiB [256]")
    parser.add_argument("--concurrency", type=int, default=10, help="zarr's async.concurrency [10]")
    parser.add_argument("--only", choices=["local", "s3"], help="one kind of storage [both]")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--icechunk", help=argparse.SUPPRESS)
    parser.add_argument("--directory", help=argparse.SUPPRESS)
    parser.add_argument("--sync", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure and print, or be one of the writers."""
    chosen = parse()
    zarr.config.set({"async.concurrency": chosen.concurrency})
    if chosen.icechunk:
        print(json.dumps(write_officially(Place(**json.loads(chosen.icechunk)), chosen.chunks)))
    elif chosen.directory:
        found = write_mounted(Path(chosen.directory), chosen.chunks, syncs=chosen.sync)
        print(json.dumps(found))
    elif chosen.json:
        print(json.dumps(dict(run(chosen))))
    else:
        for name, rounds in run(chosen):
            show(name, rounds)


if __name__ == "__main__":
    main()
