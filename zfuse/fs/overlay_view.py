"""What a directory on a writable branch shows: the base, with the names that changed on top."""

from typing import Final, Self, assert_never
from weakref import WeakValueDictionary

from zfuse.errors import NameTooLongError
from zfuse.fs.entry import Caching, Directory, Entry, File, Listing
from zfuse.fs.journal import Journal
from zfuse.fs.names import NAME_MAX
from zfuse.fs.overlay_file import OverlayFile
from zfuse.fs.overlay_listing import Listed, OverlayListing
from zfuse.fs.staged import EntryRow, Path, RowKind, StagedDirectory
from zfuse.fs.staging import DIRECTORY_MODE, Staging

_LOOK_AT: Final = 512


class OverlayView(Listed):
    """A directory; ``parent`` is None for the root of the branch, and when it is removed."""

    def __init__(
        self,
        staging: Staging,
        parent: Self | None,
        name: str,
        row: StagedDirectory | None,
    ) -> None:
        self.staging = staging
        self.parent = parent
        self.name = name
        self.row = row
        self.is_gone = False
        self._children: WeakValueDictionary[str, Self | OverlayFile] = WeakValueDictionary()
        self._lower: Directory | None = None
        self._lower_stamp = -1
        staging.live.add(self)

    # --- what it is ----------------------------------------------------------------------------

    @property
    def mtime_ns(self) -> int:
        """When its names changed last, or that of the snapshot shown."""
        return self.staging.tree.mtime_ns if self.row is None else self.row.mtime_ns

    async def size(self) -> int:
        """Return the usual size; whoever asks for it is told the time too, so that is learnt."""
        await self.staging.tree.learn_time()
        return await super().size()

    @property
    def caching(self) -> Caching:
        """Briefly: its times may change."""
        return Caching.BRIEFLY

    @property
    def mode(self) -> int | None:
        """The permissions that somebody gave it."""
        return DIRECTORY_MODE if self.row is None else self.row.mode

    @property
    def links(self) -> int:
        """One, or none once it is removed."""
        return 0 if self.is_gone else 1

    def describe(self) -> str:
        """Return ref and path."""
        return "/".join([str(self.staging.tree.ref), *self.path])

    @property
    def path(self) -> Path:
        """The names that lead here from the root of the branch."""
        return () if self.parent is None else (*self.parent.path, self.name)

    @property
    def origin(self) -> Path | None:
        """The directory of the base that shows through, None if there is none."""
        if self.row is not None:
            return self.row.origin
        if self.parent is None:
            return ()
        above = self.parent.origin
        return None if above is None else (*above, self.name)

    @property
    def pending(self) -> Path | None:
        """The same for the snapshot that a commit under way is to become."""
        if self.row is not None:
            return self.row.pending
        if self.parent is None:
            return ()
        above = self.parent.pending
        return None if above is None else (*above, self.name)

    async def lower(self) -> Directory | None:
        """Return the directory of the base that shows through."""
        while self._lower_stamp != self.staging.stamp:
            stamp = self.staging.stamp
            found = await self._find_lower()
            if stamp == self.staging.stamp:
                self._lower, self._lower_stamp = found, stamp
        return self._lower

    async def _find_lower(self) -> Directory | None:
        origin = self.origin
        if origin is None:
            return None
        if self.parent is not None and self.row is None:
            above = await self.parent.lower()
            found = None if above is None else await above.lookup(self.name)
            return found if isinstance(found, Directory) else None
        place = self.staging.lower_root
        for name in origin:
            entry = await place.lookup(name)
            if not isinstance(entry, Directory):
                return None
            place = entry
        return place

    async def lower_entry(self, name: str) -> Entry | None:
        """Return what the base has under *name*, whether or not it shows."""
        lower = await self.lower()
        return None if lower is None else await lower.lookup(name)

    # --- looking -------------------------------------------------------------------------------

    async def lookup(self, name: str) -> Entry | None:
        """Return the entry called *name*."""
        require_short(name)
        return await self.child(name)

    async def child(self, name: str) -> Self | OverlayFile | None:
        """Return the entry called *name*."""
        while True:
            known = self._children.get(name)
            if known is not None:
                return known
            row = self._row_of(name)
            if row is not None:
                return self._staged_child(name, row)
            if self.is_gone:
                return None
            stamp = self.staging.stamp
            lower = await self.lower_entry(name)
            if stamp == self.staging.stamp and self._row_of(name) is None:
                return self._lower_child(name, lower)

    def _row_of(self, name: str) -> EntryRow | None:
        journal = self.staging.journal
        if self.row is None or journal is None:
            return None
        return journal.entry(self.row.id, name)

    def _staged_child(self, name: str, row: EntryRow) -> Self | OverlayFile | None:
        journal = self.staging.begin()
        match row.kind:
            case RowKind.WHITEOUT:
                return None
            case RowKind.DIRECTORY:
                staged = journal.directory_row(row.child)
                child: Self | OverlayFile = type(self)(self.staging, self, name, staged)
            case RowKind.FILE:
                child = self._staged_file(journal, name, row.child)
            case _:
                assert_never(row.kind)
        self._children[name] = child
        return child

    def _staged_file(self, journal: Journal, name: str, file_id: int) -> OverlayFile:
        known = self.staging.files.get(file_id)
        if isinstance(known, OverlayFile):
            known.meet_name(self, name)
            return known
        file = OverlayFile(self.staging, self, name)
        file.staged = journal.file_row(file_id)
        self.staging.files[file_id] = file
        return file

    def _lower_child(self, name: str, lower: Entry | None) -> Self | OverlayFile | None:
        known = self._children.get(name)
        if known is not None or lower is None:
            if isinstance(known, OverlayFile) and isinstance(lower, File):
                known.lower = known.lower or lower  # a commit made it forget
            return known
        child: Self | OverlayFile
        if isinstance(lower, Directory):
            child = type(self)(self.staging, self, name, None)
        else:
            assert isinstance(lower, File)
            child = OverlayFile(self.staging, self, name, lower=lower)
        self._children[name] = child
        return child

    def has_staged(self, name: str, file_id: int) -> bool:
        """Tell whether *name* stands for a staged file."""
        row = self._row_of(name)
        return row is not None and row.kind is RowKind.FILE and row.child == file_id

    async def listing(self) -> Listing:
        """Return the names that changed, then the others of the base."""
        while True:
            stamp = self.staging.stamp
            lower = None if self.is_gone else await self.lower()
            listing = None if lower is None else await lower.listing()
            if stamp == self.staging.stamp:
                return OverlayListing(self, self._names(), listing)

    def _names(self) -> list[tuple[str, EntryRow]]:
        journal = self.staging.journal
        if self.row is None or journal is None:
            return []
        return journal.entries(self.row.id)

    def staged_now(self, name: str) -> Self | OverlayFile | None:
        """Return the entry called *name* if it is staged."""
        row = self._row_of(name)
        if row is None:
            return None
        return self._children.get(name) or self._staged_child(name, row)

    def lower_now(self, name: str, lower: Entry) -> Self | OverlayFile | None:
        """Return the entry called *name* if it is the base's *lower* and shows."""
        return None if self._row_of(name) is not None else self._lower_child(name, lower)

    async def is_empty(self) -> bool:
        """Tell whether nothing shows here."""
        listing = await self.listing()
        start = 0
        while items := await listing.items(start, start + _LOOK_AT):
            if any(name for name, _, _ in items):
                return False
            start += len(items)
        return True

    def is_below(self, other: Self) -> bool:
        """Tell whether this is *other*, or somewhere below it."""
        place: Self | None = self
        while place is not None:
            if place is other:
                return True
            place = place.parent
        return False

    # --- what others do to it ------------------------------------------------------------------

    def take(self, name: str, child: Self | OverlayFile) -> None:
        """Show *child* under *name*, as the journal has it there now."""
        self._children[name] = child

    def leave(self, name: str) -> None:
        """Look *name* up anew from here on."""
        self._children.pop(name, None)

    def detach(self, name: str) -> None:
        """Let *name* be looked up anew; who has the old entry open keeps it."""
        child = self._children.pop(name, None)
        if child is not None:
            child.is_gone = True

    def removed(self) -> None:
        """Take note that the directory is gone."""
        self.is_gone = True
        self.row = None

    async def must_hide(self, name: str) -> bool:
        """Tell whether the base, or what a commit under way makes of it, has *name* here."""
        if self.row is not None and self.staging.is_in_commit(self.row.id, name):
            return True
        return await self.lower_entry(name) is not None


def require_short(name: str) -> None:
    """Raise NameTooLongError for a name that Linux would not hold."""
    if len(name) * 4 > NAME_MAX and len(name.encode("utf-8", "surrogateescape")) > NAME_MAX:
        raise NameTooLongError(f"the name {name[:40]!r}... is too long")
