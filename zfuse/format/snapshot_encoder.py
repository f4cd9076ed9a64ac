"""Writes snapshot files.

Specification: spec-v2, "Snapshot Files"; spec-v1 for the ``shape`` and ``manifest_files``
structs and for ``parent_id``.
"""

import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final

from zfuse.errors import InvalidInputError
from zfuse.format.envelope import DEFAULT_LEVEL, encode
from zfuse.format.flat_writer import REF, FlatWriter, utf8
from zfuse.format.header import FileType
from zfuse.format.ids import ManifestId
from zfuse.format.metadata_items import encode_items
from zfuse.format.snapshot import (
    ArrayNode,
    DimensionShape,
    ManifestFileInfo,
    ManifestRef,
    Node,
    Snapshot,
)
from zfuse.format.values_encoder import encoder_of

_ARRAY, _GROUP = 1, 2  # the union NodeData
_FILE_INFO_V1: Final = struct.Struct("<12s4xQI4x")
_DIMENSION_V1: Final = struct.Struct("<QQ")
_EXTENT: Final = struct.Struct("<II")

_CACHED: Final = 4096
"""Shapes and names to keep encoded: most arrays of a repository share theirs with others."""


def encode_snapshot(snapshot: Snapshot, *, level: int = DEFAULT_LEVEL) -> bytes:
    """Return the file of *snapshot*, written to its ``spec_version``.

    Nodes may come in any order. Of ``manifest_files`` those that no array refers to are left
    out. Version 2 keeps parents in the repo info, so ``parent_id`` counts for version 1 alone.

    Raises:
        InvalidInputError: two nodes have one path, an array refers to a manifest that is not
            among ``manifest_files``, metadata are not what JSON has, or version 1 can not
            hold the chunk grid of an array.
    """
    is_v1 = snapshot.spec_version == 1
    nodes = _sorted(snapshot.nodes)
    files = _manifest_files(nodes, snapshot.manifest_files)
    w = FlatWriter()
    node_places = [_node(w, node, is_v1=is_v1) for node in nodes]
    parent = snapshot.parent_id if is_v1 else None
    root = w.table(
        (3, "Q", snapshot.flushed_at),
        (4, REF, w.string(snapshot.message)),
        (5, REF, encode_items(w, snapshot.metadata, encoder_of(snapshot.spec_version))),
        (2, REF, w.offsets(node_places)),
        (6, REF, _files_v1(w, files if is_v1 else ())),
        (7, REF, None if is_v1 else _files_v2(w, files)),
        (0, "12s", snapshot.id),
        (1, "12s", parent),
    )
    return encode(FileType.SNAPSHOT, snapshot.spec_version, w.finish(root), level=level)


def _sorted(nodes: Sequence[Node]) -> list[Node]:
    ordered = sorted(nodes, key=lambda node: utf8(node.path))
    for a, b in pairwise(ordered):
        if a.path == b.path:
            raise InvalidInputError(f"two nodes have the path {a.path!r}")
    return ordered


def _manifest_files(
    nodes: Sequence[Node], known: Mapping[ManifestId, ManifestFileInfo]
) -> list[ManifestFileInfo]:
    """Return what is *known* of the manifests of *nodes*, sorted by id."""
    used = {
        ref.manifest_id for node in nodes if isinstance(node, ArrayNode) for ref in node.manifests
    }
    if not used <= known.keys():
        raise InvalidInputError("an array refers to a manifest that the snapshot does not list")
    return [known[manifest_id] for manifest_id in sorted(used)]


def _files_v1(w: FlatWriter, files: Sequence[ManifestFileInfo]) -> int:
    items = [_FILE_INFO_V1.pack(f.manifest_id, f.size_bytes, f.num_chunk_refs) for f in files]
    return w.vector(b"".join(items), len(items), align=8)


def _files_v2(w: FlatWriter, files: Sequence[ManifestFileInfo]) -> int:
    return w.offsets(
        [
            w.table((2, "I", f.num_chunk_refs), (1, "Q", f.size_bytes), (0, "12s", f.manifest_id))
            for f in files
        ]
    )


def _node(w: FlatWriter, node: Node, *, is_v1: bool) -> int:
    if isinstance(node, ArrayNode):
        kind, data = _ARRAY, _array(w, node, is_v1=is_v1)
    else:
        kind, data = _GROUP, w.table()
    return w.table(
        (1, REF, w.string(node.path)),
        (2, REF, w.byte_vector(node.user_data)),
        (4, REF, data),
        (0, "8s", node.id),
        (3, "B", kind),
    )


def _array(w: FlatWriter, node: ArrayNode, *, is_v1: bool) -> int:
    names = node.dimension_names
    return w.table(
        (0, REF, _shape_v1(w, node.shape if is_v1 else (), node.path)),
        (1, REF, None if names is None else w.embed(_dimension_names(names))),
        (2, REF, w.offsets([_manifest_ref(w, ref) for ref in node.manifests])),
        (3, REF, None if is_v1 else w.embed(_shape_v2(node.shape))),
    )


def _shape_v1(w: FlatWriter, shape: Sequence[DimensionShape], path: str) -> int:
    items = [_DIMENSION_V1.pack(d.array_length, _chunk_length(d, path)) for d in shape]
    return w.vector(b"".join(items), len(items), align=8)


def _chunk_length(dimension: DimensionShape, path: str) -> int:
    """Return a chunk length that gives back the number of chunks, as readers work it out."""
    length, count = dimension.array_length, dimension.num_chunks
    chunk = -(-length // count) if count else 0
    if (-(-length // chunk) if chunk else 0) != count or (length and not chunk):
        raise InvalidInputError(
            f"version 1 can not hold the array {path!r}, of {count} chunks along {length} elements"
        )
    return chunk


@lru_cache(_CACHED)
def _shape_v2(shape: tuple[DimensionShape, ...]) -> bytes:
    w = FlatWriter()
    w.offsets([w.table((1, "I", d.num_chunks), (0, "Q", d.array_length)) for d in shape])
    return w.part()


@lru_cache(_CACHED)
def _dimension_names(names: tuple[str | None, ...]) -> bytes:
    w = FlatWriter()
    w.offsets([w.table((0, REF, w.string(name) if name else None)) for name in names])
    return w.part()


def _manifest_ref(w: FlatWriter, ref: ManifestRef) -> int:
    extents = b"".join(_EXTENT.pack(*extent) for extent in ref.extents)
    return w.table(
        (1, REF, w.vector(extents, len(ref.extents))),
        (0, "12s", ref.manifest_id),
    )
