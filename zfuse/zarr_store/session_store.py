"""The store of a session as zarr-python asks for it.

zarr calls it from an event loop of its own, the work is done in the trio world. Errors are
those of zfuse, but for what zarr expects of every store: a FileNotFoundError where there is no
size to tell, a TypeError for what is no buffer and no range. A subclass that has other errors
translates them in ``_run`` and ``_run_async``, through which all work passes.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from functools import partial
from typing import Literal, Protocol, Self

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from zfuse.errors import ReadOnlyStoreError
from zfuse.portal import run, run_async
from zfuse.repo.workspace import Workspace
from zfuse.zarr_store.keyed import KeyedWorkspace
from zfuse.zarr_store.keys import is_document
from zfuse.zarr_store.listing import chunk_keys, key_of
from zfuse.zarr_store.ranges import check_request


class Owner(Protocol):
    """What a store belongs to: a session, or something like one.

    It is asked in the thread of the caller, so it may block. Stores are equal where their
    owners are, and can be pickled where their owners can.
    """

    @property
    def workspace(self) -> Workspace:
        """The nodes and chunks that the store shows."""
        ...

    @property
    def read_only(self) -> bool:
        """Whether nothing may be changed."""
        ...


class SessionStore(Store):
    """The nodes and chunks of a session under the keys of Zarr v3."""

    def __init__(self, owner: Owner, read_only: bool | None = None) -> None:  # noqa: FBT001 - as zarr
        """Show *owner*; *read_only* where it says so, or *owner* if it is None."""
        super().__init__(read_only=owner.read_only if read_only is None else read_only)
        self._owner = owner

    @property
    def session(self) -> Owner:
        """The session that this shows."""
        return self._owner

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SessionStore) and self._owner == other._owner

    __hash__ = None  # type: ignore[assignment]  # equal stores may go on to differ

    def __repr__(self) -> str:
        kind = "read-only" if self.read_only else "writable"
        return f"<{type(self).__name__} of {self._owner!r}, {kind}>"

    __str__ = __repr__

    @property
    def supports_writes(self) -> bool:
        """Whether the session takes changes."""
        return not self._owner.read_only

    @property
    def supports_deletes(self) -> bool:
        """Whether the session takes changes."""
        return not self._owner.read_only

    @property
    def supports_listing(self) -> bool:
        """Whether keys can be listed: always."""
        return True

    @property
    def supports_partial_writes(self) -> Literal[False]:
        """Whether parts of a value can be set: never."""
        return False

    @property
    def supports_consolidated_metadata(self) -> bool:
        """Whether zarr may gather metadata in one place: they are that already."""
        return False

    @property
    def _supports_sync_io(self) -> bool:
        """Whether zarr may read chunks in few threads that each wait for their bytes."""
        # From far away that takes longer than many requests at the same time.
        url = self._owner.workspace.repository.storage.url
        return "://" not in url or url == "memory://"

    def with_read_only(self, read_only: bool = False) -> Self:  # noqa: FBT001, FBT002 - zarr's
        """Return another store of the same session."""
        return type(self)(self._owner, read_only or self._owner.read_only)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return what is under *key*, as far as *byte_range* reaches, None for nothing.

        Ranges end where the value does.

        Raises:
            ZfuseError: there is something, but it can not be read.
        """
        check_request(byte_range)
        if byte_range is None and is_document(key):
            data = self._keyed.document(key)  # nothing to wait for, which to tell takes longer
        else:
            data = await self._run_async(partial(self._keyed.get, key, byte_range))
        return None if data is None else prototype.buffer.from_bytes(data)

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Do what ``get`` does, and wait for it."""
        check_request(byte_range)
        data = self._run(partial(self._keyed.get, key, byte_range))
        prototype = prototype or default_buffer_prototype()
        return None if data is None else prototype.buffer.from_bytes(data)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return what is under many keys, or parts of it, in their order."""
        wanted = list(key_ranges)
        for _, byte_range in wanted:
            check_request(byte_range)
        found = await self._run_async(partial(self._keyed.get_many, wanted))
        return [None if data is None else prototype.buffer.from_bytes(data) for data in found]

    async def exists(self, key: str) -> bool:
        """Tell whether there is something under *key*."""
        return await self._run_async(partial(self._keyed.size, key)) is not None

    async def getsize(self, key: str) -> int:
        """Return how many bytes are under *key*.

        Raises:
            FileNotFoundError: there is nothing.
        """
        size = await self._run_async(partial(self._keyed.size, key))
        if size is None:
            raise FileNotFoundError(key)
        return size

    async def getsize_prefix(self, prefix: str) -> int:
        """Return how many bytes lie below the directory *prefix*."""
        return await self._run_async(partial(self._keyed.total_size, prefix))

    async def set(self, key: str, value: Buffer) -> None:
        """Store *value* under *key*.

        Raises:
            AlreadyExistsError: it would turn a group into an array, or the reverse.
            InvalidInputError: the repository can not hold that.
            NotFoundError: it is a chunk, but its array does not exist.
            ReadOnlyStoreError: the store takes no changes.
        """
        await self._run_async(partial(self._writing.set, key, _bytes(value)))

    def set_sync(self, key: str, value: Buffer) -> None:
        """Do what ``set`` does, and wait for it."""
        self._run(partial(self._writing.set, key, _bytes(value)))

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Do what ``set`` does unless there is something under *key*."""
        await self._run_async(partial(self._writing.set_if_absent, key, _bytes(value)))

    async def delete(self, key: str) -> None:
        """Remove what is under *key*: of a group all below it, of an array all its chunks.

        Raises:
            ReadOnlyStoreError: the store takes no changes.
        """
        await self._run_async(partial(self._writing.delete, key))

    def delete_sync(self, key: str) -> None:
        """Do what ``delete`` does, and wait for it."""
        self._run(partial(self._writing.delete, key))

    async def delete_dir(self, prefix: str) -> None:
        """Remove all that lies below the directory *prefix*, an empty one for everything."""
        await self._run_async(partial(self._writing.delete_directory, prefix))

    async def clear(self) -> None:
        """Remove everything from the session; what is committed stays in its history."""
        await self.delete_dir("")

    def sync_clear(self) -> None:
        """Do what ``clear`` does, and wait for it."""
        self._run(partial(self._writing.delete_directory, ""))

    async def is_empty(self, prefix: str) -> bool:
        """Tell whether nothing lies below the directory *prefix*."""
        return await self._run_async(partial(self._keyed.is_empty, prefix))

    def list(self) -> AsyncGenerator[str]:
        """Yield all keys."""
        return self.list_prefix("")

    async def list_prefix(self, prefix: str) -> AsyncGenerator[str]:
        """Yield the keys below the directory *prefix*, in no particular order."""
        keyed = self._keyed
        for path in await self._run_async(partial(keyed.nodes, prefix)):
            yield key_of(path)
        for place in await self._run_async(partial(keyed.places, prefix)):
            coords = await self._run_async(partial(keyed.chunk_coords, place))
            for batch in () if coords is None else chunk_keys(place, coords):
                for key in batch:
                    yield key

    async def list_dir(self, prefix: str) -> AsyncGenerator[str]:
        """Yield the names directly below *prefix*, of keys and of directories that lead to some."""
        for name in await self._run_async(partial(self._keyed.directory, prefix)):
            yield name

    @property
    def _keyed(self) -> KeyedWorkspace:
        return KeyedWorkspace(self._owner.workspace)

    @property
    def _writing(self) -> KeyedWorkspace:
        self._check_writable()
        return self._keyed

    def _check_writable(self) -> None:
        if self.read_only:
            raise ReadOnlyStoreError(
                "this store was opened in read-only mode and does not support writing"
            )

    def _run[R](self, work: Callable[[], Awaitable[R]]) -> R:
        """Do *work* in the trio world and wait for it."""
        return run(work)

    async def _run_async[R](self, work: Callable[[], Awaitable[R]]) -> R:
        """Do *work* in the trio world and await it in asyncio."""
        return await run_async(work)


def _bytes(value: Buffer) -> bytes:
    if not isinstance(value, Buffer):
        raise TypeError(f"IcechunkStore.set(): `value` must be a Buffer, not a {type(value)}")
    return value.to_bytes()
