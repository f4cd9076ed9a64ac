"""Chunks as files."""

from dataclasses import dataclass, field

from zfuse.errors import StaleError
from zfuse.format.chunk_ref import ChunkRef, InlineRef, NativeRef, VirtualRef
from zfuse.format.snapshot import ArrayNode
from zfuse.fs.array_chunks import ArrayChunks
from zfuse.fs.content import ChunkContent
from zfuse.fs.entry import Caching, Content, File, InodeGroup
from zfuse.fs.inodes import INDEX_LIMIT
from zfuse.fs.shard_content import WHOLE_SHARD_MAX, ShardContent
from zfuse.repo.provenance import Origin


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
        return (await self.reference()).size

    async def open(self) -> Content:
        """Return the chunk's bytes, pinned to its reference."""
        return self._content(await self.reference())

    def _content(self, ref: ChunkRef) -> ChunkContent | ShardContent:
        tree = self.array.tree
        assets, nursery = tree.repository.assets, self.array.nursery
        if self.array.shard_layout is None or ref.size <= WHOLE_SHARD_MAX:
            return ChunkContent(assets, ref, nursery)
        return ShardContent(assets, ref, nursery, self.array.shard_layout)

    async def attribute(self, name: str) -> bytes | None:
        """Return what the reference says: kind, location, offset, length, object, cached, ..."""
        ref = await self.reference()
        shared = {
            "repository": self.array.tree.repository.storage.url,
            "ref": str(self.array.tree.ref),
            "snapshot": str(self.array.tree.snapshot_id),
            "length": str(ref.size),
            "cached": "1" if self._content(ref).is_cached else "0",
        }
        value = (shared | _reference_attributes(ref)).get(name)
        return None if value is None else value.encode("utf-8", "surrogateescape")

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

    async def reference(self) -> ChunkRef:
        """Return the reference, found in what the tree shows now if it is this content still.

        Raises:
            StaleError: it is not.
        """
        if self.ref is not None:
            return self.ref
        tree, node_id = self.array.tree, self.array.node_id
        version = await tree.version()
        node = version.view.node(self.array.path)
        if (
            isinstance(node, ArrayNode)
            and node.id == node_id
            and version.provenance.of_chunk(node_id, self.coords) == self.origin
            and (ref := await tree.chunks.find(node, self.coords)) is not None
        ):
            return ref
        raise StaleError(f"{self.describe()} is no longer what it was")


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


@dataclass(frozen=True)
class _FileGroup(InodeGroup):
    array: ArrayChunks
    origin: Origin

    def entry_at(self, index: int) -> "ChunkFile":
        return ChunkFile(self.array, self.array.unfold(index, self.array.rank), self.origin)
