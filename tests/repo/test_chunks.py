"""Finding chunks in manifests: all of them, and with as few manifests as that takes."""

import pytest

from tests.compat.documents import array_document, put, put_all
from tests.compat.place import changing, create, local_place
from tests.compat.repositories import _splitting, build
from tests.counting import CountingStorage
from zfuse.byterange import ByteRange
from zfuse.cache.budget import MemoryBudget
from zfuse.format.ids import ManifestId, SnapshotId
from zfuse.format.snapshot import ManifestRef
from zfuse.repo.asset_manager import AssetManager
from zfuse.repo.chunks import ChunkIndex, covers
from zfuse.storage.local import LocalStorage

pytestmark = pytest.mark.compat


class Found:
    """The chunks of one array of a branch."""

    def __init__(self, storage, node, chunks, assets):
        self.storage = storage
        self.node = node
        self.chunks = chunks
        self.assets = assets

    @classmethod
    async def open(cls, directory, repo, path, memory=1 << 20):
        storage = CountingStorage(LocalStorage(directory))
        assets = AssetManager(storage, MemoryBudget(memory), None)
        view = await assets.fetch_hierarchy(SnapshotId.parse(repo.lookup_branch("main")))
        storage.reset()
        return cls(storage, view.node(path), ChunkIndex(assets), assets)

    def manifests_loaded(self):
        loaded = len(self.storage.keys("get"))
        self.storage.reset()
        return loaded

    async def read(self, *coords):
        ref = await self.chunks.find(self.node, coords)
        if ref is None:
            return None
        return await self.assets.read_chunk(ref, ByteRange(0, ref.size), block=max(ref.size, 1))

    async def indices(self, prefix, rank):
        rows = await self.chunks.rows(self.node, prefix, rank)
        found = [c for r in rows for c in r.references.coords(r.start, r.stop).tolist()]
        return sorted(map(tuple, found))


@pytest.fixture
async def split(tmp_path):
    """A grid of 8 by 10 in 9 manifests: rows 0-2, 3-5, 6-7 by columns 0-3, 4-7, 8-9."""
    repo = create(local_place(tmp_path), 2, _splitting(".*", {0: 3, 1: 4}))
    repo.save_config()
    with changing(repo, "split") as store:
        put(store, "a/zarr.json", array_document((8, 10), (1, 1)))
        for row in range(8):
            for column in range(0, 10, 1 + row % 2):
                put(store, f"a/c/{row}/{column}", bytes([row * 10 + column]))
    found = await Found.open(tmp_path / "repository", repo, "/a")
    assert len(found.node.manifests) == 9
    return found


async def test_every_chunk_and_no_other(split):
    for row in range(9):
        for column in range(11):
            written = row < 8 and column < 10 and not (row % 2 and column % 2)
            expected = bytes([row * 10 + column]) if written else None
            assert await split.read(row, column) == expected


async def test_each_question_loads_the_manifests_that_it_concerns(split):
    assert await split.read(4, 6) == b"."
    assert split.manifests_loaded() == 1
    assert await split.read(4, 5) is not None
    assert await split.read(3, 7) is None
    assert split.manifests_loaded() == 0
    assert await split.chunks.has_any(split.node, (3,), 2)
    assert split.manifests_loaded() <= 1
    assert await split.indices((5,), 2) == [(5, n) for n in range(0, 10, 2)]
    assert split.manifests_loaded() <= 2
    assert await split.read(8, 0) is None
    assert await split.indices((99,), 2) == []
    assert not await split.chunks.has_any(split.node, (8,), 2)
    assert split.manifests_loaded() == 0
    assert len(await split.indices((), 2)) == 4 * 10 + 4 * 5
    assert split.manifests_loaded() == 6


async def test_what_is_in_memory_and_what_is_not(split):
    references, elsewhere = split.chunks.cached(split.node, 2)
    assert (references, len(elsewhere)) == ([], 9)
    await split.read(0, 0)
    references, elsewhere = split.chunks.cached(split.node, 2)
    assert [len(known) for known in references] == [4 + 2 + 4]
    assert len(elsewhere) == 8
    assert split.manifests_loaded() == 1


async def test_nothing_of_another_rank(split):
    assert await split.read(0) is None
    assert await split.read() is None
    assert await split.read(0, 0, 0) is None
    assert await split.chunks.odd_ranks(split.node, ()) == []
    assert await split.indices((), 1) == []


async def test_odd_ranks(tmp_path):
    made = build("wrong_rank", 2, local_place(tmp_path))
    found = await Found.open(tmp_path / "repository", made.open(), "/a")
    assert await found.chunks.odd_ranks(found.node, ()) == [1, 3]
    assert await found.indices((), 1) == [(0,), (1,)]
    assert await found.indices((), 3) == [(0, 0, 7), (0, 1, 0)]
    assert await found.indices((0,), 3) == [(0, 0, 7), (0, 1, 0)]
    assert await found.indices((), 2) == [(0, 0)]
    assert await found.read(1) == b"one"
    assert found.manifests_loaded() == 1


async def test_an_array_without_chunks(tmp_path):
    repo = create(local_place(tmp_path), 2)
    with changing(repo, "empty") as store:
        put(store, "a/zarr.json", array_document((4,), (1,)))
    found = await Found.open(tmp_path / "repository", repo, "/a")
    assert await found.read(0) is None
    assert not await found.chunks.has_any(found.node, (), 1)
    assert await found.indices((), 1) == []
    assert found.manifests_loaded() == 0


async def test_a_scalar(tmp_path):
    repo = create(local_place(tmp_path), 2)
    with changing(repo, "scalar") as store:
        put_all(store, {"a/zarr.json": array_document((), ()), "a/c": b"s"})
    found = await Found.open(tmp_path / "repository", repo, "/a")
    assert await found.read() == b"s"
    assert await found.indices((), 0) == [()]


@pytest.mark.parametrize(
    ("extents", "prefix", "may"),
    [
        (((0, 2), (4, 8)), (1, 4), True),
        (((0, 2), (4, 8)), (1, 8), False),
        (((0, 2), (4, 8)), (2, 4), False),
        (((0, 2), (4, 8)), (1,), True),
        (((0, 2), (4, 8)), (), True),
        (((0, 2), (4, 8)), (1, 5, 9), True),
        ((), (5,), True),
    ],
)
def test_which_manifests_may_hold_what(extents, prefix, may):
    assert covers(ManifestRef(ManifestId(bytes(12)), extents), prefix) is may
