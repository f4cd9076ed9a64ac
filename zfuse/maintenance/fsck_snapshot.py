"""Checks a snapshot and its transaction log: whether they fit themselves and each other."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from cachetools import LRUCache

from zfuse.errors import InvalidInputError
from zfuse.format.extents import Extents
from zfuse.format.ids import INITIAL_SNAPSHOT, ManifestId, NodeId, SnapshotId
from zfuse.format.repo_info import SnapshotInfo
from zfuse.format.snapshot import ArrayNode, ManifestRef, Node, Snapshot
from zfuse.format.transaction_log import TransactionLog
from zfuse.repo.documents import ArrayDocument, parse_document, path_fault

_KNOWN_DOCUMENTS: Final = 1 << 15
_MANY_BOXES: Final = 20_000


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a snapshot or log, and with which node in it, None for none."""

    problem: str
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of a snapshot before its file is read.

    ``info`` is its entry in the repo info, None in version 1.
    """

    id: SnapshotId
    repository_version: int
    info: SnapshotInfo | None


class Documents:
    """Checks nodes by themselves; most are the same in many snapshots."""

    def __init__(self) -> None:
        self._known: LRUCache[object, str | None] = LRUCache(_KNOWN_DOCUMENTS)

    def fault(self, node: Node, spec_version: int) -> str | None:
        """Return what is wrong with the zarr.json of *node*, or what does not fit it."""
        shape = (node.shape, node.dimension_names) if isinstance(node, ArrayNode) else None
        key = (node.user_data, shape, spec_version)
        if key not in self._known:
            self._known[key] = _document_fault(node, spec_version)
        return self._known[key]


def _document_fault(node: Node, spec_version: int) -> str | None:
    try:
        document = parse_document(node.user_data, spec_version=spec_version)
    except InvalidInputError as exc:
        return f"its zarr.json is not valid: {str(exc).partition(': ')[2]}"
    if not isinstance(node, ArrayNode) or not isinstance(document, ArrayDocument):
        same = isinstance(node, ArrayNode) is isinstance(document, ArrayDocument)
        return None if same else "its zarr.json is that of another kind of node"
    lengths = [dimension.array_length for dimension in node.shape]
    fits = {
        "shape is not that": lengths == [d.array_length for d in document.shape],
        "chunk grid is not that": node.shape == document.shape,
        "dimension names are not those": node.dimension_names == document.dimension_names,
    }
    wrong = [what for what, is_same in fits.items() if not is_same]
    return f"its {wrong[0]} of its zarr.json" if wrong else None


def snapshot_faults(
    snapshot: Snapshot, expected: Expected, documents: Documents
) -> Iterator[Fault]:
    """Yield what is wrong with *snapshot*, whose manifests are not looked at."""
    if snapshot.id != expected.id:
        yield Fault(f"it says that its id is {snapshot.id}")
    if snapshot.spec_version > expected.repository_version:
        yield Fault(f"it is of version {snapshot.spec_version}, newer than the repository")
    info = expected.info
    if info is not None and info.flushed_at != snapshot.flushed_at:
        yield Fault("its time is not that in the repo info")
    if info is not None and info.message != snapshot.message:
        yield Fault("its message is not that in the repo info")
    ids: dict[NodeId, str] = {}
    for node in snapshot.nodes:
        first = ids.setdefault(node.id, node.path)
        if first != node.path:
            yield Fault(f"it has the same id as {first}", node.path)
        yield from _node_faults(snapshot, node, documents)
    used = {ref.manifest_id for node in snapshot.nodes for ref in manifests_of(node)}
    for manifest_id in snapshot.manifest_files.keys() - used:
        yield Fault(f"it lists manifests/{manifest_id}, which no array has")


def _node_faults(snapshot: Snapshot, node: Node, documents: Documents) -> Iterator[Fault]:
    for problem in (path_fault(node.path), documents.fault(node, snapshot.spec_version)):
        if problem is not None:
            yield Fault(problem, node.path)
    if isinstance(node, ArrayNode):
        yield from _manifest_faults(snapshot, node)


def manifests_of(node: Node) -> Sequence[ManifestRef]:
    """Return the manifests of an array, none for a group."""
    return node.manifests if isinstance(node, ArrayNode) else ()


def _manifest_faults(snapshot: Snapshot, node: ArrayNode) -> Iterator[Fault]:
    seen: set[ManifestId] = set()
    for ref in node.manifests:
        if ref.manifest_id not in snapshot.manifest_files:
            yield Fault(f"manifests/{ref.manifest_id} is not listed among the files", node.path)
        if ref.manifest_id in seen:
            yield Fault(f"it has manifests/{ref.manifest_id} twice", node.path)
        seen.add(ref.manifest_id)
        if any(low >= high for low, high in ref.extents):
            yield Fault(f"the extents of manifests/{ref.manifest_id} are empty", node.path)


def overlapping(node: ArrayNode) -> list[tuple[ManifestRef, ManifestRef]]:
    """Return the pairs of manifests of an array whose extents overlap."""
    rank, count = len(node.shape), len(node.manifests)
    if count < 2 or count > _MANY_BOXES or any(len(r.extents) != rank for r in node.manifests):
        return []
    if rank == 0:
        return [(node.manifests[0], other) for other in node.manifests[1:]]
    boxes = np.array([ref.extents for ref in node.manifests], np.int64).reshape(count, rank, 2)
    low, high = boxes[:, :, 0], boxes[:, :, 1]
    found: list[tuple[ManifestRef, ManifestRef]] = []
    for n in range(count - 1):
        meets = np.all((low[n + 1 :] < high[n]) & (high[n + 1 :] > low[n]), axis=1)
        others: list[int] = np.flatnonzero(meets).tolist()
        found += [(node.manifests[n], node.manifests[n + 1 + m]) for m in others]
    return found


def counts_of(node: ArrayNode) -> tuple[int, ...]:
    """Return how many chunks an array has along each dimension."""
    return tuple(dimension.num_chunks for dimension in node.shape)


def needs_log(snapshot_id: SnapshotId) -> bool:
    """Tell whether a snapshot has to have a transaction log; version 1 made none for the first."""
    return snapshot_id != INITIAL_SNAPSHOT


def log_faults(log: TransactionLog, expected: Expected, snapshot: Snapshot) -> Iterator[Fault]:
    """Yield in what a transaction log does not fit its snapshot.

    What it says of nodes that it also says were deleted, as the log of an amended commit may,
    is not looked at.
    """
    if log.id != expected.id:
        yield Fault(f"it says that its id is {log.id}")
    if log.spec_version > expected.repository_version:
        yield Fault(f"it is of version {log.spec_version}, newer than the repository")
    nodes = {node.id: node for node in snapshot.nodes}
    gone = log.deleted_arrays | log.deleted_groups
    for node_id in sorted((gone - log.new_arrays - log.new_groups) & nodes.keys()):
        yield Fault("the node is there, though it was deleted", nodes[node_id].path)
    yield from _kind_faults(log, nodes)
    yield from _rank_faults(log, nodes)
    for move in log.moved_nodes:
        if move.node_id not in nodes and move.node_id not in gone:
            yield Fault(f"it tells of the moved node {move.node_id}, which is not there")


def _kind_faults(log: TransactionLog, nodes: Mapping[NodeId, Node]) -> Iterator[Fault]:
    gone = log.deleted_arrays | log.deleted_groups
    for word, ids, is_array in (
        ("new", log.new_groups, False),
        ("new", log.new_arrays, True),
        ("changed", log.updated_groups, False),
        ("changed", log.updated_arrays, True),
        ("changed", log.updated_chunks.keys(), True),
    ):
        for node_id in sorted(ids - gone):
            node = nodes.get(node_id)
            if node is None:
                yield Fault(f"it tells of the {word} node {node_id}, which is not there")
            elif isinstance(node, ArrayNode) is not is_array:
                yield Fault(f"it takes the {word} node for another kind", node.path)


def _rank_faults(log: TransactionLog, nodes: Mapping[NodeId, Node]) -> Iterator[Fault]:
    for node_id, parts in log.updated_chunks.items():
        node = nodes.get(node_id)
        if isinstance(node, ArrayNode):
            ranks = {part.shape[1] for part in parts} - {len(node.shape)}
            for rank in sorted(ranks):
                yield Fault(f"it tells of chunks with an index of {rank} numbers", node.path)


def as_box(extents: Extents) -> str:
    """Return extents as text: ``[0, 4) x [2, 3)``."""
    return " x ".join(f"[{low}, {high})" for low, high in extents) or "scalar"
