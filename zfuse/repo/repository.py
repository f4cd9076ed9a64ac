"""A repository: its refs, its history, and the versions that can be read.

Specification: spec-v2, "Repo Info File"; spec-v1, "References".
"""

import heapq
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from zfuse.cache.budget import MemoryBudget
from zfuse.errors import (
    MissingObjectError,
    NotFoundError,
    ObjectNotFoundError,
    RepositoryNotFoundError,
    corruption_of,
)
from zfuse.format.config import RepositoryConfig
from zfuse.format.ids import SnapshotId
from zfuse.format.layout import (
    CONFIG_KEY_V1,
    REPO_INFO_KEY,
    overwritten_key,
    snapshot_key,
)
from zfuse.format.repo_info import Availability, RepoInfo, SnapshotInfo, Update
from zfuse.repo.asset_manager import AssetManager, VirtualReader
from zfuse.repo.refs_v1 import MAIN_KEY, fetch_refs
from zfuse.storage.base import Storage

DEFAULT_BUDGET: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class RepositoryState:
    """Everything about a repository that can change, as of one moment.

    ``info`` is the decoded repo info, None for version 1. ``fetched_at`` is in microseconds
    since 1970, by this machine's clock, taken before the state was read.
    """

    spec_version: int
    branches: Mapping[str, SnapshotId]
    tags: Mapping[str, SnapshotId]
    config: RepositoryConfig
    info: RepoInfo | None
    fetched_at: int


class Repository:
    """An open repository.

    ``state`` is what was last read of it, or written by this process; it changes with
    ``refresh`` and ``adopt`` alone, so that in between every question gets an answer of the
    same moment.
    """

    def __init__(self, storage: Storage, assets: AssetManager, state: RepositoryState) -> None:
        self.storage = storage
        self.assets = assets
        self.state = state

    @classmethod
    async def open(
        cls,
        storage: Storage,
        *,
        budget: MemoryBudget | None = None,
        virtual: VirtualReader,
        state: RepositoryState | None = None,
    ) -> "Repository":
        """Open the repository in *storage*, from *state* if that was read just now.

        Raises:
            RepositoryNotFoundError: there is none.
            UnsupportedVersionError: it is of a newer format.
        """
        state = state or await fetch_state(storage)
        assets = AssetManager(storage, budget or MemoryBudget(DEFAULT_BUDGET), virtual)
        return cls(storage, assets, state)

    @property
    def branches(self) -> Mapping[str, SnapshotId]:
        """The branches and the snapshots they point at."""
        return self.state.branches

    @property
    def tags(self) -> Mapping[str, SnapshotId]:
        """The tags and the snapshots they point at."""
        return self.state.tags

    async def refresh(self) -> RepositoryState:
        """Read the repository's state anew and return it."""
        self.adopt(await fetch_state(self.storage))
        return self.state

    def adopt(self, state: RepositoryState) -> None:
        """Take *state* for the repository's, as it was read or written just now."""
        self.state = state
        self.assets.declare_containers(state.config.virtual_chunk_containers)

    async def snapshot_info(self, snapshot_id: SnapshotId) -> SnapshotInfo:
        """Return what is known of a snapshot.

        Raises:
            NotFoundError: the repository has no such snapshot.
        """
        info = self.state.info
        if info is not None:
            try:
                return info.snapshots[snapshot_id]
            except KeyError:
                raise _unknown(snapshot_id) from None
        try:
            return await self.assets.fetch_snapshot_info(snapshot_id)
        except MissingObjectError:
            raise _unknown(snapshot_id) from None

    async def has_snapshot(self, snapshot_id: SnapshotId) -> bool:
        """Tell whether the repository has that snapshot."""
        if self.state.info is not None:
            return snapshot_id in self.state.info.snapshots
        try:
            await self.storage.head(snapshot_key(snapshot_id))
        except ObjectNotFoundError:
            return False
        return True

    async def ancestry(self, snapshot_id: SnapshotId) -> AsyncGenerator[SnapshotInfo]:
        """Yield the snapshot and its ancestors, newest first; who stops early closes it.

        Raises:
            NotFoundError: the repository has no such snapshot.
            MissingObjectError: nor should it lack that, as a branch or tag is there.
        """
        seen: set[SnapshotId] = set()
        following: SnapshotId | None = snapshot_id
        while following is not None and following not in seen:
            seen.add(following)
            try:
                info = await self.snapshot_info(following)
            except NotFoundError as exc:
                if following != snapshot_id:
                    return  # expired: history ends here
                if snapshot_id in {*self.branches.values(), *self.tags.values()}:
                    raise MissingObjectError(
                        f"{self.storage.url}/{snapshot_key(snapshot_id)} is gone, and a branch"
                        " or tag is at that snapshot; restore it from a copy"
                    ) from exc
                raise
            yield info
            following = info.parent_id

    async def newest_snapshots(self, limit: int) -> list[SnapshotInfo]:
        """Return up to *limit* known snapshots, newest first.

        In version 1, which keeps no list, these are the ones that refs lead to.
        """
        info = self.state.info
        if info is not None:
            return heapq.nlargest(limit, info.snapshots.values(), key=lambda s: s.flushed_at)
        found: list[SnapshotInfo] = []
        seen: set[SnapshotId] = set()
        heap: list[tuple[int, SnapshotId, SnapshotInfo]] = []

        async def reach(snapshot_id: SnapshotId | None) -> None:
            if snapshot_id is None or snapshot_id in seen:
                return
            seen.add(snapshot_id)
            try:
                reached = await self.snapshot_info(snapshot_id)
            except NotFoundError:
                return
            heapq.heappush(heap, (-reached.flushed_at, reached.id, reached))

        for tip in (*self.branches.values(), *self.tags.values()):
            await reach(tip)
        while heap and len(found) < limit:
            newest = heapq.heappop(heap)[2]
            found.append(newest)
            await reach(newest.parent_id)
        return found

    async def snapshot_as_of(self, branch: str, moment: int) -> SnapshotInfo:
        """Return the newest snapshot of *branch* that was flushed at or before *moment*.

        *moment* is in microseconds since 1970.

        Raises:
            NotFoundError: there is no such branch, or it is younger than that.
        """
        async with aclosing(self.ancestry(self.lookup_branch(branch))) as ancestry:
            async for info in ancestry:
                if info.flushed_at <= moment:
                    return info
        when = datetime.fromtimestamp(moment / 1e6, UTC).isoformat().replace("+00:00", "Z")
        raise NotFoundError(f"branch {branch!r} has no snapshot as old as {when}")

    def lookup_branch(self, name: str) -> SnapshotId:
        """Return the tip of a branch.

        Raises:
            NotFoundError: there is no such branch.
        """
        try:
            return self.branches[name]
        except KeyError:
            raise NotFoundError(f"no branch {name!r}; {_choices(self.branches)}") from None

    def lookup_tag(self, name: str) -> SnapshotId:
        """Return the snapshot of a tag.

        Raises:
            NotFoundError: there is no such tag.
        """
        try:
            return self.tags[name]
        except KeyError:
            raise NotFoundError(f"no tag {name!r}; {_choices(self.tags)}") from None

    async def updates(self) -> AsyncGenerator[Update]:
        """Yield the ops log, newest first; version 1 has none.

        Older pages lie in backups of the repo info; where one is missing the log ends.
        """
        info = self.state.info
        seen: set[str] = set()
        while info is not None:
            for update in info.latest_updates:
                yield update
            page = info.repo_before_updates
            if page is None or page in seen:
                return
            seen.add(page)
            try:
                blob = await self.storage.get(overwritten_key(page))
            except ObjectNotFoundError:
                return
            info = RepoInfo.decode(blob.data)

    @property
    def is_read_only(self) -> bool:
        """Whether the repository's status refuses changes."""
        info = self.state.info
        return info is not None and info.status.availability is Availability.READ_ONLY


