"""Many flatbuffer tables at once: fields located with numpy, no Python object per table.

Nothing here raises. Whatever is damaged, or points out of the buffer, counts as absent, and
an absent position is 0, where no field can be. The caller knows which fields are required.

Format: https://flatbuffers.dev/internals/
"""

from typing import Final

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]

BLOCK: Final = 1 << 16
"""Rows to work on at a time: temporaries of half a megabyte stay in the processor's cache."""


class RawBuffer:
    """A flatbuffer of at least 8 bytes as arrays of numbers. Positions are in bytes."""

    __slots__ = ("_u8", "_u16", "_u32", "size")

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._u8: npt.NDArray[np.uint8] = np.frombuffer(data, np.uint8)
        self._u16: npt.NDArray[np.uint16] = np.frombuffer(data, "<u2", len(data) // 2)
        self._u32: U32 = np.frombuffer(data, "<u4", len(data) // 4)

    def u32(self, positions: I64) -> I64:
        """Return the numbers at *positions*, which must be sound, 0 where they are absent."""
        numbers: I64 = self._u32[positions >> 2].astype(np.int64)
        numbers[positions == 0] = 0
        return numbers

    def u64(self, positions: I64) -> npt.NDArray[np.uint64]:
        """Return the numbers at *positions*, which must be sound, 0 where they are absent."""
        word = positions >> 2
        low, high = self._u32[word], self._u32[word + 1]
        number = high.astype(np.uint64) << np.uint64(32) | low
        return np.where(positions > 0, number, np.uint64(0))

    def u16(self, positions: I64) -> I64:
        """Return the numbers at *positions*, which must be sound."""
        numbers: I64 = self._u16[positions >> 1].astype(np.int64)
        return numbers

    def u8(self, positions: I64) -> npt.NDArray[np.uint8]:
        """Return the bytes at *positions*, which must be sound."""
        return self._u8[positions]

    def follow(self, positions: I64) -> I64:
        """Return where the offsets at *positions* lead; at least 4 bytes are there."""
        return self.sound(positions + self.u32(positions), positions > 0)

    def sound(self, positions: I64, usable: npt.NDArray[np.bool_]) -> I64:
        """Return those *positions* that are *usable*, aligned and inside, else 0."""
        usable = usable & (positions >= 4) & (positions <= self.size - 4) & (positions & 3 == 0)
        return np.where(usable, positions, 0)

    def vectors(self, fields: I64, item_size: int) -> tuple[I64, I64]:
        """Return where the vectors that *fields* point to start, and how long they are.

        The start is that of the first item, which lies behind the length.
        """
        heads = self.follow(fields)
        lengths = self.u32(heads)
        whole = (heads > 0) & (heads + 4 + lengths * item_size <= self.size)
        return np.where(whole, heads + 4, 0), np.where(whole, lengths, 0)

    def matrix(self, starts: npt.NDArray[np.unsignedinteger], width: int) -> U32:
        """Return the *width* numbers behind each of *starts*, which must be sound."""
        rows = np.empty((len(starts), width), np.uint32)
        columns = np.arange(width)
        step = max(1, BLOCK // max(1, width))
        for low in range(0, len(starts), step):
            words = starts[low : low + step].astype(np.int64) >> 2
            rows[low : low + step] = self._u32[words[:, None] + columns]
        return rows


class TableRows:
    """The tables at some positions of a buffer; the damaged ones have no fields."""

    __slots__ = ("_buffer", "_lengths", "_positions", "_sizes", "_vtables")

    def __init__(self, buffer: RawBuffer, positions: I64) -> None:
        vtables = positions - buffer.u32(positions).astype(np.int32)
        inside = (vtables >= 4) & (vtables <= buffer.size - 4) & (vtables & 1 == 0)
        vtables = np.where(inside & (positions > 0), vtables, 0)
        sizes = buffer.u16(vtables + 2)
        whole = (vtables > 0) & (positions + sizes <= buffer.size)
        lengths = np.where(whole, buffer.u16(vtables), 0)
        self._buffer = buffer
        self._positions = positions
        self._vtables = vtables
        self._sizes = sizes
        self._lengths = np.where(vtables + lengths <= buffer.size, lengths, 0)

    @property
    def sound(self) -> bool:
        """Whether none of the tables is damaged."""
        return bool(np.all(self._lengths >= 4))

    def field(self, slot: int, size: int, align: int = 4) -> I64:
        """Return the positions of a field of *size* bytes, at multiples of *align*."""
        offsets = self._offsets(slot)
        return np.where(self._fits(offsets, size, align), self._positions + offsets, 0)

    def broken(self, slot: int, size: int) -> bool:
        """Whether any table has that field at a place where it can not be."""
        offsets = self._offsets(slot)
        return bool(np.any((offsets > 0) & ~self._fits(offsets, size, 4)))

    def _offsets(self, slot: int) -> I64:
        entry = 4 + 2 * slot
        listed = self._lengths >= entry + 2
        return np.where(listed, self._buffer.u16(np.where(listed, self._vtables + entry, 0)), 0)

    def _fits(self, offsets: I64, size: int, align: int) -> npt.NDArray[np.bool_]:
        inside: npt.NDArray[np.bool_] = (offsets >= 4) & (offsets + size <= self._sizes)
        aligned: npt.NDArray[np.bool_] = offsets & (align - 1) == 0
        return inside & aligned
