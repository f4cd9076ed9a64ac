"""Commits by zfuse, judged by the official library."""

import icechunk
import numpy as np
import pytest
import zarr

from tests.compat.documents import array_document, put
from tests.repo.driving import official, open_session
from tests.repo.editing import official_keys
from zfuse.format.ids import SnapshotId

pytestmark = pytest.mark.compat


@pytest.mark.parametrize("spec_version", [1, 2])
async def test_chunks_of_a_rank_that_is_not_the_arrays_stay_until_they_are_deleted(
    spec_version, tmp_path
):
    place = icechunk.local_filesystem_storage(str(tmp_path))
    repo = icechunk.Repository.create(place, spec_version=spec_version)
    edited = repo.writable_session("main")
    put(edited.store, "a/zarr.json", array_document((2, 2), (1, 1)))
    for key in ("a/c/0/0", "a/c/1", "a/c/1/1/1"):
        put(edited.store, key, key.encode())
    edited.commit("odd")
    session = await open_session(tmp_path)
    await session.set_chunk("/a", (0, 1), b"new")
    await session.commit("beside")
    keys = official_keys(official(tmp_path), str(session.base.id))
    assert keys["a/c/1"] == b"a/c/1"
    await session.delete_chunk("/a", (1,))
    await session.commit("one less")
    keys = official_keys(official(tmp_path), str(session.base.id))
    assert sorted(keys) == ["a/c/0/0", "a/c/0/1", "a/c/1/1/1", "a/zarr.json"]


async def test_values_of_all_types_are_read_back_from_an_array_of_many_chunks(tmp_path):
    icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path)))
    session = await open_session(tmp_path)
    await session.set_metadata("/", array_document((50, 40), (1, 1)))
    values = np.random.default_rng(0).integers(1, 255, (50, 40), np.uint8)
    for index, value in np.ndenumerate(values):
        session.tree.changes.set_chunk(
            session.tree.array("/").id, index, await session.store_chunk(bytes([value]))
        )
    tip = await session.commit("all", metadata={"n": [1, 2.5, {"deep": None}], "ü": "π"})
    repo = official(tmp_path)
    assert repo.lookup_snapshot(str(tip)).metadata == {"n": [1, 2.5, {"deep": None}], "ü": "π"}
    store = repo.readonly_session("main").store
    assert np.array_equal(zarr.open_array(store, mode="r")[:], values)
    assert isinstance(tip, SnapshotId)
