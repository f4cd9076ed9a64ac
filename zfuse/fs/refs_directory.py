"""The upper part of a whole-repository mount: its root, and the lists of refs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import trio

from zfuse.errors import AlreadyExistsError, InvalidInputError, NotAllowedError, NotFoundError
from zfuse.format.ids import SnapshotId
from zfuse.fs.branch_session import BranchSession
from zfuse.fs.entry import Caching, Directory, Entry, FixedListing, Listing
from zfuse.fs.hierarchy import NodeDirectory
from zfuse.fs.names import decode_name, encode_name
from zfuse.fs.tree import Trees
from zfuse.fs.writable import WritableBranches
from zfuse.repo.ref import Ref, RefKind

LISTED_SNAPSHOTS: Final = 100


@dataclass(frozen=True)
class RepositoryDirectory(Directory):
    """``branch/ tag/ snapshot/``, and ``time/``, which resolves but is not listed."""

    trees: Trees = field(repr=False)
    nursery: trio.Nursery = field(compare=False, repr=False)
    writable: WritableBranches | None = field(default=None, compare=False, repr=False)

    @property
    def mtime_ns(self) -> int:
        """When the repository's state was read last."""
        return self.trees.repository.state.fetched_at * 1000

    @property
    def caching(self) -> Caching:
        """Briefly: refs come and go."""
        return Caching.BRIEFLY

    def describe(self) -> str:
        """Return the path."""
        return "/"

    async def lookup(self, name: str) -> Entry | None:
        """Return one of the four directories."""
        if name not in set(RefKind):
            return None
        return self._refs(RefKind(name))

    async def listing(self) -> Listing:
        """Return the three directories that list something."""
        kinds = (RefKind.BRANCH, RefKind.TAG, RefKind.SNAPSHOT)
        return FixedListing([(kind.value, self._refs(kind)) for kind in kinds])

    def _refs(self, kind: RefKind) -> "RefsDirectory":
        writable = self.writable if kind is RefKind.BRANCH else None
        return RefsDirectory(self.trees, kind, self.nursery, writable)


@dataclass(frozen=True)
class RefsDirectory(Directory):
    """All branches, all tags, the newest snapshots, or any moment."""

    trees: Trees = field(repr=False)
    ref_kind: RefKind
    nursery: trio.Nursery = field(compare=False, repr=False)
    writable: WritableBranches | None = field(default=None, compare=False, repr=False)

    @property
    def mtime_ns(self) -> int:
        """When the repository's state was read last."""
        return self.trees.repository.state.fetched_at * 1000

    @property
    def caching(self) -> Caching:
        """Briefly: refs come and go."""
        return Caching.BRIEFLY

    def describe(self) -> str:
        """Return the path."""
        return f"/{self.ref_kind}"

    async def lookup(self, name: str) -> Entry | None:
        """Return the tree that *name* means."""
        ref_name = decode_name(name, self._named())
        if ref_name is None:
            return None
        try:
            return await self._tree(ref_name, None)
        except (NotFoundError, InvalidInputError):
            return None

    async def _tree(self, name: str, target: SnapshotId | None) -> Directory | None:
        """Return the tree of a ref, None for a branch whose root was removed."""
        if self.writable is not None:
            return (await self.writable.get(name)).root
        tree = await self.trees.get(Ref(self.ref_kind, name), target=target)
        return NodeDirectory(tree, "/", self.nursery)

    async def listing(self) -> Listing:
        """Return the refs."""
        repository = self.trees.repository
        if self.ref_kind is RefKind.SNAPSHOT:
            newest = await repository.newest_snapshots(LISTED_SNAPSHOTS)
            targets = {str(info.id): info.id for info in newest}
        else:
            targets = dict(self._named())
        items: list[tuple[str, Entry]] = []
        for name, target in targets.items():
            root = await self._tree(name, target)
            if root is not None:
                items.append((encode_name(name), root))
        return FixedListing(items)

    async def remove_directory(self, name: str) -> None:
        """Remove the empty root of a writable branch; the branch itself stays."""
        session = await self._session(name)
        if session is None or session.root is None:
            raise NotFoundError(f"{self.describe()} has no {name!r}")
        await session.remove_root()

    async def make_directory(self, name: str, mode: int) -> Directory:
        """Make the root of a writable branch that was removed, with nothing in it."""
        session = await self._session(name)
        if session is None:
            raise NotAllowedError(f"make the branch first: zfuse branch create {name}")
        if session.root is not None:
            raise AlreadyExistsError(f"{self.describe()}/{name} exists")
        return session.make_root(mode)

    async def _session(self, name: str) -> BranchSession | None:
        if self.writable is None:
            raise self._read_only()
        ref_name = decode_name(name, self._named())
        if ref_name is None:
            return None
        try:
            return await self.writable.get(ref_name)
        except (NotFoundError, InvalidInputError):
            return None

    def _named(self) -> Mapping[str, SnapshotId]:
        match self.ref_kind:
            case RefKind.BRANCH:
                return self.trees.repository.branches
            case RefKind.TAG:
                return self.trees.repository.tags
            case _:
                return {}  # ids need no list to be resolved, and there is no end of times
