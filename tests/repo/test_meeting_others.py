"""Others commit to the branch of a session."""

import pytest
import trio
import trio.testing

from tests.compat.documents import GROUP
from tests.repo.conftest import LINE
from tests.repo.driving import session_keys, zfuse_keys
from tests.repo.stores import another, history, keys
from zfuse.errors import BusyError, ConflictError
from zfuse.repo.catch_up import BranchConflictError
from zfuse.repo.conflicts import ChunkChoice, ConflictKind, ConflictPolicy


async def test_a_conflict_says_what_and_who_and_leaves_the_session_as_it_was(session, store):
    theirs = await another(store)
    await theirs.set_metadata("/other", GROUP)
    await theirs.commit("harmless")
    await theirs.set_chunk("/a", (0,), b"theirs")
    await theirs.set_metadata("/new", GROUP)
    culprit = await theirs.commit("culprit")
    await session.set_chunk("/a", (0,), b"ours")
    await session.set_metadata("/new", LINE)
    base, shown = session.base.id, await session_keys(session)
    with pytest.raises(BranchConflictError, match=r"/a, /new on the branch 'main'") as caught:
        await session.commit("mine")
    found = {(o.conflict.kind, o.conflict.path, o.by.id) for o in caught.value.obstacles}
    assert found == {
        (ConflictKind.CHUNK_DOUBLE_UPDATE, "/a", culprit),
        (ConflictKind.NEW_NODE_CONFLICTS_WITH_EXISTING_NODE, "/new", culprit),
    }
    assert {o.by.message for o in caught.value.obstacles} == {"culprit"}
    assert (session.base.id, await session_keys(session)) == (base, shown)
    await session.delete("/new")
    await session.commit("mine", policy=ConflictPolicy(ChunkChoice.OURS))
    assert (await keys(store))["a/c/0"] == b"ours"
    assert await history(store) == ["mine", "culprit", "harmless", "base"]


async def test_moves_of_others_are_in_the_way_of_everything(session, store):
    theirs = await another(store)
    await theirs.move("/a", "/z")
    await theirs.commit("moved")
    await session.set_metadata("/g", GROUP)
    if session.repository.state.spec_version == 1:  # which has no word for moves
        await session.commit("mine")
    else:
        with pytest.raises(BranchConflictError, match="others moved nodes on") as caught:
            await session.commit("mine")
        assert [o.by.message for o in caught.value.obstacles] == ["moved"]


async def test_a_base_that_others_amended_is_no_part_of_the_branch_any_more(session, store):
    if session.repository.state.spec_version == 1:  # which amends nothing
        return
    theirs = await another(store)
    await theirs.set_chunk("/a", (0,), b"theirs")
    await theirs.amend("better base")
    await session.set_chunk("/a", (1,), b"ours")
    shown = await session_keys(session)
    for attempt in (session.commit("mine"), session.rebase()):
        with pytest.raises(ConflictError, match="history rewritten"):
            await attempt
    with pytest.raises(ConflictError):
        await session.amend("mine")
    assert await session_keys(session) == shown
    assert session.has_changes
    await session.branch_off("mine")
    await session.commit("mine")
    assert await history(store) == ["better base"]
    repository = session.repository
    assert await zfuse_keys(repository, repository.lookup_branch("mine")) == shown


async def test_theirs_can_win(session, store):
    theirs = await another(store)
    await theirs.set_chunk("/a", (0,), b"theirs")
    await theirs.commit("theirs")
    await session.set_chunk("/a", (0,), b"ours")
    assert await session.commit("mine", policy=ConflictPolicy(ChunkChoice.THEIRS)) is None
    assert await history(store) == ["theirs", "base"]
    assert not session.has_changes
    assert (await session_keys(session))["a/c/0"] == b"theirs"


