"""Pieces of objects in memory, each fetched once however many readers want it.

An object is cut into blocks of a size that its reader chooses: one block for a chunk that
is read whole, small blocks for a shard of which a reader takes a few inner chunks.
"""

from collections.abc import Awaitable, Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Final

import trio

from zfuse.byterange import ByteRange, coalesce
from zfuse.cache.budget import MemoryBudget, WeighedCache
from zfuse.errors import CorruptionError

FETCH_MAX: Final = 8 << 20
"""Most bytes asked for in one request; longer runs are fetched in parallel pieces."""

Fetch = Callable[[ByteRange], Awaitable[bytes]]
_Key = tuple[Hashable, int]


@dataclass(eq=False, slots=True)
class _Flight:
    """A block on its way: ``data`` or ``error`` is set once it has landed, unless cancelled."""

    landed: trio.Event = field(default_factory=trio.Event)
    data: bytes | None = None
    error: Exception | None = None


class ByteCache:
    """Blocks of objects within a memory budget, with single flight per block."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._blocks: WeighedCache[_Key, bytes] = budget.cache(len)
        self._flights: dict[_Key, _Flight] = {}
        self.hits = 0
        """Blocks that were asked for and were in memory."""
        self.misses = 0
        """Blocks that were asked for and had to be fetched, or waited for."""

    def holds(self, owner: Hashable, number: int = 0) -> bool:
        """Tell whether a block of *owner* is in memory."""
        return (owner, number) in self._blocks

    def drop(self, owner: Hashable, number: int = 0) -> None:
        """Free a block of *owner*, if it is here."""
        self._blocks.pop((owner, number), None)

    async def read(
        self, owner: Hashable, wanted: ByteRange, *, size: int, block: int, fetch: Fetch
    ) -> bytes:
        """Return the bytes of *wanted*, clipped to the *size* bytes that *owner* has.

        *block* is the length that *owner* is cut into, the same in every call for it;
        *fetch* is called for ranges of whole blocks, several at once where they lie apart.

        Raises:
            CorruptionError: *fetch* returned fewer bytes than the owner should have.
        """
        stop = min(wanted.stop, size)
        if wanted.start >= stop:
            return b""
        numbers = range(wanted.start // block, (stop - 1) // block + 1)
        # What was found is kept here: a small budget may evict it before the rest arrives.
        pieces: dict[int, bytes] = {}
        while len(pieces) < len(numbers):
            waits, missing = self._sort(owner, numbers, pieces)
            if missing:
                pieces |= await self._load(owner, missing, size, block, fetch)
            for number, flight in waits:
                await flight.landed.wait()
                if flight.error is not None:
                    raise flight.error
                if flight.data is not None:  # else its leader was cancelled: ask again
                    pieces[number] = flight.data
        skip = wanted.start - numbers.start * block
        length = stop - wanted.start
        if len(numbers) == 1:
            only = pieces[numbers.start]
            return only if length == len(only) else only[skip : skip + length]
        return b"".join(pieces[number] for number in numbers)[skip : skip + length]

    def _sort(
        self, owner: Hashable, numbers: range, pieces: dict[int, bytes]
    ) -> tuple[list[tuple[int, _Flight]], list[int]]:
        """Add the blocks that are here to *pieces*; tell those on their way from the rest."""
        waits: list[tuple[int, _Flight]] = []
        missing: list[int] = []
        for number in numbers:
            if number in pieces:
                continue
            key = (owner, number)
            data = self._blocks.get(key)
            if data is not None:
                pieces[number] = data
            elif (flight := self._flights.get(key)) is not None:
                waits.append((number, flight))
            else:
                missing.append(number)
        self.hits += len(numbers) - len(waits) - len(missing)
        self.misses += len(waits) + len(missing)
        return waits, missing

    async def _load(
        self, owner: Hashable, missing: list[int], size: int, block: int, fetch: Fetch
    ) -> dict[int, bytes]:
        # No checkpoint between the look-up in _sort and this: two tasks can not both fetch.
        flights = {number: _Flight() for number in missing}
        self._flights.update({(owner, number): flight for number, flight in flights.items()})
        runs = list(_runs(missing, size, block))
        try:
            if len(runs) == 1:
                await self._fetch_run(owner, runs[0], block, fetch)
            else:
                await self._fetch_runs(owner, runs, block, fetch)
        finally:
            for number, flight in flights.items():
                del self._flights[owner, number]
                flight.landed.set()
        return {
            number: flight.data for number, flight in flights.items() if flight.data is not None
        }

    async def _fetch_runs(
        self, owner: Hashable, runs: list[ByteRange], block: int, fetch: Fetch
    ) -> None:
        errors: list[Exception] = []

        async def one(run: ByteRange) -> None:
            try:
                await self._fetch_run(owner, run, block, fetch)
            except Exception as exc:  # noqa: BLE001 - handed to the caller below
                errors.append(exc)

        async with trio.open_nursery() as nursery:
            for run in runs:
                nursery.start_soon(one, run)
        if errors:
            raise errors[0]

    async def _fetch_run(self, owner: Hashable, run: ByteRange, block: int, fetch: Fetch) -> None:
        numbers = range(run.start // block, -(-run.stop // block))
        try:
            data = _whole(await fetch(run), run, owner)
        except Exception as exc:
            for number in numbers:
                self._flights[owner, number].error = exc
            raise
        for number in numbers:
            offset = number * block - run.start
            piece = data if len(numbers) == 1 else data[offset : offset + block]
            self._flights[owner, number].data = piece
            self._budget.insert(self._blocks, (owner, number), piece)


def _whole(data: bytes, run: ByteRange, owner: Hashable) -> bytes:
    if len(data) != len(run):
        raise CorruptionError(
            f"{owner}: {len(data)} bytes came where {len(run)} bytes at {run.start}"
            " are referenced; the object is truncated"
        )
    return data


def _runs(missing: list[int], size: int, block: int) -> Iterator[ByteRange]:
    """Join neighbouring blocks into ranges, none longer than one request should be."""
    pieces = (ByteRange(n * block, min((n + 1) * block, size)) for n in missing)
    step = max(FETCH_MAX // block, 1) * block
    for run in coalesce(pieces):
        for start in range(run.start, run.stop, step):
            yield ByteRange(start, min(start + step, run.stop))
