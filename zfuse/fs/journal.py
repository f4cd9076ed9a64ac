"""The crash-safe record of a session: what changed on a branch since its base.

A directory with ``session.sqlite`` (names, in write-ahead mode), ``blobs/`` (the bytes of
staged files) and ``lock``. After the death of the daemon all is there that was handed over
before it; after a loss of power, all that was synced. Each public method that changes
something is one transaction, or part of the one that ``change`` opened.
"""

import contextlib
import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Final

from zfuse.errors import JournalError, JournalFullError
from zfuse.format.chunk_ref import ChunkRef
from zfuse.format.ids import SnapshotId
from zfuse.fs.blobs import Blobs, make_directory, sync_directory
from zfuse.fs.journal_room import JournalRoom
from zfuse.fs.session_files import remove_session, take_lock
from zfuse.fs.staged import (
    EntryRow,
    Path,
    RowKind,
    StagedDirectory,
    StagedFile,
    path_from_bytes,
    path_to_bytes,
    ref_from_text,
    ref_to_text,
)

log = logging.getLogger(__name__)

ROOT_ROW: Final = 1
_FORMAT: Final = 1
_LONG_LOG: Final = 32 << 20
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS directory
    (id INTEGER PRIMARY KEY AUTOINCREMENT, origin BLOB, pending BLOB, mode INT, mtime_ns INT);
CREATE TABLE IF NOT EXISTS file
    (id INTEGER PRIMARY KEY AUTOINCREMENT, blob TEXT, ref TEXT,
     size INT, mtime_ns INT, mode INT, closed INT);
