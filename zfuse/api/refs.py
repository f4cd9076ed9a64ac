"""Branches and tags of a repository."""

from datetime import datetime

from zfuse.api.boundary import refusing, twins
from zfuse.api.error_kind import ErrorKind
from zfuse.api.exceptions import (
    AlreadyExistsError,
    ConflictError,
    InvalidInputError,
    RefNotFoundError,
    SessionStateError,
    SnapshotNotFoundError,
)
from zfuse.api.opened import ConfiguredRepository, Opening
from zfuse.api.values import microseconds
from zfuse.errors import AlreadyExistsError as TakenError
from zfuse.errors import ConflictError as MovedError
from zfuse.errors import InvalidInputError as BadInputError
from zfuse.errors import NotAllowedError
from zfuse.errors import NotFoundError as NoSuchError
from zfuse.format.ids import SnapshotId
from zfuse.repo import refs


def snapshot_id_of(text: str) -> SnapshotId:
    """Return the id that *text* spells.

    Raises:
        InvalidInputError: it spells none.
    """
    with refusing(BadInputError, InvalidInputError, ErrorKind.INVALID_SNAPSHOT_ID):
        return SnapshotId.parse(text)


async def known(engine: ConfiguredRepository, text: str) -> SnapshotId:
    """Return the id that *text* spells, if the repository has such a snapshot.

    Raises:
        InvalidInputError: it spells none.
        SnapshotNotFoundError: the repository has none.
    """
    snapshot_id = snapshot_id_of(text)
    if not await engine.has_snapshot(snapshot_id):
        raise SnapshotNotFoundError(
            f"the repository has no snapshot {text}", ErrorKind.SNAPSHOT_NOT_FOUND
        )
    return snapshot_id


def branch_tip(engine: ConfiguredRepository, name: str) -> SnapshotId:
    """Return the snapshot that a branch is at.

    Raises:
        RefNotFoundError: there is no such branch.
    """
    with refusing(NoSuchError, RefNotFoundError, ErrorKind.REF_NOT_FOUND):
        return engine.lookup_branch(name)


def tag_target(engine: ConfiguredRepository, name: str) -> SnapshotId:
    """Return the snapshot of a tag.

    Raises:
        RefNotFoundError: there is no such tag.
    """
    with refusing(NoSuchError, RefNotFoundError, ErrorKind.REF_NOT_FOUND):
        return engine.lookup_tag(name)


async def resolve(
    engine: ConfiguredRepository,
    branch: str | None,
    tag: str | None,
    snapshot_id: str | None,
    as_of: datetime | None = None,
) -> SnapshotId:
    """Return the snapshot that exactly one of the names means.

    Raises:
        ValueError: there is none or more than one, or a time without a branch.
        RefNotFoundError, SnapshotNotFoundError: there is nothing of that name.
    """
    match (branch, tag, snapshot_id, as_of):
        case (str(name), None, None, None):
            return branch_tip(engine, name)
        case (str(name), None, None, datetime() as time):
            branch_tip(engine, name)
            with refusing(NoSuchError, SnapshotNotFoundError, ErrorKind.NO_SNAPSHOT_AT_TIME):
                return (await engine.snapshot_as_of(name, microseconds(time))).id
        case (None, str(name), None, None):
            return tag_target(engine, name)
        case (None, None, str(text), None):
            return await known(engine, text)
        case _:
            raise ValueError(
                "name one version: by branch, by tag, by snapshot_id, or by branch and as_of"
            )


class Refs:
    """The part of a repository that names snapshots."""

    _opening: Opening

    async def _list_branches(self) -> set[str]:
        """Return the names of all branches."""
        return set((await self._opening.fresh()).branches)

    async def _lookup_branch(self, branch: str) -> str:
        """Return the id of the snapshot that a branch is at."""
        return str(branch_tip(await self._opening.fresh(), branch))

    async def _create_branch(self, branch: str, snapshot_id: str) -> None:
        """Make a branch at a snapshot."""
        engine = await self._opening.fresh()
        target = await known(engine, snapshot_id)
        with refusing(TakenError, AlreadyExistsError, ErrorKind.BRANCH_ALREADY_EXISTS):
            await refs.create_branch(engine, branch, target)

    async def _reset_branch(
        self, branch: str, snapshot_id: str, *, from_snapshot_id: str | None = None
    ) -> None:
        """Move a branch to any snapshot; only from *from_snapshot_id*, if that is given."""
        engine = await self._opening.fresh()
        branch_tip(engine, branch)
        target = await known(engine, snapshot_id)
        expected = None if from_snapshot_id is None else snapshot_id_of(from_snapshot_id)
        try:
            await refs.reset_branch(engine, branch, target, expected=expected)
        except MovedError as exc:
            tip = engine.branches.get(branch)
            raise ConflictError(
                from_snapshot_id,
                None if tip is None else str(tip),
                kind=ErrorKind.BRANCH_UPDATE_CONFLICT,
            ) from exc

    async def _delete_branch(self, branch: str) -> None:
        """Remove a branch; its snapshots stay until garbage is collected."""
        engine = await self._opening.fresh()
        with (
            refusing(NotAllowedError, SessionStateError, ErrorKind.CANNOT_DELETE_MAIN),
            refusing(NoSuchError, RefNotFoundError, ErrorKind.REF_NOT_FOUND),
        ):
            await refs.delete_branch(engine, branch)

    async def _list_tags(self) -> set[str]:
        """Return the names of all tags."""
        return set((await self._opening.fresh()).tags)

    async def _lookup_tag(self, tag: str) -> str:
        """Return the id of the snapshot of a tag."""
        return str(tag_target(await self._opening.fresh(), tag))

    async def _create_tag(self, tag: str, snapshot_id: str) -> None:
        """Name a snapshot for ever."""
        engine = await self._opening.fresh()
        target = await known(engine, snapshot_id)
        taken = ErrorKind.TAG_PREVIOUSLY_DELETED
        if tag in engine.tags:
            taken = ErrorKind.TAG_ALREADY_EXISTS
        with (
            refusing(NotAllowedError, SessionStateError, ErrorKind.FEATURE_FLAG_DISABLED),
            refusing(TakenError, AlreadyExistsError, taken),
        ):
            await refs.create_tag(engine, tag, target)

    async def _delete_tag(self, tag: str) -> None:
        """Remove a tag, whose name is never used again."""
        engine = await self._opening.fresh()
        with (
            refusing(NotAllowedError, SessionStateError, ErrorKind.FEATURE_FLAG_DISABLED),
            refusing(NoSuchError, RefNotFoundError, ErrorKind.REF_NOT_FOUND),
        ):
            await refs.delete_tag(engine, tag)

    list_branches, list_branches_async = twins(_list_branches)
    lookup_branch, lookup_branch_async = twins(_lookup_branch)
    create_branch, create_branch_async = twins(_create_branch)
    reset_branch, reset_branch_async = twins(_reset_branch)
    delete_branch, delete_branch_async = twins(_delete_branch)
    list_tags, list_tags_async = twins(_list_tags)
    lookup_tag, lookup_tag_async = twins(_lookup_tag)
    create_tag, create_tag_async = twins(_create_tag)
    delete_tag, delete_tag_async = twins(_delete_tag)
