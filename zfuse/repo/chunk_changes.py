"""The chunks of one array that a session set or deleted, a million of them if need be.

Changes come one by one, from files that are written, or a column at a time. The latest are
kept as they came; beyond a limit they settle in columns, where a chunk takes some 60 bytes
instead of the 400 that Python's objects take.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from zfuse.errors import CorruptionError
from zfuse.format.chunk_ref import ChunkRef, InlineRef, NativeRef, VirtualRef
from zfuse.format.ids import ChunkId
from zfuse.format.index_keys import IndexKeys
from zfuse.format.ref_columns import RefColumns, RefKind, join, merge, plain

U32 = npt.NDArray[np.uint32]
Coords = tuple[int, ...]

_MOST_RECENT: Final = 1 << 16


class Untouched(Enum):
    """The type of UNTOUCHED, which stands for a chunk that did not change."""

    UNTOUCHED = "untouched"


UNTOUCHED: Final = Untouched.UNTOUCHED
Change = ChunkRef | None | Literal[Untouched.UNTOUCHED]
"""The new reference, None for a deletion, UNTOUCHED for neither."""


class ChunkTable:
    """Changes in columns, all of one rank.

    ``refs`` are the new references, ``deleted`` (m, rank) the indices of deleted chunks. Both
    are sorted, and no index is in both.
    """

    __slots__ = ("_deleted_keys", "_ref_keys", "deleted", "refs")

    def __init__(self, refs: RefColumns, deleted: U32) -> None:
        """Take columns that are sorted and hold no index twice."""
        self.refs = refs
        self.deleted = deleted
        self._ref_keys = IndexKeys(refs.coords)
        self._deleted_keys = IndexKeys(deleted)

    @property
    def rank(self) -> int:
        """How many numbers an index has."""
        return self.refs.rank

    def __len__(self) -> int:
        return len(self.refs) + len(self.deleted)

    def coords(self) -> U32:
        """Return the indices (n, rank) of all changed chunks, sorted."""
        if len(self.deleted) == 0:
            return self.refs.coords
        return _sorted(np.concatenate((self.refs.coords, self.deleted)))

    def __reduce__(self) -> tuple[type["ChunkTable"], tuple[RefColumns, U32]]:
        return ChunkTable, (self.refs.compact(), self.deleted)

    def same_as(self, other: "ChunkTable") -> bool:
        """Tell whether *other* has the same changes."""
        return np.array_equal(self.deleted, other.deleted) and self.refs.same_as(other.refs)

    def find(self, coords: Coords) -> Change:
        """Return what became of the chunk at *coords*."""
        row = self._ref_keys.find(coords)
        if row is not None:
            return _ref(self.refs, row)
        return UNTOUCHED if self._deleted_keys.find(coords) is None else None

    def holds(self, coords: U32) -> npt.NDArray[np.bool_]:
        """Return which of *coords* (n, rank) changed."""
        return (self._ref_keys.find_many(coords) >= 0) | (self._deleted_keys.find_many(coords) >= 0)

    def without(self, coords: U32) -> "ChunkTable":
        """Return the changes but those of the chunks at *coords* (n, rank)."""
        return ChunkTable(self.refs.without(coords), _difference(self.deleted, _sorted(coords)))

    def then(self, refs: RefColumns, deleted: U32) -> "ChunkTable":
        """Return these changes with later ones on top, in which no index comes twice."""
        kept = self.refs.without(deleted) if len(deleted) else self.refs
        gone = _difference(np.concatenate((self.deleted, deleted)), refs.coords)
        return ChunkTable(merge([kept, refs]), _sorted(gone))


class ChunkChanges:
    """What changed among the chunks of one array.

    Indices have the rank of the array, but for chunks that an official writer once stored
    under a wrong rank and that are deleted now.
    """

    __slots__ = ("_recent", "_settled")

    def __init__(self, settled: dict[int, ChunkTable] | None = None) -> None:
        """Begin with nothing, or with tables of which each is under its rank."""
        self._recent: dict[Coords, ChunkRef | None] = {}
        self._settled = settled or {}

    def __bool__(self) -> bool:
        return bool(self._recent or self._settled)

    def find(self, coords: Coords) -> Change:
        """Return what became of the chunk at *coords*."""
        if coords in self._recent:
            return self._recent[coords]
        table = self._settled.get(len(coords))
        return UNTOUCHED if table is None else table.find(coords)

    def set(self, coords: Coords, ref: ChunkRef | None) -> None:
        """Record a new reference, or None for a deletion."""
        self._recent[coords] = ref
        if len(self._recent) > _MOST_RECENT:
            self._settle()

    def set_many(self, refs: RefColumns) -> None:
        """Record many new references; of several with one index the last stays."""
        self._settle()
        self._add(merge([refs]), np.empty((0, refs.rank), np.uint32))

    def delete_many(self, coords: U32) -> None:
        """Record that the chunks at *coords* (n, rank), in any order, are gone."""
        self._settle()
        self._add(RefColumns.empty(coords.shape[1]), coords)

    def then(self, later: "ChunkChanges") -> None:
        """Add the changes of *later*, which came after these."""
        self.then_all([later])

    def then_all(self, later: Sequence["ChunkChanges"]) -> None:
        """Add the changes of all of *later*, which came after these, one after the other."""
        self._settle()
        tables = [table for changes in later for table in changes.tables()]
        for rank in sorted({table.rank for table in tables}):
            self._add(*_last([table for table in tables if table.rank == rank]))

    def discard(self, coords: U32) -> None:
        """Forget the changes of the chunks at *coords* (n, rank)."""
        self._settle()
        rank = coords.shape[1]
        table = self._settled.pop(rank, None)
        left = None if table is None else table.without(coords)
        if left:
            self._settled[rank] = left

    def tables(self) -> tuple[ChunkTable, ...]:
        """Return all changes, one table per rank that occurs, ascending."""
        self._settle()
        return tuple(self._settled[rank] for rank in sorted(self._settled))

    def same_as(self, other: "ChunkChanges") -> bool:
        """Tell whether *other* has the same changes."""
        ours, theirs = self.tables(), other.tables()
        return len(ours) == len(theirs) and all(
            a.rank == b.rank and a.same_as(b) for a, b in zip(ours, theirs, strict=True)
        )

    def __reduce__(self) -> tuple[type["ChunkChanges"], tuple[dict[int, ChunkTable]]]:
        self._settle()
        return ChunkChanges, (self._settled,)

    def copy(self) -> "ChunkChanges":
        """Return changes that stay as they are when these go on."""
        self._settle()
        return ChunkChanges(self._settled.copy())

    def _settle(self) -> None:
        by_rank: dict[int, list[Coords]] = {}
        for coords in self._recent:
            by_rank.setdefault(len(coords), []).append(coords)
        for rank, changed in by_rank.items():
            refs = [(c, ref) for c in changed if (ref := self._recent[c]) is not None]
            deleted = [coords for coords in changed if self._recent[coords] is None]
            self._add(
                merge([RefColumns.of_refs(rank, refs)]),
                np.array(deleted, np.uint32).reshape(len(deleted), rank),
            )
        self._recent = {}

    def _add(self, refs: RefColumns, deleted: U32) -> None:
        older = self._settled.get(refs.rank)
        if older is None:
            if len(refs) or len(deleted):
                self._settled[refs.rank] = ChunkTable(refs, _sorted(deleted))
        else:
            self._settled[refs.rank] = older.then(refs, deleted)


def _last(tables: Sequence[ChunkTable]) -> tuple[RefColumns, U32]:
    """Return references and deletions of all *tables*, of one rank: for each index the last."""
    if len(tables) == 1:
        return tables[0].refs, tables[0].deleted
    refs = join([table.refs for table in tables])
    coords = np.concatenate([part for t in tables for part in (t.refs.coords, t.deleted)])
    # Which row of the references each of the coordinates belongs to, -1 for deletions.
    is_ref = np.repeat(
        np.tile([True, False], len(tables)),
        [n for t in tables for n in (len(t.refs), len(t.deleted))],
    )
    rows = np.where(is_ref, np.cumsum(is_ref) - 1, -1)
    # sort() keeps the first of equal ones, so it gets them from the end.
    kept = len(coords) - 1 - IndexKeys(coords[::-1]).sort()
    return refs.take(rows[kept][is_ref[kept]]), coords[kept][~is_ref[kept]]


def _sorted(coords: U32) -> U32:
    """Return *coords* in order, each once."""
    keys = IndexKeys(coords)
    return coords if keys.is_sorted() else coords[keys.sort()]


def _difference(coords: U32, taken: U32) -> U32:
    """Return those of *coords* that are not among *taken*, which are sorted."""
    return coords[IndexKeys(taken).find_many(coords) < 0]


def _ref(columns: RefColumns, row: int) -> ChunkRef:
    """Return the reference in *row*.

    Raises:
        CorruptionError: it was damaged where it was copied from.
    """
    offset, size = int(columns.offsets[row]), int(columns.lengths[row])
    text, etag = columns.texts[row] or b"", columns.etags[row]
    match RefKind(int(columns.kinds[row])):
        case RefKind.NATIVE:
            return NativeRef(ChunkId(columns.chunk_ids[row].tobytes()), offset, size)
        case RefKind.INLINE:
            return InlineRef(text)
        case RefKind.VIRTUAL:
            modified = int(columns.last_modified[row]) or None
            return VirtualRef(
                text.decode(), offset, size, None if etag is None else etag.decode(), modified
            )
        case RefKind.PACKED:
            return _ref(plain(columns.take(np.array([row]))), 0)
        case RefKind.DAMAGED:
            raise CorruptionError("a reference says nowhere where its chunk is")
