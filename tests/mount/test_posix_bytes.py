"""The bytes of files on a writable branch, and what stat(2) says of them, as POSIX has it."""

import errno
import fcntl
import mmap
import os
import shutil
import stat
import subprocess
import sys
import threading

import pytest

from tests.compat.documents import GROUP
from tests.mount.mounting import mounting
from tests.mount.writing_branches import (
    CHUNK,
    THOUSANDS,
    fails,
    mounted,
    numbers,
    place,
    root,
    sync,
)

pytestmark = [pytest.mark.compat, pytest.mark.fuse]

__all__ = ["mounted", "numbers", "place", "root", "sync"]  # fixtures


@pytest.fixture
def array(root):
    """An array with the chunks 0 and 1, which no other test has."""
    return root / "line"


def test_flags_of_open(array):
    chunk = array / "c/0"
    fails(errno.EEXIST, os.open, chunk, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    fails(errno.ENOENT, os.open, array / "c/2", os.O_WRONLY)
    with chunk.open("ab", buffering=0) as first, chunk.open("ab", buffering=0) as second:
        first.write(b"one")
        second.write(b"two")
        first.write(b"three")
    assert chunk.read_bytes() == CHUNK + b"onetwothree"
    with chunk.open("rb") as reader:
        os.close(os.open(chunk, os.O_WRONLY | os.O_TRUNC))
        assert reader.read() == b""
    assert chunk.stat().st_size == 0
    descriptor = os.open(array / "c/3", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o640)
    assert os.write(descriptor, b"new") == 3
    assert os.pread(descriptor, 9, 1) == b"ew"
    os.close(descriptor)
    assert stat.S_IMODE((array / "c/3").stat().st_mode) == 0o640
    descriptor = os.open(array / "c/3", os.O_RDONLY)
    fails(errno.EBADF, os.write, descriptor, b"x")
    os.close(descriptor)


def test_many_processes_append_to_one_file(array):
    """No line gets lost, or another in its middle."""
    line = "b'%s %d\\n' % (os.fsencode(sys.argv[1]), n)"
    script = f"import os, sys\nfor n in range(200): os.write(1, {line})"
    with (array / "log").open("ab") as file:
        command = [sys.executable, "-c", script]
        running = [subprocess.Popen([*command, name], stdout=file) for name in "abc"]
        assert [process.wait(60) for process in running] == [0, 0, 0]
    lines = (array / "log").read_text().splitlines()
    assert sorted(lines) == sorted(f"{name} {n}" for name in "abc" for n in range(200))


def test_files_are_cut_and_grow(array):
    for name in ("c/0", "c/1", "zarr.json", "new"):
        path = array / name
        expected = bytearray(path.read_bytes() if path.exists() else b"new bytes")
        path.write_bytes(expected)
        for size in (3, 3, 5000, 4095, 70_000, 1):
            os.truncate(path, size)
            del expected[size:]
            expected.extend(bytes(size - len(expected)))
            assert path.read_bytes() == expected
            assert path.stat().st_size == size
        with path.open("r+b", buffering=0) as file:
            file.truncate(10_000)
            file.seek(9_000)
            file.write(b"end")
            file.truncate(9_002)
            assert os.fstat(file.fileno()).st_size == 9_002
        assert path.read_bytes() == bytes(expected) + bytes(8_999) + b"en"
    fails(errno.EINVAL, os.truncate, array / "new", -1)


def test_holes_are_zeros(array):
    path = array / "c/1"
    with path.open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"far", 300_000)
        os.pwrite(file.fileno(), b"middle", 150_000)
        os.pwritev(file.fileno(), [b"ti", b"NY", b"!"], 0)
    data = path.read_bytes()
    assert len(data) == 300_003
    assert data == b"tiNY!" + bytes(149_995) + b"middle" + bytes(149_994) + b"far"
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, 300_100)
    assert path.stat().st_size == 300_100
    assert path.read_bytes() == data + bytes(97)


def test_large_writes_at_odd_places(array, sync):
    expected = bytearray(os.urandom(5_000_003))
    with (array / "c/2").open("wb", buffering=0) as file:
        assert file.write(expected) == len(expected)
        for offset, size in ((1, 1_048_577), (3_999_999, 131_073), (131_071, 2)):
            piece = os.urandom(size)
            expected[offset : offset + size] = piece
            os.pwrite(file.fileno(), piece, offset)
    assert (array / "c/2").read_bytes() == expected
    assert sync()["line/c/2"] == expected


@pytest.mark.parametrize("flushed", [True, False])
def test_shared_mappings_write(array, sync, flushed):
    for name in ("c/0", "c/2"):
        path = array / name
        if name == "c/2":
            path.write_bytes(bytes(10_000))
        before = path.read_bytes()
        file = path.open("r+b")
        mapped = mmap.mmap(file.fileno(), 0)
        mapped[:6] = b"mapped"
        if flushed:
            mapped.flush()
            assert path.read_bytes()[:6] == b"mapped"
        file.close()
        mapped[7:12] = b"later"  # the file is closed already
        mapped.close()
        expected = b"mapped" + before[6:7] + b"later" + before[12:]
        assert path.read_bytes() == expected
        assert sync()[f"line/{name}"] == expected


