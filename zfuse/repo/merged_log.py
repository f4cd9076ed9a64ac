"""Several transaction logs as one: what a chain of commits changed, or an amended one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from zfuse.format.ids import NodeId, SnapshotId
from zfuse.format.index_keys import IndexKeys
from zfuse.format.transaction_log import MoveOperation, TransactionLog

U32 = npt.NDArray[np.uint32]


def merge_logs(snapshot_id: SnapshotId, logs: Sequence[TransactionLog]) -> TransactionLog:
    """Return what *logs*, oldest first and at least one, come to.

    That is their union, but for nodes that one of them makes and a later one deletes, and for
    moves of nodes that one of them makes: before and after the chain no reader can see these.
    """
    first, *later = logs
    merged = replace(first, id=snapshot_id, moved_nodes=())
    for log in later:
        merged = _followed_by(merged, log)
    gone = merged.deleted_groups | merged.deleted_arrays
    made = merged.new_groups | merged.new_arrays
    lost = frozenset().union(*(log.new_groups | log.new_arrays for log in logs)) - made
    chunks = _union([log.updated_chunks for log in logs])
    return replace(
        merged,
        updated_groups=merged.updated_groups - lost,
        updated_arrays=merged.updated_arrays - lost,
        updated_chunks={node_id: chunks[node_id] for node_id in chunks.keys() - lost},
        moved_nodes=_moves(logs, gone | made | lost),
    )


def _followed_by(merged: TransactionLog, log: TransactionLog) -> TransactionLog:
    return replace(
        merged,
        new_groups=merged.new_groups - log.deleted_groups | log.new_groups,
        new_arrays=merged.new_arrays - log.deleted_arrays | log.new_arrays,
        deleted_groups=merged.deleted_groups | log.deleted_groups - merged.new_groups,
        deleted_arrays=merged.deleted_arrays | log.deleted_arrays - merged.new_arrays,
        updated_groups=merged.updated_groups | log.updated_groups,
        updated_arrays=merged.updated_arrays | log.updated_arrays,
    )


def _moves(
    logs: Sequence[TransactionLog], left_out: frozenset[NodeId]
) -> tuple[MoveOperation, ...]:
    moves: dict[NodeId, MoveOperation] = {}
    for log in logs:
        for move in log.moved_nodes:
            before = moves.get(move.node_id, move)
            moves[move.node_id] = replace(before, target=move.target)
    real = [m for m in moves.values() if m.source != m.target and m.node_id not in left_out]
    return sort_moves(real)


def sort_moves(moves: Iterable[MoveOperation]) -> tuple[MoveOperation, ...]:
    """Return *moves* in the order of the format: by target, segment by segment."""
    return tuple(sorted(moves, key=lambda move: move.target.encode().split(b"/")))


def _union(parts: Sequence[Mapping[NodeId, tuple[U32, ...]]]) -> dict[NodeId, tuple[U32, ...]]:
    found: dict[NodeId, dict[int, list[U32]]] = {}
    for part in parts:
        for node_id, tables in part.items():
            by_rank = found.setdefault(node_id, {})
            for coords in tables:
                by_rank.setdefault(coords.shape[1], []).append(coords)
    return {
        node_id: tuple(_sorted(by_rank[rank]) for rank in sorted(by_rank))
        for node_id, by_rank in found.items()
    }


def _sorted(parts: Sequence[U32]) -> U32:
    if len(parts) == 1:
        return parts[0]
    coords = np.concatenate(parts)
    return coords[IndexKeys(coords).sort()]
