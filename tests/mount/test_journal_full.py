"""A disk too small for what is written: who writes is told, and nothing closed is lost."""

import errno
import os
import shutil
import subprocess

import icechunk
import pytest

from tests.compat.documents import GROUP, array_document, get_all, put_all
from tests.compat.place import changing, create, local_place
from tests.mount.mounting import END_S, mounting
from tests.mount.settling import wait_for
from tests.mount.writing_branches import fails

pytestmark = [
    pytest.mark.compat,
    pytest.mark.fuse,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a tmpfs"),
]

DISK = 12 << 20
PIECE = 1 << 20


@pytest.fixture
def place(tmp_path):
    place = local_place(tmp_path)
    with changing(create(place, 2), "base") as store:
        put_all(store, {"zarr.json": GROUP, "a/zarr.json": array_document((400,), (1,))})
        put_all(store, {f"a/c/{n}": b"x" * 600 for n in range(300, 400)})
    return place


@pytest.fixture
def disk(tmp_path):
    """A small disk for sessions."""
    directory = tmp_path / "disk"
    directory.mkdir()
    size = f"size={DISK}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


@pytest.fixture
def mounted(place, disk, tmp_path):
    with mounting(place.url, tmp_path / "mount", "--rw", "--journal", str(disk)) as mounted:
        yield mounted


def fits(path, data):
    """Write a file, and tell whether there was room for it; without it is gone."""
    try:
        with path.open("xb", buffering=0) as file:
            file.write(data)
    except OSError as exc:
        if exc.errno != errno.ENOSPC:
            raise
        path.unlink(missing_ok=True)
        return False
    return True


def fill(directory, prefix="", size=PIECE):
    """Write files until the disk is full; return those that were closed, with their bytes."""
    closed = {}
    for n in range(300):
        path, data = directory / f"{prefix}{n}", os.urandom(size)
        if not fits(path, data):
            return closed
        closed[path] = data
    raise AssertionError("the disk is not full")


def wait_until_removed(disk):
    """Return once no bytes of files are on the disk: those removed go a moment later."""
    wait_for(lambda: not list(disk.glob("**/[0-9a-f][0-9a-f]/*")))


def append_for_ever(descriptor):
    while True:
        os.pwrite(descriptor, b"z" * PIECE, os.fstat(descriptor).st_size)


def check(files):
    for path, data in files.items():
        assert path.read_bytes() == data


def committed(place):
    return get_all(icechunk.Repository.open(place.storage).readonly_session("main").store)


def test_it_is_told_and_goes_on_after_a_sync(place, disk, mounted):
    chunks = mounted.path / "branch/main/a/c"
    closed = fill(chunks)
    assert len(closed) > 5
    assert list(disk.glob("**/[0-9a-f][0-9a-f]/*"))
    fails(errno.ENOSPC, (chunks / "299").write_bytes, b"y" * PIECE)
    check(closed)
    (chunks / "299").unlink()
    mounted.call("sync", branch="main", message="what fits")
    found = committed(place)
    assert {path: found[f"a/c/{path.name}"] for path in closed} == closed
    check(closed)
    for path in closed:
        path.unlink()
    wait_until_removed(disk)
    again = fill(chunks)
    assert len(again) > 5
    mounted.call("sync", branch="main", message="as much again")
    check(again)


def test_it_goes_on_after_files_are_removed(place, mounted):
    chunks = mounted.path / "branch/main/a/c"
    closed = fill(chunks)
    for turn in range(3):
        for path in list(closed)[:4]:
            path.unlink()
            del closed[path]
        closed |= fill(chunks.parent, f"no chunk {turn} ")
    check(closed)
    shutil.rmtree(mounted.path / "branch/main/a/c")
    os.rename(mounted.path / "branch/main/a", mounted.path / "branch/main/b")


def test_small_files_and_their_names_fill_it_too(disk, mounted):
    """Each takes a page, and more in the journal of names."""
    directory = mounted.path / "branch/main/small"
    directory.mkdir()
    closed = {}
    while fits(directory / f"{len(closed)}", b"small"):
        closed[directory / f"{len(closed)}"] = b"small"
    assert len(closed) > 200
    check(dict(list(closed.items())[::20]))
    shutil.rmtree(directory)
    assert sorted(os.listdir(mounted.path / "branch/main")) == ["a", "zarr.json"]
    wait_until_removed(disk)
    assert len(fill(mounted.path / "branch/main/a/c")) > 5


def test_what_is_overwritten_in_place_keeps_what_it_had(mounted):
    """A write that does not fit changes nothing, and its file can be closed."""
    path = mounted.path / "branch/main/a/c/350"
    path.write_bytes(b"complete")
    fill(mounted.path / "branch/main/a/c")
    with path.open("r+b", buffering=0) as file:
        fails(errno.ENOSPC, append_for_ever, file.fileno())
        size = os.fstat(file.fileno()).st_size
    assert path.read_bytes() == b"complete" + b"z" * (size - 8)
    os.truncate(path, 100)
    data = path.read_bytes()
    assert len(data) == 100


def test_nothing_closed_is_lost_when_the_daemon_dies_then(place, disk, tmp_path):
    directory = tmp_path / "mount"
    with mounting(place.url, directory, "--rw", "--journal", str(disk)) as mounted:
        closed = fill(mounted.path / "branch/main/a/c")
        mounted.daemon.kill()
        mounted.daemon.wait(END_S)
        subprocess.run(["umount", "--lazy", directory], check=True)
    with mounting(place.url, directory, "--rw", "--journal", str(disk)) as mounted:
        check(closed)
        mounted.call("sync", branch="main", message="after a crash")
        found = committed(place)
        assert {path: found[f"a/c/{path.name}"] for path in closed} == closed
