"""The answer to the write that makes a commit visible gets lost: it is made once all the same."""

import pytest
import trio
import trio.testing

from tests.compat.documents import GROUP
from tests.repo.driving import session_keys, zfuse_keys
from tests.repo.stores import another, history, keys
from zfuse.errors import NotFoundError, OutcomeUnknownError, StorageError, StorageTimeoutError
from zfuse.format.ids import SnapshotId
from zfuse.format.repo_update import delete_branch
from zfuse.repo.commit import has_landed
from zfuse.repo.new_ids import new_id
from zfuse.repo.publish import change_repository
from zfuse.repo.refs import create_branch


@pytest.mark.parametrize("carried_out", [True, False])
async def test_a_lost_answer_is_found_out(carried_out, session, store):
    store.lose = [carried_out]
    await session.set_chunk("/a", (1,), b"x")
    snapshot_id = await session.commit("lost")
    assert await history(store) == ["lost", "base"]
    assert (await session_keys(session))["a/c/1"] == b"x"
    assert session.base.id == snapshot_id
    assert not session.has_changes
    assert await session.commit("again") is None


async def test_a_lost_answer_is_found_out_though_others_went_on(session, store):
    await session.set_chunk("/a", (1,), b"x")
    store.lose = [True]
    inner = store.put

    async def put_then_others(key, data, *, expect=None):
        try:
            return await inner(key, data, expect=expect)
        except OutcomeUnknownError:
            theirs = await another(store)
            await theirs.set_metadata("/theirs", GROUP)
            await theirs.commit("on top")
            raise

    store.put = put_then_others
    await session.commit("lost")
    assert await history(store) == ["on top", "lost", "base"]
    assert not session.has_changes


async def test_a_lost_write_that_others_overtook_is_made_anew_on_top(session, store):
    await session.set_chunk("/a", (1,), b"x")
    store.lose = [False]
    inner = store.put

    async def others_then_lost(key, data, *, expect=None):
        if store.lose and (key == "repo" or key.startswith("refs/")):
            lost, store.lose = store.lose, []
            theirs = await another(store)
            await theirs.set_metadata("/theirs", GROUP)
            await theirs.commit("faster")
            store.lose = lost
        return await inner(key, data, expect=expect)

    store.put = others_then_lost
    await session.commit("mine")
    assert await history(store) == ["mine", "faster", "base"]


async def unsure(session, store, *, carried_out):
    """Let a commit end without anybody knowing how."""
    inner = store.put

    async def put_then_silence(key, data, *, expect=None):
        try:
            return await inner(key, data, expect=expect)
        except OutcomeUnknownError:
            store.silent = True
            raise

    store.put, store.lose = put_then_silence, [carried_out]
    with pytest.raises(OutcomeUnknownError, match="try again"):
        await session.commit("unsure")
    store.put, store.silent = inner, False
    assert session.has_changes


@pytest.mark.parametrize("carried_out", [True, False])
async def test_a_commit_of_unknown_outcome_is_never_made_twice(carried_out, session, store):
    await session.set_chunk("/a", (1,), b"x")
    await unsure(session, store, carried_out=carried_out)
    assert await history(store) == (["unsure", "base"] if carried_out else ["base"])
    assert (await session_keys(session))["a/c/1"] == b"x"
    snapshot_id = await session.commit("again")
    assert await history(store) == ["unsure", "base"]
    assert session.base.id == snapshot_id
    assert not session.has_changes


@pytest.mark.parametrize("carried_out", [True, False])
async def test_changes_after_a_commit_of_unknown_outcome_become_another(
    carried_out, session, store
):
    await session.set_chunk("/a", (1,), b"x")
    await unsure(session, store, carried_out=carried_out)
    await session.set_chunk("/a", (1,), b"later")
    await session.set_metadata("/g", GROUP)
    shown = await session_keys(session)
    await session.commit("rest")
    assert await history(store) == ["rest", "unsure", "base"]
    assert await keys(store) == shown


@pytest.mark.parametrize("carried_out", [True, False])
async def test_others_go_on_after_a_commit_of_unknown_outcome(carried_out, session, store):
    await session.set_chunk("/a", (1,), b"x")
    await unsure(session, store, carried_out=carried_out)
    theirs = await another(store)
    await theirs.set_metadata("/theirs", GROUP)
    await theirs.commit("theirs")
    await session.set_chunk("/a", (2,), b"later")
    await session.commit("rest")
    order = ["rest", "theirs", "unsure", "base"] if carried_out else ["rest", "theirs", "base"]
    assert await history(store) == order
    assert await keys(store) == await session_keys(session)
    assert (await keys(store))["a/c/1"] == b"x"


