"""zfuse and the official library change one repository in turn, and agree after each change."""

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import icechunk
import pytest
import trio
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.compat.test_conflicts import CHOICES
from tests.repo.driving import (
    edit_once,
    edit_session,
    official,
    open_repository,
    open_session,
    session_keys,
    zfuse_keys,
)
from tests.repo.editing import (
    EDITS,
    Edit,
    base_edits,
    edit_officially,
    official_keys,
    visible_keys,
)
from zfuse.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from zfuse.format.snapshot import Snapshot
from zfuse.repo.catch_up import BranchConflictError
from zfuse.repo.conflicts import DETECT, ChunkChoice, ConflictPolicy

pytestmark = pytest.mark.compat


@dataclass(frozen=True)
class Move:
    """Move what is at *source* to *target*."""

    source: str
    target: str


@dataclass(frozen=True)
class Copy:
    """Copy what is at *source* to *target*."""

    source: str
    target: str


@dataclass(frozen=True)
class Swap:
    """Let what is at *one* and at *other* change places."""

    one: str
    other: str


PATHS = st.sampled_from(["/", "/g", "/g/a", "/g/h", "/a", "/a/k", "/b", "/x", "/g/x"])
MOVES = st.builds(Move, PATHS, PATHS)
STEPS = st.lists(
    st.one_of(EDITS, EDITS, MOVES, st.builds(Copy, PATHS, PATHS), st.builds(Swap, PATHS, PATHS)),
    max_size=5,
)
MOVE_LISTS = st.lists(MOVES, max_size=3)
EDIT_LISTS = st.lists(EDITS, max_size=5)
POLICIES = st.one_of(st.just(DETECT), st.builds(ConflictPolicy, st.sampled_from(ChunkChoice)))
MAINTENANCE = ("rewrite", "expire", "collect")
TURNS = st.one_of(
    st.tuples(st.just("zfuse"), STEPS),
    st.tuples(st.just("zfuse amends"), STEPS),
    st.tuples(st.just("zfuse behind"), STEPS, st.just("official"), EDIT_LISTS, POLICIES),
    st.tuples(st.just("zfuse behind"), STEPS, st.just("official moves"), MOVE_LISTS, POLICIES),
    st.tuples(st.just("zfuse rebases"), STEPS, EDIT_LISTS, STEPS),
    st.tuples(st.just("official"), EDIT_LISTS),
    st.tuples(st.just("official moves"), MOVE_LISTS),
    st.tuples(st.just("official amends"), EDIT_LISTS),
    st.tuples(st.just("official behind"), STEPS, EDIT_LISTS, POLICIES),
    st.tuples(st.just("maintenance"), st.sampled_from(MAINTENANCE)),
)


def take_turns(turns, spec_version):
    """Let both take *turns* on a new repository, and clean it up in the end."""

    async def main():
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            await start(directory, spec_version)
            expired = False
            for turn in [*turns, *(("maintenance", what) for what in MAINTENANCE)]:
                expired = expired or turn == ("maintenance", "expire")
                await take(directory, turn, spec_version)
                # In version 1 nobody knows any more what came from snapshots that expired.
                await check(directory, has_logs=spec_version > 1 or not expired)
            check_garbage(directory)

    trio.run(main)


@pytest.mark.timeout(900)
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(TURNS, max_size=7), st.sampled_from([1, 2]))
def test_zfuse_and_the_official_library_take_turns(turns, spec_version):
    take_turns(turns, spec_version)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("spec_version", [1, 2])
@settings(max_examples=600, derandomize=False, suppress_health_check=[HealthCheck.too_slow])
@given(turns=st.lists(TURNS, max_size=10))
def test_zfuse_and_the_official_library_take_turns_for_long(spec_version, turns):
    take_turns(turns, spec_version)


async def start(directory, spec_version):
    """Make a repository with both: its settings come from the one, the first commit from zfuse.

    A few chunks make a few manifests, all but one byte is a chunk object, the ops log pages.
    """
    split = icechunk.ManifestSplittingConfig.from_dict(
        {
            icechunk.ManifestSplitCondition.path_matches("a$"): {
                icechunk.ManifestSplitDimCondition.Axis(0): 2
            }
        }
    )
    config = icechunk.RepositoryConfig(
        inline_chunk_threshold_bytes=1,
        manifest=icechunk.ManifestConfig(splitting=split),
        num_updates_per_repo_info_file=4,
    )
    place = icechunk.local_filesystem_storage(str(directory))
    icechunk.Repository.create(place, config=config, spec_version=spec_version).save_config()
    session = await open_session(directory)
    await edit_session(session, base_edits())
    await session.commit("base")


