"""Making a change of the repository visible: one conditional write, repeated if others won.

The answer to that write can get lost. Then the object tells: the change is in it, or it is
still as it was and the write can be repeated, or somebody else changed it first, after which
the lost write can never land.

Protocol: spec-v2, "Repo Info File"; spec-v1, "References".
"""

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import trio

from zfuse.errors import (
    BusyError,
    ConflictError,
    NotFoundError,
    ObjectNotFoundError,
    OutcomeUnknownError,
    RepositoryNotFoundError,
    StorageError,
    VersionMismatchError,
)
from zfuse.format.config import RepositoryConfig
from zfuse.format.ids import SnapshotId
from zfuse.format.layout import REPO_INFO_KEY, backup_name, overwritten_key
from zfuse.format.ref_file import branch_key, encode_ref
from zfuse.format.repo_info import RepoInfo, Update
from zfuse.format.repo_info_encoder import encode_repo_info
from zfuse.format.repo_update import Stamp
from zfuse.repo.new_ids import new_id
from zfuse.repo.refs_v1 import parse_ref
from zfuse.repo.repository import Repository
from zfuse.storage.base import ABSENT, Absent, Blob, Storage, Version

_ATTEMPTS: Final = 100
_AT_ONCE: Final = 5
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 30.0
_REPETITIONS: Final = 3


def now_us() -> int:
    """Return the time by this machine's clock, in microseconds since 1970."""
    return time.time_ns() // 1000


async def pause(attempt: int) -> None:
    """Wait before the next attempt after *attempt* (from 0) that others won.

    The first few follow at once, then waiting doubles, at random so that many do not meet
    again and again.
    """
    ceiling = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** max(0, attempt - _AT_ONCE))
    await trio.sleep(0 if attempt < _AT_ONCE else random.uniform(0, ceiling))


async def change_repository(
    repository: Repository, change: Callable[[RepoInfo, Stamp], RepoInfo]
) -> None:
    """Publish a change of the repo info, as ``update_repo_info`` does, and of ``state``."""
    info = await update_repo_info(repository.storage, change)
    state = replace(
        repository.state,
        branches=info.branches,
        tags=info.tags,
        config=RepositoryConfig.from_values(info.config),
        info=info,
        fetched_at=now_us(),
    )
    repository.adopt(state)


async def update_repo_info(
    storage: Storage, change: Callable[[RepoInfo, Stamp], RepoInfo]
) -> RepoInfo:
    """Publish what *change* makes of the current repo info, and return it.

    *change* is a function of its arguments alone, called again whenever somebody else was
    faster; what it raises ends the attempt.

    Raises:
        BusyError: others were faster a hundred times.
        OutcomeUnknownError: whether the change landed can not be found out now.
        RepositoryNotFoundError: there is no repository of version 2.
    """
    for attempt in range(_ATTEMPTS):
        try:
            blob = await storage.get(REPO_INFO_KEY)
        except ObjectNotFoundError:
            raise RepositoryNotFoundError(
                f"there is no repository at {storage.url} any more"
            ) from None
        info = RepoInfo.decode(blob.data)
        at = now_us()
        config = RepositoryConfig.from_values(info.config)
        backup = backup_name(REPO_INFO_KEY, at, new_id(SnapshotId))
        changed = change(info, Stamp(at, backup, config.num_updates_per_repo_info_file))
        data = encode_repo_info(changed, level=config.compression_level)
        await storage.put(overwritten_key(backup), blob.data)
        entry = changed.latest_updates[0]

        async def landed(data: bytes, entry: Update = entry) -> bool:
            return any(_is(update, entry) for update in RepoInfo.decode(data).latest_updates)

        if await replace_object(storage, REPO_INFO_KEY, data, blob.version, landed):
            return changed
        await storage.delete(overwritten_key(backup))  # nobody will ever refer to it
        await pause(attempt)
    raise BusyError(f"{storage.url} changes faster than this change can be made; try again")


def _is(update: Update, entry: Update) -> bool:
    """Tell whether *update* is *entry*, which gets its backup from the change that follows."""
    return (update.kind, update.updated_at, update.details) == (
        entry.kind,
        entry.updated_at,
        entry.details,
    )


async def move_branch_v1(
    storage: Storage,
    branch: str,
    expected: SnapshotId,
    target: SnapshotId,
    is_ancestor: Callable[[SnapshotId, SnapshotId], Awaitable[bool]],
) -> None:
    """Move a branch of a version 1 repository from *expected* to *target*.

    *is_ancestor* tells whether its first argument is the second or an ancestor of it.

    Raises:
        ConflictError: the branch is at another snapshot.
        NotFoundError: there is no such branch.
        OutcomeUnknownError: whether the change landed can not be found out now.
    """
    key = branch_key(branch, encoded_names=has_encoded_names(storage))

    async def landed(data: bytes) -> bool:
        return await is_ancestor(target, parse_ref(data, key))

    while True:
        try:
            blob = await storage.get(key)
        except ObjectNotFoundError:
            raise NotFoundError(f"there is no branch {branch!r} any more") from None
        tip = parse_ref(blob.data, key)
        if tip != expected:
            raise ConflictError(f"the branch {branch!r} is at {tip}, no longer at {expected}")
        if await replace_object(storage, key, encode_ref(target), blob.version, landed):
            return


def has_encoded_names(storage: Storage) -> bool:
    """Tell whether *storage* percent-encodes the names of version 1 refs: directories do."""
    return "://" not in storage.url


async def replace_object(
    storage: Storage,
    key: str,
    data: bytes,
    expect: Version | Absent,
    landed: Callable[[bytes], Awaitable[bool]],
) -> bool:
    """Write *data* under *key* if the object is as *expect* says; return False if it is not.

    *landed* tells by the content of the object whether it is this change, or follows it.

    Raises:
        OutcomeUnknownError: the answer got lost, and so did those to the questions after it.
    """
    lost: OutcomeUnknownError | None = None
    for _ in range(_REPETITIONS):
        try:
            await storage.put(key, data, expect=expect)
        except VersionMismatchError:
            if lost is None:
                return False
        except OutcomeUnknownError as exc:
            lost = exc
        else:
            return True
        found = await _found(storage, key, expect)
        if found is not None and found.version != expect:
            return await landed(found.data)
    assert lost is not None
    raise lost


async def _found(storage: Storage, key: str, expect: Version | Absent) -> Blob | None:
    """Return the object that a write was to make or replace, None if it still has to be made."""
    try:
        return await storage.get(key)
    except StorageError as exc:
        if expect is ABSENT and isinstance(exc, ObjectNotFoundError):
            return None
        raise OutcomeUnknownError(
            f"{storage.url}: whether the change was made is not known, as the store stopped"
            f" answering ({exc}); try again, and zfuse looks before it does anything twice"
        ) from exc
