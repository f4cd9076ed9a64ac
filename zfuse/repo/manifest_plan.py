"""Which manifests of an array a commit keeps, and which it writes anew, from what.

A manifest is rewritten only if references in its box changed, or if it reaches over the edge
of its box since the array shrank or the rules of splitting changed. Rewriting drops what lies
outside of the grid.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zfuse.format.extents import Extents, contains, inside
from zfuse.format.ref_columns import RefColumns
from zfuse.format.snapshot import ManifestRef
from zfuse.repo.chunk_changes import ChunkTable
from zfuse.repo.manifest_splits import Cell, Splits

I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class ManifestPart:
    """A manifest to write: what *sources* hold in *box*, with *changes* on top."""

    box: Extents
    sources: tuple[ManifestRef, ...]
    changes: tuple[ChunkTable, ...]

    def compose(self, stored: Sequence[RefColumns]) -> list[RefColumns]:
        """Return the references of the manifest; *stored* are those of the sources."""
        parts = [self._kept(part.inside(self.box)) for part in stored]
        parts += [table.refs for table in self.changes if table.rank == len(self.box)]
        return [part for part in parts if len(part)]

    def _kept(self, stored: RefColumns) -> RefColumns:
        for table in self.changes:
            if table.rank == stored.rank:
                stored = stored.without(table.coords())
        return stored


@dataclass(frozen=True, slots=True)
class ManifestPlan:
    """The manifests that an array shall have."""

    kept: tuple[ManifestRef, ...]
    written: tuple[ManifestPart, ...]


@dataclass(slots=True)
class _Box:
    """What is known of one box."""

    extents: Extents
    sources: list[ManifestRef] = field(default_factory=list)
    changes: list[ChunkTable] = field(default_factory=list)

    def plan(self) -> tuple[list[ManifestRef], list[ManifestPart]]:
        """Return the manifests that stay, and what is to be written."""
        if self.changes:
            part = ManifestPart(self.extents, tuple(self.sources), tuple(self.changes))
            return [], [part]
        kept = [ref for ref in self.sources if contains(self.extents, ref.extents)]
        cut = tuple(ref for ref in self.sources if ref not in kept)
        return kept, [ManifestPart(self.extents, cut, ())] if cut else []


def plan_manifests(
    manifests: Sequence[ManifestRef], changes: Sequence[ChunkTable], splits: Splits
) -> ManifestPlan:
    """Plan the manifests of an array that has *manifests* and whose chunks see *changes*."""
    if splits.is_empty:
        return ManifestPlan((), ())
    boxes: dict[Cell, _Box] = {}
    for manifest in manifests:
        for cell in splits.cells_touching(manifest.extents):
            boxes.setdefault(cell, _Box(splits.box(cell))).sources.append(manifest)
    for table in changes:
        if table.rank == len(splits.counts):
            for cell, part in _by_cell(table, splits).items():
                boxes.setdefault(cell, _Box(splits.box(cell))).changes.append(part)
        else:
            _add_odd(boxes.values(), table)
    plans = [box.plan() for box in boxes.values()]
    return ManifestPlan(
        tuple(ref for kept, _ in plans for ref in kept),
        tuple(part for _, parts in plans for part in parts),
    )


def plan_rewriting(manifests: Sequence[ManifestRef], splits: Splits) -> ManifestPlan:
    """Plan to write all references of an array that has *manifests* anew, one manifest a box."""
    boxes: dict[Cell, list[ManifestRef]] = {}
    for manifest in () if splits.is_empty else manifests:
        for cell in splits.cells_touching(manifest.extents):
            boxes.setdefault(cell, []).append(manifest)
    return ManifestPlan(
        (),
        tuple(
            ManifestPart(splits.box(cell), tuple(sources), ()) for cell, sources in boxes.items()
        ),
    )


def _add_odd(boxes: Iterable[_Box], table: ChunkTable) -> None:
    """Add deletions of chunks whose index is not of the rank of the array."""
    for box in boxes:
        if inside(table.coords(), box.extents).any():
            box.changes.append(table)


def _by_cell(table: ChunkTable, splits: Splits) -> dict[Cell, ChunkTable]:
    """Return the changes inside of the grid by the box they are in."""
    grid = tuple((0, count) for count in splits.counts)
    refs = table.refs.inside(grid)
    deleted = table.deleted[inside(table.deleted, grid)]
    set_rows = _rows_by_cell(refs.coords, splits)
    deleted_rows = _rows_by_cell(deleted, splits)
    none = np.empty(0, np.int64)
    return {
        cell: ChunkTable(refs.take(set_rows.get(cell, none)), deleted[deleted_rows.get(cell, none)])
        for cell in set_rows.keys() | deleted_rows.keys()
    }


def _rows_by_cell(coords: U32, splits: Splits) -> dict[Cell, I64]:
    if len(coords) == 0:
        return {}
    cells, numbers = np.unique(splits.cells_of(coords), axis=0, return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    ends = np.cumsum(np.bincount(numbers, minlength=len(cells)))
    return dict(zip(map(tuple, cells.tolist()), np.split(order, ends[:-1]), strict=True))
