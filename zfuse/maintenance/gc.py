"""Garbage collection: objects that no version needs are deleted.

What is stored from the cut-off on stays in any case: it may belong to a commit in the making.
The order is that of need: what refers to others goes before them, so whenever this ends early
everything that is left is whole.
"""

from collections.abc import Iterable, Set
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from zfuse.errors import InvalidInputError, ObjectNotFoundError
from zfuse.format.expiration import find_unreachable, forget, thinned, without
from zfuse.format.ids import ObjectId, SnapshotId
from zfuse.format.layout import (
    CHUNKS_PREFIX,
    MANIFESTS_PREFIX,
    OVERWRITTEN_PREFIX,
    REPO_INFO_KEY,
    SNAPSHOTS_PREFIX,
    TRANSACTIONS_PREFIX,
    backup_name,
    overwritten_key,
)
from zfuse.format.ref_columns import RefColumns, RefKind
from zfuse.format.repo_info import RepoInfo
from zfuse.format.repo_update import Stamp
from zfuse.maintenance.id_set import IdSet
from zfuse.maintenance.reachable import (
    Tell,
    manifests_of,
    quiet,
    snapshots_of_refs,
    visit_references,
)
from zfuse.maintenance.sweep import Choose, Sweeper, Swept, stored_by_ns, unneeded
from zfuse.repo.new_ids import new_id
from zfuse.repo.publish import change_repository, now_us
from zfuse.repo.repository import Repository
from zfuse.storage.base import ObjectInfo

U8 = npt.NDArray[np.uint8]

_DELETES_AT_ONCE: Final = 64
_MAX_CLOCK_DIFFERENCE_S: Final = 600
_UPDATE_US: Final = 3_600_000_000
"""Longer than this no change of the repository takes from its backup to its publication."""


@dataclass(frozen=True, slots=True)
class GcSummary:
    """What was deleted. ``bytes_deleted`` are those of all but the former repo info files.

    Those are ``backups_deleted``, which the official library leaves.
    """

    bytes_deleted: int = 0
    chunks_deleted: int = 0
    manifests_deleted: int = 0
    snapshots_deleted: int = 0
    attributes_deleted: int = 0
    transaction_logs_deleted: int = 0
    backups_deleted: int = 0
    backup_bytes_deleted: int = 0


async def collect_garbage(
    repository: Repository,
    older_than: int,
    *,
    dry_run: bool = False,
    keep: Set[SnapshotId] = frozenset(),
    max_concurrent_deletes: int = _DELETES_AT_ONCE,
    tell: Tell = quiet,
) -> GcSummary:
    """Delete what was stored before *older_than* (microseconds since 1970) and nobody needs.

    Needed is what refs lead to, the snapshots of *keep*, and in version 2 those stored since
    then, be they on a branch or not; version 1 has no list of them, so of such a one older
    chunks can go. *older_than* must be before any session began that is not committed yet:
    chunks of those are nobody's so far. With ``dry_run`` the summary tells what would be deleted.

    Raises:
        InvalidInputError: this machine's clock and the store's are too far apart.
        ReadOnlyError: the repository takes no changes.
        MissingObjectError: a file is gone that tells what is needed; nothing is deleted.
        StorageError: the store failed; what is left is whole, and the next run goes on.
    """
    older_than = min(older_than, now_us())
    await repository.refresh()
    if not dry_run:
        await _check_clocks(repository)
    roots = await _roots(repository, older_than, keep, dry_run=dry_run)
    needed = await _mark(repository, roots, tell)
    sweeper = Sweeper(repository.storage, max_concurrent_deletes, dry_run)

    async def sweep(prefix: str, kept: IdSet) -> Swept:
        return await _sweep(sweeper, prefix, unneeded(prefix, kept, older_than), tell)

    snapshots = await sweep(SNAPSHOTS_PREFIX, needed.snapshots)
    logs = await sweep(TRANSACTIONS_PREFIX, needed.logs)
    manifests = await sweep(MANIFESTS_PREFIX, needed.manifests)
    chunks = await sweep(CHUNKS_PREFIX, needed.chunks)
    backups = Swept()
    if repository.state.info is not None:
        choose = await _unneeded_backups(repository, repository.state.info, older_than)
        backups = await _sweep(sweeper, OVERWRITTEN_PREFIX, choose, tell)
    return GcSummary(
        bytes_deleted=snapshots.nbytes + logs.nbytes + manifests.nbytes + chunks.nbytes,
        chunks_deleted=chunks.count,
        manifests_deleted=manifests.count,
        snapshots_deleted=snapshots.count,
        transaction_logs_deleted=logs.count,
        backups_deleted=backups.count,
        backup_bytes_deleted=backups.nbytes,
    )


