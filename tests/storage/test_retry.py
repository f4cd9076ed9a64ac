import math
import time
from collections import Counter

import pytest
import trio

from tests.contracts.storage import StorageContract
from zfuse.byterange import ByteRange
from zfuse.errors import (
    AccessDeniedError,
    ObjectNotFoundError,
    OutcomeUnknownError,
    StorageError,
    StorageTimeoutError,
    TransientStorageError,
    VersionMismatchError,
)
from zfuse.storage.base import ABSENT, PagedStorage
from zfuse.storage.memory import MemoryStorage
from zfuse.storage.retry import RetryingStorage, RetryPolicy


class UnsteadyStorage(MemoryStorage, PagedStorage):
    """A memory storage whose next calls go as ``script`` says.

    An exception is raised before the call acts, or after it if its name is in a tuple with
    "late"; a number is a delay in seconds.
    """

    def __init__(self, *script):
        super().__init__()
        self.script = list(script)
        self.attempts = Counter()
        self.running = self.most_running = 0

    async def _play(self, verb, call):
        self.attempts[verb] += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            step = self.script.pop(0) if self.script else None
            if isinstance(step, (int, float)):
                await trio.sleep(step)
            elif isinstance(step, tuple):
                await call()
                raise step[1]
            elif step is not None:
                raise step
            return await call()
        finally:
            self.running -= 1

    async def get(self, key):
        return await self._play("get", lambda: MemoryStorage.get(self, key))

    async def get_range(self, key, byte_range, *, unmodified=None):
        found = await self._play("get_range", lambda: MemoryStorage.get(self, key))
        return found.data[byte_range.start : byte_range.stop]

    async def head(self, key):
        return await self._play("head", lambda: MemoryStorage.head(self, key))

    async def put(self, key, data, *, expect=None):
        return await self._play("put", lambda: MemoryStorage.put(self, key, data, expect=expect))

    async def delete(self, key):
        return await self._play("delete", lambda: MemoryStorage.delete(self, key))

    async def list_page(self, prefix, token):
        async def page():
            infos = [info async for info in MemoryStorage.list(self, prefix)]
            start = int(token or 0)
            following = str(start + 2) if start + 2 < len(infos) else None
            return infos[start : start + 2], following

        return await self._play("list", page)


def passing(**kwargs):
    return TransientStorageError("a passing trouble", **kwargs)


CALLS = {
    "get": lambda s: s.get("k"),
    "get_range": lambda s: s.get_range("k", ByteRange(0, 9)),
    "head": lambda s: s.head("k"),
    "put": lambda s: s.put("k", b"new"),
    "delete": lambda s: s.delete("k"),
}


async def seeded(*script, **kwargs):
    inner = UnsteadyStorage()
    await inner.put("k", b"hello")
    inner.script = list(script)
    inner.attempts.clear()
    return inner, RetryingStorage(inner, **kwargs)


class TestRetryingStorage(StorageContract):
    @pytest.fixture
    def storage(self):
        return RetryingStorage(MemoryStorage())


@pytest.mark.parametrize("verb", CALLS)
async def test_passing_troubles_are_absorbed(autojump_clock, verb):
    inner, storage = await seeded(*[passing()] * 5)
    await CALLS[verb](storage)
    assert inner.attempts[verb] == 6
    assert (storage.stats.retries, storage.stats.errors) == (5, 0)
    assert getattr(storage.stats, verb) == 1


@pytest.mark.parametrize("verb", CALLS)
async def test_a_hanging_attempt_is_repeated_within_the_deadline(autojump_clock, verb):
    inner, storage = await seeded(math.inf, math.inf)
    with trio.fail_after(29):
        await CALLS[verb](storage)
    assert inner.attempts[verb] == 3


@pytest.mark.parametrize("verb", CALLS)
async def test_lasting_trouble_ends_at_the_deadline(autojump_clock, verb):
    inner, storage = await seeded(*[passing()] * 1000)
    began = trio.current_time()
    with pytest.raises(StorageTimeoutError, match=r"k failed after \d+ attempts .*a passing") as e:
        await CALLS[verb](storage)
    assert e.value.exit_code == 75
    assert trio.current_time() - began == pytest.approx(30)
    assert 8 < inner.attempts[verb] < 80
    assert storage.stats.errors == 1


async def test_an_endless_hang_ends_at_the_deadline(autojump_clock):
    _, storage = await seeded(*[math.inf] * 100, policy=RetryPolicy(deadline_s=7))
    began = trio.current_time()
    with pytest.raises(StorageTimeoutError, match="no answer"):
        await storage.get("k")
    assert trio.current_time() - began == pytest.approx(7)


@pytest.mark.parametrize(
    "error", [AccessDeniedError, ObjectNotFoundError, VersionMismatchError, StorageError]
)
async def test_answers_are_not_repeated(autojump_clock, error):
    inner, storage = await seeded(error("no"))
    with pytest.raises(error, match="no"):
        await storage.get("k")
    assert inner.attempts["get"] == 1
    assert storage.stats.errors == (error in (AccessDeniedError, StorageError))


async def test_waiting_for_a_turn_counts_against_the_deadline(autojump_clock):
    inner, storage = await seeded(*[15] * 1000, concurrency=2, policy=RetryPolicy(deadline_s=50))
    ended = []

    async def read():
        try:
            await storage.get("k")
        except StorageTimeoutError:
            ended.append("late")
        else:
            ended.append("read")

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(read)
    assert inner.most_running == 2
    assert trio.current_time() - began == pytest.approx(50)
    assert Counter(ended) == {"read": 6, "late": 2}


