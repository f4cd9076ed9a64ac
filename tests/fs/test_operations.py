"""What the kernel is answered, without a kernel: attributes, timeouts, errnos, deadlines."""

import errno
import os
import stat
from contextlib import asynccontextmanager

import pyfuse3
import pytest
import trio
from pyfuse3 import FUSEError

from tests.compat.documents import GROUP, array_document, put, put_all
from tests.compat.place import changing, create, local_place
from tests.fs.driving import driving
from zfuse.fs.fuse import BRIEFLY_S, FOREVER_S, FuseOperations, Ownership
from zfuse.fs.inodes import ROOT

pytestmark = pytest.mark.compat


@pytest.fixture
def place(tmp_path):
    return local_place(tmp_path)


@pytest.fixture
def repo(place):
    repo = create(place, 2)
    with changing(repo, "first") as store:
        put_all(store, {"zarr.json": GROUP, "ü/zarr.json": GROUP})
        put_all(store, {"a/zarr.json": array_document((900,), (1,)), "a/c/0": b"x" * 1000})
        put_all(store, {f"a/c/{n}": b"." for n in range(1, 600)})
        put(store, "a/c/899", b"!" * 300_000)
    repo.create_tag("v1", repo.lookup_branch("main"))
    return repo


@pytest.fixture
async def mounted(repo, place):
    """What a mount of the repository would be made of."""
    async with operating(place) as parts:
        yield parts


@asynccontextmanager
async def operating(place):
    async with driving(place.url) as driven:
        yield driven, FuseOperations(driven.fs, Ownership(1000, 2000, 0o027))


async def find(operations, path, start=ROOT):
    for name in path.encode().split(b"/"):
        entry = await operations.lookup(start, name, None)
        start = entry.st_ino
    return entry


async def errno_of(call):
    with pytest.raises(FUSEError) as caught:
        await call
    return caught.value.errno


async def test_attributes(mounted, repo):
    _, operations = mounted
    chunk = await find(operations, "branch/main/a/c/0")
    assert stat.S_ISREG(chunk.st_mode)
    assert stat.S_IMODE(chunk.st_mode) == 0o440
    assert (chunk.st_uid, chunk.st_gid, chunk.st_nlink) == (1000, 2000, 1)
    assert (chunk.st_size, chunk.st_blocks) == (1000, 2)
    told = repo.lookup_snapshot(repo.lookup_branch("main")).written_at
    expected = (int(told.timestamp()) * 1_000_000 + told.microsecond) * 1000
    assert chunk.st_mtime_ns == chunk.st_ctime_ns == expected
    directory = await find(operations, "branch/main/a")
    assert stat.S_ISDIR(directory.st_mode)
    assert stat.S_IMODE(directory.st_mode) == 0o550
    again = await operations.getattr(chunk.st_ino, None)
    assert (again.st_ino, again.st_size, again.st_mtime_ns) == (chunk.st_ino, 1000, expected)


async def test_how_long_answers_hold(mounted):
    _, operations = mounted
    for path, attributes in {
        "branch": BRIEFLY_S,
        "branch/main/a": BRIEFLY_S,
        "branch/main/a/zarr.json": FOREVER_S,
        "branch/main/a/c/0": FOREVER_S,
        "tag/v1/a/c": FOREVER_S,
    }.items():
        entry = await find(operations, path)
        assert (entry.entry_timeout, entry.attr_timeout) == (FOREVER_S, attributes), path


async def test_what_is_absent_is_so_for_ever_only_where_nothing_changes(mounted):
    _, operations = mounted
    for path in ("tag/v1/nothing", "tag/v1/a/c/700"):
        entry = await find(operations, path)
        assert (entry.st_ino, entry.entry_timeout) == (0, FOREVER_S)
    for path in ("branch/main/nothing", "branch/main/a/c/700", "branch/x", "tag/x", "nothing"):
        assert await errno_of(find(operations, path)) == errno.ENOENT


async def test_names_are_utf8_and_others_are_absent(mounted):
    _, operations = mounted
    assert stat.S_ISDIR((await find(operations, "branch/main/ü")).st_mode)
    main = await find(operations, "branch/main")
    for name in (b"\xfc", b"\xff\xfe", b"%FF", b"\xed\xa0\x80"):
        assert await errno_of(operations.lookup(main.st_ino, name, None)) == errno.ENOENT
    tag = await find(operations, "tag/v1")
    assert (await operations.lookup(tag.st_ino, b"\xff", None)).st_ino == 0


@pytest.mark.expects_log("ReadOnlyError|InvalidInputError")
async def test_errnos(mounted):
    _, operations = mounted
    chunk = await find(operations, "branch/main/a/c/0")
    directory = await find(operations, "branch/main/a")
    assert await errno_of(operations.open(chunk.st_ino, os.O_RDWR, None)) == errno.EROFS
    assert await errno_of(operations.open(directory.st_ino, os.O_RDONLY, None)) == errno.EINVAL
    assert await errno_of(operations.lookup(chunk.st_ino, b"x", None)) == errno.EINVAL
    assert await errno_of(operations.getattr(999, None)) == errno.ESTALE
    assert await errno_of(operations.getattr(5 << 50, None)) == errno.ESTALE
    for name in (b"user.zfuse.nothing", b"user.other", b"security.selinux", b"\xff"):
        answer = operations.getxattr(chunk.st_ino, name, None)
        assert await errno_of(answer) == errno.ENODATA
    assert await operations.getxattr(chunk.st_ino, b"user.zfuse.length", None) == b"1000"
    assert await operations.listxattr(chunk.st_ino, None) == []


