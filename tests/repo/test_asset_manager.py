"""Objects of a repository: fetched once, missing, cut short."""

import errno

import pytest
import trio

from tests.compat.documents import array_document, put_all
from tests.compat.place import changing, create, local_place
from tests.counting import CountingStorage
from zfuse.byterange import ByteRange
from zfuse.cache.budget import MemoryBudget
from zfuse.errors import CorruptionError, MissingObjectError, StorageTimeoutError
from zfuse.format.chunk_ref import InlineRef, NativeRef, VirtualRef
from zfuse.format.ids import ChunkId, ManifestId, SnapshotId
from zfuse.format.layout import chunk_key, manifest_key, snapshot_key, transaction_log_key
from zfuse.repo.asset_manager import AssetManager
from zfuse.storage.memory import MemoryStorage

CHUNK = ChunkId(b"c" * 12)


class Files:
    """Serves virtual chunks from a dict, and notes what was asked."""

    def __init__(self, **files):
        self.files = files
        self.asked = []

    async def read(self, ref, byte_range):
        await trio.lowlevel.checkpoint()
        self.asked.append((ref.location, byte_range.start, byte_range.stop))
        start = ref.offset + byte_range.start
        return self.files[ref.location][start : ref.offset + byte_range.stop]

    def declare(self, containers):
        self.files = {}


@pytest.fixture
def storage():
    return CountingStorage(MemoryStorage())


@pytest.fixture
def assets(storage):
    return AssetManager(storage, MemoryBudget(1 << 20), Files(x=b"0123456789"))


@pytest.fixture
async def snapshot_id(storage, tmp_path):
    """A snapshot with one array and one manifest, in *storage*."""
    repo = create(local_place(tmp_path), 2)
    with changing(repo, "first") as store:
        put_all(store, {"a/zarr.json": array_document((4,), (1,)), "a/c/0": b"inline"})
    for path in (tmp_path / "repository").rglob("*"):
        if path.is_file():
            key = str(path.relative_to(tmp_path / "repository"))
            await storage.put(key, path.read_bytes())
    storage.reset()
    return SnapshotId.parse(repo.lookup_branch("main"))


async def read(assets, ref, start, stop, block=4):
    return await assets.read_chunk(ref, ByteRange(start, stop), block=block)


async def test_what_is_referenced_and_gone_is_an_error_and_never_absent(assets):
    missing = [
        assets.fetch_hierarchy(SnapshotId(bytes(12))),
        assets.fetch_snapshot(SnapshotId(bytes(12))),
        assets.fetch_manifest(ManifestId(bytes(12))),
        assets.fetch_change_log(SnapshotId(bytes(12))),
        read(assets, NativeRef(CHUNK, 0, 10), 0, 10),
    ]
    for call in missing:
        with pytest.raises(MissingObjectError, match="gone") as caught:
            await call
        assert caught.value.errno == errno.EIO


@pytest.mark.parametrize("stored", [b"", b"0123456", b"01234567890"])
async def test_a_chunk_that_was_cut_short_is_an_error_and_never_zeros(assets, storage, stored):
    await storage.put(chunk_key(CHUNK), stored)
    ref = NativeRef(CHUNK, 2, 10)
    with pytest.raises(CorruptionError) as caught:
        await read(assets, ref, 0, 10, block=10)
    assert caught.value.errno == errno.EIO
    with pytest.raises(CorruptionError):
        await read(assets, ref, 9, 10, block=4)


async def test_what_is_there_of_a_chunk_that_was_cut_short_can_be_read(assets, storage):
    await storage.put(chunk_key(CHUNK), b"0123456")
    assert await read(assets, NativeRef(CHUNK, 2, 10), 0, 4, block=4) == b"2345"


async def test_a_chunk_is_the_bytes_that_its_reference_says_and_no_more(assets, storage):
    await storage.put(chunk_key(CHUNK), b"0123456789")
    ref = NativeRef(CHUNK, 2, 5)
    assert await read(assets, ref, 0, 100, block=3) == b"23456"
    assert await read(assets, ref, 1, 3, block=3) == b"34"
    assert await read(assets, ref, 5, 9, block=3) == b""
    assert await read(assets, NativeRef(CHUNK, 9, 1), 0, 9, block=1) == b"9"
    assert await read(assets, NativeRef(CHUNK, 3, 0), 0, 9, block=1) == b""
    assert await read(assets, InlineRef(b"inline"), 2, 4) == b"li"
    assert await read(assets, InlineRef(b""), 0, 4) == b""


async def test_blocks_are_fetched_once_however_many_want_them(assets, storage):
    await storage.put(chunk_key(CHUNK), bytes(range(100)))
    storage.reset()
    ref = NativeRef(CHUNK, 0, 100)
    async with trio.open_nursery() as nursery:
        for start in range(0, 100, 7):
            nursery.start_soon(read, assets, ref, start, start + 7, 10)
    assert storage.fetched[chunk_key(CHUNK)] == 100
    storage.reset()
    assert await read(assets, ref, 0, 100, block=10) == bytes(range(100))
    assert storage.calls == []