async def test_a_caller_with_a_deadline_of_his_own_hears_the_cause_before_it(autojump_clock):
    _, storage = await seeded(*[math.inf] * 9, concurrency=1, policy=RetryPolicy(deadline_s=10))
    causes = []

    async def read():
        with pytest.raises(StorageTimeoutError) as late, trio.fail_after(6):
            await storage.get("k")
        causes.append(str(late.value))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(read)
    assert trio.current_time() == pytest.approx(6 - 0.5)
    assert any("no answer" in cause for cause in causes)
    assert any("0 attempts" in c and "too many calls at once" in c for c in causes)


async def test_a_slow_read_that_ends_silence_by_itself_gets_all_the_time(autojump_clock):
    inner, storage = await seeded(25, 25)
    inner.bounds_silence = True
    await storage.get("k")
    await storage.get_range("k", ByteRange(0, 9))
    assert storage.stats.retries == 0


async def test_an_attempt_that_blocks_the_thread_past_the_deadline_is_a_timeout():
    class BlockingStorage(UnsteadyStorage):
        async def get(self, key):
            time.sleep(0.06)  # noqa: ASYNC251 - as a long computation does
            raise passing()

    storage = RetryingStorage(BlockingStorage(), RetryPolicy(deadline_s=0.05), concurrency=2)
    late = []

    async def read():
        with pytest.raises(StorageTimeoutError):
            await storage.get("k")
        late.append(1)

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(read)
    assert len(late) == 6


async def test_turns_are_given_back_by_the_cancelled_and_the_failed(autojump_clock):
    _, storage = await seeded(math.inf, StorageError("no"), concurrency=1)
    with trio.move_on_after(1):
        await storage.get("k")
    with pytest.raises(StorageError):
        await storage.get("k")
    assert (await storage.get("k")).data == b"hello"


@pytest.mark.parametrize("expect", ["absent", "version"])
class TestConditionalPuts:
    async def prepared(self, expect, *script, **kwargs):
        inner, storage = await seeded(**kwargs)
        key, expectation = "new", ABSENT
        if expect == "version":
            key, expectation = "k", (await inner.head("k")).version
        inner.attempts.clear()
        inner.script = list(script)
        return inner, storage, lambda: storage.put(key, b"mine", expect=expectation)

    async def test_what_was_refused_is_repeated(self, autojump_clock, expect):
        inner, _, put = await self.prepared(expect, *[passing(refused=True)] * 3)
        await put()
        assert inner.attempts["put"] == 4

    async def test_a_lost_answer_is_not_repeated(self, autojump_clock, expect):
        for lost in (("late", passing()), passing()):
            inner, storage, put = await self.prepared(expect, lost)
            with pytest.raises(OutcomeUnknownError, match="not known") as caught:
                await put()
            assert caught.value.exit_code == 75
            assert inner.attempts["put"] == 1
            assert storage.stats.errors == 1

    async def test_no_answer_is_not_repeated(self, autojump_clock, expect):
        inner, _, put = await self.prepared(expect, math.inf)
        with pytest.raises(OutcomeUnknownError):
            await put()
        assert inner.attempts["put"] == 1

    async def test_refused_until_the_deadline_is_a_timeout(self, autojump_clock, expect):
        _, _, put = await self.prepared(expect, *[passing(refused=True)] * 1000)
        with pytest.raises(StorageTimeoutError):
            await put()

    async def test_one_that_never_got_its_turn_is_a_timeout(self, autojump_clock, expect):
        inner, storage, put = await self.prepared(expect, math.inf, math.inf, concurrency=1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(storage._inner.get, "k")  # takes the script's first step
            await trio.testing.wait_all_tasks_blocked()
            await storage._turns.acquire()
            with pytest.raises(StorageTimeoutError):
                await put()
            nursery.cancel_scope.cancel()
        assert inner.attempts["put"] == 0

    async def test_a_lost_race_is_told_at_once(self, autojump_clock, expect):
        inner, storage, put = await self.prepared(expect)
        await put()
        with pytest.raises(VersionMismatchError):
            await put()
        assert inner.attempts["put"] == 2
        assert storage.stats.errors == 0


async def test_each_page_of_a_listing_is_repeated_alone(autojump_clock):
    inner, storage = await seeded()
    for n in range(6):
        await inner.put(f"k{n}", b"x")
    inner.attempts.clear()
    inner.script = [passing(), None, passing(), passing(), None, math.inf]
    assert sorted([info.key async for info in storage.list("k")]) == [
        "k", "k0", "k1", "k2", "k3", "k4", "k5",
    ]  # fmt: skip
    assert inner.attempts["list"] == 8
    assert (storage.stats.list, storage.stats.retries) == (4, 4)


async def test_stats_count_calls_and_bytes(autojump_clock):
    _, storage = await seeded()
    await storage.put("a", b"12345")
    await storage.get("a")
    await storage.get_range("a", ByteRange(1, 3))
    await storage.head("a")
    await storage.delete("a")
    with pytest.raises(ObjectNotFoundError):
        await storage.get("a")
    stats = storage.stats
    assert (stats.put, stats.get, stats.get_range, stats.head, stats.delete) == (1, 2, 1, 1, 1)
    assert (stats.bytes_out, stats.bytes_in) == (5, 7)
    assert stats.calls == 6
    assert (stats.errors, stats.retries) == (0, 0)


def test_pauses_grow_and_vary_within_their_ceiling():
    policy = RetryPolicy(first_pause_s=0.1, longest_pause_s=2)
    for attempt, ceiling in ((1, 0.1), (2, 0.2), (5, 1.6), (6, 2), (5000, 2)):
        pauses = [policy.pause(attempt) for _ in range(200)]
        assert 0 <= min(pauses) < max(pauses) <= ceiling
        assert max(pauses) > ceiling * 0.8
