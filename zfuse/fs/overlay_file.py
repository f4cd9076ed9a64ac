"""A file on a writable branch: the base's, until somebody changes it.

The inode stands for the name, or names, of the file, so that a change of its bytes, and a
commit, leave it to whoever has it open.
"""

import contextlib
import os
from collections.abc import Set
from dataclasses import replace
from typing import Final

import trio

from zfuse.errors import InvalidInputError, JournalError, StaleError
from zfuse.format.chunk_ref import ChunkRef
from zfuse.fs.blob_copy import copy_content
from zfuse.fs.blobs import journal_errors
from zfuse.fs.chunk_file import ChunkFile
from zfuse.fs.content import ChunkContent
from zfuse.fs.entry import Caching, Content, File
from zfuse.fs.named_file import NamedFile
from zfuse.fs.overlay_content import OverlayContent
from zfuse.fs.staged import RowKind, StagedFile
from zfuse.fs.staging import FILE_MODE, OverlayPlace, Staging, later_ns

_FILE_SIZE_MAX: Final = 1 << 46
_NOBODY: Final[Set[Content]] = frozenset()


class OverlayFile(NamedFile):
    """A file.

    ``staged`` is what the session has of it, ``lower`` the file of the base that it is
    otherwise; a file that a commit took along has neither until somebody asks.
    """

    __slots__ = (
        *("_descriptor", "_lock", "_past", "_users", "_writers"),
        *("is_gone", "lower", "staged", "staging"),
    )

    def __init__(
        self, staging: Staging, directory: OverlayPlace, name: str, *, lower: File | None = None
    ) -> None:
        # The kernel may know a million of these: what few of them need is made when it is needed.
        super().__init__(directory, name)
        self.staging = staging
        self.staged: StagedFile | None = None
        self.lower = lower
        self.is_gone = False
        self._descriptor: int | None = None
        self._users = 0
        self._writers: Set[Content] = _NOBODY  # who changed it and did not close it yet
        self._past: StagedFile | None = None  # as committed, for who had it open then
        self._lock: trio.Lock | None = None
        staging.live.add(self)

    @property
    def mtime_ns(self) -> int:
        """When it was written, or the snapshot that brought it."""
        if self.staged is not None:
            return self.staged.mtime_ns
        if self.lower is not None:
            return self.lower.mtime_ns
        return 0 if self._past is None else self._past.mtime_ns

    @property
    def caching(self) -> Caching:
        """Briefly: it may change."""
        return Caching.BRIEFLY

    @property
    def mode(self) -> int | None:
        """The permissions that somebody gave it."""
        return FILE_MODE if self.staged is None else self.staged.mode

    @property
    def links(self) -> int:
        """How many names it has."""
        if self.staged is None:
            return 0 if self.is_gone else 1
        return self.links_left

    @property
    def links_left(self) -> int:
        """How many names the session has of it."""
        journal = self.staging.journal
        return 0 if self.staged is None or journal is None else journal.links(self.staged.id)

    @property
    def is_writable(self) -> bool:
        """It can be opened for writing."""
        return True

    @property
    def is_being_written(self) -> bool:
        """Whether somebody has changed it and not closed it yet."""
        return bool(self._writers)

    async def size(self) -> int:
        """Return the number of bytes."""
        if self.staged is not None:
            return self.staged.size
        return await (await self.base()).size()

    async def open(self) -> Content:
        """Return the content, which shows what is written later too."""
        if self.staged is not None:
            return OverlayContent(self)
        return OverlayContent(self, await (await self.base()).open())

    async def attribute(self, name: str) -> bytes | None:
        """Return what is known of the file of the base, or that this one is staged."""
        if self.staged is None:
            return await (await self.base()).attribute(name)
        value = {
            "kind": "staged",
            "ref": str(self.staging.tree.ref),
            "repository": self.staging.tree.repository.storage.url,
            "length": str(self.staged.size),
            "uploaded": "0" if self.staged.ref is None else "1",
        }.get(name)
        return None if value is None else value.encode("utf-8", "surrogateescape")

    def describe(self) -> str:
        """Return ref and path."""
        return f"{self.directory.describe().rstrip('/')}/{self.name}"

    async def base(self) -> File:
        """Return the file of the base that this is.

        Raises:
            StaleError: there is none.
        """
        lower = self.lower
        if lower is None and not self.is_gone:
            found = await self.directory.lower_entry(self.name)
            lower = self.lower = found if isinstance(found, File) else None
        if lower is None:
            raise StaleError(f"{self.describe()} is no longer there")
        return lower

    async def is_current(self) -> bool:
        """Tell whether the base has, under this name, what it had when somebody asked.

        No, if nobody asked.
        """
        if self.lower is None:
            return False
        return await self.directory.lower_entry(self.name) == self.lower

    def _owning(self) -> trio.Lock:
        """Return what whoever gives the file other bytes holds."""
        if self._lock is None:
            self._lock = trio.Lock()
        return self._lock

    # --- changes -------------------------------------------------------------------------------

    async def stage(self) -> StagedFile:
        """Have the session hold this file; a chunk of the base stays where it is."""
        async with self._owning():
            if self.staged is None:
                await self._stage()
        assert self.staged is not None
        return self.staged

    async def _stage(self) -> None:
        was_gone, stamp = self.is_gone, self.staging.stamp
        lower = await self.base()
        size, mtime_ns = await lower.size(), lower.mtime_ns
        ref = await lower.reference() if isinstance(lower, ChunkFile) else None
        blob = None
        if ref is None:
            blob, descriptor = await self._copied(await lower.open())
            os.close(descriptor)
        if (was_gone, stamp) != (self.is_gone, self.staging.stamp):
            # Another base shows through since: its file is what is to be changed.
            if blob is not None:
                self.staging.drop_blob(blob)
            raise StaleError(f"{self.describe()} became another file")
        row = StagedFile(0, blob, ref, size, mtime_ns, FILE_MODE, is_closed=True)
        if not self.is_gone:
            journal = self.staging.begin()
            with journal.change():
                parent = self.directory.ensure_row()
                journal.add_file(row)
                journal.put(parent, self.name, RowKind.FILE, row.id)
            self.staging.files[row.id] = self
        self._close()
        self.staged, self._past = row, None

    async def write(self, offset: int, data: bytes) -> int:
        """Put *data* at *offset* and return its length.

        Raises:
            JournalFullError: there is no room for it; the file is as it was.
        """
        row, descriptor = await self._own(keep=True)
        self.staging.begin().room.require(len(data))
        self._begin_change(row)
        with journal_errors(f"can not write {self.describe()}"):
            try:
                written = 0
                while written < len(data):
                    written += os.pwrite(descriptor, memoryview(data)[written:], offset + written)
            except OSError:
                os.ftruncate(descriptor, row.size)  # else this would show when the file grows
                raise
        row.size = max(row.size, offset + len(data))
        return len(data)

    async def truncate(self, size: int) -> None:
        """Cut the file at *size* bytes, or fill it up with zeros, and have it closed."""
        await self.resize(size)
        if not self._writers:
            self._note_closed()

    async def resize(self, size: int) -> None:
        """Cut the file at *size* bytes, or fill it up with zeros, as part of writing it."""
        if size > _FILE_SIZE_MAX:
            raise InvalidInputError(f"{self.describe()} can not have {size} bytes")
        row, descriptor = await self._own(keep=size > 0)
        self._begin_change(row)
        with journal_errors(f"can not write {self.describe()}"):
            os.ftruncate(descriptor, size)
        row.size = size
        self._let_go_unless_used()

    def begin_writing(self, writer: Content) -> None:
        """Take note that somebody changes the file."""
        self._writers = {*self._writers, writer}
        self.staging.half_closed.pop(writer, None)

    def end_writing(self, writer: Content) -> None:
        """Record that somebody who wrote the file has closed it; a reader changes nothing."""
        if writer in self._writers:
            if len(self._writers) == 1:
                self._note_closed()
            self._writers = self._writers - {writer}
            if not self.is_gone:
                self.staging.half_closed[writer] = self

    def stop_writing(self, writer: Content) -> None:
        """Take note that somebody will not change the file any more, closed or not."""
        self._writers = self._writers - {writer}
        self.staging.half_closed.pop(writer, None)

    def _note_closed(self) -> None:
        row = self.staged
        if row is None or row.is_closed:
            return
        row.is_closed = True
        if not self.is_gone:
            try:
                self.staging.begin().save_file(row)
            except BaseException:
                row.is_closed = False
                raise
            self.staging.tell_closed(row.id)

    async def sync(self) -> None:
        """Return when what was written would survive a loss of power."""
        row, journal = self.staged, self.staging.journal
        if row is None or journal is None or self.is_gone:
            return
        journal.save_file(row)
        if row.blob is not None:
            await trio.to_thread.run_sync(self.staging.begin().blobs.sync, row.blob)
        await trio.to_thread.run_sync(journal.sync)

    def set_times(self, mtime_ns: int) -> None:
        """Give a staged file another time of change; that of the base says when it came."""
        if self.staged is not None:
            self.staged.mtime_ns = mtime_ns
            self._save()

    def set_mode(self, mode: int) -> None:
        """Give a staged file other permissions."""
        if self.staged is not None:
            self.staged.mode = mode
            self._save()

    def _save(self) -> None:
        if self.staged is not None and not self.is_gone:
            self.staging.begin().save_file(self.staged)

    def unlinked(self) -> None:
        """Take note that the last name is gone: what is open stays, for who has it open."""
        self.is_gone = True
        row = self.staged
        if row is None or row.blob is None:
            return
        self._keep_open(row)
        self.staging.drop_blob(row.blob)

    def committed(self) -> None:
        """Take note that the base has these bytes now."""
        row, self.staged, self.lower = self.staged, None, None
        self.is_gone = not self.names  # somebody has it open, and knows it by no other name
        if not self._users or row is None:
            self._close()
            return
        self._keep_open(row)
        self._past = row

    def part(self) -> list[tuple[OverlayPlace, str]]:
        """Let go of the names that a commit made files of their own, and return them."""
        row = self.staged
        gone = list(self.names[:-1])
        if row is not None:
            gone = [(place, n) for place, n in self.names if not place.has_staged(n, row.id)]
        for place, name in gone:
            self.lose_name(place, name)
            place.leave(name)
        return gone

    def _keep_open(self, row: StagedFile) -> None:
        """Have the bytes at hand for those who read on when the blob has no name any more."""
        if self._users and self._descriptor is None and row.blob is not None:
            with contextlib.suppress(JournalError):
                self._descriptor = self.staging.begin().blobs.open(row.blob)

    def _begin_change(self, row: StagedFile) -> None:
        """Record that the bytes are about to change, so that no crash leaves them half changed."""
        if row.is_closed and not self.is_gone:
            journal = self.staging.begin()
            with journal.change():
                journal.save_file(replace(row, is_closed=False))
                journal.renew(row.id)
        row.is_closed, row.mtime_ns = False, later_ns(row.mtime_ns)

    async def _own(self, *, keep: bool) -> tuple[StagedFile, int]:
        """Return the row and a descriptor of a blob that is this file's alone.

        The blob has the bytes of the file if *keep*. Nothing else happens before the caller
        goes on.
        """
        while True:
            await self.staging.turn()
            row = self.staged or await self.stage()
            if row.blob is not None and not self.staging.is_frozen(row):
                break
            async with self._owning():
                if self.staged is row and (row.blob is None or self.staging.is_frozen(row)):
                    await self._renew_blob(row, keep=keep)
        if self._descriptor is None:
            self._descriptor = self.staging.begin().blobs.open(row.blob)
        return row, self._descriptor

    async def _renew_blob(self, row: StagedFile, *, keep: bool) -> None:
        journal = self.staging.begin()
        blobs, before = journal.blobs, row.blob
        journal.room.require(row.size if keep else 0)
        if not keep:
            blob, descriptor = blobs.open_new()
        elif before is not None:
            # Of a file that was removed the descriptor may be all there is.
            source = before if self._descriptor is None else self._descriptor
            blob, descriptor = await trio.to_thread.run_sync(blobs.copy, source)
        else:
            assert row.ref is not None
            blob, descriptor = await self._copied(self._content_of(row.ref))
        try:
            is_overtaken = self.staged is not row  # a commit took it along meanwhile
            if not is_overtaken and not self.is_gone:
                with journal.change():
                    journal.save_file(replace(row, blob=blob, ref=None, is_closed=False))
                    journal.renew(row.id)
        except BaseException:
            is_overtaken = True
            raise
        finally:
            if is_overtaken:
                os.close(descriptor)
                blobs.remove(blob)
        if is_overtaken:
            return
        self._close()
        self._descriptor = descriptor
        row.blob, row.ref, row.is_closed = blob, None, False
        if before is not None:
            self.staging.drop_blob(before)

    async def _copied(self, content: Content) -> tuple[str, int]:
        return await copy_content(self.staging.begin().blobs, content, self.describe())

    def _content_of(self, ref: ChunkRef) -> Content:
        return ChunkContent(self.staging.tree.repository.assets, ref, self.staging.nursery)

    # --- reading -------------------------------------------------------------------------------

    async def read(self, offset: int, size: int) -> bytes:
        """Return a piece of what is staged, or was when somebody opened the file."""
        row = self.staged or self._past
        assert row is not None
        if row.blob is None:
            assert row.ref is not None
            return await self._content_of(row.ref).read(offset, size)
        if self._descriptor is None:
            self._descriptor = self.staging.begin().blobs.open(row.blob)
        with journal_errors(f"can not read {self.describe()}"):
            return os.pread(self._descriptor, size, offset)

    def adopt(self, row: StagedFile, descriptor: int) -> None:
        """Take over a file that was just made, and the descriptor of its blob."""
        self.staged, self._descriptor = row, descriptor
        self.staging.files[row.id] = self

    @property
    def held_size(self) -> int | None:
        """Length in bytes of what ``read`` reads, None if that is nothing."""
        row = self.staged or self._past
        return None if row is None else row.size

    def use(self) -> None:
        """Count one more who has the file open."""
        self._users += 1

    def leave(self) -> None:
        """Count one less who has the file open."""
        self._users -= 1
        self._let_go_unless_used()

    def _let_go_unless_used(self) -> None:
        if not self._users:
            self._close()
            self._past = None

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            if self.is_gone and self.staged is not None and self.staged.blob is not None:
                self.staging.drop_blob(self.staged.blob)