CREATE TABLE IF NOT EXISTS entry
    (parent INT, name BLOB, kind INT, child INT, seq INT, anew INT,
     PRIMARY KEY (parent, name)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entry_child ON entry (child, kind);
CREATE TABLE IF NOT EXISTS excluded
    (parent INT, name BLOB, PRIMARY KEY (parent, name)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class PendingCommit:
    """A commit that may have landed: it holds what is as old as ``cut`` and not excluded.

    ``branch`` is where it was to land, which need not be the branch of the session.
    """

    snapshot_id: SnapshotId
    cut: int
    branch: str


class Journal:
    """An open session on disk, locked."""

    def __init__(self, directory: FilePath, database: sqlite3.Connection, lock: int) -> None:
        self.directory = directory
        self.blobs = Blobs(directory / "blobs")
        self.room = JournalRoom(directory, database)
        self._db = database
        self._lock = lock
        self._depth = 0
        self._undo: list[Callable[[], None]] = []
        self.seq = self._one("SELECT coalesce(max(seq), 0) FROM entry")
        for name in ("cut", "seq"):
            self.seq = max(self.seq, int(self.fact(name) or 0))

    @classmethod
    def open(cls, directory: FilePath) -> "Journal":
        """Open the session in *directory*, which is made if there is none.

        Raises:
            BusyError: another process has it open.
            JournalError: it can not be read, or is of a newer zfuse.
        """
        lock: int | None = None
        try:
            make_directory(directory)
            lock = take_lock(directory / "lock")
            database = sqlite3.connect(
                directory / "session.sqlite", isolation_level=None, check_same_thread=False
            )
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            # A checkpoint waits for the disk, and with it whoever writes; see checkpoint.
            database.execute("PRAGMA wal_autocheckpoint = 0")
            database.executescript(_SCHEMA)
            journal = cls(directory, database, lock)
            journal._check_format()
        except (OSError, sqlite3.Error) as exc:
            if lock is not None:
                os.close(lock)
            raise _told(exc, f"can not open the session in {directory}") from exc
        except BaseException:
            if lock is not None:
                os.close(lock)
            raise
        return journal

    def close(self) -> None:
        """Let go of the session; one without changes leaves nothing behind."""
        is_empty = self.is_empty and self.pending_commit() is None
        self._db.close()
        if is_empty:
            remove_session(self.directory)
        os.close(self._lock)

    def _check_format(self) -> None:
        told = self.fact("format")
        if told is None:
            self.set_facts(format=_FORMAT)
        elif told != _FORMAT:
            raise JournalError(
                f"the session in {self.directory} is of another version of zfuse; open it with that"
            )

    # --- facts ---------------------------------------------------------------------------------

    def fact(self, name: str) -> Any:  # noqa: ANN401 - what JSON has
        """Return what was noted under *name*, None if nothing was."""
        rows = self._all("SELECT value FROM fact WHERE name = ?", name)
        return json.loads(rows[0][0]) if rows else None

    def set_facts(self, **facts: Any) -> None:  # noqa: ANN401 - what JSON has
        """Note values by name; None forgets one."""
        with self.change():
            for name, value in facts.items():
                self._run("INSERT OR REPLACE INTO fact VALUES (?, ?)", name, json.dumps(value))

    @property
    def base(self) -> SnapshotId | None:
        """The snapshot that the session changes, None for a session that has not begun."""
        told = self.fact("base")
        return None if told is None else SnapshotId.parse(told)

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs from the base."""
        if self._one("SELECT count(*) FROM (SELECT 1 FROM entry LIMIT 1)"):
            return False
        root = self.directory_row(ROOT_ROW)
        return root is None or root.origin == ()

    # --- names ---------------------------------------------------------------------------------

    @contextmanager
    def change(self) -> Iterator[None]:
        """Make all changes of the block one transaction."""
        if self._depth:
            yield
            return
        self.room.before_change()
        self._run("BEGIN IMMEDIATE")
        self._depth = 1
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.rollback()
            for undo in reversed(self._undo):
                undo()
            raise
        finally:
            self._depth = 0
            self._undo = []

    def undo_with(self, undo: Callable[[], None]) -> None:
        """Call *undo* if the transaction that is open, if one is, fails."""
        if self._depth:
            self._undo.append(undo)

    def entry(self, parent: int, name: str) -> EntryRow | None:
        """Return what *name* stands for in a staged directory, None if the base decides."""
        rows = self._all(
            "SELECT kind, child, seq, anew FROM entry WHERE parent = ? AND name = ?",
            parent,
            _bytes(name),
        )
        return _entry(*rows[0]) if rows else None

    def entries(self, parent: int) -> list[tuple[str, EntryRow]]:
        """Return all names of a staged directory, whiteouts included, in order."""
        rows = self._all(
            "SELECT name, kind, child, seq, anew FROM entry WHERE parent = ? ORDER BY name", parent
        )
        return [(_text(name), _entry(*rest)) for name, *rest in rows]

    def put(self, parent: int, name: str, kind: RowKind, child: int = 0) -> None:
        """Let *name* stand for something, in the place of what it stood for."""
        self.seq += 1
        before = self.entry(parent, name)
        anew = before is not None and (before.anew or before.kind is RowKind.WHITEOUT)
        self._run(
            "INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?)",
            *(parent, _bytes(name), int(kind), child, self.seq, anew),
        )

    def remove(self, parent: int, name: str) -> None:
        """Let the base decide what *name* stands for."""
        self._run("DELETE FROM entry WHERE parent = ? AND name = ?", parent, _bytes(name))

    def renew(self, file_id: int) -> None:
        """Give all names of a file a new age, as it is about to change."""
        self.seq += 1
        self._run(
            "UPDATE entry SET seq = ? WHERE child = ? AND kind = ?",
            *(self.seq, file_id, int(RowKind.FILE)),
        )

    def links(self, file_id: int) -> int:
        """Return how many names a file has."""
        kind = int(RowKind.FILE)
        return self._one("SELECT count(*) FROM entry WHERE child = ? AND kind = ?", file_id, kind)

    # --- directories and files -----------------------------------------------------------------

    def directory_row(self, row_id: int) -> StagedDirectory | None:
        """Return a staged directory."""
        rows = self._all("SELECT * FROM directory WHERE id = ?", row_id)
        return _directory(rows[0]) if rows else None

    def file_row(self, row_id: int) -> StagedFile:
        """Return a staged file.

        Raises:
            JournalError: there is none.
        """
        rows = self._all("SELECT * FROM file WHERE id = ?", row_id)
        if not rows:
            raise JournalError(f"the session in {self.directory} lacks the file {row_id}")
        return _file(rows[0])

    def add_directory(
        self, origin: Path | None, pending: Path | None, mode: int, mtime_ns: int
    ) -> StagedDirectory:
        """Make a staged directory that has no name yet; the first is the root."""
        places = (path_to_bytes(origin), path_to_bytes(pending))
        row_id = self._run(
            "INSERT INTO directory VALUES (NULL, ?, ?, ?, ?)", *places, mode, mtime_ns
        )
        return StagedDirectory(row_id, origin, pending, mode, mtime_ns)

    def save_directory(self, row: StagedDirectory) -> None:
        """Keep what changed about a directory."""
        self._run(
            "UPDATE directory SET origin = ?, pending = ?, mode = ?, mtime_ns = ? WHERE id = ?",
            *(path_to_bytes(row.origin), path_to_bytes(row.pending)),
            *(row.mode, row.mtime_ns, row.id),
        )

    def drop_directory(self, row_id: int) -> None:
        """Remove a directory and the names in it, which are whiteouts."""
        with self.change():
            self._run("DELETE FROM entry WHERE parent = ?", row_id)
            self._run("DELETE FROM directory WHERE id = ?", row_id)

    def add_file(self, row: StagedFile) -> StagedFile:
        """Keep a new file, which gets its id here, and has no name yet."""
        values = (row.blob, ref_to_text(row.ref), row.size, row.mtime_ns, row.mode, row.is_closed)
        row.id = self._run("INSERT INTO file VALUES (NULL, ?, ?, ?, ?, ?, ?)", *values)
        return row

    def save_file(self, row: StagedFile) -> None:
        """Keep what changed about a file."""
        self._run(
            "UPDATE file SET blob = ?, ref = ?, size = ?, mtime_ns = ?, mode = ?, closed = ?"
            " WHERE id = ?",
            *(row.blob, ref_to_text(row.ref), row.size, row.mtime_ns, row.mode, row.is_closed),
            row.id,
        )

    def set_ref(self, row_id: int, blob: str, ref_text: str | None) -> bool:
        """Note where the bytes of *blob* are stored, if so; False if the file has others by now."""
        return (
            self._count(
                "UPDATE file SET ref = ? WHERE id = ? AND blob = ? AND closed",
                ref_text,
                row_id,
                blob,
            )
            == 1
        )

    def ref_of(self, row_id: int, blob: str) -> ChunkRef | None:
        """Return where the bytes of *blob* were uploaded to, None if they were not."""
        rows = self._all("SELECT ref FROM file WHERE id = ? AND blob = ?", row_id, blob)
        return ref_from_text(rows[0][0]) if rows else None

    def drop_file(self, row_id: int) -> None:
        """Forget a file that has no name any more; its blob stays."""
        self._run("DELETE FROM file WHERE id = ?", row_id)

    # --- commits -------------------------------------------------------------------------------

    def pending_commit(self) -> PendingCommit | None:
        """Return the commit that may have landed, None if there is none."""
        told = self.fact("pending")
        if told is None:
            return None
        return PendingCommit(SnapshotId.parse(told), self.fact("cut"), self.fact("onto"))

    def begin_commit(self, pending: PendingCommit, excluded: Sequence[tuple[int, str]]) -> None:
        """Note that a commit is about to be published, so that a crash does not hide it."""
        with self.change():
            self._run("DELETE FROM excluded")
            for parent, name in excluded:
                self._run("INSERT INTO excluded VALUES (?, ?)", parent, _bytes(name))
            self.set_facts(pending=str(pending.snapshot_id), cut=pending.cut, onto=pending.branch)

    def abandon_commit(self) -> None:
        """Note that the commit did not land and never will."""
        with self.change():
            self.set_facts(pending=None)
            self._run("DELETE FROM excluded")
            self._run("UPDATE directory SET pending = NULL")

    def sync(self) -> None:
        """Return when all that was recorded would survive a loss of power."""
        try:
            descriptor = os.open(self.directory / "session.sqlite-wal", os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_directory(self.directory)

    @property
    def wants_checkpoint(self) -> bool:
        """Whether the write-ahead log has grown long."""
        with contextlib.suppress(FileNotFoundError):
            return os.stat(self.directory / "session.sqlite-wal").st_size > _LONG_LOG
        return False

    def checkpoint(self) -> None:
        """Take what is in the write-ahead log over into the database, in any thread.

        Nobody waits for that; what is written meanwhile stays for the next time.
        """
        try:
            with contextlib.closing(sqlite3.connect(self.directory / "session.sqlite")) as database:
                database.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error as exc:
            log.warning("the log of the session in %s stays long: %s", self.directory, exc)

    def connect(self) -> sqlite3.Connection:
        """Return another connection, whose transactions see one state for all others do."""
        return sqlite3.connect(
            f"{(self.directory / 'session.sqlite').absolute().as_uri()}?mode=ro",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
        )

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement of somebody who knows the schema."""
        return self._all(statement, *values)

    def _run(self, statement: str, *values: object) -> int:
        return self._execute(statement, values).lastrowid or 0

    def _count(self, statement: str, *values: object) -> int:
        return self._execute(statement, values).rowcount

    def _execute(self, statement: str, values: tuple[object, ...]) -> sqlite3.Cursor:
        try:
            return self._db.execute(statement, values)
        except sqlite3.Error as exc:
            raise _told(exc, f"can not write to the session in {self.directory}") from exc

    def _all(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as exc:
            raise _told(exc, f"can not read the session in {self.directory}") from exc

    def _one(self, statement: str, *values: object) -> int:
        return int(self._all(statement, *values)[0][0])


def read_rows(
    database: sqlite3.Connection,
) -> tuple[
    dict[int, StagedDirectory], dict[int, StagedFile], dict[int, list[tuple[str, EntryRow]]]
]:
    """Return all directories and files by id, and the names in each directory."""
    directories = {row[0]: _directory(row) for row in database.execute("SELECT * FROM directory")}
    files = {row[0]: _file(row) for row in database.execute("SELECT * FROM file")}
    names: dict[int, list[tuple[str, EntryRow]]] = {}
    rows = database.execute(
        "SELECT parent, name, kind, child, seq, anew FROM entry ORDER BY parent, name"
    )
    for parent, name, *rest in rows:
        names.setdefault(parent, []).append((_text(name), _entry(*rest)))
    return directories, files, names


def read_facts(database: sqlite3.Connection) -> dict[str, Any]:
    """Return all that was noted about a session, by name."""
    return {name: json.loads(value) for name, value in database.execute("SELECT * FROM fact")}


def _entry(kind: int, child: int, seq: int, anew: int) -> EntryRow:
    return EntryRow(RowKind(kind), child, seq, bool(anew))


def _directory(row: Sequence[Any]) -> StagedDirectory:
    row_id, origin, pending, mode, mtime_ns = row
    return StagedDirectory(
        row_id, path_from_bytes(origin), path_from_bytes(pending), mode, mtime_ns
    )


def _file(row: Sequence[Any]) -> StagedFile:
    row_id, blob, ref, size, mtime_ns, mode, closed = row
    return StagedFile(row_id, blob, ref_from_text(ref), size, mtime_ns, mode, bool(closed))


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _told(exc: Exception, what: str) -> JournalError:
    is_full = getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return (JournalFullError if is_full else JournalError)(f"{what}: {exc}")
