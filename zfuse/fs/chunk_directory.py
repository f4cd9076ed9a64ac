"""The chunk files of an array, and the directories between them and it.

They are numbered by arithmetic: a chunk's index along all dimensions but the first is
folded by their lengths in chunks into one number. The first dimension's length plays no
part in it, so that an array can grow along it (time, as a rule) without renumbering.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import trio

from zfuse.errors import NotFoundError
from zfuse.format.chunk_ref import ChunkRef, InlineRef, NativeRef, VirtualRef
from zfuse.format.ids import NodeId
from zfuse.format.snapshot import ArrayNode
from zfuse.fs.chunk_names import ChunkNames
from zfuse.fs.content import ChunkContent
from zfuse.fs.entry import (
    Caching,
    Content,
    Directory,
    Entry,
    File,
    FixedListing,
    InodeGroup,
    Listing,
)
from zfuse.fs.inodes import INDEX_BITS, INDEX_LIMIT
from zfuse.fs.tree import Tree
from zfuse.repo.chunks import ChunkRows
from zfuse.repo.provenance import Origin, Provenance
from zfuse.repo.view import HierarchyView

_LEVEL_BITS = 5
_PREFIX_LIMIT = 1 << (INDEX_BITS - _LEVEL_BITS)


@dataclass(frozen=True)
class ArrayChunks:
    """What the entries of one array share.

    Equal where tree, node, its incarnation, names and folding lengths are; ``node`` and the
    rest belong to the version that it was made for. ``folds`` are the lengths in chunks of all
    dimensions but the first. ``rank`` is that of the index, which odd writers may let
    differ from the array's.
    """

    tree: Tree
    node_id: NodeId
    incarnation: int
    folds: tuple[int, ...]
    rank: int
    names: ChunkNames
    node: ArrayNode = field(compare=False)
    is_shard: bool = field(compare=False)
    nursery: trio.Nursery = field(compare=False)

    @property
    def path(self) -> str:
        """The path of the array."""
        return self.node.path

    def fold(self, coords: Sequence[int], limit: int) -> int | None:
        """Return *coords* as one number, None where it would not be unique or reach *limit*."""
        if len(coords) > len(self.folds) + 1:
            return None
        number = coords[0] if coords else 0
        for coord, length in zip(coords[1:], self.folds, strict=False):
            if coord >= length:
                return None
            number = number * length + coord
        return number if number < limit else None

    def unfold(self, number: int, count: int) -> tuple[int, ...]:
        """Return the *count* coordinates that ``fold`` made *number* of."""
        coords: list[int] = []
        for length in reversed(self.folds[: max(count - 1, 0)]):
            number, coord = divmod(number, length)
            coords.append(coord)
        if count:
            coords.append(number)
        return tuple(reversed(coords))

    def fold_many(self, coords: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64] | None:
        """Return ``fold`` of each of *coords* (n, rank), None if any of them has none."""
        if coords.shape[1] != len(self.folds) + 1:
            return None
        spans = np.array(self.folds, dtype=np.uint64)
        rest = coords[:, 1:].astype(np.uint64)
        if (rest >= spans).any():
            return None
        top = float(coords[:, 0].max(initial=0)) + 1
        if top * float(np.prod(spans.astype(np.float64))) >= INDEX_LIMIT:
            return None
        number = coords[:, 0].astype(np.uint64)
        for axis, span in enumerate(spans):
            number = number * span + rest[:, axis]
        return number


def array_chunks(
    tree: Tree, view: HierarchyView, node: ArrayNode, nursery: trio.Nursery, rank: int | None = None
) -> ArrayChunks | None:
    """Return how the chunks of *node* are shown, None where their names are not known."""
    metadata = view.metadata(node)
    if metadata is None or metadata.chunk_key_encoding is None:
        return None
    folds = tuple(max(dimension.num_chunks, 1) for dimension in node.shape[1:])
    rank = len(node.shape) if rank is None else rank
    names = ChunkNames(metadata.chunk_key_encoding, rank)
    return ArrayChunks(
        tree=tree,
        node_id=node.id,
        incarnation=tree.incarnation(node.path),
        folds=folds,
        rank=rank,
        names=names,
        node=node,
        is_shard=metadata.is_sharded,
        nursery=nursery,
    )


@dataclass(frozen=True)
class _DirectoryGroup(InodeGroup):
    array: ArrayChunks

    def entry_at(self, index: int) -> "ChunkDirectory":
        level, number = divmod(index, _PREFIX_LIMIT)
        prefix = self.array.unfold(number, self.array.names.known(level))
        return ChunkDirectory(self.array, level, prefix)


@dataclass(frozen=True)
class _FileGroup(InodeGroup):
    array: ArrayChunks
    origin: Origin

    def entry_at(self, index: int) -> "ChunkFile":
        return ChunkFile(self.array, self.array.unfold(index, self.array.rank), self.origin)


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
        array = await self._now()
        if array is None:
            return None
        names = array.names
        if self.level < names.depth:
            prefix = names.enter(self.level, self.prefix, name)
            if prefix is None or not await self._leads_anywhere(array, prefix):
                return None
            return ChunkDirectory(array, self.level + 1, prefix)
        coords = names.leaf(self.prefix, name)
        return None if coords is None else await find_chunk(array, coords)

    async def listing(self) -> Listing:
        """Return the chunks, or the directories that lead to some."""
        array = await self._now()
        if array is None:
            return FixedListing([])
        if self.level < array.names.depth and not self._next_is_a_number(array):
            child = ChunkDirectory(array, self.level + 1, self.prefix)
            name = array.names.directory_name(self.level + 1, self.prefix)
            there = await self._leads_anywhere(array, self.prefix)
            return FixedListing([(name, child)] if there else [])
        rows = await array.tree.chunks.rows(array.node, self.prefix, array.rank)
        if self.level < array.names.depth:
            return _DirectoryListing(array, self.level, self.prefix, rows)
        # Pinned with the rows: an old listing must not name new origins after a refresh.
        return _FileListing(array, rows, await array.tree.provenance())

    def _next_is_a_number(self, array: ArrayChunks) -> bool:
        return array.names.known(self.level + 1) > len(self.prefix)

    async def _leads_anywhere(self, array: ArrayChunks, prefix: tuple[int, ...]) -> bool:
        if not prefix:  # official writers leave no manifest without references
            return bool(array.node.manifests)
        return await array.tree.chunks.has_any(array.node, prefix, array.rank)

    async def _now(self) -> ArrayChunks | None:
        """Return the array as the tree shows it now, None if it is no longer there."""
        view = await self.array.tree.view()
        node = view.node(self.array.path)
        if node is self.array.node:
            return self.array
        if not isinstance(node, ArrayNode) or node.id != self.array.node_id:
            return None
        return array_chunks(self.array.tree, view, node, self.array.nursery, self.array.rank)


@dataclass(frozen=True)
class ChunkFile(File):
    """A chunk, or a shard of many.

    ``origin`` is the snapshot that brought its content, so that equal entries have equal
    content for ever. ``ref`` saves looking the reference up again where it is known.
    """

    array: ArrayChunks
    coords: tuple[int, ...]
    origin: Origin
    ref: ChunkRef | None = field(default=None, compare=False, repr=False)

    @property
    def place(self) -> tuple[InodeGroup, int] | None:
        """Numbered with the array's other chunks of that origin."""
        number = None
        if len(self.coords) == len(self.array.node.shape):
            number = self.array.fold(self.coords, INDEX_LIMIT)
        return None if number is None else (_FileGroup(self.array, self.origin), number)

    @property
    def mtime_ns(self) -> int:
        """When the snapshot that brought the content was flushed."""
        return self.origin.flushed_at * 1000

    @property
    def caching(self) -> Caching:
        """For ever: other content is another entry."""
        return Caching.FOREVER

    async def size(self) -> int:
        """Return the length of the chunk as its reference tells it."""
        return (await self._ref()).size

    async def open(self) -> Content:
        """Return the chunk's bytes, pinned to its reference."""
        ref = await self._ref()
        tree = self.array.tree
        return ChunkContent(
            tree.repository.assets, ref, self.array.nursery, is_shard=self.array.is_shard
        )

    async def attribute(self, name: str) -> bytes | None:
        """Return what the reference says: kind, location, offset, length, object, cached, ..."""
        ref = await self._ref()
        shared = {
            "repository": self.array.tree.repository.storage.url,
            "ref": str(self.array.tree.ref),
            "snapshot": str(self.array.tree.snapshot_id),
            "length": str(ref.size),
            "cached": "1" if self.array.tree.repository.assets.holds_chunk(ref) else "0",
        }
        value = (shared | _reference_attributes(ref)).get(name)
        return None if value is None else value.encode()

    def describe(self) -> str:
        """Return ref and path, with the object that holds the bytes where that is known."""
        relative = "/".join(
            [
                *(
                    self.array.names.directory_name(n + 1, self.coords)
                    for n in range(self.array.names.depth)
                ),
                self.array.names.leaf_name(self.coords),
            ]
        )
        return f"{self.array.tree.ref}{self.array.path.rstrip('/')}/{relative}"

    async def _ref(self) -> ChunkRef:
        ref = self.ref or await self.array.tree.chunks.find(self.array.node, self.coords)
        if ref is None:
            raise NotFoundError(f"{self.describe()} is no longer there")
        return ref


async def find_chunk(array: ArrayChunks, coords: tuple[int, ...]) -> "ChunkFile | None":
    """Return the chunk at *coords*, None if it was never written."""
    ref = await array.tree.chunks.find(array.node, coords)
    if ref is None:
        return None
    provenance = await array.tree.provenance()
    return ChunkFile(array, coords, provenance.of_chunk(array.node_id, coords), ref)


def _reference_attributes(ref: ChunkRef) -> dict[str, str]:
    match ref:
        case InlineRef():
            return {"kind": "inline"}
        case NativeRef(chunk_id=chunk_id, offset=offset):
            return {"kind": "native", "object": str(chunk_id), "offset": str(offset)}
        case VirtualRef(location=location, offset=offset):
            found = {"kind": "virtual", "location": location, "offset": str(offset)}
            if ref.etag is not None:
                found["etag"] = ref.etag
            if ref.last_modified is not None:
                found["last_modified"] = str(ref.last_modified)
            return found


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
