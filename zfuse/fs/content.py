"""The bytes of an open chunk file, fetched in pieces that suit how it is read.

A chunk is read whole, so it is fetched whole, at open(2): the kernel then gets it in one
piece, keeps it in its page cache, and further readers ask nobody. One too large for that is
fetched in blocks, ever more of them ahead of a reader that goes through it in order. For
shards see shard_content.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import trio

from zfuse.byterange import ByteRange
from zfuse.errors import ZfuseError
from zfuse.format.chunk_ref import ChunkRef
from zfuse.fs.entry import Content
from zfuse.repo.asset_manager import AssetManager

log = logging.getLogger(__name__)

WHOLE_CHUNK_MAX: Final = 8 << 20
LARGE_BLOCK: Final = 1 << 20
FIRST_WINDOW: Final = 1 << 20
LAST_WINDOW: Final = 8 << 20


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

    def continues(self, offset: int, size: int) -> bool:
        """Tell whether a read goes on where the last one ended."""
        # The kernel reads ahead itself and sends such reads a little out of order.
        return abs(offset - self._position) <= size

    def next(self, offset: int, size: int) -> ByteRange | None:
        """Return what to fetch in the background after a read, None for nothing."""
        in_order = self.continues(offset, size)
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


async def in_background(fetch: Callable[[], Awaitable[object]]) -> None:
    """Run a fetch that nobody waits for; nothing that it raises may end the mount.

    The read that needs these bytes meets the error itself, and reports it.
    """
    try:
        await fetch()
    except ZfuseError as exc:
        log.debug("a fetch ahead of a reader failed: %s", exc)
    except Exception:
        log.exception("bug in a fetch ahead of a reader")


class ChunkContent(Content):
    """A chunk, pinned to the reference that it had when it was opened."""

    def __init__(self, assets: AssetManager, ref: ChunkRef, nursery: trio.Nursery) -> None:
        self._assets = assets
        self._ref = ref
        self._nursery = nursery
        is_large = ref.size > WHOLE_CHUNK_MAX
        self._block = LARGE_BLOCK if is_large else max(ref.size, 1)
        self._ahead = ReadAhead(ref.size, patience=0) if is_large else None

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._ref.size

    @property
    def is_cached(self) -> bool:
        """Whether the start of it is in memory."""
        return self._assets.holds(self._ref, ByteRange(0, 1), block=self._block)

    async def prepare(self) -> bytes | None:
        """Fetch and return the chunk if it is fetched in one piece anyway."""
        if self._ahead is not None:
            return None
        # Held by the cache alone, within its budget: a file may stay open and never be read.
        return await self._assets.read_chunk(
            self._ref, ByteRange(0, self._ref.size), block=self._block
        )

    def delivered(self) -> None:
        """Leave the chunk to the kernel's cache: in two places it would take room twice."""
        if self._ahead is None:
            self._assets.drop_chunk(self._ref)

    async def read(self, offset: int, size: int) -> bytes:
        """Return a piece; none beyond the end."""
        if self._ahead is not None:
            ahead = self._ahead.next(offset, size)
            if ahead is not None:
                self._nursery.start_soon(in_background, partial(self._read, ahead))
        return await self._read(ByteRange(offset, offset + size))

    async def _read(self, wanted: ByteRange) -> bytes:
        return await self._assets.read_chunk(self._ref, wanted, block=self._block)