async def check(directory, *, has_logs):
    """Both read the same from the tip, and the official library follows its history."""
    repo = official(directory)
    repository = await open_repository(directory)
    tip = repository.lookup_branch("main")
    assert str(tip) == repo.lookup_branch("main")
    assert await zfuse_keys(repository, tip) == official_keys(repo, str(tip))
    history = [info.id for info in repo.ancestry(branch="main")]
    ours = [str(info.id) async for info in repository.ancestry(tip)]
    assert history == ours
    if has_logs and len(history) > 1:
        check_diff(repo, history[1], history[0])
    if repo.spec_version > 1:
        kinds = [type(update.kind).__name__ for update in repo.ops_log()]
        assert kinds[-1] == "RepoInitialized"
        assert len(kinds) == len([u async for u in repository.updates()])


def check_diff(repo, before, after):
    diff = repo.diff(from_snapshot_id=before, to_snapshot_id=after)
    old, new = (
        {"/" + key.removesuffix("zarr.json").rstrip("/") for key in official_keys(repo, s)}
        for s in (before, after)
    )
    old, new = ({p for p in paths if "/c/" not in p} for paths in (old, new))
    created, deleted = diff.new_groups | diff.new_arrays, diff.deleted_groups | diff.deleted_arrays
    sources, targets = ({move[n] for move in diff.moved_nodes} for n in (0, 1))
    assert new - old <= created | targets
    # Version 1 has no moves: there it shows a moved node as deleted where it is now.
    gone = old - new if repo.spec_version > 1 or not created & deleted else set()
    assert gone <= deleted | sources


def check_garbage(directory):
    """After garbage collection nothing is left that the one branch does not refer to."""
    repo = official(directory)
    kept = {str(info.id) for info in repo.ancestry(branch="main")}
    stored = {path.name for path in (directory / "snapshots").iterdir()}
    assert stored == kept
    files = [path.stat().st_size for path in (directory / "chunks").glob("*")]
    assert sum(files) == repo.chunk_storage_stats().native_bytes


async def take(directory, turn, spec_version):
    match turn:
        case ("zfuse", steps):
            await commit(directory, steps)
        case ("zfuse amends", steps):
            await (amend if spec_version > 1 else commit)(directory, steps)
        case ("zfuse behind", ours, who, theirs, policy):
            theirs = partial(take_officially, directory, who, theirs, spec_version)
            await fall_behind(directory, ours, theirs, policy)
        case ("zfuse rebases", ours, theirs, more):
            await rebase(directory, ours, theirs, more)
        case ("official behind", ours, theirs, policy):
            await leave_behind(directory, ours, theirs, policy)
        case ("maintenance", what):
            maintain(directory, what)
        case (who, edits):
            take_officially(directory, who, edits, spec_version)


async def commit(directory, steps):
    session = await open_session(directory)
    await take_steps(session, steps)
    await commit_and_compare(directory, session)


async def take_steps(session, steps):
    for step in steps:
        try:
            await take_step(session, step)
        except (AlreadyExistsError, InvalidInputError, NotFoundError):
            continue


async def take_step(session, step):
    match step:
        case Edit():
            await edit_once(session, step)
        case Move(source, target):
            await session.move(source, target)
        case Copy(source, target):
            await session.copy(source, target)
        case Swap(one, other):
            await session.move(one, "/aside")
            await session.move(other, one)
            await session.move("/aside", other)


async def commit_and_compare(directory, session):
    shown, before, changes = await session_keys(session), session.base, session.changes()
    snapshot_id = await session.commit("zfuse")
    assert (snapshot_id is None) == (session.base.id == before.id)
    assert official_keys(official(directory), str(session.base.id)) == shown
    assert await session_keys(session) == shown
    assert not session.has_changes
    if snapshot_id is not None:
        compare_diff(official(directory), before, session.base, changes)


def compare_diff(repo, before, after, changes):
    """The official library tells of a commit exactly what it changed."""
    diff = repo.diff(from_snapshot_id=str(before.id), to_snapshot_id=str(after.id))
    moves = {(move.source, move.target) for move in changes.moved.values()}
    if repo.spec_version == 1:
        assert moves or not diff.moved_nodes
        return
    assert set(diff.moved_nodes) == moves
    for is_array, created, deleted in (
        (True, diff.new_arrays, diff.deleted_arrays),
        (False, diff.new_groups, diff.deleted_groups),
    ):
        assert created == {n.path for n in changes.new.values() if n.is_array is is_array}
        assert deleted == {n.path for n in changes.deleted.values() if n.is_array is is_array}


