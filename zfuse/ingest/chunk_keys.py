"""The keys of chunks by the million: which array they belong to, and which chunk they name.

What ``zfuse.format.zarr_json`` does for one key is done here for columns of them, with the
same strictness: only the canonical spelling of an index counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from zfuse.format.ragged import Ragged, windows
from zfuse.format.zarr_json import (
    AffixedChunkKeys,
    ChunkKeyEncoding,
    DefaultChunkKeys,
    V2ChunkKeys,
)

I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
Mask = npt.NDArray[np.bool_]

_BLOCK: Final = 1 << 16
_LONGEST: Final = 10  # digits of 2**32 - 1
_ZERO: Final = ord("0")
_NINE: Final = ord("9")
_POWERS: Final = 10 ** np.arange(_LONGEST, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class KeyPattern:
    """How chunk keys look below their array: numbers with a *separator* between two strings.

    ``scalar`` is the whole key of the chunk of an array without dimensions.
    """

    prefix: bytes
    suffix: bytes
    separator: bytes
    scalar: bytes

    @classmethod
    def of(cls, encoding: ChunkKeyEncoding) -> "KeyPattern | None":
        """Return the pattern of *encoding*, None if it is of a kind that has none."""
        scalar = encoding.encode(())
        match encoding:
            case DefaultChunkKeys(separator):
                return cls(f"c{separator}".encode(), b"", separator.encode(), scalar.encode())
            case V2ChunkKeys(separator):
                return cls(b"", b"", separator.encode(), scalar.encode())
            case AffixedChunkKeys(base, prefix, suffix):
                inner = cls.of(base)
                return inner and replace(
                    inner,
                    prefix=prefix.encode() + inner.prefix,
                    suffix=inner.suffix + suffix.encode(),
                    scalar=scalar.encode(),
                )
            case _:
                return None


def ends_with(texts: Ragged, ending: bytes) -> Mask:
    """Return which of *texts* end with *ending*."""
    found = texts.sizes >= len(ending)
    rows = np.flatnonzero(found)
    if len(rows) and ending:
        tails = windows(texts.data, len(ending))[
            texts.starts[rows] + texts.sizes[rows] - len(ending)
        ]
        found[rows] = tails == np.frombuffer(ending, f"V{len(ending)}")[0]
    return found


def starts_with(texts: Ragged, beginning: bytes) -> Mask:
    """Return which of *texts* start with *beginning*."""
    heads = replace(texts, sizes=np.minimum(texts.sizes, len(beginning)))
    return ends_with(heads, beginning)


def without_ends(texts: Ragged, front: int, back: int) -> Ragged:
    """Return *texts*, which all are long enough, without some bytes at both ends."""
    return replace(texts, starts=texts.starts + front, sizes=texts.sizes - front - back)


def owners(keys: Ragged, directories: Sequence[bytes]) -> I64:
    """Return for each key the position of the deepest of *directories* that it lies below.

    Directories end with a slash, or are b"", and come once. -1 stands for none.
    """
    places = np.full(len(keys), -1)
    if not directories:
        return places
    order = sorted(range(len(directories)), key=directories.__getitem__)
    names = [directories[n] for n in order]
    width = max(*map(len, names), 1)
    above = np.array(_above(names), np.int64)
    lengths = np.array([len(name) for name in names], np.int64)
    sought = np.array(names, f"S{width}")
    original = np.array(order, np.int64)
    for low in range(0, len(keys), _BLOCK):
        part = keys.take(slice(low, low + _BLOCK))
        heads = _heads(part, width)
        found = np.searchsorted(sought, heads, side="right") - 1
        # The nearest before is the owner, or one of those that it lies in itself.
        wrong = _not_below(heads, found, sought, lengths)
        while wrong.any():
            found[wrong] = above[found[wrong]]
            wrong = _not_below(heads, found, sought, lengths)
        places[low : low + len(part)] = np.where(found >= 0, original[found], -1)
    return places


def _above(names: Sequence[bytes]) -> list[int]:
    """Return for each of sorted *names* the longest that it begins with, -1 for none."""
    found: list[int] = []
    around: list[int] = []  # the names that the last one lies in, and itself
    for number, name in enumerate(names):
        while around and not name.startswith(names[around[-1]]):
            around.pop()
        found.append(around[-1] if around else -1)
        around.append(number)
    return found


def _heads(texts: Ragged, width: int) -> npt.NDArray[np.bytes_]:
    sizes = np.minimum(texts.sizes, width)
    heads = np.zeros((len(texts), width), np.uint8)
    replace(texts, sizes=sizes).copy_to(heads.reshape(-1), np.arange(len(texts)) * width)
    return heads.view(f"S{width}").reshape(len(texts))


def _not_below(
    heads: npt.NDArray[np.bytes_], found: I64, sought: npt.NDArray[np.bytes_], lengths: I64
) -> Mask:
    wrong = np.zeros(len(heads), np.bool_)
    for number in np.unique(found).tolist():
        if number >= 0:
            rows = found == number
            size = int(lengths[number])
            if size:
                wrong[rows] = heads[rows].astype(f"S{size}") != sought[number]
    return wrong


def parse_indices(keys: Ragged, pattern: KeyPattern, rank: int) -> tuple[I64, U32]:
    """Return which rows of *keys*, relative to their array, name chunks, and their indices.

    Returns:
        The rows, and the indices (n, rank) of the chunks they name.
    """
    if rank == 0:
        whole = keys.sizes == len(pattern.scalar)
        rows = np.flatnonzero(whole & ends_with(keys, pattern.scalar))
        return rows, np.empty((len(rows), 0), np.uint32)
    around = len(pattern.prefix) + len(pattern.suffix)
    fits = (keys.sizes > around) & starts_with(keys, pattern.prefix)
    fits &= ends_with(keys, pattern.suffix)
    rows = np.flatnonzero(fits)
    numbers = without_ends(keys.take(rows), len(pattern.prefix), len(pattern.suffix))
    found, indices = [np.empty(0, np.int64)], [np.empty((0, rank), np.uint32)]
    for low in range(0, len(rows), _BLOCK):
        good, coords = _parse_block(
            numbers.take(slice(low, low + _BLOCK)), pattern.separator[0], rank
        )
        found.append(rows[low + good])
        indices.append(coords)
    return np.concatenate(found), np.concatenate(indices)


def _parse_block(texts: Ragged, separator: int, rank: int) -> tuple[I64, U32]:
    good = _rows_of_numbers(texts, separator, rank)
    flat, _ = _flattened(texts.take(good), separator)
    ends = np.flatnonzero(flat == separator)
    starts = np.append(0, ends[:-1] + 1)[: len(ends)]
    lengths = ends - starts
    sound = (lengths > 0) & (lengths <= _LONGEST)
    sound &= (lengths == 1) | (flat[starts] != _ZERO)
    values = np.zeros(len(ends), np.int64)
    for place in range(_LONGEST):
        rows = np.flatnonzero(lengths > place)
        digits = flat[ends[rows] - 1 - place].astype(np.int64) - _ZERO
        values[rows] += digits * _POWERS[place]
    coords = values.reshape(-1, rank)
    kept = sound.reshape(-1, rank).all(axis=1) & (coords < 1 << 32).all(axis=1)
    return good[kept], coords[kept].astype(np.uint32)


def _rows_of_numbers(texts: Ragged, separator: int, rank: int) -> I64:
    """Return the rows that are made of digits and of one separator less than *rank*."""
    flat, firsts = _flattened(texts, separator)
    if len(firsts) == 0:
        return np.empty(0, np.int64)
    breaks = flat == separator
    strange = ~breaks & ((flat < _ZERO) | (flat > _NINE))
    counts = np.add.reduceat(breaks.astype(np.int64), firsts)
    return np.flatnonzero((counts == rank) & ~np.logical_or.reduceat(strange, firsts))


def _flattened(texts: Ragged, separator: int) -> tuple[U8, I64]:
    """Return all *texts* one after the other, each with a separator behind, and their starts."""
    sizes = texts.sizes + 1
    firsts = np.cumsum(sizes) - sizes
    flat = np.full(int(sizes.sum()), separator, np.uint8)
    texts.copy_to(flat, firsts)
    return flat, firsts
