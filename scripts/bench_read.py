"""Read 256 chunks of 1 MiB: a mount with zarr-python against icechunk with zarr-python.

Both read the same repository from the same server: nginx over a local directory, as an
anonymous S3, and with --s3 SeaweedFS too. They take turns, each in fresh processes.

  cold   the first read of the whole array, on a fresh mount, so that no cache knows it
  warm   the same once more, in another fresh process
  again  the median of three further reads in that process

Opening the repository is not counted for either. The rows "plain directory" are the same
readers on a copy in a local directory: what zarr-python can take from any file system here, and
so the most that a mount could give it.
"""

import argparse
import json
import statistics
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

from tests.servers.nginx import serve_directory
from tests.servers.seaweedfs import REGION, serve_s3

icechunk.set_logs_filter("error")  # not the advice about concurrent commits

CHUNK = 1 << 20
FURTHER_READS = 3
WANTED = {"cold": "at least 1.0", "warm": "at least 3", "again": "no limit"}


@dataclass(frozen=True)
class Server:
    """Where the repository is, as both clients are told."""

    endpoint: str
    bucket: str
    prefix: str
    access_key: str | None = None
    secret_key: str | None = None

    def storage(self) -> icechunk.Storage:
        """Return the official library's storage."""
        return icechunk.s3_storage(
            bucket=self.bucket,
            prefix=self.prefix,
            region=REGION,
            endpoint_url=self.endpoint,
            allow_http=True,
            force_path_style=True,
            anonymous=self.access_key is None,
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
        anonymous = ["--anonymous"] if self.access_key is None else []
        common = ["--endpoint-url", self.endpoint, "--region", REGION, "--force-path-style"]
        return ["--branch", "main", *common, *anonymous]


def make(storage: icechunk.Storage, chunks: int) -> None:
    """Make a repository with an array of random bytes."""
    repo = icechunk.Repository.create(storage)
    session = repo.writable_session("main")
    write(session.store, chunks)
    session.commit("random bytes")


def write(store: zarr.abc.store.Store, chunks: int) -> None:
    """Write the array."""
    array = zarr.create_array(
        store, name="a", shape=(chunks * CHUNK,), chunks=(CHUNK,), dtype="u1",
        compressors=None,
    )  # fmt: skip
    array[...] = np.random.default_rng(1).integers(0, 256, chunks * CHUNK, dtype="u1")


def read(store: zarr.abc.store.Store) -> dict[str, float]:
    """Return the seconds of the first and of a later read, and a sum of what was read."""
    taken = []
    total = 0
    for _ in range(1 + FURTHER_READS):
        start = time.perf_counter()
        values = np.asarray(zarr.open_array(store, path="a", mode="r")[...])
        taken.append(time.perf_counter() - start)
        total += int(values[::997].sum())
        del values
    return {"first": taken[0], "again": statistics.median(taken[1:]), "sum": total}


def read_with_icechunk(server: Server) -> dict[str, float]:
    """Read through the official library."""
    repo = icechunk.Repository.open(server.storage())
    return read(repo.readonly_session(branch="main").store)


def read_twice(chosen: argparse.Namespace, *reader: str) -> dict[str, float]:
    """Run one reader in two fresh processes, one after the other."""
    command = [sys.executable, __file__, "--concurrency", str(chosen.concurrency), *reader]
    first, second = (
        json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=600).stdout)
        for _ in range(2)
    )
    if first["sum"] != second["sum"]:
        raise SystemExit("two reads gave different values")
    return {"cold": first["first"], "warm": second["first"], **second}


def compare(server: Server, chosen: argparse.Namespace, work: Path) -> list[dict[str, float]]:
    """Let both read in turn; return the figures of each round."""
    rounds = []
    official = ("--icechunk", json.dumps(asdict(server)))
    read_twice(chosen, *official)  # now the server's own caches are warm for both
    for number in range(chosen.rounds):
        if number % 2:
            mounted = read_mounted(server, chosen, work)
            found = read_twice(chosen, *official)
        else:
            found = read_twice(chosen, *official)
            mounted = read_mounted(server, chosen, work)
        if mounted["sum"] != found["sum"]:
            raise SystemExit("the mount and icechunk read different values")
        plain = read_twice(chosen, "--directory", str(work / "plain"))
        rounds.append(_figures(mounted, found, plain, chosen.chunks))
    return rounds


