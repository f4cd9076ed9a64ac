import json

import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.core.chunk_key_encodings import DefaultChunkKeyEncoding, V2ChunkKeyEncoding

from tests.compat.documents import array_document
from zfuse.errors import CorruptionError
from zfuse.format.zarr_json import (
    AffixedChunkKeys,
    ArrayMetadata,
    DefaultChunkKeys,
    V2ChunkKeys,
)

SHARDED = {"name": "sharding_indexed", "configuration": {"chunk_shape": [2, 1], "codecs": []}}
ENCODINGS = [
    (DefaultChunkKeys("/"), DefaultChunkKeyEncoding(separator="/")),
    (DefaultChunkKeys("."), DefaultChunkKeyEncoding(separator=".")),
    (V2ChunkKeys("/"), V2ChunkKeyEncoding(separator="/")),
    (V2ChunkKeys("."), V2ChunkKeyEncoding(separator=".")),
]
OURS = [ours for ours, _ in ENCODINGS]


def parse(shape=(4, 6), chunks=(2, 3), **members):
    return ArrayMetadata.parse(array_document(shape, chunks, **members))


def grid(*chunk_shapes, kind="inline"):
    return {"name": "rectilinear", "configuration": {"kind": kind, "chunk_shapes": chunk_shapes}}


def test_plain():
    assert parse(dimension_names=["y", None]) == ArrayMetadata(
        shape=(4, 6),
        data_type="uint8",
        chunk_shape=(2, 3),
        chunk_lengths=None,
        inner_chunk_shape=None,
        codecs=("bytes",),
        dimension_names=("y", None),
        chunk_key_encoding=DefaultChunkKeys("/"),
    )
    assert not parse().is_sharded
    assert parse().dimension_names is None


def test_scalar():
    metadata = parse((), ())
    assert (metadata.shape, metadata.chunk_shape) == ((), ())


@pytest.mark.parametrize("shards", [None, (4, 6)])
def test_what_zarr_python_writes(tmp_path, shards):
    path = tmp_path / "a.zarr"
    array = zarr.create_array(path, shape=(8, 12), chunks=(2, 3), shards=shards, dtype="int16")
    metadata = ArrayMetadata.parse((path / "zarr.json").read_bytes())
    assert metadata.shape == array.shape
    assert metadata.data_type == "int16"
    assert metadata.chunk_shape == (shards or (2, 3))
    assert metadata.inner_chunk_shape == ((2, 3) if shards else None)
    assert metadata.is_sharded == bool(shards)
    assert metadata.codecs == (("sharding_indexed",) if shards else ("bytes", "zstd"))


def test_rectilinear_grid_that_zarr_python_writes(tmp_path):
    path = tmp_path / "a.zarr"
    with zarr.config.set({"array.rectilinear_chunks": True}):
        zarr.create_array(path, shape=(4, 4), chunks=[[2, 2], [1, 3]], dtype="uint8")
    metadata = ArrayMetadata.parse((path / "zarr.json").read_bytes())
    assert metadata.chunk_shape is None
    assert metadata.chunk_lengths == ((2, 2), (1, 3))


@pytest.mark.parametrize(
    ("dimension", "length", "chunks"),
    [
        ([4, 1], 5, (4, 1)),
        ([[2, 2]], 4, (2, 2)),
        ([[2, 3], 1, [4, 1]], 11, (2, 2, 2, 1, 4)),
        (2, 5, (2, 2, 2)),
        (2, 0, ()),
        (0, 5, ()),
        ([], 0, ()),
        ([9], 4, (9,)),
    ],
)
def test_rectilinear_grids(dimension, length, chunks):
    metadata = parse((length,), (1,), chunk_grid=grid(dimension))
    assert metadata.chunk_lengths == (chunks,)
    assert metadata.chunk_shape is None


@pytest.mark.parametrize(
    "chunk_grid",
    [
        grid([1]),
        grid([1], [2], [3]),
        grid([1], [2], kind="outline"),
        grid([-1], [2]),
        grid([[1, 2, 3]], [2]),
        grid([[1]], [2]),
        grid(["x"], [2]),
        grid([1.5], [2]),
        grid([True], [2]),
        grid([[1, 10**9]], [2]),
        grid([[1, 10**7]] * 9, [2]),
        {"name": "rectilinear"},
        {"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": "x"}},
        {"name": "regular"},
        {"name": "regular", "configuration": {"chunk_shape": [2]}},
        {"name": "regular", "configuration": {"chunk_shape": [2, -1]}},
        {"name": "regular", "configuration": {"chunk_shape": "22"}},
    ],
)
def test_damaged_grids(chunk_grid):
    with pytest.raises(CorruptionError):
        parse(chunk_grid=chunk_grid)


