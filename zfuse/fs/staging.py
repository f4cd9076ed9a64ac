"""What the staged directories and files of one branch share."""

import logging
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path as FilePath
from typing import Final
from weakref import WeakSet, WeakValueDictionary

import trio

from zfuse.errors import BusyError, JournalError, ReadOnlyError
from zfuse.format.ids import SnapshotId
from zfuse.fs.entry import Content, Directory, Entry
from zfuse.fs.hierarchy import NodeDirectory
from zfuse.fs.journal import ROOT_ROW, Journal
from zfuse.fs.staged import EntryRow, RowKind, StagedDirectory, StagedFile
from zfuse.fs.tree import Tree

log = logging.getLogger(__name__)

DIRECTORY_MODE: Final = 0o755
FILE_MODE: Final = 0o644

_SWEEP_EVERY_S: Final = 0.2
"""Blobs are removed a few together, as the journal is synced before."""


class OverlayPlace(Directory):
    """What a file needs to know of the directory of a writable branch that it is in."""

    @abstractmethod
    def ensure_row(self) -> int:
        """Return the id of the directory's row in the journal, made now if there is none."""

    @abstractmethod
    def has_staged(self, name: str, file_id: int) -> bool:
        """Tell whether *name* stands for a staged file."""

    @abstractmethod
    def leave(self, name: str) -> None:
        """Look *name* up anew from here on."""

    @abstractmethod
    async def lower_entry(self, name: str) -> Entry | None:
        """Return what the base has under *name*, whether or not it shows."""


