"""The repo info that a version 1 repository gets when it becomes one of version 2.

Version 1 has no ops log: what can be known of it is told by the snapshots and refs that are
there, as the official library does it, so that both make the same of one repository.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from zfuse.errors import CorruptionError
from zfuse.format.ids import SnapshotId
from zfuse.format.repo_info import (
    Availability,
    RepoInfo,
    RepoStatus,
    SnapshotInfo,
    Update,
    UpdateKind,
)
from zfuse.format.repo_info_encoder import MAIN_BRANCH
from zfuse.format.repo_update import later

_MADE_AFTER_US: Final = 1000
_DELETED_AFTER_US: Final = 2000
"""When refs were made and deleted nobody knows: shortly after the snapshot that they name."""


@dataclass(frozen=True, slots=True)
class HistoryV1:
    """All that a version 1 repository holds but its nodes and chunks.

    ``snapshots`` are those that branches and tags lead to. ``deleted_tags`` name the snapshot
    that each had, None where that is not known; it may be gone.
    """

    branches: Mapping[str, SnapshotId]
    tags: Mapping[str, SnapshotId]
    deleted_tags: Mapping[str, SnapshotId | None]
    snapshots: Mapping[SnapshotId, SnapshotInfo]
    config: Mapping[str, Any] | None


def migrate(history: HistoryV1, at: int) -> RepoInfo:
    """Return the repo info of version 2 that *history* becomes *at* (microseconds since 1970).

    Raises:
        CorruptionError: the history has no beginning.
    """
    root = _root(history)
    updates = [*_updates(history, root)]
    moment = later(at, updates[0].updated_at)
    details = {"from_version": 1, "to_version": 2}
    migrated = Update(UpdateKind.REPO_MIGRATED, moment, None, details)
    return RepoInfo(
        spec_version=2,
        tags=history.tags,
        branches=history.branches,
        deleted_tags=tuple(sorted(history.deleted_tags)),
        snapshots=history.snapshots,
        status=RepoStatus(Availability.ONLINE, root.flushed_at, None),
        metadata={},
        latest_updates=(migrated, *updates),
        repo_before_updates=None,
        config=history.config,
        enabled_feature_flags=None,
        disabled_feature_flags=None,
    )


def _root(history: HistoryV1) -> SnapshotInfo:
    *_, first = _line(history, history.branches[MAIN_BRANCH])
    if first.parent_id is not None:
        raise CorruptionError(f"the history of main ends at {first.id}, whose parent is gone")
    return first


def _line(history: HistoryV1, tip: SnapshotId) -> Iterator[SnapshotInfo]:
    following: SnapshotId | None = tip
    while following is not None and following in history.snapshots:
        info = history.snapshots[following]
        yield info
        following = info.parent_id


def _updates(history: HistoryV1, root: SnapshotInfo) -> list[Update]:
    """Return the ops log, newest first, all moments different."""
    events = [
        (root.flushed_at, UpdateKind.REPO_INITIALIZED, dict[str, Any]()),
        *_commits(history, root),
        *_refs(history, root),
    ]
    found: list[Update] = []
    for moment, kind, details in sorted(events, key=lambda event: event[0]):
        last = found[-1].updated_at if found else -1
        found.append(Update(kind, later(moment, last), None, details))
    return found[::-1]


_Event = tuple[int, UpdateKind, Mapping[str, Any]]


def _commits(history: HistoryV1, root: SnapshotInfo) -> Iterator[_Event]:
    """Yield a commit for each snapshot that a branch has: main, or the first by name."""
    seen = {root.id}
    for name in _by_name(history.branches):
        for info in _line(history, history.branches[name]):
            if info.id in seen:
                break
            seen.add(info.id)
            details = {"branch": name, "new_snap_id": info.id}
            yield info.flushed_at, UpdateKind.NEW_COMMIT, details


def _refs(history: HistoryV1, root: SnapshotInfo) -> Iterator[_Event]:
    def moment(snapshot_id: SnapshotId | None) -> int:
        info = None if snapshot_id is None else history.snapshots.get(snapshot_id)
        return (info or root).flushed_at

    for name in _by_name(history.branches)[1:]:
        made_at = moment(history.branches[name]) + _MADE_AFTER_US
        yield made_at, UpdateKind.BRANCH_CREATED, {"name": name}
    for name in sorted(history.tags):
        yield moment(history.tags[name]) + _MADE_AFTER_US, UpdateKind.TAG_CREATED, {"name": name}
    for name, former in sorted(history.deleted_tags.items()):
        if former is not None:
            made_at = moment(former) + _MADE_AFTER_US
            yield made_at, UpdateKind.TAG_CREATED, {"name": name}
            deleted_at = moment(former) + _DELETED_AFTER_US
            details = {"name": name, "previous_snap_id": former}
            yield deleted_at, UpdateKind.TAG_DELETED, details


def _by_name(branches: Iterable[str]) -> list[str]:
    return sorted(branches, key=lambda name: (name != MAIN_BRANCH, name))
