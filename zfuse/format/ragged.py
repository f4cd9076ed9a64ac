"""A column of byte strings of different lengths, without a Python object for each.

The strings lie somewhere in one array of bytes, where several may share a place: a million
chunks of one virtual file name its location once.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]

_ABSENT: Final = -1
_BLOCK: Final = 1 << 20
"""Bytes to copy at a time, which pass through a temporary array."""


@dataclass(frozen=True, slots=True)
class Ragged:
    """Byte strings: *starts* in *data* and *sizes*; a size of -1 says that there is none."""

    data: U8
    starts: I64
    sizes: I64

    @classmethod
    def absent(cls, count: int) -> Self:
        """Return a column of *count* times nothing."""
        nothing = np.broadcast_to(np.int64(_ABSENT), count)
        return cls(np.empty(0, np.uint8), np.broadcast_to(np.int64(0), count), nothing)

    @classmethod
    def of(cls, items: Iterable[bytes | None]) -> Self:
        """Return the column of *items*, of which equal ones share their bytes."""
        places: dict[bytes | None, tuple[int, int]] = {None: (0, _ABSENT)}
        parts: list[bytes] = []
        end = 0

        def place(item: bytes | None) -> tuple[int, int]:
            nonlocal end
            found = places.get(item)
            if found is None:
                assert item is not None
                found = places[item] = (end, len(item))
                parts.append(item)
                end += len(item)
            return found

        flat = [number for item in items for number in place(item)]
        table = np.array(flat, np.int64).reshape(-1, 2)
        data = np.frombuffer(b"".join(parts), np.uint8)
        return cls(data, table[:, 0].copy(), table[:, 1].copy())

    @classmethod
    def concat(cls, parts: Sequence[Self]) -> Self:
        """Return the column of all *parts*, one after the other."""
        parts = [part.compact() for part in parts]
        bases = np.cumsum([0, *(len(part.data) for part in parts)]).tolist()
        return cls(
            np.concatenate([np.empty(0, np.uint8), *(part.data for part in parts)]),
            np.concatenate(
                [
                    np.empty(0, np.int64),
                    *(part.starts + base for part, base in zip(parts, bases, strict=False)),
                ]
            ),
            np.concatenate([np.empty(0, np.int64), *(part.sizes for part in parts)]),
        )

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, row: int) -> bytes | None:
        start, size = int(self.starts[row]), int(self.sizes[row])
        return None if size < 0 else self.data[start : start + size].tobytes()

    def __iter__(self) -> Iterator[bytes | None]:
        return (self[row] for row in range(len(self)))

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Whether there is a string, by row."""
        return self.sizes >= 0

    def take(self, rows: I64 | npt.NDArray[np.bool_] | slice) -> Self:
        """Return the column of some *rows* of this one, in that order."""
        return type(self)(self.data, self.starts[rows], self.sizes[rows])

    def only(self, kept: npt.NDArray[np.bool_]) -> Self:
        """Return the column with nothing in the rows that are not *kept*."""
        return replace(self, sizes=np.where(kept, self.sizes, _ABSENT))

    def is_utf8(self) -> npt.NDArray[np.bool_]:
        """Return by row whether the string is UTF-8, or there is none."""
        strings, numbers = self.unique()
        compact = strings.compact()
        if len(compact.data) == 0 or compact.data.max() < 128:
            return np.ones(len(self), np.bool_)
        good = np.array([string is None or _is_utf8(string) for string in compact])
        return good[numbers]

    def unique(self) -> tuple[Self, I64]:
        """Return the strings without repetition of those that share a place.

        Returns:
            The column of those, and for each row here its row there. Rows without a string
            count as one.
        """
        order = np.lexsort((self.sizes, self.starts))
        starts, sizes = self.starts[order], self.sizes[order]
        first = np.ones(len(order), np.bool_)
        first[1:] = (starts[1:] != starts[:-1]) | (sizes[1:] != sizes[:-1])
        numbers = np.empty(len(order), np.int64)
        numbers[order] = np.cumsum(first) - 1
        return type(self)(self.data, starts[first], sizes[first]), numbers

    def compact(self) -> Self:
        """Return an equal column that holds at most twice the bytes that its strings have."""
        strings, numbers = self.unique()
        needed = np.maximum(strings.sizes, 0)
        total = int(needed.sum())
        if 2 * total >= len(self.data):
            return self
        starts = np.cumsum(needed) - needed
        data = np.empty(total, np.uint8)
        strings.copy_to(data, starts)
        return type(self)(data, starts[numbers], self.sizes)

    def copy_to(self, target: U8, starts: I64) -> None:
        """Copy the string of each row to its place among *starts* in *target*."""
        order = np.argsort(self.sizes, kind="stable")
        sizes, counts = np.unique(self.sizes, return_counts=True)
        ends = np.cumsum(counts)
        for size, start, end in zip(
            sizes.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True
        ):
            if size > 0:
                items, places = windows(self.data, size), windows(target, size)
                step = max(1, _BLOCK // size)
                for low in range(start, end, step):
                    rows = order[low : min(low + step, end)]
                    places[starts[rows]] = items[self.starts[rows]]


def _is_utf8(string: bytes) -> bool:
    try:
        string.decode()
    except UnicodeDecodeError:
        return False
    return True


def windows(data: U8, size: int) -> npt.NDArray[np.void]:
    """Return a view of *data*, which has so many, with the *size* bytes from each position."""
    # numpy copies such an item with one memcpy, wherever it lies.
    return np.ndarray((len(data) - size + 1,), f"V{size}", data.data, strides=(1,))
