"""An open repository as a program has it: the engine's, with the settings that were passed in."""

import os
import pickle
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final

from cachetools import LRUCache

from zfuse.api.config import RepositoryConfig
from zfuse.api.config_values import config_of, config_values
from zfuse.api.credentials import AnyCredential
from zfuse.api.error_kind import ErrorKind
from zfuse.api.exceptions import FormatError
from zfuse.api.opener import Containers
from zfuse.api.storage import Storage
from zfuse.cache.budget import MemoryBudget
from zfuse.format.config import RepositoryConfig as StoredConfig
from zfuse.format.repo_info import RepoInfo
from zfuse.repo.asset_manager import AssetManager
from zfuse.repo.repository import DEFAULT_BUDGET, Repository, RepositoryState, fetch_state
from zfuse.repo.virtual import AllowedPrefix, VirtualChunkResolver
from zfuse.storage.base import Storage as EngineStorage


class ConfiguredRepository(Repository):
    """A repository with the settings that a program passed in, on top of those it stores.

    ``effective`` are these settings in the words of the interface.
    """

    def __init__(
        self,
        storage: EngineStorage,
        assets: AssetManager,
        state: RepositoryState,
        passed: RepositoryConfig | None,
    ) -> None:
        self._passed = passed
        super().__init__(storage, assets, replace(state, config=self._combined(state.config)))

    def adopt(self, state: RepositoryState) -> None:
        """Take over what was read or written; settings stay unless those stored changed."""
        config = self.state.config
        if state.config is not config and state.config != self._stored:
            config = self._combined(state.config)
        super().adopt(replace(state, config=config))

    def _combined(self, stored: StoredConfig) -> StoredConfig:
        self._stored = stored
        own = config_of(stored)
        self.effective = own if self._passed is None else own.merge(self._passed)
        return StoredConfig.from_values(config_values(self.effective))


class AuthorizedChunks(VirtualChunkResolver):
    """Reads virtual chunks as far as the program authorized it."""

    way_to_allow: ClassVar[str] = (
        "pass authorize_virtual_chunk_access={{'{prefix}': ...}} when opening the repository"
    )
    way_to_credentials: ClassVar[str] = (
        "pass other credentials for {prefix} in authorize_virtual_chunk_access"
    )


@dataclass(slots=True)
class Opening:
    """How to open a repository, again in every process; this can be pickled.

    ``config`` holds the settings that the program passed in.
    """

    storage: Storage
    config: RepositoryConfig | None
    authorized: Mapping[str, AnyCredential | None]
    _engine: ConfiguredRepository | None = field(default=None, init=False, repr=False)
    _pid: int = field(default=0, init=False, repr=False)

    def __reduce__(self) -> tuple[Callable[..., "Opening"], tuple[object, ...]]:
        return _shared, (self.storage, self.config, self.authorized)

    @property
    def effective(self) -> RepositoryConfig:
        """The settings that hold: those passed in, on top of what the repository stores."""
        return RepositoryConfig() if self._engine is None else self._engine.effective

    async def engine(self) -> ConfiguredRepository:
        """Return the open repository of this process, as it was last read.

        Raises:
            RepositoryNotFoundError: there is none.
        """
        if self._engine is None or self._pid != os.getpid():
            self._engine = await self._open()
            self._pid = os.getpid()
        return self._engine

    async def fresh(self) -> ConfiguredRepository:
        """Return the open repository of this process, as it is now."""
        if self._engine is None or self._pid != os.getpid():
            return await self.engine()
        await self._engine.refresh()
        return self._engine

    async def _open(self) -> ConfiguredRepository:
        storage = await self.storage.open()
        state = await fetch_state(storage)
        allowed = [AllowedPrefix(prefix, prefix) for prefix in self.authorized]
        virtual = AuthorizedChunks({}, allowed, Containers(self.authorized))
        assets = AssetManager(storage, MemoryBudget(DEFAULT_BUDGET), virtual)
        repository = ConfiguredRepository(storage, assets, state, self.config)
        assets.declare_containers(repository.state.config.virtual_chunk_containers)
        return repository


def info_of(engine: ConfiguredRepository) -> RepoInfo:
    """Return the repo info of a repository.

    Raises:
        FormatError: it is of version 1, which has none.
    """
    info = engine.state.info
    if info is None:
        raise FormatError(
            "a repository of version 1 can not do this; upgrade it first",
            ErrorKind.UNSUPPORTED_SPEC_VERSION,
        )
    return info


_OPEN: Final = 16
_openings: Final[LRUCache[bytes, Opening]] = LRUCache(_OPEN)


def _shared(
    storage: Storage,
    config: RepositoryConfig | None,
    authorized: Mapping[str, AnyCredential | None],
) -> Opening:
    """Return one opening for all that come out of pickles alike.

    A task of a cluster brings its session along: without this, each would read the repository
    and its manifests anew.
    """
    key = pickle.dumps((storage, config, authorized))
    with _LOCK:
        found = _openings.get(key)
        if found is None:
            found = _openings[key] = Opening(storage, config, authorized)
        return found


_LOCK: Final = threading.Lock()
os.register_at_fork(
    before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release
)