def read_mounted(server: Server, chosen: argparse.Namespace, work: Path) -> dict[str, float]:
    """Mount, read twice through the mount, and note what that cost the daemon."""
    url = f"s3://{server.bucket}/{server.prefix}"
    directory, env = work / "mount", server.environment()
    with mount(url, directory, *server.options(), env=env) as daemon:
        daemon.wait_for(directory / "zarr.json")
        before = daemon.cpu_s()
        found = read_twice(chosen, "--directory", str(directory))
        return found | {"memory": daemon.memory_mb("VmHWM"), "cpu": daemon.cpu_s() - before}


def _figures(
    mounted: dict[str, float], official: dict[str, float], plain: dict[str, float], chunks: int
) -> dict[str, float]:
    megabytes = chunks * CHUNK / 1e6
    found = {}
    for end in WANTED:
        found[f"{end} icechunk (MB/s)"] = megabytes / official[end]
        found[f"{end} zfuse (MB/s)"] = megabytes / mounted[end]
        found[f"{end} plain directory (MB/s)"] = megabytes / plain[end]
        found[f"{end} zfuse / icechunk"] = official[end] / mounted[end]
        found[f"{end} zfuse / plain directory"] = plain[end] / mounted[end]
    return found | {"daemon memory (MB)": mounted["memory"], "daemon CPU (s)": mounted["cpu"]}


def show(name: str, rounds: list[dict[str, float]]) -> None:
    """Print a table, with the ratio of the medians below."""
    rows = {row: Figures([found[row] for found in rounds]) for row in rounds[0]}
    print(f"\n{name}\n{table(rows)}")
    for end, ratio in ratios(rows).items():
        print(f"{end}: ratio of medians {ratio:.2f} (wanted: {WANTED[end]})")


def ratios(rows: dict[str, Figures]) -> dict[str, float]:
    """Return how many times as fast the mount is, by the medians."""
    return {
        end: rows[f"{end} zfuse (MB/s)"].median / rows[f"{end} icechunk (MB/s)"].median
        for end in WANTED
    }


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each [5]")
    parser.add_argument("--chunks", type=int, default=256, help="chunks of 1 MiB [256]")
    parser.add_argument("--concurrency", type=int, default=10, help="zarr's async.concurrency [10]")
    parser.add_argument("--s3", action="store_true", help="also from SeaweedFS")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--icechunk", help=argparse.SUPPRESS)
    parser.add_argument("--directory", help=argparse.SUPPRESS)
    return parser.parse_args()


def run(chosen: argparse.Namespace) -> Iterator[tuple[str, list[dict[str, float]]]]:
    """Start the servers, compare on each, and yield its name and figures."""
    with tempfile.TemporaryDirectory(prefix="zfuse-bench.") as temporary:
        work = Path(temporary)
        root = work / "www"
        (root / "bench").mkdir(parents=True)
        make(icechunk.local_filesystem_storage(str(root / "bench" / "repository")), chosen.chunks)
        write(LocalStore(work / "plain"), chosen.chunks)
        (work / "nginx").mkdir()
        with serve_directory(root, work / "nginx") as nginx:
            server = Server(nginx.url, "bench", "repository")
            yield "nginx", compare(server, chosen, work)
        if chosen.s3:
            (work / "s3").mkdir()
            with serve_s3(work / "s3") as s3:
                bucket = s3.make_bucket()
                server = Server(s3.endpoint, bucket, "repository", s3.access_key, s3.secret_key)
                make(server.storage(), chosen.chunks)
                yield "seaweedfs", compare(server, chosen, work)


def main() -> None:
    """Measure and print, or be one of the readers."""
    chosen = parse()
    zarr.config.set({"async.concurrency": chosen.concurrency})
    if chosen.icechunk:
        print(json.dumps(read_with_icechunk(Server(**json.loads(chosen.icechunk)))))
    elif chosen.directory:
        print(json.dumps(read(LocalStore(chosen.directory, read_only=True))))
    elif chosen.json:
        print(json.dumps(dict(run(chosen))))
    else:
        for name, rounds in run(chosen):
            show(name, rounds)


if __name__ == "__main__":
    main()
