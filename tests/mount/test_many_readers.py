"""Eight processes read all there is at once, through a daemon that may keep little."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from tests.compat.hierarchy import quiet
from tests.compat.place import changing, create, local_place

pytestmark = [pytest.mark.compat, pytest.mark.fuse]

MIB = 1 << 20
MEMORY = 4 * MIB
GROWTH = 96 * MIB
"""What the daemon may take more than before anybody read: what is on its way to eight readers."""

ARRAYS = {
    "chunks": {"chunks": (MIB,)},
    "small": {"chunks": (48 << 10,)},
    "large": {"chunks": (12 * MIB,)},
    "shards": {"chunks": (MIB,), "shards": (12 * MIB,)},
}
SIZE = 24 * MIB

WITH_ZARR = """
import hashlib, sys, zarr
for name in sys.argv[2:]:
    print(name, hashlib.sha256(zarr.open_array(sys.argv[1], path=name, mode="r")[:]).hexdigest())
"""
WITH_TOOLS = "cd {} && find . -type f -print0 | sort -z | xargs -0 sha256sum"


def content(name):
    return np.frombuffer(np.random.default_rng(len(name)).bytes(SIZE), "u1")


@pytest.fixture
@quiet
def repository(tmp_path):
    repo = create(local_place(tmp_path), 2)
    with changing(repo, "data") as store:
        for name, layout in ARRAYS.items():
            zarr.create_array(
                store, name=name, shape=(SIZE,), dtype="u1", compressors=None, **layout
            )[:] = content(name)
    return tmp_path / "repository"


def peak(process):
    """Return the most bytes of memory that a process has had so far."""
    status = Path("/proc", str(process.pid), "status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10


def start(*command):
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_all_get_the_right_bytes_and_memory_stays_bounded(repository, mounted):
    mount = mounted(repository, "--memory", str(MEMORY))
    directory = mount.path / "branch/main"
    (directory / "small/zarr.json").read_bytes()
    before = peak(mount.daemon)
    names = list(ARRAYS)
    with_zarr = [
        start(sys.executable, "-W", "ignore", "-c", WITH_ZARR, directory, *names[n:], *names[:n])
        for n in range(4)
    ]
    # By other names for the same content, so that the kernel does not share what it has.
    (tree,) = mount.call("status")["trees"]
    places = [directory, mount.path / "snapshot" / tree["snapshot"]] * 2
    with_tools = [start("bash", "-c", WITH_TOOLS.format(place)) for place in places]
    expected = {f"{n} {hashlib.sha256(content(n)).hexdigest()}" for n in names}
    for process in with_zarr:
        told, _ = process.communicate(timeout=200)
        assert set(told.splitlines()) == expected
    listings = [process.communicate(timeout=200)[0] for process in with_tools]
    assert len(set(listings)) == 1
    assert len(listings[0].splitlines()) == 24 + 512 + 2 + 2 + len(names) + 1
    assert mount.metric("memory_limit_bytes") == MEMORY
    assert peak(mount.daemon) - before < GROWTH, peak(mount.daemon)
    assert mount.metric("storage_errors_total") == 0


def test_a_copy_by_cp_is_what_was_stored(repository, mounted, tmp_path):
    mount = mounted(repository, "--memory", str(MEMORY), "--branch", "main")
    copies = [tmp_path / f"copy{n}" for n in range(2)]
    processes = [start("cp", "-r", mount.path, copy) for copy in copies]
    assert [process.wait(200) for process in processes] == [0, 0]
    for process in processes:
        process.stdout.close()
    for name in ARRAYS:
        found = zarr.open_array(copies[0], path=name, mode="r")[:]
        assert np.array_equal(found, content(name))
    subprocess.run(["diff", "-r", *copies], check=True, timeout=200)
