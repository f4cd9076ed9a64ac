"""Which names of a tree mean something else after it moved to another snapshot.

The kernel keeps names and their inodes for ever, so each of these has to be taken from it.
Too many is no error, too few would show old bytes under a new snapshot.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import trio

from zfuse.format.ids import NodeId, SnapshotId
from zfuse.format.snapshot import ArrayNode, Node
from zfuse.fs.chunk_directory import ArrayChunks, ChunkDirectory, array_chunks
from zfuse.fs.entry import Directory
from zfuse.fs.hierarchy import METADATA_NAME, NodeDirectory
from zfuse.fs.tree import Tree, Version
from zfuse.repo.provenance import Provenance
from zfuse.repo.view import HierarchyView

ONE_BY_ONE_MAX: Final = 10_000
"""Up to so many changed chunks of an array are named; beyond, the array's directory is."""

StaleName = tuple[Directory, str]


@dataclass(frozen=True, slots=True)
class _Move:
    """A tree that goes from one version to another."""

    tree: Tree
    old: HierarchyView
    new: Version
    nursery: trio.Nursery

    async def names(self) -> AsyncIterator[StaleName]:
        for path in self.old.directories():
            before, after = self.old.node(path), self.new.view.node(path)
            if before is not None and (
                after is None or after.id != before.id or after.user_data != before.user_data
            ):
                yield self._node(path), METADATA_NAME
            if not self.new.view.is_directory(path) or _is_another(before, after):
                for name in self._itself(path):
                    yield name
            elif isinstance(before, ArrayNode) and isinstance(after, ArrayNode):
                async for name in self._chunks(before, after):
                    yield name

    def _node(self, path: str) -> NodeDirectory:
        return NodeDirectory(self.tree, path, self.nursery)

    def _itself(self, path: str) -> list[StaleName]:
        """Return the name under which a directory is found; the root has none."""
        if path == "/":
            return []
        parent, _, name = path.rpartition("/")
        directory = self._node(parent or "/")
        return [(directory, directory.encode(name))]

    async def _chunks(self, before: ArrayNode, after: ArrayNode) -> AsyncIterator[StaleName]:
        was = array_chunks(self.tree, self.old, before, self.nursery)
        now = array_chunks(self.tree, self.new.view, after, self.nursery)
        if was is None:
            return
        changed = None
        if now == was and not _shrank(before, after):
            changed = changed_since(self.new.provenance, self.old.snapshot.id, before.id, was.rank)
        if changed is not None:
            for coords in changed:
                yield self._chunk_directory(was, coords), was.names.leaf_name(coords)
        elif before.path != "/":
            for name in self._itself(before.path):
                yield name
        else:
            async for name in self._all_in_root(was):
                yield name

    def _changed(self, before: ArrayNode, after: ArrayNode) -> list[list[int]] | None:
        if before.manifests == after.manifests and before.shape == after.shape:
            return []
        if _shrank(before, after):
            return None  # no log names the chunks that fell off
        return changed_since(
            self.new.provenance, self.old.snapshot.id, before.id, len(before.shape)
        )

    def _chunk_directory(self, array: ArrayChunks, coords: list[int]) -> Directory:
        level = array.names.depth
        if level == 0:
            return self._node(array.path)
        return ChunkDirectory(array, level, tuple(coords[: array.names.known(level)]))

    async def _all_in_root(self, array: ArrayChunks) -> AsyncIterator[StaleName]:
        """Yield all names of chunks in a tree whose root is an array: it has none itself."""
        listing = await ChunkDirectory(array, 0, ()).listing()
        start = 0
        while start < len(listing):
            items = await listing.items(start, start + 1000)
            start += len(items)
            for name, _, _ in items:
                yield self._node("/"), name


async def stale_names(
    tree: Tree, old: HierarchyView, new: Version, nursery: trio.Nursery
) -> list[StaleName]:
    """Return directories and the names in them that the kernel must look up again."""
    return [name async for name in _Move(tree, old, new, nursery).names()]


def _is_another(before: Node | None, after: Node | None) -> bool:
    if before is None or after is None:
        return before is not after
    return before.id != after.id


def _shrank(before: ArrayNode, after: ArrayNode) -> bool:
    return any(a.num_chunks < b.num_chunks for b, a in zip(before.shape, after.shape, strict=False))


def changed_since(
    provenance: Provenance, since: SnapshotId, node_id: NodeId, rank: int
) -> list[list[int]] | None:
    """Return the indices of the chunks of a node that changed after the snapshot *since*.

    None if that is not known, because *since* is no near ancestor, or if it is too many.
    """
    positions = [o.snapshot_id for o in provenance.origins]
    if since not in positions:
        return None
    pieces = [
        coords
        for _, change in provenance.changes[: positions.index(since)]
        for coords in change.updated_chunks.get(node_id, ())
        if coords.shape[1] == rank
    ]
    if not pieces:
        return []
    distinct = np.unique(np.concatenate(pieces), axis=0)
    if len(distinct) > ONE_BY_ONE_MAX:
        return None
    indices: list[list[int]] = distinct.tolist()
    return indices
