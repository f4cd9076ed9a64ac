"""Millions of flatbuffer tables at once: laid out and filled with numpy, no object per table.

The tables (*rows*) begin with a chunk index. Behind each table lies its index, then its byte
vector if it has one; strings, which rows may share, lie behind all rows.

Format: https://flatbuffers.dev/internals/
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from zfuse.errors import InvalidInputError
from zfuse.format.flat_writer import MAX_SIZE, vtable_of
from zfuse.format.ragged import Ragged

I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]

_INDEX: Final = 0
_HEAD_WORDS: Final = 2  # where the vtable is, where the index is
_BLOCK: Final = 1 << 16
"""Rows to fill at a time: temporaries of a few megabytes."""


@dataclass(frozen=True, slots=True)
class RowKind:
    """Those rows of a vector whose tables have the same fields and whose index has one rank.

    ``rows`` are their positions in the vector, ascending; ``index`` (m, rank) is in slot 0.
    ``numbers`` are (slot, words (m, k)): fields of k words of 4 bytes inside the table, those
    of 8 bytes first. ``strings`` are (slot, number of the string). ``tail`` is the slot of a
    byte vector, and the bytes, of which no row lacks some.
    """

    rows: I64
    index: U32
    numbers: tuple[tuple[int, U32], ...] = ()
    strings: tuple[tuple[int, I64], ...] = ()
    tail: tuple[int, Ragged] | None = None

    @property
    def table_words(self) -> int:
        """Length of a table."""
        numbers = sum(int(words.shape[1]) for _, words in self.numbers)
        return _HEAD_WORDS + numbers + len(self.strings) + (self.tail is not None)

    def row_words(self) -> I64:
        """Return how long each row is, to the next multiple of 8 bytes."""
        words: I64 = np.full(len(self.rows), self.table_words + 1 + self.index.shape[1])
        if self.tail is not None:
            words += 1 + _words(self.tail[1].sizes)
        return words + (words & 1)

    def vtable(self) -> bytes:
        """Return the vtable of the tables."""
        offsets = {_INDEX: 4}
        offset = 4 * _HEAD_WORDS
        for slot, words in self.numbers:
            offsets[slot] = offset
            offset += 4 * words.shape[1]
        for slot in [slot for slot, _ in self.strings] + ([self.tail[0]] if self.tail else []):
            offsets[slot] = offset
            offset += 4
        return vtable_of(offset, offsets)

    def fill(self, target: U32, starts: I64, vtable: int, heap: I64) -> None:
        """Write the rows to *target*.

        All positions count in words: *starts* those of the rows, *vtable*, and *heap* those
        of the strings.
        """
        for low in range(0, len(starts), _BLOCK):
            part = slice(low, low + _BLOCK)
            rows = self._matrix(part, starts[part], vtable, heap)
            target[starts[part, None] + np.arange(rows.shape[1])] = rows
        if self.tail is not None:
            behind = self.table_words + 1 + self.index.shape[1] + 1
            self.tail[1].copy_to(target.view(np.uint8), 4 * (starts + behind))

    def _matrix(self, part: slice, starts: I64, vtable: int, heap: I64) -> U32:
        """Return the words of some rows that are the same number in each."""
        rank, end = self.index.shape[1], self.table_words
        rows = np.empty((len(starts), end + 1 + rank + (self.tail is not None)), np.uint32)
        rows[:, 0] = 4 * (starts - vtable)
        rows[:, 1] = 4 * (end - 1)
        word = _HEAD_WORDS
        for _, words in self.numbers:
            rows[:, word : word + words.shape[1]] = words[part]
            word += words.shape[1]
        for _, numbers in self.strings:
            rows[:, word] = 4 * (heap[numbers[part]] - starts - word)
            word += 1
        rows[:, end] = rank
        rows[:, end + 1 : end + 1 + rank] = self.index[part]
        if self.tail is not None:
            rows[:, word] = 4 * (end + 1 + rank - word)
            rows[:, -1] = self.tail[1].sizes[part]
        return rows


def write_rows(kinds: Sequence[RowKind], strings: Ragged) -> U32:
    """Return the words of a vector of the rows in *kinds*, with all that it leads to.

    Raises:
        InvalidInputError: that is more than a flatbuffer can hold.
    """
    count = sum(len(kind.rows) for kind in kinds)
    vtables = [_padded(kind.vtable()) for kind in kinds]
    vtables_at = np.cumsum([1 + count, *map(len, vtables)])
    lengths = np.empty(count, np.int64)
    for kind in kinds:
        lengths[kind.rows] = kind.row_words()
    first = int(vtables_at[-1]) + (int(vtables_at[-1]) & 1)
    ends = first + np.cumsum(lengths)
    rows_at = ends - lengths
    heap_ends = (int(ends[-1]) if count else first) + np.cumsum(1 + _words(strings.sizes + 1))
    total = int(heap_ends[-1] if len(strings) else ends[-1] if count else first)
    if 4 * total > MAX_SIZE:
        raise InvalidInputError(
            f"{count} chunk references are more than one manifest can hold: split manifests more"
        )
    words = np.zeros(total + (total & 1), np.uint32)
    words[0] = count
    words[1 : count + 1] = 4 * (rows_at - np.arange(1, count + 1))
    heap_at = heap_ends - (1 + _words(strings.sizes + 1))
    for kind, vtable, at in zip(kinds, vtables, vtables_at.tolist(), strict=False):
        words[at : at + len(vtable)] = vtable
        kind.fill(words, rows_at[kind.rows], at, heap_at)
    words[heap_at] = strings.sizes
    strings.copy_to(words.view(np.uint8), 4 * (heap_at + 1))
    return words


def _words(sizes: I64) -> I64:
    return (sizes + 3) >> 2


def _padded(data: bytes) -> U32:
    return np.frombuffer(data + bytes(-len(data) % 4), "<u4")