async def test_changes_wait_while_a_commit_is_brought_on_top_of_others(session, store):
    theirs = await another(store)
    await theirs.set_metadata("/theirs", GROUP)
    await theirs.commit("theirs")
    await session.set_chunk("/a", (1,), b"first")
    gate, written = trio.Event(), []
    inner = store.put

    async def slow_second(key, data, *, expect=None):
        if key.startswith("snapshots/") and "/theirs" in session.tree.nodes:
            store.waits.set()
            await gate.wait()
        return await inner(key, data, expect=expect)

    async def write():
        await session.set_chunk("/a", (1,), b"second")
        written.append(session.base.id)

    store.put = slow_second
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.commit, "mine")
        await store.waits.wait()
        nursery.start_soon(write)
        await trio.testing.wait_all_tasks_blocked()
        assert written == []
        gate.set()
    assert written == [session.base.id]
    assert (await keys(store))["a/c/1"] == b"first"
    assert (await session_keys(session))["a/c/1"] == b"second"


async def test_changes_during_the_first_attempt_are_rebased_too(session, store):
    theirs = await another(store)
    await theirs.set_metadata("/theirs", GROUP)
    await theirs.set_chunk("/a", (3,), b"theirs")
    await theirs.commit("theirs")
    await session.set_chunk("/a", (1,), b"first")
    gate, inner = trio.Event(), store.put

    async def slow(key, data, *, expect=None):
        if key.startswith("snapshots/"):
            store.waits.set()
            await gate.wait()
        return await inner(key, data, expect=expect)

    store.put = slow
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.commit, "mine")
        await store.waits.wait()
        await session.set_metadata("/late", GROUP)
        await session.set_chunk("/a", (1,), b"late")
        gate.set()
    assert (await keys(store))["a/c/1"] == b"first"
    assert "late/zarr.json" not in await keys(store)
    assert {"late/zarr.json", "theirs/zarr.json"} <= (await session_keys(session)).keys()
    assert (await session_keys(session))["a/c/1"] == b"late"
    # and if they are what is in the way nothing is committed
    await theirs.rebase()
    await theirs.set_metadata("/clash", LINE)
    await theirs.commit("theirs again")
    gate, store.waits = trio.Event(), trio.Event()
    caught = []

    async def run():
        try:
            await session.commit("mine again")
        except BranchConflictError as error:
            caught.extend(o.conflict.path for o in error.obstacles)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await store.waits.wait()
        await session.set_metadata("/clash", GROUP)
        gate.set()
    assert caught == ["/clash"]
    assert {"late/zarr.json", "clash/zarr.json"} <= (await session_keys(session)).keys()


async def test_rebase_without_commit(session, store):
    assert not await session.rebase()
    theirs = await another(store)
    await theirs.set_metadata("/theirs", GROUP)
    tip = await theirs.commit("theirs")
    await session.set_chunk("/a", (1,), b"x")
    assert await session.rebase()
    assert session.base.id == tip
    assert session.has_changes
    assert set(await session_keys(session)) == {
        *("a/zarr.json", "a/c/0", "a/c/1", "theirs/zarr.json")
    }


async def test_a_branch_that_goes_on_for_ever_is_given_up(session, store, monkeypatch):
    async def no_pause(attempt):
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr("zfuse.repo.session.pause", no_pause)
    monkeypatch.setattr("zfuse.repo.session._ATTEMPTS", 3)
    theirs = await another(store)
    inner = store.put

    async def others_first(key, data, *, expect=None):
        if key.startswith("snapshots/") and not ahead:
            ahead.append(1)
            await theirs.commit("faster", allow_empty=True)
            ahead.clear()
        return await inner(key, data, expect=expect)

    ahead = []
    store.put = others_first
    await session.set_chunk("/a", (1,), b"x")
    with pytest.raises(BusyError, match="try again"):
        await session.commit("mine")
    assert session.has_changes
    store.put = inner
    await session.commit("mine")
    assert (await history(store)).count("mine") == 1
