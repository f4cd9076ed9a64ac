"""A writable branch takes any file operation, as any file system does."""

import ctypes
import errno
import fcntl
import json
import os
import shutil
import stat
import struct
import subprocess
import sys
from datetime import UTC, datetime

import icechunk
import pytest

from tests.mount.writing_branches import CHUNK, fails, mounted, numbers, place, root, sync

pytestmark = [pytest.mark.compat, pytest.mark.fuse]

__all__ = ["mounted", "numbers", "place", "root", "sync"]  # fixtures

NOREPLACE, EXCHANGE = 1, 2


def renameat2(source, target, flags):
    libc = ctypes.CDLL(None, use_errno=True)
    at = ctypes.c_int(-100)
    if libc.renameat2(at, os.fsencode(source), at, os.fsencode(target), flags):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def lock(descriptor, command=fcntl.F_OFD_SETLK, kind=fcntl.F_WRLCK):
    fcntl.fcntl(descriptor, command, struct.pack("hhqqi", kind, os.SEEK_SET, 0, 0, 0))


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [fcntl.F_OFD_SETLK, fcntl.F_SETLK])
@pytest.mark.parametrize("name", ["g/a/c/0/0", "g/zarr.json", "g/new"])
def test_a_file_is_renamed_over_one_that_is_open_and_locked(root, name, command):
    path = root / name
    path.parent.joinpath("temporary").write_bytes(b"new bytes")
    if name == "g/new":
        path.write_bytes(b"old bytes")
    before = path.read_bytes()
    with path.open("r+b") as old:
        lock(old, command)
        number = os.fstat(old.fileno()).st_ino
        os.rename(path.parent / "temporary", path)
        with path.open("r+b") as new:
            lock(new)  # another file, which nobody has locked
            assert new.read() == b"new bytes"
        assert old.read() == before
        found = os.fstat(old.fileno())
        assert (found.st_ino, found.st_nlink) == (number, 0)
    assert path.read_bytes() == b"new bytes"
    assert path.stat().st_ino != number


def test_rename_with_flags(root):
    array = root / "g/a"
    (root / "new").write_bytes(b"new")
    fails(errno.EEXIST, renameat2, root / "new", array / "c/0/0", NOREPLACE)
    fails(errno.EEXIST, renameat2, array / "c/0", array / "c/1", NOREPLACE)
    fails(errno.EINVAL, renameat2, root / "new", array / "c/0/0", EXCHANGE)
    renameat2(root / "new", root / "newer", NOREPLACE)
    renameat2(array / "c/0", array / "c/3", NOREPLACE)
    assert (root / "newer").read_bytes() == b"new"
    assert (array / "c/3/1").read_bytes() == CHUNK + b"0 1"


def test_renames_that_no_file_system_allows(root):
    array = root / "g/a"
    (root / "empty").mkdir()
    fails(errno.ENOTEMPTY, os.rename, array / "c/0", array / "c/1")
    fails(errno.ENOTDIR, os.rename, array / "c", array / "zarr.json")
    fails(errno.EISDIR, os.rename, array / "zarr.json", root / "empty")
    fails(errno.EINVAL, os.rename, root / "g", root / "g/a/g")
    fails(errno.ENOENT, os.rename, root / "nothing", root / "something")
    fails(errno.ENOTDIR, os.rename, root / "empty", array / "zarr.json/x")
    os.rename(array / "c", root / "empty")  # over an empty directory
    assert sorted(os.listdir(root / "empty")) == ["0", "1", "2"]


def test_directories_full_of_chunks_move(root, sync):
    array = root / "g/a"
    (array / "c/1/0").write_bytes(b"changed")
    (array / "c/3").mkdir()
    (array / "c/3/5").write_bytes(b"added")
    os.unlink(array / "c/0/1")
    os.rename(root / "g", root / "h")
    os.rename(root / "h/a/c/0", root / "h/a/c/9")
    os.rename(root / "h/a/c/9", root / "h/a/c/0")
    os.rename(root / "many", root / "h/many")
    expected = {
        "h/a/c/0/0": CHUNK + b"0 0",
        "h/a/c/1/0": b"changed",
        "h/a/c/1/1": CHUNK + b"1 1",
        "h/a/c/2/0": b"tiny",
        "h/a/c/3/5": b"added",
    }
    shown = {str(p.relative_to(root)): p.read_bytes() for p in (root / "h/a/c").rglob("*/*")}
    assert shown == expected
    assert (root / "h/many/c.299").read_bytes() == b"many 299"
    assert not (root / "g").exists()
    found = sync()
    assert {key: data for key, data in found.items() if "/a/c/" in key} == expected
    assert sum(key.startswith("h/many/c/") for key in found) == 300
    assert {p: p.read_bytes() for p in (root / "h/a/c").rglob("*/*")} == {
        root / key: data for key, data in expected.items()
    }


