"""The sessions on this machine, looked at from outside: what they hold, and saving their files."""

import contextlib
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from zfuse.errors import JournalError
from zfuse.fs.blobs import Blobs
from zfuse.fs.journal import ROOT_ROW, read_facts, read_rows
from zfuse.fs.names import decode_name
from zfuse.fs.session_files import remove_session, take_lock
from zfuse.fs.staged import Path, RowKind, StagedFile


@dataclass(frozen=True, slots=True)
class KeptFiles:
    """A session: which branch of which repository, and how much it holds.

    ``nbytes`` are the bytes of its staged files, ``files`` their number. No chunk of it was
    stored before ``began`` (microseconds since 1970, None if that is not known). ``damage`` says
    why nothing of this is known.
    """

    directory: FilePath
    repository: str
    branch: str
    base: str
    files: int
    nbytes: int
    is_in_use: bool
    damage: str | None = None
    began: int | None = None

    def facts(self) -> dict[str, Any]:
        """Return all that is known, by name."""
        return {
            "repository": self.repository,
            "branch": self.branch,
            "base": self.base,
            "files": self.files,
            "bytes": self.nbytes,
            "in_use": self.is_in_use,
            "damage": self.damage,
            "directory": str(self.directory),
        }

    def forget(self) -> None:
        """Remove the session for ever.

        Raises:
            BusyError: a mount has it open.
        """
        lock = take_lock(self.directory / "lock")
        try:
            remove_session(self.directory)
        finally:
            os.close(lock)

    def save(self, target: FilePath) -> tuple[int, int]:
        """Write the staged files below the new directory *target*.

        Returns how many there are, and how many more are left out, as they are chunks in the
        repository that were moved and not written.
        """
        blobs = Blobs(self.directory / "blobs")
        count = left = 0
        with _opened(self.directory) as database:
            target.mkdir(parents=True)
            for path, file in _staged_files(database):
                if file.blob is None:
                    left += 1
                    continue
                place = target.joinpath(*path)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(blobs.path(file.blob), place)
                count += 1
        return count, left


def find_sessions(state: FilePath) -> list[KeptFiles]:
    """Return the sessions that are kept below the directory *state*, in order of their place."""
    found = sorted(state.glob("sessions/*/*/session.sqlite"))
    return [_look(path.parent) for path in found]


def _look(directory: FilePath) -> KeptFiles:
    locked = _is_locked(directory / "lock")
    try:
        with _opened(directory) as database:
            facts = read_facts(database)
            files, nbytes = database.execute(
                "SELECT count(*), coalesce(sum(size), 0) FROM file"
            ).fetchone()
    except JournalError as exc:
        branch = decode_name(directory.name) or directory.name
        return KeptFiles(directory, "?", branch, "?", 0, 0, locked, str(exc))
    return KeptFiles(
        directory,
        str(facts.get("repository")),
        str(facts.get("branch")),
        str(facts.get("base")),
        files,
        nbytes,
        locked,
        began=facts.get("began_us"),
    )


@contextlib.contextmanager
def _opened(directory: FilePath) -> Iterator[sqlite3.Connection]:
    try:
        place = (directory / "session.sqlite").absolute().as_uri()  # names may have % ? #
        database = sqlite3.connect(f"{place}?mode=ro", uri=True)
        with contextlib.closing(database):
            yield database
    except sqlite3.Error as exc:
        raise JournalError(f"the session in {directory} can not be read: {exc}") from exc


def _staged_files(database: sqlite3.Connection) -> Iterator[tuple[Path, StagedFile]]:
    _, files, names = read_rows(database)
    pending: list[tuple[int, Path]] = [(ROOT_ROW, ())]
    while pending:
        row_id, path = pending.pop()
        for name, entry in names.get(row_id, ()):
            if entry.kind is RowKind.FILE:
                yield (*path, name), files[entry.child]
            elif entry.kind is RowKind.DIRECTORY:
                pending.append((entry.child, (*path, name)))


def _is_locked(path: FilePath) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)
