"""The groups and arrays of a tree as directories with a zarr.json."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import trio

from zfuse.format.ids import NodeId
from zfuse.format.snapshot import ArrayNode, Node
from zfuse.fs.array_chunks import array_chunks
from zfuse.fs.chunk_directory import ChunkLevel
from zfuse.fs.chunk_file import ChunkFile
from zfuse.fs.entry import (
    BytesContent,
    Caching,
    ChainedListing,
    Content,
    Directory,
    Entry,
    File,
    FixedListing,
    Listing,
)
from zfuse.fs.names import decode_name, encode_name
from zfuse.fs.tree import Tree
from zfuse.repo.provenance import Origin
from zfuse.repo.view import HierarchyView, join

METADATA_NAME: Final = "zarr.json"
CONTROL_NAME: Final = ".zfuse"


@dataclass(frozen=True)
class NodeDirectory(Directory):
    """A group, an array, or a directory that only leads to some.

    Where nodes lie below an array, one directory may be both a node's and one of the
    array's chunk directories (a node named ``c``); it then shows what either holds.
    """

    tree: Tree
    path: str
    nursery: trio.Nursery = field(compare=False, repr=False)
    incarnation: int = 0

    @classmethod
    def now_at(cls, tree: Tree, path: str, nursery: trio.Nursery) -> Self:
        """Return the directory that *path* names as the tree is now; the root stays the same."""
        return cls(tree, path, nursery, 0 if path == "/" else tree.incarnation(path))

    @property
    def mtime_ns(self) -> int:
        """That of the snapshot shown."""
        return self.tree.mtime_ns

    @property
    def caching(self) -> Caching:
        """As the tree allows."""
        return self.tree.caching

    async def size(self) -> int:
        """Return the usual size; whoever asks for it is told the time too, so that is learnt."""
        await self.tree.learn_time()
        return await super().size()

    def describe(self) -> str:
        """Return ref and path."""
        return f"{self.tree.ref}{self.path}"

    async def lookup(self, name: str) -> Entry | None:
        """Return the entry called *name*."""
        view = await self.tree.view()
        if name == METADATA_NAME:
            node = view.node(self.path)
            return None if node is None else await self._metadata_file(node)
        levels = self._chunk_levels(view)
        chunk = await _chunk(levels, name)
        if chunk is not None:
            return chunk
        segment = self.decode(name, view)
        if segment is not None and view.is_directory(join(self.path, segment)):
            return NodeDirectory.now_at(self.tree, join(self.path, segment), self.nursery)
        for level in levels:
            way = await level.way(name)
            if way is not None:
                return way
        for level in levels:
            odd = await level.odd(name)
            if odd is not None:
                return odd
        return None

    async def listing(self) -> Listing:
        """Return metadata file, children, and chunks or what leads to them."""
        view = await self.tree.view()
        items: list[tuple[str, Entry]] = []
        node = view.node(self.path)
        if node is not None:
            items.append((METADATA_NAME, await self._metadata_file(node)))
        levels = self._chunk_levels(view)
        for segment in view.children(self.path):
            name = self.encode(segment)
            if await _chunk(levels, name) is None:
                child = NodeDirectory.now_at(self.tree, join(self.path, segment), self.nursery)
                items.append((name, child))
        listings: list[Listing] = [FixedListing(items)]
        if levels:
            listings += await _chunk_listings(levels, {name for name, _ in items})
        return listings[0] if len(listings) == 1 else ChainedListing(listings)

    def encode(self, segment: str) -> str:
        """Return how the child *segment* is shown here."""
        if segment == CONTROL_NAME and self.tree.is_mount_root and self.path == "/":
            return "%2Ezfuse"  # the control files have the name
        return encode_name(segment)

    def decode(self, name: str, view: HierarchyView) -> str | None:
        """Return the child that is shown as *name* here, whether or not it exists."""
        children = view.children(self.path)
        if name == "%2Ezfuse" and CONTROL_NAME in children and self.encode(CONTROL_NAME) == name:
            return CONTROL_NAME
        if name in children and encode_name(name) == name:
            return name
        segment = decode_name(name, children)
        return segment or (None if self.path == "/" else segment)  # "/" + "" would be the root

    async def _metadata_file(self, node: Node) -> "MetadataFile":
        provenance = await self.tree.provenance()
        origin = provenance.of_metadata(node.id)
        return MetadataFile(self.tree, node.id, origin, node.path, node.user_data)

    def _chunk_levels(self, view: HierarchyView) -> list[ChunkLevel]:
        """Return the arrays whose chunks may be shown here, as a rule none or the array here."""
        found: list[ChunkLevel] = []
        segments = [] if self.path == "/" else self.path[1:].split("/")
        for cut in range(len(segments), -1, -1):
            node = view.node("/" + "/".join(segments[:cut]))
            if isinstance(node, ArrayNode):
                array = array_chunks(self.tree, view, node, self.nursery)
                if array is not None:
                    names = (encode_name(segment) for segment in segments[cut:])
                    found.append(ChunkLevel(array, tuple(names)))
        return found


async def _chunk(levels: Sequence[ChunkLevel], name: str) -> ChunkFile | None:
    """Return the chunk called *name*: it has the name, whatever else would like it.

    A reader that found a directory in its place would take it for the fill value.
    """
    for level in levels:
        chunk = await level.chunk(name)
        if chunk is not None:
            return chunk
    return None


async def _chunk_listings(levels: Sequence[ChunkLevel], taken: set[str]) -> list[Listing]:
    """Return what is shown of chunks beside the names that nodes have *taken*."""

    async def is_taken(name: str) -> bool:
        return name in taken or any([await level.shows(name) for level in levels])

    listings = [await level.listing() for level in levels]
    if taken - {METADATA_NAME}:
        # Names that a node has already are looked up as the node, and shown once.
        listings = [_Without(listing, taken) for listing in listings]
    odd = [item for level in levels for item in await level.odd_items(is_taken)]
    return [listing for listing in (*listings, FixedListing(odd)) if len(listing)]


@dataclass(frozen=True)
class MetadataFile(File):
    """The zarr.json of a node, byte for byte as it is stored."""

    tree: Tree
    node_id: NodeId
    origin: Origin
    path: str = field(compare=False)
    data: bytes = field(compare=False, repr=False)

    @property
    def mtime_ns(self) -> int:
        """When the snapshot that brought these bytes was flushed."""
        return self.origin.flushed_at * 1000

    @property
    def caching(self) -> Caching:
        """For ever: other bytes are another entry."""
        return Caching.FOREVER

    async def size(self) -> int:
        """Return the number of bytes."""
        return len(self.data)

    async def open(self) -> Content:
        """Return the bytes."""
        return BytesContent(self.data)

    async def attribute(self, name: str) -> bytes | None:
        """Return where the node comes from: repository, ref, snapshot, node."""
        value = {
            "kind": "metadata",
            "repository": self.tree.repository.storage.url,
            "ref": str(self.tree.ref),
            "snapshot": str(self.tree.snapshot_id),
            "node": str(self.node_id),
            "length": str(len(self.data)),
        }.get(name)
        return None if value is None else value.encode("utf-8", "surrogateescape")

    def describe(self) -> str:
        """Return ref and path."""
        return f"{self.tree.ref}{join(self.path, METADATA_NAME)}"


class _Without(Listing):
    """A listing in which some names are passed over, though they keep their positions."""

    def __init__(self, listing: Listing, names: set[str]) -> None:
        self._listing = listing
        self._names = names

    def __len__(self) -> int:
        return len(self._listing)

    async def items(self, start: int, stop: int) -> Sequence[tuple[str, Entry, int]]:
        """Return a piece of the listing, with an empty name where an item is passed over."""
        items = await self._listing.items(start, stop)
        return [("" if n in self._names else n, entry, size) for n, entry, size in items]