def test_a_temporary_name_is_linked_and_removed(root, sync):
    array = root / "g/a"
    temporary = array / "c/0/0.partial"
    temporary.write_bytes(b"complete")
    number = temporary.stat().st_ino
    fails(errno.EEXIST, os.link, temporary, array / "c/0/0")
    os.link(temporary, array / "c/0/7")
    found = (array / "c/0/7").stat()
    assert (found.st_ino, found.st_nlink) == (number, 2)
    os.unlink(temporary)
    found = (array / "c/0/7").stat()
    assert (found.st_ino, found.st_nlink) == (number, 1)
    assert sync()["g/a/c/0/7"] == b"complete"
    assert (array / "c/0/7").read_bytes() == b"complete"
    fails(errno.EPERM, os.link, array, root / "a directory")
    os.link(array / "c/0/0", array / "c/0/8")  # a chunk of the base
    assert (array / "c/0/8").stat().st_nlink == (array / "c/0/0").stat().st_nlink == 2
    assert sync()["g/a/c/0/8"] == CHUNK + b"0 0"


def test_linked_files_are_one_until_they_are_committed(root, sync):
    array = root / "g/a"
    os.link(array / "c/0/0", array / "c/0/2")
    with (array / "c/0/0").open("r+b") as file:
        file.write(b"CHUNK")
        file.flush()
        assert (array / "c/0/2").read_bytes()[:5] == b"CHUNK"
    os.link(array / "c/0/2", array / "not a chunk")
    sync()
    with (array / "c/0/0").open("r+b") as file:
        file.write(b"other")
    assert (array / "c/0/2").read_bytes()[:5] == b"CHUNK"
    assert (array / "not a chunk").read_bytes()[:5] == b"CHUNK"
    (array / "c/0/2").write_bytes(b"third")
    found = sync()
    assert (found["g/a/c/0/0"][:5], found["g/a/c/0/2"]) == (b"other", b"third")
    assert (array / "not a chunk").read_bytes()[:5] == b"CHUNK"


def test_what_is_removed_stays_for_who_has_it_open(root):
    for path in (root / "g/a/c/0/0", root / "g/zarr.json", root / "own"):
        if path.name == "own":
            path.write_bytes(b"own bytes")
        before = path.read_bytes()
        with path.open("r+b", buffering=0) as file:
            os.unlink(path)
            assert not path.exists()
            assert file.read() == before
            assert os.pwrite(file.fileno(), b"written later", 3) == 13
            assert os.pread(file.fileno(), 20, 0)[:16] == before[:3] + b"written later"
            os.ftruncate(file.fileno(), 5)
            found = os.fstat(file.fileno())
            assert (found.st_nlink, found.st_size) == (0, 5)
            os.fsync(file.fileno())
            path.write_bytes(b"another")
            assert os.pread(file.fileno(), 20, 0) == before[:3] + b"wr"
        assert path.read_bytes() == b"another"


def test_directories_are_made_and_removed(root):
    fails(errno.ENOTEMPTY, os.rmdir, root / "g/a/c/0")
    fails(errno.ENOTEMPTY, os.rmdir, root / "g")
    os.unlink(root / "many/zarr.json")
    fails(errno.ENOTEMPTY, os.rmdir, root / "many")  # there are chunks
    fails(errno.ENOTDIR, os.rmdir, root / "zarr.json")
    fails(errno.EISDIR, os.unlink, root / "g")
    fails(errno.EEXIST, os.mkdir, root / "g")
    fails(errno.ENOENT, os.mkdir, root / "no/where")
    shutil.rmtree(root / "g/a/c")
    assert os.listdir(root / "g/a") == ["zarr.json"]
    (root / "g/a/c").mkdir(mode=0o750)
    assert os.listdir(root / "g/a/c") == []
    assert stat.S_IMODE((root / "g/a/c").stat().st_mode) == 0o750
    descriptor = os.open(root / "g/a/c", os.O_RDONLY | os.O_DIRECTORY)
    os.rmdir(root / "g/a/c")
    assert os.listdir(descriptor) == []
    fails(errno.ENOENT, os.open, "x", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor)
    os.close(descriptor)


