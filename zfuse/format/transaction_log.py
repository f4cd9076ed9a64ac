"""Transaction logs: what one snapshot changed.

Specification: spec-v2, "Transaction Log Files".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from zfuse.errors import CorruptionError
from zfuse.format.envelope import Envelope
from zfuse.format.flat import FlatBuffer, Table, required
from zfuse.format.header import FileType
from zfuse.format.ids import NodeId, SnapshotId
from zfuse.format.index_keys import in_order
from zfuse.format.indexed_tables import IndexedTables

U32 = npt.NDArray[np.uint32]

_ID_LISTS: Final = (
    "new_groups",
    "new_arrays",
    "deleted_groups",
    "deleted_arrays",
    "updated_arrays",
    "updated_groups",
)
"""In the order of the schema, where the first of them is in slot 1."""

_ID_COST: Final = 100
"""About what an id occupies in a set."""

_GROUP, _ARRAY = 0, 1  # the enum NodeType


@dataclass(frozen=True, slots=True)
class MoveOperation:
    """A node that went from one path to another."""

    source: str
    target: str
    node_id: NodeId
    is_array: bool


@dataclass(frozen=True, slots=True)
class TransactionLog:
    """The changes between a snapshot and its parent.

    ``updated_chunks`` gives per array the indices of the chunks that were added,
    overwritten or deleted: one (n, rank) array, sorted, per rank that occurs.
    ``nbytes`` is about what this object occupies in memory.
    """

    spec_version: int
    id: SnapshotId
    new_groups: frozenset[NodeId]
    new_arrays: frozenset[NodeId]
    deleted_groups: frozenset[NodeId]
    deleted_arrays: frozenset[NodeId]
    updated_arrays: frozenset[NodeId]
    updated_groups: frozenset[NodeId]
    updated_chunks: Mapping[NodeId, tuple[U32, ...]]
    moved_nodes: tuple[MoveOperation, ...]
    nbytes: int = 0

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a transaction log file.

        Raises:
            CorruptionError: *data* is not a sound transaction log.
            UnsupportedVersionError: it is of a newer specification.
        """
        envelope = Envelope.decode(data, expect=FileType.TRANSACTION_LOG)
        buffer = FlatBuffer(envelope.payload)
        root = buffer.root()
        moves = tuple(_move(table) for table in root.tables(8) or ())
        chunks = _updated_chunks(buffer, required(root.tables(7), "TransactionLog.updated_chunks"))
        ids = {name: _node_ids(root, slot, name) for slot, name in enumerate(_ID_LISTS, start=1)}
        arrays = [part for by_rank in chunks.values() for part in by_rank]
        return cls(
            spec_version=envelope.header.spec_version,
            id=SnapshotId(required(root.struct(0, 12), "TransactionLog.id")),
            new_groups=ids["new_groups"],
            new_arrays=ids["new_arrays"],
            deleted_groups=ids["deleted_groups"],
            deleted_arrays=ids["deleted_arrays"],
            updated_arrays=ids["updated_arrays"],
            updated_groups=ids["updated_groups"],
            updated_chunks=chunks,
            moved_nodes=moves,
            nbytes=_ID_COST * sum(map(len, ids.values())) + sum(part.nbytes for part in arrays),
        )


def _node_ids(root: Table, slot: int, name: str) -> frozenset[NodeId]:
    items = required(root.structs(slot, NodeId.SIZE), f"TransactionLog.{name}")
    return frozenset(map(NodeId, items))


def _updated_chunks(buffer: FlatBuffer, arrays: Sequence[Table]) -> dict[NodeId, tuple[U32, ...]]:
    """Read the changed chunks; should an array come twice, all that is said of it counts."""
    node_ids = [
        NodeId(required(table.struct(0, NodeId.SIZE), "ArrayUpdatedChunks.node_id"))
        for table in arrays
    ]
    vectors = [required(table.vector(1, 4), "ArrayUpdatedChunks.chunks") for table in arrays]
    tables, rows = IndexedTables.locate(buffer, vectors)
    found: dict[NodeId, dict[int, list[U32]]] = {}
    for node_id, own in zip(node_ids, rows, strict=True):
        by_rank = found.setdefault(node_id, {})
        for rank in tables.ranks(own):
            by_rank.setdefault(rank, []).append(tables.select(own, rank)[1])
    return {
        node_id: tuple(in_order(np.concatenate(by_rank[rank])) for rank in sorted(by_rank))
        for node_id, by_rank in found.items()
    }


def _move(table: Table) -> MoveOperation:
    kind = table.u8(3)
    if kind not in (_GROUP, _ARRAY):
        raise CorruptionError(f"a moved node is of the unknown type {kind}")
    return MoveOperation(
        source=required(table.string(0), "MoveOperation.from"),
        target=required(table.string(1), "MoveOperation.to"),
        node_id=NodeId(required(table.struct(2, NodeId.SIZE), "MoveOperation.node_id")),
        is_array=kind == _ARRAY,
    )
