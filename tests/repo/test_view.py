"""The directories that the nodes of a snapshot form."""

import json
import logging

import pytest

from tests.compat.documents import GROUP, V2_DOT, V2_SLASH, array_document
from zfuse.format.ids import INITIAL_SNAPSHOT, NodeId
from zfuse.format.snapshot import ArrayNode, DimensionShape, GroupNode, Snapshot
from zfuse.repo.view import HierarchyView, join

pytestmark = pytest.mark.expects_log("is not shown")


def view_of(**nodes):
    """Return the view of groups (None) and arrays (their zarr.json) by path."""
    made = []
    for number, (path, document) in enumerate(sorted(nodes.items())):
        node_id = NodeId(number.to_bytes(8))
        if document is None:
            made.append(GroupNode(node_id, path, GROUP))
            continue
        shape = json.loads(document)["shape"] if document.startswith(b"{") else []
        dimensions = tuple(DimensionShape(length, length) for length in shape)
        made.append(ArrayNode(node_id, path, document, dimensions, None, ()))
    return HierarchyView(Snapshot(2, INITIAL_SNAPSHOT, None, 0, "", {}, {}, tuple(made), nbytes=0))


def test_the_root_is_always_there():
    view = view_of()
    assert view.is_directory("/")
    assert view.node("/") is None
    assert view.children("/") == {}
    assert set(view.directories()) == {"/"}


def test_implicit_groups_are_directories_without_a_node():
    view = view_of(**{"/a/b/c": None, "/a/b": None, "/x/y/z": None})
    assert set(view.directories()) == {"/", "/a", "/a/b", "/a/b/c", "/x", "/x/y", "/x/y/z"}
    assert list(view.children("/")) == ["a", "x"]
    assert view.node("/a") is None
    assert view.node("/a/b").path == "/a/b"
    assert not view.is_directory("/a/c")
    assert not view.is_directory("/x/y/")


def test_names_that_sort_between_a_group_and_its_children():
    view = view_of(**dict.fromkeys(["/foo", "/foo-bar", "/foo.bar", "/foo/x", "/foo0"]))
    assert set(view.children("/")) == {"foo", "foo-bar", "foo.bar", "foo0"}
    assert set(view.children("/foo")) == {"x"}


@pytest.mark.parametrize("path", ["/.", "/a/..", "/a/.", "/a//b", "/a/", "/a/./b"])
def test_odd_segments_are_segments(path):
    view = view_of(**{path: None})
    here = "/"
    for segment in path[1:].split("/"):
        assert segment in view.children(here)
        here = join(here, segment)
        assert view.is_directory(here)
    assert here == path
    assert view.node(path) is not None
    assert view.not_shown == []


@pytest.mark.parametrize("path", ["a", "", "//a", "///", "a/b", "../a"])
def test_what_is_not_absolute_is_told(path, caplog):
    view = view_of(**{path: None, "/b": None})
    assert set(view.directories()) == {"/", "/b"}
    assert view.not_shown == [(path, "its path is not absolute")]
    assert f"{path} is not shown" in caplog.text


def test_directories_that_give_way_to_chunks_are_told():
    line = array_document((4,), (1,))
    nodes = {
        "/a": line,
        "/a/c": None,
        "/a/c/0": None,
        "/a/c/1/x": None,
        "/a/c/00": None,
        "/a/c/0/0": None,
        "/a/d": None,
        "/dotted": array_document((4,), (1,), chunk_key_encoding=V2_DOT),
        "/dotted/0": None,
        "/slashed": array_document((4, 4), (1, 1), chunk_key_encoding=V2_SLASH),
        "/slashed/0/1/2": None,
        "/scalar": array_document((), ()),
        "/scalar/c": None,
    }
    view = view_of(**nodes)
    told = {path for path, _ in view.not_shown}
    assert told == {"/a/c/0", "/a/c/1", "/dotted/0", "/slashed/0/1", "/scalar/c"}
    assert all("chunk" in reason for _, reason in view.not_shown)
    # They are directories all the same, where the chunk is not written.
    assert view.is_directory("/a/c/0")


def test_a_root_array_has_chunks_that_nodes_give_way_to():
    view = view_of(**{"/": array_document((4,), (1,)), "/c/0": None, "/d": None})
    assert [path for path, _ in view.not_shown] == ["/c/0"]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"not json", "its chunks have no names"),
        (array_document((4,), (1,), chunk_key_encoding={"name": "new"}), "encoding is unknown"),
    ],
)
def test_an_array_whose_chunks_have_no_names_is_told_once(document, reason, caplog):
    view = view_of(**{"/a": document})
    assert view.not_shown == []
    for _ in range(3):
        metadata = view.metadata(view.node("/a"))
        assert metadata is None or metadata.chunk_key_encoding is None
    ((path, told),) = view.not_shown
    assert path == "/a"
    assert reason in told
    assert sum(r.levelno == logging.WARNING for r in caplog.records) == 1


def test_what_a_view_weighs_grows_with_its_nodes():
    few = view_of(**{f"/{n}": None for n in range(10)})
    many = view_of(**{f"/{n}": None for n in range(1000)})
    assert many.nbytes > 50 * few.nbytes
