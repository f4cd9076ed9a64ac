"""Blocking methods and those to be awaited in asyncio do the same work."""

import asyncio
import inspect

import icechunk
import pytest
import zarr

import zfuse
from tests.api.everyday import group, make_world, write

pytestmark = pytest.mark.compat

WITHOUT_TWIN = {"from_bytes", "as_bytes"}


@pytest.fixture
def world():
    """Return a repository in memory with some history."""
    return make_world(zfuse, zfuse.in_memory_storage())


def calls(names):
    """Yield what *names* has that can be called, with its signature as the official one."""
    for name in sorted(vars(names)):
        method = getattr(names, name)
        if not name.startswith("_") and callable(method):
            yield name, inspect.signature(method)


@pytest.mark.parametrize("name", ["Repository", "Session", "IcechunkStore"])
def test_every_official_method_is_there_with_the_same_parameters(name):
    """Names, kinds and defaults of parameters, in their order."""
    ours = getattr(zfuse, name)
    for method, signature in calls(getattr(icechunk, name)):
        if method == "set_partial_values":  # zarr has none any more
            continue
        found = inspect.signature(getattr(ours, method))
        told = [(p.name, p.kind, p.default) for p in found.parameters.values()]
        wanted = [(p.name, p.kind, p.default) for p in signature.parameters.values()]
        assert told == wanted, method


def test_every_public_name_of_the_official_library_is_there():
    """At the top and in the modules that its documentation names."""
    missing = [name for name in icechunk.__all__ if not hasattr(zfuse, name)]
    for module in ("config", "conflicts", "credentials", "storage", "virtual", "ops", "snapshots"):
        official = getattr(icechunk, module)
        missing += [n for n in official.__all__ if not hasattr(getattr(zfuse, module), n)]
    assert missing == []
    with pytest.raises(AttributeError, match="no_such_name"):
        zfuse.no_such_name  # noqa: B018 - it fails
    assert {"Repository", "s3_storage", "ConflictError"} <= set(dir(zfuse))


def test_a_life_in_asyncio():
    """A repository is made, written and read with nothing but awaited methods."""

    async def live():
        repo = await zfuse.Repository.create_async(zfuse.in_memory_storage())
        session = await repo.writable_session_async("main")
        root = await zarr.api.asynchronous.group(store=session.store)
        await root.create_array("a", shape=(2,), chunks=(1,), dtype="i4", fill_value=9)
        first = await session.commit_async("first", {"n": 1})
        await repo.create_tag_async("v1", first)
        await repo.create_branch_async("dev", first)
        moving = await repo.rearrange_session_async("dev")
        await moving.move_async("/a", "/b")
        second = await moving.commit_async("moved")
        session = await repo.writable_session_async("dev")
        fork = session.fork()
        await session.merge_async(fork)
        await session.rebase_async(zfuse.ConflictDetector())
        with pytest.raises(zfuse.SessionStateError, match="nothing to commit"):
            await session.commit_async("nothing")
        return {
            "branches": await repo.list_branches_async(),
            "tags": await repo.list_tags_async(),
            "tip": await repo.lookup_branch_async("dev") == second,
            "history": [i.message async for i in repo.async_ancestry(branch="dev")],
            "log": len([update async for update in repo.ops_log_async()]),
            "diff": (await repo.diff_async(from_tag="v1", to_branch="dev")).moved_nodes,
            "metadata": await repo.update_metadata_async({"k": 1}),
            "read": (await repo.readonly_session_async(tag="v1")).snapshot_id == first,
            "stats": (await repo.chunk_storage_stats_async()).total_bytes(),
            "flags": len(await repo.feature_flags_async()),
        }

    assert asyncio.run(live()) == {
        "branches": {"main", "dev"},
        "tags": {"v1"},
        "tip": True,
        "history": ["moved", "first", "Repository initialized"],
        "log": 5,
        "diff": [("/a", "/b")],
        "metadata": {"k": 1},
        "read": True,
        "stats": 0,
        "flags": 3,
    }


def test_awaited_errors_are_those_of_blocking_calls(world):
    """With the same class, kind and message."""

    async def failing():
        with pytest.raises(zfuse.RefNotFoundError) as caught:
            await world.repo.lookup_branch_async("nope")
        return caught.value

    with pytest.raises(zfuse.RefNotFoundError) as caught:
        world.repo.lookup_branch("nope")
    awaited = asyncio.run(failing())
    assert (awaited.kind, awaited.message) == (caught.value.kind, caught.value.message)
    assert caught.value.kind == zfuse.ErrorKind.REF_NOT_FOUND == "ref-not-found"
    assert "\n" not in str(caught.value)


def test_a_cancelled_commit_leaves_its_changes(world):
    """The session goes on, and a later commit has everything."""
    session = world.repo.writable_session("main")
    write(77)(group(session))

    async def cancelled():
        task = asyncio.ensure_future(session.commit_async("never"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert session.has_uncommitted_changes or session.read_only
    if not session.read_only:
        session.commit("after all")
    assert group(world.repo.readonly_session("main"))["a"][0, 0] == 77


def test_chunk_coordinates_come_in_asyncio(world):
    """Whatever the size of the batches."""

    async def collect(size):
        session = world.repo.readonly_session("main")
        return [index async for index in session.chunk_coordinates("/a", batch_size=size)]

    whole = [(row, column) for row in range(3) for column in range(2)]
    assert asyncio.run(collect(1)) == asyncio.run(collect(1000)) == whole


def test_an_iteration_that_stops_early_ends_well(world):
    """And another one begins from the start."""
    first = next(iter(world.repo.ancestry(branch="main")))

    async def newest():
        return await anext(world.repo.async_ancestry(branch="main"))

    assert asyncio.run(newest()) == first
    assert len(list(world.repo.ancestry(branch="main"))) == 3
