"""Whether a change set fits on top of what others committed meanwhile, and how.

The kinds of conflicts and the rules are those of the official library. Deviations:

* Commits since the base are judged as one, not one after the other: what somebody made and
  took back is in nobody's way.
* The official library lets moves be rebased over anything. Here a move whose source is gone
  or whose target is taken is a conflict, and nodes that others put below a moved group move
  along with it.
* Where both sides replaced a node, the official library can commit two nodes of one path.
  Here that is a conflict.
* An array that this side replaced with a group is no obstacle to what it put into that group.

Source: https://icechunk.io/en/latest/reference/conflicts/
"""

import enum
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zfuse.format.ids import NodeId
from zfuse.format.snapshot import ArrayNode, Node
from zfuse.format.transaction_log import MoveOperation, TransactionLog
from zfuse.repo.change_set import ChangeSet
from zfuse.repo.chunk_changes import ChunkChanges

U32 = npt.NDArray[np.uint32]


class ConflictKind(enum.IntEnum):
    """What is in the way, by the names and numbers of the official library."""

    NEW_NODE_CONFLICTS_WITH_EXISTING_NODE = 1
    NEW_NODE_IN_INVALID_GROUP = 2
    ZARR_METADATA_DOUBLE_UPDATE = 3
    ZARR_METADATA_UPDATE_OF_DELETED_ARRAY = 4
    ZARR_METADATA_UPDATE_OF_DELETED_GROUP = 5
    CHUNK_DOUBLE_UPDATE = 6
    CHUNKS_UPDATED_IN_DELETED_ARRAY = 7
    CHUNKS_UPDATED_IN_UPDATED_ARRAY = 8
    DELETE_OF_UPDATED_ARRAY = 9
    DELETE_OF_UPDATED_GROUP = 10
    MOVE_OPERATION_CANNOT_BE_REBASED = 11


@dataclass(frozen=True, slots=True)
class Conflict:
    """Something that both sides changed.

    ``path`` is where the base has the node; where there is none yet (kinds 1 and 2), where
    the other side has what is in the way; None where the other side moved nodes. ``chunks``
    (n, rank) are the indices that both sides changed (kind 6).
    """

    kind: ConflictKind
    path: str | None
    node_id: NodeId | None = None
    chunks: U32 | None = None


class ChunkChoice(enum.Enum):
    """What becomes of a chunk that both sides changed."""

    FAIL = "fail"
    OURS = "ours"
    THEIRS = "theirs"


@dataclass(frozen=True, slots=True)
class ConflictPolicy:
    """Which conflicts to solve, and how; what both sides did to metadata is never solved.

    A node that this side deleted is deleted although the other side updated it, unless that
    is to fail.
    """

    on_chunk_conflict: ChunkChoice = ChunkChoice.OURS
    fail_on_delete_of_updated_array: bool = False
    fail_on_delete_of_updated_group: bool = False

    def solves(self, conflict: Conflict) -> bool:
        """Tell whether *conflict* is none with this policy."""
        match conflict.kind:
            case ConflictKind.CHUNK_DOUBLE_UPDATE:
                return self.on_chunk_conflict is not ChunkChoice.FAIL
            case ConflictKind.DELETE_OF_UPDATED_ARRAY:
                return not self.fail_on_delete_of_updated_array
            case ConflictKind.DELETE_OF_UPDATED_GROUP:
                return not self.fail_on_delete_of_updated_group
            case _:
                return False


DETECT = ConflictPolicy(ChunkChoice.FAIL, True, True)  # noqa: FBT003 - by position, for brevity
"""Solves nothing: only changes that do not touch each other come together."""


@dataclass(frozen=True, slots=True)
class Rebase:
    """The outcome: what stands in the way and, if nothing does, the changes on the new base."""

    conflicts: tuple[Conflict, ...]
    changes: ChangeSet


def rebase(
    changes: ChangeSet,
    base: Sequence[Node],
    theirs: Sequence[Node],
    log: TransactionLog,
    policy: ConflictPolicy,
) -> Rebase:
    """Bring *changes* of the nodes *base* to the nodes *theirs*, which *log* led to.

    *log* is all that changed between the two. *changes* stays as it is.
    """
    paths = {node.id: node.path for node in base}
    found = [*find_conflicts(changes, paths, theirs, log)]
    moved = changes.moved | _followers(changes, paths, theirs)
    present = {node.id for node in theirs}
    result = ChangeSet(
        new=changes.new.copy(),
        updated=changes.updated.copy(),
        deleted={i: node for i, node in changes.deleted.items() if i in present},
        moved={i: move for i, move in moved.items() if i in present},
        chunks={i: chunks.copy() for i, chunks in changes.chunks.items()},
    )
    found += _double_paths(result, theirs)
    if policy.on_chunk_conflict is ChunkChoice.THEIRS:
        for conflict in found:
            _give_way(result.chunks, conflict)
    return Rebase(tuple(c for c in found if not policy.solves(c)), result)


def find_conflicts(
    changes: ChangeSet,
    paths: Mapping[NodeId, str],
    theirs: Sequence[Node],
    log: TransactionLog,
) -> Iterator[Conflict]:
    """Yield what both sides changed; *paths* are those of the base by node.

    Nodes that would come to lie at one path are not among them.
    """
    if log.moved_nodes:
        if changes:
            yield Conflict(ConflictKind.MOVE_OPERATION_CANNOT_BE_REBASED, None)
        return
    by_path = {node.path: node for node in theirs}
    yield from _invalid_groups(changes, by_path)
    yield from _metadata_conflicts(changes, paths, log)
    yield from _chunk_conflicts(changes, paths, log)
    yield from _deleted_but_updated(changes, by_path, log)
    yield from _lost_sources(changes, log)


