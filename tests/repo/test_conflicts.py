"""Rebasing what the official library can not: moves together with edits, and odd cases.

Everything that it can do is compared with it in tests/compat/test_conflicts.py.
"""

import pytest

from tests.repo.editing import ARRAYS, GROUPS, Edit, base_edits, edit_tree
from zfuse.format.chunk_ref import InlineRef
from zfuse.format.ids import SnapshotId
from zfuse.repo.chunk_changes import UNTOUCHED
from zfuse.repo.conflicts import (
    DETECT,
    ChunkChoice,
    ConflictKind,
    ConflictPolicy,
    rebase,
)
from zfuse.repo.working_tree import WorkingTree

NOWHERE = SnapshotId(bytes(12))


def both_sides(ours, theirs):
    """Let two sides change one base; return base and the two working trees."""
    tree = WorkingTree([])
    edit_tree(tree, base_edits())
    base = [*tree.nodes.values()]
    sides = WorkingTree(base), WorkingTree(base)
    for side, steps in zip(sides, (ours, theirs), strict=True):
        for step in steps:
            if isinstance(step, Edit):
                assert edit_tree(side, [step])
            else:
                side.move(*step)
    return base, *sides


def rebased(ours, theirs, policy=DETECT):
    base, our_side, their_side = both_sides(ours, theirs)
    log = their_side.changes.log(NOWHERE, 2)
    before = our_side.changes.apply(base)
    found = rebase(our_side.changes, base, [*their_side.nodes.values()], log, policy)
    assert our_side.changes.apply(base) == before
    return found, found.changes.apply(their_side.nodes.values())


def conflicts(found):
    return [(conflict.kind.name, conflict.path) for conflict in found.conflicts]


def test_what_others_put_into_a_moved_group_moves_along():
    theirs = [Edit("g/new/zarr.json", GROUPS[0]), Edit("g/new/deep/zarr.json", ARRAYS[0])]
    theirs += [Edit("g/h/x/zarr.json", GROUPS[0]), Edit("other/zarr.json", GROUPS[0])]
    found, nodes = rebased([("/g", "/moved"), ("/moved/h", "/h2")], theirs)
    assert conflicts(found) == []
    assert [node.path for node in nodes] == [
        *("/", "/a", "/a/k", "/b", "/h2", "/h2/x", "/moved", "/moved/a", "/moved/new"),
        *("/moved/new/deep", "/other"),
    ]
    assert len(found.changes.moved) == 6


def test_a_moved_array_takes_the_chunks_that_others_wrote():
    found, nodes = rebased([("/a", "/z"), Edit("z/c/0", b"ours")], [Edit("a/c/1", b"theirs")])
    assert conflicts(found) == []
    (array,) = [node for node in nodes if node.path == "/z"]
    assert found.changes.chunk(array.id, (0,)) == InlineRef(b"ours")
    assert found.changes.chunk(array.id, (1,)) is UNTOUCHED


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([("/b", "/x")], [("/b", "/y")], [("MOVE_OPERATION_CANNOT_BE_REBASED", None)]),
        (
            [Edit("x/zarr.json", GROUPS[0])],
            [("/b", "/y")],
            [("MOVE_OPERATION_CANNOT_BE_REBASED", None)],
        ),
        ([("/b", "/x")], [Edit("b/zarr.json", None)], [("MOVE_OPERATION_CANNOT_BE_REBASED", "/b")]),
        (
            [("/b", "/x")],
            [Edit("x/zarr.json", ARRAYS[0])],
            [("NEW_NODE_CONFLICTS_WITH_EXISTING_NODE", "/x")],
        ),
        ([("/b", "/x/b")], [Edit("x/zarr.json", ARRAYS[0])], [("NEW_NODE_IN_INVALID_GROUP", "/x")]),
        (
            [("/g", "/x"), Edit("x/n/zarr.json", GROUPS[0])],
            [Edit("g/n/zarr.json", GROUPS[0])],
            [("NEW_NODE_CONFLICTS_WITH_EXISTING_NODE", "/x/n")],
        ),
        ([("/b", "/x"), Edit("b/zarr.json", GROUPS[0])], [Edit("b/c/0", b"theirs")], []),
        ([("/b", "/x"), ("/a", "/b")], [Edit("g/zarr.json", None)], []),
        (
            [
                Edit("b/zarr.json", None),
                Edit("b/zarr.json", GROUPS[0]),
                Edit("b/k/zarr.json", GROUPS[0]),
            ],
            [Edit("g/zarr.json", None)],
            [],
        ),
    ],
)
def test_moves_meet_what_others_did(ours, theirs, expected):
    found, _ = rebased(ours, theirs, ConflictPolicy())
    assert conflicts(found) == expected


def test_where_both_replaced_a_node_there_is_a_conflict():
    steps = [Edit("b/zarr.json", None), Edit("b/zarr.json", ARRAYS[1])]
    found, _ = rebased(steps, steps)
    assert conflicts(found) == [("NEW_NODE_CONFLICTS_WITH_EXISTING_NODE", "/b")]
    (conflict,) = found.conflicts
    assert conflict.node_id is not None


def test_deleting_what_is_gone_leaves_nothing_to_do():
    found, nodes = rebased([Edit("g/zarr.json", None)], [Edit("g/zarr.json", None)])
    assert conflicts(found) == []
    assert not found.changes
    assert [node.path for node in nodes] == ["/", "/a", "/a/k", "/b"]


def test_chunks_of_both_sides_go_to_whom_the_policy_says():
    ours, theirs = [Edit("b/c/0", b"o"), Edit("b/c/1", None)], [Edit("b/c/0", b"t")]
    found, _ = rebased(ours, theirs)
    (conflict,) = found.conflicts
    assert conflict.kind is ConflictKind.CHUNK_DOUBLE_UPDATE
    assert conflict.chunks.tolist() == [[0]]
    found, nodes = rebased(ours, theirs, ConflictPolicy(ChunkChoice.OURS))
    (b,) = [node.id for node in nodes if node.path == "/b"]
    assert found.changes.chunk(b, (0,)) == InlineRef(b"o")
    found, nodes = rebased(ours, theirs, ConflictPolicy(ChunkChoice.THEIRS))
    (b,) = [node.id for node in nodes if node.path == "/b"]
    assert found.changes.chunk(b, (0,)) is UNTOUCHED
    assert found.changes.chunk(b, (1,)) is None
    found, _ = rebased(ours[:1], theirs, ConflictPolicy(ChunkChoice.THEIRS))
    assert not found.changes