async def amend(directory, steps):
    session = await open_session(directory)
    await take_steps(session, steps)
    shown = await session_keys(session)
    parent = [info.id for info in official(directory).ancestry(branch="main")][1]
    amended = await session.amend("amended")
    assert official_keys(official(directory), str(amended)) == shown
    assert official(directory).lookup_snapshot(str(amended)).parent_id == parent
    assert not session.has_changes


async def fall_behind(directory, ours, take_officially, policy):
    """Both change the same base; the official library commits first."""
    session = await open_session(directory)
    base = str(session.base.id)
    await take_steps(session, ours)
    take_officially()
    first = official(directory).lookup_branch("main")
    shown, has_changes = await session_keys(session), session.has_changes
    conflict = committed = None
    try:
        committed = await session.commit("zfuse second", policy=policy)
    except BranchConflictError as error:
        conflict = error
    if conflict is not None:
        event("conflict")
        assert conflict.obstacles
        # What was below an array before can be in the way too, by the official rules.
        assert {str(o.by.id) for o in conflict.obstacles if o.by is not None} <= {first}
        assert str(session.base.id) == base
        assert await session_keys(session) == shown
        await go_aside(directory, session, shown)
        return
    assert not session.has_changes
    tip = official(directory).lookup_branch("main")
    assert tip == (str(committed) if committed else first)
    if has_changes:
        event("rebased")
        assert str(session.base.id) == tip
        assert await session_keys(session) == official_keys(official(directory), tip)


async def go_aside(directory, session, shown):
    """What is in conflict goes to a new branch, where it is not."""
    await session.branch_off("aside")
    tip = await session.commit("aside")
    repo = official(directory)
    assert repo.lookup_branch("aside") == str(tip)
    assert official_keys(repo, str(tip)) == shown
    repo.delete_branch("aside")


async def rebase(directory, ours, theirs, more):
    """A session is rebased, goes on, and is committed."""
    session = await open_session(directory)
    await take_steps(session, ours)
    take_officially(directory, "official", theirs, 2)
    tip = official(directory).lookup_branch("main")
    shown = await session_keys(session)
    try:
        assert await session.rebase()
    except BranchConflictError:
        assert await session_keys(session) == shown
        return
    assert str(session.base.id) == tip
    await take_steps(session, more)
    await commit_and_compare(directory, session)


async def leave_behind(directory, ours, theirs, policy):
    """Both change the same base; zfuse commits first, and the official library rebases."""
    behind = official(directory).writable_session("main")
    edit_officially(behind.store, theirs)
    session = await open_session(directory)
    await take_steps(session, ours)
    await commit_and_compare(directory, session)
    solver = icechunk.ConflictDetector()
    if policy is not DETECT:
        solver = icechunk.BasicConflictSolver(on_chunk_conflict=CHOICES[policy.on_chunk_conflict])
    try:
        tip = behind.commit("official second", rebase_with=solver, allow_empty=True)
    except icechunk.ConflictError:
        event("official conflict")
        return
    nodes = Snapshot.decode((directory / "snapshots" / tip).read_bytes()).nodes
    if len({node.path for node in nodes}) < len(nodes):
        event("the official library left two nodes at one path")
        official(directory).reset_branch("main", str(session.base.id))


def take_officially(directory, who, edits, spec_version):
    repo = official(directory)
    if who == "official moves" and spec_version > 1:
        session = repo.rearrange_session("main")
        for move in edits:
            if hides_nodes(session, move.target):
                continue
            try:
                session.move(move.source, move.target)
            except icechunk.IcechunkError:
                continue
        session.commit("moved", allow_empty=True)
    elif who == "official amends" and spec_version > 1:
        session = repo.writable_session("main")
        edit_officially(session.store, edits)
        try:
            session.amend("amended", allow_empty=True)
        except icechunk.SessionStateError:  # over a commit that moves nodes it will not
            event("not amended")
    elif who == "official":
        session = repo.writable_session("main")
        edit_officially(session.store, edits)
        session.commit("official", allow_empty=True)


def hides_nodes(session, path):
    """Tell whether *path* is an implicit group.

    A move there makes the official library drop all nodes below, without a word in any log.
    """
    keys = {"/" + key for key in visible_keys(session)}
    return f"{path}/zarr.json" not in keys and any(key.startswith(path + "/") for key in keys)


def maintain(directory, what):
    repo = official(directory)
    keys = official_keys(repo, repo.lookup_branch("main"))
    if what == "rewrite":
        repo.rewrite_manifests("rewritten", branch="main")
    elif what == "expire":
        repo.expire_snapshots(datetime.now(UTC))
    else:
        repo.garbage_collect(datetime.now(UTC))
    repo = official(directory)
    assert official_keys(repo, repo.lookup_branch("main")) == keys
