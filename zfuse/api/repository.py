"""Repositories: making and opening them, and their sessions."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from zfuse.api.administration import Administration
from zfuse.api.boundary import class_twins, refusing, run, static_twins, twins
from zfuse.api.config import Attribution, RepositoryConfig, StorageSettings
from zfuse.api.config_values import check_config, config_of, config_values
from zfuse.api.conflicts import ConflictSolver
from zfuse.api.credentials import AnyCredential
from zfuse.api.error_kind import ErrorKind
from zfuse.api.exceptions import InvalidInputError, SessionStateError
from zfuse.api.history import History
from zfuse.api.inspection import Inspection
from zfuse.api.listing import described
from zfuse.api.maintenance import Maintenance
from zfuse.api.opened import ConfiguredRepository, Opening
from zfuse.api.refs import Refs, branch_tip, resolve
from zfuse.api.session import Session
from zfuse.api.storage import Storage
from zfuse.api.store import IcechunkStore
from zfuse.api.values import SessionMode, SpecVersion, properties
from zfuse.errors import AlreadyExistsError, NotAllowedError, RepositoryNotFoundError
from zfuse.repo.commit import check_moves
from zfuse.repo.create import create_repository
from zfuse.repo.repository import fetch_state
from zfuse.repo.settings import change_config

type Authorized = Mapping[str, AnyCredential | None]


async def _create(  # noqa: PLR0913, PLR0917 - the official signature
    cls: "type[Repository]",
    storage: Storage,
    config: RepositoryConfig | None = None,
    authorize_virtual_chunk_access: Authorized | None = None,
    spec_version: SpecVersion | int | None = None,
    check_clean_root: bool = True,  # noqa: FBT001, FBT002
    attribution: Attribution | None = None,
) -> "Repository":
    """Make a repository without data, with the branch main, and open it.

    Raises:
        InvalidInputError: the place is not empty.
        ValueError: there is no such version of the format.
    """
    version = SpecVersion(spec_version or SpecVersion.current())
    engine = await storage.open()
    given = config or RepositoryConfig()
    check_config(given)
    with refusing(AlreadyExistsError, InvalidInputError, ErrorKind.PARENT_DIRECTORY_NOT_CLEAN):
        await create_repository(
            engine,
            spec_version=int(version),
            config=None if given == RepositoryConfig() else config_values(given),
            must_be_empty=check_clean_root,
        )
    return await _open(cls, storage, config, authorize_virtual_chunk_access, attribution)


async def _open(
    cls: "type[Repository]",
    storage: Storage,
    config: RepositoryConfig | None = None,
    authorize_virtual_chunk_access: Authorized | None = None,
    attribution: Attribution | None = None,
) -> "Repository":
    """Open a repository, with the settings *config* on top of its own.

    Virtual chunks are read only below the prefixes in *authorize_virtual_chunk_access*.

    Raises:
        InvalidInputError: *config* has a setting that makes no sense.
        RepositoryNotFoundError: there is none.
    """
    if config is not None:
        check_config(config)
    opening = Opening(storage, config, dict(authorize_virtual_chunk_access or {}))
    await opening.engine()
    return cls(opening, attribution)


async def _open_or_create(  # noqa: PLR0913, PLR0917 - the official signature
    cls: "type[Repository]",
    storage: Storage,
    config: RepositoryConfig | None = None,
    authorize_virtual_chunk_access: Authorized | None = None,
    create_version: SpecVersion | int | None = None,
    check_clean_root: bool = True,  # noqa: FBT001, FBT002
    attribution: Attribution | None = None,
) -> "Repository":
    """Open a repository; make it if there is none."""
    if await _exists(storage):
        return await _open(cls, storage, config, authorize_virtual_chunk_access, attribution)
    return await _create(
        cls,
        storage,
        config,
        authorize_virtual_chunk_access,
        create_version,
        check_clean_root,
        attribution,
    )


async def _exists(storage: Storage, storage_settings: StorageSettings | None = None) -> bool:
    """Tell whether there is a repository."""
    return await _fetch_spec_version(storage, storage_settings) is not None


async def _fetch_spec_version(
    storage: Storage,
    storage_settings: StorageSettings | None = None,
) -> SpecVersion | None:
    """Return the version of the format that a repository is of, None if there is none."""
    try:
        state = await fetch_state(await storage.open())
    except RepositoryNotFoundError:
        return None
    return SpecVersion(state.spec_version)


async def _fetch_config(storage: Storage) -> RepositoryConfig | None:
    """Return the settings that a repository stores, None if it stores none."""
    state = await fetch_state(await storage.open())
    return config_of(state.config) if state.config.raw else None


class Repository(Refs, History, Administration, Maintenance, Inspection):
    """An Icechunk repository.

    Most methods have a twin to be awaited in asyncio, whose name ends with ``_async``.
    """

    create, create_async = class_twins(_create)
    open, open_async = class_twins(_open)
    open_or_create, open_or_create_async = class_twins(_open_or_create)
    exists, exists_async = static_twins(_exists)
    fetch_spec_version, fetch_spec_version_async = static_twins(_fetch_spec_version)
    fetch_config, fetch_config_async = static_twins(_fetch_config)

    def __init__(self, opening: Opening, attribution: Attribution | None = None) -> None:
        self._opening = opening
        self._attribution = attribution or Attribution()
        self._commit_metadata: dict[str, Any] = {}

    def __repr__(self) -> str:
        return described("Repository", storage=self.storage)

    def __reduce__(self) -> tuple[Callable[..., "Repository"], tuple[object, ...]]:
        return _unpickled, (type(self), self._opening, self._attribution, self._commit_metadata)

    async def engine(self) -> ConfiguredRepository:
        """Return the engine's repository as it is now; for the trio world."""
        return await self._opening.fresh()

    @property
    def storage(self) -> Storage:
        """Where the repository is."""
        return self._opening.storage

    @property
    def config(self) -> RepositoryConfig:
        """The settings that hold here: those passed in, on top of those stored."""
        return copy.deepcopy(self._opening.effective)

    @property
    def attribution(self) -> Attribution:
        """Who works with the repository."""
        return self._attribution

    @property
    def authorized_virtual_container_prefixes(self) -> set[str]:
        """The prefixes below which virtual chunks may be read."""
        return set(self._opening.authorized)

    async def _spec_version(self) -> SpecVersion:
        return SpecVersion((await self._opening.engine()).state.spec_version)

    @property
    def spec_version(self) -> SpecVersion:
        """The version of the format that the repository is of."""
        return run(self._spec_version)

    async def _save_config(self) -> None:
        """Store the settings that hold here in the repository."""
        values = config_values(self._opening.effective)
        await change_config(await self._opening.engine(), lambda _: values)

    async def _reopen(
        self,
        config: RepositoryConfig | None = None,
        authorize_virtual_chunk_access: Authorized | None = None,
    ) -> "Repository":
        """Open the repository again, with other settings or other authorizations."""
        opening = self._opening
        authorized = authorize_virtual_chunk_access
        repository = await _open(
            type(self),
            opening.storage,
            opening.config if config is None else config,
            opening.authorized if authorized is None else authorized,
            self._attribution,
        )
        repository.set_default_commit_metadata(self._commit_metadata)
        return repository

    def set_default_commit_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Give *metadata* to every commit of the sessions that are opened from now on."""
        self._commit_metadata = properties(metadata)

    def default_commit_metadata(self) -> dict[str, Any]:
        """Return what ``set_default_commit_metadata`` was given."""
        return dict(self._commit_metadata)

    async def _readonly_session(
        self,
        branch: str | None = None,
        *,
        tag: str | None = None,
        snapshot_id: str | None = None,
        as_of: datetime | None = None,
    ) -> Session:
        """Return a session that reads one version: one of the first three names it.

        With *as_of* it is the newest one on *branch* that was there at that time.
        """
        engine = await self._opening.fresh()
        found = await resolve(engine, branch, tag, snapshot_id, as_of)
        return await Session.open(self._opening, found)

    async def _writable_session(self, branch: str) -> Session:
        """Return a session that changes a branch."""
        return await self._changing(branch, SessionMode.writable)

    async def _rearrange_session(self, branch: str) -> Session:
        """Return a session that moves nodes and chunks of a branch.

        Raises:
            SessionStateError: the repository forbids moves.
        """
        return await self._changing(branch, SessionMode.rearrange)

    async def _changing(self, branch: str, mode: SessionMode) -> Session:
        engine = await self._opening.fresh()
        branch_tip(engine, branch)
        if mode is SessionMode.rearrange:
            with refusing(NotAllowedError, SessionStateError, ErrorKind.FEATURE_FLAG_DISABLED):
                check_moves(engine.state.info)
        metadata = self._commit_metadata
        return await Session.on_branch(self._opening, branch, mode, metadata)

    @contextmanager
    def transaction(
        self,
        branch: str,
        *,
        message: str,
        metadata: dict[str, Any] | None = None,
        rebase_with: ConflictSolver | None = None,
        rebase_tries: int = 1_000,
    ) -> Iterator[IcechunkStore]:
        """Give the block a store, and commit what it did when it ends without an error."""
        session = self.writable_session(branch)
        yield session.store
        session.commit(message, metadata, rebase_with=rebase_with, rebase_tries=rebase_tries)

    save_config, save_config_async = twins(_save_config)
    reopen, reopen_async = twins(_reopen)
    readonly_session, readonly_session_async = twins(_readonly_session)
    writable_session, writable_session_async = twins(_writable_session)
    rearrange_session, rearrange_session_async = twins(_rearrange_session)


def _unpickled(
    cls: type[Repository], opening: Opening, attribution: Attribution, metadata: Mapping[str, Any]
) -> Repository:
    repository = cls(opening, attribution)
    repository.set_default_commit_metadata(metadata)
    run(opening.engine)
    return repository