def test_huge_regular_dimension_of_a_rectilinear_grid():
    with pytest.raises(CorruptionError, match="bounds"):
        parse((2**62,), (1,), chunk_grid=grid(1))


def test_chunk_shape_that_is_too_long():
    assert parse((4, 6), (2, 3, 9)).chunk_shape == (2, 3)


@pytest.mark.parametrize("chunk_grid", [{"name": "other", "configuration": {}}, None, "x"])
def test_grid_of_an_unknown_extension(chunk_grid):
    metadata = parse(chunk_grid=chunk_grid)
    assert (metadata.chunk_shape, metadata.chunk_lengths) == (None, None)


@pytest.mark.parametrize(
    ("codecs", "names", "inner"),
    [
        (["bytes"], ("bytes",), None),
        (["bytes", {"name": "gzip"}], ("bytes", "gzip"), None),
        ([SHARDED], ("sharding_indexed",), (2, 1)),
        (
            [{"name": "transpose"}, SHARDED, "crc32c"],
            ("transpose", "sharding_indexed", "crc32c"),
            (2, 1),
        ),
        ([{"name": "x.y/z", "configuration": None, "must_understand": False}], ("x.y/z",), None),
        ([], (), None),
        (None, (), None),
        ("bytes", (), None),
        ([5, {}, {"name": 5}, "bytes"], ("bytes",), None),
    ],
)
def test_codecs(codecs, names, inner):
    metadata = parse(codecs=codecs)
    assert metadata.codecs == names
    assert metadata.inner_chunk_shape == inner
    assert metadata.is_sharded == (inner is not None)


@pytest.mark.parametrize(
    ("data_type", "name"),
    [
        ("float32", "float32"),
        ({"name": "numpy.datetime64", "configuration": {"unit": "s"}}, "numpy.datetime64"),
        ({"name": "struct"}, "struct"),
        (5, "unknown"),
        (None, "unknown"),
    ],
)
def test_data_types(data_type, name):
    assert parse(data_type=data_type).data_type == name


@pytest.mark.parametrize(
    "attributes",
    [
        b'"\xff\xfe"',
        b'"\xed\xa0\x80"',
        b'"\\ud800"',
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"9" * 6000,
        b"[" * 190 + b"]" * 190,
        '"snowman \\u2603 \u2603"'.encode(),
    ],
    ids=lambda data: repr(data[:9]),
)
def test_anything_goes_in_attributes(attributes):
    document = array_document((4, 6), (2, 3)).replace(
        b'"attributes": {}', b'"attributes": {"x": ' + attributes + b"}"
    )
    assert attributes in document
    assert ArrayMetadata.parse(document) == parse()


@pytest.mark.parametrize(
    "user_data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"array"',
        b"\xff",
        b"\0",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"node_type":"group","zarr_format":3}',
        b'{"node_type":"array"}',
        b'{"node_type":"array","shape":5}',
        b'{"node_type":"array","shape":[-1]}',
        b'{"node_type":"array","shape":[1.0]}',
        b'{"node_type":"array","shape":[true]}',
        b'{"node_type":"array","shape":["4"]}',
        b"\xef\xbb\xbf" + array_document((1,), (1,)),
    ],
    ids=lambda data: repr(data[:30]),
)
def test_what_is_no_array(user_data):
    with pytest.raises(CorruptionError) as caught:
        ArrayMetadata.parse(user_data)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=60))
def test_any_bytes(data):
    with pytest.raises(CorruptionError):
        ArrayMetadata.parse(data)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "configuration", "chunk_shape", "chunk_shapes", "kind", "suffix"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(st.sampled_from(sorted(json.loads(array_document((4,), (2,))))), VALUES)
def test_any_member_may_be_anything(name, value):
    document = json.loads(array_document((4,), (2,))) | {name: value}
    try:
        metadata = ArrayMetadata.parse(json.dumps(document).encode())
    except CorruptionError:
        assert name in ("node_type", "shape", "chunk_grid", "codecs")
    else:
        assert isinstance(metadata.data_type, str)


