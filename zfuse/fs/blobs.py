"""The bytes of staged files, one file each in the journal's directory."""

import errno
import itertools
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from zfuse.errors import JournalError, JournalFullError

_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
HOW_TO_GO_ON: Final = "the disk of the journal is full; free some room, or sync what is closed"


class Blobs:
    """Files under names of their own, in a directory that is made with the first."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._place = str(directory)  # joining texts is ten times as fast as joining paths
        self._prefix = secrets.token_hex(6)  # no name comes again in a later run
        self._numbers = itertools.count()
        self._folders: set[str] = set()

    def path(self, name: str) -> Path:
        """Return where the blob *name* is."""
        return Path(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._place}/{name[:2]}/{name[2:]}"

    def open_new(self) -> tuple[str, int]:
        """Make an empty blob and return its name and a descriptor for reading and writing."""
        number = next(self._numbers)
        folder = f"{number // 4096 % 256:02x}"
        name = f"{folder}{self._prefix}{number:x}"
        with journal_errors("can not stage a file"):
            if folder not in self._folders:
                (self._directory / folder).mkdir(parents=True, exist_ok=True)
                self._folders.add(folder)
            return name, os.open(self._at(name), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)

    def open(self, name: str) -> int:
        """Return a descriptor of an existing blob for reading and writing."""
        with journal_errors("a staged file is gone from the journal"):
            return os.open(self._at(name), os.O_RDWR)

    def copy(self, source: str | int) -> tuple[str, int]:
        """Make a new blob with the bytes of another; return its name and a descriptor.

        *source* is a blob, or an open descriptor of one.
        """
        copied, descriptor = self.open_new()
        place = self.path(source) if isinstance(source, str) else f"/proc/self/fd/{source}"
        try:
            with journal_errors("can not copy a staged file"):
                shutil.copyfile(place, self.path(copied))
        except BaseException:
            os.close(descriptor)
            self.remove(copied)
            raise
        return copied, descriptor

    def read(self, name: str) -> bytes:
        """Return all bytes of a blob."""
        with journal_errors("a staged file can not be read"):
            return self.path(name).read_bytes()

    def remove(self, name: str) -> None:
        """Remove a blob; whoever has it open keeps it."""
        self.path(name).unlink(missing_ok=True)

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of every blob that is there."""
        return {
            path.parent.name + path.name: path.stat().st_size
            for path in self._directory.glob("??/*")
        }

    def sync(self, name: str) -> None:
        """Return when a blob would survive a loss of power."""
        descriptor = self.open(name)
        try:
            with journal_errors("can not write to the disk of the journal"):
                os.fsync(descriptor)
                for directory in (self.path(name).parent, self._directory):
                    sync_directory(directory)
        finally:
            os.close(descriptor)


def make_directory(directory: Path) -> None:
    """Make a directory, and those above it, such that they would survive a loss of power."""
    if not directory.is_dir():
        make_directory(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)
        sync_directory(directory.parent)


def sync_directory(directory: Path) -> None:
    """Return when the names in *directory* would survive a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def journal_errors(what: str) -> Iterator[None]:
    """Turn an OSError of the block into one that says *what* went wrong with the journal."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _FULL:
            raise JournalFullError(f"{what}: {HOW_TO_GO_ON}") from exc
        raise JournalError(f"{what}: {exc}") from exc
