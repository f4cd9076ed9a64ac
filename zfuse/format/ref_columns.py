"""Chunk references by the million, as columns of numbers: what manifests are written from.

Whoever has references one by one uses ``zfuse.format.chunk_ref``; the two meet in
``RefColumns.of_refs``.
"""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self, assert_never

import numpy as np
import numpy.typing as npt

from zfuse.errors import CorruptionError, InvalidInputError
from zfuse.format.chunk_ref import ChunkRef, InlineRef, NativeRef, VirtualRef
from zfuse.format.extents import Extents, inside
from zfuse.format.flat_writer import utf8
from zfuse.format.index_keys import IndexKeys
from zfuse.format.locations import LocationDecompressor
from zfuse.format.ragged import Ragged

I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
Rows = I64 | npt.NDArray[np.bool_] | slice

ID_SIZE: Final = 12
_MAX_COORD: Final = 2**32 - 1


class RefKind(enum.IntEnum):
    """Where the chunk of a reference is.

    PACKED is a virtual one whose location is compressed with the dictionary. DAMAGED is one
    that says nowhere where its chunk is; it stays, as without it the chunk would read as the
    fill value.
    """

    DAMAGED = 0
    NATIVE = 1
    VIRTUAL = 2
    INLINE = 3
    PACKED = 4


