"""What a change set or a transaction log says, by path."""

from collections.abc import Iterable, Mapping

from zfuse.api.values import Diff
from zfuse.format.ids import NodeId, SnapshotId
from zfuse.format.snapshot import Node
from zfuse.format.transaction_log import TransactionLog
from zfuse.repo.change_set import ChangeSet

_NO_SNAPSHOT = bytes(12)


def diff_of_changes(base: Iterable[Node], changes: ChangeSet) -> Diff:
    """Return what *changes* make of the nodes *base*; paths are those of the result."""
    old = {node.id: node.path for node in base}
    new = {node_id: node.path for node_id, node in changes.new.items()}
    new |= {node_id: move.target for node_id, move in changes.moved.items()}
    return diff_of_log(changes.log(SnapshotId(_NO_SNAPSHOT), 2), old, old | new)


def diff_of_log(log: TransactionLog, old: Mapping[NodeId, str], new: Mapping[NodeId, str]) -> Diff:
    """Return what *log* says; *old* and *new* are the paths of the nodes before and after."""

    def paths(nodes: Iterable[NodeId], of: Mapping[NodeId, str]) -> set[str]:
        return {of[node] for node in nodes if node in of}

    return Diff(
        new_groups=paths(log.new_groups, new),
        new_arrays=paths(log.new_arrays, new),
        deleted_groups=paths(log.deleted_groups, old),
        deleted_arrays=paths(log.deleted_arrays, old),
        updated_groups=paths(log.updated_groups, new),
        updated_arrays=paths(log.updated_arrays, new),
        updated_chunks={
            new[node]: [index for part in parts for index in part.tolist()]
            for node, parts in log.updated_chunks.items()
            if node in new
        },
        moved_nodes=[(move.source, move.target) for move in log.moved_nodes],
    )
