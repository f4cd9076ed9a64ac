"""Which ranges of foreign files to read for many virtual chunks, in as few requests as helps."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from zfuse.byterange import ByteRange, coalesce
from zfuse.format.chunk_ref import VirtualRef
from zfuse.format.ref_columns import RefColumns
from zfuse.maintenance.sources import distinct
from zfuse.maintenance.stored_pieces import Keys, piece_key

I64 = npt.NDArray[np.int64]

_GAP: Final = 32 << 10
"""Bytes that are cheaper to read and throw away than to leave out with another request."""
_BLOCK: Final = 1 << 14


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """The different pieces of foreign files that some virtual chunks are.

    They are sorted by file and offset. ``of_row`` gives for each reference its piece; ``refs``
    has one reference for each piece; ``keys`` name them.
    """

    refs: RefColumns
    of_row: I64
    keys: Keys

    @classmethod
    def of(cls, columns: RefColumns) -> "Pieces":
        """Return the pieces of *columns*, which are virtual, and not packed."""
        locations, files = distinct(columns.texts)
        etags, tags = distinct(columns.etags)
        wanted = np.empty((len(columns), 5), np.int64)
        wanted[:, 0], wanted[:, 1] = files, tags
        wanted[:, 2], wanted[:, 3] = columns.last_modified, columns.offsets
        wanted[:, 4] = columns.lengths
        pieces, rows, of_row = np.unique(wanted, axis=0, return_index=True, return_inverse=True)
        keys = [
            piece_key(locations[file], offset, length, etags[tag], modified)
            for low in range(0, len(pieces), _BLOCK)
            for file, tag, modified, offset, length in pieces[low : low + _BLOCK].tolist()
        ]
        return cls(columns.take(rows), of_row.reshape(-1), np.array(keys, "S16"))

    def __len__(self) -> int:
        return len(self.refs)

    def ref(self, number: int) -> VirtualRef:
        """Return the reference to a piece."""
        refs = self.refs
        etag = refs.etags[number]
        return VirtualRef(
            (refs.texts[number] or b"").decode(),
            int(refs.offsets[number]),
            int(refs.lengths[number]),
            None if etag is None else etag.decode(),
            int(refs.last_modified[number]) or None,
        )


@dataclass(frozen=True, slots=True)
class Request:
    """One read: a range of a foreign file, and the pieces in it with their ranges there."""

    ref: VirtualRef
    pieces: tuple[tuple[int, ByteRange], ...]

    def __len__(self) -> int:
        return self.ref.size


def requests(pieces: Pieces, wanted: I64, most: int) -> Iterator[Request]:
    """Yield the reads that get the pieces *wanted*, by number and ascending.

    Neighbours in a file that were referenced with the same checksum are read together, up to
    *most* bytes; a larger piece is read alone.
    """
    pending: list[tuple[int, VirtualRef]] = []
    end = 0
    for number in wanted.tolist():
        ref = pieces.ref(number)
        end = max(end, ref.offset + ref.size)
        if pending:
            first = pending[0][1]
            if not _same_file(first, ref) or end - first.offset > most:
                yield from _together(pending)
                pending, end = [], ref.offset + ref.size
        pending.append((number, ref))
    yield from _together(pending)


def _same_file(one: VirtualRef, other: VirtualRef) -> bool:
    checks = one.etag == other.etag and one.last_modified == other.last_modified
    return checks and one.location == other.location


def _together(pending: list[tuple[int, VirtualRef]]) -> Iterator[Request]:
    """Yield the reads of pieces that lie near each other in one file."""
    ranges = [ByteRange(ref.offset, ref.offset + ref.size) for _, ref in pending]
    rest = list(zip(pending, ranges, strict=True))
    for whole in coalesce(ranges, gap=_GAP):
        inside = [(n, r) for (n, _), r in rest if whole.start <= r.start < whole.stop]
        ref = replace(pending[0][1], offset=whole.start, size=len(whole))
        yield Request(
            ref,
            tuple((n, ByteRange(r.start - whole.start, r.stop - whole.start)) for n, r in inside),
        )
