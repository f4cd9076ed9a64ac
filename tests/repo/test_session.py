"""What a session promises; what commits look like to others is judged in tests/compat."""

import pytest
import trio
import trio.testing

from tests.compat.documents import GROUP
from tests.repo.conftest import LINE
from tests.repo.driving import NoVirtualChunks, read_ref, session_keys
from tests.repo.stores import another, history, keys
from zfuse.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidInputError,
    NotAllowedError,
    NotFoundError,
    StorageTimeoutError,
)
from zfuse.format.chunk_ref import InlineRef, NativeRef
from zfuse.format.layout import chunk_key
from zfuse.repo.repository import Repository
from zfuse.repo.session import Session


async def test_small_chunks_are_kept_in_the_session_and_large_ones_stored_at_once(session, store):
    small = await session.set_chunk("/a", (1,), b"x" * 512)
    large = await session.set_chunk("/a", (2,), b"y" * 513)
    assert small == InlineRef(b"x" * 512)
    assert isinstance(large, NativeRef)
    assert (await store.get(chunk_key(large.chunk_id))).data == b"y" * 513
    node = session.node("/a")
    for coords, ref in {(1,): small, (2,): large, (3,): None}.items():
        assert await session.chunk_ref(node.path, coords) == ref
    assert await read_ref(session.repository.assets, large) == b"y" * 513
    await session.delete_chunk("/a", (0,))
    assert await session.chunk_ref(node.path, (0,)) is None


async def test_chunks_that_an_array_can_not_have_are_refused_before_they_are_stored(session, store):
    stored = len([info async for info in store.list("chunks/")])
    for coords, data in (((4,), b"x" * 999), ((0, 0), b"x" * 999), ((0,), b"")):
        with pytest.raises(InvalidInputError):
            await session.set_chunk("/a", coords, data)
    for path in ("/", "/nothing"):
        with pytest.raises(NotFoundError):
            await session.set_chunk(path, (0,), b"x" * 999)
    with pytest.raises(InvalidInputError):
        await session.store_chunk(b"")
    assert len([info async for info in store.list("chunks/")]) == stored
    assert not session.has_changes


async def test_nothing_to_commit(session, store):
    assert await session.commit("nothing") is None
    assert not await session.set_metadata("/a", LINE)
    assert await session.commit("the same bytes") is None
    assert await history(store) == ["base"]
    empty = await session.commit("empty", allow_empty=True, metadata={"k": [1]})
    assert session.base.id == empty
    assert session.base.metadata == {"k": [1]}
    assert await history(store) == ["empty", "base"]


async def test_what_changes_during_a_commit_belongs_to_the_next(session, store):
    await session.set_chunk("/a", (1,), b"first")
    store.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.commit, "first")
        await store.waits.wait()
        await session.set_chunk("/a", (1,), b"second")
        await session.set_chunk("/a", (2,), b"second")
        await session.set_metadata("/new", LINE)
        await session.move("/a", "/b")
        assert session.has_changes
        assert await session_keys(session) == {
            "b/zarr.json": LINE,
            "b/c/0": b"base",
            "b/c/1": b"second",
            "b/c/2": b"second",
            "new/zarr.json": LINE,
        }
        whole = session.changes()
        assert len(whole.new) == len(whole.moved) == 1
        store.gate.set()
    assert await keys(store) == {"a/zarr.json": LINE, "a/c/0": b"base", "a/c/1": b"first"}
    shown = await session_keys(session)
    assert shown["b/c/1"] == b"second"
    await session.commit("second")
    assert await keys(store) == shown
    assert await history(store) == ["second", "first", "base"]


async def test_a_commit_that_fails_leaves_everything_to_be_committed(session, store):
    await session.set_chunk("/a", (1,), b"first")
    for late_s in (700, -700):  # 600 are allowed, and a busy machine takes its time
        store.late_s = late_s
        with pytest.raises(InvalidInputError, match=r"[67]\d\d s apart"):
            await session.commit("wrong clock")
    store.late_s = 500
    store.silent = True
    with pytest.raises(StorageTimeoutError):
        await session.commit("store down")
    store.silent = False
    assert await history(store) == ["base"]
    await session.set_chunk("/a", (2,), b"second")
    shown = await session_keys(session)
    await session.commit("both")
    assert await keys(store) == shown
    assert await history(store) == ["both", "base"]


