"""From settings to an open repository: storage, virtual containers, caches."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from zfuse.cache.budget import MemoryBudget
from zfuse.daemon.settings import MountSettings
from zfuse.errors import InvalidInputError
from zfuse.format.config import StoreConfig
from zfuse.repo.repository import Repository, fetch_state
from zfuse.repo.virtual import VirtualChunkResolver, store_options
from zfuse.storage.base import Storage
from zfuse.storage.open import StorageOpener
from zfuse.storage.options import StorageOptions
from zfuse.storage.retry import RetryingStorage


@dataclass(frozen=True, slots=True)
class Assembled:
    """An open repository, and every storage that was opened for it so far, its own first.

    ``virtual`` is what the repository reads virtual chunks with.
    """

    repository: Repository
    storages: list[RetryingStorage]
    virtual: VirtualChunkResolver


class Containers:
    """Opens the stores that virtual chunks lie in, and lists them in *opened*.

    Where the repository's configuration names an endpoint, region or style, that holds;
    whose credentials are sent is the choice of the person mounting.
    """

    def __init__(
        self, opener: StorageOpener, deadline_s: float, opened: list[RetryingStorage]
    ) -> None:
        self._opener = opener
        self._deadline_s = deadline_s
        self._opened = opened

    async def open_container(
        self, root: str, store: StoreConfig, credentials: str | None
    ) -> Storage:
        """Return the storage whose keys are the paths below *root*."""
        storage = await self._opener.open(
            root, container_options(store, credentials, self._deadline_s)
        )
        self._opened.append(storage)
        return storage


def container_options(
    store: StoreConfig, credentials: str | None, deadline_s: float
) -> StorageOptions:
    """Return how to reach a container, with *credentials* as AllowedPrefix has them.

    Raises:
        InvalidInputError: there is no such kind of credentials.
    """
    told = store_options(store)
    options = StorageOptions(
        endpoint_url=told.get("endpoint_url"),
        region=told.get("region"),
        anonymous=bool(told.get("anonymous")),
        force_path_style=bool(told.get("force_path_style")),
        requester_pays=bool(told.get("requester_pays")),
        deadline_s=deadline_s,
    )
    match (credentials or "").partition(":"):
        case ("", _, _):
            # A stranger's repository must not have credentials sent to a host of its choice.
            return options if options.endpoint_url is None else replace(options, anonymous=True)
        case ("anonymous", "", _):
            return replace(options, anonymous=True)
        case ("env", "", _):
            return replace(options, anonymous=False)
        case ("profile", _, name):
            return replace(options, anonymous=False, profile=name)
        case _:
            raise InvalidInputError(f"{credentials!r} are no credentials; see zfuse mount --help")


@asynccontextmanager
async def open_repository(settings: MountSettings) -> AsyncIterator[Repository]:
    """Open the repository that *settings* name; see ``assembled``."""
    async with assembled(settings) as parts:
        yield parts.repository


@asynccontextmanager
async def assembled(settings: MountSettings) -> AsyncIterator[Assembled]:
    """Open the repository that *settings* name, and close its storages after the block.

    Raises:
        RepositoryNotFoundError: there is none.
    """
    async with StorageOpener() as opener:
        storage = await opener.open(settings.repository, settings.storage)
        storages = [storage]
        state = await fetch_state(storage)
        virtual = VirtualChunkResolver(
            state.config.virtual_chunk_containers,
            settings.allow_virtual,
            Containers(opener, settings.deadline_s, storages),
        )
        repository = await Repository.open(
            storage, budget=MemoryBudget(settings.memory_bytes), virtual=virtual, state=state
        )
        yield Assembled(repository, storages, virtual)
