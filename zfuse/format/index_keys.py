"""Chunk indices as single keys that sort like them, so that numpy can search them.

Indices are ordered lexicographically, as the specification orders references.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

U32 = npt.NDArray[np.uint32]
Keys = npt.NDArray[Any]
Key = np.int64 | npt.NDArray[np.bytes_]

_LARGEST: Final = 2**63 - 1


class IndexKeys:
    """The sorted keys of chunk indices that all have one rank.

    A key is a number where the grid that spans all indices is small enough for that, else
    the numbers of the index one after the other in big-endian bytes.
    """

    __slots__ = ("_limits", "_strides", "array", "rank")

    def __init__(self, coords: U32) -> None:
        """Make the keys of *coords* (n, rank), in the order that they have there."""
        self.rank = coords.shape[1]
        top = coords.max(axis=0) if len(coords) else np.zeros(self.rank, np.uint32)
        self._limits = tuple(int(n) + 1 for n in top)
        strides = [1]
        for limit in reversed(self._limits):
            strides.append(strides[-1] * limit)
        self._strides = tuple(reversed(strides)) if strides[-1] <= _LARGEST else None
        self.array: Keys = self._pack(coords)

    def __len__(self) -> int:
        return len(self.array)

    def is_sorted(self) -> bool:
        """Whether the keys ascend and none comes twice."""
        return bool(np.all(self.array[1:] > self.array[:-1]))

    def sort(self) -> npt.NDArray[np.int64]:
        """Bring the keys into order; of equal ones the first stays.

        Returns which of the former positions each key comes from.
        """
        order = np.argsort(self.array, kind="stable")
        keys = self.array[order]
        kept = np.ones(len(keys), np.bool_)
        kept[1:] = keys[1:] != keys[:-1]
        self.array = keys[kept]
        return order[kept]

    def find(self, coords: Sequence[int]) -> int | None:
        """Return the position of the key of *coords*, None where there is none."""
        if len(coords) != self.rank or not self._spans(coords):
            return None
        key = self._key(coords)
        position = int(self.array.searchsorted(key))
        if position == len(self.array) or self.array[position] != key:
            return None
        return position

    def find_many(self, coords: U32) -> npt.NDArray[np.int64]:
        """Return the position of the key of each of *coords* (n, rank), -1 where there is none."""
        missing = np.full(len(coords), -1)
        if len(self.array) == 0 or coords.shape[1] != self.rank:
            return missing
        inside = np.all(coords < np.array(self._limits, np.int64), axis=1)
        keys = self._pack(np.where(inside[:, None], coords, 0).astype(np.uint32))
        positions = np.minimum(self.array.searchsorted(keys), len(self.array) - 1)
        return np.where(inside & (self.array[positions] == keys), positions, missing)

    def under(self, prefix: Sequence[int]) -> tuple[int, int]:
        """Return the half-open range of the positions whose index starts with *prefix*."""
        if len(prefix) > self.rank or not self._spans(prefix):
            return 0, 0
        rest = self.rank - len(prefix)
        low = self._key([*prefix, *[0] * rest])
        high = self._key([*prefix, *(limit - 1 for limit in self._limits[len(prefix) :])])
        return int(self.array.searchsorted(low)), int(self.array.searchsorted(high, "right"))

    def coords(self, start: int, stop: int) -> U32:
        """Return the indices (stop - start, rank) of a range of keys."""
        keys = self.array[start:stop]
        if self._strides is None:
            return keys.view(">u4").reshape(len(keys), self.rank).astype(np.uint32)
        coords = np.empty((len(keys), self.rank), np.uint32)
        for axis, (size, stride) in enumerate(pairwise(self._strides)):
            coords[:, axis] = keys % size // stride
        return coords

    def _spans(self, coords: Sequence[int]) -> bool:
        return all(0 <= n < limit for n, limit in zip(coords, self._limits, strict=False))

    def _key(self, coords: Sequence[int]) -> Key:
        if self._strides is None:
            packed = b"".join(int(n).to_bytes(4) for n in coords)
            return np.array(packed, f"S{4 * self.rank}")
        return np.int64(sum(int(n) * s for n, s in zip(coords, self._strides[1:], strict=True)))

    def _pack(self, coords: U32) -> Keys:
        if self._strides is None:
            return coords.astype(">u4").view(f"S{4 * self.rank}").reshape(len(coords))
        keys = np.zeros(len(coords), np.int64)
        for axis, stride in enumerate(self._strides[1:]):
            keys += coords[:, axis].astype(np.int64) * stride
        return keys


def in_order(coords: U32) -> U32:
    """Return the indices *coords* (n, rank) in ascending order, each once."""
    keys = IndexKeys(coords)
    return coords if keys.is_sorted() else coords[keys.sort()]


def places_of(parts: Sequence[U32]) -> list[npt.NDArray[np.int64]]:
    """Return where the indices of *parts* are among those of all, in ascending order.

    Each part has a rank of its own, ascending, and is in order. An index comes before those
    that begin with it.
    """
    if len(parts) == 1:
        return [np.arange(len(parts[0]))]
    ends = np.cumsum([len(part) for part in parts])
    padded = np.zeros((parts[-1].shape[1], int(ends[-1])), np.int64)
    for part, end in zip(parts, ends.tolist(), strict=True):
        padded[: part.shape[1], end - len(part) : end] = part.T.astype(np.int64) + 1
    places = np.empty(int(ends[-1]), np.int64)
    places[np.lexsort(padded[::-1])] = np.arange(len(places))
    return np.split(places, ends[:-1])
