"""The nodes and chunks of a branch with the changes that nobody committed yet, and changing them.

Chunks are stored as they come, as nobody refers to them before a commit; all else waits in
change sets. While a commit is being made changes go on, apart from those that it takes along.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np
import trio

from zfuse.errors import InvalidInputError
from zfuse.format.chunk_ref import ChunkRef
from zfuse.format.extents import inside
from zfuse.format.ref_columns import RefColumns
from zfuse.format.snapshot import ArrayNode, Node, Snapshot
from zfuse.repo.array_columns import array_columns
from zfuse.repo.change_set import ChangeSet
from zfuse.repo.chunk_changes import U32, UNTOUCHED, Coords
from zfuse.repo.chunks import ChunkIndex
from zfuse.repo.commit import check_moves
from zfuse.repo.documents import chunk_fault, parse_document
from zfuse.repo.fork import Fork, ForkedState, SessionState, merge
from zfuse.repo.new_chunk import store_chunk
from zfuse.repo.repository import Repository
from zfuse.repo.working_tree import WorkingTree

_UPLOADS: Final = 16


class Workspace:
    """Uncommitted changes.

    ``base`` is the version that they change, ``tree`` the nodes as they are now; a commit
    replaces both. References that a method returned before stay readable; nodes do not say
    any more where all chunks are.
    """

    def __init__(
        self, repository: Repository, base: Snapshot, changes: ChangeSet | None = None
    ) -> None:
        self.repository = repository
        self.base = base
        self.tree = WorkingTree(base.nodes, changes)
        self._pending = ChangeSet()  # what a commit took along that is not in the base yet
        self._chunks = ChunkIndex(repository.assets)
        self._uploads = trio.CapacityLimiter(_UPLOADS)
        self._resumed: trio.Event | None = None  # there is one while changes have to wait

    @property
    def has_changes(self) -> bool:
        """Whether there is anything that the branch does not have yet, for all that is known."""
        return bool(self._pending or self.tree.changes)

    def changes(self) -> ChangeSet:
        """Return all changes of the base, a commit that is under way included, as a copy."""
        whole = ChangeSet()
        whole.then(self._pending)
        whole.then(self.tree.changes)
        return whole

    def fork(self) -> Fork:
        """Return all there is now, to be changed somewhere else and merged again."""
        return Fork(self.base.id, self.changes())

    async def merge(self, forks: Sequence[Fork]) -> None:
        """Add the changes of *forks*, of this session or of one like it, all or none.

        Raises:
            MergeError: two have changed the same thing differently.
            MissingObjectError: the snapshot of a fork is gone.
        """
        forked: list[ForkedState] = []
        for fork in forks:
            view = await self.repository.assets.fetch_hierarchy(fork.base_id)
            nodes = fork.inherited.apply(view.snapshot.nodes)
            forked.append(ForkedState(fork, {node.id: node for node in nodes}))
        await self._turn()
        nodes = self._pending.apply(self.base.nodes)
        state = SessionState(nodes, self._pending, self.tree.changes)
        self.tree = WorkingTree(nodes, merge(state, forked))

    def node(self, path: str) -> Node | None:
        """Return the node at *path*, None for an implicit group or nothing."""
        return self.tree.node(path)

    async def chunk_ref(self, path: str, coords: Coords) -> ChunkRef | None:
        """Return where the chunk of the array at *path* is, None if there is none.

        Raises:
            NotFoundError: there is no such array.
            MissingObjectError, CorruptionError: a manifest that may hold it can not be read.
        """
        array = self.tree.array(path)
        for changes in (self.tree.changes, self._pending):
            change = changes.chunk(array.id, coords)
            if change is not UNTOUCHED:
                return change
        return await self._chunks.find(array, coords)

    async def chunk_columns(self, array: ArrayNode) -> list[RefColumns]:
        """Return where all chunks of an array of the tree are, sorted by index.

        There are no columns, or one of the rank of the array. Chunks outside of its grid, which
        no commit takes, are among them.

        Raises:
            MissingObjectError, CorruptionError: a manifest can not be read.
        """
        layers = (self._pending, self.tree.changes)
        return await array_columns(self.repository.assets, array, layers)

    async def store_chunk(self, data: bytes) -> ChunkRef:
        """Store the bytes of a chunk, if they are more than fit into a manifest.

        A few are stored at a time, the others wait. What is never committed is garbage.

        Raises:
            InvalidInputError: *data* is empty.
        """
        async with self._uploads:
            return await store_chunk(self.repository, data)

    async def set_chunk(self, path: str, coords: Coords, data: bytes) -> ChunkRef:
        """Store *data* as the chunk of an array and return where it is.

        Raises:
            InvalidInputError: the array can not have such a chunk.
            NotFoundError: there is no such array.
        """
        self._check_chunk(path, coords, len(data))
        ref = await self.store_chunk(data)
        await self.set_chunk_ref(path, coords, ref)
        return ref

    async def set_chunk_ref(self, path: str, coords: Coords, ref: ChunkRef) -> None:
        """Make *ref* the chunk of an array.

        Raises:
            InvalidInputError: the array can not have such a chunk.
            NotFoundError: there is no such array.
        """
        await self._turn()
        node = self._check_chunk(path, coords, ref.size)
        self.tree.changes.set_chunk(node.id, coords, ref)

    async def set_chunk_refs(self, path: str, refs: RefColumns) -> None:
        """Make *refs* chunks of an array; of several with one index the last counts.

        Raises:
            InvalidInputError: the array can not have one of them; none of them is set.
            NotFoundError: there is no such array.
        """
        await self.replace_chunks(path, np.empty((0, refs.rank), np.uint32), refs)

    async def replace_chunks(self, path: str, gone: U32, refs: RefColumns) -> None:
        """Delete the chunks of an array at *gone* (n, rank), then make *refs* chunks of it.

        Raises:
            InvalidInputError: the array can not have one of them; nothing is changed.
            NotFoundError: there is no such array.
        """
        await self._turn()
        node = self.tree.array(path)
        grid = [(0, dimension.num_chunks) for dimension in node.shape]
        fits = inside(refs.coords, grid) & (refs.sizes > 0)
        if len(refs) and (not fits.all() or refs.rank != len(grid)):
            row = int(np.argmin(fits))
            self._check_chunk(path, tuple(refs.coords[row].tolist()), int(refs.sizes[row]))
        changes = self.tree.changes.chunks_of(node.id)
        if len(gone):
            changes.delete_many(gone)
        if len(refs):
            changes.set_many(refs)

    async def delete_chunk(self, path: str, coords: Coords) -> None:
        """Make sure that an array has no chunk at *coords*, which may be of any rank.

        Raises:
            NotFoundError: there is no such array.
        """
        await self._turn()
        self.tree.changes.set_chunk(self.tree.array(path).id, coords, None)

    async def delete_chunks(self, path: str, coords: U32) -> None:
        """Make sure that an array has no chunks at *coords* (n, rank).

        Raises:
            NotFoundError: there is no such array.
        """
        await self._turn()
        self.tree.changes.chunks_of(self.tree.array(path).id).delete_many(coords)

    async def set_metadata(self, path: str, user_data: bytes) -> bool:
        """Give a node its zarr.json, and make it if there is none; tell if that changes it.

        Raises:
            AlreadyExistsError: it would turn a group into an array, or the reverse.
            InvalidInputError: the repository can not hold it, or it is no Zarr v3 metadata.
        """
        document = parse_document(user_data, spec_version=self.repository.state.spec_version)
        await self._turn()
        return self.tree.set_metadata(path, document)

    async def delete(self, path: str) -> list[Node]:
        """Delete a group with all below, or an array alone; return what is gone."""
        await self._turn()
        return self.tree.delete(path)

    async def delete_node(self, path: str) -> Node | None:
        """Delete the node at *path* alone, whatever is below, and return it."""
        await self._turn()
        return self.tree.delete_node(path)

    async def move(self, source: str, target: str) -> list[Node]:
        """Move what is at *source* and below; return the nodes as they are now.

        Raises:
            AlreadyExistsError: there is something at *target*.
            InvalidInputError: *target* is below *source*, or no node can be there.
            NotAllowedError: the settings of the repository forbid moves.
            NotFoundError: there is nothing at *source*.
        """
        check_moves(self.repository.state.info)
        await self._turn()
        return self.tree.move(source, target)

    async def copy(self, source: str, target: str) -> list[Node]:
        """Copy what is at *source* and below, by reference; return the new nodes.

        Raises:
            AlreadyExistsError: there is something at *target*.
            InvalidInputError: no node can be at *target*.
            NotFoundError: there is nothing at *source*.
        """
        nodes = self.tree.subtree(source)
        references = {
            node.id: await self.chunk_columns(node) for node in nodes if isinstance(node, ArrayNode)
        }
        await self._turn()
        copies = self.tree.copy(nodes, source, target)
        for original, copied in copies:
            for columns in references.get(original.id, ()):
                self.tree.changes.chunks_of(copied.id).set_many(columns)
        return [copied for _, copied in copies]

    def _check_chunk(self, path: str, coords: Coords, size: int) -> ArrayNode:
        node = self.tree.array(path)
        fault = chunk_fault(node.shape, coords, size)
        if fault is not None:
            raise InvalidInputError(f"{path} can not have the chunk {coords}: {fault}")
        return node

    async def _turn(self) -> None:
        """Wait as long as changes have to."""
        while self._resumed is not None:
            await self._resumed.wait()

    @contextmanager
    def _changes_wait(self) -> Iterator[None]:
        self._resumed = trio.Event()
        try:
            yield
        finally:
            resumed, self._resumed = self._resumed, None
            resumed.set()