async def fetch_state(storage: Storage) -> RepositoryState:
    """Read what kind of repository is in *storage*, and its refs and configuration.

    Where both kinds of entry exist, version 2 wins.

    Raises:
        RepositoryNotFoundError: there is no repository.
    """
    fetched_at = int(datetime.now(UTC).timestamp() * 1e6)
    try:
        blob = await storage.get(REPO_INFO_KEY)
    except ObjectNotFoundError:
        return await _fetch_state_v1(storage, fetched_at)
    with corruption_of(f"{storage.url}/{REPO_INFO_KEY}"):
        info = RepoInfo.decode(blob.data)
        config = RepositoryConfig.from_values(info.config)
    return RepositoryState(2, info.branches, info.tags, config, info, fetched_at)


async def _fetch_state_v1(storage: Storage, fetched_at: int) -> RepositoryState:
    absent = RepositoryNotFoundError(
        f"no Icechunk repository at {storage.url}; check the location,"
        " or make one with: zfuse create " + storage.url
    )
    try:
        await storage.get(MAIN_KEY)
    except ObjectNotFoundError:
        raise absent from None
    refs = await fetch_refs(storage, encoded_names="://" not in storage.url)
    if "main" not in refs.branches:
        raise absent  # it was there a moment ago: it is being moved or removed
    try:
        with corruption_of(f"{storage.url}/{CONFIG_KEY_V1}"):
            config = RepositoryConfig.from_yaml((await storage.get(CONFIG_KEY_V1)).data)
    except ObjectNotFoundError:
        config = RepositoryConfig()
    return RepositoryState(1, refs.branches, refs.tags, config, None, fetched_at)


def _unknown(snapshot_id: SnapshotId) -> NotFoundError:
    return NotFoundError(f"the repository has no snapshot {snapshot_id}; see zfuse log")


def _choices(names: Mapping[str, SnapshotId]) -> str:
    if not names:
        return "there are none"
    shown = ", ".join(repr(name) for name in sorted(names)[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"there are {shown}{more}"
