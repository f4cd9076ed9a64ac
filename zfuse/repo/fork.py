"""Distributed writing: a session is forked, the forks change, and are merged into it again.

A fork is a value that travels between processes: what the session looked like, and what was
changed since. Semantics of merging are those of the official library: of several references to
one chunk the last merged counts, while all else that two have changed differently is refused.
Beyond that, a merge is done as a whole or not at all, and a fork may change what the session
had changed before.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from zfuse.errors import MergeError
from zfuse.format.ids import NodeId, SnapshotId
from zfuse.format.snapshot import ArrayNode, Node
from zfuse.repo.change_set import ChangeSet
from zfuse.repo.chunk_changes import ChunkChanges


@dataclass(frozen=True, slots=True)
class Fork:
    """Changes of a session that is somewhere else.

    ``base_id`` and ``inherited`` are the session's snapshot and its changes when it was forked,
    ``changes`` come on top of them. ``home`` is the process that has the session.
    """

    base_id: SnapshotId
    inherited: ChangeSet
    changes: ChangeSet = field(default_factory=ChangeSet)
    home: int = field(default_factory=os.getpid)


@dataclass(frozen=True, slots=True)
class ForkedState:
    """A fork, with the nodes that it began with."""

    fork: Fork
    nodes: Mapping[NodeId, Node]


@dataclass(frozen=True, slots=True)
class SessionState:
    """What a session has: nodes, and its changes of them.

    ``before`` are changes that led to the nodes and are no commit's yet.
    """

    nodes: Sequence[Node]
    before: ChangeSet
    changes: ChangeSet


def merge(session: SessionState, forks: Iterable[ForkedState]) -> ChangeSet:
    """Return the changes of *session* with those of *forks* on top.

    Raises:
        MergeError: two have changed the same thing differently.
    """
    merged = ChangeSet()
    merged.then(session.changes)
    waiting: dict[NodeId, list[ChunkChanges]] = {}  # a thousand forks go in at once
    for forked in forks:
        if forked.fork.changes.deleted:
            _take_in(merged, waiting)
        nodes = {node.id: node for node in merged.apply(session.nodes)}
        faults = list(_Meeting(forked, nodes, (session.before, merged)).faults())
        if faults:
            raise MergeError("the forks can not be merged: " + "; ".join(faults))
        missing = _missing(forked.fork.changes, nodes)
        for node_id, chunks in missing.chunks.items():
            waiting.setdefault(node_id, []).append(chunks)
        missing.chunks = {}
        merged.then(missing)
    _take_in(merged, waiting)
    return merged


def _take_in(merged: ChangeSet, waiting: dict[NodeId, list[ChunkChanges]]) -> None:
    """Add changes of chunks, and forget that they wait."""
    for node_id, changes in waiting.items():
        merged.chunks_of(node_id).then_all(changes)
    waiting.clear()


def _missing(changes: ChangeSet, nodes: Mapping[NodeId, Node]) -> ChangeSet:
    """Return the part of *changes* that *nodes* do not have yet."""
    missing = ChangeSet(
        dict(changes.new),
        dict(changes.updated),
        {node_id: gone for node_id, gone in changes.deleted.items() if node_id in nodes},
        {
            node_id: move
            for node_id, move in changes.moved.items()
            if nodes[node_id].path != move.target
        },
        dict(changes.chunks),
    )
    for node_id in changes.new.keys() & nodes.keys():  # merged before
        document = missing.new.pop(node_id).document
        if document.user_data != nodes[node_id].user_data:
            missing.updated[node_id] = document
    return missing


@dataclass(frozen=True, slots=True)
class _Meeting:
    """What a fork meets in the session: nodes, and the changes that led to them."""

    forked: ForkedState
    nodes: Mapping[NodeId, Node]
    layers: Sequence[ChangeSet]

    @property
    def changes(self) -> ChangeSet:
        return self.forked.fork.changes

    def faults(self) -> Iterator[str]:
        """Yield what both have changed differently."""
        yield from self._arrivals()
        yield from self._documents()
        yield from self._moves()
        yield from self._deletions()

    def _arrivals(self) -> Iterator[str]:
        ids = {node.path: node.id for node in self.nodes.values()}
        targets = [(node_id, new.path) for node_id, new in self.changes.new.items()]
        targets += [(node_id, move.target) for node_id, move in self.changes.moved.items()]
        for node_id, path in targets:
            if ids.get(path, node_id) != node_id:
                yield f"several made {path}"

    def _documents(self) -> Iterator[str]:
        for node_id, document in self.changes.updated.items():
            node, before = self.nodes.get(node_id), self.forked.nodes[node_id]
            if node is not None and node.user_data not in (document.user_data, before.user_data):
                yield f"several changed the metadata of {node.path}"

    def _moves(self) -> Iterator[str]:
        for node_id, move in self.changes.moved.items():
            node, before = self.nodes.get(node_id), self.forked.nodes[node_id]
            if node is not None and node.path not in (move.target, before.path):
                yield f"several moved {before.path}"

    def _deletions(self) -> Iterator[str]:
        changes = self.changes
        touched = {node_id for node_id, chunks in changes.chunks.items() if chunks}
        touched |= changes.updated.keys() | changes.moved.keys()
        paths = [
            self.forked.nodes[n].path for n in touched - changes.new.keys() - self.nodes.keys()
        ]
        common = changes.deleted.keys() & self.nodes.keys()
        paths += [self.nodes[node_id].path for node_id in common if self._has_changed(node_id)]
        for path in sorted(paths):
            yield f"{path} was both changed and deleted"

    def _has_changed(self, node_id: NodeId) -> bool:
        """Tell whether a node is not any more what the fork, which deleted it, began with."""
        node, before = self.nodes[node_id], self.forked.nodes[node_id]
        if node.user_data != before.user_data or node.path != before.path:
            return True
        if not isinstance(node, ArrayNode):
            return False
        now = ChunkChanges()
        for layer in self.layers:
            now.then(layer.chunks.get(node_id, ChunkChanges()))
        return not now.same_as(self.forked.fork.inherited.chunks.get(node_id, ChunkChanges()))
