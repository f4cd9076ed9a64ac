"""The upper part of a whole-repository mount: its root, and the lists of refs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import trio

from zfuse.errors import InvalidInputError, NotFoundError
from zfuse.format.ids import SnapshotId
from zfuse.fs.entry import Caching, Directory, Entry, FixedListing, Listing
from zfuse.fs.hierarchy import NodeDirectory
from zfuse.fs.names import decode_name, encode_name
from zfuse.fs.tree import Trees
from zfuse.repo.ref import Ref, RefKind

LISTED_SNAPSHOTS: Final = 100


@dataclass(frozen=True)
class RepositoryDirectory(Directory):
    """``branch/ tag/ snapshot/``, and ``time/``, which resolves but is not listed."""

    trees: Trees = field(repr=False)
    nursery: trio.Nursery = field(compare=False, repr=False)

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
        return RefsDirectory(self.trees, RefKind(name), self.nursery)

    async def listing(self) -> Listing:
        """Return the three directories that list something."""
        kinds = (RefKind.BRANCH, RefKind.TAG, RefKind.SNAPSHOT)
        return FixedListing([(k.value, RefsDirectory(self.trees, k, self.nursery)) for k in kinds])


@dataclass(frozen=True)
class RefsDirectory(Directory):
    """All branches, all tags, the newest snapshots, or any moment."""

    trees: Trees = field(repr=False)
    ref_kind: RefKind
    nursery: trio.Nursery = field(compare=False, repr=False)

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
            tree = await self.trees.get(Ref(self.ref_kind, ref_name))
        except (NotFoundError, InvalidInputError):
            return None
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
            tree = await self.trees.get(Ref(self.ref_kind, name), target=target)
            items.append((encode_name(name), NodeDirectory(tree, "/", self.nursery)))
        return FixedListing(items)

    def _named(self) -> Mapping[str, SnapshotId]:
        match self.ref_kind:
            case RefKind.BRANCH:
                return self.trees.repository.branches
            case RefKind.TAG:
                return self.trees.repository.tags
            case _:
                return {}  # ids need no list to be resolved, and there is no end of times