async def test_reading(mounted):
    driven, operations = mounted
    chunk = await find(operations, "branch/main/a/c/0")
    opened = await operations.open(chunk.st_ino, os.O_RDONLY, None)
    assert (opened.keep_cache, opened.direct_io) == (True, False)
    assert await operations.read(opened.fh, 990, 4096) == b"x" * 10
    assert await operations.read(opened.fh, 1000, 4096) == b""
    await operations.release(opened.fh)
    assert driven.fs.open_handles == 0


async def test_statfs_asks_no_store(mounted):
    driven, operations = mounted
    driven.storage.reset()
    told = await operations.statfs(None)
    assert (told.f_bavail, told.f_namemax) == (0, 255)
    assert driven.storage.calls == []


class Replies:
    """Takes the place of the buffer that the kernel gave for a listing."""

    def __init__(self, room):
        self.room = room
        self.told = []

    def add(self, token, name, entry, position):
        if len(self.told) == self.room:
            return False
        self.told.append((name, entry.st_ino, entry.entry_timeout, position))
        return True


async def test_a_listing_goes_on_where_the_last_reply_was_full(mounted, monkeypatch, repo):
    driven, operations = mounted
    chunks = await find(operations, "branch/main/a/c")
    handle = await operations.opendir(chunks.st_ino, None)

    async def reply(position):
        replies = Replies(room=70)
        monkeypatch.setattr(pyfuse3, "readdir_reply", replies.add)
        await operations.readdir(handle, position, None)
        return replies.told

    told = []
    for _ in range(4):
        told += await reply(len(told))
    assert len(told) == 280
    assert {timeout for _, _, timeout, _ in told} == {FOREVER_S}
    with changing(repo, "more") as store:
        put(store, "a/c/700", b"new")
    await driven.fs.refresh()
    while later := await reply(len(told)):
        # What is from before the refresh must be asked for again.
        assert {timeout for _, _, timeout, _ in later} == {0}
        told += later
    assert sorted(name for name, *_ in told) == sorted(b"%d" % n for n in (*range(600), 899))
    assert [position for *_, position in told] == [*range(1, 602)]
    await operations.forget([(inode, 1) for _, inode, *_ in told])
    await operations.releasedir(handle)
    assert driven.fs.open_handles == 0
    assert driven.fs.known_inodes == 5, "the root and the way to the directory"


@pytest.mark.expects_log("forget of inode 77 failed")
async def test_forgetting_never_fails(mounted, caplog):
    _, operations = mounted
    chunk = await find(operations, "branch/main/a/c/0")
    await operations.forget([(77, 1), (chunk.st_ino, 1)])
    assert await errno_of(operations.getattr(chunk.st_ino, None)) == errno.ESTALE
    assert "forget of inode 77 failed" in caplog.text


@pytest.mark.expects_log("no answer within 0.05 s")
async def test_a_store_that_hangs_is_an_error_after_the_deadline(repo, place, caplog):
    async with operating(place) as (driven, operations):
        chunks = await find(operations, "branch/main/a/c")

        async def hang(operation, key):
            if key.startswith(("manifests/", "chunks/")):
                await trio.sleep_forever()

        driven.storage.before = hang
        patience, operations.deadline_s = operations.deadline_s, 0.05
        assert await errno_of(find(operations, "0", chunks.st_ino)) == errno.EIO
        operations.deadline_s = patience
        assert "lookup branch/main/a/c/0: StorageTimeoutError" in caplog.text
        # The rest of the mount goes on, and so does this when the store does.
        assert (await find(operations, "branch/main/a/zarr.json")).st_size > 0
        driven.storage.before = None
        assert (await find(operations, "0", chunks.st_ino)).st_size == 1000


async def test_large_chunks_are_given_to_the_kernel_once(mounted, monkeypatch):
    _, operations = mounted
    given = []
    monkeypatch.setattr(pyfuse3, "notify_store", lambda *told: given.append(told))
    chunk = await find(operations, "branch/main/a/c/899")
    small = await find(operations, "branch/main/a/c/0")
    handles = [(await operations.open(i, os.O_RDONLY, None)).fh for i in [chunk.st_ino] * 3]
    handles.append((await operations.open(small.st_ino, os.O_RDONLY, None)).fh)
    assert given == [(chunk.st_ino, 0, b"!" * 300_000)]
    for handle in handles:
        await operations.release(handle)
    handle = (await operations.open(chunk.st_ino, os.O_RDONLY, None)).fh
    assert len(given) == 1, "the kernel has it"
    assert await operations.read(handle, 299_999, 10) == b"!", "it may have lost it, too"
    await operations.release(handle)
    await operations.forget([(chunk.st_ino, 1)])
    again = await find(operations, "branch/main/a/c/899")
    await operations.release((await operations.open(again.st_ino, os.O_RDONLY, None)).fh)
    assert len(given) == 2, "it forgot the inode and all that belongs to it"


async def test_a_kernel_short_of_memory_asks_itself(mounted, monkeypatch):
    _, operations = mounted

    def refuse(*_):
        raise OSError(errno.ENOMEM, "no")

    monkeypatch.setattr(pyfuse3, "notify_store", refuse)
    chunk = await find(operations, "branch/main/a/c/899")
    handle = (await operations.open(chunk.st_ino, os.O_RDONLY, None)).fh
    assert await operations.read(handle, 0, 300_000) == b"!" * 300_000
    await operations.release(handle)
