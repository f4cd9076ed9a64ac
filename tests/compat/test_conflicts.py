"""Change sets and their rebase, judged by the official library on random edits."""

import tempfile
from pathlib import Path

import icechunk
import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.repo.editing import (
    EDITS,
    base_edits,
    edit_officially,
    edit_tree,
    expected_keys,
    official_keys,
    stored_chunks,
    visible_keys,
)
from zfuse.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from zfuse.format.ids import SnapshotId
from zfuse.format.snapshot import Snapshot
from zfuse.format.transaction_log import TransactionLog
from zfuse.repo.conflicts import (
    DETECT,
    ChunkChoice,
    Conflict,
    ConflictKind,
    ConflictPolicy,
    rebase,
)
from zfuse.repo.merged_log import merge_logs
from zfuse.repo.working_tree import WorkingTree

pytestmark = pytest.mark.compat

SETTINGS = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
CHOICES = {
    ChunkChoice.FAIL: icechunk.VersionSelection.Fail,
    ChunkChoice.OURS: icechunk.VersionSelection.UseOurs,
    ChunkChoice.THEIRS: icechunk.VersionSelection.UseTheirs,
}
POLICIES = st.one_of(
    st.just(DETECT),
    st.builds(ConflictPolicy, st.sampled_from(ChunkChoice), st.booleans(), st.booleans()),
)
edits = st.lists(EDITS, max_size=6)


class Official:
    """A repository of the official library in a directory of its own."""

    def __init__(self, directory, spec_version):
        self.directory = Path(directory)
        place = icechunk.local_filesystem_storage(directory)
        self.repo = icechunk.Repository.create(place, spec_version=spec_version)
        session = self.repo.writable_session("main")
        edit_officially(session.store, base_edits())
        self.base = session.commit("base")

    def nodes(self, snapshot_id):
        return Snapshot.decode((self.directory / "snapshots" / snapshot_id).read_bytes()).nodes

    def log(self, snapshot_id):
        path = self.directory / "transactions" / snapshot_id
        return TransactionLog.decode(path.read_bytes())

    def commit(self, changes):
        """Commit *changes* to main and return the snapshot."""
        session = self.repo.writable_session("main")
        edit_officially(session.store, changes)
        return session.commit("theirs", allow_empty=True)


def solver_of(policy):
    if policy is DETECT:
        return icechunk.ConflictDetector()
    return icechunk.BasicConflictSolver(
        on_chunk_conflict=CHOICES[policy.on_chunk_conflict],
        fail_on_delete_of_updated_array=policy.fail_on_delete_of_updated_array,
        fail_on_delete_of_updated_group=policy.fail_on_delete_of_updated_group,
    )


def comparable(conflict):
    chunks = conflict.chunks
    coords = frozenset() if chunks is None else frozenset(map(tuple, chunks.tolist()))
    return int(conflict.kind), conflict.path, coords


def comparable_officially(conflict):
    coords = frozenset(map(tuple, conflict.conflicted_chunks or ()))
    return int(conflict.conflict_type), conflict.path, coords


@SETTINGS
@given(edits, st.sampled_from([1, 2]))
def test_a_working_tree_takes_and_shows_what_an_official_session_does(changes, spec_version):
    with tempfile.TemporaryDirectory() as directory:
        official = Official(directory, spec_version)
        session = official.repo.writable_session("main")
        nodes = official.nodes(official.base)
        stored = stored_chunks(nodes, official_keys(official.repo, official.base))
        tree = WorkingTree(nodes)
        assert edit_tree(tree, changes, spec_version) == edit_officially(session.store, changes)
        result = tree.changes.apply(nodes)
        assert {node.path: node for node in result} == tree.nodes
        assert expected_keys(result, tree.changes, stored) == visible_keys(session)
        # The official library takes what was made and deleted again for a change.
        assert session.has_uncommitted_changes or not tree.changes
        check_status(tree, session.status())
        tip = session.commit("ours", allow_empty=True)
        assert expected_keys(result, tree.changes, stored) == official_keys(official.repo, tip)
        check_log(tree.changes.log(SnapshotId.parse(tip), spec_version), official.log(tip), result)


