"""Snapshot files: every group and array of one version of the repository.

Specification: spec-v2, "Snapshot Files"; spec-v1 for the ``shape`` and ``manifest_files``
structs and for ``parent_id``.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from zfuse.errors import CorruptionError
from zfuse.format.envelope import Envelope
from zfuse.format.flat import FlatBuffer, Table, required
from zfuse.format.header import FileType
from zfuse.format.ids import ManifestId, NodeId, SnapshotId
from zfuse.format.metadata_items import decode_items
from zfuse.format.values import decoder_of

_ARRAY, _GROUP = 1, 2  # the union NodeData
_FILE_INFO_V1: Final = struct.Struct("<12s4xQI4x")
_DIMENSION_V1: Final = struct.Struct("<QQ")
_EXTENT: Final = struct.Struct("<II")

_NODE_COST: Final = 600
"""About what a node occupies apart from its zarr.json: 570 bytes measured for two dimensions."""


@dataclass(frozen=True, slots=True)
class DimensionShape:
    """One dimension of an array: its length in elements and in chunks."""

    array_length: int
    num_chunks: int


@dataclass(frozen=True, slots=True)
class ManifestRef:
    """A manifest, and per dimension the half-open range of chunk indices that it covers."""

    manifest_id: ManifestId
    extents: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class ManifestFileInfo:
    """Exact size in bytes of a manifest file, and how many chunk references it holds."""

    manifest_id: ManifestId
    size_bytes: int
    num_chunk_refs: int


@dataclass(frozen=True, slots=True)
class GroupNode:
    """A group; ``user_data`` is its zarr.json, byte for byte."""

    id: NodeId
    path: str
    user_data: bytes


@dataclass(frozen=True, slots=True)
class ArrayNode:
    """An array; ``user_data`` is its zarr.json, byte for byte."""

    id: NodeId
    path: str
    user_data: bytes
    shape: tuple[DimensionShape, ...]
    dimension_names: tuple[str | None, ...] | None
    manifests: tuple[ManifestRef, ...]


Node = GroupNode | ArrayNode


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of the repository.

    ``spec_version`` is the version of this file, which may be older than the repository's.
    ``parent_id`` is known here for version 1 only; ``flushed_at`` is in microseconds since
    1970; ``nodes`` is sorted by the UTF-8 bytes of the path, which is absolute; ``nbytes``
    is about what this object occupies in memory.
    """

    spec_version: int
    id: SnapshotId
    parent_id: SnapshotId | None
    flushed_at: int
    message: str
    metadata: Mapping[str, Any]
    manifest_files: Mapping[ManifestId, ManifestFileInfo]
    nodes: tuple[Node, ...]
    nbytes: int

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a snapshot file.

        Raises:
            CorruptionError: *data* is not a sound snapshot file.
            UnsupportedVersionError: it is of a newer specification.
        """
        envelope = Envelope.decode(data, expect=FileType.SNAPSHOT)
        version = envelope.header.spec_version
        root = FlatBuffer(envelope.payload).root()
        parent = root.struct(1, 12)
        nodes = _sorted_nodes(required(root.tables(2), "Snapshot.nodes"))
        return cls(
            spec_version=version,
            id=SnapshotId(required(root.struct(0, 12), "Snapshot.id")),
            parent_id=None if parent is None else SnapshotId(parent),
            flushed_at=root.u64(3),
            message=required(root.string(4), "Snapshot.message"),
            metadata=decode_items(
                required(root.tables(5), "Snapshot.metadata"), decoder_of(version)
            ),
            manifest_files=_manifest_files(root),
            nodes=nodes,
            nbytes=sum(_NODE_COST + len(node.user_data) for node in nodes),
        )


def _manifest_files(root: Table) -> dict[ManifestId, ManifestFileInfo]:
    """Read both lists; each version writes one of them and leaves the other empty."""
    found: dict[ManifestId, ManifestFileInfo] = {}
    for table in root.tables(7) or ():
        manifest_id = ManifestId(required(table.struct(0, 12), "ManifestFileInfoV2.id"))
        found.setdefault(manifest_id, ManifestFileInfo(manifest_id, table.u64(1), table.u32(2)))
    for item in required(root.structs(6, _FILE_INFO_V1.size), "Snapshot.manifest_files"):
        raw_id, size, count = _FILE_INFO_V1.unpack(item)
        manifest_id = ManifestId(raw_id)
        found.setdefault(manifest_id, ManifestFileInfo(manifest_id, size, count))
    return found


def _sorted_nodes(tables: list[Table]) -> tuple[Node, ...]:
    """Read the nodes; of several with one path the first stays."""
    nodes: dict[bytes, Node] = {}
    for table in tables:
        node = _node(table)
        nodes.setdefault(node.path.encode(), node)
    return tuple(nodes[path] for path in sorted(nodes))


def _node(table: Table) -> Node:
    node_id = NodeId(required(table.struct(0, 8), "NodeSnapshot.id"))
    path = required(table.string(1), "NodeSnapshot.path")
    user_data = required(table.byte_vector(2), "NodeSnapshot.user_data")
    kind = table.u8(3)
    data = required(table.table(4), "NodeSnapshot.node_data")
    if kind == _GROUP:
        return GroupNode(node_id, path, user_data)
    if kind != _ARRAY:
        raise CorruptionError(f"the node {path!r} is of the unknown type {kind}")
    manifests = required(data.tables(2), "ArrayNodeData.manifests")
    return ArrayNode(
        id=node_id,
        path=path,
        user_data=user_data,
        shape=_shape(data, path),
        dimension_names=_dimension_names(data),
        manifests=tuple(_manifest_ref(manifest) for manifest in manifests),
    )


def _shape(data: Table, path: str) -> tuple[DimensionShape, ...]:
    structs = required(data.structs(0, _DIMENSION_V1.size), "ArrayNodeData.shape")
    tables = data.tables(3)
    if tables is not None:
        return tuple(DimensionShape(table.u64(0), table.u32(1)) for table in tables)
    return tuple(_dimension_v1(item, path) for item in structs)


def _dimension_v1(item: bytes, path: str) -> DimensionShape:
    # Official 2.x computes chunk_length back from the number of chunks, so it need not be
    # the chunk shape of the zarr.json; the number of chunks it yields is right.
    array_length, chunk_length = _DIMENSION_V1.unpack(item)
    if chunk_length == 0 and array_length != 0:
        raise CorruptionError(f"the array {path!r} has chunks of length 0")
    count = -(-array_length // chunk_length) if chunk_length else 0
    return DimensionShape(array_length, count)


def _dimension_names(data: Table) -> tuple[str | None, ...] | None:
    tables = data.tables(1)
    if tables is None:
        return None
    return tuple(table.string(0) or None for table in tables)


def _manifest_ref(table: Table) -> ManifestRef:
    manifest_id = ManifestId(required(table.struct(0, 12), "ManifestRef.object_id"))
    extents = required(table.structs(1, _EXTENT.size), "ManifestRef.extents")
    return ManifestRef(manifest_id, tuple(_EXTENT.unpack(extent) for extent in extents))
