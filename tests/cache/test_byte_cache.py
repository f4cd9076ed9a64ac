import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from zfuse.byterange import ByteRange
from zfuse.cache.budget import MemoryBudget
from zfuse.cache.byte_cache import FETCH_MAX, ByteCache
from zfuse.errors import CorruptionError, StorageError


class Source:
    """An object that notes which ranges of it were fetched."""

    def __init__(self, size, delay=0.0):
        self.data = bytes(n * 31 % 251 for n in range(min(size, 5000))) * (size // 5000 + 1)
        self.data = self.data[:size]
        self.asked = []
        self.delay = delay
        self.error = None

    async def fetch(self, piece):
        self.asked.append((piece.start, piece.stop))
        await trio.sleep(self.delay)
        if self.error is not None:
            raise self.error
        return self.data[piece.start : piece.stop]

    async def read(self, cache, start, stop, block, owner="owner"):
        data = await cache.read(
            owner, ByteRange(start, stop), size=len(self.data), block=block, fetch=self.fetch
        )
        assert data == self.data[start:stop]
        return data


def make(limit=1 << 20):
    budget = MemoryBudget(limit)
    return ByteCache(budget), budget


async def test_whole_blocks_are_fetched_once_and_neighbours_together():
    cache, _ = make()
    source = Source(1000)
    await source.read(cache, 150, 350, 100)
    assert source.asked == [(100, 400)]
    await source.read(cache, 390, 410, 100)
    assert source.asked == [(100, 400), (400, 500)]
    await source.read(cache, 100, 500, 100)
    assert len(source.asked) == 2


async def test_blocks_that_lie_apart_are_fetched_apart_and_nothing_between():
    cache, _ = make()
    source = Source(1000)
    await source.read(cache, 200, 300, 100)
    await source.read(cache, 500, 700, 100)
    source.asked.clear()
    await source.read(cache, 0, 1000, 100)
    assert sorted(source.asked) == [(0, 200), (300, 500), (700, 1000)]


async def test_runs_that_lie_apart_are_fetched_at_the_same_time(autojump_clock):
    cache, _ = make()
    source = Source(1000, delay=1)
    await source.read(cache, 300, 400, 100)
    start = trio.current_time()
    await source.read(cache, 0, 1000, 100)
    assert trio.current_time() - start == 1


async def test_the_last_block_ends_with_the_object():
    cache, _ = make()
    source = Source(250)
    assert await source.read(cache, 200, 900, 100) == source.data[200:]
    assert source.asked == [(200, 250)]


@pytest.mark.parametrize(("start", "stop"), [(250, 260), (400, 500), (10, 10)])
async def test_nothing_is_fetched_beyond_the_end(start, stop):
    cache, _ = make()
    source = Source(250)
    assert await source.read(cache, start, stop, 100) == b""
    assert source.asked == []


async def test_an_object_without_bytes_is_not_fetched():
    cache, _ = make()
    source = Source(0)
    assert await source.read(cache, 0, 100, 1) == b""
    assert source.asked == []


async def test_long_runs_are_cut_at_blocks():
    cache, _ = make(1 << 30)
    block = 3 << 20
    source = Source(40 << 20)
    await source.read(cache, 0, 40 << 20, block)
    assert sum(stop - start for start, stop in source.asked) == 40 << 20
    assert all(stop - start <= FETCH_MAX for start, stop in source.asked)
    assert all(start % block == 0 for start, _ in source.asked)


async def test_a_block_larger_than_a_request_is_one_request():
    cache, _ = make(1 << 30)
    source = Source(FETCH_MAX * 2)
    await source.read(cache, 0, 10, FETCH_MAX * 2)
    assert source.asked == [(0, FETCH_MAX * 2)]


async def test_owners_do_not_share_blocks():
    cache, _ = make()
    one, other = Source(100), Source(200)
    await one.read(cache, 0, 100, 100, "one")
    await other.read(cache, 0, 100, 100, "other")
    assert one.asked == other.asked == [(0, 100)]
    assert cache.holds("one")
    assert not cache.holds("other", 1)


async def test_concurrent_readers_share_a_flight(autojump_clock):
    cache, _ = make()
    source = Source(1000, delay=1)
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for n in range(10):
            nursery.start_soon(source.read, cache, n * 10, 300, 100)
    assert source.asked == [(0, 300)]
    assert trio.current_time() - start == 1


async def test_a_reader_waits_for_what_is_on_its_way_and_fetches_the_rest(autojump_clock):
    cache, _ = make()
    source = Source(1000, delay=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.read, cache, 200, 400, 100)
        await trio.sleep(0.5)
        nursery.start_soon(source.read, cache, 0, 600, 100)
    assert sorted(source.asked) == [(0, 200), (200, 400), (400, 600)]


async def test_a_cancelled_leader_hands_over(autojump_clock):
    cache, _ = make()
    source = Source(100, delay=1)
    async with trio.open_nursery() as nursery:

        async def impatient():
            with trio.move_on_after(0.5):
                await source.read(cache, 0, 100, 100)

        nursery.start_soon(impatient)
        await trio.sleep(0.1)
        await source.read(cache, 0, 100, 100)
    assert source.asked == [(0, 100), (0, 100)]


async def test_a_cancelled_waiter_leaves_the_leader_alone(autojump_clock):
    cache, _ = make()
    source = Source(100, delay=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.read, cache, 0, 100, 100)
        await trio.sleep(0.1)
        with trio.move_on_after(0.5) as scope:
            await source.read(cache, 0, 100, 100)
        assert scope.cancelled_caught
    assert source.asked == [(0, 100)]


async def test_an_error_reaches_all_who_wait_and_is_not_kept(autojump_clock):
    cache, _ = make()
    source = Source(100, delay=1)
    source.error = StorageError("no")
    failed = 0

    async def reader():
        nonlocal failed
        with pytest.raises(StorageError, match="no"):
            await source.read(cache, 0, 100, 100)
        failed += 1

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(reader)
    assert (failed, len(source.asked)) == (5, 1)
    source.error = None
    await source.read(cache, 0, 100, 100)


async def test_of_several_runs_one_that_fails_is_an_error_in_the_plain(autojump_clock):
    cache, budget = make()
    source = Source(1000)
    await source.read(cache, 300, 400, 100)

    async def fetch(piece):
        if piece.start == 0:
            raise StorageError("no")
        return await source.fetch(piece)

    with pytest.raises(StorageError, match="no"):
        await cache.read("owner", ByteRange(0, 1000), size=1000, block=100, fetch=fetch)
    assert budget.used == 700  # what did come is kept
    await source.read(cache, 0, 1000, 100)
    assert source.asked[-1] == (0, 300)


@pytest.mark.parametrize("come", [b"", b"x" * 99, b"x" * 101])
async def test_a_wrong_number_of_bytes_is_corruption(come):
    cache, budget = make()

    async def fetch(_):
        return come

    with pytest.raises(CorruptionError, match="bytes"):
        await cache.read("owner", ByteRange(0, 10), size=100, block=100, fetch=fetch)
    assert budget.used == 0


async def test_eviction_frees_what_was_read_longest_ago():
    cache, budget = make(250)
    source = Source(1000)
    for start in (0, 100, 0, 200):
        await source.read(cache, start, start + 100, 100)
    assert [cache.holds("owner", n) for n in range(3)] == [True, False, True]
    assert budget.used <= 250


@pytest.mark.parametrize("limit", [0, 1, 99, 150])
async def test_a_budget_smaller_than_a_read_gives_all_its_bytes(limit):
    cache, budget = make(limit)
    source = Source(1000)
    with trio.fail_after(60):
        await source.read(cache, 0, 1000, 100)
        await source.read(cache, 50, 950, 100)
    assert budget.used <= max(limit, 100)


@pytest.mark.parametrize("limit", [0, 150])
async def test_a_small_budget_and_many_readers_come_to_an_end(limit, autojump_clock):
    cache, _ = make(limit)
    source = Source(1000, delay=1)
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            for start in range(0, 900, 90):
                nursery.start_soon(source.read, cache, start, 1000, 100)


async def test_hits_and_misses_are_counted(autojump_clock):
    cache, _ = make()
    source = Source(1000, delay=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.read, cache, 0, 200, 100)
        nursery.start_soon(source.read, cache, 100, 300, 100)
    assert cache.hits == 0
    assert cache.misses == 4
    await source.read(cache, 0, 300, 100)
    assert cache.hits == 3
    assert cache.misses == 4


@given(
    size=st.integers(0, 300),
    block=st.integers(1, 120),
    limit=st.integers(0, 300),
    reads=st.lists(st.tuples(st.integers(0, 320), st.integers(0, 320)), max_size=12),
    together=st.booleans(),
)
def test_any_reads_give_the_right_bytes(size, block, limit, reads, together):
    async def main():
        cache, _ = make(limit)
        source = Source(size)
        async with trio.open_nursery() as nursery:
            for start, length in reads:
                if together:
                    nursery.start_soon(source.read, cache, start, start + length, block)
                else:
                    await source.read(cache, start, start + length, block)
        assert all(start % block == 0 for start, _ in source.asked)

    trio.run(main)
