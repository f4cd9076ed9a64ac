"""Reading and changing a session by the keys of a Zarr store, in the trio world.

Semantics are those of the official store, but for its faults: a key has one spelling, ranges
end where the value does, chunks have the names that their array gives them, and what a
reader can not have is absent instead of an error only where it really is not there.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
import trio
from zarr.abc.store import ByteRequest

from zfuse.errors import InvalidInputError, NotAllowedError
from zfuse.format.chunk_ref import ChunkRef
from zfuse.format.ref_columns import RefColumns
from zfuse.format.snapshot import ArrayNode
from zfuse.repo.at_once import at_once
from zfuse.repo.virtual import DeclaredContainers
from zfuse.repo.workspace import Workspace
from zfuse.zarr_store.keys import METADATA, ChunkKey, MetadataKey, parse_key, refused
from zfuse.zarr_store.listing import (
    U32,
    ChunkPlace,
    chunk_directories,
    chunk_places,
    directory_path,
    names_in,
    nodes_below,
    references,
)
from zfuse.zarr_store.ranges import byte_range
from zfuse.zarr_store.virtual_refs import VirtualColumns, checked, with_urls

_AT_ONCE: Final = 64

WHOLE_CHUNK_MAX: Final = 8 << 20
"""Larger chunks are fetched in blocks, several at a time."""

LARGE_BLOCK: Final = 1 << 20
RANGE_BLOCK: Final = 64 << 10
"""What is fetched for a range: its neighbours in a shard are often asked for next."""


@dataclass(frozen=True, slots=True)
class KeyedWorkspace:
    """A workspace by keys."""

    workspace: Workspace

    def document(self, key: str) -> bytes | None:
        """Return the zarr.json under *key*, None if there is none.

        Of all methods this one alone may be called in any thread: it takes one look at one
        dict. A node that moves meanwhile may be at neither place.
        """
        found = parse_key(self.workspace.tree, key)
        node = self.workspace.node(found.path) if isinstance(found, MetadataKey) else None
        return None if node is None else node.user_data

    async def get(self, key: str, request: ByteRequest | None = None) -> bytes | None:
        """Return what is under *key*, or the bytes that *request* asks for, None for nothing.

        Raises:
            ZfuseError: there is something, but it can not be read.
        """
        match parse_key(self.workspace.tree, key):
            case MetadataKey(path):
                node = self.workspace.node(path)
                return None if node is None else _cut(node.user_data, request)
            case ChunkKey() as chunk:
                ref = await self._find(chunk)
                return None if ref is None else await self._read(ref, request)
            case None:
                return None

    async def get_many(
        self, wanted: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[bytes | None]:
        """Return what is under many keys, in their order."""
        wanted = list(wanted)
        found: list[bytes | None] = [None] * len(wanted)

        async def get(place: int) -> None:
            found[place] = await self.get(*wanted[place])

        await at_once((partial(get, place) for place in range(len(wanted))), most=_AT_ONCE)
        return found

    async def size(self, key: str) -> int | None:
        """Return how many bytes are under *key*, None if nothing is."""
        match parse_key(self.workspace.tree, key):
            case MetadataKey(path):
                node = self.workspace.node(path)
                return None if node is None else len(node.user_data)
            case ChunkKey() as chunk:
                ref = await self._find(chunk)
                return None if ref is None else ref.size
            case None:
                return None

    async def set(self, key: str, data: bytes) -> None:
        """Store *data* under *key*.

        Raises:
            AlreadyExistsError: it would turn a group into an array, or the reverse.
            InvalidInputError: the repository can not hold that.
            NotFoundError: it is a chunk, but its array does not exist.
        """
        match parse_key(self.workspace.tree, key):
            case MetadataKey(path):
                await self.workspace.set_metadata(path, data)
            case ChunkKey(array, coords):
                await self.workspace.set_chunk(array.path, coords, data)
            case None:
                raise refused(self.workspace.tree, key)

    async def set_if_absent(self, key: str, data: bytes) -> None:
        """Do the same unless there is something under *key*, or comes while this is stored."""
        if await self.size(key) is not None:
            return
        chunk = parse_key(self.workspace.tree, key)
        if not isinstance(chunk, ChunkKey):
            await self.set(key, data)
            return
        ref = await self.workspace.store_chunk(data)
        if await self._find(chunk) is None:
            await self.workspace.set_chunk_ref(chunk.array.path, chunk.coords, ref)

    async def set_virtual_ref(self, key: str, columns: VirtualColumns, *, validate: bool) -> None:
        """Make the one virtual reference of *columns*, whatever its index, the chunk of *key*.

        Raises:
            InvalidInputError: it lies in no container, or the array can not have such a chunk.
            NotAllowedError: *key* is not that of a chunk.
            NotFoundError: there is no such array.
        """
        chunk = parse_key(self.workspace.tree, key)
        if chunk is None:
            raise refused(self.workspace.tree, key)
        if isinstance(chunk, MetadataKey):
            raise NotAllowedError(f"{key} is no chunk; set a zarr.json with the method set")
        columns = replace(columns, coords=np.array([chunk.coords], np.uint32))
        if await self.set_virtual_refs(chunk.array.path, columns, validate=validate):
            raise InvalidInputError(
                f"{columns.locations[0]} lies in no virtual chunk container of this repository;"
                " declare one first"
            )

    async def set_virtual_refs(
        self, path: str, columns: VirtualColumns, *, validate: bool
    ) -> list[tuple[int, ...]] | None:
        """Make virtual references chunks of an array, all that lie in a container or none.

        Returns the indices of those that lie in no container, if *validate*; None if all do.

        Raises:
            InvalidInputError: the array can not have one of the chunks; none of them is set.
            NotFoundError: there is no such array.
        """
        config = self.workspace.repository.state.config
        containers = DeclaredContainers(config.virtual_chunk_containers) if validate else None
        refs, failed = await trio.to_thread.run_sync(checked, columns, containers)
        array_path = "/" + path.strip("/")
        if len(refs):
            await self.workspace.set_chunk_refs(array_path, refs)
        else:
            self.workspace.tree.array(array_path)
        return failed or None

    async def chunk_columns(self, path: str) -> RefColumns | None:
        """Return the references of all chunks of an array, with their locations as URLs.

        Raises:
            ContainerNotAllowedError: a location names a container that does not exist.
            NotFoundError: there is no such array.
        """
        array = self.workspace.tree.array("/" + path.strip("/"))
        found = await references(self.workspace, array)
        if found is None:
            return None
        config = self.workspace.repository.state.config
        containers = DeclaredContainers(config.virtual_chunk_containers)
        return await trio.to_thread.run_sync(with_urls, found, containers)

    async def delete(self, key: str) -> None:
        """Remove what is under *key*: of a group all below it, of an array all its chunks."""
        match parse_key(self.workspace.tree, key):
            case MetadataKey(path):
                await self.workspace.delete(path)
            case ChunkKey(array, coords) as chunk:
                # Counts as a change where no chunk is, too: the fill value has been written.
                if chunk.is_in_grid:
                    await self.workspace.delete_chunk(array.path, coords)
            case None:
                return

    async def delete_directory(self, prefix: str) -> None:
        """Remove all that lies below *prefix*, an empty one for everything."""
        path = directory_path(prefix)
        if path is None:
            return
        for place in chunk_directories(self.workspace.tree, path):
            found = await references(self.workspace, place.array, place.prefix)
            if found is not None:
                await self.workspace.delete_chunks(place.array.path, found.coords)
        for node_path in nodes_below(self.workspace.tree, path):
            await self.workspace.delete_node(node_path)

    async def nodes(self, prefix: str) -> list[str]:
        """Return the paths of all nodes below *prefix*, and of the one that it names."""
        path = directory_path(prefix)
        return [] if path is None else nodes_below(self.workspace.tree, path)

    async def places(self, prefix: str) -> list[ChunkPlace]:
        """Return where below *prefix* chunks may be."""
        path = directory_path(prefix)
        return [] if path is None else chunk_places(self.workspace.tree, path)

    async def chunk_coords(self, place: ChunkPlace) -> U32 | None:
        """Return the indices (n, rank) of the chunks at *place*, None if there are none."""
        found = await references(self.workspace, place.array, place.prefix)
        return None if found is None else found.coords

    async def is_empty(self, prefix: str) -> bool:
        """Tell whether no key lies below *prefix*."""
        if await self.nodes(prefix):
            return False
        for place in await self.places(prefix):
            if await references(self.workspace, place.array, place.prefix) is not None:
                return False
        return True

    async def directory(self, prefix: str) -> list[str]:
        """Return the names directly below *prefix*, of keys and of what leads to keys."""
        path = directory_path(prefix)
        if path is None:
            return []
        tree = self.workspace.tree
        found = dict.fromkeys([METADATA] if path in tree.nodes else [])
        found |= dict.fromkeys(tree.children(path))
        node, places = tree.nodes.get(path), chunk_directories(tree, path)
        if isinstance(node, ArrayNode):
            places += [p for p in chunk_places(tree, path) if p.array is node]
        for place in places:
            chunks = await references(self.workspace, place.array, place.prefix)
            if chunks is not None:
                found |= dict.fromkeys(names_in(place, chunks.coords))
        return list(found)

    async def total_size(self, prefix: str) -> int:
        """Return how many bytes lie below *prefix*."""
        total = 0
        for path in await self.nodes(prefix):
            node = self.workspace.node(path)
            total += 0 if node is None else len(node.user_data)
        for place in await self.places(prefix):
            found = await references(self.workspace, place.array, place.prefix)
            total += 0 if found is None else int(found.sizes.sum())
        return total

    async def _find(self, chunk: ChunkKey) -> ChunkRef | None:
        if not chunk.is_in_grid:
            return None
        return await self.workspace.chunk_ref(chunk.array.path, chunk.coords)

    async def _read(self, ref: ChunkRef, request: ByteRequest | None) -> bytes:
        wanted = byte_range(request, ref.size)
        if request is not None:
            block = RANGE_BLOCK
        else:
            block = LARGE_BLOCK if ref.size > WHOLE_CHUNK_MAX else max(ref.size, 1)
        return await self.workspace.repository.assets.read_chunk(ref, wanted, block=block)


def _cut(data: bytes, request: ByteRequest | None) -> bytes:
    wanted = byte_range(request, len(data))
    return data[wanted.start : wanted.stop]