def test_an_open_file_shows_what_others_write(array, sync):
    """Whoever opened a file when it was the base's reads what was written, and committed, since."""
    chunk = array / "c/0"
    with chunk.open("rb", buffering=0) as reader, chunk.open("r+b", buffering=0) as writer:
        number = os.fstat(reader.fileno()).st_ino
        os.pwrite(writer.fileno(), b"WRITTEN", 0)
        assert os.pread(reader.fileno(), 7, 0) == b"WRITTEN"
        sync()  # the writer has not closed it yet
        assert os.pread(reader.fileno(), 7, 0) == b"WRITTEN"
        writer.close()
        assert sync()["line/c/0"][:7] == b"WRITTEN"
        assert os.pread(reader.fileno(), 7, 0) == b"WRITTEN"
        assert os.fstat(reader.fileno()).st_ino == chunk.stat().st_ino == number
        with chunk.open("r+b", buffering=0) as again:
            os.pwrite(again.fileno(), b"ANOTHER", 0)
        assert os.pread(reader.fileno(), 9, 0) == b"ANOTHER" + CHUNK[7:9]


def test_a_writer_that_never_closes_loses_nothing(array, sync):
    path = array / "c/2"
    with path.open("wb", buffering=0) as file:
        for n in range(5):
            file.write(b"piece %d " % n)
            os.fsync(file.fileno())
            assert "line/c/2" not in sync()
    assert sync()["line/c/2"] == b"piece 0 piece 1 piece 2 piece 3 piece 4 "