@pytest.mark.parametrize("carried_out", [True, False])
async def test_discarding_clears_up_first(carried_out, session, store):
    await session.set_chunk("/a", (1,), b"x")
    await unsure(session, store, carried_out=carried_out)
    await session.set_chunk("/a", (2,), b"later")
    await session.discard()
    assert not session.has_changes
    assert await session_keys(session) == await keys(store)
    assert await history(store) == ["unsure", "base"]


async def test_a_commit_that_is_cancelled_while_it_is_published_is_cleared_up(session, store):
    await session.set_chunk("/a", (1,), b"x")
    store.gate = trio.Event()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.commit, "cancelled")
            await store.waits.wait()
            scope.cancel()
    store.gate = None
    assert session.is_unsure
    assert session.has_changes
    await session.commit("again")
    assert await history(store) == ["cancelled", "base"]
    assert not session.has_changes
    assert not session.is_unsure


@pytest.mark.parametrize("carried_out", [True, False])
async def test_a_commit_of_unknown_outcome_is_finished(carried_out, session, store):
    assert await session.finish() is None
    await session.set_chunk("/a", (1,), b"x")
    await unsure(session, store, carried_out=carried_out)
    assert session.is_unsure
    await session.set_chunk("/a", (2,), b"later")
    assert await session.finish() == session.base.id
    assert not session.is_unsure
    assert await history(store) == ["unsure", "base"]
    assert "a/c/2" not in await keys(store)
    assert session.has_changes


async def test_after_a_crash_a_chosen_id_tells_whether_the_commit_landed(session, store):
    chosen = new_id(SnapshotId)
    repository = session.repository
    assert not await has_landed(repository, "main", chosen)
    await session.set_chunk("/a", (1,), b"x")
    assert await session.commit("mine", snapshot_id=chosen) == chosen
    assert await has_landed(repository, "main", chosen)
    assert not await has_landed(repository, "main", new_id(SnapshotId))
    assert not await has_landed(repository, "gone", new_id(SnapshotId))


@pytest.mark.parametrize("carried_out", [True, False])
async def test_a_store_that_stays_silent_leaves_the_outcome_unknown(carried_out, session, store):
    await session.set_chunk("/a", (1,), b"x")
    await unsure(session, store, carried_out=carried_out)
    store.silent = True
    for _ in range(2):
        with pytest.raises(StorageError):
            await session.commit("again")
        with pytest.raises(StorageError):
            await session.discard()
    store.silent = False
    await session.set_chunk("/a", (2,), b"y")
    await session.commit("rest")
    assert await history(store) == ["rest", "unsure", "base"]
    assert {"a/c/1", "a/c/2"} <= (await keys(store)).keys()


async def test_a_second_write_that_the_store_refuses_leaves_the_outcome_unknown(session, store):
    await session.set_chunk("/a", (1,), b"x")
    await unsure(session, store, carried_out=False)
    inner = store.put

    async def refuse(key, data, *, expect=None):
        raise StorageTimeoutError("the store is down")

    store.put = refuse
    with pytest.raises(StorageTimeoutError):
        await session.commit("again")
    store.put = inner
    await session.commit("again")
    assert await history(store) == ["unsure", "base"]


async def test_a_branch_goes_away_after_a_commit_of_unknown_outcome(session, store):
    repository = session.repository
    await session.branch_off("dev")
    await session.set_chunk("/a", (1,), b"x")
    await unsure(session, store, carried_out=False)
    await session.set_chunk("/a", (2,), b"y")
    before = session.base.id
    if repository.state.spec_version == 1:
        await store.delete("refs/branch.dev/ref.json")
    else:
        await change_repository(repository, lambda info, stamp: delete_branch(info, "dev", stamp))
    with pytest.raises(NotFoundError):
        await session.commit("nowhere")
    await create_branch(repository, "dev", before)
    shown = await session_keys(session)
    tip = await session.commit("all")
    assert await zfuse_keys(repository, tip) == shown
    assert {"a/c/1", "a/c/2"} <= shown.keys()
