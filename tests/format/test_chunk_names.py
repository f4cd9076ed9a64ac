import pytest
from hypothesis import given
from hypothesis import strategies as st

from zfuse.format.chunk_names import ChunkNames
from zfuse.format.zarr_json import AffixedChunkKeys, DefaultChunkKeys, V2ChunkKeys

PLAIN = [DefaultChunkKeys("/"), DefaultChunkKeys("."), V2ChunkKeys("."), V2ChunkKeys("/")]
AFFIXED = [
    AffixedChunkKeys(base, prefix, suffix)
    for base in PLAIN
    for prefix, suffix in [("", ".bin"), ("p", ""), ("data/", ""), ("a/b-", ""), ("7/7", "7")]
]
encodings = st.sampled_from(PLAIN + AFFIXED)
numbers = st.one_of(st.integers(0, 12), st.integers(0, 2**32 - 1))
indices = st.lists(numbers, max_size=4).map(tuple)


@pytest.mark.parametrize(
    ("encoding", "rank", "depth", "known"),
    [
        (DefaultChunkKeys("/"), 0, 0, [0]),
        (DefaultChunkKeys("/"), 1, 1, [0, 0]),
        (DefaultChunkKeys("/"), 3, 3, [0, 0, 1, 2]),
        (DefaultChunkKeys("."), 3, 0, [0]),
        (V2ChunkKeys("."), 3, 0, [0]),
        (V2ChunkKeys("/"), 3, 2, [0, 1, 2]),
        (V2ChunkKeys("/"), 0, 0, [0]),
        (AffixedChunkKeys(DefaultChunkKeys("/"), "p/"), 2, 3, [0, 0, 0, 1]),
        (AffixedChunkKeys(DefaultChunkKeys("."), "p/"), 2, 1, [0, 0]),
        (AffixedChunkKeys(V2ChunkKeys("/"), "p/q"), 2, 2, [0, 0, 1]),
    ],
)
def test_levels(encoding, rank, depth, known):
    names = ChunkNames(encoding, rank)
    assert names.depth == depth
    assert [names.known(level) for level in range(depth + 1)] == known


@given(encodings, indices)
def test_the_way_to_a_chunk(encoding, coords):
    names = ChunkNames(encoding, len(coords))
    *above, leaf = encoding.encode(coords).split("/")
    assert len(above) == names.depth
    prefix = ()
    for level, name in enumerate(above):
        prefix = names.enter(level, prefix, name)
        assert prefix == coords[: names.known(level + 1)]
        assert names.directory_name(level + 1, prefix) == name
    assert names.find_directory(above) == prefix
    assert names.leaf(prefix, leaf) == coords
    assert names.leaf_name(coords) == leaf
    assert names.leaf_names([coords]) == [leaf]


@given(encodings, indices, st.lists(st.text("c0123./p-", max_size=5), max_size=5))
def test_no_other_way_leads_to_a_chunk(encoding, coords, way):
    """Whatever names are tried, what is found is spelled exactly so."""
    rank = len(coords)
    names = ChunkNames(encoding, rank)
    prefix = names.find_directory(way[:-1])
    if way and prefix is not None and len(way) - 1 == names.depth:
        found = names.leaf(prefix, way[-1])
        assert found is None or encoding.encode(found) == "/".join(way)


@given(encodings, st.integers(0, 4), st.text("c0123456789.", max_size=12))
def test_names_that_are_no_numbers_lead_nowhere(encoding, rank, name):
    names = ChunkNames(encoding, rank)
    found = names.enter(0, (), name)
    assert found is None or names.directory_name(1, found) == name


@pytest.mark.parametrize("name", ["00", "+1", "-1", "1 ", "", "\u0661", "c", "0x1", "1" * 30])
def test_only_canonical_numbers_count(name):
    names = ChunkNames(DefaultChunkKeys("/"), 2)
    assert names.enter(1, (), name) is None
    assert names.leaf((1,), name) is None


def test_nothing_lies_below_a_chunk():
    names = ChunkNames(DefaultChunkKeys("/"), 1)
    assert names.find_directory(["c"]) == ()
    assert names.find_directory(["c", "0"]) is None
    assert names.enter(1, (), "0") is None
