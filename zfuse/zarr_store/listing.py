"""Which keys lie below a prefix, by the tree and the chunk references of a session.

A prefix is a directory: ``a`` and ``a/`` lead to ``a/zarr.json``, never to ``ab/zarr.json``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from zfuse.format.chunk_names import ChunkNames
from zfuse.format.extents import inside
from zfuse.format.ref_columns import RefColumns
from zfuse.format.snapshot import ArrayNode
from zfuse.repo.documents import path_fault
from zfuse.repo.working_tree import WorkingTree
from zfuse.repo.workspace import Workspace
from zfuse.zarr_store.keys import METADATA, arrays_above, chunk_names

_BATCH: Final = 1 << 14

U32 = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class ChunkPlace:
    """Chunks of an array: all whose index starts with *prefix*, *level* names below the array."""

    array: ArrayNode
    names: ChunkNames
    prefix: tuple[int, ...] = ()
    level: int = 0


def directory_path(prefix: str) -> str | None:
    """Return the path of the directory that *prefix* names, None if there can be none."""
    path = "/" + prefix.strip("/")
    return path if path_fault(path) is None else None


def nodes_below(tree: WorkingTree, path: str) -> list[str]:
    """Return the paths of the node at *path*, if there is one, and of all nodes below."""
    return [node.path for node in tree.subtree(path)]


def chunk_places(tree: WorkingTree, path: str) -> list[ChunkPlace]:
    """Return where below *path* chunks may be."""
    places = [place for node in tree.subtree(path) if (place := _all_chunks(node)) is not None]
    return places + chunk_directories(tree, path)


def chunk_directories(tree: WorkingTree, path: str) -> list[ChunkPlace]:
    """Return which chunks the directory at *path*, which is below their array, leads to."""
    found: list[ChunkPlace] = []
    for array, rest in arrays_above(tree, path[1:]) if path != "/" else ():
        names = chunk_names(array)
        parts = rest.split("/")
        prefix = None if names is None else names.find_directory(parts)
        if names is not None and prefix is not None:
            found.append(ChunkPlace(array, names, prefix, len(parts)))
    return found


def _all_chunks(node: object) -> ChunkPlace | None:
    names = chunk_names(node) if isinstance(node, ArrayNode) else None
    return None if names is None else ChunkPlace(node, names)  # type: ignore[arg-type]


async def references(
    workspace: Workspace, array: ArrayNode, prefix: tuple[int, ...] = ()
) -> RefColumns | None:
    """Return the references of an array's chunks whose index starts with *prefix*, if any.

    What is outside of the array's grid is left out.
    """
    for columns in await workspace.chunk_columns(array):
        grid = [(0, dimension.num_chunks) for dimension in array.shape]
        grid[: len(prefix)] = [(number, number + 1) for number in prefix]
        found = inside(columns.coords, grid)
        if found.all():
            return columns
        if found.any():
            return columns.take(found)
    return None


def chunk_keys(place: ChunkPlace, coords: U32) -> Iterator[list[str]]:
    """Yield the keys of the chunks of an array at *coords* (n, rank), in batches."""
    start = key_of(place.array.path, "")
    encode = place.names.encoding.encode
    for low in range(0, len(coords), _BATCH):
        yield [start + encode(index) for index in coords[low : low + _BATCH].tolist()]


def names_in(place: ChunkPlace, coords: U32) -> list[str]:
    """Return what the directory of *place* holds on the way to the chunks at *coords*."""
    names, level = place.names, place.level
    if level == names.depth:
        return names.leaf_names(coords.tolist())
    known = len(place.prefix)
    if names.known(level + 1) == known:
        return [names.directory_name(level + 1, place.prefix)]
    numbers = np.unique(coords[:, known]).tolist()
    return [names.directory_name(level + 1, (*place.prefix, number)) for number in numbers]


def key_of(path: str, name: str = METADATA) -> str:
    """Return the key of *name* in the directory of the node at *path*."""
    return name if path == "/" else f"{path[1:]}/{name}"
