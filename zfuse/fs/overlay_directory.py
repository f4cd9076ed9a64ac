"""A directory on a writable branch, and how the names in it change.

A directory keeps its inode as long as the kernel knows it, wherever it is moved. It has a row
in the journal once a name in it changed, or if it is not where the base has it.
"""

import os
import time

import trio

from zfuse.errors import (
    AlreadyExistsError,
    CrossTreeError,
    InvalidInputError,
    NotEmptyError,
    NotFoundError,
    StaleError,
)
from zfuse.fs.entry import Directory, Entry, File
from zfuse.fs.journal import Journal
from zfuse.fs.overlay_file import OverlayFile
from zfuse.fs.overlay_view import OverlayView, require_short
from zfuse.fs.staged import RowKind, StagedFile
from zfuse.fs.staging import DIRECTORY_MODE, later_ns


class OverlayDirectory(OverlayView):
    """A directory whose names can be changed."""

    def ensure_row(self) -> int:
        """Return the id of the row in the journal, made now if there is none."""
        if self.is_gone:  # another may have its name by now
            raise StaleError(f"{self.describe()} was removed")
        journal = self.staging.begin()
        if self.row is None:
            if self.parent is None:
                self.row = self.staging.root_row()
                assert self.row is not None
            else:
                origin, pending = self.origin, self.pending
                with journal.change():
                    above = self.parent.ensure_row()
                    row = journal.add_directory(origin, pending, DIRECTORY_MODE, self.mtime_ns)
                    journal.put(above, self.name, RowKind.DIRECTORY, row.id)
                self.row = row
                journal.undo_with(self._forget_row)
        return self.row.id

    def _forget_row(self) -> None:
        self.row = None

    async def create(self, name: str, mode: int, *, exclusive: bool) -> File:
        """Make an empty file, or return the one that is there unless *exclusive*."""
        async with self.changing(name):
            found = await self.child(name)
            if isinstance(found, OverlayFile) and not exclusive:
                return found
            if found is not None:
                raise AlreadyExistsError(f"{found.describe()} exists")
            journal = self.staging.begin()
            journal.room.require(0)
            blob, descriptor = journal.blobs.open_new()
            row = StagedFile(0, blob, None, 0, time.time_ns(), mode, is_closed=False)
            try:
                with journal.change():
                    parent = self.ensure_row()
                    journal.add_file(row)
                    journal.put(parent, name, RowKind.FILE, row.id)
                    self.touched()
            except BaseException:
                os.close(descriptor)
                journal.blobs.remove(blob)
                raise
            file = OverlayFile(self.staging, self, name)
            file.adopt(row, descriptor)
            self.take(name, file)
            return file

    async def make_directory(self, name: str, mode: int) -> Directory:
        """Make an empty directory."""
        async with self.changing(name):
            found = await self.child(name)
            if found is not None:
                raise AlreadyExistsError(f"{found.describe()} exists")
            journal = self.staging.begin()
            journal.room.require(0)
            with journal.change():
                parent = self.ensure_row()
                row = journal.add_directory(None, None, mode, time.time_ns())
                journal.put(parent, name, RowKind.DIRECTORY, row.id)
                self.touched()
            made = OverlayDirectory(self.staging, self, name, row)
            self.take(name, made)
            return made

    async def remove_file(self, name: str) -> None:
        """Take a name from a file; who has it open keeps it."""
        async with self.changing(name):
            found = await self._existing(name)
            if not isinstance(found, OverlayFile):
                raise InvalidInputError(f"{found.describe()} is a directory")
            hides = await self.must_hide(name)
            journal = self.staging.begin()
            with journal.change():
                self._take_away(name, hides=hides)
                self.touched()
                is_last = _drop_replaced(journal, found)
            self.leave(name)
            found.lose_name(self, name)
            if is_last:
                found.unlinked()

    async def remove_directory(self, name: str) -> None:
        """Remove an empty directory."""
        async with self.changing(name):
            found = await self._existing(name)
            if not isinstance(found, OverlayDirectory):
                raise InvalidInputError(f"{found.describe()} is not a directory")
            if not await found.is_empty():
                raise NotEmptyError(f"{found.describe()} is not empty")
            hides = await self.must_hide(name)
            journal = self.staging.begin()
            with journal.change():
                self._take_away(name, hides=hides)
                self.touched()
                if found.row is not None:
                    journal.drop_directory(found.row.id)
            self.leave(name)
            found.removed()

    async def rename(self, name: str, target: Directory, new_name: str, *, replace: bool) -> None:
        """Give what is called *name* another name, maybe in another directory."""
        if not isinstance(target, OverlayDirectory) or target.staging is not self.staging:
            raise CrossTreeError(f"{self.describe()}/{name} can not leave its branch")
        async with target.changing(new_name):
            found = await self._existing(name)
            there = await target.child(new_name)
            if there is found:
                return
            if there is not None:
                await _check_replacement(found, there, replace=replace)
            if isinstance(found, OverlayDirectory) and target.is_below(found):
                raise InvalidInputError(f"{found.describe()} can not be moved into itself")
            if isinstance(found, OverlayFile):
                await found.stage()
            hides = await self.must_hide(name)
            journal = self.staging.begin()
            with journal.change():
                if isinstance(found, OverlayDirectory):
                    kind, child = RowKind.DIRECTORY, found.ensure_row()
                else:
                    assert found.staged is not None
                    kind, child = RowKind.FILE, found.staged.id
                above = target.ensure_row()
                self._take_away(name, hides=hides)
                journal.put(above, new_name, kind, child)
                self.touched()
                target.touched()
                is_last = _drop_replaced(journal, there)
            self.leave(name)
            target.take(new_name, found)
            if isinstance(found, OverlayFile):
                found.lose_name(self, name)
            self._moved(found, target, new_name, there, is_last=is_last)

    def _moved(
        self,
        found: "OverlayDirectory | OverlayFile",
        target: "OverlayDirectory",
        new_name: str,
        there: "OverlayDirectory | OverlayFile | None",
        *,
        is_last: bool,
    ) -> None:
        if isinstance(found, OverlayDirectory):
            found.parent, found.name = target, new_name
        else:
            found.gain_name(target, new_name)
            if found.staged is not None and found.staged.is_closed:
                self.staging.tell_closed(found.staged.id)
        if isinstance(there, OverlayDirectory):
            there.removed()
        elif there is not None:
            there.lose_name(target, new_name)
            if is_last:
                there.unlinked()

    async def link(self, entry: Entry, name: str) -> None:
        """Give a file one more name."""
        if not isinstance(entry, OverlayFile) or entry.staging is not self.staging:
            raise CrossTreeError(f"{entry.describe()} can not get a name in another tree")
        async with self.changing(name):
            there = await self.child(name)
            if there is not None:
                raise AlreadyExistsError(f"{there.describe()} exists")
            if entry.is_gone:
                raise NotFoundError(f"{entry.describe()} has been removed")
            row = await entry.stage()
            journal = self.staging.begin()
            with journal.change():
                journal.put(self.ensure_row(), name, RowKind.FILE, row.id)
                self.touched()
            self.take(name, entry)
            entry.gain_name(self, name)
            if row.is_closed:
                self.staging.tell_closed(row.id)

    async def sync(self) -> None:
        """Return when the names would survive a loss of power."""
        await self.staging.sync()

    def set_mode(self, mode: int) -> None:
        """Give the directory other permissions."""
        self.ensure_row()
        assert self.row is not None
        self.row.mode = mode
        self.staging.begin().save_directory(self.row)

    def set_times(self, mtime_ns: int) -> None:
        """Give a directory that has a row another time of change."""
        if self.row is not None:
            self.row.mtime_ns = mtime_ns
            self.staging.begin().save_directory(self.row)

    # --- pieces of the above -------------------------------------------------------------------

    def changing(self, name: str) -> "_Changing":
        """Hold the names of the branch still while *name* changes here."""
        return _Changing(self, name)

    async def _existing(self, name: str) -> "OverlayDirectory | OverlayFile":
        found = await self.child(name)
        if found is None:
            raise NotFoundError(f"{self.describe()} has no {name!r}")
        return found

    def _take_away(self, name: str, *, hides: bool) -> None:
        journal = self.staging.begin()
        if hides:
            journal.put(self.ensure_row(), name, RowKind.WHITEOUT)
        elif self.row is not None:
            journal.remove(self.row.id, name)

    def touched(self) -> None:
        """Note that names changed just now."""
        if self.row is not None:
            # In memory alone: after the next mount it is a little older again.
            self.row.mtime_ns = later_ns(self.row.mtime_ns)

    async def remove_as_root(self) -> None:
        """Take the directory out of use, if it is empty.

        Raises:
            NotEmptyError: it is not.
        """
        async with self.changing(""):
            if not await self.is_empty():
                raise NotEmptyError(f"{self.describe()} is not empty")
            self.staging.begin()
            self.removed()