@pytest.mark.parametrize(
    ("value", "encoding"),
    [
        ("default", DefaultChunkKeys("/")),
        ("v2", V2ChunkKeys(".")),
        ({"name": "default"}, DefaultChunkKeys("/")),
        ({"name": "v2"}, V2ChunkKeys(".")),
        ({"name": "default", "configuration": {}}, DefaultChunkKeys("/")),
        ({"name": "default", "configuration": None}, DefaultChunkKeys("/")),
        ({"name": "default", "configuration": {"separator": "."}}, DefaultChunkKeys(".")),
        ({"name": "v2", "configuration": {"separator": "/"}}, V2ChunkKeys("/")),
        ({"name": "v2", "separator": "/"}, V2ChunkKeys("/")),
        (
            {"name": "suffix", "configuration": {"suffix": ".tif", "base_encoding": "v2"}},
            AffixedChunkKeys(V2ChunkKeys("."), suffix=".tif"),
        ),
        (
            {
                "name": "suffix",
                "configuration": {"suffix": ".x", "base-encoding": {"name": "default"}},
            },
            AffixedChunkKeys(DefaultChunkKeys("/"), suffix=".x"),
        ),
        (
            {"name": "prefix", "configuration": {"prefix": "x/", "base_encoding": "v2"}},
            AffixedChunkKeys(V2ChunkKeys("."), prefix="x/"),
        ),
        (None, None),
        (5, None),
        ("fanout", None),
        ({"name": "fanout", "configuration": {"max_children": 1001}}, None),
        ({"name": "default", "configuration": {"separator": "-"}}, None),
        ({"name": "default", "configuration": {"separator": ["/"]}}, None),
        ({"name": "suffix", "configuration": {"suffix": ".x"}}, None),
        ({"name": "suffix", "configuration": {"suffix": ".x", "base_encoding": "?"}}, None),
        ({"name": "suffix", "configuration": {"suffix": "/x", "base_encoding": "v2"}}, None),
        ({"name": "suffix", "configuration": {"suffix": 5, "base_encoding": "v2"}}, None),
        ({"name": "prefix", "configuration": {"prefix": "../", "base_encoding": "v2"}}, None),
        ({"name": "prefix", "configuration": {"prefix": "/x", "base_encoding": "v2"}}, None),
    ],
)
def test_chunk_key_encodings(value, encoding):
    assert parse(chunk_key_encoding=value).chunk_key_encoding == encoding


def test_absent_chunk_key_encoding():
    document = json.loads(array_document((4,), (2,)))
    del document["chunk_key_encoding"]
    found = ArrayMetadata.parse(json.dumps(document).encode()).chunk_key_encoding
    assert found == DefaultChunkKeys("/")


COORDS = st.lists(st.integers(0, 2**32 - 1), max_size=5).map(tuple)


@pytest.mark.parametrize(("ours", "zarrs"), ENCODINGS)
@given(coords=COORDS)
def test_names_are_those_of_zarr_python(ours, zarrs, coords):
    name = ours.encode(coords)
    assert name == zarrs.encode_chunk_key(coords)
    assert ours.decode(name, len(coords)) == coords
    assert ours.directories(len(coords)) == name.count("/")
    assert ours.decode(name, len(coords) + 2) is None


@pytest.mark.parametrize("base", OURS)
@given(coords=COORDS, affix=st.sampled_from([".tif", "0", ".0", "-", "c"]))
def test_affixes(base, coords, affix):
    for keys in (AffixedChunkKeys(base, suffix=affix), AffixedChunkKeys(base, prefix=affix + "/")):
        name = keys.encode(coords)
        assert keys.decode(name, len(coords)) == coords
        assert keys.directories(len(coords)) == name.count("/")
        assert keys.decode("?" + name, len(coords)) is None
        assert keys.decode(name + "?", len(coords)) is None


@pytest.mark.parametrize("keys", OURS)
@given(text=st.text("c/.0123456789+-_ ٣²", max_size=8), rank=st.integers(0, 3))
def test_only_canonical_names_decode(keys, text, rank):
    coords = keys.decode(text, rank)
    assert coords is None or keys.encode(coords) == text


@pytest.mark.parametrize(
    "number", ["", "00", "01", "+1", "-1", " 1", "1 ", "1_0", "٣", "²", "4294967296", "9" * 5000]
)
def test_numbers_that_are_not_canonical(number):
    assert DefaultChunkKeys("/").decode(f"c/{number}", 1) is None
    assert V2ChunkKeys(".").decode(number, 1) is None


def test_largest_number():
    assert V2ChunkKeys(".").decode("4294967295", 1) == (4294967295,)


@pytest.mark.parametrize("name", ["c", "c/", "/c/0", "c//0", "c/0/", "ac/0", "C/0", "c.0", "c/0/0"])
def test_aliases(name):
    assert DefaultChunkKeys("/").decode(name, 1) is None
