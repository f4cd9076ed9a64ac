import struct

import msgpack
import pytest

from tests.format import building
from tests.format.building import (
    ID,
    NODE,
    RawString,
    array_node,
    flexbuffer,
    group_node,
    item,
    snapshot,
    structs,
    u8,
    u32,
    u64,
)
from zfuse.errors import CorruptionError, UnsupportedVersionError
from zfuse.format.ids import ManifestId, NodeId, SnapshotId
from zfuse.format.snapshot import (
    ArrayNode,
    DimensionShape,
    GroupNode,
    ManifestFileInfo,
    ManifestRef,
    Snapshot,
)

OTHER = bytes(range(100, 112))


def extent(start, stop):
    return struct.pack("<II", start, stop)


def decode(**slots):
    return Snapshot.decode(snapshot(**slots))


def only_node(**slots):
    (node,) = decode(s2=[array_node(**slots)]).nodes
    return node


def test_smallest():
    assert decode() == Snapshot(
        spec_version=2,
        id=SnapshotId(ID),
        parent_id=None,
        flushed_at=1_700_000_000_000_000,
        message="message",
        metadata={},
        manifest_files={},
        nodes=(),
        nbytes=0,
    )


def test_version_2():
    refs = [
        {0: building.struct(ID), 1: structs(8, extent(0, 2), extent(1, 2**32 - 1), align=4)},
        {0: building.struct(OTHER), 1: structs(8, align=4)},
    ]
    node = only_node(
        s1=[{0: "x"}, {}, {0: ""}],
        s2=refs,
        s3=[{0: u64(2**64 - 1), 1: u32(2**32 - 1)}, {0: u64(5)}, {}],
    )
    assert node == ArrayNode(
        id=NodeId(NODE),
        path="/a",
        user_data=b"{}",
        shape=(
            DimensionShape(2**64 - 1, 2**32 - 1),
            DimensionShape(5, 0),
            DimensionShape(0, 0),
        ),
        dimension_names=("x", None, None),
        manifests=(
            ManifestRef(ManifestId(ID), ((0, 2), (1, 2**32 - 1))),
            ManifestRef(ManifestId(OTHER), ()),
        ),
    )


def test_version_1():
    info = struct.pack("<12s4xQI4x", OTHER, 2**40, 7)
    node = array_node(s0=structs(16, struct.pack("<QQ", 10, 4), bytes(16), align=8), s3=None)
    decoded = decode(
        version=1,
        s1=building.struct(OTHER),
        s2=[node],
        s5=[item("a", msgpack.packb({"b": [1, None]}))],
        s6=structs(32, info, align=8),
        s7=None,
    )
    assert decoded.spec_version == 1
    assert decoded.parent_id == SnapshotId(OTHER)
    assert decoded.metadata == {"a": {"b": [1, None]}}
    assert decoded.manifest_files == {
        ManifestId(OTHER): ManifestFileInfo(ManifestId(OTHER), 2**40, 7)
    }
    assert decoded.nodes[0].shape == (DimensionShape(10, 3), DimensionShape(0, 0))
    assert decoded.nodes[0].dimension_names is None


def test_manifest_files_of_version_2():
    tables = [{0: building.struct(OTHER), 1: u64(5), 2: u32(6)}, {0: building.struct(ID)}]
    assert decode(s7=tables).manifest_files == {
        ManifestId(OTHER): ManifestFileInfo(ManifestId(OTHER), 5, 6),
        ManifestId(ID): ManifestFileInfo(ManifestId(ID), 0, 0),
    }


def test_metadata_of_version_2():
    items = [item("z", flexbuffer({"k": [1, "two"]})), item("a", flexbuffer(None))]
    assert decode(s5=items).metadata == {"z": {"k": [1, "two"]}, "a": None}


def test_group():
    assert decode(s2=[group_node("/", document=b"\xffbytes\0")]).nodes == (
        GroupNode(NodeId(b"group001"), "/", b"\xffbytes\0"),
    )


def test_weight_counts_the_documents():
    large = decode(s2=[array_node(document=bytes(10_000))]).nbytes
    assert large - decode(s2=[array_node()]).nbytes == 10_000 - 2


@pytest.mark.parametrize("slot", [0, 2, 4, 5, 6])
def test_required_fields(slot):
    with pytest.raises(CorruptionError, match="required"):
        decode(**{f"s{slot}": None})


@pytest.mark.parametrize("slot", [0, 1, 2, 4])
def test_required_fields_of_a_node(slot):
    node = array_node()
    del node[slot]
    with pytest.raises(CorruptionError, match="required"):
        decode(s2=[node])


@pytest.mark.parametrize("slot", [0, 2])
def test_required_fields_of_an_array(slot):
    with pytest.raises(CorruptionError, match="required"):
        only_node(**{f"s{slot}": None})


@pytest.mark.parametrize(
    "ref", [{0: building.struct(ID)}, {1: structs(8, align=4)}], ids=["no extents", "no id"]
)
def test_required_fields_of_a_manifest_ref(ref):
    with pytest.raises(CorruptionError, match="required"):
        only_node(s2=[ref])


@pytest.mark.parametrize("slot", [0, 1])
def test_required_fields_of_metadata(slot):
    entry = item("a", flexbuffer(1))
    del entry[slot]
    with pytest.raises(CorruptionError, match="required"):
        decode(s5=[entry])


def test_manifest_file_without_id():
    with pytest.raises(CorruptionError, match="required"):
        decode(s7=[{1: u64(5)}])


@pytest.mark.parametrize("kind", [0, 3, 255])
def test_unknown_kind_of_node(kind):
    with pytest.raises(CorruptionError, match="unknown type"):
        decode(s2=[array_node() | {3: u8(kind)}])


def test_chunks_of_length_0_in_version_1():
    damaged = array_node(s0=structs(16, struct.pack("<QQ", 5, 0), align=8), s3=None)
    with pytest.raises(CorruptionError, match="length 0"):
        decode(s2=[damaged])


def test_path_that_is_not_utf8():
    with pytest.raises(CorruptionError, match="UTF-8"):
        decode(s2=[group_node(RawString(b"/\xff"))])


def test_damaged_metadata():
    with pytest.raises(CorruptionError):
        decode(s5=[item("a", b"\xff")])


def test_newer_version():
    with pytest.raises(UnsupportedVersionError):
        decode(version=3)


def test_unknown_fields_are_skipped():
    assert decode(s8=b"extra", s30=[{0: "x"}]).message == "message"
