"""One asyncio loop in a thread of its own, for the clients that need asyncio.

Nothing else in zfuse imports asyncio: other modules write coroutine functions for their client
and have them run here.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

import outcome
import trio

from zfuse.errors import StorageError


async def wait_for[R](work: Callable[[], R]) -> R:
    """Do blocking *work* for a coroutine function of that thread, which goes on meanwhile."""
    return await asyncio.to_thread(work)


class AsyncioThread:
    """Runs coroutine functions for trio tasks.

        async with AsyncioThread() as thread:
            answer = await thread.run(fetch, url)

    The way there and back wakes each of the two threads once.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the thread; returns when its loop runs."""
        running = trio.Event()
        token = trio.lowlevel.current_trio_token()

        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            self._stopping = asyncio.Event()
            token.run_sync_soon(running.set)
            await self._stopping.wait()

        # A daemon, so that a process that dies without stop() does not wait for it.
        self._thread = threading.Thread(
            target=lambda: asyncio.run(main()), name="zfuse-asyncio", daemon=True
        )
        with trio.CancelScope(shield=True):
            self._thread.start()
            await running.wait()

    async def stop(self) -> None:
        """Cancel what still runs, whose callers get StorageError, and end the thread."""
        thread, self._thread = self._thread, None
        loop, self._loop = self._loop, None
        if thread is None or loop is None or self._stopping is None:
            return
        loop.call_soon_threadsafe(self._stopping.set)
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(thread.join)

    async def run[*Ts, T](self, function: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> T:
        """Return ``await function(*args)``, awaited in the asyncio thread.

        What it raises is raised here. When the trio task is cancelled, so is the asyncio task,
        and this waits until it has ended; a result that is there by then is not thrown away.

        Raises:
            StorageError: the thread is stopped.
        """
        if self._loop is None:
            raise StorageError("the connections of this storage are closed")
        return await _Hop(self._loop, lambda: function(*args)).wait()


class _Hop[T]:
    """One call on its way through the asyncio thread and back."""

    __slots__ = ("_call", "_loop", "_raise_cancel", "_task", "_token", "_waiter")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, call: Callable[[], Coroutine[Any, Any, T]]
    ) -> None:
        self._loop = loop
        self._call = call
        self._task: asyncio.Task[T] | None = None
        self._raise_cancel: Callable[[], Any] | None = None
        self._waiter = trio.lowlevel.current_task()
        self._token = trio.lowlevel.current_trio_token()

    async def wait(self) -> T:
        # stop() can not come in between: it runs in this thread, and the loop keeps the order.
        self._loop.call_soon_threadsafe(self._begin)
        try:
            result: T = await trio.lowlevel.wait_task_rescheduled(self._abort)
        except asyncio.CancelledError:
            if self._raise_cancel is not None:
                self._raise_cancel()
            raise StorageError("the connections of this storage were closed") from None
        return result

    def _abort(self, raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
        self._raise_cancel = raise_cancel
        # Once all is done the loop may be closed, though the result is still on its way.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._cancel)
        return trio.lowlevel.Abort.FAILED

    # In the asyncio thread.

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._work())
        self._task.add_done_callback(self._done)

    async def _work(self) -> T:
        return await self._call()  # called inside the task, so that its errors are the task's

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _done(self, task: asyncio.Task[T]) -> None:
        result = outcome.capture(task.result)
        self._token.run_sync_soon(trio.lowlevel.reschedule, self._waiter, result)
