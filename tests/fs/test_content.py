"""What reading chunks and shards costs the store, in requests and bytes."""

import random
import struct

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.counting import CountingStorage
from zfuse.cache.budget import MemoryBudget
from zfuse.errors import CorruptionError
from zfuse.format.chunk_ref import InlineRef, NativeRef
from zfuse.format.ids import ChunkId
from zfuse.format.layout import chunk_key
from zfuse.format.shard_index import ShardLayout
from zfuse.fs.content import LAST_WINDOW, WHOLE_CHUNK_MAX, ChunkContent, ReadAhead
from zfuse.fs.shard_content import BLOCK, ShardContent
from zfuse.repo.asset_manager import AssetManager
from zfuse.storage.memory import MemoryStorage

KIB, MIB = 1 << 10, 1 << 20
KEY = chunk_key(ChunkId(b"c" * 12))


class Stored:
    """A chunk in a store that counts, and whoever reads it."""

    def __init__(self, data, memory=256 * MIB):
        self.data = data
        self.storage = CountingStorage(MemoryStorage())
        self.assets = AssetManager(self.storage, MemoryBudget(memory), None)
        self.ref = NativeRef(ChunkId(b"c" * 12), 0, len(data))

    async def put(self):
        await self.storage.put(KEY, self.data)
        self.storage.reset()
        return self

    @property
    def fetched(self):
        return self.storage.fetched[KEY]

    async def read(self, content, start, stop, step=128 * KIB):
        """Read as the kernel does; what is fetched ahead comes first."""
        for offset in range(start, stop, step):
            wanted = min(step, stop - offset)
            got = await content.read(offset, wanted)
            assert got == self.data[offset : offset + wanted]
            await trio.testing.wait_all_tasks_blocked()


def noise(size):
    return random.Random(size).randbytes(size)


async def test_a_chunk_is_fetched_whole_when_it_is_opened(nursery):
    stored = await Stored(noise(3 * MIB)).put()
    content = ChunkContent(stored.assets, stored.ref, nursery)
    assert (content.size, content.is_cached) == (3 * MIB, False)
    assert await content.prepare() == stored.data
    assert content.is_cached
    await stored.read(content, 0, 3 * MIB)
    assert stored.storage.keys("get_range") == [KEY]
    content.delivered()
    assert stored.assets.budget.used == 0
    await stored.read(content, 5, 10)
    assert stored.fetched == 6 * MIB


async def test_a_large_chunk_is_fetched_in_pieces_and_each_byte_once(nursery):
    size = WHOLE_CHUNK_MAX + 5 * MIB + 7
    stored = await Stored(noise(size)).put()
    content = ChunkContent(stored.assets, stored.ref, nursery)
    assert await content.prepare() is None
    assert stored.storage.calls == []
    await stored.read(content, 0, size)
    assert stored.fetched == size
    assert await content.read(size, 10) == b""
    assert await content.read(size - 3, 10) == stored.data[-3:]
    assert len(stored.storage.keys("get_range")) < 10


async def test_a_piece_of_a_large_chunk_does_not_cost_all_of_it(nursery):
    stored = await Stored(noise(40 * MIB)).put()
    content = ChunkContent(stored.assets, stored.ref, nursery)
    await stored.read(content, 20 * MIB, 20 * MIB + 100 * KIB)
    assert stored.fetched <= 2 * MIB


async def test_inline_chunks_ask_nobody(nursery):
    stored = await Stored(b"").put()
    content = ChunkContent(stored.assets, InlineRef(b"inline"), nursery)
    assert content.is_cached
    assert await content.prepare() == b"inline"
    assert await content.read(2, 3) == b"lin"
    assert await content.read(6, 3) == b""
    content.delivered()
    assert await content.read(0, 9) == b"inline"
    assert stored.storage.calls == []


async def test_a_fetch_ahead_that_fails_is_met_by_the_read_that_needs_it(nursery):
    size = 20 * MIB
    stored = await Stored(noise(size)).put()
    stored.ref = NativeRef(ChunkId(b"c" * 12), 0, size + MIB)  # the object was cut short
    content = ChunkContent(stored.assets, stored.ref, nursery)
    await stored.read(content, 0, 12 * MIB)
    with pytest.raises(CorruptionError):
        await content.read(size, 10)


