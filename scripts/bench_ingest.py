"""Reference a Zarr store of 1,000,000 chunks: zfuse, against VirtualiZarr and icechunk.

The source is a local Zarr v3 store of one array, a file of a few bytes for each chunk. Both
make a new repository of it in a process of its own: parse the source, write the references,
commit. What zfuse does besides, looking once more whether a file has changed, counts as
writing. Starting Python and importing libraries is not counted.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr

LIMITS = {"all (s)": 60.0, "after parsing (s)": 10.0, "peak memory (MB)": 2000.0}


def make(directory: Path, side: int) -> None:
    """Write a store of *side* x *side* chunks."""
    group = zarr.create_group(directory)
    group.create_array("a", shape=(side, 4 * side), chunks=(1, 4), dtype="u1", compressors=None)
    for row in range(side):
        parent = directory / "a" / "c" / str(row)
        parent.mkdir(parents=True)
        place = os.open(parent, os.O_RDONLY)
        for column in range(side):
            file = os.open(str(column), os.O_WRONLY | os.O_CREAT, dir_fd=place)
            os.write(file, b"data")
            os.close(file)
        os.close(place)


def run_zfuse(source: Path, repository: Path) -> dict[str, float]:
    """Ingest with zfuse."""
    import trio  # noqa: PLC0415 - each contender loads its own

    from zfuse.daemon.assemble import assembled  # noqa: PLC0415
    from zfuse.daemon.settings import mount_settings  # noqa: PLC0415
    from zfuse.ingest.run import Choices, Request, ingest  # noqa: PLC0415
    from zfuse.ingest.sources import source_of  # noqa: PLC0415
    from zfuse.repo.create import create_repository  # noqa: PLC0415
    from zfuse.storage.local import LocalStorage  # noqa: PLC0415

    moments: dict[str, float] = {}

    async def work() -> None:
        await create_repository(LocalStorage(repository))
        async with assembled(mount_settings(str(repository), {})) as parts:
            moments["begun"] = time.perf_counter()
            requests = [Request(source_of(str(source)), "/")]

            def tell(what: str, done: int, of: int) -> None:
                if what == "parsing" and done == of:
                    moments["parsed"] = time.perf_counter()

            await ingest(parts.repository, requests, Choices("bench"), tell)
            moments["ended"] = time.perf_counter()

    trio.run(work)
    return moments


def run_virtualizarr(source: Path, repository: Path) -> dict[str, float]:
    """Ingest with VirtualiZarr and icechunk."""
    import icechunk  # noqa: PLC0415 - each contender loads its own
    from obspec_utils.registry import ObjectStoreRegistry  # noqa: PLC0415
    from obstore.store import LocalStore  # noqa: PLC0415
    from virtualizarr.parsers import ZarrParser  # noqa: PLC0415
    from virtualizarr.writers.icechunk import write_manifest_to_icechunk  # noqa: PLC0415

    icechunk.set_logs_filter("error")  # not the advice about concurrent commits
    prefix = f"file://{source.parent}/"
    config = icechunk.RepositoryConfig.default()
    container = icechunk.local_filesystem_store(str(source.parent))
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, container))
    storage = icechunk.local_filesystem_storage(str(repository))
    repo = icechunk.Repository.create(storage, config=config)
    registry = ObjectStoreRegistry({"file://": LocalStore()})
    moments = {"begun": time.perf_counter()}
    store = ZarrParser()(f"file://{source}", registry)
    array = store._group.arrays["a"]  # noqa: SLF001 - as its own writers do
    moments["parsed"] = time.perf_counter()
    session = repo.writable_session("main")
    group = zarr.open_group(session.store, mode="w")
    group.create_array(
        "a",
        shape=array.shape,
        chunks=array.metadata.chunks,
        dtype=array.dtype,
        compressors=None,
    )
    write_manifest_to_icechunk(
        store=session.store,
        group=group,
        arr_name="a",
        manifest=array.manifest,
        chunk_index_offsets=(0, 0),
    )
    session.commit("bench")
    moments["ended"] = time.perf_counter()
    return moments


CONTENDERS = {"zfuse": run_zfuse, "virtualizarr": run_virtualizarr}


def contend(name: str, source: Path, repository: Path) -> None:
    """Run one contender and print its figures."""
    moments = CONTENDERS[name](source, repository)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    figures = {
        "parsing (s)": moments["parsed"] - moments["begun"],
        "after parsing (s)": moments["ended"] - moments["parsed"],
        "all (s)": moments["ended"] - moments["begun"],
        "peak memory (MB)": peak,
    }
    print(json.dumps(figures))


def check(repository: Path, source: Path, side: int) -> None:
    """Check that icechunk reads from a repository what the source has."""
    import icechunk  # noqa: PLC0415

    access = icechunk.credentials.LocalFileSystemAccess
    repo = icechunk.Repository.open(
        icechunk.local_filesystem_storage(str(repository)),
        authorize_virtual_chunk_access={f"file://{source.parent}/": access},
    )
    array = zarr.open_array(repo.readonly_session("main").store, path="a", mode="r")
    expected = np.frombuffer(b"data" * 3, np.uint8)
    assert np.array_equal(array[side - 1, -12:], expected)


def parsed_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=1000, help="chunks along each dimension")
    parser.add_argument("--source", type=Path, help="keep the source here, or take it from here")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--repository", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Make the source, let both contend, and print the figures."""
    arguments = parsed_arguments()
    if arguments.contender:
        contend(arguments.contender, arguments.source, arguments.repository)
        return
    with tempfile.TemporaryDirectory(prefix="zfuse-bench-") as text:
        work = Path(text)
        source = (arguments.source or work / "data").absolute() / "source.zarr"
        if not source.exists():
            make(source, arguments.side)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
        for number in range(arguments.rounds):
            for name, figures in found.items():
                repository = work / f"{name}{number}"
                command = [sys.executable, __file__, "--contender", name]
                command += ["--source", str(source), "--repository", str(repository)]
                told = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
                figures.append(json.loads(told))
                check(repository, source, arguments.side)
    report(found, as_json=arguments.json)


def report(found: dict[str, list[dict[str, float]]], *, as_json: bool) -> None:
    """Print the best of all rounds for each figure, and what is wanted."""
    best = {
        name: {what: min(each[what] for each in figures) for what in figures[0]}
        for name, figures in found.items()
    }
    if as_json:
        print(json.dumps(best))
        return
    print(f"{'':18} {'zfuse':>8} {'VirtualiZarr + icechunk':>24} {'ratio':>6}  wanted")
    for what, value in best["zfuse"].items():
        other = best["virtualizarr"][what]
        limit = f"< {LIMITS[what]:g}" if what in LIMITS else ""
        print(f"{what:18} {value:8.2f} {other:24.2f} {other / value:6.1f}  {limit}".rstrip())


if __name__ == "__main__":
    main()