async def test_two_references_into_one_object_are_two_chunks(assets, storage):
    await storage.put(chunk_key(CHUNK), b"0123456789")
    assert await read(assets, NativeRef(CHUNK, 0, 4), 0, 4) == b"0123"
    assert await read(assets, NativeRef(CHUNK, 4, 4), 0, 4) == b"4567"
    assert await read(assets, NativeRef(CHUNK, 0, 6), 0, 6) == b"012345"


async def test_virtual_chunks_go_through_the_cache_too(assets):
    ref = VirtualRef("x", 2, 6)
    assert await read(assets, ref, 1, 5, block=4) == b"3456"
    assert await read(assets, ref, 0, 6, block=4) == b"234567"
    assert assets._virtual.asked == [("x", 0, 6)]
    # One with another checksum is another chunk: what was read before proves nothing for it.
    assert await read(assets, VirtualRef("x", 2, 6, etag="e"), 0, 6, block=6) == b"234567"
    assert len(assets._virtual.asked) == 2
    with pytest.raises(CorruptionError):
        await read(assets, VirtualRef("x", 8, 6), 0, 6, block=6)


async def test_what_is_dropped_is_fetched_again(assets, storage):
    await storage.put(chunk_key(CHUNK), b"0123456789")
    ref, whole = NativeRef(CHUNK, 0, 10), ByteRange(0, 10)
    for _ in range(2):
        assert not assets.holds(ref, whole, block=10)
        assert await read(assets, ref, 0, 10, block=10) == b"0123456789"
        assert assets.holds(ref, whole, block=10)
        assets.drop_chunk(ref)
    assert len(storage.keys("get_range")) == 2
    assert assets.holds(InlineRef(b"x"), ByteRange(0, 1), block=1)


@pytest.mark.compat
async def test_metadata_is_fetched_once_for_all_who_wait_and_who_come_later(
    assets, storage, snapshot_id
):
    async def fetch():
        view = await assets.fetch_hierarchy(snapshot_id)
        (manifest,) = view.node("/a").manifests
        await assets.fetch_manifest(manifest.manifest_id)
        await assets.fetch_change_log(snapshot_id)

    assert assets.cached_hierarchy(snapshot_id) is None
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(fetch)
    await fetch()
    assert len(storage.calls) == 3
    view = assets.cached_hierarchy(snapshot_id)
    (manifest,) = view.node("/a").manifests
    found = assets.cached_manifest(manifest.manifest_id)
    assert found is await assets.fetch_manifest(manifest.manifest_id)
    # The parent of a snapshot of version 1 may change, so this asks each time.
    assert (await assets.fetch_snapshot(snapshot_id)).id == snapshot_id
    assert (await assets.fetch_snapshot(snapshot_id)).id == snapshot_id
    assert len(storage.calls) == 5


@pytest.mark.compat
async def test_a_failure_is_not_kept(assets, storage, snapshot_id):
    async def fail(_, key):
        raise StorageTimeoutError("too late")

    storage.before = fail
    with pytest.raises(StorageTimeoutError):
        await assets.fetch_hierarchy(snapshot_id)
    storage.before = None
    assert (await assets.fetch_hierarchy(snapshot_id)).node("/a") is not None


@pytest.mark.compat
async def test_objects_of_different_kinds_may_have_one_id(assets, storage, snapshot_id):
    view = await assets.fetch_hierarchy(snapshot_id)
    (manifest,) = view.node("/a").manifests
    stored = (await storage.get(manifest_key(manifest.manifest_id))).data
    await storage.put(manifest_key(ManifestId(snapshot_id)), stored)
    assert (await assets.fetch_manifest(ManifestId(snapshot_id))).id == manifest.manifest_id
    assert await assets.fetch_hierarchy(snapshot_id) is view
    assert (await assets.fetch_change_log(snapshot_id)).log.id == snapshot_id


@pytest.mark.compat
@pytest.mark.parametrize("key", [snapshot_key, transaction_log_key])
async def test_damage_names_the_object(assets, storage, snapshot_id, key):
    stored = (await storage.get(key(snapshot_id))).data
    await storage.put(key(snapshot_id), stored[:-20])
    fetch = assets.fetch_hierarchy if key is snapshot_key else assets.fetch_change_log
    with pytest.raises(CorruptionError, match=key(snapshot_id)):
        await fetch(snapshot_id)


@pytest.mark.compat
async def test_without_memory_everything_still_works(storage, snapshot_id):
    assets = AssetManager(storage, MemoryBudget(0), Files())
    for _ in range(3):
        view = await assets.fetch_hierarchy(snapshot_id)
        (manifest,) = view.node("/a").manifests
        await assets.fetch_manifest(manifest.manifest_id)
    assert len(storage.calls) == 6, "each displaces the other"
