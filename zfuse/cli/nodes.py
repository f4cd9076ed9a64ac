"""What ``ls``, ``tree`` and ``info`` tell of a node."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zfuse.format.chunk_ref import InlineRef, NativeRef, VirtualRef
from zfuse.format.snapshot import ArrayNode
from zfuse.format.zarr_json import ArrayMetadata
from zfuse.repo.chunks import ChunkIndex
from zfuse.repo.repository import Repository
from zfuse.repo.view import HierarchyView


@dataclass(slots=True)
class StoredBytes:
    """How many chunks of an array are written, and their bytes, by where they lie."""

    chunks: int = 0
    native: int = 0
    inline: int = 0
    virtual: int = 0

    @property
    def total(self) -> int:
        """All bytes."""
        return self.native + self.inline + self.virtual


async def count_stored(repository: Repository, node: ArrayNode) -> tuple[int, int]:
    """Return how many chunks of an array are written, and their bytes."""
    chunks = size = 0
    for rows in await ChunkIndex(repository.assets).rows(node, (), len(node.shape)):
        chunks += rows.stop - rows.start
        size += int(rows.references.sizes(rows.start, rows.stop).sum())
    return chunks, size


async def stored_bytes(repository: Repository, node: ArrayNode) -> StoredBytes:
    """Count the written chunks of an array by where they lie, looking at every reference."""
    stored = StoredBytes()
    for rows in await ChunkIndex(repository.assets).rows(node, (), len(node.shape)):
        stored.chunks += rows.stop - rows.start
        for row in range(rows.start, rows.stop):
            ref = rows.references.ref(row)
            match ref:
                case InlineRef():
                    stored.inline += ref.size
                case NativeRef():
                    stored.native += ref.size
                case VirtualRef():
                    stored.virtual += ref.size
    return stored


def describe(view: HierarchyView, path: str) -> dict[str, Any]:
    """Return the JSON description of the node, or implicit group, at *path*."""
    node = view.node(path)
    if not isinstance(node, ArrayNode):
        kind = "group" if node is not None else "implicit group"
        return {"path": path, "kind": kind, "children": len(view.children(path))}
    described: dict[str, Any] = {
        "path": path,
        "kind": "array",
        "shape": [dimension.array_length for dimension in node.shape],
        "chunk_grid": [dimension.num_chunks for dimension in node.shape],
        "dimension_names": list(node.dimension_names) if node.dimension_names else None,
    }
    metadata = view.metadata(node)
    if metadata is not None:
        described |= _of_metadata(metadata)
    return described


def _of_metadata(metadata: ArrayMetadata) -> Mapping[str, Any]:
    chunks = metadata.chunk_shape if metadata.chunk_lengths is None else metadata.chunk_lengths
    inner = metadata.inner_chunk_shape
    return {
        "data_type": metadata.data_type,
        "chunks": [list(c) if isinstance(c, tuple) else c for c in chunks or ()],
        "inner_chunks": list(inner) if inner is not None else None,
        "codecs": list(metadata.codecs),
    }


def times(lengths: Any) -> str:  # noqa: ANN401 - numbers, or lists of them
    """Return a shape as people write it: ``720 x 1440``; a rectilinear length as ``(2,3)``."""
    parts = [f"({','.join(map(str, n))})" if isinstance(n, list) else str(n) for n in lengths]
    return " x ".join(parts) or "scalar"


def summary(described: Mapping[str, Any]) -> str:
    """Return one line about a node, for listings and trees."""
    if described["kind"] != "array":
        return str(described["kind"])
    text = f"{times(described['shape'])} {described.get('data_type', '?')}"
    if described.get("inner_chunks"):
        return f"{text}, shards {times(described['chunks'])} of {times(described['inner_chunks'])}"
    return f"{text}, chunks {times(described.get('chunks', ()))}"
