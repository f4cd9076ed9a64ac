"""The steps of a commit: files that nobody refers to yet, then one write that makes it true.

What goes wrong before that last write leaves the repository as it was, with objects that
garbage collection will find.
"""

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final

import trio

from zfuse.errors import InvalidInputError, NotAllowedError
from zfuse.format.ids import INITIAL_SNAPSHOT, SnapshotId
from zfuse.format.repo_info import RepoInfo, SnapshotInfo
from zfuse.format.repo_update import (
    FeatureFlag,
    Stamp,
    add_commit,
    add_detached,
    allows,
    amend,
    later,
)
from zfuse.format.snapshot import Snapshot
from zfuse.format.snapshot_encoder import encode_snapshot
from zfuse.format.transaction_log_encoder import encode_transaction_log
from zfuse.repo.at_once import at_once
from zfuse.repo.change_set import ChangeSet
from zfuse.repo.check_changes import check_changes
from zfuse.repo.merged_log import merge_logs
from zfuse.repo.publish import change_repository, move_branch_v1, now_us
from zfuse.repo.repository import Repository
from zfuse.repo.write_manifests import (
    FileSettings,
    WrittenNodes,
    write_all_manifests,
    write_manifests,
)

_MAX_CLOCK_DIFFERENCE_S: Final = 600
"""Official writers refuse more, as the order of snapshots and expiration rest on the clocks."""


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """What a commit shall be: ``amends`` puts it in the place of the tip of the branch.

    ``metadata`` holds values of the types that JSON has.
    """

    message: str
    metadata: Mapping[str, Any]
    snapshot_id: SnapshotId
    amends: bool = False


@dataclass(frozen=True, slots=True)
class StoredCommit:
    """A commit whose files are stored, and that nobody sees yet."""

    snapshot: Snapshot
    amends: bool
    has_moves: bool


async def store_commit(
    repository: Repository, base: Snapshot, changes: ChangeSet, request: CommitRequest
) -> StoredCommit:
    """Store all files of a commit of *changes* to *base*, but the one that makes it visible.

    Raises:
        InvalidInputError: this machine's clock and the store's are too far apart, or *changes*
            are none of *base*.
        NotAllowedError: the first snapshot, or one of version 1, is to be amended.
    """
    _check_amends(repository, base, request)
    check_changes(changes, base.nodes)
    raw, settings = repository.state.config.raw, _file_settings(repository)
    written = await write_manifests(repository.assets, base, changes, raw, settings)
    return await _store_files(repository, base, changes, request, written)


async def store_rewriting(
    repository: Repository, base: Snapshot, request: CommitRequest
) -> StoredCommit:
    """Store all files of a commit that has what *base* has, in manifests split as set now.

    Raises:
        InvalidInputError: this machine's clock and the store's are too far apart.
        NotAllowedError: the first snapshot, or one of version 1, is to be amended.
    """
    _check_amends(repository, base, request)
    raw, settings = repository.state.config.raw, _file_settings(repository)
    written = await write_all_manifests(repository.assets, base, raw, settings)
    return await _store_files(repository, base, ChangeSet(), request, written)


def _check_amends(repository: Repository, base: Snapshot, request: CommitRequest) -> None:
    is_fixed = repository.state.spec_version == 1 or base.id == INITIAL_SNAPSHOT
    if request.amends and is_fixed:
        raise NotAllowedError("the first snapshot and those of version 1 can not be amended")


def _file_settings(repository: Repository) -> FileSettings:
    state = repository.state
    return FileSettings(state.spec_version, state.config.compression_level)


async def _store_files(
    repository: Repository,
    base: Snapshot,
    changes: ChangeSet,
    request: CommitRequest,
    written: WrittenNodes,
) -> StoredCommit:
    state, settings = repository.state, _file_settings(repository)
    snapshot = Snapshot(
        spec_version=state.spec_version,
        id=request.snapshot_id,
        parent_id=base.id if state.spec_version == 1 else None,
        flushed_at=later(now_us(), base.flushed_at),
        message=request.message,
        metadata=request.metadata,
        manifest_files=written.manifest_files,
        nodes=written.nodes,
        nbytes=base.nbytes,
    )
    await at_once(
        [
            lambda: _store_snapshot(repository, snapshot, settings),
            lambda: _store_log(repository, base, changes, request, settings),
        ],
        most=2,
    )
    return StoredCommit(snapshot, request.amends, bool(changes.moved))


