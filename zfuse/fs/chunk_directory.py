"""The directories between an array and its chunk files."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np

from zfuse.errors import StaleError
from zfuse.format.chunk_names import read_numbers
from zfuse.format.snapshot import ArrayNode
from zfuse.fs.array_chunks import ArrayChunks, array_chunks
from zfuse.fs.chunk_file import ChunkFile
from zfuse.fs.entry import (
    Caching,
    ChainedListing,
    Directory,
    Entry,
    FixedListing,
    InodeGroup,
    Listing,
)
from zfuse.fs.inodes import INDEX_BITS
from zfuse.repo.chunks import ChunkRows
from zfuse.repo.provenance import Provenance

_LEVEL_BITS = 5
_PREFIX_LIMIT = 1 << (INDEX_BITS - _LEVEL_BITS)


@dataclass(frozen=True)
class ChunkDirectory(Directory):
    """A directory on the way to chunk files; level 0 is that of the array itself."""

    array: ArrayChunks
    level: int
    prefix: tuple[int, ...]

    @property
    def place(self) -> tuple[InodeGroup, int] | None:
        """Numbered with the other directories of the array."""
        number = self.array.fold(self.prefix, _PREFIX_LIMIT)
        if number is None or self.level >= 1 << _LEVEL_BITS:
            return None
        return _DirectoryGroup(self.array), self.level * _PREFIX_LIMIT + number

    @property
    def mtime_ns(self) -> int:
        """That of the snapshot shown."""
        return self.array.tree.mtime_ns

    @property
    def caching(self) -> Caching:
        """As the tree allows."""
        return self.array.tree.caching

    def describe(self) -> str:
        """Return ref and path."""
        names = [self.array.names.directory_name(n + 1, self.prefix) for n in range(self.level)]
        return "/".join([f"{self.array.tree.ref}{self.array.path.rstrip('/')}", *names])

    async def lookup(self, name: str) -> Entry | None:
        """Return the chunk file or directory called *name*."""
        return await (await self._level_now()).lookup(name)

    async def listing(self) -> Listing:
        """Return the chunks, or the directories that lead to some."""
        level = await self._level_now()
        listing = await level.listing()
        odd = await level.odd_items(level.shows)
        return ChainedListing([listing, FixedListing(odd)]) if odd else listing

    async def _level_now(self) -> "ChunkLevel":
        """Return what the tree shows here now."""
        names, array = self.array.names, self.array
        below = tuple(names.directory_name(n + 1, self.prefix) for n in range(self.level))
        view = await array.tree.view()
        node = view.node(array.path)
        if node is array.node and array.rank == len(array.node.shape):
            return ChunkLevel(array, below)
        now = None
        if isinstance(node, ArrayNode) and node.id == array.node_id:
            now = array_chunks(array.tree, view, node, array.nursery)
        if now is None:
            raise StaleError(f"{self.describe()} is no longer what it was")
        return ChunkLevel(now, below)


@dataclass(frozen=True)
class ChunkLevel:
    """A directory at or below an array, and what of the array's chunks it shows.

    ``array`` is of the array's own rank; ``below`` are the names that lead here from it.

    Official writers take chunks whose index is of another rank than their array, and show
    them as they show the others. Here these *odd* ones are shown where nothing else has the
    name. No question about them loads a manifest that the one about the others did not.
    """

    array: ArrayChunks
    below: tuple[str, ...]

    async def lookup(self, name: str) -> Entry | None:
        """Return the chunk file or directory called *name*."""
        return await self.chunk(name) or await self.way(name) or await self.odd(name)

    async def shows(self, name: str) -> bool:
        """Tell whether *name* is a chunk of the array's rank, or leads to one."""
        return await self.chunk(name) is not None or await self.way(name) is not None

    async def chunk(self, name: str) -> ChunkFile | None:
        """Return the chunk of the array's rank that is called *name*."""
        names = self.array.names
        if len(self.below) != names.depth:
            return None
        prefix = names.find_directory(self.below)
        coords = None if prefix is None else names.leaf(prefix, name)
        if coords is None:
            return None
        ref = await self.array.tree.chunks.find(self.array.node, coords)
        if ref is None:
            return None
        provenance = await self.array.tree.provenance()
        origin = provenance.of_chunk(self.array.node_id, coords)
        return ChunkFile(self.array, coords, origin, ref)

    async def way(self, name: str) -> ChunkDirectory | None:
        """Return the directory called *name* if it leads to chunks of the array's rank."""
        path = (*self.below, name)
        prefix = self.array.names.find_directory(path)
        if prefix is None or not await self._leads_anywhere(prefix):
            return None
        return ChunkDirectory(self.array, len(path), prefix)

    async def odd(self, name: str) -> Entry | None:
        """Return the chunk of another rank, or the directory to some, that is called *name*."""
        path = (*self.below, name)
        for rank in await self._odd_ranks(path):
            level = ChunkLevel(self.array.of_rank(rank), self.below)
            chunk = await level.chunk(name)
            if chunk is not None:
                return chunk
            way = await level.way(name)
            if way is not None:
                # Should chunks of the array's rank join it one day, it is the same directory.
                own = self.array.names.find_directory(path)
                return way if own is None else ChunkDirectory(self.array, len(path), own)
        return None

    async def listing(self) -> Listing:
        """Return the chunks of the array's rank, or the directories that lead to some."""
        array, names, level = self.array, self.array.names, len(self.below)
        prefix = names.find_directory(self.below)
        if prefix is None:
            return FixedListing([])
        if self._has_fixed_name(prefix):
            child = ChunkDirectory(array, level + 1, prefix)
            there = await self._leads_anywhere(prefix)
            return FixedListing([(names.directory_name(level + 1, prefix), child)] if there else [])
        rows = await array.tree.chunks.rows(array.node, prefix, array.rank)
        if level < names.depth:
            return _DirectoryListing(array, level, prefix, rows)
        # Pinned with the rows: an old listing must not name new origins after a refresh.
        return _FileListing(array, rows, await array.tree.provenance())

    async def odd_items(
        self, is_taken: Callable[[str], Awaitable[bool]]
    ) -> list[tuple[str, Entry]]:
        """Return what ``odd`` finds under names that are not taken otherwise."""
        found: dict[str, Entry] = {}
        async for name in self._odd_names():
            if name in found or await is_taken(name):
                continue
            entry = await self.odd(name)
            if entry is not None:
                found[name] = entry
        return list(found.items())

    async def _odd_names(self) -> AsyncIterator[str]:
        prefix = self.array.names.find_directory(self.below)
        if prefix is not None and self._has_fixed_name(prefix):
            # Whatever their rank, all chunks have that name or are behind it.
            yield self.array.names.directory_name(len(self.below) + 1, prefix)
            return
        for rank in await self._odd_ranks(self.below):
            listing = await ChunkLevel(self.array.of_rank(rank), self.below).listing()
            async for name in _names(listing):
                yield name

    def _has_fixed_name(self, prefix: tuple[int, ...]) -> bool:
        level, names = len(self.below), self.array.names
        return level < names.depth and names.known(level + 1) == len(prefix)

    async def _leads_anywhere(self, prefix: tuple[int, ...]) -> bool:
        node, rank = self.array.node, self.array.rank
        # Official writers leave no manifest without references, and give none an extent where
        # all its indices are empty.
        own = rank == len(node.shape)
        if own and not prefix and any(manifest.extents for manifest in node.manifests):
            return True
        return await self.array.tree.chunks.has_any(node, prefix, rank)

    async def _odd_ranks(self, path: tuple[str, ...]) -> Sequence[int]:
        numbers = read_numbers(self.array.names.encoding, path)
        if numbers is None:
            return ()
        return await self.array.tree.chunks.odd_ranks(self.array.node, numbers)