def check_status(tree, status):
    changes = tree.changes
    assert {n.path for n in changes.new.values() if n.is_array} == status.new_arrays
    assert {n.path for n in changes.new.values() if not n.is_array} == status.new_groups
    assert {n.path for n in changes.deleted.values() if n.is_array} == status.deleted_arrays
    assert {n.path for n in changes.deleted.values() if not n.is_array} == status.deleted_groups


def check_log(ours, theirs, nodes):
    new = {node.id for node in nodes}
    assert ours.deleted_arrays == theirs.deleted_arrays
    assert ours.deleted_groups == theirs.deleted_groups
    assert ours.updated_arrays == theirs.updated_arrays
    assert ours.updated_groups == theirs.updated_groups
    assert len(ours.new_arrays) == len(theirs.new_arrays)
    assert len(ours.new_groups) == len(theirs.new_groups)
    assert ours.new_arrays | ours.new_groups <= new
    for node_id, chunks in theirs.updated_chunks.items():
        if node_id not in theirs.new_arrays:
            (coords,) = chunks
            assert np.array_equal(ours.updated_chunks[node_id][0], coords)


@SETTINGS
@given(edits, edits, POLICIES, st.sampled_from([1, 2]))
def test_conflicts_and_rebased_changes_are_those_of_the_official_library(
    ours, theirs, policy, spec_version
):
    with tempfile.TemporaryDirectory() as directory:
        official = Official(directory, spec_version)
        session = official.repo.writable_session("main")
        edit_officially(session.store, ours)
        base = official.nodes(official.base)
        tree = WorkingTree(base)
        edit_tree(tree, ours, spec_version)
        tip = official.commit(theirs)
        tip_nodes = official.nodes(tip)
        found = rebase(tree.changes, base, tip_nodes, official.log(tip), policy)
        conflicts = {comparable(c) for c in found.conflicts}
        event(str(sorted(kind for kind, *_ in conflicts)))
        surplus, missing = deviations(tree.changes, tip_nodes)
        try:
            session.rebase(solver_of(policy))
        except icechunk.RebaseFailedError as error:
            expected = {comparable_officially(c) for c in error.conflicts}
            expected = {
                c for c in expected if not policy.solves(Conflict(ConflictKind(c[0]), c[1]))
            }
            assert conflicts - missing == expected - surplus
            return
        assert conflicts <= missing
        if conflicts:
            return
        stored = stored_chunks(tip_nodes, official_keys(official.repo, tip))
        result = found.changes.apply(tip_nodes)
        rebased = session.commit("rebased", allow_empty=True)
        keys = official_keys(official.repo, rebased)
        assert expected_keys(result, found.changes, stored) == keys


def deviations(changes, theirs):
    """Return the conflicts that only the official library finds, and those that it misses.

    See the docstring of zfuse.repo.conflicts: it objects to nodes in a group that this side
    put in the place of an array, and overlooks that both sides replaced one node.
    """
    nothing = frozenset()
    gone = {node.path for node in changes.deleted.values()}
    new = {node.path for node in changes.new.values()}
    surplus = {(2, node.path, nothing) for node in theirs if node.id in changes.deleted}
    missing = {
        (1, node.path, nothing)
        for node in theirs
        if node.path in gone & new and node.id not in changes.deleted
    }
    return surplus, missing