async def test_two_commits_at_once_are_one_after_the_other(session, store):
    await session.set_chunk("/a", (1,), b"first")
    outcomes = []

    async def run():
        outcomes.append(await session.commit("one of them"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        nursery.start_soon(run)
    assert len([outcome for outcome in outcomes if outcome is not None]) == 1
    assert await history(store) == ["one of them", "base"]


async def test_amending_replaces_the_last_commit(session, store):
    if session.repository.state.spec_version == 1:
        with pytest.raises(NotAllowedError):
            await session.amend("not in version 1")
        return
    before = session.base.id
    await session.set_chunk("/a", (1,), b"x")
    amended = await session.amend("better", metadata={"k": 1})
    assert await history(store) == ["better"]
    assert session.base.id == amended
    assert (await keys(store))["a/c/1"] == b"x"
    log = await session.repository.assets.fetch_transaction_log(amended)
    (array,) = log.new_arrays
    assert log.updated_chunks[array][0].tolist() == [[0], [1]]
    assert before in session.repository.state.info.snapshots
    await session.amend("only the message")
    assert await history(store) == ["only the message"]
    theirs = await another(store)
    await theirs.commit("theirs", allow_empty=True)
    await session.set_chunk("/a", (2,), b"y")
    with pytest.raises(ConflictError):
        await session.amend("too late")
    assert session.has_changes
    await session.commit("then so")
    assert await history(store) == ["then so", "theirs", "only the message"]


async def test_the_first_snapshot_is_not_amended(repository):
    session = await Session.open(repository, "main")
    await session.set_metadata("/", GROUP)
    with pytest.raises(NotAllowedError):
        await session.amend("never")
    assert session.has_changes


# -- copies and new branches ----------------------------------------------------------------


async def test_a_copy_has_the_chunks_of_all_layers_and_stores_none(session, store):
    await session.set_metadata("/g", GROUP)
    await session.move("/a", "/g/a")
    await session.set_chunk("/g/a", (1,), b"x" * 600)
    await session.commit("second")
    await session.set_chunk("/g/a", (2,), b"pending")
    await session.set_chunk("/g/a", (3,), b"pending")
    store.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.commit, "third")
        await store.waits.wait()
        await session.delete_chunk("/g/a", (3,))
        await session.delete_chunk("/g/a", (0,))
        await session.set_chunk("/g/a", (2,), b"latest")
        stored = len([info async for info in store.list("chunks/")])
        copies = await session.copy("/g", "/h")
        assert len([info async for info in store.list("chunks/")]) == stored
        store.gate.set()
    assert [node.path for node in copies] == ["/h", "/h/a"]
    await session.set_chunk("/g/a", (1,), b"only in the original")
    shown = await session_keys(session)
    assert {key: data for key, data in shown.items() if key.startswith("h/a/c")} == {
        "h/a/c/1": b"x" * 600,
        "h/a/c/2": b"latest",
    }
    await session.commit("copied")
    assert await keys(store) == shown
    with pytest.raises(NotFoundError):
        await session.copy("/nothing", "/x")
    with pytest.raises(AlreadyExistsError):
        await session.copy("/g", "/h")


async def test_changes_go_to_a_new_branch_when_they_can_not_go_to_the_old_one(session, store):
    theirs = await another(store)
    await theirs.set_chunk("/a", (0,), b"theirs")
    await theirs.commit("theirs")
    await session.set_chunk("/a", (0,), b"ours")
    with pytest.raises(ConflictError):
        await session.commit("mine")
    with pytest.raises(AlreadyExistsError):
        await session.branch_off("main")
    await session.branch_off("mine")
    tip = await session.commit("mine")
    repository = await Repository.open(store, virtual=NoVirtualChunks())
    assert repository.branches == {"main": theirs.base.id, "mine": tip}
    assert [info.message async for info in repository.ancestry(tip)][:2] == ["mine", "base"]
    await session.set_chunk("/a", (1,), b"more")
    await session.commit("more")
    assert (await history(store))[0] == "theirs"


@pytest.mark.parametrize("carried_out", [True, False])
async def test_the_answer_to_a_new_branch_gets_lost(carried_out, session, store):
    store.lose = [carried_out]
    await session.branch_off("mine")
    assert session.repository.branches["mine"] == session.base.id
    if session.repository.state.spec_version == 1:
        with pytest.raises(InvalidInputError, match="slash"):
            await session.branch_off("a/b")
