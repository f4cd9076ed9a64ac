"""One array of 1,000,000 virtual chunks in one manifest: mount it, list it, walk it."""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import icechunk
import numpy as np
import zarr
from benchmark import Figures, mount, table

icechunk.set_logs_filter("error")  # not the advice about concurrent commits

SIDE = 1000
LIMITS = {
    "mount to first chunk (s)": "< 2",
    "memory after first chunk (MB)": "< 500",
    "ls of 1,000 chunks (ms)": "< 50",
    "find, all files (s)": "< 30",
}


def make(directory: Path) -> None:
    """Make the repository in *directory*, with the official library."""
    data = directory / "data"
    data.mkdir(parents=True)
    for row in range(SIDE):
        (data / f"{row:04}.bin").write_bytes(bytes([row % 251 + 1]) * SIDE)
    prefix = f"file://{data}/"
    config = icechunk.RepositoryConfig.default()
    store = icechunk.local_filesystem_store(str(data))
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, store))
    storage = icechunk.local_filesystem_storage(str(directory / "repository"))
    repo = icechunk.Repository.create(storage, config=config)
    repo.save_config()
    session = repo.writable_session("main")
    shape = (SIDE, SIDE)
    zarr.create_array(
        session.store, name="a", shape=shape, chunks=(1, 1), dtype="u1", compressors=None
    )
    locations = [f"{prefix}{row:04}.bin" for row in range(SIDE) for _ in range(SIDE)]
    offsets = np.tile(np.arange(SIDE, dtype=np.uint64), SIDE)
    lengths = np.ones(SIDE * SIDE, dtype=np.uint64)
    session.store.set_virtual_refs_arr("/a", shape, locations, offsets, lengths)
    session.commit("a million chunks")


def measure(directory: Path, work: Path) -> dict[str, float]:
    """Mount once and return every figure."""
    prefix = f"file://{directory / 'data'}/"
    options = ("--branch", "main", "--allow-virtual", prefix)
    with mount(str(directory / "repository"), work / "mount", *options) as daemon:
        content = daemon.wait_for(daemon.directory / "a/c/500/500")
        found = {"mount to first chunk (s)": time.perf_counter() - daemon.started}
        if content != bytes([500 % 251 + 1]):
            raise SystemExit(f"the first chunk is {content!r}")
        found["memory after first chunk (MB)"] = daemon.memory_mb()
        chunks = daemon.directory / "a" / "c"
        found["ls of 1,000 chunks (ms)"] = 1000 * timed(lambda: names(chunks / "501"))
        found["ls -l of 1,000 chunks (ms)"] = 1000 * timed(lambda: sizes(chunks / "502"))
        found["ls of 1,000 directories (ms)"] = 1000 * timed(lambda: names(chunks))
        found["find, all files (s)"] = timed(lambda: walk(daemon.directory))
        found["memory after find (MB)"] = daemon.memory_mb()
        found["most memory ever (MB)"] = daemon.memory_mb("VmHWM")
    return found


def timed(action: Callable[[], int]) -> float:
    """Return the seconds that *action* takes, which must see a thousand or a million entries."""
    start = time.perf_counter()
    count = action()
    taken = time.perf_counter() - start
    if count not in (SIDE, SIDE * SIDE + 2):
        raise SystemExit(f"{count} entries are not what was made")
    return taken


def names(directory: Path) -> int:
    """Return how many entries *directory* lists."""
    return len(os.listdir(directory))


def sizes(directory: Path) -> int:
    """Return the total size of the files in *directory*, each asked for its attributes."""
    with os.scandir(directory) as entries:
        return sum(entry.stat().st_size for entry in entries)


def walk(directory: Path) -> int:
    """Return how many files find(1) prints below *directory*."""
    found = subprocess.Popen(["find", str(directory), "-type", "f"], stdout=subprocess.PIPE)
    assert found.stdout is not None
    count = sum(block.count(b"\n") for block in iter(lambda: found.stdout.read(1 << 20), b""))
    if found.wait():
        raise SystemExit("find failed")
    return count


def main() -> None:
    """Run the rounds and print what they gave."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="mounts to measure [3]")
    parser.add_argument("--repository", type=Path, help="keep it here, or take it from here")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zfuse-bench.") as temporary:
        work = Path(temporary)
        directory = (chosen.repository or work / "made").absolute()
        if not (directory / "repository").exists():
            make(directory)
        rounds = [measure(directory, work) for _ in range(chosen.rounds)]
    rows = {name: Figures([found[name] for found in rounds]) for name in rounds[0]}
    if chosen.json:
        print(json.dumps({name: figures.as_json() for name, figures in rows.items()}))
    else:
        print(table(rows, limits=LIMITS))


if __name__ == "__main__":
    main()