def make_shard(inner, count, *, at_start=False):
    """Return a shard of *count* inner chunks of *inner* bytes, and its layout."""
    layout = ShardLayout(inner, count, 4, at_start=at_start)
    length = count * 16 + 4
    first = length if at_start else 0
    index = b"".join(struct.pack("<QQ", first + n * inner, inner) for n in range(count)) + b"crc!"
    chunks = noise(inner * count)
    return (index + chunks if at_start else chunks + index), layout


@pytest.mark.parametrize("at_start", [False, True])
@pytest.mark.parametrize(("inner", "count"), [(64 * KIB, 1024), (MIB, 64), (4 * MIB, 16)])
@pytest.mark.parametrize("neighbours", [True, False])
async def test_two_inner_chunks_cost_less_than_a_mebibyte_more(
    nursery, inner, count, at_start, neighbours
):
    data, layout = make_shard(inner, count, at_start=at_start)
    assert len(data) >= 64 * MIB
    stored = await Stored(data).put()
    content = ShardContent(stored.assets, stored.ref, nursery, layout)
    assert await content.prepare() is None
    index = layout.index_range(len(data))
    await stored.read(content, index.start, index.stop)
    first = layout.entries * 16 + 4 if at_start else 0
    for number in (2, 3) if neighbours else (count // 2, 1):
        begin = first + number * inner
        # The kernel reads whole pages.
        await stored.read(content, begin // 4096 * 4096, -(-(begin + inner) // 4096) * 4096)
    assert stored.fetched < 2 * inner + len(index) + MIB
    assert stored.assets.holds(stored.ref, index, block=BLOCK)


async def test_who_reads_a_shard_from_start_to_end_gets_each_byte_once_in_long_pieces(nursery):
    data, layout = make_shard(MIB, 64)
    stored = await Stored(data).put()
    content = ShardContent(stored.assets, stored.ref, nursery, layout)
    await stored.read(content, 0, len(data))
    assert stored.fetched == len(data)
    assert len(stored.storage.keys("get_range")) < 60


async def test_a_shard_is_what_its_bytes_are_whatever_its_index_says(nursery):
    """The index only helps to fetch; wrong ones cost nothing but time."""
    data = noise(3 * MIB)
    for layout in (ShardLayout(MIB), ShardLayout(0, 5, 4), ShardLayout(KIB, 10**6, 4)):
        stored = await Stored(data).put()
        content = ShardContent(stored.assets, stored.ref, nursery, layout)
        index = layout.index_range(len(data))
        if index is not None:
            await stored.read(content, index.start, index.stop)
        await stored.read(content, MIB, 2 * MIB)
        await stored.read(content, 0, len(data))
        assert stored.fetched == len(data)


reads = st.lists(st.tuples(st.integers(0, 30 * MIB), st.integers(1, MIB)), max_size=20)


@given(st.integers(0, 30 * MIB), st.sampled_from([0, 512 * KIB, 4 * MIB]), reads)
def test_what_is_fetched_ahead_lies_ahead_and_inside(size, patience, reads):
    ahead = ReadAhead(size, patience)
    for offset, length in reads:
        told = ahead.next(offset, length)
        if told is not None:
            assert min(offset + length, size) <= told.start < told.stop <= size
            assert len(told) <= LAST_WINDOW


@given(st.integers(0, 40 * MIB), st.integers(16 * KIB, MIB), st.integers(0, 4 * MIB))
def test_who_reads_in_order_is_asked_for_nothing_twice(size, step, patience):
    ahead = ReadAhead(size, patience)
    stop = 0
    for offset in range(0, size, step):
        told = ahead.next(offset, step)
        if told is not None:
            assert told.start >= stop
            assert offset + step > patience
            stop = told.stop
    assert stop == (size if size > max(patience, step) + step else stop)


def test_who_jumps_about_is_not_read_ahead_for():
    ahead = ReadAhead(100 * MIB, patience=512 * KIB)
    for position in range(50, 0, -3):
        assert ahead.next(position * MIB, 64 * KIB) is None
        assert ahead.next(position * MIB + 64 * KIB, 64 * KIB) is None
