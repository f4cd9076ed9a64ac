"""Which names of a tree mean something else after it moved to another snapshot.

The kernel keeps names and their inodes for ever, so each of these has to be taken from it.
Too many is no error, too few would show old bytes under a new snapshot.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import trio

from zfuse.format.ids import NodeId, SnapshotId
from zfuse.format.snapshot import ArrayNode, Node
from zfuse.fs.array_chunks import ArrayChunks, array_chunks
from zfuse.fs.chunk_directory import ChunkDirectory
from zfuse.fs.entry import Directory
from zfuse.fs.hierarchy import METADATA_NAME, NodeDirectory
from zfuse.fs.tree import Tree, Version
from zfuse.repo.chunks import covers
from zfuse.repo.provenance import Provenance
from zfuse.repo.view import HierarchyView, join

ONE_BY_ONE_MAX: Final = 10_000
"""Up to so many changed chunks of an array are named; beyond, its directory is renewed."""

StaleName = tuple[Directory, str]


@dataclass(frozen=True, slots=True)
class Staleness:
    """What a move makes stale.

    ``names`` are to be taken from the kernel, each with its directory as it was before the
    move. At the paths ``renewed`` the tree has other directories from then on, see
    ``Tree.incarnation``.
    """

    names: list[StaleName]
    renewed: list[str]


class _Move:
    """A tree that goes from one version to another."""

    def __init__(self, tree: Tree, old: HierarchyView, new: Version, nursery: trio.Nursery) -> None:
        self._tree = tree
        self._old = old
        self._new = new
        self._nursery = nursery
        self.found = Staleness([], [])

    async def look(self) -> None:
        """Find what is stale."""
        before_paths, after_paths = set(self._old.directories()), set(self._new.view.directories())
        for path in before_paths:
            before, after = self._old.node(path), self._new.view.node(path)
            if before is not None and (
                after is None or after.id != before.id or after.user_data != before.user_data
            ):
                self.found.names.append((self._node(path), METADATA_NAME))
            if path not in after_paths or _is_another(before, after):
                await self._renew(path)
                if isinstance(before, ArrayNode):
                    await self._renew_below(path)
            elif isinstance(before, ArrayNode) and isinstance(after, ArrayNode):
                await self._chunks(before, after)
        for path in after_paths - before_paths:
            await self._renew(path)  # chunks of an array above may have had the name

    def _node(self, path: str) -> NodeDirectory:
        return NodeDirectory.now_at(self._tree, path, self._nursery)

    async def _renew(self, path: str) -> None:
        """Put another directory in the place of one; the root stays, with other names in it."""
        self.found.renewed.append(path)
        if path != "/":
            parent, _, name = path.rpartition("/")
            directory = self._node(parent or "/")
            self.found.names.append((directory, directory.encode(name)))
            return
        root = self._old.node(path)
        array = isinstance(root, ArrayNode) and array_chunks(
            self._tree, self._old, root, self._nursery
        )
        if array:
            await self._all_in_root(array)

    async def _renew_below(self, path: str) -> None:
        """Renew the nodes below an array: the ways to its chunks may lead through them."""
        pending = [path]
        while pending:
            above = pending.pop()
            below = [join(above, name) for name in self._old.children(above)]
            for directory in below:
                await self._renew(directory)
            pending += below

    async def _chunks(self, before: ArrayNode, after: ArrayNode) -> None:
        was = array_chunks(self._tree, self._old, before, self._nursery)
        now = array_chunks(self._tree, self._new.view, after, self._nursery)
        if was is None:
            return
        if now == was and before.manifests == after.manifests and before.shape == after.shape:
            return
        changed = None
        if now == was and not _shrank(before, after):  # no log names the chunks that fell off
            old_id = self._tree.snapshot_id
            changed = changed_since(self._new.provenance, old_id, before.id, was.rank)
        if changed is None:
            await self._renew(before.path)
            await self._renew_below(before.path)
            return
        for coords in changed.tolist():
            directory = self._chunk_directory(was, was.names.depth, coords)
            self.found.names.append((directory, was.names.leaf_name(coords)))
        for prefix in changed_wholly(was, changed):
            level = was.names.level_of(len(prefix))
            level = level if prefix else min(level, 1)  # the topmost of all that lead to chunks
            if level:
                directory = self._chunk_directory(was, level - 1, prefix[:-1])
                self.found.names.append((directory, was.names.directory_name(level, prefix)))

    def _chunk_directory(self, array: ArrayChunks, level: int, coords: Sequence[int]) -> Directory:
        path = array.path
        for above in range(level):
            path = join(path, array.names.directory_name(above + 1, coords))
        if self._old.is_directory(path):
            return self._node(path)
        return ChunkDirectory(array, level, tuple(coords[: array.names.known(level)]))

    async def _all_in_root(self, array: ArrayChunks) -> None:
        """Add all names of chunks in a tree whose root is an array."""
        listing = await ChunkDirectory(array, 0, ()).listing()
        start = 0
        while start < len(listing):
            items = await listing.items(start, start + 1000)
            start += len(items)
            self.found.names.extend((self._node("/"), name) for name, _, _ in items)


async def find_stale(
    tree: Tree, old: HierarchyView, new: Version, nursery: trio.Nursery
) -> Staleness:
    """Return what becomes stale when *tree* moves from *old* to *new*."""
    move = _Move(tree, old, new, nursery)
    await move.look()
    return move.found


def _is_another(before: Node | None, after: Node | None) -> bool:
    if before is None or after is None:
        return before is not after
    return before.id != after.id


def _shrank(before: ArrayNode, after: ArrayNode) -> bool:
    return any(a.num_chunks < b.num_chunks for b, a in zip(before.shape, after.shape, strict=False))


def changed_since(
    provenance: Provenance, since: SnapshotId, node_id: NodeId, rank: int
) -> npt.NDArray[np.uint32] | None:
    """Return the indices (n, rank) of the chunks of a node that changed after *since*, sorted.

    None if that is not known, because *since* is no near ancestor, or if it is too many, or
    if some have another rank: these give way to the others, so more changes than they do.
    """
    positions = [o.snapshot_id for o in provenance.origins]
    if since not in positions:
        return None
    pieces = [
        coords
        for _, change in provenance.changes[: positions.index(since)]
        for coords in change.updated_chunks.get(node_id, ())
    ]
    if any(coords.shape[1] != rank for coords in pieces):
        return None
    if not pieces:
        return np.empty((0, rank), np.uint32)
    distinct = np.unique(np.concatenate(pieces), axis=0)
    return None if len(distinct) > ONE_BY_ONE_MAX else distinct


def changed_wholly(
    array: ArrayChunks, changed: npt.NDArray[np.uint32]
) -> Iterator[tuple[int, ...]]:
    """Yield the beginnings of indices under which every chunk is among the *changed*.

    These directories may be new or gone. Nothing is loaded to find out; where it would have
    to be, they count as changed.
    """
    if not len(changed):
        return
    references, unknown = array.tree.chunks.cached(array.node, array.rank)
    existed = np.zeros(len(changed), np.bool_)
    for known in references:
        existed |= known.find_many(changed) >= 0
    for length in range(array.names.known(array.names.depth) + 1):
        prefixes, where = np.unique(changed[:, :length], axis=0, return_inverse=True)
        counts = np.bincount(where.reshape(-1), weights=existed, minlength=len(prefixes))
        for prefix, count in zip(prefixes.tolist(), counts.tolist(), strict=True):
            rows = (known.rows_under(prefix) for known in references)
            if count == sum(stop - start for start, stop in rows) or any(
                covers(manifest, prefix) for manifest in unknown
            ):
                yield tuple(prefix)
