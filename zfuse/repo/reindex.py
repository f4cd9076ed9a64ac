"""Moving the chunks of an array to other indices, without touching their bytes.

Semantics are those of the official library, but that an offset needs one number for each
dimension, and that nothing is changed where a function raises.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import trio

from zfuse.errors import CorruptionError, InvalidInputError
from zfuse.format.extents import inside
from zfuse.format.ref_columns import RefColumns
from zfuse.format.snapshot import ArrayNode
from zfuse.format.zarr_json import ArrayMetadata
from zfuse.repo.workspace import Workspace

I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]

Reindexing = Callable[[list[int]], Sequence[int] | None]
"""From the index of a chunk to another one, or to None."""

_MAX_COORD = 2**32 - 1


async def shift_array(workspace: Workspace, path: str, offset: Sequence[int]) -> None:
    """Move all chunks of an array by *offset* chunks along each dimension.

    Chunks that would leave the grid are gone, and where they came from and none arrives there
    is none.

    Raises:
        InvalidInputError: *offset* is not of the array's rank, or its chunks differ in shape.
        NotFoundError: there is no such array.
    """
    array = _regular(workspace, path)
    if len(offset) != len(array.shape):
        raise InvalidInputError(
            f"{path} has {len(array.shape)} dimensions, but the offset {len(offset)} numbers"
        )
    refs = await _references(workspace, array)
    if refs is None or not any(offset):
        return
    grid = _grid(array)
    # Beyond the grid is beyond the grid; far beyond, numbers would wrap around.
    steps = [max(-(2**33), min(step, 2**33)) for step in offset]
    targets = refs.coords.astype(np.int64) + np.array(steps, np.int64)
    kept = inside(targets, grid)
    moved = replace(refs.take(kept), coords=targets[kept].astype(np.uint32))
    await workspace.replace_chunks(path, refs.coords, moved)


async def reindex_array(
    workspace: Workspace, path: str, forward: Reindexing, backward: Reindexing | None = None
) -> None:
    """Copy each chunk of an array, by reference, to the index that *forward* gives for its own.

    None leaves it alone. *backward* gives for the index of each chunk the one that the chunk
    arriving there comes from: where that is None, or there is no chunk, there is none any more.
    Both are called in another thread.

    Raises:
        InvalidInputError: *forward* leads out of the grid, or the chunks differ in shape.
        NotFoundError: there is no such array.
    """
    array = _regular(workspace, path)
    refs = await _references(workspace, array)
    if refs is None:
        return
    gone, moved = await trio.to_thread.run_sync(_reindexed, refs, forward, backward)
    await workspace.replace_chunks(path, gone, moved)


def _reindexed(
    refs: RefColumns, forward: Reindexing, backward: Reindexing | None
) -> tuple[U32, RefColumns]:
    """Return the indices (n, rank) that are cleared, and the references that arrive."""
    sources: list[int] = []
    targets: list[tuple[int, ...]] = []
    indices = refs.coords.tolist()
    for row, index in enumerate(indices):
        target = _index(forward(list(index)), refs.rank)
        if target is not None:
            sources.append(row)
            targets.append(target)
    moved = replace(
        refs.take(np.array(sources, np.int64)),
        coords=np.array(targets, np.uint32).reshape(len(targets), refs.rank),
    )
    gone: list[list[int]] = []
    if backward is not None:
        there = {tuple(index) for index in indices}
        gone = [i for i in indices if _index(backward(list(i)), refs.rank) not in there]
    return np.array(gone, np.uint32).reshape(len(gone), refs.rank), moved


def _index(found: Sequence[int] | None, rank: int) -> tuple[int, ...] | None:
    if found is None:
        return None
    index = tuple(int(number) for number in found)
    if len(index) != rank or not all(0 <= number <= _MAX_COORD for number in index):
        raise InvalidInputError(f"{index} is not the index of a chunk; write None for no chunk")
    return index


def _regular(workspace: Workspace, path: str) -> ArrayNode:
    array = workspace.tree.array(path)
    try:
        chunk_shape = ArrayMetadata.parse(array.user_data).chunk_shape
    except CorruptionError:
        chunk_shape = None
    if chunk_shape is None:
        raise InvalidInputError(
            f"{path} has no regular chunk grid: its chunks would not fit where they go"
        )
    return array


async def _references(workspace: Workspace, array: ArrayNode) -> RefColumns | None:
    for columns in await workspace.chunk_columns(array):
        return columns.inside(tuple(_grid(array)))
    return None


def _grid(array: ArrayNode) -> list[tuple[int, int]]:
    return [(0, dimension.num_chunks) for dimension in array.shape]