class _Changing:
    """Holds the names of a branch still while one of a directory is to change."""

    def __init__(self, directory: OverlayDirectory, name: str) -> None:
        self._directory = directory
        self._name = name

    async def __aenter__(self) -> None:
        staging = self._directory.staging
        require_short(self._name)
        await staging.turn()
        try:
            staging.naming.acquire_nowait()  # as a rule nobody has it: no turn of the scheduler
        except trio.WouldBlock:
            await staging.naming.acquire()
        if self._directory.is_gone:
            staging.naming.release()
            raise StaleError(f"{self._directory.describe()} was removed")

    async def __aexit__(self, *_: object) -> None:
        self._directory.staging.naming.release()


async def _check_replacement(
    found: OverlayDirectory | OverlayFile,
    there: OverlayDirectory | OverlayFile,
    *,
    replace: bool,
) -> None:
    if not replace:
        raise AlreadyExistsError(f"{there.describe()} exists")
    if isinstance(found, OverlayDirectory) is not isinstance(there, OverlayDirectory):
        raise InvalidInputError(f"{there.describe()} is of another kind")
    if isinstance(there, OverlayDirectory) and not await there.is_empty():
        raise NotEmptyError(f"{there.describe()} is not empty")


def _drop_replaced(journal: Journal, there: OverlayDirectory | OverlayFile | None) -> bool:
    """Forget what has no name any more; tell whether it was a file."""
    if isinstance(there, OverlayDirectory):
        if there.row is not None:
            journal.drop_directory(there.row.id)
        return False
    if there is None:
        return False
    if there.staged is None:
        return True
    if journal.links(there.staged.id):
        return False
    journal.drop_file(there.staged.id)
    return True
