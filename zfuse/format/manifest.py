"""Manifest files: where the chunks of arrays are.

Specification: spec-v2, "Chunk Manifest Files".
"""

from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from zfuse.format.chunk_ref import ChunkRef
from zfuse.format.ids import ManifestId, NodeId

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]


class ArrayManifest:
    """The references of one array in one manifest, all of one rank, sorted by chunk index.

    A *row* is a position in that order.
    """

    rank: int

    def __len__(self) -> int:
        raise NotImplementedError

    def find(self, coords: Sequence[int]) -> int | None:
        """Return the row of the chunk at *coords*, None where there is no reference."""
        raise NotImplementedError

    def find_many(self, coords: U32) -> npt.NDArray[np.int64]:
        """Return the row of each of *coords* (n, rank), -1 where there is no reference."""
        raise NotImplementedError

    def rows_under(self, prefix: Sequence[int]) -> tuple[int, int]:
        """Return the half-open range of rows whose index starts with *prefix*."""
        raise NotImplementedError

    def coords(self, start: int, stop: int) -> U32:
        """Return the chunk indices (stop - start, rank) of a range of rows."""
        raise NotImplementedError

    def sizes(self, start: int, stop: int) -> U64:
        """Return the sizes in bytes of the chunks in a range of rows."""
        raise NotImplementedError

    def ref(self, row: int) -> ChunkRef:
        """Return the reference in *row*.

        Raises:
            CorruptionError: this reference is damaged; the others may be sound.
        """
        raise NotImplementedError


class Manifest:
    """A decoded manifest file.

    ``nbytes`` is about what this object occupies in memory.
    """

    id: ManifestId
    nbytes: int

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a manifest file.

        Raises:
            CorruptionError: *data* is not a sound manifest file.
            UnsupportedVersionError: it is of a newer specification.
        """
        raise NotImplementedError

    def node_ids(self) -> tuple[NodeId, ...]:
        """Return the arrays that have references here."""
        raise NotImplementedError

    def array(self, node_id: NodeId, rank: int) -> ArrayManifest | None:
        """Return the references of an array whose index has *rank* numbers, None for none."""
        raise NotImplementedError

    def ranks(self, node_id: NodeId) -> tuple[int, ...]:
        """Return the ranks that occur in the references of an array, ascending.

        Official writers do not check the rank of a chunk key, so a reference of a rank
        that is not the array's can exist.
        """
        raise NotImplementedError
