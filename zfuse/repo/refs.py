"""Making, moving and deleting branches and tags.

In version 2 each is a change of the repo info; in version 1 a ref is a file of its own. The
answer to a write can get lost: what is stored tells whether it landed.

Protocol: spec-v2, "Repo Info File"; spec-v1, "References".
"""

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace

from zfuse.errors import (
    AlreadyExistsError,
    ConflictError,
    NotAllowedError,
    NotFoundError,
    ObjectNotFoundError,
)
from zfuse.format import repo_update
from zfuse.format.ids import SnapshotId
from zfuse.format.ref_file import branch_key, encode_ref, tag_key, tombstone_key
from zfuse.format.repo_info_encoder import MAIN_BRANCH
from zfuse.repo.publish import (
    change_repository,
    has_encoded_names,
    now_us,
    pause,
    replace_object,
)
from zfuse.repo.refs_v1 import parse_ref
from zfuse.repo.repository import Repository
from zfuse.storage.base import ABSENT, Storage, Version


async def create_branch(repository: Repository, name: str, target: SnapshotId) -> None:
    """Make a branch at a snapshot.

    Raises:
        AlreadyExistsError: there is one of that name.
        InvalidInputError: version 1 can not hold such a name.
        NotFoundError: there is no such snapshot.
        ReadOnlyError: the repository takes no changes.
    """
    if repository.state.spec_version > 1:
        await change_repository(
            repository, lambda info, stamp: repo_update.create_branch(info, name, target, stamp)
        )
        return
    await _check_known(repository, target)
    key = branch_key(name, encoded_names=has_encoded_names(repository.storage))
    if not await _create_v1(repository.storage, key, target):
        raise AlreadyExistsError(f"there is a branch {name!r} already")
    _adopt(repository, branches={**repository.branches, name: target})


async def delete_branch(repository: Repository, name: str) -> None:
    """Remove a branch; its snapshots stay until they are collected as garbage.

    Raises:
        NotAllowedError: it is ``main``.
        NotFoundError: there is no such branch.
        ReadOnlyError: the repository takes no changes.
    """
    if repository.state.spec_version > 1:
        await change_repository(
            repository, lambda info, stamp: repo_update.delete_branch(info, name, stamp)
        )
        return
    if name == MAIN_BRANCH:
        raise NotAllowedError("the branch main can not be deleted")
    storage = repository.storage
    key = branch_key(name, encoded_names=has_encoded_names(storage))
    await _fetch_ref(storage, key, f"branch {name!r}")
    await storage.delete(key)
    _adopt(repository, branches=_without(repository.branches, name))


async def reset_branch(
    repository: Repository, name: str, target: SnapshotId, *, expected: SnapshotId | None = None
) -> None:
    """Move a branch to any snapshot of the repository.

    Raises:
        ConflictError: *expected* is given, and the branch is somewhere else.
        NotFoundError: there is no such branch or snapshot.
        OutcomeUnknownError: whether the change landed can not be found out now.
        ReadOnlyError: the repository takes no changes.
    """
    if repository.state.spec_version > 1:
        await change_repository(
            repository,
            lambda info, stamp: repo_update.reset_branch(
                info, name, target, stamp, expected=expected
            ),
        )
        return
    await _reset_v1(repository, name, target, expected)
    _adopt(repository, branches={**repository.branches, name: target})


async def create_tag(repository: Repository, name: str, target: SnapshotId) -> None:
    """Make a tag at a snapshot; it stays there for ever.

    Raises:
        AlreadyExistsError: there is one of that name, or there was.
        InvalidInputError: version 1 can not hold such a name.
        NotAllowedError: the repository forbids new tags.
        NotFoundError: there is no such snapshot.
        ReadOnlyError: the repository takes no changes.
    """
    if repository.state.spec_version > 1:
        await change_repository(
            repository, lambda info, stamp: repo_update.create_tag(info, name, target, stamp)
        )
        return
    await _check_known(repository, target)
    storage, encoded = repository.storage, has_encoded_names(repository.storage)
    if await _exists(storage, tombstone_key(name, encoded_names=encoded)):
        raise AlreadyExistsError(f"there was a tag {name!r}, and names of tags are never reused")
    if not await _create_v1(storage, tag_key(name, encoded_names=encoded), target):
        raise AlreadyExistsError(f"there is a tag {name!r} already")
    _adopt(repository, tags={**repository.tags, name: target})


