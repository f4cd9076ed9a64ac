"""The directory of a session: its lock, and its end."""

import contextlib
import fcntl
import os
import shutil
from pathlib import Path as FilePath

from zfuse.errors import BusyError
from zfuse.fs.blobs import make_directory


def take_lock(path: FilePath) -> int:
    """Lock the file at *path*, and write into it who has it.

    Raises:
        BusyError: another process has it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        who = os.pread(descriptor, 100, 0).decode("ascii", "replace").strip() or "another process"
        os.close(descriptor)
        raise BusyError(
            f"the session in {path.parent} belongs to {who}; unmount there first: zfuse list"
        ) from None
    if not os.fstat(descriptor).st_nlink:  # who had it ended meanwhile, and left nothing behind
        os.close(descriptor)
        make_directory(path.parent)
        return take_lock(path)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"pid {os.getpid()}\n".encode(), 0)
    return descriptor


def remove_session(directory: FilePath) -> None:
    """Remove a session whose lock the caller has.

    The lock goes last: who takes a new one finds nothing of the old session.
    """
    shutil.rmtree(directory / "blobs", ignore_errors=True)
    for name in ("session.sqlite-wal", "session.sqlite-shm", "session.sqlite", "lock"):
        (directory / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # somebody may have begun another
        directory.rmdir()
