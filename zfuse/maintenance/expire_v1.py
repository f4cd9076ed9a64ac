"""Expiration in version 1, where each snapshot file names its parent: it is edited in place.

Readers that see one file edited and the next not yet see a shorter history, or the former one,
never a broken one. Specification: spec-v1, "Snapshot Files".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import trio

from zfuse.errors import ObjectNotFoundError
from zfuse.format.expiration import Expiration, ExpirationRule
from zfuse.format.ids import SnapshotId
from zfuse.format.ref_file import branch_key, tombstone_key
from zfuse.format.repo_info import SnapshotInfo
from zfuse.format.snapshot_encoder import encode_snapshot
from zfuse.maintenance.reachable import snapshots_of_refs
from zfuse.repo.publish import has_encoded_names
from zfuse.repo.refs_v1 import parse_ref
from zfuse.repo.repository import Repository

Parents = Mapping[SnapshotId, SnapshotId]


@dataclass(frozen=True, slots=True)
class _Found:
    """What expires, and the snapshots that get another parent."""

    expired: Expiration
    parents: Parents


async def find_expired_v1(repository: Repository, rule: ExpirationRule) -> Expiration:
    """Return what of a version 1 repository is expired by *rule*, as of ``state``.

    As in the official library the tip of a ref may be among the snapshots, although it stays.
    """
    return (await _find(repository, rule)).expired


async def expire_v1(repository: Repository, rule: ExpirationRule) -> Expiration:
    """Expire snapshots and refs of a version 1 repository by *rule*, and return them."""
    found = await _find(repository, rule)
    for snapshot_id, parent_id in found.parents.items():
        await _adopt(repository, snapshot_id, parent_id)
    storage = repository.storage
    encoded = has_encoded_names(storage)
    for name in sorted(found.expired.tags):
        await storage.put(tombstone_key(name, encoded_names=encoded), b"")
    for name in sorted(found.expired.branches):
        key = branch_key(name, encoded_names=encoded)
        try:
            tip = parse_ref((await storage.get(key)).data, key)
        except ObjectNotFoundError:
            continue
        if tip == repository.branches[name]:  # nobody committed to it meanwhile
            await storage.delete(key)
    await repository.refresh()
    return found.expired


async def _adopt(repository: Repository, snapshot_id: SnapshotId, parent_id: SnapshotId) -> None:
    snapshot = await repository.assets.fetch_snapshot(snapshot_id)
    edited = replace(snapshot, parent_id=parent_id)
    level = repository.state.config.compression_level
    data = await trio.to_thread.run_sync(lambda: encode_snapshot(edited, level=level))
    await repository.assets.store_snapshot(snapshot_id, data)


async def _find(repository: Repository, rule: ExpirationRule) -> _Found:
    known = await snapshots_of_refs(repository)
    return _find_among(known, repository.tags, repository.branches, rule)


def _find_among(
    known: Mapping[SnapshotId, SnapshotInfo],
    tags: Mapping[str, SnapshotId],
    branches: Mapping[str, SnapshotId],
    rule: ExpirationRule,
) -> _Found:
    """Look at every ref, tags first: what one makes of the history the next one finds so."""
    edited: dict[SnapshotId, SnapshotId] = {}
    gone: set[SnapshotId] = set()

    def history(tip: SnapshotId) -> Iterable[SnapshotInfo]:
        following: SnapshotId | None = tip
        while following is not None and following in known:
            info = known[following]
            yield info
            following = edited.get(info.id, info.parent_id)

    for tip in (*_by_name(tags), *_by_name(branches)):
        chain = list(history(tip))
        if not chain:
            continue
        young = [n for n, info in enumerate(chain) if info.flushed_at >= rule.older_than]
        kept = young[-1] if young else 0
        if kept + 2 < len(chain):
            edited[chain[kept].id] = chain[-1].id
            old = (info for info in chain[:-1] if info.flushed_at < rule.older_than)
            gone |= {info.id for info in old}

    def old_refs(refs: Mapping[str, SnapshotId]) -> frozenset[str]:
        return frozenset(
            name
            for name, tip in refs.items()
            if tip in known and known[tip].flushed_at < rule.older_than
        )

    return _Found(
        Expiration(
            frozenset(gone),
            frozenset(filter(rule.may_delete, old_refs(branches))),
            old_refs(tags) if rule.delete_tags else frozenset(),
        ),
        edited,
    )


def _by_name(refs: Mapping[str, SnapshotId]) -> Iterable[SnapshotId]:
    return (refs[name] for name in sorted(refs))
