"""Shifting and reindexing arrays does what it does in the official library."""

import icechunk
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compat.documents import array_document
from tests.repo.driving import session_keys
from tests.repo.stores import Store, another
from tests.zarr_store.owners import writable
from zfuse.errors import InvalidInputError, NotFoundError
from zfuse.portal import run
from zfuse.repo.create import create_repository
from zfuse.repo.reindex import reindex_array, shift_array
from zfuse.zarr_store.store import IcechunkStore


def of_line(data):
    return {int(key[4:]): value for key, value in data.items() if key.startswith("a/c/")}


async def shift(session, offset):
    await shift_array(session, "/a", offset)
    return of_line(await session_keys(session))


@pytest.fixture
async def line(session):
    await session.set_chunk("/a", (1,), b"x" * 1000)
    return session


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (1, {1: b"base", 2: b"x" * 1000}),
        (-1, {0: b"x" * 1000}),
        (0, {0: b"base", 1: b"x" * 1000}),
        (3, {3: b"base"}),
        (2**70, {}),
        (-(2**70), {}),
    ],
)
async def test_a_shift_moves_chunks_and_leaves_nothing_behind(line, offset, expected):
    assert await shift(line, (offset,)) == expected
    await line.commit("shifted")
    assert of_line(await session_keys(line)) == expected


async def test_a_shift_of_another_rank_is_refused(line):
    with pytest.raises(InvalidInputError, match="1 dimensions, but the offset 2 numbers"):
        await shift(line, (1, 1))
    with pytest.raises(NotFoundError):
        await shift_array(line, "/b", (1,))


@pytest.mark.parametrize(
    ("forward", "backward", "expected"),
    [
        (lambda i: (3 - i[0],), None, "ABBA"),
        (lambda i: None, None, "AB--"),
        (lambda i: [i[0] - 1] if i[0] else None, None, "BB--"),
        (
            lambda i: [i[0] - 1] if i[0] else None,
            lambda i: [i[0] + 1] if i[0] < 3 else None,
            "B---",
        ),
        (lambda i: (i[0] + 1,), lambda i: (i[0] - 1,) if i[0] else None, "-AB-"),
        (lambda i: (0,), None, "BB--"),
    ],
)
async def test_reindexing_copies_and_clears(session, forward, backward, expected):
    await session.set_chunk("/a", (0,), b"A")
    await session.set_chunk("/a", (1,), b"B")
    await reindex_array(session, "/a", forward, backward)
    found = of_line(await session_keys(session))
    assert "".join(found.get(n, b"-").decode() for n in range(4)) == expected


@pytest.mark.parametrize("target", [(4,), (-1,), (0, 0), (2**32,)])
async def test_an_index_outside_of_the_grid_changes_nothing(session, target):
    with pytest.raises(InvalidInputError):
        await reindex_array(session, "/a", lambda index: target)
    assert not session.has_changes


async def test_an_error_of_the_function_changes_nothing(session):
    with pytest.raises(ZeroDivisionError):
        await reindex_array(session, "/a", lambda index: 1 // 0)
    assert not session.has_changes


async def test_chunks_that_differ_in_shape_stay_where_they_are():
    grid = {"kind": "inline", "chunk_shapes": [[1, 3]]}
    document = array_document((4,), (1,), chunk_grid={"name": "rectilinear", "configuration": grid})
    store = Store()
    await create_repository(store, spec_version=2)
    session = await another(store)
    await session.set_metadata("/a", document)
    with pytest.raises(InvalidInputError, match="no regular chunk grid"):
        await shift(session, (1,))
    with pytest.raises(InvalidInputError, match="no regular chunk grid"):
        await reindex_array(session, "/a", tuple)


@settings(max_examples=25)
@given(
    st.lists(st.integers(0, 3), min_size=12, max_size=12),
    st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), max_size=3),
)
def test_shifts_are_those_of_the_official_library(values, offsets):
    icechunk.set_logs_filter("off")
    owner = writable(Store())
    theirs = icechunk.Repository.create(icechunk.in_memory_storage()).writable_session("main")
    data = np.array(values, "u1").reshape(4, 3)
    for store in (IcechunkStore(owner), theirs.store):
        array = zarr.create_array(store, name="a", shape=(4, 3), chunks=(1, 1), dtype="u1")
        array[:] = data
    for offset in offsets:
        run(shift_array, owner.workspace, "/a", offset)
        theirs.shift_array("/a", offset)
        ours = zarr.open_array(IcechunkStore(owner), path="a")[:]
        assert (ours == zarr.open_array(theirs.store, path="a")[:]).all()
