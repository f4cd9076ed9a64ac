"""Reads the references of a decoded manifest as columns, to write them anew."""

import numpy as np
import numpy.typing as npt

from zfuse.format.columns import BLOCK, RawBuffer, TableRows
from zfuse.format.manifest import ArrayManifest
from zfuse.format.ragged import Ragged, windows
from zfuse.format.ref_columns import ID_SIZE, RefColumns, RefKind
from zfuse.format.ref_slots import (
    CHUNK_ID,
    COMPRESSED_LOCATION,
    ETAG,
    INLINE,
    LAST_MODIFIED,
    LENGTH,
    LOCATION,
    OFFSET,
)

I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def stored_refs(array: ArrayManifest) -> RefColumns:
    """Return all references of *array* as columns, sorted by index.

    What is damaged becomes DAMAGED, compressed locations stay compressed. The bytes of the
    manifest are not copied.
    """
    data, tables = array.tables()
    count = len(tables)
    columns = RefColumns(
        coords=array.coords(0, count),
        kinds=np.empty(count, np.uint8),
        offsets=np.empty(count, np.uint64),
        lengths=np.empty(count, np.uint64),
        chunk_ids=np.empty((count, ID_SIZE), np.uint8),
        texts=_column(data, count),
        etags=_column(data, count),
        last_modified=np.empty(count, np.uint32),
        dictionary=array.locations.dictionary,
    )
    reader = _Reader(data)
    for low in range(0, count, BLOCK):
        reader.read(tables[low : low + BLOCK].astype(np.int64), columns, slice(low, low + BLOCK))
    return _sound(columns)


def _column(data: bytes, count: int) -> Ragged:
    every = np.frombuffer(data, np.uint8)
    return Ragged(every, np.zeros(count, np.int64), np.full(count, -1))


class _Reader:
    """Fills columns from the tables of a flatbuffer."""

    def __init__(self, data: bytes) -> None:
        self._data = np.frombuffer(data, np.uint8)
        self._raw = RawBuffer(data)

    def read(self, tables: I64, columns: RefColumns, part: slice) -> None:
        """Read the *tables* at some positions, which are the rows in *part*."""
        rows = TableRows(self._raw, tables)
        ids = rows.field(CHUNK_ID, ID_SIZE, 1)
        columns.chunk_ids[part] = self._ids(ids)
        columns.offsets[part] = self._raw.u64(rows.field(OFFSET, 8))
        columns.lengths[part] = self._raw.u64(rows.field(LENGTH, 8))
        columns.last_modified[part] = self._raw.u32(rows.field(LAST_MODIFIED, 4))
        # Readers heed the first of these that is there, even if it is damaged.
        texts = {
            RefKind.PACKED: rows.field(COMPRESSED_LOCATION, 4),
            RefKind.VIRTUAL: rows.field(LOCATION, 4),
            RefKind.INLINE: rows.field(INLINE, 4),
        }
        present = [fields > 0 for fields in texts.values()]
        kinds = np.select([ids > 0, *present], [RefKind.NATIVE, *texts], RefKind.DAMAGED)
        foreign = (kinds == RefKind.VIRTUAL) | (kinds == RefKind.PACKED)
        etags = np.where(foreign, rows.field(ETAG, 4), 0)
        fields = np.where(kinds == RefKind.NATIVE, 0, np.select(present, list(texts.values()), 0))
        sound = self._read_text(fields, columns.texts, part, kinds == RefKind.VIRTUAL)
        sound &= self._read_text(etags, columns.etags, part, etags > 0)
        columns.kinds[part] = np.where(sound, kinds, RefKind.DAMAGED)

    def _ids(self, positions: I64) -> U8:
        return windows(self._data, ID_SIZE)[positions].view(np.uint8).reshape(-1, ID_SIZE)

    def _read_text(self, fields: I64, texts: Ragged, part: slice, are_strings: Mask) -> Mask:
        """Find the vectors that *fields* point to; return where that went well."""
        starts, sizes = self._raw.vectors(fields, 1)
        texts.starts[part] = starts
        texts.sizes[part] = np.where(starts > 0, sizes, -1)
        ends = np.minimum(starts + sizes, len(self._data) - 1)
        ended = (ends == starts + sizes) & (self._data[ends] == 0)
        sound: Mask = (fields == 0) | ((starts > 0) & (ended | ~are_strings))
        return sound


def _sound(columns: RefColumns) -> RefColumns:
    """Return *columns* whose rows with locations or etags that nobody can read are DAMAGED."""
    virtual = columns.kinds == RefKind.VIRTUAL
    packed = columns.kinds == RefKind.PACKED
    unreadable = virtual & ~columns.texts.only(virtual).is_utf8()
    unreadable |= (virtual | packed) & ~columns.etags.is_utf8()
    if columns.dictionary is None:
        unreadable |= packed
    if unreadable.any():
        columns.kinds[unreadable] = RefKind.DAMAGED
    return columns
