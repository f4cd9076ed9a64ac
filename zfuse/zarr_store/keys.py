"""What the keys of a Zarr store stand for in the tree of a session.

Specification: Zarr v3 core, "Storage"; the names of chunks are those that the array's
``chunk_key_encoding`` gives them. A key has one spelling: the official library also takes
``/a/zarr.json``, ``ac/0`` or ``a/c/00``, and stores nodes under them that nobody finds again.
"""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from zfuse.errors import CorruptionError, InvalidInputError, NotFoundError, ZfuseError
from zfuse.format.chunk_names import ChunkNames
from zfuse.format.snapshot import ArrayNode
from zfuse.format.zarr_json import ArrayMetadata
from zfuse.repo.documents import path_fault
from zfuse.repo.working_tree import WorkingTree

METADATA: Final = "zarr.json"
_V2_METADATA: Final = frozenset({".zarray", ".zgroup", ".zattrs", ".zmetadata"})
_CHUNK: Final = re.compile(r"((.*)/)?c(/[0-9]+)*")


@dataclass(frozen=True, slots=True)
class MetadataKey:
    """The key of the zarr.json of the node at *path*, which need not exist."""

    path: str


@dataclass(frozen=True, slots=True)
class ChunkKey:
    """The key of a chunk of *array*, inside or outside of its grid."""

    array: ArrayNode
    coords: tuple[int, ...]

    @property
    def is_in_grid(self) -> bool:
        """Whether the array can have that chunk."""
        grid = self.array.shape
        return all(n < dimension.num_chunks for n, dimension in zip(self.coords, grid, strict=True))


def is_document(key: str) -> bool:
    """Tell whether *key* is that of a zarr.json, if it is any; no chunk has such a name."""
    return key == METADATA or key.endswith("/" + METADATA)


def parse_key(tree: WorkingTree, key: str) -> MetadataKey | ChunkKey | None:
    """Return what *key* stands for, None if it is no key that this tree could have."""
    if key == METADATA:
        return MetadataKey("/")
    if is_document(key):
        path = "/" + key.removesuffix("/" + METADATA)
        known = path != "/" and (path in tree.nodes or path_fault(path) is None)
        return MetadataKey(path) if known else None
    for array, rest in arrays_above(tree, key):
        names = chunk_names(array)
        coords = None if names is None else names.encoding.decode(rest, names.rank)
        if coords is not None:
            return ChunkKey(array, coords)
    return None


def refused(tree: WorkingTree, key: str) -> ZfuseError:
    """Return why nothing can be stored under *key*, which ``parse_key`` does not know."""
    if key.rpartition("/")[2] in _V2_METADATA:
        return InvalidInputError(f"{key} is of Zarr v2; Icechunk holds Zarr v3 alone")
    chunk = _CHUNK.fullmatch(key)
    if chunk is not None:
        path = f"/{chunk[2] or ''}"
        if path_fault(path) is None and not isinstance(tree.nodes.get(path), ArrayNode):
            return NotFoundError(f"{key} can not be a chunk: there is no array {path}")
    return InvalidInputError(
        f"{key!r} is no key of this store: those are of zarr.json documents, and of chunks as"
        " their array names them"
    )


def arrays_above(tree: WorkingTree, key: str) -> Iterator[tuple[ArrayNode, str]]:
    """Yield the arrays that *key* lies below, the nearest first, and the rest of it there."""
    end = key.rfind("/")
    while end > 0:
        node = tree.nodes.get("/" + key[:end])
        if isinstance(node, ArrayNode):
            yield node, key[end + 1 :]
        end = key.rfind("/", 0, end)
    root = tree.nodes.get("/")
    if end < 0 and isinstance(root, ArrayNode):
        yield root, key


def chunk_names(array: ArrayNode) -> ChunkNames | None:
    """Return how the chunks of *array* are called, None where that is not known."""
    return _chunk_names(array.user_data, len(array.shape))


@functools.lru_cache(1024)
def _chunk_names(user_data: bytes, rank: int) -> ChunkNames | None:
    try:
        encoding = ArrayMetadata.parse(user_data).chunk_key_encoding
    except CorruptionError:
        return None
    return None if encoding is None else ChunkNames(encoding, rank)
