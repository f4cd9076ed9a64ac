"""The trio world does what ordinary and asyncio programs ask for, and ends what they cancel."""

import asyncio
import multiprocessing
import threading

import pytest
import trio
import trio.lowlevel

from zfuse import portal
from zfuse.portal import iterate, iterate_async, run, run_async, twins


async def twice(number):
    await trio.lowlevel.checkpoint()
    return 2 * number


async def fail():
    raise ValueError("no")


async def where():
    return threading.current_thread().name, trio.lowlevel.current_task().name


def test_work_is_done_in_one_thread():
    assert run(twice, 4) == 8
    names = {run(where)[0], asyncio.run(run_async(where))[0]}
    assert names == {"zfuse-trio"}


def test_errors_arrive():
    with pytest.raises(ValueError, match="no"):
        run(fail)
    with pytest.raises(ValueError, match="no"):
        asyncio.run(run_async(fail))


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_exit_in_one_call_ends_no_other(kind):
    async def leave():
        raise kind

    async def answer():
        return 42

    with pytest.raises(kind):
        run(leave)
    assert run(answer) == 42


@pytest.mark.parametrize("is_started", [True, False])
def test_an_interrupt_while_work_is_started_ends_it(monkeypatch, is_started):
    """It comes when it comes: the work may be under way before the call waits for it."""
    world, events = portal._world(), []
    start = world.start

    async def work():
        events.append("began")
        try:
            await trio.sleep_forever()
        finally:
            events.append("ended")

    def interrupted(started):
        if is_started:
            start(started)
        raise KeyboardInterrupt

    monkeypatch.setattr(world, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(work)
    monkeypatch.undo()
    assert run(twice, 4) == 8
    assert events == (["began", "ended"] if is_started else [])


def test_a_blocking_call_in_its_own_world_is_refused():
    async def wait_for_itself():
        run(twice, 1)

    with pytest.raises(RuntimeError, match="its own event loop"):
        run(wait_for_itself)


def test_many_calls_at_once_each_get_their_own_answer():
    async def ask(count):
        return await asyncio.gather(*(run_async(twice, n) for n in range(count)))

    assert asyncio.run(ask(3000)) == [2 * n for n in range(3000)]
    # Several loops in several threads, each with its own answers.
    found = {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: asyncio.run(ask(n))}))
        for n in (100, 200, 300)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: [2 * k for k in range(n)] for n in (100, 200, 300)}


def test_one_that_takes_long_holds_up_nobody():
    gate = threading.Event()

    async def slow():
        await trio.to_thread.run_sync(gate.wait)
        return "slow"

    async def ask():
        waiting = asyncio.create_task(run_async(slow))
        await asyncio.sleep(0)
        assert await run_async(twice, 1) == 2
        assert not waiting.done()
        gate.set()
        return await waiting

    assert asyncio.run(ask()) == "slow"


@pytest.mark.parametrize("turns", [0, 1, 2, "until it began"])
def test_who_is_cancelled_waits_until_the_work_has_ended(turns):
    began, ended = [], []

    async def work():
        began.append(True)
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.01)
            ended.append(True)

    async def ask():
        task = asyncio.create_task(run_async(work))
        done = 0
        while not began if turns == "until it began" else done < turns:
            await asyncio.sleep(0.001)
            done += 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return list(ended)

    # Work that never began has no end.
    assert asyncio.run(ask()) == ([True] if ended else [])
    assert ended or turns != "until it began"
    assert began == ended


def test_a_result_that_comes_too_late_is_nobodys():
    started, cancelled = threading.Event(), threading.Event()

    async def stubborn():
        started.set()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(cancelled.wait)
        return "late"

    async def ask():
        task = asyncio.create_task(run_async(stubborn))
        await asyncio.to_thread(started.wait)
        task.cancel()
        await asyncio.sleep(0)
        cancelled.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await run_async(twice, 3)

    assert asyncio.run(ask()) == 6


def test_a_loop_may_end_before_its_work():
    gone = threading.Event()

    async def work():
        await trio.to_thread.run_sync(gone.wait)

    loop = asyncio.new_event_loop()
    task = loop.create_task(run_async(work))
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    gone.set()
    task._log_destroy_pending = False
    assert run(twice, 1) == 2
    assert asyncio.run(run_async(twice, 2)) == 4


class Adder:
    """Has a method in both kinds."""

    async def _add(self, one, *, other=1):
        """Return the sum."""
        return one + await twice(other)

    add, add_async = twins(_add)


def test_twins_do_the_same():
    assert Adder().add(1, other=3) == asyncio.run(Adder().add_async(1, other=3)) == 7
    assert (Adder.add.__name__, Adder.add_async.__name__) == ("add", "add_async")
    assert Adder.add.__doc__ == Adder.add_async.__doc__ == "Return the sum."


async def count(stop, ended):
    try:
        for number in range(stop):
            await trio.lowlevel.checkpoint()
            yield number
        if stop == 7:
            raise ValueError("seven")
    finally:
        ended.append(stop)


@pytest.mark.parametrize("stop", [0, 1, 2500])
def test_generators_are_iterated(stop):
    ended = []

    async def collect():
        return [n async for n in iterate_async(lambda: count(stop, ended))]

    assert list(iterate(lambda: count(stop, ended))) == list(range(stop))
    assert asyncio.run(collect()) == list(range(stop))
    assert ended == [stop, stop]


def test_generators_fail_and_stop():
    ended = []
    values = iterate(lambda: count(7, ended))
    with pytest.raises(ValueError, match="seven"):
        list(values)
    endless = iterate(lambda: count(10**9, ended))
    assert next(endless) == 0
    endless.close()
    assert ended == [7, 10**9]


def test_a_generator_may_be_collected_as_garbage_in_the_trio_world():
    ended = []
    endless = iterate(lambda: count(10**9, ended))
    assert next(endless) == 0

    async def collect():
        endless.close()
        while not ended:
            await trio.lowlevel.checkpoint()

    run(collect)
    assert ended == [10**9]


def _in_child(queue):
    queue.put((run(twice, 21), asyncio.run(run_async(twice, 4))))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_process_that_was_forked_has_a_world_of_its_own():
    assert run(twice, 1) == 2
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    assert queue.get() == (42, 8)
    child.join(120)
    assert child.exitcode == 0
