"""Snapshot files: every group and array of one version of the repository.

Specification: spec-v2, "Snapshot Files"; spec-v1 for the ``shape`` and ``manifest_files``
structs and for ``parent_id``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from zfuse.format.ids import ManifestId, NodeId, SnapshotId


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
        raise NotImplementedError
