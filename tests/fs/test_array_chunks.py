"""Chunk indices as numbers, and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compat.documents import array_document, put_all
from tests.compat.place import changing, create, local_place
from tests.fs.driving import driving
from zfuse.format.chunk_names import ChunkNames
from zfuse.format.ids import NodeId
from zfuse.format.zarr_json import DefaultChunkKeys
from zfuse.fs.array_chunks import ArrayChunks
from zfuse.fs.inodes import INDEX_LIMIT

lengths = st.lists(st.integers(1, 2**32 - 1), max_size=5)


def make(shape):
    rank = len(shape)
    names = ChunkNames(DefaultChunkKeys(), rank)
    return ArrayChunks(None, NodeId(bytes(8)), 0, tuple(shape[1:]), rank, names, None, None, None)


@given(lengths, st.data())
def test_unfolding_undoes_folding(shape, data):
    array = make(shape)
    coords = tuple(data.draw(st.integers(0, length - 1)) for length in shape)
    for known in range(len(shape) + 1):
        number = array.fold(coords[:known], INDEX_LIMIT)
        if number is not None:
            assert number < INDEX_LIMIT
            assert array.unfold(number, known) == coords[:known]


@given(st.lists(st.integers(1, 5), max_size=4))
def test_no_two_indices_fold_alike(shape):
    array = make(shape)
    everything = list(np.ndindex(*shape))
    numbers = {array.fold(coords, INDEX_LIMIT) for coords in everything}
    assert len(numbers) == len(everything)
    assert None not in numbers


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
def test_growing_along_the_first_dimension_changes_no_number(first, more, second):
    before, after = make([first, second]), make([first + more, second])
    for coords in np.ndindex(first, second):
        assert before.fold(coords, INDEX_LIMIT) == after.fold(coords, INDEX_LIMIT)


def test_what_has_no_number():
    array = make([4, 3])
    assert array.fold((0, 3), INDEX_LIMIT) is None, "out of the grid"
    assert array.fold((0, 0, 0), INDEX_LIMIT) is None, "of another rank"
    assert array.fold((INDEX_LIMIT // 3, 2), INDEX_LIMIT) is None, "too large"
    assert array.fold((7, 2), INDEX_LIMIT) == 23, "the first dimension has no end"


@pytest.mark.compat
async def test_a_grid_beyond_all_numbers(tmp_path):
    """More than 2**40 chunks: those that no slot can number are numbered one by one."""
    length = 2**32 - 1
    entries = {
        "a/zarr.json": array_document((length, length), (1, 1)),
        "a/c/0/0": b"first",
        "a/c/1/7": b"near",
        f"a/c/{length - 1}/{length - 1}": b"far",
        f"a/c/{length - 1}/5": b"far too",
    }
    with changing(create(local_place(tmp_path), 2), "huge") as store:
        put_all(store, entries)
    async with driving(tmp_path / "repository") as driven:
        inodes = set()
        for _ in range(2):
            for key, data in entries.items():
                found = await driven.find(f"branch/main/{key}")
                inodes.add(found.inode)
                assert await driven.read(found.inode) == data
            top = await driven.find("branch/main/a/c")
            for item in await driven.list(top.inode):
                for below in await driven.list(item.attributes.inode):
                    content = entries[f"a/c/{item.name}/{below.name}"]
                    assert await driven.read(below.attributes.inode) == content
                    inodes.add(below.attributes.inode)
        assert len(inodes) == len(entries)
        driven.forget_all()
        assert driven.fs.known_inodes == 1
