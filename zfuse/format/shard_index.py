"""Where the inner chunks of a shard lie, as its index tells.

Specification: Zarr codec ``sharding_indexed``, version 1.0. What is read here only helps to
fetch what a reader will want next, so nothing of it is an error: what makes no sense is left
out, and checksums are the reader's business.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from zfuse.byterange import ByteRange

_ENTRY = np.dtype([("offset", "<u8"), ("length", "<u8")])


@dataclass(frozen=True, slots=True)
class ShardLayout:
    """What an array's metadata tell about each of its shards.

    ``inner_bytes`` is about what an inner chunk takes without compression. The index has
    *entries* of 16 bytes and *trailer* bytes behind them, and lies at the start or the end of
    the shard; it has no entries where its form is unknown.
    """

    inner_bytes: int
    entries: int = 0
    trailer: int = 0
    at_start: bool = False

    def index_range(self, size: int) -> ByteRange | None:
        """Return where the index of a shard of *size* bytes is, None if that is not known."""
        length = self.entries * _ENTRY.itemsize + self.trailer
        if not self.entries or length > size:
            return None
        return ByteRange(0, length) if self.at_start else ByteRange(size - length, size)


class InnerChunks:
    """The inner chunks of a shard, found by position."""

    def __init__(self, starts: npt.NDArray[np.uint64], stops: npt.NDArray[np.uint64]) -> None:
        order = np.argsort(starts, kind="stable")
        self._starts = starts[order]
        self._stops = stops[order]

    @classmethod
    def decode(cls, index: bytes, layout: ShardLayout, size: int) -> Self:
        """Read the *index* of a shard of *size* bytes."""
        entries = np.frombuffer(index, _ENTRY, layout.entries)
        starts, lengths = entries["offset"], entries["length"]
        # Chunks that were never written have 2**64 - 1 for both.
        inside = (lengths > 0) & (starts < size) & (lengths <= np.uint64(size))
        inside[inside] &= starts[inside] + lengths[inside] <= size
        return cls(starts[inside], starts[inside] + lengths[inside])

    def at(self, offset: int) -> ByteRange | None:
        """Return the inner chunk that has the byte at *offset*."""
        number = int(np.searchsorted(self._starts, offset, side="right")) - 1
        if number < 0 or offset >= self._stops[number]:
            return None
        return ByteRange(int(self._starts[number]), int(self._stops[number]))
