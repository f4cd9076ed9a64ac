"""The chunk objects that a repository has, from one listing."""

from contextlib import aclosing
from typing import Final

import numpy as np
import numpy.typing as npt

from zfuse.format.ids import ChunkId, ObjectId
from zfuse.storage.base import Storage

I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
Names = npt.NDArray[np.bytes_]

_DIGITS: Final = 20
_ALPHABET: Final = np.frombuffer(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ", np.uint8)
_BATCH: Final = 1 << 16
_NOBODY: Final = -1


class ChunkFiles:
    """The chunk objects of a repository, 50 bytes of memory each.

    A *row* is the position of an object among the sorted names.
    """

    def __init__(self, names: Names, sizes: I64) -> None:
        order = np.argsort(names, kind="stable")
        self._names = names[order]
        self.sizes = sizes[order]
        self.ends = np.full(len(names), _NOBODY, np.int64)
        """How far the references to an object reach into it, -1 where there is none."""
        self._users = np.full(len(names), _NOBODY, np.int32)

    @classmethod
    async def listed(cls, storage: Storage) -> "ChunkFiles":
        """List the chunks of the repository in *storage*; what has no chunk's name is left out."""
        names: list[Names] = []
        sizes: list[I64] = []
        batch: list[tuple[bytes, int]] = []

        def settle() -> None:
            names.append(np.array([name for name, _ in batch], f"S{_DIGITS}"))
            sizes.append(np.array([size for _, size in batch], np.int64))
            batch.clear()

        async with aclosing(storage.list("chunks/")) as found:
            async for info in found:
                name = info.key.removeprefix("chunks/").encode(errors="surrogateescape")
                if len(name) == _DIGITS:
                    batch.append((name, info.size))
                if len(batch) == _BATCH:
                    settle()
        settle()
        return cls(np.concatenate(names), np.concatenate(sizes))

    def __len__(self) -> int:
        return len(self._names)

    def find(self, chunk_ids: U8) -> I64:
        """Return the row of each of *chunk_ids* (n, 12), -1 where there is no object."""
        names = spelled(chunk_ids)
        if len(self._names) == 0:
            return np.full(len(names), _NOBODY)
        rows = np.minimum(self._names.searchsorted(names), len(self._names) - 1)
        return np.where(self._names[rows] == names, rows, _NOBODY)

    def use(self, rows: I64, ends: I64, user: int) -> None:
        """Note that *user*, a number, refers to the objects in *rows* up to *ends*."""
        np.maximum.at(self.ends, rows, ends)
        self._users[rows] = user

    def user(self, row: int) -> int:
        """Return who refers to an object, as far as is known last."""
        return int(self._users[row])

    def name(self, row: int) -> str:
        """Return the name of an object."""
        return bytes(self._names[row]).decode()

    def longer_than_used(self) -> I64:
        """Return the rows of the objects that end behind everything that refers to them."""
        return np.flatnonzero((self.ends >= 0) & (self.sizes > self.ends))

    def used(self) -> I64:
        """Return the rows of the objects that something refers to."""
        return np.flatnonzero(self.ends >= 0)

    def unused(self) -> I64:
        """Return the rows of the others."""
        return np.flatnonzero(self.ends < 0)


def spelled(chunk_ids: U8) -> Names:
    """Return the text of each of *chunk_ids* (n, 12), as ``str`` of a ChunkId gives it."""
    bits = np.zeros((len(chunk_ids), 5 * _DIGITS), np.uint8)
    bits[:, : 8 * ObjectId.SIZE] = np.unpackbits(np.ascontiguousarray(chunk_ids), axis=1)
    values = bits.reshape(-1, _DIGITS, 5) @ np.array([16, 8, 4, 2, 1], np.uint8)
    return _ALPHABET[values].view(f"S{_DIGITS}").reshape(len(chunk_ids))


def chunk_name(chunk_id: U8) -> str:
    """Return the text of one id."""
    return str(ChunkId(chunk_id.tobytes()))
