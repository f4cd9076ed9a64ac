import icechunk
import numpy as np
import pytest
import trio
import zarr

from zfuse.errors import AlreadyExistsError, InvalidInputError
from zfuse.format.ids import INITIAL_SNAPSHOT
from zfuse.repo.create import create_repository
from zfuse.storage.memory import MemoryStorage

pytestmark = pytest.mark.compat


async def write_to(directory, storage):
    async for info in storage.list(""):
        path = directory / info.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((await storage.get(info.key)).data)


@pytest.mark.parametrize("spec_version", [1, 2])
async def test_the_official_library_opens_the_repository_and_commits_on_top(spec_version, tmp_path):
    storage = MemoryStorage()
    await create_repository(storage, spec_version=spec_version)
    await write_to(tmp_path, storage)

    place = icechunk.local_filesystem_storage(str(tmp_path))
    repo = icechunk.Repository.open(place)
    (root,) = repo.ancestry(branch="main")
    assert (root.id, root.parent_id, root.message) == (
        str(INITIAL_SNAPSHOT),
        None,
        "Repository initialized",
    )
    assert root.metadata == {"__icechunk": {"is_root": True}}
    assert (repo.spec_version, repo.list_branches(), repo.list_tags()) == (
        spec_version,
        {"main"},
        set(),
    )

    session = repo.writable_session("main")
    zarr.create_array(session.store, data=np.arange(10), chunks=(5,))
    tip = session.commit("first data")
    repo.create_tag("v1", tip)

    again = icechunk.Repository.open(place)
    assert [s.message for s in again.ancestry(tag="v1")] == ["first data", root.message]
    assert again.diff(from_snapshot_id=root.id, to_snapshot_id=tip).new_arrays == {"/"}
    assert zarr.open_array(again.readonly_session(tag="v1").store)[:].tolist() == list(range(10))


async def test_every_file_of_a_version_2_repository_passes_inspection(tmp_path):
    storage = MemoryStorage()
    await create_repository(storage)
    await write_to(tmp_path, storage)
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(tmp_path)))

    info = repo.inspect_repo_info()
    assert info["header"]["app_name"] == "zfuse"
    assert info["branches"] == {"main": str(INITIAL_SNAPSHOT)}
    assert [u["update_type"]["type"] for u in info["latest_updates"]] == ["RepoInitializedUpdate"]
    assert repo.inspect_snapshot(str(INITIAL_SNAPSHOT))["nodes"] == []
    assert repo.inspect_transaction_log(str(INITIAL_SNAPSHOT))["new_groups"] == []


async def test_only_one_of_several_creators_succeeds():
    storage = MemoryStorage()
    outcomes = []

    async def create():
        try:
            await create_repository(storage)
        except AlreadyExistsError:
            outcomes.append("lost")
        else:
            outcomes.append("won")

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(create)
    assert sorted(outcomes) == ["lost"] * 4 + ["won"]


@pytest.mark.parametrize(("key", "says"), [("repo", "already"), ("notes.txt", "not empty")])
async def test_refuses_a_place_that_is_in_use(key, says):
    storage = MemoryStorage()
    await storage.put(key, b"x")
    with pytest.raises(AlreadyExistsError, match=says):
        await create_repository(storage)


async def test_refuses_a_version_that_does_not_exist():
    with pytest.raises(InvalidInputError, match="versions 1 and 2"):
        await create_repository(MemoryStorage(), spec_version=3)
