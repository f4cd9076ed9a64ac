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
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from contextlib import aclosing, suppress
from typing import Any, Concatenate, Final

import trio

type Async[S, **P, R] = Callable[Concatenate[S, P], Awaitable[R]]


_AHEAD: Final = 1000
"""How many values of a generator may wait: each way between the threads costs 0.1 ms."""


class _World:
    """The thread of this process in which trio runs, and what is running there."""

    def __init__(self) -> None:
        self.pid = os.getpid()
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

    @property
    def is_here(self) -> bool:
        """Whether the caller runs in that thread, and would wait for itself."""
        return threading.current_thread() is self._thread

    def start[R](
        self, work: Callable[[], Awaitable[R]]
    ) -> tuple[concurrent.futures.Future[R], Callable[[], None]]:
        """Start *work*; return its future, and what cancels it."""
        future: concurrent.futures.Future[R] = concurrent.futures.Future()
        scope = trio.CancelScope()

        async def task() -> None:
            try:
                with scope:
                    result = await work()
                    future.set_result(result)
                    return
            except BaseException as exc:
                future.set_exception(exc)
                if not isinstance(exc, Exception):
                    raise
                return
            future.set_exception(concurrent.futures.CancelledError())

        def spawn() -> None:
            self.nursery.start_soon(task)

        self._token.run_sync_soon(spawn)
        return future, lambda: self._token.run_sync_soon(scope.cancel)


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
    future, cancel = world.start(functools.partial(work, *args, **kwargs))
    try:
        return future.result()
    except KeyboardInterrupt:
        cancel()
        concurrent.futures.wait([future])
        raise


async def run_async[**P, R](
    work: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs
) -> R:
    """Do *work* in the trio world and await its result in asyncio; a cancellation cancels it."""
    future, cancel = _world().start(functools.partial(work, *args, **kwargs))
    waiting = asyncio.wrap_future(future)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        cancel()
        await asyncio.wait([waiting])
        if not waiting.cancelled():
            waiting.exception()  # somebody has looked at it
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
