"""What expiration takes out of a history, and what it leaves."""

import time

import pytest

from tests.compat.documents import GROUP
from tests.repo.driving import NoVirtualChunks
from tests.repo.stores import another
from zfuse.errors import ReadOnlyError
from zfuse.format.expiration import ExpirationRule
from zfuse.format.ids import INITIAL_SNAPSHOT
from zfuse.format.repo_info import Availability, UpdateKind
from zfuse.maintenance.expire import apply_expiration, expire_snapshots, plan_expiration
from zfuse.maintenance.gc import collect_garbage
from zfuse.repo.create import create_repository
from zfuse.repo.refs import create_branch, create_tag
from zfuse.repo.repository import Repository
from zfuse.repo.session import Session
from zfuse.repo.settings import set_status


def now():
    return time.time_ns() // 1000


async def commit(repository, name, branch="main"):
    session = await Session.open(repository, branch)
    await session.set_metadata(f"/{name}", GROUP)
    return await session.commit(name)


@pytest.fixture
async def history(repository):
    """Return the ids: a-b-c-d on main, x on dev from b, a tag at c."""
    made = {name: await commit(repository, name) for name in "abcd"}
    await create_branch(repository, "dev", made["b"])
    made["x"] = await commit(repository, "x", "dev")
    await create_tag(repository, "v1", made["c"])
    return made


async def messages(repository, tip):
    return [info.message async for info in repository.ancestry(tip)][:-1]


async def test_branches_that_somebody_needs_stay(repository, history):
    await create_branch(repository, "other", history["b"])
    rule = ExpirationRule(now(), delete_branches=True, kept_branches=frozenset({"dev"}))
    assert (await plan_expiration(repository, rule)).branches == {"other"}
    assert (await apply_expiration(repository, rule)).branches == {"other"}
    assert set(repository.branches) == {"main", "dev"}
    assert await messages(repository, history["x"]) == ["x"]


async def test_tips_stay_and_the_rest_goes(repository, history):
    rule = ExpirationRule(now())
    planned = await plan_expiration(repository, rule)
    assert await messages(repository, history["d"]) == ["d", "c", "b", "a"]
    expired = await expire_snapshots(repository, now())
    assert planned.snapshots == expired
    assert {history["a"], history["b"]} <= expired
    assert await messages(repository, history["c"]) == ["c"]
    assert await messages(repository, history["x"]) == ["x"]
    # Version 1 cuts each history by itself; in version 2 a tag stays part of the others.
    whole = ["d"] if repository.state.spec_version == 1 else ["d", "c"]
    assert await messages(repository, history["d"]) == whole
    assert set(repository.branches) == {"main", "dev"}
    assert set(repository.tags) == {"v1"}
    again = await Repository.open(repository.storage, virtual=NoVirtualChunks())
    assert (again.branches, again.tags) == (repository.branches, repository.tags)


async def test_refs_of_old_snapshots_go_on_demand_but_main(repository, history):
    await expire_snapshots(
        repository, now(), delete_expired_branches=True, delete_expired_tags=True
    )
    again = await Repository.open(repository.storage, virtual=NoVirtualChunks())
    for each in (repository, again):
        assert dict(each.branches) == {"main": history["d"]}
        assert not each.tags


async def test_nothing_old_nothing_gone(repository, history):
    assert not await expire_snapshots(
        repository, 1, delete_expired_branches=True, delete_expired_tags=True
    )
    assert await messages(repository, history["d"]) == ["d", "c", "b", "a"]
    assert set(repository.tags) == {"v1"}


async def test_a_session_behind_the_expiration_is_rebased(store):
    """The logs of what expired are kept: they tell what others changed since the base."""
    await create_repository(store)
    repository = await Repository.open(store, virtual=NoVirtualChunks())
    await commit(repository, "a")
    behind = await another(store)
    for name in "bcd":
        await commit(repository, name)
    info = repository.state.info
    expired = await expire_snapshots(
        repository, info.snapshots[repository.branches["main"]].flushed_at
    )
    assert behind.base.id in expired
    await collect_garbage(repository, now())
    tip = repository.state.info.snapshots[repository.branches["main"]]
    assert len(tip.pruned_ancestor_tx_logs) == 3
    assert tip.parent_id == INITIAL_SNAPSHOT
    keys = {info.key async for info in store.list("transactions/")}
    assert {f"transactions/{each}" for each in tip.pruned_ancestor_tx_logs} <= keys
    assert [each.kind async for each in repository.updates()][:2] == [
        UpdateKind.GC_RAN,
        UpdateKind.EXPIRATION_RAN,
    ]


async def test_a_repository_that_takes_no_changes_is_left_alone(store):
    await create_repository(store)
    repository = await Repository.open(store, virtual=NoVirtualChunks())
    await commit(repository, "a")
    await set_status(repository, Availability.READ_ONLY, None)
    with pytest.raises(ReadOnlyError):
        await expire_snapshots(repository, now())


async def test_a_branch_that_moved_meanwhile_is_not_deleted(store):
    """Version 1: between looking and deleting somebody commits to the branch."""
    await create_repository(store, spec_version=1)
    repository = await Repository.open(store, virtual=NoVirtualChunks())
    await create_branch(repository, "dev", await commit(repository, "a"))
    theirs = await Repository.open(store, virtual=NoVirtualChunks())
    new = await commit(theirs, "theirs", "dev")
    await expire_snapshots(repository, now(), delete_expired_branches=True)
    assert repository.branches["dev"] == new
