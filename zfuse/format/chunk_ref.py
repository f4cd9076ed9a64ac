"""Where the bytes of a chunk lie.

Specification: spec-v2, "Chunk Manifest Files", ChunkRef.
"""

from dataclasses import dataclass

from zfuse.format.ids import ChunkId


@dataclass(frozen=True, slots=True)
class InlineRef:
    """The chunk is small enough to sit in the manifest itself."""

    data: bytes

    @property
    def size(self) -> int:
        """Length of the chunk in bytes."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class NativeRef:
    """The chunk is *size* bytes at *offset* of an object of this repository."""

    chunk_id: ChunkId
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class VirtualRef:
    """The chunk is *size* bytes at *offset* of somebody else's file.

    ``location`` is an absolute URL or ``vcc://CONTAINER/rest``; ``last_modified`` is in
    whole seconds since 1970, None where nothing was recorded.
    """

    location: str
    offset: int
    size: int
    etag: str | None = None
    last_modified: int | None = None


ChunkRef = InlineRef | NativeRef | VirtualRef
