"""Whether a change set can be one of a certain version at all.

Change sets that a working tree made always can. Others come from elsewhere, as from the files
of a session that was left behind: what they get wrong would make a snapshot that hides nodes.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from zfuse.errors import InvalidInputError
from zfuse.format.ids import NodeId
from zfuse.format.snapshot import ArrayNode, Node
from zfuse.repo.change_set import ChangeSet
from zfuse.repo.documents import ArrayDocument, path_fault


def check_changes(changes: ChangeSet, base: Sequence[Node]) -> None:
    """Refuse *changes* that are none of the nodes *base*, or lead to two nodes at one path.

    Raises:
        InvalidInputError: they are not consistent with the base, or with each other.
    """
    by_id = {node.id: node for node in base}
    for faults in (
        _strangers(changes, by_id),
        _other_kinds(changes, by_id),
        _moves(changes, by_id),
        _paths(changes, base),
    ):
        for fault in faults:
            raise InvalidInputError(f"these changes can not be committed: {fault}")


def _strangers(changes: ChangeSet, base: Mapping[NodeId, Node]) -> Iterator[str]:
    known = base.keys()
    kept = changes.updated.keys() | changes.moved.keys()
    filled = {node_id for node_id, chunks in changes.chunks.items() if chunks}
    for node_id in (kept | changes.deleted.keys()) - known:
        yield f"the version that they change has no node {node_id}"
    for node_id in filled - known - changes.new.keys():
        yield f"they bring chunks for the node {node_id}, which is not there"
    for node_id in changes.new.keys() & known:
        yield f"the node {node_id} is not new"
    for node_id in changes.deleted.keys() & (kept | filled):
        yield f"the node {node_id} is deleted, yet changes"


def _other_kinds(changes: ChangeSet, base: Mapping[NodeId, Node]) -> Iterator[str]:
    for node_id, document in changes.updated.items():
        if isinstance(document, ArrayDocument) is not isinstance(base[node_id], ArrayNode):
            yield f"{base[node_id].path} would become a node of another kind"
    for node_id, chunks in changes.chunks.items():
        new = changes.new.get(node_id)
        is_array = isinstance(base.get(node_id), ArrayNode) if new is None else new.is_array
        if chunks and not is_array:
            yield f"they bring chunks for the node {node_id}, which is a group"


def _moves(changes: ChangeSet, base: Mapping[NodeId, Node]) -> Iterator[str]:
    told = [(i, gone.path, gone.is_array) for i, gone in changes.deleted.items()]
    told += [(i, move.source, move.is_array) for i, move in changes.moved.items()]
    for node_id, path, is_array in told:
        node = base[node_id]
        if node.path != path or isinstance(node, ArrayNode) is not is_array:
            yield f"the node {node_id} is not what they take it for, at {path}"
    for node_id, move in changes.moved.items():
        if move.node_id != node_id or move.source == move.target:
            yield f"the move of the node {node_id} is none"


def _paths(changes: ChangeSet, base: Sequence[Node]) -> Iterator[str]:
    arrivals = [new.path for new in changes.new.values()]
    arrivals += [move.target for move in changes.moved.values()]
    if not arrivals:
        return
    for path in arrivals:
        fault = path_fault(path)
        if fault is not None:
            yield f"no node can be at {path!r}: {fault}"
    counts = Counter(node.path for node in changes.apply(base))
    # An official writer may have left two nodes at one path; that must not block the path.
    before = Counter(node.path for node in base)
    for path in arrivals:
        if counts[path] > max(1, before[path]):
            yield f"there would be two nodes at {path}"
