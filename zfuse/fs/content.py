"""The bytes of an open chunk file, fetched in pieces that suit how it is read.

A chunk is read whole, so it is fetched whole, at open(2): the kernel then gets it in one
piece, keeps it in its page cache, and further readers ask nobody. A shard holds many inner
chunks of which a reader takes a few, so it is fetched in small blocks; a reader that goes
through it in order gets ever longer pieces ahead of its position.
"""

import contextlib
from typing import Final

import trio

from zfuse.byterange import ByteRange
from zfuse.errors import ZfuseError
from zfuse.format.chunk_ref import ChunkRef
from zfuse.fs.entry import Content
from zfuse.repo.asset_manager import AssetManager

WHOLE_CHUNK_MAX: Final = 8 << 20
WHOLE_SHARD_MAX: Final = 256 << 10
SHARD_BLOCK: Final = 64 << 10
LARGE_BLOCK: Final = 1 << 20
FIRST_WINDOW: Final = 1 << 20
LAST_WINDOW: Final = 8 << 20


def block_size(size: int, *, is_shard: bool) -> int:
    """Return the length of the pieces in which a chunk of *size* bytes is fetched."""
    if size <= (WHOLE_SHARD_MAX if is_shard else WHOLE_CHUNK_MAX):
        return max(size, 1)
    return SHARD_BLOCK if is_shard else LARGE_BLOCK


class ReadAhead:
    """Decides how far ahead of a reader to fetch: pure arithmetic on its positions.

    A reader is sequential once it has read *patience* bytes in order; the window then
    doubles from FIRST_WINDOW to LAST_WINDOW as it goes on.
    """

    def __init__(self, size: int, patience: int) -> None:
        self._size = size
        self._patience = patience
        self._position = 0
        self._in_order = 0
        self._window = FIRST_WINDOW
        self._asked = 0

    def next(self, offset: int, size: int) -> ByteRange | None:
        """Return what to fetch in the background after a read, None for nothing."""
        # The kernel reads ahead itself and sends such reads a little out of order.
        in_order = abs(offset - self._position) <= size
        self._in_order = self._in_order + size if in_order else 0
        stop = offset + size
        self._position = max(self._position, stop) if in_order else stop
        if not in_order:
            self._window = FIRST_WINDOW
            self._asked = 0
            return None
        self._asked = max(self._asked, stop)
        if self._in_order <= self._patience or self._asked - stop > self._window // 2:
            return None
        ahead = ByteRange(min(self._asked, self._size), min(self._asked + self._window, self._size))
        self._asked = ahead.stop
        self._window = min(self._window * 2, LAST_WINDOW)
        return ahead if len(ahead) else None


class ChunkContent(Content):
    """A chunk or shard, pinned to the reference that it had when it was opened."""

    def __init__(
        self, assets: AssetManager, ref: ChunkRef, nursery: trio.Nursery, *, is_shard: bool
    ) -> None:
        self._assets = assets
        self._ref = ref
        self._nursery = nursery
        self._block = block_size(ref.size, is_shard=is_shard)
        patience = 8 * SHARD_BLOCK if is_shard else 0
        self._whole: bytes | None = None
        self._ahead = ReadAhead(ref.size, patience) if self._block < ref.size else None

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._ref.size

    async def prepare(self) -> bytes | None:
        """Fetch and return the chunk if it is fetched in one piece anyway."""
        if self._ahead is not None:
            return None
        whole = ByteRange(0, self._ref.size)
        self._whole = await self._assets.read_chunk(self._ref, whole, block=self._block)
        return self._whole

    def delivered(self) -> None:
        """Leave the chunk to the kernel's cache: in two places it would take room twice."""
        if self._whole is not None:
            self._assets.drop_chunk(self._ref)

    async def read(self, offset: int, size: int) -> bytes:
        """Return a piece; none beyond the end."""
        if self._whole is not None:
            # A whole bytes object is sliced without copying it.
            return self._whole[offset : offset + size]
        if self._ahead is not None:
            ahead = self._ahead.next(offset, size)
            if ahead is not None:
                self._nursery.start_soon(self._prefetch, ahead)
        wanted = ByteRange(offset, offset + size)
        return await self._assets.read_chunk(self._ref, wanted, block=self._block)

    async def _prefetch(self, ahead: ByteRange) -> None:
        # The read that needs these bytes meets the error itself, and reports it.
        with contextlib.suppress(ZfuseError):
            await self._assets.read_chunk(self._ref, ahead, block=self._block)
