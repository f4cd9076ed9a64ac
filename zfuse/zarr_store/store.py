"""The store of a session with all methods of the official library's: virtual references, too."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from zfuse.errors import InvalidInputError
from zfuse.zarr_store.session_store import SessionStore
from zfuse.zarr_store.virtual_refs import (
    U64,
    Checksum,
    ChunkBatch,
    VirtualChunk,
    VirtualColumns,
    batches,
    columns_of,
    grid_columns,
)

Failed = list[tuple[int, ...]] | None
_Setting = Callable[[], Awaitable[Failed]]


class IcechunkStore(SessionStore):
    """The nodes and chunks of a session under the keys of Zarr v3."""

    def set_virtual_ref(
        self,
        key: str,
        location: str,
        *,
        offset: int,
        length: int,
        checksum: Checksum = None,
        validate_container: bool = True,
    ) -> None:
        """Make *length* bytes at *offset* of the file at *location*, a URL, the chunk of *key*.

        *checksum* is what the etag of the file has to be when it is read, or a time after which
        it must not have changed. *validate_container* refuses a location outside of all virtual
        chunk containers, where nobody can read it.

        Raises:
            InvalidInputError: it lies in no container, is no URL, or the array has no such chunk.
            NotAllowedError: *key* is not that of a chunk.
            NotFoundError: there is no such array.
        """
        columns = _one(location, offset, length, checksum)
        self._run(partial(self._writing.set_virtual_ref, key, columns, validate=validate_container))

    async def set_virtual_ref_async(
        self,
        key: str,
        location: str,
        *,
        offset: int,
        length: int,
        checksum: Checksum = None,
        validate_container: bool = True,
    ) -> None:
        """Do what ``set_virtual_ref`` does."""
        columns = _one(location, offset, length, checksum)
        await self._run_async(
            partial(self._writing.set_virtual_ref, key, columns, validate=validate_container)
        )

    def set_virtual_refs(
        self, array_path: str, chunks: Iterable[VirtualChunk], *, validate_containers: bool = True
    ) -> Failed:
        """Make virtual references chunks of an array.

        Returns the indices of those that lie in no virtual chunk container, and are left out;
        None if there are none. Unless *validate_containers* nobody looks.

        Raises:
            InvalidInputError: a location is no URL, or the array has no such chunk; none is set.
            NotFoundError: there is no such array.
        """
        return self._run(self._setting(array_path, columns_of(chunks), validate_containers))

    async def set_virtual_refs_async(
        self, array_path: str, chunks: Iterable[VirtualChunk], *, validate_containers: bool = True
    ) -> Failed:
        """Do what ``set_virtual_refs`` does."""
        columns = columns_of(chunks)
        return await self._run_async(self._setting(array_path, columns, validate_containers))

    def set_virtual_refs_arr(  # noqa: PLR0913 - the official signature
        self,
        array_path: str,
        chunk_grid_shape: tuple[int, ...],
        locations: Sequence[str],
        offsets: U64,
        lengths: U64,
        *,
        validate_containers: bool = True,
        arr_offset: tuple[int, ...] | None = None,
        checksum: Checksum = None,
    ) -> Failed:
        """Make a whole box of virtual references chunks of an array, given in C order.

        The box has *chunk_grid_shape* chunks along each dimension and begins at *arr_offset*.
        A location of ``""`` is no chunk. All have one *checksum*. Returns what
        ``set_virtual_refs`` returns.

        Raises:
            InvalidInputError: a location is no URL, or the array has no such chunk; none is set.
            NotFoundError: there is no such array.
            ValueError: the lengths of the columns differ, or do not fit the box.
        """
        extents = (_u64(offsets), _u64(lengths))
        columns = grid_columns(chunk_grid_shape, arr_offset, locations, extents, checksum)
        return self._run(self._setting(array_path, columns, validate_containers))

    async def set_virtual_refs_arr_async(  # noqa: PLR0913 - the official signature
        self,
        array_path: str,
        chunk_grid_shape: tuple[int, ...],
        locations: Sequence[str],
        offsets: U64,
        lengths: U64,
        *,
        validate_containers: bool = True,
        arr_offset: tuple[int, ...] | None = None,
        checksum: Checksum = None,
    ) -> Failed:
        """Do what ``set_virtual_refs_arr`` does."""
        extents = (_u64(offsets), _u64(lengths))
        columns = grid_columns(chunk_grid_shape, arr_offset, locations, extents, checksum)
        return await self._run_async(self._setting(array_path, columns, validate_containers))

    async def array_chunk_iterator(
        self, array_path: str, batch_size: int = 100_000
    ) -> AsyncGenerator[ChunkBatch]:
        """Yield where the chunks of an array are, in batches of up to *batch_size*.

        Raises:
            ContainerNotAllowedError: a location names a container that does not exist.
            CorruptionError: a reference says nowhere where its chunk is.
            NotFoundError: there is no such array.
        """
        found = await self._run_async(partial(self._keyed.chunk_columns, array_path))
        for batch in () if found is None else batches(found, batch_size):
            yield batch

    def _setting(self, path: str, columns: VirtualColumns, validate: bool) -> _Setting:  # noqa: FBT001
        return partial(self._writing.set_virtual_refs, path, columns, validate=validate)


def _one(location: str, offset: int, length: int, checksum: Checksum) -> VirtualColumns:
    return VirtualColumns(
        np.empty((1, 0), np.uint32), [location], _u64([offset]), _u64([length]), [checksum]
    )


def _u64(numbers: Any) -> U64:  # noqa: ANN401 - whatever numpy makes an array of
    found = np.asarray(numbers)
    if found.size and int(found.min()) < 0:
        raise InvalidInputError("offsets and lengths of virtual chunks are not negative")
    return found.astype(np.uint64)
