"""Shapes and dimension names of all arrays of a snapshot, read together.

Every dimension and every name is a flatbuffer table of its own, which is most of what a
snapshot holds. One by one they took half the time of a snapshot of 100,000 arrays.
"""

import struct
from collections.abc import Sequence
from typing import Final

import numpy as np

from zfuse.errors import CorruptionError
from zfuse.format.columns import RawBuffer, TableRows
from zfuse.format.flat import TABLE_COST, FlatBuffer, Table, required

_SHAPE_V1, _NAMES, _SHAPE_V2 = 0, 1, 3  # fields of ArrayNodeData
_DIMENSION_V1: Final = struct.Struct("<QQ")

Dimension = tuple[int, int]


def read_shapes(buffer: FlatBuffer, arrays: Sequence[Table]) -> list[list[Dimension]]:
    """Return of each ArrayNodeData, per dimension, the length in elements and in chunks.

    Raises:
        CorruptionError: a shape is damaged, or there is none.
    """
    old = [required(array.vector(_SHAPE_V1, 16), "ArrayNodeData.shape") for array in arrays]
    new = [array.vector(_SHAPE_V2, 4) for array in arrays]
    raw = RawBuffer(buffer.data)
    rows, slices = _tables(buffer, raw, new)
    if rows.broken(0, 8) or rows.broken(1, 4):
        raise CorruptionError("the shape of an array is damaged")
    lengths, counts = raw.u64(rows.field(0, 8)), raw.u32(rows.field(1, 4))
    dimensions = list(zip(lengths.tolist(), counts.tolist(), strict=True))
    return [
        dimensions[own] if vector else _shape_v1(buffer.data, *structs)
        for own, vector, structs in zip(slices, new, old, strict=True)
    ]


def _shape_v1(data: bytes, start: int, count: int) -> list[Dimension]:
    # Official 2.x computes chunk_length back from the number of chunks, so it need not be
    # the chunk shape of the zarr.json; the number of chunks it yields is right.
    shape = []
    for position in range(start, start + 16 * count, 16):
        length, chunk_length = _DIMENSION_V1.unpack_from(data, position)
        if chunk_length == 0 and length != 0:
            raise CorruptionError("an array has chunks of length 0")
        shape.append((length, -(-length // chunk_length) if chunk_length else 0))
    return shape


def read_names(buffer: FlatBuffer, arrays: Sequence[Table]) -> list[tuple[str | None, ...] | None]:
    """Return the dimension names of each ArrayNodeData, None where it has no such list.

    Raises:
        CorruptionError: a name is damaged.
    """
    vectors = [array.vector(_NAMES, 4) for array in arrays]
    raw = RawBuffer(buffer.data)
    rows, slices = _tables(buffer, raw, vectors)
    fields = rows.field(0, 4)
    starts, lengths = raw.vectors(fields, 1)
    stops = starts + lengths
    ended = (fields == 0) | (starts > 0) & (stops < raw.size)
    if rows.broken(0, 4) or not np.all(ended) or np.any(raw.u8(stops[starts > 0])):
        raise CorruptionError("a dimension name is damaged")
    buffer.charge(int(lengths.sum()))
    texts = _Texts()
    names = [
        texts[buffer.data[start:stop]]
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
    ]
    return [
        tuple(names[own]) if vector else None for own, vector in zip(slices, vectors, strict=True)
    ]


class _Texts(dict[bytes, str | None]):
    """Decodes each text once: most arrays of a repository share their dimension names."""

    def __missing__(self, raw: bytes) -> str | None:
        try:
            # The empty name means none, as the official library reads it.
            name = self[raw] = raw.decode() or None
        except UnicodeDecodeError:
            raise CorruptionError("a dimension name is not UTF-8") from None
        return name


def _tables(
    buffer: FlatBuffer, raw: RawBuffer, vectors: Sequence[tuple[int, int] | None]
) -> tuple[TableRows, list[slice]]:
    """Return the tables in all *vectors*, and which of them are those of each vector."""
    starts = np.array([vector[0] if vector else 0 for vector in vectors], np.int64)
    counts = np.array([vector[1] if vector else 0 for vector in vectors], np.int64)
    stops = np.cumsum(counts)
    total = int(counts.sum())
    buffer.charge(total * TABLE_COST)
    items = np.repeat(starts - 4 * (stops - counts), counts) + 4 * np.arange(total)
    rows = TableRows(raw, raw.follow(items))
    if not rows.sound:
        raise CorruptionError("a dimension of an array is damaged")
    edges = zip((stops - counts).tolist(), stops.tolist(), strict=True)
    return rows, [slice(start, stop) for start, stop in edges]
