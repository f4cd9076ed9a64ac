"""How much a repository holds."""

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from zfuse.format.ref_columns import RefColumns, RefKind, plain
from zfuse.maintenance.id_set import IdSet
from zfuse.maintenance.reachable import (
    Tell,
    manifests_of,
    quiet,
    snapshots_of_refs,
    visit_references,
)
from zfuse.repo.repository import Repository

U8 = npt.NDArray[np.uint8]
_BLOCK: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class ChunkStorageStats:
    """Bytes and numbers of chunks: ``native`` ones have an object each in the repository.

    Native chunks count once, and so do ``virtual`` ones of one range in one file; ``inlined``
    ones are in a manifest, and count in each manifest that has them.
    """

    native_bytes: int
    virtual_bytes: int
    inlined_bytes: int
    native_chunks: int
    virtual_chunks: int
    inlined_chunks: int
    snapshots: int
    manifests: int
    manifest_bytes: int

    def non_virtual_bytes(self) -> int:
        """Return how much of the chunks lies in the repository."""
        return self.native_bytes + self.inlined_bytes

    def total_bytes(self) -> int:
        """Return how many bytes all chunks have."""
        return self.non_virtual_bytes() + self.virtual_bytes


async def chunk_storage_stats(repository: Repository, tell: Tell = quiet) -> ChunkStorageStats:
    """Count the chunks of all snapshots that branches and tags lead to, as of ``state``.

    Raises:
        MissingObjectError: the file of a snapshot or manifest is gone.
    """
    known = await snapshots_of_refs(repository)
    manifests = await manifests_of(repository.assets, known, tell)
    counter = _Counter()
    await visit_references(repository.assets, manifests, counter.count, tell)
    return ChunkStorageStats(
        native_bytes=counter.nbytes[RefKind.NATIVE],
        virtual_bytes=counter.nbytes[RefKind.VIRTUAL],
        inlined_bytes=counter.nbytes[RefKind.INLINE],
        native_chunks=counter.numbers[RefKind.NATIVE],
        virtual_chunks=counter.numbers[RefKind.VIRTUAL],
        inlined_chunks=counter.numbers[RefKind.INLINE],
        snapshots=len(known),
        manifests=len(manifests),
        manifest_bytes=sum(each.size_bytes for each in manifests.values()),
    )


class _Counter:
    def __init__(self) -> None:
        self.nbytes = dict.fromkeys(RefKind, 0)
        self.numbers = dict.fromkeys(RefKind, 0)
        self._native = IdSet()
        self._virtual = IdSet()

    def count(self, columns: RefColumns) -> None:
        native = columns.kinds == RefKind.NATIVE
        lengths = columns.lengths[native][self._native.add(columns.chunk_ids[native])]
        self._add(RefKind.NATIVE, len(lengths), int(lengths.sum()))
        inline = columns.texts.sizes[columns.kinds == RefKind.INLINE]
        self._add(RefKind.INLINE, len(inline), int(inline.sum()))
        rows = np.flatnonzero(
            (columns.kinds == RefKind.VIRTUAL) | (columns.kinds == RefKind.PACKED)
        )
        for low in range(0, len(rows), _BLOCK):
            part = plain(columns.take(rows[low : low + _BLOCK]))
            lengths = part.lengths[self._virtual.add(_ranges(part))]
            self._add(RefKind.VIRTUAL, len(lengths), int(lengths.sum()))

    def _add(self, kind: RefKind, number: int, nbytes: int) -> None:
        self.numbers[kind] += number
        self.nbytes[kind] += nbytes


def _ranges(columns: RefColumns) -> U8:
    """Return by row 12 bytes that tell the range of a file that it refers to from others."""
    places, files = columns.texts.unique()
    names = [hashlib.blake2b(place or b"", digest_size=16).digest() for place in places]
    keys = np.empty((len(columns), 32), np.uint8)
    keys[:, :16] = np.frombuffer(b"".join(names), np.uint8).reshape(-1, 16)[files]
    keys[:, 16:24] = columns.offsets.astype("<u8").view(np.uint8).reshape(-1, 8)
    keys[:, 24:] = columns.lengths.astype("<u8").view(np.uint8).reshape(-1, 8)
    digests = [hashlib.blake2b(key, digest_size=12).digest() for key in keys]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 12)
