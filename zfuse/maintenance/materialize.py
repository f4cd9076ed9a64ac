"""Makes virtual chunks a repository's own: their bytes become chunk objects, in one commit.

Sources are asked for first, so that a run which can not succeed fetches nothing.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import trio

from zfuse.errors import (
    AccessDeniedError,
    ContainerNotAllowedError,
    CorruptionError,
    MissingObjectError,
    NotFoundError,
    ZfuseError,
)
from zfuse.format.extents import inside
from zfuse.format.ids import ChunkId
from zfuse.format.ragged import Ragged
from zfuse.format.ref_columns import RefColumns, RefKind, merge, plain
from zfuse.format.snapshot import ArrayNode
from zfuse.maintenance.copy_pieces import CopiedPieces, PieceCopier
from zfuse.maintenance.fsck_findings import Finding
from zfuse.maintenance.pieces import Pieces
from zfuse.maintenance.sources import BadSource, Sources
from zfuse.maintenance.stored_pieces import StoredPieces
from zfuse.repo.chunk_files import ChunkFiles
from zfuse.repo.missing_chunks import missing_chunks
from zfuse.repo.session import Session
from zfuse.repo.virtual import VirtualChunkResolver
from zfuse.storage.base import Storage

_MOST_TOLD: Final = 3


class LostSourcesError(CorruptionError):
    """Virtual chunks can not be read, or are not what was referenced; *findings* name them."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        count = sum(0 if f.chunks is None else len(f.chunks) for f in findings)
        told = "; ".join(f"{f.object}: {f.problem}" for f in findings[:_MOST_TOLD])
        more = len(findings) - _MOST_TOLD
        super().__init__(
            f"virtual chunks that can not be had: {count}; nothing was committed: {told}"
            f"{f'; and {more} more' if more > 0 else ''}"
        )
        self.findings = findings


async def materialize(
    session: Session,
    paths: Sequence[str],
    copier: PieceCopier,
    resolver: VirtualChunkResolver,
    stored: StoredPieces,
) -> bool:
    """Replace the virtual chunks of the nodes at and below *paths*; the caller commits.

    Returns whether there were any. The session is as it was when this raises.

    Raises:
        LostSourcesError: sources changed or vanished.
        ContainerNotAllowedError, AccessDeniedError: sources may not be read.
        MissingObjectError: what was stored was taken for garbage meanwhile.
        NotFoundError: there is nothing at one of *paths*.
        StorageError: a store does not answer; what is stored by then need not be stored again.
    """
    arrays = _arrays(session, paths)
    await _look(session, arrays, copier, resolver)
    if not copier.progress.of_chunks:
        return False
    # What an earlier run stored may have been taken for garbage since.
    files = ChunkFiles(np.empty(0, "S20"), np.empty(0, np.int64))
    if len(stored):
        files = await ChunkFiles.listed(session.repository.storage)
    replaced: dict[str, RefColumns] = {}
    lost: list[Finding] = []
    for path in arrays:
        columns = await virtual_columns(session, path)
        if len(columns):
            pieces = await trio.to_thread.run_sync(Pieces.of, columns)
            copied = await copier.copy(pieces, files)
            lost += _lost(path, columns, pieces, copied)
            if not lost:
                replaced[path] = _columns(columns, pieces, copied)
            copier.progress.chunks += len(columns)
            copier.progress.bytes += int(columns.lengths.sum())
    if lost:
        raise LostSourcesError(lost)
    await _check_stored(session.repository.storage, list(replaced.values()))
    for path, columns in replaced.items():
        await session.set_chunk_refs(path, columns)
    return True


def _arrays(session: Session, paths: Sequence[str]) -> list[str]:
    """Return the paths of the arrays at and below *paths*."""
    found: set[str] = set()
    for path in paths:
        if not session.tree.is_directory(path):
            raise NotFoundError(f"there is no {path} on the branch {session.branch!r}")
        nodes = session.tree.subtree(path)
        found |= {node.path for node in nodes if isinstance(node, ArrayNode)}
    return sorted(found)


async def virtual_columns(session: Session, path: str) -> RefColumns:
    """Return the virtual references of an array, those inside of its grid.

    Raises:
        CorruptionError: some of its references are damaged.
    """
    node = session.tree.array(path)
    grid = [(0, dimension.num_chunks) for dimension in node.shape]
    for packed in await session.chunk_columns(node):
        columns = await trio.to_thread.run_sync(plain, packed)
        if (columns.kinds == RefKind.DAMAGED).any():
            raise CorruptionError(f"{path} has damaged references; zfuse fsck tells which")
        return columns.take((columns.kinds == RefKind.VIRTUAL) & inside(columns.coords, grid))
    return RefColumns.empty(len(grid))


async def _look(
    session: Session, arrays: Sequence[str], copier: PieceCopier, resolver: VirtualChunkResolver
) -> None:
    """Ask for all sources, and count what is to be copied."""
    sources = Sources(resolver, ask=True)
    lost: list[Finding] = []
    for path in arrays:
        columns = await virtual_columns(session, path)
        copier.progress.of_chunks += len(columns)
        copier.progress.of_bytes += int(columns.lengths.sum())
        for bad in await sources.bad(columns):
            if isinstance(bad.error, ContainerNotAllowedError | AccessDeniedError):
                raise bad.error
            lost.append(Finding(bad.location, bad.problem, path, (), columns.coords[bad.rows]))
    if lost:
        raise LostSourcesError(lost)


async def _check_stored(storage: Storage, replaced: Sequence[RefColumns]) -> None:
    """Make sure that nobody took what this run stored, and nothing refers to yet, for garbage.

    Raises:
        MissingObjectError: somebody did.
    """
    native = [columns.chunk_ids[columns.kinds == RefKind.NATIVE] for columns in replaced]
    ids = np.unique(np.concatenate([np.empty((0, ChunkId.SIZE), np.uint8), *native]), axis=0)
    gone = int((await missing_chunks(storage, ids)).sum())
    if gone:
        raise MissingObjectError(
            f"{gone} chunk objects that were stored are gone, as after zfuse gc; nothing was"
            " committed: start it again, with no garbage collection meanwhile"
        )


def _lost(path: str, columns: RefColumns, pieces: Pieces, copied: CopiedPieces) -> list[Finding]:
    """Return the chunks that could not be copied, by source and reason."""
    by_reason: dict[tuple[str, str], tuple[ZfuseError, list[int]]] = {}
    for number, error in copied.errors.items():
        location = pieces.ref(number).location
        by_reason.setdefault((location, str(error)), (error, []))[1].append(number)
    found = []
    for (location, _), (error, numbers) in sorted(by_reason.items()):
        rows = np.flatnonzero(np.isin(pieces.of_row, numbers))
        bad = BadSource(location, error, rows)
        found.append(Finding(location, bad.problem, path, (), columns.coords[rows]))
    return found


def _columns(columns: RefColumns, pieces: Pieces, copied: CopiedPieces) -> RefColumns:
    """Return the references that take the place of *columns*."""
    inline = np.zeros(len(pieces), np.bool_)
    inline[list(copied.inline)] = True
    rows = np.flatnonzero(inline[pieces.of_row])
    others = np.flatnonzero(~inline[pieces.of_row])
    numbers = pieces.of_row[rows].tolist()
    return merge(
        [
            RefColumns.native(
                columns.coords[others], copied.ids[pieces.of_row[others]], columns.lengths[others]
            ),
            RefColumns.inline(
                columns.coords[rows], Ragged.of(copied.inline[number] for number in numbers)
            ),
        ]
    )