async def _names(listing: Listing) -> AsyncIterator[str]:
    position = 0
    while position < len(listing):
        items = await listing.items(position, position + 1000)
        position += len(items)
        for name, _, _ in items:
            yield name


class _DirectoryListing(Listing):
    """The distinct next numbers of the indices below a directory."""

    def __init__(
        self, array: ArrayChunks, level: int, prefix: tuple[int, ...], rows: Sequence[ChunkRows]
    ) -> None:
        self._array = array
        self._level = level
        self._prefix = prefix
        axis = len(prefix)
        pieces = [np.unique(r.references.coords(r.start, r.stop)[:, axis]) for r in rows]
        self._numbers = np.unique(np.concatenate(pieces)) if pieces else np.empty(0, np.uint32)

    def __len__(self) -> int:
        return len(self._numbers)

    async def items(self, start: int, stop: int) -> Sequence[tuple[str, Entry, int]]:
        """Return a piece of the listing."""
        found: list[tuple[str, Entry, int]] = []
        for number in self._numbers[start:stop].tolist():
            prefix = (*self._prefix, number)
            name = self._array.names.directory_name(self._level + 1, prefix)
            found.append((name, ChunkDirectory(self._array, self._level + 1, prefix), 4096))
        return found


class _FileListing(Listing):
    """Chunks in the order of the manifests that hold their references."""

    def __init__(
        self, array: ArrayChunks, rows: Sequence[ChunkRows], provenance: Provenance
    ) -> None:
        self._array = array
        self._rows = rows
        self._provenance = provenance
        self._ends = np.cumsum([r.stop - r.start for r in rows], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    async def items(self, start: int, stop: int) -> Sequence[tuple[str, Entry, int]]:
        """Return a piece of the listing; it ends early where a manifest does."""
        run = int(np.searchsorted(self._ends, start, side="right"))
        if run >= len(self._rows):
            return []
        rows = self._rows[run]
        first = rows.stop - int(self._ends[run]) + start
        last = min(first + stop - start, rows.stop)
        coords = rows.references.coords(first, last)
        sizes = rows.references.sizes(first, last).tolist()
        provenance = self._provenance
        origins = provenance.of_chunks(self._array.node_id, coords)
        named = coords.tolist()
        names = self._array.names.leaf_names(named)
        if origins is None:
            which = [provenance.origins[-1]] * len(named)
        else:
            which = [provenance.origins[n] for n in origins]
        return [
            (name, ChunkFile(self._array, tuple(index), origin), size)
            for name, index, origin, size in zip(names, named, which, sizes, strict=True)
        ]


@dataclass(frozen=True)
class _DirectoryGroup(InodeGroup):
    array: ArrayChunks

    def entry_at(self, index: int) -> "ChunkDirectory":
        level, number = divmod(index, _PREFIX_LIMIT)
        prefix = self.array.unfold(number, self.array.names.known(level))
        return ChunkDirectory(self.array, level, prefix)
