"""Chunks are stored while nobody waits for them, a few at a time, and never changed under way."""

import json
import os

import icechunk
import pytest
import trio
import zarr

from tests.fs.driving import driving
from zfuse.errors import NotFoundError, StorageTimeoutError
from zfuse.fs import upload
from zfuse.fs.sync_request import SyncRequest

SIZE = 2000  # more than goes into a manifest
ARRAY = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [64 * SIZE],
    "data_type": "uint8",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [SIZE]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0,
    "codecs": [{"name": "bytes"}],
    "attributes": {},
}


@pytest.fixture
def place(tmp_path):
    icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "repo")))
    return tmp_path


class Writer:
    """Writes files of the branch main through a file system."""

    def __init__(self, driven):
        self.driven = driven
        self.fs = driven.fs

    async def directory(self, path):
        inode = (await self.driven.find("branch/main")).inode
        for name in path.split("/"):
            try:
                inode = (await self.driven.lookup(inode, name)).inode
            except NotFoundError:
                inode = (await self.fs.make_directory(inode, name, 0o755)).inode
        return inode

    async def write(self, path, data):
        above, _, name = path.rpartition("/")
        opened = await self.fs.create(await self.directory(above), name, 0o644, os.O_TRUNC)
        await self.fs.write(opened.handle, 0, data)
        self.fs.flush(opened.handle)
        self.fs.release(opened.handle)

    async def array(self):
        await self.write("a/zarr.json", json.dumps(ARRAY).encode())

    @property
    def stored(self):
        return [key for key in self.driven.storage.keys("put") if key.startswith("chunks/")]


async def quiet(writer):
    """Return once nothing that was closed waits to be stored, or is on its way."""
    session = await writer.driven.branches.get("main")
    with trio.fail_after(60):
        slots = session._uploader._slots
        while session.staging.closed or slots.borrowed_tokens:  # noqa: ASYNC110 - tells nobody
            await trio.sleep(0.01)


async def test_a_sync_has_no_chunk_left_to_store(place):
    async with driving(place / "repo", journal=place / "journal") as driven:
        writer = Writer(driven)
        await writer.array()
        for number in range(20):
            await writer.write(f"a/c/{number}", bytes([number]) * SIZE)
        await quiet(writer)
        driven.storage.reset()
        session = await driven.branches.get("main")
        outcome = await session.sync(SyncRequest("all"))
        assert outcome.chunks_stored == 0
        assert writer.stored == []
        kinds = {key.partition("/")[0] for key in driven.storage.keys("put")}
        assert kinds == {"manifests", "snapshots", "transactions", "overwritten", "repo"}


@pytest.mark.expects_log("3 chunks are gone")
@pytest.mark.parametrize("count", [20, 501])
async def test_what_was_taken_for_garbage_is_stored_again(place, count, monkeypatch):
    monkeypatch.setattr(upload, "OLD_US", 0)  # else the session had to be an hour old
    async with driving(place / "repo", journal=place / "journal") as driven:
        writer = Writer(driven)
        array = json.dumps({**ARRAY, "shape": [count * SIZE]}).encode()
        await writer.write("a/zarr.json", array)
        for number in range(count):
            await writer.write(f"a/c/{number}", bytes([number % 256]) * SIZE)
        await quiet(writer)
        for key in writer.stored[:3]:
            await driven.storage.inner.delete(key)
        outcome = await (await driven.branches.get("main")).sync(SyncRequest("all"))
        assert outcome.chunks_stored == 3
    official = icechunk.Repository.open(
        icechunk.local_filesystem_storage(str(place / "repo"))
    ).readonly_session(branch="main")
    found = zarr.open_array(official.store, path="a", mode="r")[:]
    assert found[::SIZE].tolist() == [number % 256 for number in range(count)]


async def test_what_is_no_chunk_yet_is_not_stored(place):
    async with driving(place / "repo", journal=place / "journal") as driven:
        writer = Writer(driven)
        await writer.write("a/c/1", b"x" * SIZE)  # before its zarr.json
        await quiet(writer)
        assert writer.stored == []
        await writer.array()
        await writer.write("a/c/2.partial", b"x" * SIZE)
        await writer.write("a/c/999", b"x" * SIZE)  # out of the grid
        await writer.write("a/c/3", b"tiny")  # goes into the manifest
        await writer.write("a/c/4", b"x" * SIZE)
        await quiet(writer)
        assert len(writer.stored) == 1


async def test_few_are_under_way_at_a_time(place, monkeypatch):
    monkeypatch.setattr(upload, "MOST_BYTES", 3 * SIZE)
    under_way, most = 0, 0
    full, all_written = trio.Event(), trio.Event()

    async def held(operation, key):
        nonlocal under_way, most
        if operation == "put" and key.startswith("chunks/"):
            under_way += 1
            most = max(most, under_way)
            if under_way == 3:
                full.set()
            await all_written.wait()
            await trio.sleep(0.01)
            under_way -= 1

    async with driving(place / "repo", journal=place / "journal") as driven:
        writer = Writer(driven)
        driven.storage.before = held
        await writer.array()
        for number in range(40):
            await writer.write(f"a/c/{number}", bytes([number]) * SIZE)
        with trio.fail_after(60):
            await full.wait()
        all_written.set()
        await quiet(writer)
        assert len(writer.stored) == 40
    assert most == 3


async def test_a_chunk_that_is_rewritten_while_it_is_stored_gets_its_new_bytes(place):
    first = trio.Event()
    go_on = trio.Event()

    async def held(operation, key):
        if operation == "put" and key.startswith("chunks/") and not first.is_set():
            first.set()
            await go_on.wait()

    async with driving(place / "repo", journal=place / "journal") as driven:
        writer = Writer(driven)
        driven.storage.before = held
        await writer.array()
        await writer.write("a/c/0", b"o" * SIZE)
        with trio.fail_after(60):
            await first.wait()
        inode = (await driven.find("branch/main/a/c/0")).inode
        opened = await driven.fs.open(inode, os.O_WRONLY)
        await driven.fs.write(opened.handle, 10, b"new")
        driven.fs.flush(opened.handle)
        driven.fs.release(opened.handle)
        go_on.set()
        await quiet(writer)
        session = await driven.branches.get("main")
        await session.sync(SyncRequest("new"))
        expected = b"o" * 10 + b"new" + b"o" * (SIZE - 13)
        assert await driven.read_path("branch/main/a/c/0") == expected
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(place / "repo")))
    values = zarr.open_array(repo.readonly_session("main").store, path="a", mode="r")[:SIZE]
    assert values.tobytes() == expected


async def test_what_fails_in_the_background_the_sync_does_again(place):
    async def down(operation, key):
        if operation == "put" and key.startswith("chunks/"):
            raise StorageTimeoutError("the store is down")

    async with driving(place / "repo", journal=place / "journal") as driven:
        writer = Writer(driven)
        driven.storage.before = down
        await writer.array()
        await writer.write("a/c/0", b"o" * SIZE)
        await quiet(writer)
        session = await driven.branches.get("main")
        with pytest.raises(StorageTimeoutError):
            await session.sync(SyncRequest("no"))
        assert session.has_changes
        driven.storage.before = None
        outcome = await session.sync(SyncRequest("yes"))
        assert outcome.snapshot_id is not None
        assert outcome.chunks_stored == 1
        assert await driven.read_path("branch/main/a/c/0") == b"o" * SIZE
