"""Manifest files: where the chunks of arrays are.

Specification: spec-v2, "Chunk Manifest Files".
"""

from collections.abc import Mapping, Sequence
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from zfuse.errors import CorruptionError
from zfuse.format.chunk_ref import ChunkRef, InlineRef, NativeRef, VirtualRef
from zfuse.format.columns import RawBuffer, TableRows
from zfuse.format.envelope import Envelope
from zfuse.format.flat import FlatBuffer, Table, required
from zfuse.format.header import FileType
from zfuse.format.ids import ChunkId, ManifestId, NodeId
from zfuse.format.index_keys import IndexKeys
from zfuse.format.indexed_tables import ROW_COST, IndexedTables
from zfuse.format.locations import LocationDecompressor
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

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

_MAX_OBJECT: Final = 2**63 - 1

_KEY_SIZE: Final = 8
_EAGER_ROWS: Final = 4096
"""Arrays of so many references are indexed by decode, which may run in a worker thread."""


class ArrayManifest:
    """The references of one array in one manifest, all of one rank, sorted by chunk index.

    A *row* is a position in that order. Sizes and references are read from the raw file
    when they are asked for.
    """

    __slots__ = ("_data", "_keys", "_locations", "_raw", "_tables", "rank")

    rank: int

    def __init__(
        self, data: bytes, tables: U32, coords: U32, locations: LocationDecompressor
    ) -> None:
        """Index the ChunkRef tables at the positions *tables*, which have the index *coords*."""
        self.rank = coords.shape[1]
        self._data = data
        self._raw = RawBuffer(data)
        self._locations = locations
        self._keys = IndexKeys(coords)
        self._tables = tables if self._keys.is_sorted() else tables[self._keys.sort()]

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, coords: Sequence[int]) -> int | None:
        """Return the row of the chunk at *coords*, None where there is no reference."""
        return self._keys.find(coords)

    def find_many(self, coords: U32) -> npt.NDArray[np.int64]:
        """Return the row of each of *coords* (n, rank), -1 where there is no reference."""
        return self._keys.find_many(coords)

    def rows_under(self, prefix: Sequence[int]) -> tuple[int, int]:
        """Return the half-open range of rows whose index starts with *prefix*."""
        return self._keys.under(prefix)

    def coords(self, start: int, stop: int) -> U32:
        """Return the chunk indices (stop - start, rank) of a range of rows."""
        return self._keys.coords(start, stop)

    def sizes(self, start: int, stop: int) -> U64:
        """Return the sizes in bytes of the chunks in a range of rows.

        The size of a damaged reference is given as 0; ``ref`` says what is wrong with it.
        """
        rows = TableRows(self._raw, self._tables[start:stop].astype(np.int64))
        _, inline = self._raw.vectors(rows.field(INLINE, 4), 1)
        lengths = self._raw.u64(rows.field(LENGTH, 8))
        lengths = np.where(lengths <= _MAX_OBJECT, lengths, np.uint64(0))
        elsewhere = (
            (rows.field(CHUNK_ID, 12, 1) > 0)
            | (rows.field(COMPRESSED_LOCATION, 4) > 0)
            | (rows.field(LOCATION, 4) > 0)
        )
        return np.where(elsewhere, lengths, inline.astype(np.uint64))

    def ref(self, row: int) -> ChunkRef:
        """Return the reference in *row*.

        Raises:
            CorruptionError: this reference is damaged; the others may be sound.
        """
        table = FlatBuffer(self._data).table_at(int(self._tables[row]))
        offset, size = table.u64(OFFSET), table.u64(LENGTH)
        if offset + size > _MAX_OBJECT:
            raise CorruptionError(f"a chunk is said to be {size} bytes at {offset}")
        chunk_id = table.struct(CHUNK_ID, 12)
        if chunk_id is not None:
            return NativeRef(ChunkId(chunk_id), offset, size)
        location = self._location(table)
        if location is not None:
            etag = table.string(ETAG)
            modified = table.u32(LAST_MODIFIED) or None
            # Official writers store one of the two, official readers heed the etag alone.
            return VirtualRef(location, offset, size, etag, modified if etag is None else None)
        data = table.byte_vector(INLINE)
        if data is None:
            raise CorruptionError("a reference says nowhere where its chunk is")
        return InlineRef(data)

    def tables(self) -> tuple[bytes, U32]:
        """Return the flatbuffer, and by row where in it the table of a reference is."""
        return self._data, self._tables

    @property
    def locations(self) -> LocationDecompressor:
        """What unpacks the compressed locations."""
        return self._locations

    def _location(self, table: Table) -> str | None:
        compressed = table.byte_vector(COMPRESSED_LOCATION)
        if compressed is not None:
            return self._locations.decompress(compressed)
        return table.string(LOCATION)


