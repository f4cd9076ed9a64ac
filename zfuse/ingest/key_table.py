"""From keys that lead to bytes to a hierarchy: what Zarr stores and kerchunk references share.

Both are tables with a row for each key. Some keys are metadata, of Zarr v2 or v3; below those
of arrays lie chunks, and whatever else somebody left there.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zfuse.errors import CorruptionError, InvalidInputError, ZfuseError
from zfuse.format.ragged import Ragged
from zfuse.format.zarr_json import ArrayMetadata, V2ChunkKeys
from zfuse.ingest.chunk_keys import (
    KeyPattern,
    ends_with,
    owners,
    parse_indices,
    without_ends,
)
from zfuse.ingest.metadata import group_document, v2_document, v3_document
from zfuse.ingest.parsed import ChunkTable, ParsedNode
from zfuse.repo.documents import ArrayDocument, parse_document

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

V3: Final = "zarr.json"
V2_ARRAY: Final = ".zarray"
V2_GROUP: Final = ".zgroup"
V2_ATTRIBUTES: Final = ".zattrs"
METADATA: Final = (V3, V2_ARRAY, V2_GROUP, V2_ATTRIBUTES)
_NEWEST: Final = 2  # the version of the specification that holds all that one can


@dataclass(frozen=True, slots=True, eq=False)
class KeyTable:
    """Keys, and where the bytes of each are; the other columns are those of a ChunkTable.

    ``documents`` are the bytes of the keys that are metadata.
    """

    documents: Mapping[str, bytes]
    keys: Ragged
    files: I64
    offsets: U64
    lengths: U64
    inline: Ragged

    def rows(self, directories: list[str]) -> list[I64]:
        """Return for each of *directories* the rows below it that are below no deeper one."""
        owner = owners(self.keys, [_prefix(path).encode() for path in directories])
        order = np.argsort(owner, kind="stable")
        edges = np.searchsorted(owner[order], np.arange(len(directories) + 1))
        return [order[low:high] for low, high in pairwise(edges.tolist())]


@dataclass(frozen=True, slots=True)
class _Array:
    path: str
    document: bytes
    pattern: KeyPattern


def hierarchy(table: KeyTable, source: str, skip: Set[str] = frozenset()) -> tuple[ParsedNode, ...]:
    """Return the nodes of a table, parents first; *source* is how errors call it.

    Those of a name in *skip*, and all below them, are left out.

    Raises:
        InvalidInputError: metadata do not parse, v3 can not express them, or a chunk is empty.
    """
    nodes: dict[str, ParsedNode] = {}
    arrays: list[_Array] = []
    for path in _directories(table.documents):
        if not skip.isdisjoint(path.split("/")):
            continue
        found = _sound_node(_Documents(table.documents, path, source))
        if isinstance(found, _Array):
            arrays.append(found)
        elif found is not None:
            nodes[path] = ParsedNode(path, found)
    for array, rows in zip(arrays, table.rows([a.path for a in arrays]), strict=True):
        chunks = _chunks(table, array, rows)
        _check_sizes(source, array, chunks)
        nodes[array.path] = ParsedNode(array.path, array.document, chunks)
    return tuple(nodes[path] for path in sorted(nodes))


def _directories(documents: Mapping[str, bytes]) -> list[str]:
    return sorted({key.rpartition("/")[0] for key in documents})


class _Documents:
    """The metadata of one directory."""

    def __init__(self, documents: Mapping[str, bytes], path: str, source: str) -> None:
        self.path = path
        self.name = f"{source}/{path}".rstrip("/")
        self._documents = documents

    def load(self, name: str) -> dict[str, Any] | None:
        """Return the JSON object in a file, None if there is none of that name."""
        data = self._documents.get(_prefix(self.path) + name)
        if data is None:
            return None
        try:
            loaded = json.loads(data)
        except (ValueError, RecursionError) as exc:
            raise InvalidInputError(
                f"{self.name}/{name} is not JSON, so it may be half-written: {exc}"
            ) from exc
        if not isinstance(loaded, dict):
            raise InvalidInputError(f"{self.name}/{name} is not a JSON object")
        return loaded


def _sound_node(documents: _Documents) -> _Array | bytes | None:
    """Do what ``_node`` does for metadata whatever somebody wrote into them."""
    try:
        return _node(documents)
    except ZfuseError:
        raise
    except Exception as exc:  # a list, say, where a number should be
        raise InvalidInputError(
            f"{documents.name}: its metadata are damaged: {type(exc).__name__}: {exc}"
        ) from exc


def _node(documents: _Documents) -> _Array | bytes | None:
    """Return the node of a directory: an array, the zarr.json of a group, or None."""
    document = documents.load(V3)
    if document is not None:
        return _v3_node(documents, document)
    zarray = documents.load(V2_ARRAY)
    if zarray is not None:
        attributes = documents.load(V2_ATTRIBUTES) or {}
        separator = zarray.get("dimension_separator") or "."
        pattern = KeyPattern.of(V2ChunkKeys(separator))
        assert pattern is not None
        data = _checked(documents, lambda name: v2_document(name, zarray, attributes))
        return _Array(documents.path, data, pattern)
    if documents.load(V2_GROUP) is not None:
        return group_document(documents.load(V2_ATTRIBUTES) or {})
    return None


def _v3_node(documents: _Documents, document: dict[str, Any]) -> _Array | bytes:
    data = _checked(documents, lambda name: v3_document(name, document))
    if document.get("node_type") != "array":
        return data
    encoding = ArrayMetadata.parse(json.dumps(document).encode()).chunk_key_encoding
    pattern = None if encoding is None else KeyPattern.of(encoding)
    if pattern is None:
        raise InvalidInputError(
            f"array {documents.name} names its chunks in a way that zfuse does not know:"
            f" {document.get('chunk_key_encoding')!r}"
        )
    return _Array(documents.path, data, pattern)


def _checked(documents: _Documents, make: Callable[[str], bytes]) -> bytes:
    """Return what *make* makes of the name of a node, if a repository can hold it."""
    try:
        data = make(documents.name)
        parse_document(data, spec_version=_NEWEST)
    except InvalidInputError as exc:
        if documents.name in str(exc):
            raise
        raise InvalidInputError(f"{documents.name}: {exc}") from exc
    except CorruptionError as exc:
        raise InvalidInputError(f"{documents.name}: {exc}") from exc
    return data


def _chunks(table: KeyTable, array: _Array, rows: I64) -> ChunkTable:
    document = parse_document(array.document, spec_version=_NEWEST)
    assert isinstance(document, ArrayDocument)
    counts = np.array([dimension.num_chunks for dimension in document.shape], np.int64)
    below = without_ends(table.keys.take(rows), len(_prefix(array.path).encode()), 0)
    found, coords = parse_indices(below, array.pattern, len(counts))
    inside = (coords < counts).all(axis=1) if len(counts) else np.ones(len(coords), np.bool_)
    kept = rows[found[inside]]
    return ChunkTable(
        coords[inside],
        table.files[kept],
        table.offsets[kept],
        table.lengths[kept],
        table.inline.take(kept),
    )


def _check_sizes(source: str, array: _Array, chunks: ChunkTable) -> None:
    empty = np.flatnonzero((chunks.lengths == 0) & (chunks.inline.sizes <= 0))
    if len(empty):
        index = "/".join(map(str, chunks.coords[empty[0]].tolist()))
        raise InvalidInputError(
            f"the chunk {index} of {source}/{array.path} has no bytes, so it may be half-written;"
            " no chunk decodes from nothing"
        )


def _prefix(path: str) -> str:
    return f"{path}/" if path else ""


def metadata_keys(keys: Ragged) -> Iterator[tuple[int, str]]:
    """Yield the rows of *keys* that are metadata, and the keys."""
    for name in METADATA:
        whole = ends_with(keys, name.encode()) & (keys.sizes == len(name))
        for row in np.flatnonzero(whole | ends_with(keys, f"/{name}".encode())).tolist():
            yield row, (keys[row] or b"").decode(errors="surrogateescape")