async def delete_tag(repository: Repository, name: str) -> None:
    """Remove a tag; there can never be another of that name.

    Raises:
        NotAllowedError: the repository forbids it.
        NotFoundError: there is no such tag.
        ReadOnlyError: the repository takes no changes.
    """
    if repository.state.spec_version > 1:
        await change_repository(
            repository, lambda info, stamp: repo_update.delete_tag(info, name, stamp)
        )
        return
    storage, encoded = repository.storage, has_encoded_names(repository.storage)
    tombstone = tombstone_key(name, encoded_names=encoded)
    await _fetch_ref(storage, tag_key(name, encoded_names=encoded), f"tag {name!r}")
    if await _exists(storage, tombstone):
        raise NotFoundError(f"there is no tag {name!r} any more")
    await storage.put(tombstone, b"")
    _adopt(repository, tags=_without(repository.tags, name))


async def _create_v1(storage: Storage, key: str, target: SnapshotId) -> bool:
    """Write a ref that is not there yet; return False if it is."""

    async def landed(data: bytes) -> bool:
        return parse_ref(data, key) == target

    return await replace_object(storage, key, encode_ref(target), ABSENT, landed)


async def _reset_v1(
    repository: Repository, name: str, target: SnapshotId, expected: SnapshotId | None
) -> None:
    storage = repository.storage
    key = branch_key(name, encoded_names=has_encoded_names(storage))
    await _check_known(repository, target)
    attempt = 0
    while True:
        tip, version = await _fetch_ref(storage, key, f"branch {name!r}")
        if expected is not None and tip != expected:
            raise ConflictError(f"the branch {name!r} is at {tip}, no longer at {expected}")

        async def landed(data: bytes, before: SnapshotId = tip) -> bool:
            return await _leads_to(repository, parse_ref(data, key), target, before=before)

        if await replace_object(storage, key, encode_ref(target), version, landed):
            return
        await pause(attempt)
        attempt += 1


async def _leads_to(
    repository: Repository, tip: SnapshotId, target: SnapshotId, *, before: SnapshotId
) -> bool:
    """Tell whether the history of *tip* comes to *target* earlier than to *before*.

    Then a branch that was at *before* was reset to *target*, and others went on from there.
    """
    async with aclosing(repository.ancestry(tip)) as ancestry:
        async for info in ancestry:
            if info.id in {target, before}:
                return info.id == target
    return False


async def _fetch_ref(storage: Storage, key: str, what: str) -> tuple[SnapshotId, Version]:
    try:
        blob = await storage.get(key)
    except ObjectNotFoundError:
        raise NotFoundError(f"there is no {what}") from None
    return parse_ref(blob.data, key), blob.version


async def _exists(storage: Storage, key: str) -> bool:
    try:
        await storage.head(key)
    except ObjectNotFoundError:
        return False
    return True


async def _check_known(repository: Repository, target: SnapshotId) -> None:
    if not await repository.has_snapshot(target):
        raise NotFoundError(f"there is no snapshot {target}")


def _adopt(
    repository: Repository,
    *,
    branches: Mapping[str, SnapshotId] | None = None,
    tags: Mapping[str, SnapshotId] | None = None,
) -> None:
    state = repository.state
    repository.adopt(
        replace(
            state,
            branches=state.branches if branches is None else branches,
            tags=state.tags if tags is None else tags,
            fetched_at=now_us(),
        )
    )


def _without(refs: Mapping[str, SnapshotId], name: str) -> dict[str, SnapshotId]:
    return {other: target for other, target in refs.items() if other != name}
