from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.exercise import exercise
from tests.format.references import text
from zfuse.errors import InvalidInputError
from zfuse.format.envelope import Envelope
from zfuse.format.flat import FlatBuffer
from zfuse.format.header import FileType
from zfuse.format.ids import ManifestId, NodeId, SnapshotId
from zfuse.format.initial import initial_snapshot
from zfuse.format.snapshot import (
    ArrayNode,
    DimensionShape,
    GroupNode,
    ManifestFileInfo,
    ManifestRef,
    Snapshot,
)
from zfuse.format.snapshot_encoder import encode_snapshot

node_ids = st.binary(min_size=8, max_size=8).map(NodeId)
manifest_ids = st.binary(min_size=12, max_size=12).map(ManifestId)
paths = st.lists(text.filter(lambda s: s and "/" not in s), max_size=3).map(
    lambda names: "/" + "/".join(names)
)
numbers = st.integers(0, 2**32 - 1)
documents = st.binary(max_size=30)


@st.composite
def dimensions(draw):
    chunk, count = draw(st.integers(1, 2**31)), draw(st.integers(0, 2**32 - 1))
    short = draw(st.integers(0, chunk - 1)) if count else 0
    return DimensionShape(chunk * count - short, count)


@st.composite
def arrays(draw, path):
    shape = tuple(draw(st.lists(dimensions(), max_size=3)))
    names = st.lists(st.none() | text.filter(bool), max_size=3).map(tuple)
    extents = st.lists(st.tuples(numbers, numbers), max_size=3).map(tuple)
    return ArrayNode(
        draw(node_ids),
        path,
        draw(documents),
        shape,
        draw(st.none() | names),
        tuple(draw(st.lists(st.builds(ManifestRef, manifest_ids, extents), max_size=3))),
    )


@st.composite
def snapshots(draw):
    found = draw(st.lists(paths, unique=True, max_size=6))
    nodes = tuple(
        draw(arrays(path) | st.builds(GroupNode, node_ids, st.just(path), documents))
        for path in found
    )
    used = {r.manifest_id for n in nodes if isinstance(n, ArrayNode) for r in n.manifests}
    version = draw(st.sampled_from([1, 2]))
    parents = st.none() | st.binary(min_size=12, max_size=12).map(SnapshotId)
    metadata = st.dictionaries(text, st.none() | text | st.lists(st.integers(0, 9)), max_size=4)
    return Snapshot(
        version,
        SnapshotId(draw(st.binary(min_size=12, max_size=12))),
        draw(parents) if version == 1 else None,
        draw(st.integers(0, 2**63)),
        draw(text),
        draw(metadata),
        {i: ManifestFileInfo(i, draw(st.integers(0, 2**60)), draw(numbers)) for i in used},
        nodes,
    )


@given(snapshots())
def test_round_trip(snapshot):
    data = encode_snapshot(snapshot)
    assert exercise(data)
    decoded = Snapshot.decode(data)
    nodes = tuple(sorted(snapshot.nodes, key=lambda node: node.path.encode()))
    assert replace(decoded, nbytes=0) == replace(snapshot, nodes=nodes)
    assert list(decoded.metadata) == sorted(snapshot.metadata, key=str.encode)


def array(path="/a", shape=((10, 4),), manifests=(), names=None):
    return ArrayNode(
        NodeId(b"node0001"),
        path,
        b"{}",
        tuple(DimensionShape(*dimension) for dimension in shape),
        names,
        tuple(ManifestRef(manifest_id, ((0, 1),)) for manifest_id in manifests),
    )


def snapshot(*nodes, version=2, files=()):
    infos = {manifest_id: ManifestFileInfo(manifest_id, 1, 1) for manifest_id in files}
    plain = initial_snapshot(spec_version=version, flushed_at=5)
    return replace(plain, nodes=nodes, manifest_files=infos)


def group(path):
    return GroupNode(NodeId(b"group001"), path, b"{}")


def root_table(data):
    return FlatBuffer(Envelope.decode(data, expect=FileType.SNAPSHOT).payload).root()


def test_nodes_are_sorted_by_bytes():
    wanted = ["/", "/foo", "/foo-bar", "/foo.bar", "/foo/x", "/foo0", "/\uffff", "/\U0001f9ca"]
    data = encode_snapshot(snapshot(*map(group, reversed(wanted))))
    assert [table.string(1) for table in root_table(data).tables(2)] == wanted


@pytest.mark.parametrize("version", [1, 2])
def test_manifests_are_sorted_and_only_those_in_use(version):
    a, b, c = (ManifestId(bytes([n]) * 12) for n in (3, 1, 2))
    node = array(manifests=(a, b))
    data = encode_snapshot(snapshot(node, version=version, files=(a, b, c)))
    root = root_table(data)
    if version == 1:
        assert [item[:12] for item in root.structs(6, 32)] == [b, a]
        assert root.tables(7) is None
    else:
        assert [table.struct(0, 12) for table in root.tables(7)] == [b, a]
        assert root.structs(6, 32) == []


def test_version_2_has_no_parent_and_says_so():
    parent = SnapshotId(b"x" * 12)
    assert Snapshot.decode(encode_snapshot(replace(snapshot(), parent_id=parent))).parent_id is None
    older = replace(snapshot(version=1), parent_id=parent)
    assert Snapshot.decode(encode_snapshot(older)).parent_id == parent


def test_names_of_dimensions_that_are_empty_are_left_out():
    data = encode_snapshot(snapshot(array(names=("", None, "x"))))
    assert Snapshot.decode(data).nodes[0].dimension_names == (None, None, "x")


def test_two_nodes_of_one_path():
    with pytest.raises(InvalidInputError, match="'/a'"):
        encode_snapshot(snapshot(array(), group("/a")))


def test_manifest_that_is_not_listed():
    with pytest.raises(InvalidInputError, match="does not list"):
        encode_snapshot(snapshot(array(manifests=(ManifestId(b"m" * 12),))))


# 10 elements in 7 chunks is a rectilinear grid, 4 elements in none a chunk length of 0
@pytest.mark.parametrize("dimension", [(10, 7), (4, 0), (0, 3)])
def test_grids_that_version_1_can_not_hold(dimension):
    assert encode_snapshot(snapshot(array(shape=[dimension])))
    with pytest.raises(InvalidInputError, match="version 1"):
        encode_snapshot(snapshot(array(shape=[dimension]), version=1))


def test_metadata_that_is_not_json():
    with pytest.raises(InvalidInputError):
        encode_snapshot(replace(snapshot(), metadata={"x": b"bytes"}))
