"""One trio world for programs that know nothing of trio.

Everything of zfuse below this runs on trio. A program calls it from ordinary code, or awaits
it in asyncio; either way the work happens in one thread of this process, which is started at
the first call and again after a fork. ``twins`` makes both kinds of method from one coroutine
function.
"""

import asyncio
import concurrent.futures
import functools
import os
import sys
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from contextlib import aclosing, suppress
from typing import Any, Concatenate, Final
from weakref import WeakKeyDictionary

import trio

type Async[S, **P, R] = Callable[Concatenate[S, P], Awaitable[R]]


_AHEAD: Final = 1000
"""How many values of a generator may wait: each way between the threads costs 0.1 ms."""


class _World:
    """The thread of this process in which trio runs, and what is running there."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._lanes: WeakKeyDictionary[asyncio.AbstractEventLoop, _Lane] = WeakKeyDictionary()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="zfuse-trio", daemon=True)
        self._thread.start()
        self._ready.wait()

    def _run(self) -> None:
        trio.run(self._serve)

    async def _serve(self) -> None:
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            self._token = trio.lowlevel.current_trio_token()
            self._ready.set()
            await trio.sleep_forever()

    def lane(self) -> "_Lane":
        """Return the lane of the asyncio loop that the caller runs in."""
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(loop)
        if lane is None:
            lane = self._lanes[loop] = _Lane(self.nursery, self._token)
        return lane

    @property
    def is_here(self) -> bool:
        """Whether the caller runs in that thread, and would wait for itself."""
        return threading.current_thread() is self._thread

    def start(self, work: "_Work[Any]") -> None:
        """Start *work*."""
        self._token.run_sync_soon(work.begin, self.nursery)

    def give_up(self, work: "_Work[Any]") -> None:
        """Cancel *work*, whether it was started or not; its future says when it has ended."""
        self._token.run_sync_soon(work.give_up)


class _Work[R]:
    """Work that a thread waits for; everything but the future belongs to the trio world."""

    __slots__ = ("_is_begun", "_scope", "_work", "future")

    def __init__(self, work: Callable[[], Awaitable[R]]) -> None:
        self.future: concurrent.futures.Future[R] = concurrent.futures.Future()
        self._work = work
        self._scope = trio.CancelScope()
        self._is_begun = False

    def begin(self, nursery: trio.Nursery) -> None:
        if not self.future.done():
            self._is_begun = True
            nursery.start_soon(self._run)

    def give_up(self) -> None:
        self._scope.cancel()
        if not self._is_begun:
            self.future.set_exception(concurrent.futures.CancelledError())

    async def _run(self) -> None:
        try:
            with self._scope:
                result = await self._work()
                self.future.set_result(result)
                return
        except BaseException as exc:  # an exit of one caller ends no other's work
            self.future.set_exception(exc)
            if isinstance(exc, trio.Cancelled):
                raise
            return
        self.future.set_exception(concurrent.futures.CancelledError())


class _Call[R]:
    """Work that an asyncio task awaits."""

    __slots__ = ("error", "future", "is_over", "over", "result", "scope", "work")

    def __init__(self, work: Callable[[], Awaitable[R]], loop: asyncio.AbstractEventLoop) -> None:
        self.work = work
        self.scope = trio.CancelScope()
        self.future: asyncio.Future[R] = loop.create_future()
        self.result: R
        self.error: BaseException | None = None
        self.is_over = False
        self.over: asyncio.Future[None] | None = None  # that somebody who was cancelled awaits

    def deliver(self) -> None:
        """Tell who awaits the work that it is over."""
        self.is_over = True
        if self.over is not None and not self.over.done():
            self.over.set_result(None)
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class _Lane:
    """The way between one asyncio loop and the trio world.

    Waking another thread costs more than most work that is done there. So what is asked for in
    one turn of the loop goes over at once, and so does what has ended when the loop wakes up.
    """

    def __init__(self, nursery: trio.Nursery, token: trio.lowlevel.TrioToken) -> None:
        self._nursery = nursery
        self._token = token
        self._asked: list[_Call[Any]] = []
        self._ended: deque[_Call[Any]] = deque()
        self._is_waking = False

    def start[R](self, work: Callable[[], Awaitable[R]]) -> _Call[R]:
        """Start *work* at the end of this turn of the loop."""
        loop = asyncio.get_running_loop()
        call = _Call(work, loop)
        if not self._asked:
            loop.call_soon(self._send)
        self._asked.append(call)
        return call

    async def cancel(self, call: _Call[Any]) -> None:
        """Cancel the work of *call*, and wait until it has ended."""
        if not call.is_over:
            call.over = asyncio.get_running_loop().create_future()
            self._send()
            self._token.run_sync_soon(call.scope.cancel)
            await call.over

    def _send(self) -> None:
        asked, self._asked = self._asked, []
        if asked:
            self._token.run_sync_soon(self._spawn, asked)

    def _deliver(self) -> None:
        # Before anything is taken: what ends from here on wakes the loop once more.
        self._is_waking = False
        while self._ended:
            self._ended.popleft().deliver()

    # In the trio world.

    def _spawn(self, asked: list[_Call[Any]]) -> None:
        for call in asked:
            self._nursery.start_soon(self._run, call)

    async def _run(self, call: _Call[Any]) -> None:
        call.error = concurrent.futures.CancelledError()  # unless it comes to an end
        try:
            with call.scope:
                call.result = await call.work()
                call.error = None
        except BaseException as exc:  # an exit of one caller ends no other's work
            call.error = exc
            if isinstance(exc, trio.Cancelled):
                raise
        finally:
            self._end(call)

    def _end(self, call: _Call[Any]) -> None:
        self._ended.append(call)
        if not self._is_waking:
            self._is_waking = True
            with suppress(RuntimeError):  # the loop was closed; nobody awaits this any more
                call.future.get_loop().call_soon_threadsafe(self._deliver)


_LOCK: Final = threading.Lock()
_worlds: Final[dict[int, _World]] = {}


def _world() -> _World:
    """Return the world of this process; one that was forked starts its own."""
    with _LOCK:
        pid = os.getpid()
        if pid not in _worlds:
            _worlds.clear()
            _worlds[pid] = _World()
        return _worlds[pid]


os.register_at_fork(
    before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release
)


def run[**P, R](work: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
    """Do *work* in the trio world and wait for its result; an interrupt cancels it.

    Raises:
        RuntimeError: this is called in the trio world, which would wait for itself.
    """
    world = _world()
    if world.is_here:
        raise RuntimeError("a blocking call of zfuse was made in its own event loop")
    started = _Work(functools.partial(work, *args, **kwargs))
    try:
        world.start(started)  # an interrupt may come as soon as this has begun
        return started.future.result()
    except KeyboardInterrupt:
        world.give_up(started)
        concurrent.futures.wait([started.future])
        raise


async def run_async[**P, R](
    work: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs
) -> R:
    """Do *work* in the trio world and await its result in asyncio; a cancellation cancels it."""
    lane = _world().lane()
    call = lane.start(functools.partial(work, *args, **kwargs))
    try:
        return await call.future
    except asyncio.CancelledError:
        await lane.cancel(call)
        raise


def twins[S, **P, R](
    work: Async[S, P, R],
) -> tuple[Callable[Concatenate[S, P], R], Callable[Concatenate[S, P], Coroutine[Any, Any, R]]]:
    """Return a blocking method and one to be awaited in asyncio that both do *work*.

    Their docstring is that of *work*. Use: ``commit, commit_async = twins(_commit)``.
    """

    @functools.wraps(work)
    def blocking(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return run(functools.partial(work, self, *args, **kwargs))

    @functools.wraps(work)
    async def awaited(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await run_async(functools.partial(work, self, *args, **kwargs))

    name = work.__name__.lstrip("_")
    _rename(blocking, work, name)
    _rename(awaited, work, f"{name}_async")
    return blocking, awaited


def _rename(function: Any, work: Any, name: str) -> None:  # noqa: ANN401 - any function
    function.__name__ = name
    function.__qualname__ = work.__qualname__.rpartition(".")[0] + "." + name


def iterate[T](make: Callable[[], AsyncGenerator[T]]) -> Iterator[T]:
    """Yield what the trio generator that *make* returns yields, to ordinary code."""
    pump = run(_Pump.started, make)
    try:
        while batch := run(pump.next_batch):
            yield from batch
    finally:
        if sys.is_finalizing():
            pass  # that thread is gone, and would be waited for for ever
        elif (world := _world()).is_here:  # as garbage, which any thread may collect
            world.nursery.start_soon(pump.stop)
        else:
            run(pump.stop)


async def iterate_async[T](make: Callable[[], AsyncGenerator[T]]) -> AsyncGenerator[T]:
    """Yield what the trio generator that *make* returns yields, in asyncio."""
    pump = await run_async(_Pump.started, make)
    try:
        while batch := await run_async(pump.next_batch):
            for value in batch:
                yield value
    finally:
        await run_async(pump.stop)


class _Pump[T]:
    """Runs a generator in one task, as its cancel scopes need, and hands out what it yields."""

    def __init__(self, make: Callable[[], AsyncGenerator[T]]) -> None:
        self._send, self._receive = trio.open_memory_channel[T](_AHEAD)
        self._error: BaseException | None = None
        self._ended = trio.Event()
        self._scope = trio.CancelScope()
        self._make = make

    @classmethod
    async def started(cls, make: Callable[[], AsyncGenerator[T]]) -> "_Pump[T]":
        pump = cls(make)
        _world().nursery.start_soon(pump._run)
        return pump

    async def _run(self) -> None:
        try:
            with self._scope:
                async with aclosing(self._make()) as values:
                    async for value in values:
                        await self._send.send(value)
        except Exception as exc:  # noqa: BLE001 - raised where it is waited for
            self._error = exc
        finally:
            self._send.close()
            self._ended.set()

    async def next_batch(self) -> list[T]:
        """Return the next values, at least one; none at the end."""
        try:
            batch = [await self._receive.receive()]
        except trio.EndOfChannel:
            if self._error is not None:
                raise self._error from None
            return []
        with suppress(trio.WouldBlock, trio.EndOfChannel):
            while len(batch) < _AHEAD:
                batch.append(self._receive.receive_nowait())
        return batch

    async def stop(self) -> None:
        """End the generator and wait until it has."""
        self._scope.cancel()
        await self._ended.wait()
