"""Snapshot files: every group and array of one version of the repository.

Specification: spec-v2, "Snapshot Files"; spec-v1 for the ``shape`` and ``manifest_files``
structs and for ``parent_id``.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from zfuse.errors import CorruptionError
from zfuse.format.dimensions import read_names, read_shapes
from zfuse.format.envelope import Envelope
from zfuse.format.flat import FlatBuffer, Table, required
from zfuse.format.header import FileType
from zfuse.format.ids import ManifestId, NodeId, SnapshotId
from zfuse.format.metadata_items import decode_items
from zfuse.format.repo_info import SnapshotInfo
from zfuse.format.values import decoder_of

_ARRAY, _GROUP = 1, 2  # the union NodeData
_FILE_INFO_V1: Final = struct.Struct("<12s4xQI4x")
_EXTENT: Final = struct.Struct("<II")

_NODE_COST: Final = 450
_MANIFEST_COST: Final = 400
"""About what a node occupies apart from its zarr.json, and a reference to a manifest."""


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
    nbytes: int = 0

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a snapshot file.

        Raises:
            CorruptionError: *data* is not a sound snapshot file.
            UnsupportedVersionError: it is of a newer specification.
        """
        envelope = Envelope.decode(data, expect=FileType.SNAPSHOT)
        version = envelope.header.spec_version
        buffer = FlatBuffer(envelope.payload)
        root = buffer.root()
        info = _info(root, version)
        manifest_files = _manifest_files(root)
        nodes = _nodes(buffer, required(root.tables(2), "Snapshot.nodes"))
        return cls(
            spec_version=version,
            id=info.id,
            parent_id=info.parent_id,
            flushed_at=info.flushed_at,
            message=info.message,
            metadata=info.metadata,
            manifest_files=manifest_files,
            nodes=nodes,
            nbytes=_MANIFEST_COST * len(manifest_files) + sum(map(_weight, nodes)),
        )


def decode_manifest_files(data: bytes) -> dict[ManifestId, ManifestFileInfo]:
    """Read of a snapshot file only which manifests its arrays have, which is much less work.

    Raises:
        CorruptionError: *data* is not a sound snapshot file.
        UnsupportedVersionError: it is of a newer specification.
    """
    envelope = Envelope.decode(data, expect=FileType.SNAPSHOT)
    return _manifest_files(FlatBuffer(envelope.payload).root())


def decode_info(data: bytes) -> SnapshotInfo:
    """Read of a snapshot file all but its nodes; version 2 keeps the parent elsewhere.

    Raises:
        CorruptionError: *data* is not a sound snapshot file.
        UnsupportedVersionError: it is of a newer specification.
    """
    envelope = Envelope.decode(data, expect=FileType.SNAPSHOT)
    root = FlatBuffer(envelope.payload).root()
    return _info(root, envelope.header.spec_version)


def _info(root: Table, version: int) -> SnapshotInfo:
    parent = root.struct(1, 12)
    metadata = required(root.tables(5), "Snapshot.metadata")
    return SnapshotInfo(
        id=SnapshotId(required(root.struct(0, 12), "Snapshot.id")),
        parent_id=None if parent is None else SnapshotId(parent),
        flushed_at=root.u64(3),
        message=required(root.string(4), "Snapshot.message"),
        metadata=decode_items(metadata, decoder_of(version)),
    )


def _weight(node: Node) -> int:
    manifests = len(node.manifests) if isinstance(node, ArrayNode) else 0
    return _NODE_COST + len(node.user_data) + _MANIFEST_COST * manifests


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


def _nodes(buffer: FlatBuffer, tables: Sequence[Table]) -> tuple[Node, ...]:
    """Read the nodes, sorted by path; of several with one path the first stays."""
    found: dict[bytes, tuple[str, Table]] = {}
    for table in tables:
        path = required(table.string(1), "NodeSnapshot.path")
        found.setdefault(path.encode(), (path, table))
    ordered = [found[path] for path in sorted(found)]
    array_data = [_array_data(path, table) for path, table in ordered]
    arrays = [data for data in array_data if data is not None]
    shapes, names = iter(read_shapes(buffer, arrays)), iter(read_names(buffer, arrays))
    dimensions = _Dimensions()
    nodes: list[Node] = []
    for (path, table), data in zip(ordered, array_data, strict=True):
        node_id = NodeId(required(table.struct(0, 8), "NodeSnapshot.id"))
        user_data = required(table.byte_vector(2), "NodeSnapshot.user_data")
        if data is None:
            nodes.append(GroupNode(node_id, path, user_data))
        else:
            shape = tuple(map(dimensions.__getitem__, next(shapes)))
            manifests = required(data.tables(2), "ArrayNodeData.manifests")
            refs = tuple(map(_manifest_ref, manifests))
            nodes.append(ArrayNode(node_id, path, user_data, shape, next(names), refs))
    return tuple(nodes)


def _array_data(path: str, table: Table) -> Table | None:
    """Return the ArrayNodeData of a node, None for a group."""
    data, kind = required(table.table(4), "NodeSnapshot.node_data"), table.u8(3)
    if kind not in (_ARRAY, _GROUP):
        raise CorruptionError(f"the node {path!r} is of the unknown type {kind}")
    return data if kind == _ARRAY else None


class _Dimensions(dict[tuple[int, int], DimensionShape]):
    """Makes each dimension once: a repository has few different ones."""

    def __missing__(self, lengths: tuple[int, int]) -> DimensionShape:
        dimension = self[lengths] = DimensionShape(*lengths)
        return dimension


def _manifest_ref(table: Table) -> ManifestRef:
    manifest_id = ManifestId(required(table.struct(0, 12), "ManifestRef.object_id"))
    extents = required(table.structs(1, _EXTENT.size), "ManifestRef.extents")
    return ManifestRef(manifest_id, tuple(_EXTENT.unpack(extent) for extent in extents))
