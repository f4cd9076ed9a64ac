"""What a session changed, as pure data.

A change set says how one version of the hierarchy becomes another, by the ids of nodes, which
stay the same wherever a node moves: it can be rebased onto another version in which the same
nodes look different. Changes that cancel each other out leave no trace, but for deletions of
chunks and for metadata that was changed back: those take knowledge of what was stored.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from zfuse.format.chunk_ref import ChunkRef
from zfuse.format.ids import NodeId, SnapshotId
from zfuse.format.snapshot import ArrayNode, GroupNode, Node
from zfuse.format.transaction_log import MoveOperation, TransactionLog
from zfuse.repo.chunk_changes import UNTOUCHED, Change, ChunkChanges, Coords
from zfuse.repo.documents import ArrayDocument, Document
from zfuse.repo.merged_log import sort_moves


@dataclass(frozen=True, slots=True)
class NewNode:
    """A node that the base does not have."""

    path: str
    document: Document

    @property
    def is_array(self) -> bool:
        """Whether it is an array."""
        return isinstance(self.document, ArrayDocument)


@dataclass(frozen=True, slots=True)
class DeletedNode:
    """A node of the base that is gone; ``path`` is where the base has it."""

    path: str
    is_array: bool


@dataclass(slots=True)
class ChangeSet:
    """All changes relative to a version called the base.

    ``updated``, ``deleted`` and ``moved`` are nodes of the base, ``chunks`` are of arrays of
    the base and of new ones. A moved group does not imply its members: each has its own
    entry. The sources of moves are paths of the base, their targets paths of the result.
    """

    new: dict[NodeId, NewNode] = field(default_factory=dict)
    updated: dict[NodeId, Document] = field(default_factory=dict)
    deleted: dict[NodeId, DeletedNode] = field(default_factory=dict)
    moved: dict[NodeId, MoveOperation] = field(default_factory=dict)
    chunks: dict[NodeId, ChunkChanges] = field(default_factory=dict)

    def __bool__(self) -> bool:
        nodes = self.new or self.updated or self.deleted or self.moved
        return bool(nodes) or any(self.chunks.values())

    def add(self, path: str, node_id: NodeId, document: Document) -> None:
        """Record a new node at *path*, where none is."""
        self.new[node_id] = NewNode(path, document)

    def update(self, node_id: NodeId, document: Document) -> None:
        """Record new metadata of a node."""
        if node_id in self.new:
            self.new[node_id] = replace(self.new[node_id], document=document)
        else:
            self.updated[node_id] = document

    def delete(self, node: Node) -> None:
        """Record that *node* is gone, and with it whatever else was to change about it."""
        self.chunks.pop(node.id, None)
        if self.new.pop(node.id, None) is None:
            self.updated.pop(node.id, None)
            move = self.moved.pop(node.id, None)
            source = node.path if move is None else move.source
            self.deleted[node.id] = DeletedNode(source, isinstance(node, ArrayNode))

    def move(self, node: Node, target: str) -> None:
        """Record that *node* alone goes to the path *target*."""
        if node.id in self.new:
            self.new[node.id] = replace(self.new[node.id], path=target)
            return
        before = self.moved.pop(node.id, None)
        source = node.path if before is None else before.source
        if source != target:
            self.moved[node.id] = MoveOperation(
                source, target, node.id, isinstance(node, ArrayNode)
            )

    def set_chunk(self, node_id: NodeId, coords: Coords, ref: ChunkRef | None) -> None:
        """Record where the chunk of an array is now; None deletes it."""
        self.chunks_of(node_id).set(coords, ref)

    def chunks_of(self, node_id: NodeId) -> ChunkChanges:
        """Return the changes of an array's chunks, to add to them."""
        return self.chunks.setdefault(node_id, ChunkChanges())

    def chunk(self, node_id: NodeId, coords: Coords) -> Change:
        """Return what became of a chunk."""
        changes = self.chunks.get(node_id)
        return UNTOUCHED if changes is None else changes.find(coords)

    def then(self, later: "ChangeSet") -> None:
        """Add the changes of *later*, whose base is the result of these."""
        for node_id, gone in later.deleted.items():
            self.chunks.pop(node_id, None)
            if self.new.pop(node_id, None) is None:
                self.updated.pop(node_id, None)
                move = self.moved.pop(node_id, None)
                self.deleted[node_id] = gone if move is None else replace(gone, path=move.source)
        for move_on in later.moved.values():
            self._move_on(move_on)
        for node_id, document in later.updated.items():
            self.update(node_id, document)
        self.new |= later.new
        for node_id, changes in later.chunks.items():
            self.chunks_of(node_id).then(changes)

    def _move_on(self, move: MoveOperation) -> None:
        if move.node_id in self.new:
            self.new[move.node_id] = replace(self.new[move.node_id], path=move.target)
            return
        before = self.moved.pop(move.node_id, None)
        whole = move if before is None else replace(before, target=move.target)
        if whole.source != whole.target:
            self.moved[move.node_id] = whole

    def apply(self, nodes: Iterable[Node]) -> list[Node]:
        """Return the nodes of the result for the *nodes* of the base, sorted by path.

        Existing arrays keep the manifests they have, new ones have none.
        """
        kept = [self._applied(node) for node in nodes if node.id not in self.deleted]
        kept += [new.document.node(node_id, new.path) for node_id, new in self.new.items()]
        return sorted(kept, key=lambda node: node.path.encode())

    def _applied(self, node: Node) -> Node:
        move = self.moved.get(node.id)
        path = node.path if move is None else move.target
        document = self.updated.get(node.id)
        if document is None:
            return node if move is None else replace(node, path=path)
        if isinstance(document, ArrayDocument) and isinstance(node, ArrayNode):
            return document.node(node.id, path, node.manifests)
        return GroupNode(node.id, path, document.user_data)

    def log(self, snapshot_id: SnapshotId, spec_version: int) -> TransactionLog:
        """Return the transaction log of the snapshot that brings these changes.

        Version 1 has no word for moves. There a moved node is logged as deleted and new,
        which says of it, under its one id, that it left the one path and came to the other.
        """
        new = [(node_id, new.is_array) for node_id, new in self.new.items()]
        deleted = [(node_id, gone.is_array) for node_id, gone in self.deleted.items()]
        moves = sort_moves(self.moved.values())
        if spec_version == 1:
            moved = [(move.node_id, move.is_array) for move in moves]
            new, deleted, moves = new + moved, deleted + moved, ()
        updated = {
            node_id: isinstance(document, ArrayDocument)
            for node_id, document in self.updated.items()
        }
        return TransactionLog(
            spec_version=spec_version,
            id=snapshot_id,
            new_groups=_of_kind(new, arrays=False),
            new_arrays=_of_kind(new, arrays=True),
            deleted_groups=_of_kind(deleted, arrays=False),
            deleted_arrays=_of_kind(deleted, arrays=True),
            updated_arrays=_of_kind(updated.items(), arrays=True),
            updated_groups=_of_kind(updated.items(), arrays=False),
            updated_chunks={
                node_id: tuple(table.coords() for table in changes.tables())
                for node_id, changes in self.chunks.items()
                if changes
            },
            moved_nodes=moves,
            nbytes=0,
        )


def _of_kind(nodes: Iterable[tuple[NodeId, bool]], *, arrays: bool) -> frozenset[NodeId]:
    return frozenset(node_id for node_id, is_array in nodes if is_array is arrays)
