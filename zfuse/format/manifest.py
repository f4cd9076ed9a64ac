"""Manifest files: where the chunks of arrays are.

Specification: spec-v2, "Chunk Manifest Files".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from zfuse.errors import CorruptionError
from zfuse.format.chunk_ref import ChunkRef, InlineRef, NativeRef, VirtualRef
from zfuse.format.columns import BLOCK, RawBuffer, TableRows
from zfuse.format.envelope import Envelope
from zfuse.format.flat import FlatBuffer, Table, required
from zfuse.format.header import FileType
from zfuse.format.ids import ChunkId, ManifestId, NodeId
from zfuse.format.index_keys import IndexKeys
from zfuse.format.locations import LocationDecompressor

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

MAX_RANK: Final = 1024
_MAX_OBJECT: Final = 2**63 - 1
_ZSTD_WITH_DICTIONARY: Final = 1

# the fields of ChunkRef
_INDEX, _INLINE, _OFFSET, _LENGTH, _CHUNK_ID = range(5)
_LOCATION, _ETAG, _LAST_MODIFIED, _COMPRESSED_LOCATION = range(5, 9)

_ROW_COST: Final = 16
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
        _, inline = self._raw.vectors(rows.field(_INLINE, 4), 1)
        lengths = self._raw.u64(rows.field(_LENGTH, 8))
        lengths = np.where(lengths <= _MAX_OBJECT, lengths, np.uint64(0))
        elsewhere = (
            (rows.field(_CHUNK_ID, 12) > 0)
            | (rows.field(_COMPRESSED_LOCATION, 4) > 0)
            | (rows.field(_LOCATION, 4) > 0)
        )
        return np.where(elsewhere, lengths, inline.astype(np.uint64))

    def ref(self, row: int) -> ChunkRef:
        """Return the reference in *row*.

        Raises:
            CorruptionError: this reference is damaged; the others may be sound.
        """
        table = FlatBuffer(self._data).table_at(int(self._tables[row]))
        offset, size = table.u64(_OFFSET), table.u64(_LENGTH)
        if offset + size > _MAX_OBJECT:
            raise CorruptionError(f"a chunk is said to be {size} bytes at {offset}")
        chunk_id = table.struct(_CHUNK_ID, 12)
        if chunk_id is not None:
            return NativeRef(ChunkId(chunk_id), offset, size)
        location = self._location(table)
        if location is not None:
            etag = table.string(_ETAG)
            modified = table.u32(_LAST_MODIFIED) or None
            # Official writers store one of the two, official readers heed the etag alone.
            return VirtualRef(location, offset, size, etag, modified if etag is None else None)
        data = table.byte_vector(_INLINE)
        if data is None:
            raise CorruptionError("a reference says nowhere where its chunk is")
        return InlineRef(data)

    def _location(self, table: Table) -> str | None:
        compressed = table.byte_vector(_COMPRESSED_LOCATION)
        if compressed is not None:
            return self._locations.decompress(compressed)
        return table.string(_LOCATION)


@dataclass(frozen=True, slots=True)
class _References:
    """The references of all arrays of a manifest, those of one array side by side.

    ``rows`` says which are whose. ``tables`` and ``index`` are positions in the flatbuffer:
    of the ChunkRef, and of the first number of its index, which its rank stands before.
    """

    rows: Mapping[NodeId, slice]
    tables: U32
    index: U32

    @classmethod
    def locate(cls, buffer: FlatBuffer, vectors: Mapping[NodeId, tuple[int, int]]) -> Self:
        """Find them, given start and length of the vector of each array."""
        bounds = np.cumsum([0, *(count for _, count in vectors.values())])
        starts = np.array([start for start, _ in vectors.values()], np.int64)
        total = int(bounds[-1])
        buffer.charge(total * _ROW_COST)
        found = np.empty((2, total), np.uint32)
        raw = RawBuffer(buffer.data)
        for low in range(0, total, BLOCK):
            numbers = np.arange(low, min(low + BLOCK, total))
            array = bounds.searchsorted(numbers, "right") - 1
            tables = raw.follow(starts[array] + 4 * (numbers - bounds[array]))
            index, ranks = raw.vectors(TableRows(raw, tables).field(_INDEX, 4), 4)
            if not np.all(index) or ranks.max() > MAX_RANK:
                raise CorruptionError("a reference of the manifest is damaged, or has no index")
            buffer.charge(4 * int(ranks.sum()))
            found[:, numbers] = tables, index
        rows = {
            node_id: slice(int(bounds[n]), int(bounds[n + 1])) for n, node_id in enumerate(vectors)
        }
        return cls(rows, found[0], found[1])


class Manifest:
    """A decoded manifest file.

    ``nbytes`` is about what this object occupies in memory.
    """

    __slots__ = ("_arrays", "_data", "_locations", "_raw", "_refs", "id", "nbytes")

    id: ManifestId
    nbytes: int

    def __init__(
        self,
        manifest_id: ManifestId,
        data: bytes,
        refs: _References,
        locations: LocationDecompressor,
    ) -> None:
        self.id = manifest_id
        self.nbytes = len(data) + len(refs.tables) * _ROW_COST
        self._data = data
        self._raw = RawBuffer(data)
        self._refs = refs
        self._locations = locations
        self._arrays: dict[tuple[NodeId, int], ArrayManifest | None] = {}

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
        manifest = cls(
            ManifestId(required(root.struct(0, 12), "Manifest.id")),
            buffer.data,
            _References.locate(buffer, vectors),
            # 1.x writers leave the algorithm out, and 1 is the default of the schema.
            LocationDecompressor(root.u8(3, default=1), root.byte_vector(2)),
        )
        for node_id, rows in manifest._refs.rows.items():
            if rows.stop - rows.start >= _EAGER_ROWS:
                for rank in manifest.ranks(node_id):
                    manifest.array(node_id, rank)
        return manifest

    def node_ids(self) -> tuple[NodeId, ...]:
        """Return the arrays that have references here."""
        return tuple(node_id for node_id, rows in self._refs.rows.items() if rows.stop > rows.start)

    def array(self, node_id: NodeId, rank: int) -> ArrayManifest | None:
        """Return the references of an array whose index has *rank* numbers, None for none."""
        key = (node_id, rank)
        if key not in self._arrays:
            self._arrays[key] = self._index(node_id, rank)
        return self._arrays[key]

    def _index(self, node_id: NodeId, rank: int) -> ArrayManifest | None:
        tables, index, ranks = self._rows_of(node_id)
        if not np.all(ranks == rank):
            tables, index = tables[ranks == rank], index[ranks == rank]
        if len(tables) == 0:
            return None
        return ArrayManifest(self._data, tables, self._raw.matrix(index, rank), self._locations)

    def ranks(self, node_id: NodeId) -> tuple[int, ...]:
        """Return the ranks that occur in the references of an array, ascending.

        Official writers do not check the rank of a chunk key, so a reference of a rank
        that is not the array's can exist.
        """
        return tuple(np.unique(self._rows_of(node_id)[2]).tolist())

    def _rows_of(self, node_id: NodeId) -> tuple[U32, U32, U32]:
        """Return positions of tables and of indices, and the ranks, of the references."""
        rows = self._refs.rows.get(node_id, slice(0, 0))
        index = self._refs.index[rows]
        ranks = self._raw.matrix(index - np.uint32(4), 1)[:, 0]
        return self._refs.tables[rows], index, ranks
