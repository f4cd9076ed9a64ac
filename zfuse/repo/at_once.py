"""Doing several things at the same time, with one error for all of them."""

from collections.abc import Awaitable, Callable, Iterable

import trio

from zfuse.errors import ZfuseError


async def at_once(jobs: Iterable[Callable[[], Awaitable[object]]], *, most: int) -> None:
    """Run all *jobs*, at most so many at a time.

    Raises:
        ZfuseError: the first that a job raises; the other jobs are cancelled.
    """
    errors: list[ZfuseError] = []
    turns = trio.Semaphore(most)

    async def run(job: Callable[[], Awaitable[object]]) -> None:
        try:
            await job()
        except ZfuseError as exc:
            errors.append(exc)
            nursery.cancel_scope.cancel()
        finally:
            turns.release()

    async with trio.open_nursery() as nursery:
        for job in jobs:
            await turns.acquire()
            nursery.start_soon(run, job)
    if errors:
        raise errors[0]
