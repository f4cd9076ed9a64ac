"""The bytes of an open shard: many inner chunks, of which a reader takes a few.

It is fetched in small blocks. The reader takes the index first; from then on the index tells
how far the inner chunk goes that a read begins in, and the rest of that is fetched at once,
nothing beyond. Who goes through several inner chunks in order gets ever longer pieces.
"""

from functools import partial
from typing import Final

import trio

from zfuse.byterange import ByteRange
from zfuse.format.chunk_ref import ChunkRef
from zfuse.format.shard_index import InnerChunks, ShardLayout
from zfuse.fs.content import ReadAhead, in_background
from zfuse.fs.entry import Content
from zfuse.repo.asset_manager import AssetManager

WHOLE_SHARD_MAX: Final = 256 << 10
"""Shards up to this size are fetched like chunks."""

BLOCK: Final = 64 << 10
LONG_READ: Final = 128 << 10
"""The kernel cuts reads into its read-ahead; who asks for less than this at once wants no more."""

PAGE: Final = 4096

INNER_MAX: Final = 32 << 20
"""The rest of longer inner chunks is fetched as the reader goes on."""


class ShardContent(Content):
    """A shard, pinned to the reference that it had when it was opened."""

    def __init__(
        self, assets: AssetManager, ref: ChunkRef, nursery: trio.Nursery, layout: ShardLayout
    ) -> None:
        self._assets = assets
        self._ref = ref
        self._nursery = nursery
        self._layout = layout
        self._index_range = layout.index_range(ref.size)
        self._inner_chunks: InnerChunks | None = None
        self._begun = False
        # Two neighbours are no sign yet that somebody wants them all.
        self._ahead = ReadAhead(ref.size, patience=max(8 * BLOCK, 2 * layout.inner_bytes))

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._ref.size

    @property
    def is_cached(self) -> bool:
        """Whether the start of it is in memory."""
        return self._assets.holds(self._ref, ByteRange(0, 1), block=BLOCK)

    async def read(self, offset: int, size: int) -> bytes:
        """Return a piece; none beyond the end."""
        wanted = ByteRange(offset, offset + size)
        # Before anything is awaited: the reads of one reader come several at a time.
        jumped = not (self._begun and self._ahead.continues(offset, size))
        self._begun = True
        ahead = self._ahead.next(offset, size)
        if jumped and size >= LONG_READ:
            ahead = await self._rest_of_inner_chunk(wanted)
        if ahead is not None:
            self._nursery.start_soon(in_background, partial(self._read, ahead))
        return await self._read(wanted)

    async def _rest_of_inner_chunk(self, wanted: ByteRange) -> ByteRange | None:
        """Return what is missing of the inner chunk that a read has jumped into."""
        inner_chunks = await self._index()
        # Reads begin with a page, inner chunks anywhere in it.
        inner = None if inner_chunks is None else inner_chunks.at(wanted.start + PAGE - 1)
        if inner is None or inner.stop <= wanted.stop or len(inner) > INNER_MAX:
            return None
        return ByteRange(wanted.stop, inner.stop)

    async def _index(self) -> InnerChunks | None:
        """Return the index if it is in memory: its reader has just had it, if there was one."""
        if self._inner_chunks is None and self._index_range is not None:
            if not self._assets.holds(self._ref, self._index_range, block=BLOCK):
                return None
            index = await self._read(self._index_range)
            self._inner_chunks = InnerChunks.decode(index, self._layout, self._ref.size)
        return self._inner_chunks

    async def _read(self, wanted: ByteRange) -> bytes:
        return await self._assets.read_chunk(self._ref, wanted, block=BLOCK)
