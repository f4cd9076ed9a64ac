"""The room that a session has on its disk, some of which is kept for the names to change."""

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Final

from zfuse.errors import JournalFullError
from zfuse.fs.blobs import HOW_TO_GO_ON, journal_errors

_KEPT_FREE: Final = 4 << 20
_CHANGES: Final = 16  # that together take no more than a fraction of what is kept


class JournalRoom:
    """Sees to it that something can be removed from a disk that is full.

    Who stages bytes is refused before all is taken; the log of the database, which takes room
    for every change, is cut when that gets short.
    """

    def __init__(self, directory: Path, database: sqlite3.Connection) -> None:
        self._directory = directory
        self._database = database
        self._changes = 0

    def require(self, size: int) -> None:
        """Raise JournalFullError unless *size* bytes fit beside what is kept."""
        if self._free() < size:
            self._cut_log()
            if self._free() < size:
                raise JournalFullError(f"can not stage a file: {HOW_TO_GO_ON}")

    def before_change(self) -> None:
        """Cut the log, once in some changes, if there is little room left."""
        self._changes += 1
        if self._changes % _CHANGES == 0 and self._free() < 0:
            self._cut_log()

    def _free(self) -> int:
        """Return the bytes that are free beside those that are kept."""
        with journal_errors("can not stage a file"):
            found = os.statvfs(self._directory)
        kept = min(_KEPT_FREE, found.f_blocks * found.f_frsize // 4)
        return found.f_bavail * found.f_frsize - kept

    def _cut_log(self) -> None:
        with contextlib.suppress(sqlite3.Error):  # who reads just now keeps it as long as it is
            self._database.execute("PRAGMA busy_timeout = 0")
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._database.execute("PRAGMA busy_timeout = 5000")
