import asyncio
import threading

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from zfuse.errors import StorageError
from zfuse.storage.asyncio_thread import AsyncioThread


@pytest.fixture
async def thread():
    async with AsyncioThread() as thread:
        yield thread


async def test_it_runs_in_another_thread_and_returns(thread):
    async def work(a, b):
        await asyncio.sleep(0)
        return a + b, threading.current_thread().name

    assert await thread.run(work, 1, 2) == (3, "zfuse-asyncio")


async def test_exceptions_pass_through(thread):
    async def work():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await thread.run(work)


async def test_a_call_that_is_wrong_at_once_raises_too(thread):
    with pytest.raises(TypeError):
        await thread.run(asyncio.sleep)


async def test_many_run_at_once(thread):
    everybody = asyncio.Barrier(100)

    async def work(n):
        await everybody.wait()
        return n

    results = []

    async def call(n):
        results.append(await thread.run(work, n))

    async with trio.open_nursery() as nursery:
        for n in range(100):
            nursery.start_soon(call, n)
    assert sorted(results) == list(range(100))


async def test_cancelling_the_caller_cancels_the_task_and_waits_for_it(thread):
    begun, seen = threading.Event(), []

    async def work():
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            seen.append("cleaned up")
            raise

    async with trio.open_nursery() as nursery:
        nursery.start_soon(thread.run, work)
        await trio.to_thread.run_sync(begun.wait)
        nursery.cancel_scope.cancel()
    assert seen == ["cleaned up"]


async def test_a_caller_that_is_cancelled_already_runs_nothing_for_long(thread):
    with trio.CancelScope() as scope:
        scope.cancel()
        await thread.run(asyncio.sleep, 60)
    assert scope.cancelled_caught


async def test_a_result_that_beats_the_cancellation_is_kept(thread):
    begun = threading.Event()

    async def stubborn():
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "done all the same"

    async def cancel(scope):
        await trio.to_thread.run_sync(begun.wait)
        scope.cancel()

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel, scope)
            assert await thread.run(stubborn) == "done all the same"
    assert scope.cancel_called
    assert not scope.cancelled_caught


async def test_a_task_that_cancels_itself_is_an_error_and_no_trio_cancellation(thread):
    async def work():
        raise asyncio.CancelledError

    with pytest.raises(StorageError):
        await thread.run(work)


async def test_stopping_fails_what_is_under_way():
    thread = AsyncioThread()
    await thread.start()
    failed = []

    async def call():
        with pytest.raises(StorageError, match="closed"):
            await thread.run(asyncio.sleep, 60)
        failed.append(True)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(call)
        await wait_all_tasks_blocked()
        await thread.stop()
    assert len(failed) == 5


async def test_after_stop_calls_are_refused_and_stop_is_harmless():
    thread = AsyncioThread()
    await thread.start()
    await thread.stop()
    await thread.stop()
    with pytest.raises(StorageError):
        await thread.run(asyncio.sleep, 0)


async def test_200_cycles_leave_no_thread_and_no_descriptor(open_descriptors):
    before = open_descriptors()
    for _ in range(200):
        async with AsyncioThread() as thread:
            await thread.run(asyncio.sleep, 0)
    assert "zfuse-asyncio" not in {t.name for t in threading.enumerate()}
    assert open_descriptors() <= before


async def test_abandoned_calls_of_a_stopped_thread_do_not_break_trio():
    for _ in range(20):
        async with AsyncioThread() as thread, trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(thread.run, asyncio.sleep, 60)
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