@SETTINGS
@given(edits, st.lists(edits, min_size=2, max_size=3), POLICIES)
def test_over_several_commits_no_less_is_rebased_than_by_the_official_library(ours, chain, policy):
    with tempfile.TemporaryDirectory() as directory:
        official = Official(directory, 2)
        session = official.repo.writable_session("main")
        edit_officially(session.store, ours)
        base = official.nodes(official.base)
        tree = WorkingTree(base)
        edit_tree(tree, ours)
        logs = [official.log(official.commit(theirs)) for theirs in chain]
        tip = official.repo.lookup_branch("main")
        merged = merge_logs(SnapshotId.parse(tip), logs)
        tip_nodes = official.nodes(tip)
        found = rebase(tree.changes, base, tip_nodes, merged, policy)
        missing = deviations(tree.changes, tip_nodes)[1]
        try:
            session.rebase(solver_of(policy))
        except icechunk.RebaseFailedError:
            event("conflict" if found.conflicts else "only official conflict")
            return
        event("rebased")
        conflicts = {comparable(c) for c in found.conflicts}
        assert conflicts <= missing
        if conflicts:
            return
        stored = stored_chunks(tip_nodes, official_keys(official.repo, tip))
        result = found.changes.apply(tip_nodes)
        keys = official_keys(official.repo, session.commit("rebased", allow_empty=True))
        assert expected_keys(result, found.changes, stored) == keys


@SETTINGS
@given(edits, edits)
def test_merged_logs_say_what_the_log_of_an_amended_commit_says(first, second):
    with tempfile.TemporaryDirectory() as directory:
        official = Official(directory, 2)
        before = {node.id for node in official.nodes(official.base)}
        middle = official.commit(first)
        official.repo.create_branch("twin", middle)
        logs = [official.log(middle), official.log(official.commit(second))]
        session = official.repo.writable_session("twin")
        edit_officially(session.store, second)
        amended = session.amend("both", allow_empty=True)
        after = {node.id: node.path for node in official.nodes(amended)}
        whole = official.log(amended)
        found = merge_logs(whole.id, logs)
        # New nodes have other ids in the twin, and the official log has passing ones too.
        paths = {node.id: node.path for node in official.nodes(str(logs[1].id))}
        for kind in ("new_groups", "new_arrays"):
            ours = {paths[node_id] for node_id in getattr(found, kind)}
            assert ours == {after[i] for i in getattr(whole, kind) if i in after}
        for kind in ("deleted_groups", "deleted_arrays", "updated_groups", "updated_arrays"):
            assert getattr(found, kind) & before == getattr(whole, kind) & before
        for kind in ("deleted_groups", "deleted_arrays"):
            assert getattr(found, kind) <= before
        for node_id in before & (found.updated_chunks.keys() | whole.updated_chunks.keys()):
            (ours,), (theirs,) = found.updated_chunks[node_id], whole.updated_chunks[node_id]
            assert np.array_equal(ours, theirs)


MOVES = st.tuples(
    st.sampled_from(["/", "/g", "/g/a", "/g/h", "/a", "/a/k", "/b", "/x", "/g/x"]),
    st.sampled_from(["/", "/g", "/g/a", "/x", "/y", "/g/x", "/g/h/x", "/x/y", "/a/x", "/b"]),
)


@SETTINGS
@given(st.lists(MOVES, max_size=6))
def test_moves_are_recorded_as_the_official_library_does(moves):
    with tempfile.TemporaryDirectory() as directory:
        official = Official(directory, 2)
        session = official.repo.rearrange_session("main")
        nodes = official.nodes(official.base)
        tree = WorkingTree(nodes)
        for source, target in moves:
            try:
                session.move(source, target)
            except icechunk.IcechunkError as error:
                # Here a group need not have a zarr.json to be moved into.
                if "parent" not in str(error.kind):
                    with pytest.raises((AlreadyExistsError, InvalidInputError, NotFoundError)):
                        tree.move(source, target)
                continue
            tree.move(source, target)
        tip = session.commit("moved", allow_empty=True)
        expected = [(node.path, node.id) for node in official.nodes(tip)]
        assert [(node.path, node.id) for node in tree.changes.apply(nodes)] == expected
        log = tree.changes.log(SnapshotId.parse(tip), 2)
        assert log.moved_nodes == official.log(tip).moved_nodes
