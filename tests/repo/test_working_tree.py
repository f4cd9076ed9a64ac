"""Working trees and change sets; in tests/compat the official library judges them too."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.repo.editing import ARRAYS, EDITS, GROUPS, PLACES, base_edits, edit_tree
from zfuse.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from zfuse.format.chunk_ref import InlineRef
from zfuse.format.ids import NodeId, SnapshotId
from zfuse.format.snapshot import ArrayNode
from zfuse.repo.chunk_changes import UNTOUCHED
from zfuse.repo.documents import parse_document
from zfuse.repo.working_tree import WorkingTree

PATHS = st.sampled_from(["/" + place for place in PLACES])
MOVES = st.tuples(PATHS, PATHS)
STEPS = st.lists(st.one_of(EDITS, MOVES, st.tuples(PATHS)), max_size=10)


def base_tree():
    tree = WorkingTree([])
    edit_tree(tree, base_edits())
    return tree


def take(tree, steps):
    """Edit, move (pairs) and remove single nodes (paths alone); what is refused is left out."""
    for step in steps:
        if not isinstance(step, tuple):
            edit_tree(tree, [step])
        elif len(step) == 1:
            tree.delete_node(*step)
        else:
            try:
                tree.move(*step)
            except (AlreadyExistsError, InvalidInputError, NotFoundError):
                continue


def chunks_of(nodes, *layers):
    """Return what the layers of changes, the latest first, say of all chunks of *nodes*."""
    found = {}
    for node in nodes:
        for n in range(5):
            changes = (layer.chunk(node.id, (n,)) for layer in layers)
            found[node.path, n] = next((c for c in changes if c is not UNTOUCHED), UNTOUCHED)
    return found


@given(STEPS)
def test_changes_applied_to_the_base_give_what_the_tree_shows(steps):
    nodes = [*base_tree().nodes.values()]
    tree = WorkingTree(nodes)
    take(tree, steps)
    result = tree.changes.apply(nodes)
    assert [node.path for node in result] == sorted(tree.nodes)
    assert {node.path: node for node in result} == tree.nodes
    assert WorkingTree(nodes, tree.changes).nodes == tree.nodes
    directories = {"/"}
    for path in tree.nodes:
        while path not in directories:
            directories.add(path)
            path = path.rpartition("/")[0] or "/"  # noqa: PLW2901 - upwards
    assert {
        path for path in ["/", *tree.nodes, *directories] if tree.is_directory(path)
    } == directories
    for path in directories:
        expected = {
            d.rpartition("/")[2]
            for d in directories - {"/"}
            if (d.rpartition("/")[0] or "/") == path
        }
        assert set(tree.children(path)) == expected
    below = {path: {n.path for n in tree.subtree(path)} for path in directories}
    for path, found in below.items():
        start = path.rstrip("/") + "/"
        assert found == {p for p in tree.nodes if p == path or p.startswith(start)}


@given(STEPS, STEPS)
def test_two_change_sets_make_one(first, second):
    nodes = [*base_tree().nodes.values()]
    tree = WorkingTree(nodes)
    take(tree, first)
    earlier = tree.take_changes()
    take(tree, second)
    later = tree.changes
    shown = chunks_of(tree.nodes.values(), later, earlier)
    assert later.apply(earlier.apply(nodes)) == [tree.nodes[path] for path in sorted(tree.nodes)]
    earlier.then(later)
    assert {node.path: node for node in earlier.apply(nodes)} == tree.nodes
    assert chunks_of(tree.nodes.values(), earlier) == shown


def test_moving_there_and_back_leaves_no_trace():
    tree = base_tree()
    tree.take_changes()
    before = dict(tree.nodes)
    tree.move("/g", "/elsewhere")
    tree.move("/elsewhere/a", "/a2")
    tree.move("/a2", "/elsewhere/a")
    tree.move("/elsewhere", "/g")
    assert not tree.changes
    assert tree.nodes == before


def test_moved_nodes_are_each_recorded_sorted_by_segments():
    tree = base_tree()
    tree.take_changes()
    tree.move("/g", "/z")
    tree.move("/a", "/z-1")
    log = tree.changes.log(SnapshotId(bytes(12)), 2)
    moves = [(move.source, move.target, move.is_array) for move in log.moved_nodes]
    assert moves == [
        ("/g", "/z", False),
        ("/g/a", "/z/a", True),
        ("/g/h", "/z/h", False),
        ("/a", "/z-1", True),
        ("/a/k", "/z-1/k", False),
    ]
    old = tree.changes.log(SnapshotId(bytes(12)), 1)
    assert old.moved_nodes == ()
    assert old.new_arrays == old.deleted_arrays == {tree.nodes["/z/a"].id, tree.nodes["/z-1"].id}


def test_a_moved_array_keeps_its_chunks_and_a_new_one_in_its_place_has_none():
    tree = base_tree()
    tree.move("/b", "/c")
    edit_tree(tree, base_edits())
    old, new = tree.array("/c"), tree.array("/b")
    assert old.id != new.id
    assert tree.changes.chunk(old.id, (0,)) == InlineRef(b"base 0")
    tree.delete("/b")
    assert tree.changes.chunk(new.id, (0,)) is UNTOUCHED


@pytest.mark.parametrize(
    ("source", "target", "error"),
    [
        ("/g", "/g", InvalidInputError),
        ("/g", "/g/x", InvalidInputError),
        ("/", "/x", InvalidInputError),
        ("/b", "/x/../y", InvalidInputError),
        ("/b", "/\udcff", InvalidInputError),
        ("/b", "/a", AlreadyExistsError),
        ("/b", "/", AlreadyExistsError),
        ("/nothing", "/x", NotFoundError),
    ],
)
def test_moves_that_make_no_sense_are_refused(source, target, error):
    tree = base_tree()
    before = dict(tree.nodes)
    with pytest.raises(error):
        tree.move(source, target)
    assert tree.nodes == before


def test_nothing_moves_over_an_implicit_group():
    tree = base_tree()
    tree.delete_node("/g")
    assert tree.node("/g") is None
    assert tree.is_directory("/g")
    with pytest.raises(AlreadyExistsError):
        tree.move("/b", "/g")
    tree.move("/g", "/h")  # but it moves itself
    assert sorted(tree.nodes) == ["/", "/a", "/a/k", "/b", "/h/a", "/h/h"]


def test_a_node_can_not_become_one_of_the_other_kind_and_the_same_bytes_change_nothing():
    tree = base_tree()
    tree.take_changes()
    group, array = (parse_document(d, spec_version=2) for d in (GROUPS[0], ARRAYS[0]))
    with pytest.raises(AlreadyExistsError, match="/b is an array"):
        tree.set_metadata("/b", group)
    with pytest.raises(AlreadyExistsError, match="/g is a group"):
        tree.set_metadata("/g", array)
    with pytest.raises(InvalidInputError, match="canonical"):
        tree.set_metadata("/g/", group)
    assert not tree.set_metadata("/b", array)
    assert not tree.changes
    with pytest.raises(NotFoundError):
        tree.array("/g")


def test_nodes_with_odd_paths_stay_out_of_the_tree_and_in_the_version():
    nodes = [*base_tree().nodes.values()]
    odd = ArrayNode(NodeId(bytes(8)), "/g//odd", ARRAYS[0], (), None, ())
    tree = WorkingTree([*nodes, odd])
    tree.delete("/")
    assert tree.nodes == {}
    assert tree.changes.apply([*nodes, odd]) == [odd]


def test_copies_are_new_nodes():
    tree = base_tree()
    tree.take_changes()
    before = dict(tree.nodes)
    copies = tree.copy(tree.subtree("/g"), "/g", "/copy")
    assert {old.path: new.path for old, new in copies} == {
        "/g": "/copy",
        "/g/a": "/copy/a",
        "/g/h": "/copy/h",
    }
    assert all(old.id != new.id and old.user_data == new.user_data for old, new in copies)
    assert before.items() <= tree.nodes.items()
    whole = tree.copy(tree.subtree("/"), "/", "/whole")
    assert {new.path for _, new in whole} >= {"/whole", "/whole/g/h", "/whole/copy/a"}
    with pytest.raises(NotFoundError):
        tree.copy([], "/nothing", "/x")
    with pytest.raises(AlreadyExistsError):
        tree.copy(tree.subtree("/g"), "/g", "/a")
