"""From what a walk through a session found to the change set of a commit."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import numpy.typing as npt

from zfuse.format.chunk_ref import ChunkRef
from zfuse.format.ids import NodeId
from zfuse.format.snapshot import ArrayNode, Node
from zfuse.format.transaction_log import MoveOperation
from zfuse.fs.base_place import ChunkPlace, shown
from zfuse.fs.plan import Instance, MovedChunks, Owner, Problem, Region, StagedChunk, Walked
from zfuse.fs.staged import StagedFile
from zfuse.repo.array_columns import array_columns
from zfuse.repo.asset_manager import AssetManager
from zfuse.repo.change_set import ChangeSet, DeletedNode
from zfuse.repo.chunk_changes import ChunkChanges
from zfuse.repo.chunks import ChunkIndex
from zfuse.repo.documents import chunk_fault, document_of
from zfuse.repo.new_ids import new_id
from zfuse.repo.view import HierarchyView

U32 = npt.NDArray[np.uint32]


@dataclass(slots=True)
class Plan:
    """What a commit of the session would do.

    ``changes`` lack the chunks of ``staged``, which have no reference before they are stored.
    With anything ``invalid`` there is no commit. ``kept`` are entries that stay.
    """

    changes: ChangeSet
    staged: list[tuple[NodeId, StagedChunk]]
    invalid: list[Problem]
    untracked: list[str]
    open_files: list[str]
    kept: list[tuple[int, str]]
    copied_from: dict[NodeId, str] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not self.changes and not self.staged

    def files(self) -> Iterator[StagedFile]:
        """Yield the files whose bytes have to be stored before the commit."""
        for _, chunk in self.staged:
            if chunk.file is not None:
                yield chunk.file


class Planner:
    """Makes change sets; *view* is the base of the session."""

    def __init__(self, assets: AssetManager, view: HierarchyView) -> None:
        self._assets = assets
        self._view = view
        self._chunks = ChunkIndex(assets)

    async def plan(self, walked: Walked) -> Plan:
        """Return the plan of a commit.

        Raises:
            MissingObjectError, CorruptionError: a manifest that matters can not be read.
        """
        plan = Plan(
            ChangeSet(), [], walked.invalid, walked.untracked, walked.open_files, walked.kept
        )
        for moved in walked.moved_chunks:
            await self._move_chunks(moved, plan)
        natural, *others = walked.regions
        for region in others:
            for node in region.place.nodes():
                path = region.path_of(node)
                if path is not None:
                    region.instance(node, path)
        for node in _concerned(natural, others):
            await self._base_node(node, natural, others, plan)
        for instance in walked.new:
            if not instance.is_dead:
                await self._new_node(instance, plan)
        _refuse_double_paths(self._view, plan)
        plan.invalid.sort(key=lambda problem: problem.path)
        return plan

    async def _base_node(
        self, node: Node, natural: Region, others: Sequence[Region], plan: Plan
    ) -> None:
        """Decide what becomes of a node of the base."""
        showing = [
            (region, instance)
            for region in others
            if (instance := region.instances.get(node.path)) is not None
            and not instance.is_dead
            and not region.hides(node.path)
        ]
        stays = natural.instances.get(node.path)
        if not natural.hides(node.path):
            stays = stays or Instance(node.path, node)
            if not stays.is_dead:
                showing.insert(0, (natural, stays))
        if not showing:
            # Somebody took the zarr.json away, and left the directory.
            is_aside = not natural.hides(node.path)
            if is_aside and stays is not None and isinstance(node, ArrayNode):
                hidden = await self._hidden(node, natural)
                if await self._leaves_chunks(node, hidden, stays, plan):
                    return
            plan.changes.deleted[node.id] = DeletedNode(node.path, isinstance(node, ArrayNode))
            return
        showing.sort(key=lambda each: each[0].is_copy)
        (region, keeper), *copies = showing
        await self._kept_node(node, region, keeper, plan)
        for region, copy in copies:
            await self._copied_node(node, region, copy, plan)

    async def _kept_node(self, node: Node, region: Region, keeper: Instance, plan: Plan) -> None:
        is_array = isinstance(node, ArrayNode)
        hidden = await self._hidden(node, region)
        if keeper.is_reshaped:
            if await self._leaves_chunks(node, hidden, keeper, plan):
                return
            plan.changes.deleted[node.id] = DeletedNode(node.path, is_array)
            await self._new_node(keeper, plan)
            return
        if keeper.path != node.path:
            move = MoveOperation(node.path, keeper.path, node.id, is_array)
            plan.changes.moved[node.id] = move
        if keeper.document is not None:
            plan.changes.updated[node.id] = keeper.document
        if len(hidden):
            plan.changes.chunks_of(node.id).delete_many(hidden)
        _stage(node.id, keeper, plan)

    async def _copied_node(self, node: Node, region: Region, copy: Instance, plan: Plan) -> None:
        hidden = await self._hidden(node, region)
        if copy.is_reshaped:
            if not await self._leaves_chunks(node, hidden, copy, plan):
                await self._new_node(copy, plan)
            return
        node_id = new_id(NodeId)
        plan.changes.add(copy.path, node_id, copy.document or document_of(node))
        plan.copied_from[node_id] = node.path
        if isinstance(node, ArrayNode):
            for columns in await array_columns(self._assets, node, ()):
                plan.changes.chunks_of(node_id).set_many(columns.without(hidden))
        _stage(node_id, copy, plan)

    async def _new_node(self, instance: Instance, plan: Plan) -> None:
        assert instance.document is not None
        node_id = new_id(NodeId)
        plan.changes.add(instance.path, node_id, instance.document)
        _stage(node_id, instance, plan)

    async def _hidden(self, node: Node, region: Region) -> U32:
        """Return the indices of the chunks of a node that the base has and a region hides."""
        places = region.hidden_chunks.get(node.path, ())
        if not places or not isinstance(node, ArrayNode):
            rank = len(node.shape) if isinstance(node, ArrayNode) else 0
            return np.empty((0, rank), np.uint32)
        return await self._existing(node, places)

    async def _existing(self, node: ArrayNode, places: Sequence[ChunkPlace]) -> U32:
        rank = len(node.shape)
        found = [np.empty((0, rank), np.uint32)]
        single = [place.prefix for place in places if place.is_chunk]
        if single:
            wanted = np.array(single, np.uint32).reshape(len(single), rank)
            all_rows = await self._chunks.rows(node, (), rank)
            found += [wanted[rows.references.find_many(wanted) >= 0] for rows in all_rows]
        for place in places:
            if not place.is_chunk:
                rows_under = await self._chunks.rows(node, place.prefix, rank)
                found += [rows.references.coords(rows.start, rows.stop) for rows in rows_under]
        together = np.concatenate(found)
        return np.unique(together, axis=0) if len(together) else together

    async def _leaves_chunks(self, node: Node, hidden: U32, instance: Instance, plan: Plan) -> bool:
        """Tell whether chunks are left of an array that is none any more, or has other names."""
        assert isinstance(node, ArrayNode)
        rows = await self._chunks.rows(node, (), len(node.shape))
        if sum(each.stop - each.start for each in rows) <= len(hidden):
            return False
        told = "would have other names" if instance.is_reshaped else "belong to no array without it"
        reason = f"chunks are left that {told}; remove them first"
        plan.invalid.append(Problem(f"{instance.path.rstrip('/')}/zarr.json", reason))
        return True

    async def _move_chunks(self, moved: MovedChunks, plan: Plan) -> None:
        """Give chunks of the base the indices that their new names mean."""
        place = moved.place
        hidden = moved.region.hidden_chunks.get(place.array.path, ())
        gone = {tuple(c) for c in (await self._existing(place.array, hidden)).tolist()}
        found: list[tuple[Owner, StagedChunk]] = []
        for rows in await self._chunks.rows(place.array, place.prefix, len(place.array.shape)):
            for row in range(rows.start, rows.stop):
                coords = tuple(rows.references.coords(row, row + 1)[0].tolist())
                if coords in gone:
                    continue
                chunk = _renamed(coords, rows.references.ref(row), moved)
                if isinstance(chunk, Problem):
                    plan.invalid.append(chunk)
                else:
                    found.append(chunk)
        # Behind these: what was written there itself counts.
        for _, group in groupby(found, key=lambda each: id(each[0])):
            each = list(group)
            each[0][0].instance.chunks[:0] = [staged for _, staged in each]


def _renamed(
    coords: tuple[int, ...], ref: ChunkRef, moved: MovedChunks
) -> tuple[Owner, StagedChunk] | Problem:
    """Return the chunk that a chunk of the base is under its new name, and of which array."""
    place, owner = moved.place, moved.owner
    names = tuple(place.names.encoding.encode(coords).split("/")[place.depth :])
    path = shown([*moved.shows_at, *names])
    there = None if owner is None else owner.chunk(names)
    if there is None:
        # Unlike a file, which the session could keep, it is only known by its array.
        return Problem(path, "it was a chunk and is one of no array here; move it or remove it")
    array, index = there
    fault = chunk_fault(array.shape, index, ref.size)
    return (array, StagedChunk(index, None, ref)) if fault is None else Problem(path, fault)


def taken_along(plan: Plan, wanted: ChangeSet, view: HierarchyView) -> list[str]:
    """Return the paths of nodes of *view* of which *plan* would delete more than was *wanted*.

    A session hides names, whatever is below them: what others added there is not meant.
    """
    changes = plan.changes
    more = changes.deleted.keys() - wanted.deleted.keys()
    more |= {
        node_id
        for node_id, chunks in changes.chunks.items()
        if _deletions(chunks) > _deletions(wanted.chunks.get(node_id))
    }
    return sorted(node.path for node in view.nodes.values() if node.id in more)


def _deletions(chunks: ChunkChanges | None) -> int:
    return 0 if chunks is None else sum(len(table.deleted) for table in chunks.tables())


def _concerned(natural: Region, others: Sequence[Region]) -> list[Node]:
    """Return the nodes of the base about which a session says anything."""
    found: dict[NodeId, Node] = {}
    for path in natural.hidden:
        place = natural.place
        for node in type(place)(place.view, path).nodes():
            found[node.id] = node
    for region in (natural, *others):
        for instance in region.instances.values():
            if instance.base is not None:
                found[instance.base.id] = instance.base
    for path in natural.hidden_chunks:
        node_there = natural.place.view.node(path)
        if node_there is not None:
            found[node_there.id] = node_there
    return list(found.values())


def _stage(node_id: NodeId, instance: Instance, plan: Plan) -> None:
    for chunk in instance.chunks:
        ref = chunk.ref if chunk.file is None else None
        if ref is not None:
            plan.changes.set_chunk(node_id, chunk.coords, ref)
        else:
            plan.staged.append((node_id, chunk))


def _refuse_double_paths(view: HierarchyView, plan: Plan) -> None:
    """Refuse what would give two nodes one path."""
    arrivals = [new.path for new in plan.changes.new.values()]
    arrivals += [move.target for move in plan.changes.moved.values()]
    counts = Counter(arrivals)
    for path, count in counts.items():
        node = view.node(path)
        stays = (
            node is not None
            and node.id not in plan.changes.deleted
            and node.id not in plan.changes.moved
        )
        if count + stays > 1:
            plan.invalid.append(Problem(path, "two nodes would have this path"))
