"""Columns of chunk keys are read as single keys are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zfuse.format.ragged import Ragged
from zfuse.format.zarr_json import AffixedChunkKeys, DefaultChunkKeys, V2ChunkKeys
from zfuse.ingest.chunk_keys import KeyPattern, owners, parse_indices

ENCODINGS = [
    DefaultChunkKeys("/"),
    DefaultChunkKeys("."),
    V2ChunkKeys("."),
    V2ChunkKeys("/"),
    AffixedChunkKeys(DefaultChunkKeys("/"), suffix=".tif"),
    AffixedChunkKeys(V2ChunkKeys("."), prefix="x/y-"),
]
PARTS = st.one_of(
    st.sampled_from(["0", "1", "12", "00", "01", "4294967295", "4294967296", "99999999999"]),
    st.sampled_from(["c", "c/", "c.", "/", ".", "x", "x/y-", ".tif", "+1", "-", "é"]),
)
KEYS = st.lists(st.lists(PARTS, max_size=6).map("".join), max_size=30)


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=60)
@given(
    rank=st.integers(0, 3),
    keys=KEYS,
    coords=st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3),
)
def test_a_column_reads_as_single_keys_do(encoding, rank, keys, coords):
    keys = [*keys, encoding.encode(coords[:rank])]
    rows, indices = parse_indices(
        Ragged.of(key.encode() for key in keys), KeyPattern.of(encoding), rank
    )
    found = dict(zip(rows.tolist(), map(tuple, indices.tolist()), strict=True))
    expected = {n: encoding.decode(key, rank) for n, key in enumerate(keys)}
    assert found == {n: index for n, index in expected.items() if index is not None}
    assert len(keys) - 1 in found


@given(
    keys=st.lists(st.text("ab/", max_size=8), max_size=40),
    directories=st.lists(st.text("ab", min_size=1, max_size=2), max_size=4).flatmap(
        lambda names: st.just(sorted({"/".join(names[:n]) + "/" for n in range(1, len(names) + 1)}))
    ),
    others=st.sets(st.sampled_from(["", "a/", "ab/", "b/", "a/b/", "b/a/b/"])),
)
def test_the_deepest_directory_owns_a_key(keys, directories, others):
    places = [place.encode() for place in {*directories, *others}]
    found = owners(Ragged.of(key.encode() for key in keys), places)
    for key, place in zip(keys, found.tolist(), strict=True):
        holding = [p for p in places if key.encode().startswith(p)]
        if holding:
            assert places[place] == max(holding, key=len)
        else:
            assert place == -1


def test_many_keys():
    count = 200_000
    keys = Ragged.of(b"a/c/%d/%d" % divmod(n, 1000) for n in range(count))
    assert (owners(keys, [b"a/", b"b/"]) == 0).all()
    below = Ragged(keys.data, keys.starts + 2, keys.sizes - 2)
    rows, indices = parse_indices(below, KeyPattern.of(DefaultChunkKeys("/")), 2)
    assert np.array_equal(rows, np.arange(count))
    assert np.array_equal(indices[:, 0] * 1000 + indices[:, 1], np.arange(count))