async def _check_clocks(repository: Repository) -> None:
    """Make sure that a cut-off by this machine's clock means the same by the store's.

    It is asked when it stored an object of no bytes, which goes again.
    """
    if repository.is_read_only:
        return  # what follows says so
    storage, before = repository.storage, now_us()
    key = overwritten_key(backup_name(REPO_INFO_KEY, before, new_id(SnapshotId)))
    await storage.put(key, b"")
    stored_at = (await storage.head(key)).last_modified_ns // 1000
    await storage.delete(key)
    apart = max(before - stored_at, stored_at - now_us()) // 1_000_000
    if apart > _MAX_CLOCK_DIFFERENCE_S:
        raise InvalidInputError(
            f"the clocks of this machine and of {storage.url} are {apart} s apart, so what is old"
            " there is not known; set the clock and try again"
        )


async def _sweep(sweeper: Sweeper, prefix: str, choose: Choose, tell: Tell) -> Swept:
    return await sweeper.sweep(prefix, choose, lambda seen: tell(prefix.rstrip("/"), seen, 0))


# -- what is needed -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Roots:
    """The snapshots that stay, and the transaction logs."""

    snapshots: frozenset[SnapshotId]
    logs: frozenset[SnapshotId]


@dataclass(frozen=True, slots=True)
class _Needed:
    snapshots: IdSet
    logs: IdSet
    manifests: IdSet
    chunks: IdSet


async def _roots(
    repository: Repository, older_than: int, keep: Set[SnapshotId], *, dry_run: bool
) -> _Roots:
    """Take unreachable snapshots out of the repo info, and return what stays.

    From then on nobody can put a branch there, so what is marked later holds.
    """
    info = repository.state.info
    stored = await _stored_snapshots(repository)
    keep = keep & stored.keys()
    if info is None:
        reached = {*(await snapshots_of_refs(repository)), *keep}
        return _Roots(frozenset(reached), frozenset(reached))
    if dry_run:
        info = without(info, find_unreachable(info, older_than, stored, keep))
    else:

        def change(info: RepoInfo, stamp: Stamp) -> RepoInfo:
            return forget(info, find_unreachable(info, older_than, stored, keep), stamp)

        await change_repository(repository, change)
        assert repository.state.info is not None
        info = repository.state.info
    stay = info.snapshots.keys() | keep
    pruned = {log for each in info.snapshots.values() for log in each.pruned_ancestor_tx_logs}
    return _Roots(frozenset(stay), frozenset(stay | pruned))


async def _stored_snapshots(repository: Repository) -> dict[SnapshotId, int]:
    """Return when each snapshot file was stored, by the store's clock, in microseconds."""
    found: dict[SnapshotId, int] = {}
    async with aclosing(repository.storage.list(SNAPSHOTS_PREFIX)) as listing:
        async for info in listing:
            with suppress(InvalidInputError):  # what is no snapshot
                snapshot_id = SnapshotId.parse(info.key.removeprefix(SNAPSHOTS_PREFIX))
                found[snapshot_id] = stored_by_ns(info) // 1000
    return found


async def _mark(repository: Repository, roots: _Roots, tell: Tell) -> _Needed:
    manifests = await manifests_of(repository.assets, roots.snapshots, tell)
    chunks = IdSet()

    def mark(columns: RefColumns) -> None:
        chunks.add(columns.chunk_ids[columns.kinds == RefKind.NATIVE])

    await visit_references(repository.assets, manifests, mark, tell)
    return _Needed(_set_of(roots.snapshots), _set_of(roots.logs), _set_of(manifests), chunks)


def _set_of(ids: Iterable[ObjectId]) -> IdSet:
    found = IdSet()
    found.add(np.frombuffer(b"".join(ids), np.uint8).reshape(-1, ObjectId.SIZE))
    return found


# -- former repo info files ---------------------------------------------------------------------


async def _unneeded_backups(repository: Repository, info: RepoInfo, older_than: int) -> Choose:
    """Return what picks the backups in which the ops log does not go on, now or later.

    It may go on in that of any entry that names one, and from each in that which it names.
    """
    needed: set[str] = set()
    pending = [each.backup_path for each in thinned(info.latest_updates)]
    pending.append(info.repo_before_updates)
    while pending:
        page = pending.pop()
        if page is None or page in needed:
            continue
        needed.add(page)
        with suppress(ObjectNotFoundError):  # the log ends there
            blob = await repository.storage.get(overwritten_key(page))
            pending.append(RepoInfo.decode(blob.data).repo_before_updates)
    limit_ns = min(older_than, now_us() - _UPDATE_US) * 1000
    keys = set(map(overwritten_key, needed))

    def choose(infos: Iterable[ObjectInfo]) -> list[ObjectInfo]:
        return [each for each in infos if stored_by_ns(each) < limit_ns and each.key not in keys]

    return choose
