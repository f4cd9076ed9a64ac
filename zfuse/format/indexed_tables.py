"""Tables that begin with a chunk index: references in manifests, changes in transaction logs.

There may be millions of them, so they are found with numpy and kept as positions.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from zfuse.errors import CorruptionError
from zfuse.format.columns import BLOCK, RawBuffer, TableRows
from zfuse.format.flat import FlatBuffer

U32 = npt.NDArray[np.uint32]

MAX_RANK: Final = 1024
ROW_COST: Final = 8
"""Bytes that a table occupies here."""

_INDEX = 0  # the slot of the index, in ChunkRef and in ChunkIndices


class IndexedTables:
    """Sound tables with sound indices, in the order of the file."""

    __slots__ = ("_index", "_positions", "_raw", "data")

    def __init__(self, data: bytes, positions: U32, index: U32) -> None:
        """Take the *positions* of the tables, and of the first number of the *index* of each."""
        self.data = data
        self._raw = RawBuffer(data)
        self._positions = positions
        self._index = index

    def __len__(self) -> int:
        return len(self._positions)

    @classmethod
    def locate(
        cls, buffer: FlatBuffer, vectors: Sequence[tuple[int, int]]
    ) -> tuple[Self, list[slice]]:
        """Find the tables in some vectors, each given by its first item and its length.

        Returns:
            The tables, and which of them are those of each vector.

        Raises:
            CorruptionError: one of them is damaged or has no index.
        """
        bounds = np.cumsum([0, *(count for _, count in vectors)])
        starts = np.array([start for start, _ in vectors], np.int64)
        total = int(bounds[-1])
        buffer.charge(total * ROW_COST)
        found = np.empty((2, total), np.uint32)
        raw = RawBuffer(buffer.data)
        for low in range(0, total, BLOCK):
            rows = np.arange(low, min(low + BLOCK, total))
            vector = bounds.searchsorted(rows, "right") - 1
            positions = raw.follow(starts[vector] + 4 * (rows - bounds[vector]))
            index, ranks = raw.vectors(TableRows(raw, positions).field(_INDEX, 4), 4)
            if not np.all(index) or ranks.max() > MAX_RANK:
                raise CorruptionError("the entry of a chunk is damaged, or has no index")
            buffer.charge(4 * int(ranks.sum()))
            found[:, rows] = positions, index
        slices = [slice(start, stop) for start, stop in pairwise(bounds.tolist())]
        return cls(buffer.data, found[0], found[1]), slices

    def ranks(self, rows: slice) -> tuple[int, ...]:
        """Return the ranks of the indices that occur in *rows*, ascending."""
        return tuple(np.unique(self._rank_column(rows)).tolist())

    def select(self, rows: slice, rank: int) -> tuple[U32, U32]:
        """Return those tables in *rows* whose index is of *rank*: positions, indices (n, rank)."""
        positions, index = self._positions[rows], self._index[rows]
        wanted = self._rank_column(rows) == rank
        if not np.all(wanted):
            positions, index = positions[wanted], index[wanted]
        return positions, self._raw.matrix(index, rank)

    def _rank_column(self, rows: slice) -> U32:
        return self._raw.matrix(self._index[rows] - np.uint32(4), 1)[:, 0]