class Staging:
    """The journal of a branch, and the base that shows through.

    The journal is made with the first change. ``naming`` is held by whoever changes names, so
    that what he looked up holds until he is done. ``closed`` receives the files that somebody
    closed or gave a new name, for those who upload them.
    """

    def __init__(self, tree: Tree, directory: FilePath, nursery: trio.Nursery) -> None:
        self.tree = tree
        self.nursery = nursery
        self.lower_root: Directory = NodeDirectory(tree, "/", nursery)
        self.naming = trio.Lock()
        self.closed: deque[int] = deque()
        self.something_closed = trio.Event()
        self.files: WeakValueDictionary[int, Entry] = WeakValueDictionary()
        self.live: WeakSet[Entry] = WeakSet()
        self.stamp = 0  # changes when another base shows through
        # Blobs that must stay as they are: being read for an upload, or part of a commit.
        self.uploading: set[str] = set()
        self.frozen: frozenset[str] = frozenset()
        # Who closed what he wrote and has it open still, through a copy of the descriptor.
        self.half_closed: dict[Content, Entry] = {}
        self._committing: Mapping[int, Sequence[tuple[str, EntryRow]]] = {}
        self._names_in_commit: dict[int, frozenset[str]] = {}
        self._unwanted: set[str] = set()
        self._holders = 0
        self._changes_wait: trio.Event | None = None
        self._something_unwanted = trio.Event()
        self.refusal: str | None = None  # why nothing can be written, if that is so
        self._directory = directory
        self._journal: Journal | None = None

    @property
    def journal(self) -> Journal | None:
        """The journal, None where nothing was ever changed."""
        return self._journal

    def begin(self) -> Journal:
        """Return the journal, made now if there is none yet.

        Raises:
            BusyError: another mount changes this branch, or has left changes.
            ReadOnlyError: the repository takes no changes.
            JournalError: it can not be made or read.
        """
        if self._journal is None:
            if self.tree.repository.is_read_only:
                raise ReadOnlyError("the repository is set to read-only; see zfuse show")
            try:
                self._start(Journal.open(self._directory))
            except BusyError as exc:
                raise BusyError(self.refusal or str(exc)) from exc
            self.refusal = None
        assert self._journal is not None
        return self._journal

    def _start(self, journal: Journal) -> None:
        """Begin a session at the base that shows through."""
        if not journal.is_empty or journal.pending_commit() is not None:
            journal.close()
            raise BusyError(
                f"another mount left changes of {self.tree.ref} in {self._directory}; unmount this"
                " one and mount it again to go on with them"
            )
        with journal.change():
            # The branch is bytes and not text where its name is no UTF-8.
            journal.set_facts(
                base=str(self.tree.snapshot_id),
                branch=self.tree.ref.name,
                repository=self.tree.repository.storage.url,
                began_us=time.time_ns() // 1000,
            )
            if journal.directory_row(ROOT_ROW) is None:
                journal.add_directory((), None, DIRECTORY_MODE, time.time_ns())
        self._journal = journal

    def resume(self) -> Journal:
        """Return the journal of a session that was kept, or of a new one.

        Raises:
            BusyError: another mount changes this branch.
            JournalError: it can not be read.
        """
        assert self._journal is None
        journal = Journal.open(self._directory)
        if journal.base is None:
            self._start(journal)
        self._journal = journal
        return journal

    def close(self) -> None:
        """Let go of the journal."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    async def sync(self) -> None:
        """Return when all names would survive a loss of power."""
        if self._journal is not None:
            await trio.to_thread.run_sync(self._journal.sync)

    @property
    def base(self) -> SnapshotId:
        """The snapshot that shows through."""
        return self.tree.snapshot_id

    def root_row(self) -> StagedDirectory | None:
        """Return what the journal has of the root, None while nothing was ever changed."""
        return None if self._journal is None else self._journal.directory_row(ROOT_ROW)

    def begin_commit(
        self, names: Mapping[int, Sequence[tuple[str, EntryRow]]], blobs: Iterable[str]
    ) -> None:
        """Note the *names* in each staged directory, and *blobs*, that a commit may have."""
        self._committing, self.frozen = names, frozenset(blobs)

    def end_commit(self) -> None:
        """Note that no commit is under way any more."""
        self._committing, self.frozen = {}, frozenset()
        self._names_in_commit.clear()
        self.clear_blobs()

    def is_in_commit(self, directory: int, name: str) -> bool:
        """Tell whether a commit that is under way may have *name* in a staged directory.

        Whatever became of the name since: it will be in the base then.
        """
        if directory not in self._committing:
            return False
        if directory not in self._names_in_commit:
            rows = self._committing[directory]
            self._names_in_commit[directory] = frozenset(
                name for name, row in rows if row.kind is not RowKind.WHITEOUT
            )
        return name in self._names_in_commit[directory]

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Keep the bytes of all closed files as they are, for somebody who reads the rows."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            self.clear_blobs()

    def is_frozen(self, row: StagedFile) -> bool:
        """Tell whether the blob of a file must not change, as it is uploaded or was."""
        if row.ref is not None or row.blob is None:
            return row.ref is not None
        if row.blob in self.uploading or row.blob in self.frozen:
            return True
        return bool(self._holders) and row.is_closed

    def _is_needed(self, blob: str) -> bool:
        return bool(self._holders) or blob in self.uploading or blob in self.frozen

    def drop_blob(self, blob: str) -> None:
        """Have a blob that no file has any more removed, soon after nobody needs it."""
        self._unwanted.add(blob)
        self._something_unwanted.set()

    def clear_blobs(self) -> None:
        """Have the blobs removed that waited for this."""
        self._something_unwanted.set()

    async def drop_blobs(self, blobs: Iterable[str]) -> None:
        """Do the same with many, and return when those that nobody needs are gone."""
        self._unwanted.update(blobs)
        try:
            await self._sweep()
        except (JournalError, OSError) as exc:
            log.warning("bytes that nobody needs stay in the journal: %s", exc)

    async def sweep_in_background(self) -> None:
        """Remove blobs that no file has any more, for ever."""
        while True:
            await self._something_unwanted.wait()
            self._something_unwanted = trio.Event()
            await trio.sleep(_SWEEP_EVERY_S)
            try:
                await self._sweep()
            except (JournalError, OSError) as exc:
                log.warning("bytes that nobody needs stay in the journal: %s", exc)

    async def _sweep(self) -> None:
        journal = self._journal
        blobs = [blob for blob in self._unwanted if not self._is_needed(blob)]
        if journal is None or not blobs:
            return
        self._unwanted.difference_update(blobs)

        def remove() -> None:
            # In this order: after a loss of power a file must not come back without its bytes.
            with suppress(FileNotFoundError):  # the session ended meanwhile, with all its bytes
                journal.sync()
                for blob in blobs:
                    journal.blobs.remove(blob)

        await trio.to_thread.run_sync(remove)

    async def turn(self) -> None:
        """Wait as long as changes have to."""
        while self._changes_wait is not None:
            await self._changes_wait.wait()

    @contextmanager
    def changes_wait(self) -> Iterator[None]:
        """Let all changes wait until the block is done."""
        waiting = self._changes_wait = trio.Event()
        try:
            yield
        finally:
            self._changes_wait = None
            waiting.set()

    def tell_closed(self, file_id: int) -> None:
        """Let the bytes of a file be uploaded."""
        self.closed.append(file_id)
        self.something_closed.set()


def later_ns(than: int) -> int:
    """Return the time in nanoseconds since 1970, and in any case one after *than*."""
    return max(time.time_ns(), than + 1)