@dataclass(frozen=True, slots=True, eq=False)
class RefColumns:
    """The references of one array, or some of them, all of one rank; a *row* is a position.

    ``coords`` is (n, rank). By kind the other columns mean something: ``offsets`` and
    ``lengths`` for NATIVE, VIRTUAL and PACKED, ``chunk_ids`` (n, 12) for NATIVE; ``texts``
    are the bytes of INLINE chunks, and locations, compressed for PACKED; ``etags`` and
    ``last_modified`` (seconds since 1970, 0 for none) for VIRTUAL and PACKED.
    ``dictionary`` is that of the PACKED rows, None if there are none.
    """

    coords: U32
    kinds: U8
    offsets: U64
    lengths: U64
    chunk_ids: U8
    texts: Ragged
    etags: Ragged
    last_modified: U32
    dictionary: bytes | None = None

    @classmethod
    def empty(cls, rank: int) -> Self:
        """Return no references, of indices of *rank* numbers."""
        return cls._of_kind(RefKind.DAMAGED, np.empty((0, rank), np.uint32))

    @classmethod
    def native(cls, coords: U32, chunk_ids: U8, lengths: U64, offsets: U64 | None = None) -> Self:
        """Return references to chunk files: ids (n, 12), sizes and, if not 0, offsets in them."""
        columns = cls._of_kind(RefKind.NATIVE, coords)
        offsets = columns.offsets if offsets is None else offsets
        return replace(columns, chunk_ids=chunk_ids, lengths=lengths, offsets=offsets).checked()

    @classmethod
    def inline(cls, coords: U32, chunks: Ragged) -> Self:
        """Return references that hold the bytes of *chunks* themselves."""
        return replace(cls._of_kind(RefKind.INLINE, coords), texts=chunks).checked()

    @classmethod
    def virtual(cls, coords: U32, locations: Ragged, offsets: U64, lengths: U64) -> Self:
        """Return references into foreign files without checksums; see ``with_checksums``."""
        columns = cls._of_kind(RefKind.VIRTUAL, coords)
        return replace(columns, texts=locations, offsets=offsets, lengths=lengths).checked()

    @classmethod
    def of_refs(cls, rank: int, refs: Iterable[tuple[Sequence[int], ChunkRef]]) -> Self:
        """Return the columns of *refs*, each with the index of its chunk.

        Raises:
            InvalidInputError: an index is not of *rank* numbers below 2**32.
        """
        rows = [(tuple(coords), *_row(ref)) for coords, ref in refs]
        if not all(_is_index(row[0], rank) for row in rows):
            raise InvalidInputError(f"a chunk index is not of {rank} numbers below 2**32")
        ids = b"".join(row[4] for row in rows)
        return cls(
            coords=np.array([row[0] for row in rows], np.uint32).reshape(len(rows), rank),
            kinds=np.array([row[1] for row in rows], np.uint8),
            offsets=np.array([row[2] for row in rows], np.uint64),
            lengths=np.array([row[3] for row in rows], np.uint64),
            chunk_ids=np.frombuffer(ids, np.uint8).reshape(len(rows), ID_SIZE),
            texts=Ragged.of(row[5] for row in rows),
            etags=Ragged.of(row[6] for row in rows),
            last_modified=np.array([row[7] for row in rows], np.uint32),
        )

    @classmethod
    def _of_kind(cls, kind: RefKind, coords: U32) -> Self:
        count = len(coords)
        return cls(
            coords=coords,
            kinds=np.broadcast_to(np.uint8(kind), count),
            offsets=np.broadcast_to(np.uint64(0), count),
            lengths=np.broadcast_to(np.uint64(0), count),
            chunk_ids=np.broadcast_to(np.uint8(0), (count, ID_SIZE)),
            texts=Ragged.absent(count),
            etags=Ragged.absent(count),
            last_modified=np.broadcast_to(np.uint32(0), count),
        )

    def with_checksums(
        self, *, etags: Ragged | None = None, last_modified: U32 | None = None
    ) -> Self:
        """Return these virtual references with what they shall find their files to be.

        Where a row has both, its etag counts alone.
        """
        etags = self.etags if etags is None else etags
        times = self.last_modified if last_modified is None else last_modified
        times = np.where(etags.present, np.uint32(0), times)
        return replace(self, etags=etags, last_modified=times).checked()

    def checked(self) -> Self:
        """Return this, whose columns are all of one length.

        Raises:
            InvalidInputError: they are not.
        """
        lengths = {len(self.coords), len(self.kinds), len(self.offsets), len(self.lengths)}
        lengths |= {len(self.chunk_ids), len(self.texts), len(self.etags), len(self.last_modified)}
        if self.coords.ndim != 2 or len(lengths) > 1:
            raise InvalidInputError("the columns of chunk references differ in length")
        return self

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def rank(self) -> int:
        """How many numbers an index has."""
        return int(self.coords.shape[1])

    @property
    def sizes(self) -> U64:
        """How many bytes each chunk has."""
        inline = self.kinds == RefKind.INLINE
        return np.where(inline, np.maximum(self.texts.sizes, 0).astype(np.uint64), self.lengths)

    def take(self, rows: Rows) -> Self:
        """Return some *rows*, in that order."""
        return type(self)(
            coords=self.coords[rows],
            kinds=self.kinds[rows],
            offsets=self.offsets[rows],
            lengths=self.lengths[rows],
            chunk_ids=self.chunk_ids[rows],
            texts=self.texts.take(rows),
            etags=self.etags.take(rows),
            last_modified=self.last_modified[rows],
            dictionary=self.dictionary,
        )

    def compact(self) -> Self:
        """Return equal columns that hold few bytes more than they need."""
        return replace(self, texts=self.texts.compact(), etags=self.etags.compact())

    def same_as(self, other: "RefColumns") -> bool:
        """Tell whether *other* has the same references, in the same form."""
        columns = ("coords", "kinds", "offsets", "lengths", "chunk_ids", "last_modified")
        return (
            self.dictionary == other.dictionary
            and all(np.array_equal(getattr(self, c), getattr(other, c)) for c in columns)
            and list(self.texts) == list(other.texts)
            and list(self.etags) == list(other.etags)
        )

    def inside(self, box: Extents) -> Self:
        """Return the references whose index lies in *box*."""
        kept = inside(self.coords, box)
        return self if kept.all() else self.take(kept)

    def without(self, coords: U32) -> Self:
        """Return the references but those at the indices *coords* (m, rank), in any order."""
        keys = IndexKeys(coords)
        if not keys.is_sorted():
            keys.sort()
        found = keys.find_many(self.coords) >= 0
        return self.take(~found) if found.any() else self


