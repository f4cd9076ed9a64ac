"""A mounted version: one snapshot at a time, behind a name that may move to another."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

from zfuse.cache.single_flight import SingleFlight
from zfuse.errors import ZfuseError
from zfuse.format.ids import SnapshotId
from zfuse.fs.entry import Caching
from zfuse.repo.chunks import ChunkIndex
from zfuse.repo.provenance import Provenance, trace
from zfuse.repo.ref import Ref, RefKind, resolve
from zfuse.repo.repository import Repository
from zfuse.repo.view import HierarchyView


@dataclass(frozen=True, slots=True)
class Version:
    """What a tree shows at one moment."""

    snapshot_id: SnapshotId
    view: HierarchyView
    provenance: Provenance


class Tree:
    """A branch, tag, snapshot or moment of a repository.

    ``snapshot_id`` and the provenance change together, in ``move``. ``is_mount_root`` says
    that this one tree is all that the mount shows.
    """

    def __init__(
        self, repository: Repository, ref: Ref, snapshot_id: SnapshotId, *, is_mount_root: bool
    ) -> None:
        self.follows_session = False  # which alone decides what it shows
        self.ref = ref
        self.snapshot_id = snapshot_id
        self.is_mount_root = is_mount_root
        self.repository = repository
        self.chunks = ChunkIndex(repository.assets)
        self._moves = 0
        self._incarnations: dict[str, int] = {}
        self._provenance: Provenance | None = None
        self._flushed_at = 0
        self._loads: SingleFlight[SnapshotId, Provenance] = SingleFlight()

    @property
    def caching(self) -> Caching:
        """How long the kernel may keep what it knows of this tree's directories."""
        return Caching.FOREVER if self.ref.is_immutable else Caching.BRIEFLY

    @property
    def mtime_ns(self) -> int:
        """When the snapshot shown was flushed, in nanoseconds since 1970; 0 if not known yet."""
        if self._provenance is not None:
            return self._provenance.origins[0].flushed_at * 1000
        info = self.repository.state.info
        if info is not None and self.snapshot_id in info.snapshots:
            return info.snapshots[self.snapshot_id].flushed_at * 1000
        return self._flushed_at * 1000

    async def learn_time(self) -> None:
        """See that ``mtime_ns`` is known, unless the snapshot can not be read.

        The repository's state tells it of those alone that it lists: of none in version 1.
        """
        if self.mtime_ns != 0:
            return
        snapshot_id = self.snapshot_id
        try:
            snapshot = (await self.view()).snapshot
        except ZfuseError:  # whoever looks below is told
            return
        if snapshot_id == self.snapshot_id:
            self._flushed_at = snapshot.flushed_at

    def not_shown(self) -> Sequence[tuple[str, str]]:
        """Return path and reason of what a directory tree cannot hold, as far as is known yet."""
        view = self.repository.assets.cached_hierarchy(self.snapshot_id)
        return [] if view is None else view.not_shown

    async def view(self) -> HierarchyView:
        """Return the hierarchy shown."""
        return await self.repository.assets.fetch_hierarchy(self.snapshot_id)

    async def provenance(self) -> Provenance:
        """Return where the content shown comes from."""
        if self._provenance is not None:
            return self._provenance
        snapshot_id = self.snapshot_id

        async def load() -> Provenance:
            return await trace(self.repository, snapshot_id)

        provenance = await self._loads.load(snapshot_id, load)
        if snapshot_id == self.snapshot_id:
            self._provenance = provenance
        return provenance

    async def version(self) -> Version:
        """Return hierarchy and provenance of one snapshot."""
        while True:
            snapshot_id = self.snapshot_id
            view, provenance = await self.view(), await self.provenance()
            if snapshot_id == self.snapshot_id:
                return Version(snapshot_id, view, provenance)

    async def prepare(self, snapshot_id: SnapshotId) -> Version:
        """Load what showing *snapshot_id* takes, without showing it yet."""
        view = await self.repository.assets.fetch_hierarchy(snapshot_id)
        provenance = await trace(self.repository, snapshot_id, self._provenance)
        return Version(snapshot_id, view, provenance)

    def incarnation(self, path: str) -> int:
        """Return which of the directories that *path* has named in this mount it names now.

        A directory that somebody is in stays in the kernel's memory with all names that are in
        use below it. Where these are not invalidated one by one, another incarnation with
        other inodes takes its place.
        """
        return self._incarnations.get(path, 0)

    def move(self, version: Version, renewed: Iterable[str]) -> None:
        """Show another snapshot from now on, with other directories at the paths *renewed*."""
        self._moves += 1
        self._incarnations |= dict.fromkeys(renewed, self._moves)
        self.snapshot_id = version.snapshot_id
        self._provenance = version.provenance


class Trees:
    """The trees of a mount that somebody still looks at, each there once."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self._trees: WeakValueDictionary[Ref, Tree] = WeakValueDictionary()

    async def get(
        self, ref: Ref, *, target: SnapshotId | None = None, is_mount_root: bool = False
    ) -> Tree:
        """Return the tree that *ref* names, whose snapshot is *target* if that is known.

        Raises:
            NotFoundError: there is no such ref.
        """
        tree = self._trees.get(ref)
        if tree is not None:
            return tree
        snapshot_id = target or await resolve(self.repository, ref)
        # Another task may have made it meanwhile; two trees would be two sets of inodes.
        tree = self._trees.get(ref)
        if tree is None:
            tree = Tree(self.repository, ref, snapshot_id, is_mount_root=is_mount_root)
            self._trees[ref] = tree
        return tree

    def moved(self) -> list[tuple[Tree, SnapshotId | None]]:
        """Return the trees whose ref points elsewhere now, None if it is gone."""
        found: list[tuple[Tree, SnapshotId | None]] = []
        for ref, tree in list(self._trees.items()):
            target = self._target(ref, tree)
            if not tree.follows_session and target != tree.snapshot_id:
                found.append((tree, target))
        return found

    def _target(self, ref: Ref, tree: Tree) -> SnapshotId | None:
        match ref.kind:
            case RefKind.BRANCH:
                return self.repository.branches.get(ref.name)
            case RefKind.TAG:
                return tree.snapshot_id if ref.name in self.repository.tags else None
            case RefKind.SNAPSHOT:
                info = self.repository.state.info
                known = info is None or tree.snapshot_id in info.snapshots
                return tree.snapshot_id if known else None
            case RefKind.TIME:
                return tree.snapshot_id

    def drop(self, tree: Tree) -> None:
        """Stop giving out *tree*; who holds it may go on using it."""
        self._trees.pop(tree.ref, None)

    def open_trees(self) -> list[Tree]:
        """Return the trees in use."""
        return list(self._trees.values())
