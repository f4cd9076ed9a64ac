"""Virtual references as programs give them: checked, and made into columns."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from zfuse.errors import ContainerNotAllowedError, CorruptionError, InvalidInputError
from zfuse.format.ids import ChunkId
from zfuse.format.ragged import Ragged
from zfuse.format.ref_columns import RefColumns, RefKind, plain
from zfuse.repo.virtual import DeclaredContainers, Place

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

Checksum = str | datetime | None
"""An etag, or the time when a file last changed, None where nothing is known."""

_MAX_TIME: Final = 2**32 - 1


class VirtualChunk(Protocol):
    """Where one chunk of an array is."""

    @property
    def index(self) -> Sequence[int]:
        """Its index in the array."""
        ...

    @property
    def location(self) -> str:
        """The URL of the file."""
        ...

    @property
    def offset(self) -> int:
        """Where in the file it begins."""
        ...

    @property
    def length(self) -> int:
        """How many bytes it has."""
        ...

    @property
    def etag_checksum(self) -> str | None:
        """What the etag of the file has to be."""
        ...

    @property
    def last_updated_at_checksum(self) -> datetime | None:
        """When the file may have changed at the latest."""
        ...


@dataclass(frozen=True, slots=True)
class VirtualColumns:
    """Virtual references by row, not checked yet; a row without a location is none."""

    coords: U32
    locations: Sequence[str]
    offsets: U64
    lengths: U64
    checksums: Sequence[Checksum]


def columns_of(chunks: Iterable[VirtualChunk]) -> VirtualColumns:
    """Return the columns of *chunks*.

    Raises:
        InvalidInputError: their indices are of several ranks, or numbers are out of range.
    """
    chunks = list(chunks)
    if len({len(chunk.index) for chunk in chunks}) > 1:
        raise InvalidInputError("the chunks have indices of different ranks")
    rank = len(chunks[0].index) if chunks else 0
    try:
        return VirtualColumns(
            np.array([list(c.index) for c in chunks], np.uint32).reshape(len(chunks), rank),
            [chunk.location for chunk in chunks],
            np.array([chunk.offset for chunk in chunks], np.uint64),
            np.array([chunk.length for chunk in chunks], np.uint64),
            [chunk.etag_checksum or chunk.last_updated_at_checksum for chunk in chunks],
        )
    except OverflowError as exc:
        raise InvalidInputError(f"a number of a virtual chunk is out of range: {exc}") from None


def grid_columns(
    grid: Sequence[int],
    first: Sequence[int] | None,
    locations: Sequence[str],
    extents: tuple[U64, U64],
    checksum: Checksum,
) -> VirtualColumns:
    """Return the columns of a whole box of chunks, in C order.

    *grid* is how many chunks the box has along each dimension, *first* the index of its first
    one; *extents* are offsets and lengths. Empty locations stand for chunks that are not there.

    Raises:
        ValueError: the lengths of the columns differ, or do not fit the box.
    """
    offsets, lengths = extents
    if not len(locations) == len(offsets) == len(lengths):
        raise ValueError("locations, offsets, and lengths must have the same length")
    if int(np.prod(grid, dtype=object)) != len(locations):
        raise ValueError(f"there are {len(locations)} locations for the chunk grid {tuple(grid)}")
    if first is not None and len(first) != len(grid):
        raise ValueError(
            f"arr_offset length ({len(first)}) != chunk_grid_shape length ({len(grid)})"
        )
    coords = np.indices(tuple(grid), np.uint32).reshape(len(grid), -1).T
    if first is not None:
        coords = coords + np.array(first, np.uint32)
    kept = np.array([location != "" for location in locations], np.bool_)
    if not kept.all():
        coords, offsets, lengths = coords[kept], offsets[kept], lengths[kept]
        locations = [location for location in locations if location]
    return VirtualColumns(coords, locations, offsets, lengths, [checksum] * len(locations))


def checked(
    columns: VirtualColumns, containers: DeclaredContainers | None
) -> tuple[RefColumns, list[tuple[int, ...]]]:
    """Return the references, and the indices of chunks that lie in none of *containers*.

    With no *containers* nothing is looked at but the form of the locations.

    Raises:
        InvalidInputError: a location is not a URL, or a time is before 1970 or after 2106.
        TypeError: a time has no zone.
    """
    # Each different location and checksum is looked at once: there may be a million chunks.
    locations, places = _numbered(columns.locations)
    declared = np.array([_is_declared(each, containers) for each in locations], np.bool_)[places]
    checksums, kinds = _numbered(columns.checksums)
    etags = Ragged.of(each.encode() if isinstance(each, str) else None for each in checksums)
    refs = RefColumns.virtual(
        columns.coords,
        Ragged.of(map(_normal, locations)).take(places),
        columns.offsets,
        columns.lengths,
    ).with_checksums(
        etags=etags.take(kinds),
        last_modified=np.array([_seconds(each) for each in checksums], np.uint32)[kinds],
    )
    failed = [tuple(index) for index in columns.coords[~declared].tolist()]
    return (refs.take(declared) if failed else refs), failed


def _numbered[T](values: Sequence[T]) -> tuple[list[T], npt.NDArray[np.int64]]:
    """Return the different *values*, and for each row the position of its value there."""
    numbers: dict[T, int] = {}
    rows = np.fromiter(
        (numbers.setdefault(value, len(numbers)) for value in values), np.int64, len(values)
    )
    return list(numbers), rows


def _is_declared(location: str, containers: DeclaredContainers | None) -> bool:
    if containers is None:
        return True
    try:
        return containers.holding(Place.parse(containers.absolute(location))) is not None
    except (ContainerNotAllowedError, CorruptionError):
        return False


def _normal(location: str) -> bytes:
    """Return *location* as it is stored, its scheme in small letters."""
    scheme, mark, rest = location.partition("://")
    if not mark or not scheme or not rest:
        raise InvalidInputError(f"{location!r} is not a URL; write s3://bucket/key or file:///path")
    if not rest.partition("/")[0] and scheme.lower() != "file":
        raise InvalidInputError(f"{location!r} names no bucket or host")
    return f"{scheme.lower()}://{rest}".encode()


def _seconds(checksum: Checksum) -> int:
    if not isinstance(checksum, datetime):
        return 0
    if checksum.tzinfo is None:
        raise TypeError("the time of a checksum needs a time zone: datetime.now(timezone.utc)")
    seconds = int(checksum.timestamp())
    if not 0 <= seconds <= _MAX_TIME:
        raise InvalidInputError(f"Icechunk can not hold the time {checksum}")
    return seconds


def with_urls(refs: RefColumns, containers: DeclaredContainers) -> RefColumns:
    """Return *refs* with every location a URL, none compressed.

    Raises:
        ContainerNotAllowedError: a location names a container that does not exist.
    """
    refs = plain(refs)
    virtual = refs.kinds == RefKind.VIRTUAL
    if not virtual.any():
        return refs
    strings, numbers = refs.texts.only(virtual).unique()
    urls = Ragged.of(
        None if text is None else containers.absolute(text.decode()).encode() for text in strings
    )
    texts = Ragged.concat([refs.texts, urls])
    rows = np.where(virtual, len(refs) + numbers, np.arange(len(refs)))
    return replace(refs, texts=texts.take(rows))


ChunkBatch = tuple[U32, npt.NDArray[np.uint8], list[str], U64, U64, dict[int, bytes]]
"""Columns of references: indices (n, rank), kinds (1 native, 2 virtual, 3 inline), where each
chunk is (its id, a URL, nothing), offsets, lengths, and by row the bytes of inline chunks."""


def batches(refs: RefColumns, size: int) -> Iterator[ChunkBatch]:
    """Yield *refs*, which ``with_urls`` made, in batches of *size* rows.

    Raises:
        CorruptionError: a reference says nowhere where its chunk is.
    """
    if (refs.kinds == RefKind.DAMAGED).any():
        raise CorruptionError("a reference says nowhere where its chunk is")
    for low in range(0, len(refs), size):
        part = refs.take(slice(low, low + size))
        inline = np.flatnonzero(part.kinds == RefKind.INLINE).tolist()
        inlined = {row: part.texts[row] or b"" for row in inline}
        places = [_place(part, row) for row in range(len(part))]
        yield part.coords, np.array(part.kinds), places, part.offsets, part.sizes, inlined


def _place(refs: RefColumns, row: int) -> str:
    match RefKind(int(refs.kinds[row])):
        case RefKind.NATIVE:
            return str(ChunkId(refs.chunk_ids[row].tobytes()))
        case RefKind.VIRTUAL:
            return (refs.texts[row] or b"").decode()
        case _:
            return ""
