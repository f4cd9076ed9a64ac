"""What a run that copies foreign bytes has stored already, kept in a file for the next one.

    offset  size  field
         0     8  magic
         8     8  when the run began, in microseconds since 1970, little endian
        16  28 n  one record for each chunk object: 16 bytes of hash, 12 bytes of chunk id

The hash is that of the piece of a foreign file: location, offset, length and checksum. A
record is written when its object is stored; a torn one at the end is left out.
"""

import fcntl
import os
import struct
import time
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from zfuse.errors import BusyError, InvalidInputError
from zfuse.format.ids import ChunkId
from zfuse.repo.chunk_files import ChunkFiles

_MAGIC: Final = b"zfstore2"
_HEADER: Final = struct.Struct("<8sQ")
KEY_SIZE: Final = 16
_RECORD: Final = np.dtype([("key", f"S{KEY_SIZE}"), ("id", "u1", (ChunkId.SIZE,))])

Keys = npt.NDArray[np.bytes_]


def piece_key(location: bytes, offset: int, length: int, etag: bytes, modified: int) -> bytes:
    """Return what names a piece of a foreign file that was referenced with some checksum."""
    text = b"%d %d %d %s\0%s" % (offset, length, modified, etag, location)
    key = blake2b(text, digest_size=KEY_SIZE).digest()
    return key[:-1] + bytes([key[-1] or 1])  # numpy takes zeros at the end for padding


def state_name(url: str, branch: str) -> str:
    """Return the name of the file for a run on *branch* of the repository at *url*."""
    return blake2b(f"{url}\0{branch}".encode(errors="surrogateescape"), digest_size=16).hexdigest()


def began_at(path: Path) -> int | None:
    """Return when the unfinished run of the file *path* began, None if there is none.

    In microseconds since 1970. No chunk that the run refers to was stored before.
    """
    try:
        with path.open("rb") as file:
            magic, began = _HEADER.unpack(file.read(_HEADER.size))
    except (OSError, struct.error):
        return None
    return int(began) if magic == _MAGIC else None


class StoredPieces:
    """The pieces that are stored, as a context: nobody else has the file meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._records = np.empty(0, _RECORD)

    def __enter__(self) -> Self:
        """Read what is there.

        Raises:
            BusyError: another process has the file.
            InvalidInputError: it can not be kept there.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as exc:
            raise InvalidInputError(
                f"cannot keep in {self._path} what is stored: {exc.strerror}; set XDG_STATE_HOME"
            ) from exc
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._close()
            raise BusyError("another zfuse materialize works on this branch; wait for it") from None
        self._load()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def __len__(self) -> int:
        return len(self._records)

    def _close(self) -> None:
        os.close(self._file)
        self._file = -1

    def _load(self) -> None:
        size = os.fstat(self._file).st_size
        data = os.pread(self._file, size, 0)
        whole = (len(data) - _HEADER.size) // _RECORD.itemsize
        if whole < 0 or not data.startswith(_MAGIC):
            os.ftruncate(self._file, 0)
            os.write(self._file, _HEADER.pack(_MAGIC, time.time_ns() // 1000))
            return
        os.ftruncate(self._file, _HEADER.size + whole * _RECORD.itemsize)
        records = np.frombuffer(data, _RECORD, whole, _HEADER.size)
        self._records = records[np.argsort(records["key"], kind="stable")]

    def find(
        self, keys: Keys, lengths: npt.NDArray[np.uint64], files: ChunkFiles
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.uint8]]:
        """Return which of the pieces *keys* are stored still, and the ids of their chunks.

        *files* are the chunk objects that there are now: garbage collection may have been.
        """
        ids = np.zeros((len(keys), ChunkId.SIZE), np.uint8)
        if len(self._records) == 0:
            return np.zeros(len(keys), np.bool_), ids
        rows = np.minimum(self._records["key"].searchsorted(keys), len(self._records) - 1)
        found = self._records["key"][rows] == keys
        ids[found] = self._records["id"][rows[found]]
        places = files.find(ids)
        found &= places >= 0
        found[found] = files.sizes[places[found]] == lengths[found].astype(np.int64)
        return found, ids

    def add(self, key: bytes, chunk_id: ChunkId) -> None:
        """Note that the piece *key* is stored."""
        os.write(self._file, key + bytes(chunk_id))

    def forget(self) -> None:
        """Remove the file: what was stored is part of a commit now."""
        self._path.unlink(missing_ok=True)