async def _store_snapshot(
    repository: Repository, snapshot: Snapshot, settings: FileSettings
) -> None:
    data = await trio.to_thread.run_sync(lambda: encode_snapshot(snapshot, level=settings.level))
    await repository.assets.store_snapshot(snapshot.id, data)
    stored_at = await repository.assets.snapshot_stored_at(snapshot.id)
    difference = abs(now_us() - stored_at) // 1_000_000
    if difference > _MAX_CLOCK_DIFFERENCE_S:
        raise InvalidInputError(
            f"the clocks of this machine and of {repository.storage.url} are {difference} s"
            " apart, too much to keep snapshots in order; set the clock and try again"
        )


async def _store_log(
    repository: Repository,
    base: Snapshot,
    changes: ChangeSet,
    request: CommitRequest,
    settings: FileSettings,
) -> None:
    log = changes.log(request.snapshot_id, settings.spec_version)
    if request.amends:
        before = await repository.assets.fetch_transaction_log(base.id)
        log = replace(
            merge_logs(request.snapshot_id, [before, log]), spec_version=settings.spec_version
        )
    data = await trio.to_thread.run_sync(lambda: encode_transaction_log(log, level=settings.level))
    await repository.assets.store_transaction_log(request.snapshot_id, data)


async def publish_commit(
    repository: Repository, branch: str, base: Snapshot, stored: StoredCommit
) -> None:
    """Make the snapshot *stored* the tip of *branch*, and so of ``state``.

    Raises:
        ConflictError: the branch is not at *base* any more.
        NotFoundError: there is no such branch any more.
        ReadOnlyError: the repository takes no changes.
        OutcomeUnknownError: whether that succeeded can not be found out now.
    """
    state, snapshot = repository.state, stored.snapshot
    if state.spec_version == 1:

        async def is_ancestor(ancestor: SnapshotId, tip: SnapshotId) -> bool:
            return await descends(repository, tip, ancestor)

        await move_branch_v1(repository.storage, branch, base.id, snapshot.id, is_ancestor)
        branches = {**state.branches, branch: snapshot.id}
        repository.adopt(replace(state, branches=branches, fetched_at=now_us()))
        return

    def change(info: RepoInfo, stamp: Stamp) -> RepoInfo:
        new = SnapshotInfo(
            snapshot.id, base.id, snapshot.flushed_at, snapshot.message, snapshot.metadata
        )
        if stored.has_moves:
            check_moves(info)
        if not stored.amends:
            return add_commit(info, branch, new, stamp)
        known = info.snapshots.get(base.id)
        parent = None if known is None else known.parent_id
        return amend(info, branch, base.id, replace(new, parent_id=parent), stamp)

    await change_repository(repository, change)


async def publish_detached(repository: Repository, base: Snapshot, stored: StoredCommit) -> None:
    """Make the snapshot *stored*, whose parent is *base*, known without a branch.

    Version 1 keeps no list of snapshots: there it is known once it is stored.

    Raises:
        NotFoundError: *base* is gone by now.
        ReadOnlyError: the repository takes no changes.
    """
    if repository.state.spec_version == 1:
        return
    snapshot = stored.snapshot
    new = SnapshotInfo(
        snapshot.id, base.id, snapshot.flushed_at, snapshot.message, snapshot.metadata
    )

    def change(info: RepoInfo, stamp: Stamp) -> RepoInfo:
        if stored.has_moves:
            check_moves(info)
        return add_detached(info, new, stamp)

    await change_repository(repository, change)


async def descends(repository: Repository, snapshot_id: SnapshotId, ancestor: SnapshotId) -> bool:
    """Tell whether *ancestor* is a snapshot, or one of its ancestors, by the current state."""
    async with aclosing(repository.ancestry(snapshot_id)) as ancestry:
        async for info in ancestry:
            if info.id == ancestor:
                return True
    return False


def check_moves(info: RepoInfo | None) -> None:
    """Refuse moves of nodes where the repository does; version 1 (None) never does.

    Raises:
        NotAllowedError: its settings forbid them.
    """
    if info is not None and not allows(info, FeatureFlag.MOVE_NODE):
        raise NotAllowedError(
            "the repository forbids moves; zfuse config flag move_node allow would allow them"
        )


async def has_landed(repository: Repository, branch: str, snapshot_id: SnapshotId) -> bool:
    """Tell whether a commit that *branch* was to get is in the repository, reading it anew."""
    state = await repository.refresh()
    if state.info is not None:
        return snapshot_id in state.info.snapshots
    tip = state.branches.get(branch)
    return tip is not None and await descends(repository, tip, snapshot_id)
