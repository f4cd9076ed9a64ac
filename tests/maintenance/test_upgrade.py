"""Upgrades that must not be, and what they leave."""

import pytest

from tests.compat.documents import GROUP
from tests.repo.driving import NoVirtualChunks
from tests.repo.stores import Store
from zfuse.errors import ConflictError, CorruptionError, MissingObjectError, OutcomeUnknownError
from zfuse.format.repo_info import UpdateKind
from zfuse.maintenance.upgrade import upgrade_repository
from zfuse.repo.create import create_repository
from zfuse.repo.refs import create_branch, create_tag, delete_tag
from zfuse.repo.repository import Repository
from zfuse.repo.session import Session


async def commit(repository, name, branch="main"):
    session = await Session.open(repository, branch)
    await session.set_metadata(f"/{name}", GROUP)
    return await session.commit(name)


@pytest.fixture
async def old():
    """A version 1 repository with a branch, a tag and a deleted tag."""
    store = Store()
    await create_repository(store, spec_version=1)
    repository = await Repository.open(store, virtual=NoVirtualChunks())
    first = await commit(repository, "a")
    await create_branch(repository, "dev", first)
    await commit(repository, "x", "dev")
    await create_tag(repository, "v1", first)
    await create_tag(repository, "gone", first)
    await delete_tag(repository, "gone")
    await commit(repository, "b")
    return repository


async def contents(storage):
    return {info.key: (await storage.get(info.key)).data async for info in storage.list("")}


async def test_all_refs_come_along(old):
    branches, tags = dict(old.branches), dict(old.tags)
    summary = await upgrade_repository(old)
    assert (summary.branches, summary.tags, summary.deleted_tags, summary.snapshots) == (2, 1, 1, 4)
    again = await Repository.open(old.storage, virtual=NoVirtualChunks())
    for each in (old, again):
        assert each.state.spec_version == 2
        assert (each.branches, each.tags) == (branches, tags)
        assert each.state.info.deleted_tags == ("gone",)
    assert not [key for key in await contents(old.storage) if key.startswith("refs/")]
    assert await commit(again, "after", "dev")


@pytest.mark.parametrize("ref", ["branch.dev", "branch.main", "tag.v1"])
@pytest.mark.parametrize("content", [b"", b"{}", b'{"snapshot":"x"}'])
async def test_a_ref_that_can_not_be_read_refuses(old, ref, content):
    await old.storage.put(f"refs/{ref}/ref.json", content)
    before = await contents(old.storage)
    with pytest.raises(CorruptionError, match=ref):
        await upgrade_repository(old)
    assert await contents(old.storage) == before


@pytest.mark.parametrize("name", ["a", "x", "b"])
async def test_a_snapshot_that_is_gone_refuses(old, name):
    for ref in ("main", "dev"):
        async for info in old.ancestry(old.branches[ref]):
            if info.message == name:
                gone = info.id
    await old.storage.delete(f"snapshots/{gone}")
    before = await contents(old.storage)
    with pytest.raises(MissingObjectError, match=str(gone)):
        await upgrade_repository(old)
    assert await contents(old.storage) == before


async def test_a_damaged_configuration_refuses(old):
    await old.storage.put("config.yaml", b"- not\n- settings")
    before = await contents(old.storage)
    with pytest.raises(CorruptionError):
        await upgrade_repository(old)
    assert await contents(old.storage) == before


async def test_a_damaged_snapshot_that_nobody_needs_is_left_alone(old):
    await old.storage.put("snapshots/00000000000000000000", b"nonsense")
    assert (await upgrade_repository(old)).snapshots == 4


async def test_a_branch_that_moves_meanwhile_refuses(old):
    theirs = await Repository.open(old.storage, virtual=NoVirtualChunks())
    moved = False

    def meddle(what, done, whole):
        nonlocal moved
        if what == "snapshots" and not moved:
            moved = True
            stored = old.storage._objects
            stored["refs/branch.dev/ref.json"] = stored["refs/branch.main/ref.json"]

    with pytest.raises(ConflictError, match="nothing was done"):
        await upgrade_repository(old, tell=meddle)
    await theirs.refresh()
    assert theirs.state.spec_version == 1


async def test_who_comes_second_is_told(old):
    put, others = old.storage.put, False

    async def late(key, data, *, expect=None):
        nonlocal others
        if key == "repo" and not others:
            others = True
            await put(key, data)
        return await put(key, data, expect=expect)

    old.storage.put = late
    with pytest.raises(ConflictError, match="somebody else upgraded"):
        await upgrade_repository(old)


@pytest.mark.parametrize("carried_out", [False, True])
async def test_a_lost_answer_and_a_second_run(old, carried_out):
    old.storage.lose = [carried_out]
    with pytest.raises(OutcomeUnknownError):
        await upgrade_repository(old)
    summary = await upgrade_repository(old)
    assert summary.was_version_2 is carried_out
    assert summary.files_deleted == 5
    kinds = [each.kind async for each in old.updates()]
    assert (kinds[0], kinds.count(UpdateKind.REPO_MIGRATED)) == (UpdateKind.REPO_MIGRATED, 1)


async def test_files_of_version_1_can_stay(old):
    refs = {key for key in await contents(old.storage) if key.startswith("refs/")}
    assert not (await upgrade_repository(old, delete_unused_v1_files=False)).files_deleted
    assert refs <= (await contents(old.storage)).keys()
    assert (await upgrade_repository(old)).files_deleted == len(refs)