class Manifest:
    """A decoded manifest file.

    ``nbytes`` is about what this object occupies in memory.
    """

    __slots__ = ("_arrays", "_locations", "_rows", "_tables", "id", "nbytes")

    id: ManifestId
    nbytes: int

    def __init__(
        self,
        manifest_id: ManifestId,
        tables: IndexedTables,
        rows: Mapping[NodeId, slice],
        locations: LocationDecompressor,
    ) -> None:
        """Make the manifest of the ChunkRef *tables*, of which each array has some *rows*."""
        self.id = manifest_id
        self.nbytes = len(tables.data) + len(tables) * (ROW_COST + _KEY_SIZE)
        self._tables = tables
        self._rows = rows
        self._locations = locations
        self._arrays: dict[tuple[NodeId, int], ArrayManifest | None] = {}
        for node_id, own in rows.items():
            if own.stop - own.start >= _EAGER_ROWS:
                for rank in self.ranks(node_id):
                    self.array(node_id, rank)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a manifest file.

        Raises:
            CorruptionError: *data* is not a sound manifest file.
            UnsupportedVersionError: it is of a newer specification.
        """
        buffer = FlatBuffer(Envelope.decode(data, expect=FileType.MANIFEST).payload)
        root = buffer.root()
        vectors: dict[NodeId, tuple[int, int]] = {}
        for table in required(root.tables(1), "Manifest.arrays"):
            node_id = NodeId(required(table.struct(0, 8), "ArrayManifest.node_id"))
            vectors.setdefault(node_id, required(table.vector(1, 4), "ArrayManifest.refs"))
        tables, rows = IndexedTables.locate(buffer, list(vectors.values()))
        return cls(
            ManifestId(required(root.struct(0, 12), "Manifest.id")),
            tables,
            dict(zip(vectors, rows, strict=True)),
            # 1.x writers leave the algorithm out, and 1 is the default of the schema.
            LocationDecompressor(root.u8(3, default=1), root.byte_vector(2)),
        )

    def node_ids(self) -> tuple[NodeId, ...]:
        """Return the arrays that have references here."""
        return tuple(node_id for node_id, rows in self._rows.items() if rows.stop > rows.start)

    def array(self, node_id: NodeId, rank: int) -> ArrayManifest | None:
        """Return the references of an array whose index has *rank* numbers, None for none."""
        key = (node_id, rank)
        if key not in self._arrays:
            positions, coords = self._tables.select(self._rows_of(node_id), rank)
            self._arrays[key] = (
                ArrayManifest(self._tables.data, positions, coords, self._locations)
                if len(positions)
                else None
            )
        return self._arrays[key]

    def ranks(self, node_id: NodeId) -> tuple[int, ...]:
        """Return the ranks that occur in the references of an array, ascending.

        Official writers do not check the rank of a chunk key, so a reference of a rank
        that is not the array's can exist.
        """
        return self._tables.ranks(self._rows_of(node_id))

    def _rows_of(self, node_id: NodeId) -> slice:
        return self._rows.get(node_id, slice(0, 0))
