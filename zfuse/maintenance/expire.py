"""Expiration: old snapshots leave the history, their files stay for garbage collection.

Specification: spec-v2-1, "pruned_ancestor_tx_logs"; spec-v1, where the history is in the files
of the snapshots themselves.
"""

from zfuse.format.expiration import Expiration, ExpirationRule, expire, find_expired
from zfuse.format.ids import SnapshotId
from zfuse.format.repo_info import RepoInfo
from zfuse.format.repo_update import Stamp
from zfuse.maintenance.expire_v1 import expire_v1, find_expired_v1
from zfuse.repo.publish import change_repository
from zfuse.repo.repository import Repository


async def expire_snapshots(
    repository: Repository,
    older_than: int,
    *,
    delete_expired_branches: bool = False,
    delete_expired_tags: bool = False,
) -> frozenset[SnapshotId]:
    """Take snapshots flushed before *older_than* (microseconds since 1970) out of the history.

    The first snapshot and the tips of refs stay; with ``delete_expired_*`` refs whose tip is
    that old go, but for ``main``. Returns the snapshots that went.

    Raises:
        ReadOnlyError: the repository takes no changes.
        BusyError: others change it faster than this can be done.
        OutcomeUnknownError: whether it was done can not be found out now.
    """
    rule = ExpirationRule(older_than, delete_expired_branches, delete_expired_tags)
    return (await apply_expiration(repository, rule)).snapshots


async def plan_expiration(repository: Repository, rule: ExpirationRule) -> Expiration:
    """Return what an expiration would take, as the repository is by ``state``."""
    info = repository.state.info
    return await find_expired_v1(repository, rule) if info is None else find_expired(info, rule)


async def apply_expiration(repository: Repository, rule: ExpirationRule) -> Expiration:
    """Expire by *rule* and return what went; see ``expire_snapshots``."""
    if repository.state.info is None:
        return await expire_v1(repository, rule)
    found = Expiration(frozenset(), frozenset(), frozenset())

    def change(info: RepoInfo, stamp: Stamp) -> RepoInfo:
        nonlocal found
        found = find_expired(info, rule)
        return expire(info, found, stamp)

    await change_repository(repository, change)
    return found