def join(parts: Sequence[RefColumns]) -> RefColumns:
    """Return the references of all *parts*, of which there is at least one, as they come.

    Compressed locations stay so if all *parts* that have some share a dictionary.
    """
    dictionary = common_dictionary(parts)
    if dictionary is None:
        parts = [plain(part) for part in parts]
    return RefColumns(
        coords=np.concatenate([part.coords for part in parts]),
        kinds=np.concatenate([part.kinds for part in parts]),
        offsets=np.concatenate([part.offsets for part in parts]),
        lengths=np.concatenate([part.lengths for part in parts]),
        chunk_ids=np.concatenate([part.chunk_ids for part in parts]),
        texts=Ragged.concat([part.texts for part in parts]),
        etags=Ragged.concat([part.etags for part in parts]),
        last_modified=np.concatenate([part.last_modified for part in parts]),
        dictionary=dictionary,
    )


def common_dictionary(parts: Sequence[RefColumns]) -> bytes | None:
    """Return the dictionary of all compressed locations in *parts*, None if it is not one."""
    needed = {part.dictionary for part in parts if (part.kinds == RefKind.PACKED).any()}
    return needed.pop() if len(needed) == 1 else None


def merge(parts: Sequence[RefColumns]) -> RefColumns:
    """Return the references of all *parts*, of which there is at least one, sorted by index.

    Of several with one index that of the last part stays, in it the last.
    """
    parts = [part for part in parts if len(part)] or list(parts[:1])
    if len(parts) == 1 and IndexKeys(parts[0].coords).is_sorted():
        return parts[0]
    every = parts[0] if len(parts) == 1 else join(parts)
    # sort() keeps the first of equal ones, so it gets them from the end.
    rows = len(every) - 1 - IndexKeys(every.coords[::-1]).sort()
    return every.take(rows)


def plain(columns: RefColumns) -> RefColumns:
    """Return *columns* with all locations unpacked; rows where that fails become DAMAGED."""
    packed = columns.kinds == RefKind.PACKED
    if not packed.any():
        return replace(columns, dictionary=None)
    rows = np.flatnonzero(packed)
    decompressor = LocationDecompressor(1, columns.dictionary)
    locations = Ragged.of(_unpack(decompressor, columns.texts[row]) for row in rows.tolist())
    kinds = columns.kinds.copy()
    kinds[rows] = np.where(locations.present, RefKind.VIRTUAL, RefKind.DAMAGED)
    source = np.arange(len(columns))
    source[rows] = len(columns) + np.arange(len(rows))
    texts = Ragged.concat([columns.texts.only(~packed), locations]).take(source)
    return replace(columns, kinds=kinds, texts=texts, dictionary=None)


def _is_index(coords: Sequence[int], rank: int) -> bool:
    return len(coords) == rank and all(0 <= n <= _MAX_COORD for n in coords)


def _unpack(decompressor: LocationDecompressor, frame: bytes | None) -> bytes | None:
    try:
        return decompressor.decompress(frame or b"").encode()
    except CorruptionError:
        return None


def _row(ref: ChunkRef) -> tuple[RefKind, int, int, bytes, bytes | None, bytes | None, int]:
    """Return kind, offset, length, chunk id, text, etag and time of *ref*."""
    no_id = bytes(ID_SIZE)
    match ref:
        case InlineRef():
            return RefKind.INLINE, 0, 0, no_id, ref.data, None, 0
        case NativeRef():
            return RefKind.NATIVE, ref.offset, ref.size, bytes(ref.chunk_id), None, None, 0
        case VirtualRef():
            etag = None if ref.etag is None else utf8(ref.etag)
            time = 0 if etag is not None else ref.last_modified or 0
            return RefKind.VIRTUAL, ref.offset, ref.size, no_id, utf8(ref.location), etag, time
        case _:
            assert_never(ref)
