import json

import numpy as np
import pytest
import zarr

from zfuse.byterange import ByteRange
from zfuse.format.shard_index import InnerChunks, ShardLayout
from zfuse.format.zarr_json import ArrayMetadata

ABSENT = 2**64 - 1


def index(*entries):
    return np.array(entries, "<u8").tobytes()


def written(path, compressors, place):
    """Return the metadata and the one shard of an array of 4 x 6 inner chunks, some unwritten."""
    array = zarr.create_array(
        path,
        shape=(8, 12),
        shards={"shape": (8, 12), "index_location": place},
        chunks=(2, 2),
        dtype="i4",
        compressors=compressors,
    )
    array[:4, :9] = np.arange(36).reshape(4, 9) + 1
    return ArrayMetadata.parse((path / "zarr.json").read_bytes()), (path / "c/0/0").read_bytes()


@pytest.mark.parametrize("place", ["start", "end"])
@pytest.mark.parametrize("compressors", [None, "auto"])
def test_the_inner_chunks_of_what_zarr_python_writes(tmp_path, place, compressors):
    metadata, shard = written(tmp_path, compressors, place)
    layout = metadata.shard_layout
    assert layout == ShardLayout(16, entries=24, trailer=4, at_start=place == "start")
    where = layout.index_range(len(shard))
    inner = InnerChunks.decode(shard[where.start : where.stop], layout, len(shard))
    position = where.stop if layout.at_start else 0
    chunks = []
    while (found := inner.at(position)) is not None:
        assert found.start == position
        assert inner.at(found.stop - 1) == found
        chunks.append(found)
        position = found.stop
    assert position == (len(shard) if layout.at_start else where.start)
    assert len(chunks) == 2 * 5


def layout_of(**changes):
    codec = {
        "chunk_shape": [2, 3],
        "codecs": [{"name": "bytes"}],
        "index_codecs": [{"name": "bytes"}, {"name": "crc32c"}],
    }
    outer = changes.pop("outer", [])
    before = changes.pop("before", [])
    data_type = changes.pop("data_type", "float32")
    grid = changes.pop("grid", {"name": "regular", "configuration": {"chunk_shape": [4, 6]}})
    sharding = {"name": "sharding_indexed", "configuration": codec | changes}
    document = {
        "node_type": "array",
        "shape": [8, 12],
        "data_type": data_type,
        "chunk_grid": grid,
        "codecs": [*before, sharding, *outer],
    }
    return ArrayMetadata.parse(json.dumps(document).encode()).shard_layout


def test_layouts():
    assert layout_of() == ShardLayout(24, 4, 4)
    assert layout_of(index_location="start") == ShardLayout(24, 4, 4, at_start=True)
    assert layout_of(index_codecs=["bytes"]) == ShardLayout(24, 4, 0)
    assert layout_of(before=[{"name": "transpose"}]) == ShardLayout(24, 4, 4)


@pytest.mark.parametrize(
    "changes",
    [
        {"outer": [{"name": "crc32c"}]},
        {"codecs": [{"name": "sharding_indexed", "configuration": {"chunk_shape": [1, 1]}}]},
        {"index_codecs": ["bytes", "zstd"]},
        {"index_codecs": None},
        {"chunk_shape": [2]},
        {"chunk_shape": [0, 3]},
        {
            "grid": {
                "name": "rectilinear",
                "configuration": {"kind": "inline", "chunk_shapes": [4, 6]},
            }
        },
        {"grid": {"name": "new"}},
    ],
)
def test_where_the_index_is_not_known(changes):
    layout = layout_of(**changes)
    assert layout is not None
    assert layout.index_range(1 << 20) is None


@pytest.mark.parametrize(
    ("data_type", "size"),
    [
        ("bool", 1),
        ("int64", 8),
        ("complex128", 16),
        ("r24", 3),
        ("string", 16),
        ({"name": "new"}, 16),
    ],
)
def test_the_size_of_inner_chunks(data_type, size):
    assert layout_of(data_type=data_type).inner_bytes == 6 * size


def test_where_the_index_is():
    assert ShardLayout(1, 2, 4).index_range(100) == ByteRange(64, 100)
    assert ShardLayout(1, 2, 4, at_start=True).index_range(100) == ByteRange(0, 36)
    assert ShardLayout(1, 2, 4).index_range(35) is None


def test_what_makes_no_sense_is_left_out():
    layout = ShardLayout(1, 6, 0)
    told = index((50, 10), (ABSENT, ABSENT), (0, 0), (90, 11), (ABSENT - 4, 10), (10, ABSENT - 4))
    inner = InnerChunks.decode(told, layout, 100)
    assert [inner.at(n) for n in (0, 10, 49, 60, 90, 99, 100, 2**63)] == [None] * 8
    assert inner.at(50) == inner.at(59) == ByteRange(50, 60)
