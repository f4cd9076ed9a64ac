import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import trio

from tests.contracts.storage import StorageContract
from zfuse.byterange import ByteRange
from zfuse.errors import (
    InvalidInputError,
    ObjectNotFoundError,
    StorageError,
    VersionMismatchError,
)
from zfuse.storage.base import ABSENT, Unmodified
from zfuse.storage.local import LocalStorage


class TestLocalStorage(StorageContract):
    exact_etags = False

    @pytest.fixture
    def storage(self, tmp_path):
        return LocalStorage(tmp_path / "not" / "yet")


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(tmp_path)


def run_python(code, *args):
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def names_below(root):
    return {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}


async def keys(storage, prefix=""):
    return {info.key async for info in storage.list(prefix)}


# -- what lies around ---------------------------------------------------------------------------


async def test_keys_are_paths_verbatim(storage, tmp_path):
    await storage.put("a/b%20c é", b"x")
    assert (tmp_path / "a" / "b%20c é").read_bytes() == b"x"


async def test_a_put_leaves_only_its_file(storage, tmp_path):
    await storage.put("chunks/1", b"x")
    await storage.put("chunks/1", b"y")
    await storage.put("chunks/2", b"z", expect=ABSENT)
    with pytest.raises(VersionMismatchError):
        await storage.put("chunks/2", b"z", expect=ABSENT)
    assert names_below(tmp_path) == {"chunks/1", "chunks/2"}


async def test_listing_hides_temporary_names_and_locks(storage, tmp_path):
    version = await storage.put("repo", b"1")
    await storage.put("repo", b"2", expect=version)
    (tmp_path / "repo#12").write_bytes(b"the official library's temporary name")
    (tmp_path / "repo#twelve").write_bytes(b"nobody's")
    (tmp_path / "#7").write_bytes(b"")
    assert await keys(storage) == {"repo", "repo#twelve"}


async def test_a_key_that_would_not_be_listed_is_refused(storage):
    with pytest.raises(InvalidInputError, match="#12"):
        await storage.put("a/repo#12", b"x")


async def test_listing_passes_over_junk(storage, tmp_path):
    await storage.put("a/k", b"x")
    (tmp_path / "a" / "empty").mkdir()
    (tmp_path / "a" / "dangling").symlink_to("nowhere")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to("self")
    os.mkfifo(tmp_path / "a" / "pipe")
    (tmp_path / os.fsdecode(b"a/\xff")).write_bytes(b"no name in any language")
    assert await keys(storage) == {"a/k"}


async def test_reading_what_is_no_file_is_not_found(storage, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "self").symlink_to("self")
    for key in ("pipe", "self", "x" * 300):
        with pytest.raises(ObjectNotFoundError):
            await storage.get(key)
        with pytest.raises(ObjectNotFoundError):
            await storage.head(key)


async def test_symbolic_links_are_followed(storage, tmp_path):
    (tmp_path / "real").mkdir()
    await storage.put("real/k", b"hello")
    (tmp_path / "linked").symlink_to("real")
    assert (await storage.get("linked/k")).data == b"hello"
    assert await keys(storage) == {"real/k", "linked/k"}


async def test_a_root_that_is_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    storage = LocalStorage(tmp_path / "file")
    with pytest.raises(ObjectNotFoundError):
        await storage.get("k")
    with pytest.raises(StorageError, match="file"):
        await storage.put("k", b"x")
    assert await keys(storage) == set()


async def test_a_file_where_a_directory_must_be(storage):
    await storage.put("a", b"x")
    with pytest.raises(StorageError):
        await storage.put("a/b", b"x")
    with pytest.raises(StorageError):
        await storage.put("a/b", b"x", expect=ABSENT)


async def test_a_directory_where_the_file_must_be(storage, tmp_path):
    await storage.put("a/b", b"x")
    with pytest.raises(StorageError):
        await storage.put("a", b"x")
    await storage.delete("a")
    assert names_below(tmp_path) == {"a/b"}


@pytest.fixture
def small_disk(tmp_path):
    path = tmp_path / "small"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)]
    if subprocess.run(command, check=False).returncode:
        pytest.skip("tmpfs can not be mounted here")
    yield path
    subprocess.run(["umount", str(path)], check=True)


async def test_a_full_disk_leaves_the_old_object_and_nothing_else(small_disk):
    storage = LocalStorage(small_disk)
    await storage.put("k", b"old")
    with pytest.raises(StorageError, match="space"):
        await storage.put("k", bytes(1 << 20))
    assert (await storage.get("k")).data == b"old"
    assert names_below(small_disk) == {"k"}


_TRY_AS_NOBODY = """
import os, pathlib, sys, trio
from zfuse.errors import AccessDeniedError
from zfuse.storage.local import LocalStorage
if os.geteuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
async def everything(storage):
    yield storage.get("k")
    yield storage.head("k")
    yield storage.put("k", b"")
    yield storage.delete("k")
    yield anext(storage.list(""))
async def main():
    async for call in everything(LocalStorage(pathlib.Path(sys.argv[1]))):
        try:
            await call
        except AccessDeniedError as exc:
            print("denied", exc.exit_code)
trio.run(main)
"""


