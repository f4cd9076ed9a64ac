"""A line on a terminal that tells how far long work is."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from zfuse.errors import ZfuseError

_EVERY_S: Final = 0.5


@asynccontextmanager
async def ticking(describe: Callable[[], str]) -> AsyncIterator[None]:
    """Show what *describe* returns on standard error, if that is a terminal, during the block."""
    if not sys.stderr.isatty():
        yield
        return

    async def show() -> None:
        while True:
            await trio.sleep(_EVERY_S)
            print(f"\r\x1b[K{describe()}", end="", file=sys.stderr, flush=True)

    failure: ZfuseError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(show)
        try:
            yield
        except ZfuseError as exc:
            failure = exc  # not to come as one of a group
        nursery.cancel_scope.cancel()
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    if failure is not None:
        raise failure