def test_sync_of_files_and_directories(array):
    for path in (array, array / "c", array / "c/0"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.fdatasync(descriptor)
        os.close(descriptor)
    with (array / "c/2").open("wb") as file:
        file.write(b"synced")
        file.flush()
        os.fsync(file.fileno())
    os.sync()
    descriptor = os.open(array / "c", os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


def test_modes_owners_and_times_are_taken(array):
    for path in (array / "c/0", array / "zarr.json", array / "own", array / "c", array / "made"):
        if path.name == "own":
            path.write_bytes(b"own")
        elif path.name == "made":
            path.mkdir()
        path.chmod(0o700)
        os.chown(path, os.geteuid(), os.getegid())
        os.chown(path, -1, -1)
        os.utime(path)
        os.utime(path, ns=(1_000_000_000, 2_000_000_000))
        if os.geteuid() == 0:
            os.chown(path, 12, 34)
            assert path.stat().st_uid == os.geteuid()
    for path in (array / "own", array / "made"):
        assert path.stat().st_mtime_ns == 2_000_000_000
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    with (array / "own").open("r+b") as file:
        os.utime(file.fileno(), ns=(1, 5_000_000_000))
        os.fchmod(file.fileno(), 0o444)
    assert (array / "own").stat().st_mtime_ns == 5_000_000_000


def test_numbers_stay_over_opens_and_syncs(array, sync):
    (array / "c/2").write_bytes(b"new")
    (array / "untracked").write_bytes(b"x")
    paths = [array, array / "c", *(array / name for name in ("c/0", "c/1", "c/2", "zarr.json"))]
    paths.append(array / "untracked")
    with (array / "c/0").open("rb"):
        before = {path: path.stat().st_ino for path in paths}
        assert len(set(before.values())) == len(paths)
        (array / "c/1").write_bytes(b"changed")
        sync()
        for path in paths:
            os.close(os.open(path, os.O_RDONLY))
        assert {path: path.stat().st_ino for path in paths} == before
        assert {e.name: e.inode() for e in os.scandir(array / "c")} == {
            name: before[array / "c" / name] for name in "012"
        }


def test_number_and_time_never_mean_other_bytes(array, mounted, sync):
    """As the caches of readers rest on that: what changes has another inode, or another time."""
    path, temporary = array / "c/0", array / "c/temporary"
    seen = {}

    def look():
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            data = file.read()
        for key in (
            (found.st_ino, found.st_mtime_ns),
            (path.stat().st_ino, path.stat().st_mtime_ns),
        ):
            assert seen.setdefault(key, data) == data

    def replace():
        temporary.write_bytes(os.urandom(600))
        os.rename(temporary, path)

    def in_place():
        with path.open("r+b") as file:
            file.write(os.urandom(20))

    def anew():
        path.unlink()
        path.write_bytes(os.urandom(700))

    def discard():
        mounted.call("discard", branch=array.parent.name)

    look()
    steps = [replace, in_place, in_place, anew, lambda: os.truncate(path, 50), discard]
    steps += [in_place, sync, in_place, discard, replace, sync, anew, sync, replace, discard]
    for step in steps:
        step()
        look()
    assert len(seen) >= len(steps) - 4


def test_room_is_that_of_the_journal(mounted, array):
    disk, found = os.statvfs(mounted.path.parent / "journal"), os.statvfs(array / "c/0")
    assert (found.f_blocks, found.f_frsize) == (disk.f_blocks, disk.f_frsize)
    assert abs(found.f_bavail - disk.f_bavail) * disk.f_frsize < 1 << 30
    assert found.f_ffree > 0
    assert not found.f_flag & os.ST_RDONLY
    assert found.f_namemax == 255


def test_a_directory_of_thousands_is_listed_while_it_changes(mounted):
    """What is there all the time is listed once; then rm -r takes all of it."""
    directory = mounted.path / "branch/main/thousands/c"
    assert len(os.listdir(directory)) == THOUSANDS
    done = threading.Event()

    def change():
        for n in range(1, 600, 2):
            (directory / f"{n}").unlink()
            (directory / f"new {n}").touch()
        done.set()

    thread = threading.Thread(target=change)
    thread.start()
    while not done.is_set():
        names = os.listdir(directory)
        assert len(names) == len(set(names))
        assert set(map(str, (*range(0, 600, 2), *range(600, THOUSANDS)))) <= set(names)
    thread.join()
    assert len(os.listdir(directory)) == THOUSANDS
    subprocess.run(["rm", "-r", directory], check=True, timeout=120)
    assert os.listdir(directory.parent) == ["zarr.json"]


def test_a_directory_that_is_rewound_shows_what_is_there_now(array):
    descriptor = os.open(array / "c", os.O_RDONLY | os.O_DIRECTORY)
    assert sorted(os.listdir(descriptor)) == ["0", "1"]
    (array / "c/2").write_bytes(b"new")
    (array / "c/0").unlink()
    assert sorted(os.listdir(descriptor)) == ["1", "2"]
    os.close(descriptor)


def test_copies_inside_the_kernel(array, tmp_path):
    with (array / "c/0").open("rb") as source, (array / "c/2").open("wb") as target:
        copied = os.copy_file_range(source.fileno(), target.fileno(), 1 << 20)
        assert copied == len(CHUNK)
    assert (array / "c/2").read_bytes() == CHUNK
    with (array / "c/0").open("rb") as source, (array / "c/3").open("wb") as target:
        assert os.sendfile(target.fileno(), source.fileno(), 0, 1 << 20) == len(CHUNK)
    assert (array / "c/3").read_bytes() == CHUNK
    shutil.copytree(array, tmp_path / "copy")
    shutil.copytree(tmp_path / "copy", array / "copy")
    subprocess.run(["diff", "-r", tmp_path / "copy", array / "copy"], check=True, timeout=60)


def test_locks_keep_others_out(array):
    script = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.%s(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(7)
"""
    for kind in ("flock", "lockf"):
        command = [sys.executable, "-c", script % kind, array / "c/0"]
        with (array / "c/0").open("r+b") as file:
            getattr(fcntl, kind)(file, fcntl.LOCK_EX)
            assert subprocess.run(command, timeout=60, check=False).returncode == 7
        assert subprocess.run(command, timeout=60, check=False).returncode == 0


def test_the_root_of_a_branch_is_made_anew(root, mounted, sync):
    """As tools do that open a store with mode "w"."""
    fails(errno.ENOTEMPTY, os.rmdir, root)
    for entry in list(root.iterdir()):
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    os.rmdir(root)
    assert not root.exists()
    assert root.name not in os.listdir(mounted.path / "branch")
    fails(errno.EPERM, os.mkdir, mounted.path / "branch/another")
    fails(errno.EROFS, os.mkdir, mounted.path / "tag/another")
    root.mkdir()
    assert os.listdir(root) == []
    (root / "zarr.json").write_bytes(GROUP)
    assert sync() == {"zarr.json": GROUP}
    assert sorted(os.listdir(root)) == ["zarr.json"]


def test_control_files_are_protected(place, mounted, tmp_path):
    single = mounted.path.parent / "single"
    journal = str(tmp_path / "journal")
    with mounting(place.url, single, "--rw", "--branch", "main", "--journal", journal) as one:
        for root in (mounted.path, one.path):
            control = root / ".zfuse"
            before = sorted(os.listdir(control))
            for change in (
                lambda c=control: c.mkdir(),
                lambda c=control: c.rmdir(),
                lambda c=control: os.rename(c, c.with_name("x")),
                lambda c=control: (c / "status.json").unlink(),
                lambda c=control: (c / "new").write_bytes(b""),
                lambda c=control: os.truncate(c / "stats", 0),
                lambda c=control: shutil.rmtree(c),
            ):
                with pytest.raises(OSError):  # noqa: PT011 - which one is a matter of taste
                    change()
            assert sorted(os.listdir(control)) == before
        (one.path / "x").mkdir()
        fails(errno.EROFS, os.rename, one.path / "x", one.path / ".zfuse")
