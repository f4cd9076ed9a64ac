"""The names in a directory of a writable branch, as they were when it was opened."""

from abc import abstractmethod
from collections.abc import Sequence

from zfuse.fs.entry import Directory, Entry, Listing
from zfuse.fs.staged import EntryRow, RowKind
from zfuse.fs.staging import OverlayPlace


class Listed(OverlayPlace):
    """What a listing needs to know of its directory."""

    @abstractmethod
    async def child(self, name: str) -> Entry | None:
        """Return the entry called *name*."""

    @abstractmethod
    def staged_now(self, name: str) -> Entry | None:
        """Return the entry called *name* if it is staged."""

    @abstractmethod
    def lower_now(self, name: str, lower: Entry) -> Entry | None:
        """Return the entry called *name* if it is the base's *lower* and shows."""


class OverlayListing(Listing):
    """Names of rows, then those of the base; each is what it is when it is listed.

    A name that is there all the time is listed, whether it is staged, committed or
    overwritten meanwhile; one that is gone is passed over.
    """

    def __init__(
        self,
        directory: Listed,
        names: Sequence[tuple[str, EntryRow]],
        lower: Listing | None,
    ) -> None:
        self._directory = directory
        self._rows = frozenset(name for name, _ in names)
        self._staged = [name for name, row in names if row.kind is not RowKind.WHITEOUT]
        self._lower = lower

    def __len__(self) -> int:
        return len(self._staged) + (0 if self._lower is None else len(self._lower))

    async def items(self, start: int, stop: int) -> Sequence[tuple[str, Entry, int]]:
        """Return a piece of the listing, with an empty name where nothing shows any more."""
        count, place = len(self._staged), self._directory
        if start < count:
            return [
                await _item(name, place.staged_now(name) or await place.child(name), place)
                for name in self._staged[start : min(stop, count)]
            ]
        if self._lower is None:
            return []
        found: list[tuple[str, Entry, int]] = []
        for name, entry, size in await self._lower.items(start - count, stop - count):
            if not name or name in self._rows:
                found.append(("", place, 0))
                continue
            showing = place.lower_now(name, entry)
            if showing is not None:
                found.append((name, showing, size))
            else:
                found.append(await _item(name, await place.child(name), place))
        return found


async def _item(name: str, entry: Entry | None, directory: Directory) -> tuple[str, Entry, int]:
    return ("", directory, 0) if entry is None else (name, entry, await entry.size())