def test_no_permission_is_access_denied():
    with tempfile.TemporaryDirectory() as locked:  # tmp_path is closed to others anyway
        Path(locked).chmod(0)
        done = run_python(_TRY_AS_NOBODY, locked)
        Path(locked).chmod(0o700)
    assert done.stdout == "denied 12\n" * 5, done.stderr


# -- versions and times -------------------------------------------------------------------------


async def test_an_untouched_file_passes_though_its_time_has_a_fraction(storage, tmp_path):
    (tmp_path / "k").write_bytes(b"hello")
    os.utime(tmp_path / "k", (100.9, 100.9))
    wanted = Unmodified(last_modified=100)
    assert await storage.get_range("k", ByteRange(0, 2), unmodified=wanted) == b"he"


async def test_versions_never_repeat_though_inodes_do(storage):
    versions = set()
    inodes = set()
    version = await storage.put("k", b"0", expect=ABSENT)
    for n in range(50):
        versions.add(version)
        inodes.add(version.split("-")[0])
        version = await storage.put("k", b"%d" % (n % 10), expect=version)
    assert len(versions) == 50


async def test_a_write_by_anybody_else_is_another_version(storage, tmp_path):
    mine = await storage.put("k", b"mine")
    (tmp_path / "k#1").write_bytes(b"them")
    (tmp_path / "k#1").rename(tmp_path / "k")
    with pytest.raises(VersionMismatchError):
        await storage.put("k", b"mine again", expect=mine)


# -- several processes --------------------------------------------------------------------------

_COUNT = """
import pathlib, sys, trio
from zfuse.errors import VersionMismatchError
from zfuse.storage.local import LocalStorage
async def main():
    storage = LocalStorage(pathlib.Path(sys.argv[1]))
    done = 0
    while done < int(sys.argv[2]):
        blob = await storage.get("counter")
        try:
            await storage.put("counter", b"%d" % (int(blob.data) + 1), expect=blob.version)
        except VersionMismatchError:
            continue
        done += 1
trio.run(main)
"""


async def test_processes_lose_no_update(storage, tmp_path):
    await storage.put("counter", b"0", expect=ABSENT)
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            command = [sys.executable, "-c", _COUNT, str(tmp_path), "25"]
            nursery.start_soon(trio.run_process, command)  # raises if it fails
    assert (await storage.get("counter")).data == b"100"


_HOLD = """
import pathlib, sys, time
from zfuse.storage import local_files
with local_files._lock(pathlib.Path(sys.argv[1]), create=True):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def lock_holder(tmp_path):
    command = [sys.executable, "-c", _HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        yield holder
        holder.kill()


async def test_a_dead_lock_holder_blocks_nobody(storage, lock_holder):
    version = await storage.put("other/k", b"1")
    await storage.put("other/k", b"2", expect=version)  # another directory, another lock
    lock_holder.send_signal(signal.SIGKILL)
    lock_holder.wait()
    version = await storage.put("k", b"1")
    await storage.put("k", b"2", expect=version)


async def test_a_held_lock_can_be_waited_for_and_given_up(storage, lock_holder, tmp_path):
    (tmp_path / "k").write_bytes(b"1")
    version = (await storage.get("k")).version
    with trio.move_on_after(0.3) as scope:
        await storage.put("k", b"2", expect=version)
    assert scope.cancelled_caught
    assert (await storage.get("k")).data == b"1"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.delete, "k")
        await trio.sleep(0.1)
        assert (tmp_path / "k").exists()
        lock_holder.stdin.close()
    assert not (tmp_path / "k").exists()


async def test_creating_works_where_there_are_no_hard_links(storage, tmp_path, monkeypatch):
    def link(*_args):
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", link)  # there is no such file system at hand
    version = await storage.put("k", b"1", expect=ABSENT)
    assert (await storage.get("k")).version == version
    with pytest.raises(VersionMismatchError):
        await storage.put("k", b"2", expect=ABSENT)
    assert await keys(storage) == {"k"}


async def test_a_file_that_is_taken_as_it_is_was_stored_now(storage, tmp_path):
    """Garbage collection spares what was stored lately, however old the bytes are."""
    source = tmp_path / "source"
    source.write_bytes(b"written long ago")
    os.utime(source, (1, 1))
    before = time.time_ns()
    await storage.put_file("chunks/k", source)
    assert (await storage.head("chunks/k")).last_modified_ns >= before
    assert (tmp_path / "chunks/k").samefile(source)


async def test_no_descriptor_stays_open(storage, open_descriptors):
    await storage.put("k", b"1")
    before = open_descriptors()
    for n in range(20):
        version = (await storage.get("k")).version
        await storage.put("k", b"%d" % n, expect=version)
        await storage.get_range("k", ByteRange(0, 1))
        assert await keys(storage) == {"k"}
        listing = storage.list("")
        await anext(listing)
        await listing.aclose()
    assert open_descriptors() <= before
