"""From version 1 of the format to version 2, in place.

One write makes the repository one of version 2: before it there is the former one, after it
the new one, whatever happens. The files of snapshots, manifests and chunks stay as they are;
version 2 reads them. What version 1 alone needs is deleted last.
"""

from collections.abc import Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from zfuse.errors import (
    ConflictError,
    CorruptionError,
    InvalidInputError,
    ObjectNotFoundError,
    VersionMismatchError,
    ZfuseError,
)
from zfuse.format.config import RepositoryConfig
from zfuse.format.config_settings import completed
from zfuse.format.config_yaml import decode_yaml
from zfuse.format.ids import SnapshotId
from zfuse.format.layout import CONFIG_KEY_V1, REFS_PREFIX_V1, REPO_INFO_KEY, SNAPSHOTS_PREFIX
from zfuse.format.migration import HistoryV1, migrate
from zfuse.format.ref_file import tag_key
from zfuse.format.repo_info import RepoInfo, SnapshotInfo
from zfuse.format.repo_info_encoder import encode_repo_info
from zfuse.maintenance.reachable import Tell, quiet
from zfuse.repo.at_once import at_once
from zfuse.repo.publish import has_encoded_names, now_us
from zfuse.repo.refs_v1 import MAIN_KEY, RefsV1, fetch_refs, parse_ref
from zfuse.repo.repository import Repository
from zfuse.storage.base import ABSENT, Storage

_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class UpgradeSummary:
    """What the repository is now, or would be; ``files_deleted`` are those of version 1 alone.

    ``was_version_2`` says that it was of version 2 before, and only such files were left.
    """

    branches: int
    tags: int
    deleted_tags: int
    snapshots: int
    files_deleted: int
    was_version_2: bool


async def upgrade_repository(
    repository: Repository,
    *,
    dry_run: bool = False,
    delete_unused_v1_files: bool = True,
    tell: Tell = quiet,
) -> UpgradeSummary:
    """Make a version 1 repository one of version 2; nobody else may write to it meanwhile.

    With *dry_run* everything is read and nothing written.

    Raises:
        ConflictError: somebody changed it meanwhile.
        CorruptionError: a ref, or a snapshot that one leads to, can not be read; nothing changed.
        OutcomeUnknownError: whether it is of version 2 now can not be found out.
    """
    storage = repository.storage
    await repository.refresh()
    info = repository.state.info
    was_version_2 = info is not None
    if info is None:
        refs = await _refs(storage)
        info = migrate(await _history(repository, refs, tell), now_us())
        if not dry_run:
            await _publish(storage, info, refs)
            await repository.refresh()
    deleted = 0
    if delete_unused_v1_files:
        deleted = await _delete_version_1(storage, dry_run=dry_run)
    return UpgradeSummary(
        len(info.branches),
        len(info.tags),
        len(info.deleted_tags),
        len(info.snapshots),
        deleted,
        was_version_2,
    )


async def _publish(storage: Storage, info: RepoInfo, refs: RefsV1) -> None:
    data = await trio.to_thread.run_sync(encode_repo_info, info)
    RepoInfo.decode(data)  # what can not be read must not be published
    if await _refs(storage) != refs:
        raise ConflictError(
            "somebody changed branches or tags meanwhile; nothing was done: upgrade when nobody"
            " writes to the repository"
        )
    try:
        await storage.put(REPO_INFO_KEY, data, expect=ABSENT)
    except VersionMismatchError:
        raise ConflictError(f"somebody else upgraded {storage.url} just now") from None
    if await _refs(storage) != refs:
        raise ConflictError(
            f"{storage.url} is of version 2 now, but somebody wrote to it as one of version 1 just"
            f" then; to go back delete {REPO_INFO_KEY} there, and upgrade when nobody writes"
        )


async def _refs(storage: Storage) -> RefsV1:
    return await fetch_refs(storage, encoded_names=has_encoded_names(storage))


async def _delete_version_1(storage: Storage, *, dry_run: bool) -> int:
    """Delete refs and configuration of version 1, main first: without it nobody reads them."""
    async with aclosing(storage.list(REFS_PREFIX_V1)) as listing:
        keys = [info.key async for info in listing]
    with suppress(ObjectNotFoundError):
        keys.append((await storage.head(CONFIG_KEY_V1)).key)
    keys.sort(key=lambda key: key != MAIN_KEY)
    if not dry_run:
        for key in keys:
            await storage.delete(key)
    return len(keys)


# -- reading version 1 --------------------------------------------------------------------------


async def _history(repository: Repository, refs: RefsV1, tell: Tell) -> HistoryV1:
    storage = repository.storage
    return HistoryV1(
        refs.branches,
        refs.tags,
        {name: await _deleted_tag(storage, name) for name in refs.deleted_tags},
        await _snapshots(repository, {*refs.branches.values(), *refs.tags.values()}, tell),
        await _config(storage),
    )


async def _deleted_tag(storage: Storage, name: str) -> SnapshotId | None:
    key = tag_key(name, encoded_names=has_encoded_names(storage))
    try:
        return parse_ref((await storage.get(key)).data, key)
    except (ObjectNotFoundError, CorruptionError):
        return None


async def _config(storage: Storage) -> Mapping[str, object] | None:
    try:
        data = (await storage.get(CONFIG_KEY_V1)).data
    except ObjectNotFoundError:
        return None
    RepositoryConfig.from_yaml(data)
    values = decode_yaml(data)
    return completed(values if isinstance(values, dict) else {})


async def _snapshots(
    repository: Repository, tips: set[SnapshotId], tell: Tell
) -> dict[SnapshotId, SnapshotInfo]:
    """Return the snapshots that *tips* lead to; all there are are read, many at once."""
    stored = await _stored(repository.storage)
    known: dict[SnapshotId, SnapshotInfo] = {}
    done = 0

    async def look(snapshot_id: SnapshotId) -> None:
        nonlocal done
        with suppress(ZfuseError):  # it is needed only if a ref leads there
            known[snapshot_id] = await repository.assets.fetch_snapshot_info(snapshot_id)
        done += 1
        tell("snapshots", done, len(stored))

    await at_once((partial(look, each) for each in stored), most=_AT_ONCE)
    found: dict[SnapshotId, SnapshotInfo] = {}
    pending = list(tips)
    while pending:
        following = pending.pop()
        if following in found:
            continue
        if following not in known:  # says what is wrong with it
            known[following] = await repository.assets.fetch_snapshot_info(following)
        info = found[following] = known[following]
        if info.parent_id is not None:
            pending.append(info.parent_id)
    return found


async def _stored(storage: Storage) -> list[SnapshotId]:
    found: list[SnapshotId] = []
    async with aclosing(storage.list(SNAPSHOTS_PREFIX)) as listing:
        async for info in listing:
            with suppress(InvalidInputError):
                found.append(SnapshotId.parse(info.key.removeprefix(SNAPSHOTS_PREFIX)))
    return found