NAMES = [b"n" * 255, "ü".encode() * 127, b"\xff\xfe not text", b"new\nline", b"a,b\\c", b"c.0 "]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_that_linux_takes(root, mounted, sync, name):
    path = os.path.join(os.fsencode(root), name)
    with open(path, "wb") as file:
        file.write(b"bytes")
    os.mkdir(path[:-1] + b"d")
    os.rename(path, os.path.join(path[:-1] + b"d", name))
    assert sorted(os.listdir(os.fsencode(root))).count(path[:-1].split(b"/")[-1] + b"d") == 1
    assert os.listdir(path[:-1] + b"d") == [name]
    sync()
    with open(os.path.join(path[:-1] + b"d", name), "rb") as file:
        assert file.read() == b"bytes"
    status = subprocess.run(
        [sys.executable, "-m", "zfuse", "status", os.fsdecode(root), "--json"],
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert b"Traceback" not in status.stderr
    json.loads(status.stdout.decode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("name", [b"n" * 256, b"n" * 1000, "ü".encode() * 128])
def test_names_that_are_too_long(root, name):
    path = os.path.join(os.fsencode(root), name)
    fails(errno.ENAMETOOLONG, open, path, "wb")
    fails(errno.ENAMETOOLONG, os.mkdir, path)
    fails(errno.ENAMETOOLONG, os.stat, path)
    fails(errno.ENAMETOOLONG, os.rename, os.fsencode(root / "zarr.json"), path)
    fails(errno.ENAMETOOLONG, os.link, os.fsencode(root / "zarr.json"), path)


def test_what_is_not_offered(root):
    fails(errno.EPERM, os.symlink, "zarr.json", root / "link")
    fails(errno.EPERM, os.mkfifo, root / "fifo")
    fails(errno.EPERM, os.mknod, root / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    fails(errno.EPERM, os.mknod, root / "socket", stat.S_IFSOCK | 0o600)
    fails(errno.EOPNOTSUPP, os.open, root, os.O_TMPFILE | os.O_RDWR)
    fails(errno.EOPNOTSUPP, os.setxattr, root / "zarr.json", "user.mine", b"x")
    assert sorted(os.listdir(root)) == ["g", "line", "many", "zarr.json"]


def test_nothing_leaves_its_branch(root, mounted, tmp_path):
    other = mounted.path / "branch/main"
    for source, target in ((root / "zarr.json", other / "new"), (root / "g/a", other / "new")):
        fails(errno.EXDEV, os.rename, source, target)
        fails(errno.EXDEV, os.rename, source, mounted.path / "tag/first/new")
        fails(errno.EXDEV, os.rename, source, tmp_path / "new")
    fails(errno.EXDEV, os.link, root / "zarr.json", other / "new")
    fails(errno.EXDEV, os.link, root / "zarr.json", tmp_path / "new")
    shutil.move(root / "g/a", tmp_path / "a")  # mv copies then
    assert (tmp_path / "a/c/1/1").read_bytes() == CHUNK + b"1 1"
    assert not (root / "g/a").exists()


CHANGES = {
    "create": lambda d: os.open(d / "new", os.O_CREAT | os.O_WRONLY),
    "write": lambda d: os.open(d / "zarr.json", os.O_WRONLY),
    "truncate": lambda d: os.truncate(d / "zarr.json", 0),
    "mkdir": lambda d: os.mkdir(d / "new"),
    "rmdir": lambda d: os.rmdir(d / "c/2"),
    "unlink": lambda d: os.unlink(d / "zarr.json"),
    "rename": lambda d: os.rename(d / "zarr.json", d / "new"),
    "link": lambda d: os.link(d / "zarr.json", d / "new"),
    "chmod": lambda d: os.chmod(d / "zarr.json", 0o600),
    "utime": lambda d: os.utime(d / "zarr.json"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("tree", ["tag/first", "snapshot/{tip}", "time/{now}"])
def test_what_is_no_branch_can_only_be_read(mounted, place, tree, change):
    tip = icechunk.Repository.open(place.storage).lookup_tag("first")
    now = datetime.now(UTC).isoformat()
    directory = mounted.path / tree.format(tip=tip, now=now) / "g/a"
    fails(errno.EROFS, CHANGES[change], directory)
    assert (directory / "c/2/0").read_bytes() == b"tiny"
