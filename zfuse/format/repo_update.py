"""Changes of the repo info, from one value to the next.

Every change puts one entry in front of the ops log. Publishing it is not done here: the
former file has to be copied to the backup that the entry names, then replaced.

Specification: spec-v2, "Repo Info File", ``latest_updates``.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from zfuse.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidInputError,
    NotAllowedError,
    NotFoundError,
    ReadOnlyError,
)
from zfuse.format.ids import INITIAL_SNAPSHOT, SnapshotId
from zfuse.format.repo_info import (
    Availability,
    RepoInfo,
    RepoStatus,
    SnapshotInfo,
    Update,
    UpdateKind,
)
from zfuse.format.repo_info_encoder import MAIN_BRANCH

_UPDATES_PER_FILE: Final = 1000


class FeatureFlag(enum.IntEnum):
    """What a repository can forbid; all of it is allowed unless it does."""

    MOVE_NODE = 3
    CREATE_TAG = 4
    DELETE_TAG = 5


@dataclass(frozen=True, slots=True)
class Stamp:
    """When a change is made (microseconds since 1970), and the backup of what it replaces.

    ``backup_path`` comes from ``layout.backup_name``. ``page_size`` is after how many entries
    the ops log goes on in a backup.
    """

    at: int
    backup_path: str
    page_size: int = _UPDATES_PER_FILE


def later(now: int, *others: int) -> int:
    """Return *now*, or if that is not later than all *others* the next microsecond.

    Official readers and writers want the times of the ops log, and those of a snapshot and
    its parent, in strict order, and clocks go back.
    """
    return max([now, *(other + 1 for other in others)])


def record(info: RepoInfo, kind: UpdateKind, details: Mapping[str, Any], stamp: Stamp) -> RepoInfo:
    """Return *info* with one more entry in the ops log."""
    former = info.latest_updates
    times = [update.updated_at for update in former[:1]]
    head = Update(kind, later(stamp.at, *times), None, details)
    # What was the newest entry gets to know where the file that ended with it is kept.
    marked = [replace(update, backup_path=stamp.backup_path) for update in former[:1]]
    page, before = _page([head, *marked, *former[1:]], stamp.page_size)
    return replace(
        info, latest_updates=page, repo_before_updates=before or info.repo_before_updates
    )


def _page(updates: Sequence[Update], size: int) -> tuple[tuple[Update, ...], str | None]:
    """Return the updates that stay in the file, and the backup that has the others.

    An update without a backup can not be where the file ends, such as migrations make.
    """
    for n, update in enumerate(updates):
        if n >= size and update.backup_path is not None:
            return tuple(updates[:n]), update.backup_path
    return tuple(updates), None


def check_writable(info: RepoInfo) -> None:
    """Refuse changes of a repository that takes none.

    Raises:
        ReadOnlyError: that is its status.
    """
    if info.status.availability is Availability.READ_ONLY:
        reason = f": {info.status.reason}" if info.status.reason else ""
        raise ReadOnlyError(
            f"the repository is set to read-only{reason}; zfuse config read-only --off ends that"
        )


def allows(info: RepoInfo, flag: FeatureFlag) -> bool:
    """Whether the repository allows what *flag* stands for."""
    return flag not in (info.disabled_feature_flags or ())


def _check_allowed(info: RepoInfo, flag: FeatureFlag) -> None:
    if not allows(info, flag):
        name = flag.name.lower()
        raise NotAllowedError(
            f"the repository forbids it; zfuse config flag {name} allow would allow it"
        )


def add_commit(info: RepoInfo, branch: str, snapshot: SnapshotInfo, stamp: Stamp) -> RepoInfo:
    """Add *snapshot*, whose parent is the tip of *branch*, and move the branch there.

    Raises:
        ConflictError: the tip is another snapshot by now.
        NotFoundError: there is no such branch.
        ReadOnlyError: the repository takes no changes.
    """
    check_writable(info)
    _check_tip(info, branch, snapshot.parent_id)
    info = replace(_with_snapshot(info, snapshot), branches={**info.branches, branch: snapshot.id})
    details = {"branch": branch, "new_snap_id": snapshot.id}
    return record(info, UpdateKind.NEW_COMMIT, details, stamp)


def amend(
    info: RepoInfo, branch: str, previous: SnapshotId, snapshot: SnapshotInfo, stamp: Stamp
) -> RepoInfo:
    """Put *snapshot* in the place of *previous*, the tip of *branch*, which stays listed.

    The new one has the parent of the former, and what expiration took from between them.

    Raises:
        ConflictError: the tip is another snapshot by now.
        NotAllowedError: it is the first snapshot of the repository.
        NotFoundError: there is no such branch.
        ReadOnlyError: the repository takes no changes.
    """
    check_writable(info)
    _check_tip(info, branch, previous)
    if previous == INITIAL_SNAPSHOT:
        raise NotAllowedError("the first snapshot of a repository can not be amended")
    old = info.snapshots[previous]
    if snapshot.parent_id != old.parent_id:
        raise InvalidInputError("an amended commit must keep its parent")
    snapshot = replace(snapshot, pruned_ancestor_tx_logs=old.pruned_ancestor_tx_logs)
    info = replace(_with_snapshot(info, snapshot), branches={**info.branches, branch: snapshot.id})
    details = {"branch": branch, "previous_snap_id": previous, "new_snap_id": snapshot.id}
    return record(info, UpdateKind.COMMIT_AMENDED, details, stamp)


def add_detached(info: RepoInfo, snapshot: SnapshotInfo, stamp: Stamp) -> RepoInfo:
    """Add *snapshot*, which no branch reaches.

    Raises:
        ReadOnlyError: the repository takes no changes.
    """
    check_writable(info)
    details = {"new_snap_id": snapshot.id}
    return record(_with_snapshot(info, snapshot), UpdateKind.NEW_DETACHED_SNAPSHOT, details, stamp)


def _with_snapshot(info: RepoInfo, snapshot: SnapshotInfo) -> RepoInfo:
    if snapshot.id in info.snapshots:
        raise AlreadyExistsError(f"there is a snapshot {snapshot.id} already")
    if snapshot.parent_id is not None:
        parent = info.snapshots.get(snapshot.parent_id)
        if parent is None:
            raise NotFoundError(f"there is no snapshot {snapshot.parent_id}")
        if snapshot.flushed_at <= parent.flushed_at:
            raise InvalidInputError("a snapshot must be later than its parent: set the clock")
    return replace(info, snapshots={**info.snapshots, snapshot.id: snapshot})


def _tip(info: RepoInfo, branch: str) -> SnapshotId:
    try:
        return info.branches[branch]
    except KeyError:
        raise NotFoundError(f"there is no branch {branch!r}") from None


def _check_tip(info: RepoInfo, branch: str, expected: SnapshotId | None) -> None:
    tip = _tip(info, branch)
    if tip != expected:
        raise ConflictError(f"the branch {branch!r} is at {tip}, no longer at {expected}")


def _check_known(info: RepoInfo, snapshot_id: SnapshotId) -> None:
    if snapshot_id not in info.snapshots:
        raise NotFoundError(f"there is no snapshot {snapshot_id}")


def create_branch(info: RepoInfo, name: str, target: SnapshotId, stamp: Stamp) -> RepoInfo:
    """Add the branch *name* at the snapshot *target*.

    Raises:
        AlreadyExistsError: there is one of that name.
        NotFoundError: there is no such snapshot.
        ReadOnlyError: the repository takes no changes.
    """
    check_writable(info)
    if name in info.branches:
        raise AlreadyExistsError(f"there is a branch {name!r} already")
    _check_known(info, target)
    info = replace(info, branches={**info.branches, name: target})
    return record(info, UpdateKind.BRANCH_CREATED, {"name": name}, stamp)


def delete_branch(info: RepoInfo, name: str, stamp: Stamp) -> RepoInfo:
    """Remove the branch *name*; its snapshots stay.

    Raises:
        NotAllowedError: it is ``main``.
        NotFoundError: there is no such branch.
        ReadOnlyError: the repository takes no changes.
    """
    check_writable(info)
    if name == MAIN_BRANCH:
        raise NotAllowedError("the branch main can not be deleted")
    details = {"name": name, "previous_snap_id": _tip(info, name)}
    info = replace(info, branches=_without(info.branches, name))
    return record(info, UpdateKind.BRANCH_DELETED, details, stamp)


def reset_branch(
    info: RepoInfo,
    name: str,
    target: SnapshotId,
    stamp: Stamp,
    *,
    expected: SnapshotId | None = None,
) -> RepoInfo:
    """Move the branch *name* to any snapshot.

    Raises:
        ConflictError: *expected* is given, and the branch is somewhere else.
        NotFoundError: there is no such branch or snapshot.
        ReadOnlyError: the repository takes no changes.
    """
    check_writable(info)
    previous = _tip(info, name)
    _check_tip(info, name, previous if expected is None else expected)
    _check_known(info, target)
    info = replace(info, branches={**info.branches, name: target})
    details = {"name": name, "previous_snap_id": previous}
    return record(info, UpdateKind.BRANCH_RESET, details, stamp)


def create_tag(info: RepoInfo, name: str, target: SnapshotId, stamp: Stamp) -> RepoInfo:
    """Add the tag *name* at the snapshot *target*.

    Raises:
        AlreadyExistsError: there is one of that name, or there was.
        NotAllowedError: the repository forbids new tags.
        NotFoundError: there is no such snapshot.
        ReadOnlyError: the repository takes no changes.
    """
    check_writable(info)
    _check_allowed(info, FeatureFlag.CREATE_TAG)
    if name in info.tags:
        raise AlreadyExistsError(f"there is a tag {name!r} already")
    if name in info.deleted_tags:
        raise AlreadyExistsError(f"there was a tag {name!r}, and names of tags are never reused")
    _check_known(info, target)
    info = replace(info, tags={**info.tags, name: target})
    return record(info, UpdateKind.TAG_CREATED, {"name": name}, stamp)


def delete_tag(info: RepoInfo, name: str, stamp: Stamp) -> RepoInfo:
    """Remove the tag *name* for ever.

    Raises:
        NotAllowedError: the repository forbids it.
        NotFoundError: there is no such tag.
        ReadOnlyError: the repository takes no changes.
    """
    check_writable(info)
    _check_allowed(info, FeatureFlag.DELETE_TAG)
    if name not in info.tags:
        raise NotFoundError(f"there is no tag {name!r}")
    details = {"name": name, "previous_snap_id": info.tags[name]}
    deleted = (*info.deleted_tags, name)
    info = replace(info, tags=_without(info.tags, name), deleted_tags=deleted)
    return record(info, UpdateKind.TAG_DELETED, details, stamp)


def set_metadata(info: RepoInfo, metadata: Mapping[str, Any], stamp: Stamp) -> RepoInfo:
    """Replace the metadata of the repository.

    Raises:
        ReadOnlyError: the repository takes no changes.
    """
    check_writable(info)
    return record(replace(info, metadata=metadata), UpdateKind.METADATA_CHANGED, {}, stamp)


def set_config(info: RepoInfo, config: Mapping[str, Any], stamp: Stamp) -> RepoInfo:
    """Replace the settings of the repository, in plain values.

    Raises:
        ReadOnlyError: the repository takes no changes.
    """
    check_writable(info)
    return record(replace(info, config=config), UpdateKind.CONFIG_CHANGED, {}, stamp)


def set_status(
    info: RepoInfo, availability: Availability, reason: str | None, stamp: Stamp
) -> RepoInfo:
    """Say whether the repository takes changes, and why; this can always be changed."""
    status = RepoStatus(availability, stamp.at, reason)
    details = {"status": status}
    return record(replace(info, status=status), UpdateKind.REPO_STATUS_CHANGED, details, stamp)


def set_flag(info: RepoInfo, flag: FeatureFlag, stamp: Stamp, *, value: bool | None) -> RepoInfo:
    """Allow or forbid what *flag* stands for, or with a *value* of None leave it to the default.

    Raises:
        ReadOnlyError: the repository takes no changes.
    """
    check_writable(info)
    info = replace(
        info,
        enabled_feature_flags=_flags(info.enabled_feature_flags, flag, wanted=value is True),
        disabled_feature_flags=_flags(info.disabled_feature_flags, flag, wanted=value is False),
    )
    details = {"id": int(flag), "new_value": bool(value), "is_set": value is not None}
    return record(info, UpdateKind.FEATURE_FLAG_CHANGED, details, stamp)


def _flags(
    flags: tuple[int, ...] | None, flag: FeatureFlag, *, wanted: bool
) -> tuple[int, ...] | None:
    """Return the list *flags* with *flag* in it or not; there is none until it is needed."""
    if wanted:
        return tuple(sorted({*(flags or ()), int(flag)}))
    return None if flags is None else tuple(n for n in flags if n != flag)


def _without(refs: Mapping[str, SnapshotId], name: str) -> dict[str, SnapshotId]:
    return {other: target for other, target in refs.items() if other != name}
