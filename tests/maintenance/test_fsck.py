"""What a check costs: each object is read once, and nobody is asked about single chunks."""

from collections import Counter

import numpy as np

from tests.counting import CountingStorage
from tests.maintenance.planting import check, make_icechunk
from tests.repo.foreign import PREFIX, Chunk, make
from zfuse.format.ids import ChunkId
from zfuse.maintenance.fsck import Depth, RepositoryCheck
from zfuse.repo.chunk_files import ChunkFiles, spelled
from zfuse.storage.local import LocalStorage


async def test_each_object_is_read_once_and_no_chunk_is_asked_for(tmp_path):
    made = make_icechunk(tmp_path, 2)
    storage = CountingStorage(LocalStorage(made.root))
    found, summary = await check(made.root, storage=storage)
    assert found == []
    reads = Counter(storage.keys("get"))
    assert set(reads.values()) == {1}
    assert not [key for key in reads if key.startswith("chunks/")]
    assert storage.keys("head") == storage.keys("get_range") == []
    listed = ["chunks/", "manifests/", "snapshots/", "transactions/"]
    assert sorted(storage.keys("list")) == listed
    assert storage.keys("put") == storage.keys("delete") == []
    storage.reset()
    await check(made.root, storage=storage, depth=Depth(reads_chunks=True))
    assert len(storage.keys("get_range")) == len(set(storage.keys("get_range"))) == 10
    assert summary.native_chunks == 10


async def test_each_source_is_asked_for_once(tmp_path):
    chunks = [Chunk(f"file{n % 3}", n, 10) for n in range(90)]
    foreign = await make(tmp_path / "state", {"/a": chunks, "/b": chunks})
    resolver = foreign.resolver(PREFIX)
    resolver.declare = lambda containers: None  # the repository's config has none
    looked = RepositoryCheck(foreign.store, resolver, Depth(asks_sources=True))
    assert [finding async for finding in looked.findings()] == []
    assert sorted(foreign.source.keys("head")) == ["file0", "file1", "file2"]
    assert foreign.source.keys("get_range") == []
    assert (looked.summary.chunk_refs, looked.summary.virtual_sources) == (180, 3)


def test_ids_are_spelled_as_elsewhere():
    ids = np.frombuffer(np.random.default_rng(1).bytes(12 * 500), np.uint8).reshape(500, 12)
    assert [name.decode() for name in spelled(ids)] == [str(ChunkId(i.tobytes())) for i in ids]
    files = ChunkFiles(spelled(ids)[::2], np.arange(250))
    rows = files.find(ids)
    assert (rows[1::2] == -1).all()
    assert [files.name(row) for row in rows[::2]] == [name.decode() for name in spelled(ids)[::2]]
    assert files.sizes[rows[::2]].tolist() == list(range(250))


async def test_what_has_no_name_of_a_chunk_does_not_matter(tmp_path):
    made = make_icechunk(tmp_path, 2)
    for name in ("README", "x" * 20, "0" * 21, ".hidden"):
        made.file(f"chunks/{name}").write_bytes(b"?")
    made.file("chunks/\udcff\udcfe").write_bytes(b"?")
    found, summary = await check(made.root)
    assert found == []
    assert summary.unreferenced["chunks"].objects == 1
