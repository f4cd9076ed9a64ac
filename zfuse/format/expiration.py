"""Snapshots that a version 2 repository forgets: which ones, and what becomes of the others.

Specification: spec-v2-1, "pruned_ancestor_tx_logs".
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from zfuse.format.ids import SnapshotId
from zfuse.format.repo_info import RepoInfo, SnapshotInfo, Update, UpdateKind
from zfuse.format.repo_info_encoder import MAIN_BRANCH
from zfuse.format.repo_update import Stamp, check_writable, record

Snapshots = Mapping[SnapshotId, SnapshotInfo]


@dataclass(frozen=True, slots=True)
class ExpirationRule:
    """What expires: snapshots flushed before ``older_than`` (microseconds since 1970).

    The tips of branches and tags stay, unless these are to be deleted when their tip is that
    old; ``main`` always stays, and so do ``kept_branches``.
    """

    older_than: int
    delete_branches: bool = False
    delete_tags: bool = False
    kept_branches: frozenset[str] = frozenset()

    def may_delete(self, branch: str) -> bool:
        """Tell whether *branch* goes if its tip is old."""
        return self.delete_branches and branch != MAIN_BRANCH and branch not in self.kept_branches


@dataclass(frozen=True, slots=True)
class Expiration:
    """The snapshots that a repository forgets, and the branches and tags that go."""

    snapshots: frozenset[SnapshotId]
    branches: frozenset[str]
    tags: frozenset[str]


def find_expired(info: RepoInfo, rule: ExpirationRule) -> Expiration:
    """Return what of *info* is expired by *rule*."""
    old = {
        s.id
        for s in info.snapshots.values()
        if s.flushed_at < rule.older_than and s.parent_id is not None
    }
    branches = {name for name, tip in info.branches.items() if tip in old and rule.may_delete(name)}
    tags = {name for name, tip in info.tags.items() if rule.delete_tags and tip in old}
    tips = {tip for name, tip in info.branches.items() if name not in branches}
    tips |= {tip for name, tip in info.tags.items() if name not in tags}
    return Expiration(frozenset(old - tips), frozenset(branches), frozenset(tags))


def expire(info: RepoInfo, expired: Expiration, stamp: Stamp) -> RepoInfo:
    """Return *info* without what is *expired*; who loses the parent hangs on the first snapshot.

    Raises:
        ReadOnlyError: the repository takes no changes.
    """
    check_writable(info)
    changed = replace(
        info,
        branches={n: tip for n, tip in info.branches.items() if n not in expired.branches},
        tags={n: tip for n, tip in info.tags.items() if n not in expired.tags},
        deleted_tags=(*info.deleted_tags, *sorted(expired.tags)),
        snapshots=_without(info.snapshots, expired.snapshots, lambda s: s.parent_id is None),
    )
    return record(changed, UpdateKind.EXPIRATION_RAN, {}, stamp)


def _without(
    snapshots: Snapshots, removed: Set[SnapshotId], is_parent: Callable[[SnapshotInfo], bool]
) -> dict[SnapshotId, SnapshotInfo]:
    """Return *snapshots* but those *removed*.

    One whose parent goes gets the next ancestor that *is_parent*, and names the transaction
    logs of all that lies between: what it changed against its new parent.
    """
    return {
        s.id: _adopted(s, snapshots, is_parent) if s.parent_id in removed else s
        for s in snapshots.values()
        if s.id not in removed
    }


def _adopted(
    snapshot: SnapshotInfo, known: Snapshots, is_parent: Callable[[SnapshotInfo], bool]
) -> SnapshotInfo:
    logs = list(reversed(snapshot.pruned_ancestor_tx_logs))
    ancestor = _parent(snapshot, known)
    while ancestor is not None and not is_parent(ancestor):
        logs += [ancestor.id, *reversed(ancestor.pruned_ancestor_tx_logs)]
        ancestor = _parent(ancestor, known)
    first = None if ancestor is None else ancestor.id
    return replace(snapshot, parent_id=first, pruned_ancestor_tx_logs=tuple(reversed(logs)))


def _parent(snapshot: SnapshotInfo, known: Snapshots) -> SnapshotInfo | None:
    return None if snapshot.parent_id is None else known.get(snapshot.parent_id)


def find_unreachable(
    info: RepoInfo, older_than: int, stored: Mapping[SnapshotId, int], keep: Set[SnapshotId]
) -> frozenset[SnapshotId]:
    """Return the snapshots older than *older_than*, not in *keep*, that no ref leads to.

    *stored* says when their files were stored, in microseconds since 1970 by the clock of the
    store; for others it counts when they were flushed.
    """
    reached: set[SnapshotId] = set()
    for tip in {*info.branches.values(), *info.tags.values()}:
        following = info.snapshots.get(tip)
        while following is not None and following.id not in reached:
            reached.add(following.id)
            following = _parent(following, info.snapshots)
    return frozenset(
        s.id
        for s in info.snapshots.values()
        if not (s.id in reached or s.id in keep) and stored.get(s.id, s.flushed_at) < older_than
    )


def forget(info: RepoInfo, snapshots: Set[SnapshotId], stamp: Stamp) -> RepoInfo:
    """Return *info* without *snapshots*, whose files are to be collected as garbage.

    Most entries of the ops log do not name a backup any more, see ``thinned``.

    Raises:
        ReadOnlyError: the repository takes no changes.
    """
    check_writable(info)
    changed = replace(without(info, snapshots), latest_updates=thinned(info.latest_updates))
    return record(changed, UpdateKind.GC_RAN, {}, stamp)


def thinned(updates: Sequence[Update]) -> tuple[Update, ...]:
    """Return *updates*, newest first, without the backups that the ops log can do without.

    The log goes on in the backup of whatever entry is at the end of a page. With each update
    that is another one, and it goes on from there in others again, so as long as all entries
    have theirs no backup can ever be deleted. An entry without one stays in its page; so that
    pages do not grow for ever those just before a collection keep theirs.
    """
    return tuple(
        update
        if n > 0 and updates[n - 1].kind is UpdateKind.GC_RAN
        else replace(update, backup_path=None)
        for n, update in enumerate(updates)
    )


def without(info: RepoInfo, snapshots: Set[SnapshotId]) -> RepoInfo:
    """Return *info* without *snapshots*; who loses the parent hangs on the next that stays."""
    left = _without(info.snapshots, snapshots, lambda s: s.id not in snapshots)
    return replace(info, snapshots=left)
