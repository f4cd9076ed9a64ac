"""Forks of a session: what they see, how they travel, and what merging them does."""

import os
import pickle
from dataclasses import replace

import pytest

from tests.compat.documents import GROUP, array_document
from tests.repo.driving import session_keys
from zfuse.errors import MergeError
from zfuse.format.chunk_ref import VirtualRef
from zfuse.format.ref_columns import RefColumns
from zfuse.repo.change_set import ChangeSet
from zfuse.repo.fork_workspace import ForkWorkspace

LONGER = array_document((6,), (1,))
OTHER = array_document((4,), (1,), attributes={"title": "other"})
LINE = array_document((4,), (1,))


async def fork_of(session):
    """Return a fork of *session* as another process gets it."""
    fork = pickle.loads(pickle.dumps(session.fork()))
    return await ForkWorkspace.open(session.repository, fork)


async def merge(session, *workspaces):
    await session.merge([pickle.loads(pickle.dumps(w.as_fork())) for w in workspaces])


async def chunks(session, path="/a"):
    keys = await session_keys(session)
    start = path[1:] + "/c/"
    return {int(k.removeprefix(start)): v for k, v in keys.items() if k.startswith(start)}


async def test_forks_of_a_changed_session_see_its_changes_and_bring_theirs(session):
    await session.set_chunk("/a", (1,), b"session")
    await session.set_metadata("/n", LINE)
    await session.set_chunk("/n", (0,), b"x" * 1000)
    fork, other = await fork_of(session), await fork_of(session)
    assert not fork.has_changes
    assert await session_keys(fork) == await session_keys(session)
    await fork.set_chunk("/a", (2,), b"fork")
    await fork.set_chunk("/n", (1,), b"y" * 1000)
    await other.set_chunk("/a", (1,), b"other")
    await other.delete_chunk("/a", (0,))
    await merge(session, fork, other)
    assert await chunks(session) == {1: b"other", 2: b"fork"}
    assert await chunks(session, "/n") == {0: b"x" * 1000, 1: b"y" * 1000}
    await session.commit("all of it")
    assert await chunks(session) == {1: b"other", 2: b"fork"}


async def test_of_several_references_to_one_chunk_the_last_merged_counts(session):
    first, last = await fork_of(session), await fork_of(session)
    await first.set_chunk("/a", (0,), b"first")
    await last.set_chunk("/a", (0,), b"last")
    await session.set_chunk("/a", (0,), b"session")
    await merge(session, first, last)
    assert await chunks(session) == {0: b"last"}
    await merge(session, first)
    assert await chunks(session) == {0: b"first"}


async def test_merging_twice_changes_nothing(session):
    fork = await fork_of(session)
    await fork.set_metadata("/made", GROUP)
    await fork.set_metadata("/a", OTHER)
    await fork.set_chunk("/a", (3,), b"fork")
    await merge(session, fork)
    once = await session_keys(session)
    await merge(session, fork, fork)
    assert await session_keys(session) == once


async def test_forks_of_forks_are_merged_one_after_the_other(session):
    fork = await fork_of(session)
    await fork.set_chunk("/a", (1,), b"fork")
    below = await fork_of(fork)
    await below.set_metadata("/a", LONGER)
    await below.set_chunk("/a", (5,), b"below")
    await merge(fork, below)
    await merge(session, fork)
    assert await chunks(session) == {0: b"base", 1: b"fork", 5: b"below"}


async def test_a_fork_may_change_what_the_session_had_changed_before(session):
    await session.set_metadata("/a", OTHER)
    fork = await fork_of(session)
    await fork.set_metadata("/a", LONGER)
    await merge(session, fork)
    assert session.node("/a").user_data == LONGER


async def test_forks_outlive_a_commit_of_their_session(session):
    await session.set_chunk("/a", (1,), b"session")
    fork = await fork_of(session)
    await fork.set_chunk("/a", (2,), b"fork")
    await session.commit("before the merge")
    await merge(session, fork)
    assert await chunks(session) == {0: b"base", 1: b"session", 2: b"fork"}


async def _make(fork, path="/n"):
    await fork.set_metadata(path, GROUP)


async def _change(fork):
    await fork.set_metadata("/a", LONGER)


async def _change_otherwise(fork):
    await fork.set_metadata("/a", OTHER)


async def _write(fork):
    await fork.set_chunk("/a", (1,), b"fork")


async def _delete(fork):
    await fork.delete("/a")


@pytest.mark.parametrize(
    ("one", "two", "fault"),
    [
        (_make, _make, "several made /n"),
        (_change, _change_otherwise, "several changed the metadata of /a"),
        (_change, _delete, "/a was both changed and deleted"),
        (_delete, _change, "/a was both changed and deleted"),
        (_write, _delete, "/a was both changed and deleted"),
        (_delete, _write, "/a was both changed and deleted"),
    ],
)
async def test_what_two_changed_differently_is_refused_as_a_whole(session, one, two, fault):
    forks = [await fork_of(session) for _ in (one, two)]
    await forks[0].set_chunk("/a", (3,), b"also")
    await one(forks[0])
    await two(forks[1])
    before = await session_keys(session)
    with pytest.raises(MergeError, match=fault):
        await merge(session, *forks)
    assert await session_keys(session) == before
    assert not session.has_changes


@pytest.mark.parametrize("one", [_change, _delete])
async def test_what_two_changed_alike_is_merged(session, one):
    forks = [await fork_of(session) for _ in range(2)]
    for fork in forks:
        await one(fork)
    await merge(session, *forks)
    assert await session_keys(session) == await session_keys(forks[0])


async def test_the_session_counts_as_a_writer(session):
    fork = await fork_of(session)
    await _make(fork)
    await _make(session)
    with pytest.raises(MergeError, match="several made /n"):
        await merge(session, fork)


async def test_deleting_what_the_session_wrote_before_is_no_conflict(session):
    await _write(session)
    fork = await fork_of(session)
    await _delete(fork)
    await merge(session, fork)
    assert await session_keys(session) == {}


@pytest.mark.parametrize("how", ["siblings", "below"])
async def test_forks_merge_the_deletion_of_what_all_inherited(session, how):
    await _write(session)
    fork = await fork_of(session)
    other = await fork_of(session if how == "siblings" else fork)
    await _delete(other)
    await merge(fork, other)
    await merge(session, fork)
    assert await session_keys(session) == {}


@pytest.mark.expects_log("changes that nobody took")
@pytest.mark.parametrize("home", [os.getpid(), 0])
async def test_changes_are_not_lost_in_silence_in_other_processes(session, caplog, home):
    away = replace(session.fork(), home=home)
    fork = await ForkWorkspace.open(session.repository, away)
    await _write(fork)
    fork.as_fork()
    del fork
    assert not caplog.records
    fork = await ForkWorkspace.open(session.repository, away)
    await _write(fork)
    del fork
    assert ("merge it into the session" in caplog.text) == (home == 0)


async def test_what_travels_is_small(session):
    await session.set_metadata("/big", array_document((20_000,), (1,)))
    refs = [((n,), VirtualRef("s3://bucket/one-file.nc", n * 100, 100)) for n in range(20_000)]
    await session.set_chunk_refs("/big", RefColumns.of_refs(1, refs))
    fork = pickle.dumps(session.fork(), protocol=5)
    assert len(fork) < 20_000 * 70
    assert len(pickle.dumps((await fork_of(session)).as_fork())) < len(fork) + 1000
    empty = ForkWorkspace(session.repository, session.base, session.fork())
    assert not empty.as_fork().changes
    assert ChangeSet() == pickle.loads(pickle.dumps(ChangeSet()))
