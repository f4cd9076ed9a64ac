"""How a test holds one thing that a writable branch does, while others go on."""

from contextlib import asynccontextmanager

import trio

from tests.compat.documents import put_all
from tests.compat.oracle import expected_tree, official_keys
from tests.compat.place import changing
from tests.fs.branches import MAIN, writing
from zfuse.errors import StorageTimeoutError, ZfuseError
from zfuse.fs.writable import Movement

PATIENCE_S = 100  # for what never takes a second; a test that would hang fails


class Stop:
    """Holds the first call that comes by, until the test lets it go on."""

    def __init__(self):
        self.reached = trio.Event()
        self.go_on = trio.Event()

    async def meet(self):
        if not self.reached.is_set():
            self.reached.set()
            await self.go_on.wait()

    def before(self, monkeypatch, owner, name):
        """Stop a function that runs in a thread before it does anything."""
        real = getattr(owner, name)

        def stopped(*args):
            trio.from_thread.run(self.meet)
            return real(*args)

        monkeypatch.setattr(owner, name, stopped)
        return self

    def after(self, monkeypatch, owner, name):
        """Stop an async function when it has its result."""
        real = getattr(owner, name)

        async def stopped(*args):
            result = await real(*args)
            await self.meet()
            return result

        monkeypatch.setattr(owner, name, stopped)
        return self

    def at_storage(self, b, operation, prefix):
        """Stop the first such access to the store."""

        async def before(called, key):
            if called == operation and key.startswith(prefix):
                await self.meet()

        b.driven.storage.before = before
        return self


class Call:
    """What became of a call: its ``result``, or the ``error`` that it raised."""

    def __init__(self):
        self.result = self.error = None

    async def run(self, call, *args):
        try:
            self.result = await call(*args)
        except ZfuseError as exc:
            self.error = exc


@asynccontextmanager
async def held(stop, call, *args):
    """Run the block while *call* stands still at *stop*; then let the call end."""
    made = Call()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run, call, *args)
            await stop.reached.wait()
            try:
                yield made
            finally:
                stop.go_on.set()


@asynccontextmanager
async def again(b):
    """Let go of the branch, as a daemon does that ends, and open it anew."""
    b.writable.close()
    async with writing(b.place, b.shadow.parent) as branch:
        yield branch


async def until(holds):
    with trio.fail_after(PATIENCE_S):
        while not await holds():  # noqa: ASYNC110 - looks at the disk
            await trio.sleep(0.01)


def refuse_chunks(b, stop):
    """Let the store refuse all chunks until *stop* is reached."""

    async def before(operation, key):
        if operation == "put" and key.startswith("chunks/") and not stop.reached.is_set():
            raise StorageTimeoutError("the store is down")

    b.driven.storage.before = before


def fail_store(b, prefix, *, after=""):
    """Let reads below *prefix* fail, from the first put below *after* on if that is given."""
    down = not after

    async def before(operation, key):
        nonlocal down
        if operation == "put" and after and key.startswith(after):
            down = True
        elif down and operation != "put" and key.startswith(prefix):
            raise StorageTimeoutError("the store is down")

    b.driven.storage.before = before


def others(b, files):
    """Commit *files* with the official library; return the snapshot."""
    with changing(b.official(), "others") as store:
        put_all(store, files)
    return tip(b)


def tip(b, branch="main"):
    return b.official().lookup_branch(branch)


def committed(b):
    return expected_tree(official_keys(b.official(), MAIN)).files


async def refresh(b):
    """Let the branch follow what others did; return what that told."""
    movement = Movement([], [], [])
    await b.driven.repository.refresh()
    await b.writable.advance(movement)
    return movement


async def opened(b, path):
    """Open a file as somebody does who will change it in place."""
    return await (await b.find(path)).open()


async def listed(directory):
    listing = await directory.listing()
    return await rest(listing, 0)


async def rest(listing, start):
    """Return the names that come from *start* on, a few at a time."""
    names = []
    while start < len(listing):
        items = await listing.items(start, start + 64)
        assert items
        start += len(items)
        names += [name for name, _, _ in items if name]
    assert len(names) == len(set(names))
    return names


def stale_names(stale):
    return {f"{directory.describe()}/{name}".split("/main/")[1] for directory, name in stale}
