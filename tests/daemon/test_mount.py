import trio

from zfuse.daemon.mount import _Refresh
from zfuse.fs.filesystem import Refreshed


class Repository:
    branches = tags = ()


class FileSystem:
    """Has moved once, and finds nothing to move from then on."""

    def __init__(self):
        self.stale = [(1, "main")]

    async def refresh(self):
        await trio.lowlevel.checkpoint()
        stale, self.stale = self.stale, []
        return Refreshed([], stale, [])


class Kernel:
    """Takes a second to let go of a name."""

    async def invalidate(self, names):
        await trio.sleep(len(names))


async def test_a_second_refresh_does_not_overtake_the_first(autojump_clock):
    """It has nothing to do, and returns when nobody gets old bytes any more all the same."""
    refresh = _Refresh(FileSystem(), Kernel(), Repository())
    ended = []

    async def once():
        await refresh.once()
        ended.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(once)
        nursery.start_soon(once)
    assert ended == [1, 1]