def _double_paths(changes: ChangeSet, theirs: Sequence[Node]) -> Iterator[Conflict]:
    """Yield the paths at which a node of theirs would be, and another one of ours."""
    arrivals = changes.new.keys() | changes.moved.keys()
    if not arrivals:
        return
    settled: dict[str, NodeId] = {}
    ours: list[str] = []
    for node in changes.apply(theirs):
        if node.id in arrivals:
            ours.append(node.path)
        else:
            settled[node.path] = node.id
    for path, count in Counter(ours).items():
        if path in settled or count > 1:
            kind = ConflictKind.NEW_NODE_CONFLICTS_WITH_EXISTING_NODE
            yield Conflict(kind, path, settled.get(path))


def _invalid_groups(changes: ChangeSet, theirs: Mapping[str, Node]) -> Iterator[Conflict]:
    """Yield for each node that came to a path the nearest array above it."""
    arrivals = [new.path for new in changes.new.values()]
    arrivals += [move.target for move in changes.moved.values()]
    for path in arrivals:
        for above in _ancestors(path):
            node = theirs.get(above)
            if (
                isinstance(node, ArrayNode)
                and node.id not in changes.deleted
                and node.id not in changes.moved
            ):
                yield Conflict(ConflictKind.NEW_NODE_IN_INVALID_GROUP, above, node.id)
                break


def _metadata_conflicts(
    changes: ChangeSet, paths: Mapping[NodeId, str], log: TransactionLog
) -> Iterator[Conflict]:
    updated = log.updated_arrays | log.updated_groups
    for node_id in changes.updated:
        if node_id in updated:
            kind = ConflictKind.ZARR_METADATA_DOUBLE_UPDATE
            yield Conflict(kind, paths.get(node_id), node_id)
        if node_id in log.deleted_arrays:
            kind = ConflictKind.ZARR_METADATA_UPDATE_OF_DELETED_ARRAY
            yield Conflict(kind, paths.get(node_id), node_id)
        if node_id in log.deleted_groups:
            kind = ConflictKind.ZARR_METADATA_UPDATE_OF_DELETED_GROUP
            yield Conflict(kind, paths.get(node_id), node_id)


def _chunk_conflicts(
    changes: ChangeSet, paths: Mapping[NodeId, str], log: TransactionLog
) -> Iterator[Conflict]:
    for node_id, chunks in changes.chunks.items():
        if not chunks:
            continue
        path = paths.get(node_id)
        if node_id in log.deleted_arrays:
            yield Conflict(ConflictKind.CHUNKS_UPDATED_IN_DELETED_ARRAY, path, node_id)
        if node_id in log.updated_arrays:
            yield Conflict(ConflictKind.CHUNKS_UPDATED_IN_UPDATED_ARRAY, path, node_id)
        their_chunks = {coords.shape[1]: coords for coords in log.updated_chunks.get(node_id, ())}
        for table in chunks.tables():
            if table.rank in their_chunks:
                both = table.holds(their_chunks[table.rank])
                if both.any():
                    shared = their_chunks[table.rank][both]
                    yield Conflict(ConflictKind.CHUNK_DOUBLE_UPDATE, path, node_id, shared)


def _deleted_but_updated(
    changes: ChangeSet, theirs: Mapping[str, Node], log: TransactionLog
) -> Iterator[Conflict]:
    arrays = log.updated_arrays | log.updated_chunks.keys()
    for gone in changes.deleted.values():
        # By path, as the official library has it: what counts is what would be missed there.
        node = theirs.get(gone.path)
        if node is None:
            continue
        if gone.is_array and node.id in arrays:
            yield Conflict(ConflictKind.DELETE_OF_UPDATED_ARRAY, gone.path, node.id)
        if not gone.is_array and node.id in log.updated_groups:
            yield Conflict(ConflictKind.DELETE_OF_UPDATED_GROUP, gone.path, node.id)


def _lost_sources(changes: ChangeSet, log: TransactionLog) -> Iterator[Conflict]:
    gone = log.deleted_arrays | log.deleted_groups
    for node_id, move in changes.moved.items():
        if node_id in gone:
            kind = ConflictKind.MOVE_OPERATION_CANNOT_BE_REBASED
            yield Conflict(kind, move.source, node_id)


def _followers(
    changes: ChangeSet, paths: Mapping[NodeId, str], theirs: Sequence[Node]
) -> dict[NodeId, MoveOperation]:
    """Return the moves of nodes that others made below a group that moved on this side."""
    if not changes.moved:
        return {}
    by_path = {node.path: node for node in theirs}
    found: dict[NodeId, MoveOperation] = {}
    for node in theirs:
        if node.id in paths:
            continue
        for above in _ancestors(node.path):
            parent = by_path.get(above)
            if parent is None or parent.id not in paths:
                continue
            move = changes.moved.get(parent.id)
            if move is not None:
                target = move.target + node.path.removeprefix(above)
                found[node.id] = MoveOperation(
                    node.path, target, node.id, isinstance(node, ArrayNode)
                )
            break
    return found


def _give_way(chunks: dict[NodeId, ChunkChanges], conflict: Conflict) -> None:
    if conflict.kind is ConflictKind.CHUNK_DOUBLE_UPDATE:
        assert conflict.node_id is not None
        assert conflict.chunks is not None
        ours = chunks[conflict.node_id]
        ours.discard(conflict.chunks)
        if not ours:
            del chunks[conflict.node_id]


def _ancestors(path: str) -> Iterator[str]:
    """Yield the paths above *path*, the nearest first."""
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        yield path
