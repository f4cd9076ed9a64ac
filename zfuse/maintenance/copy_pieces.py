"""Copies pieces of foreign files into chunk objects: many at the same time, in bounded memory."""

from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import trio

from zfuse.byterange import ByteRange
from zfuse.errors import (
    AccessDeniedError,
    ContainerNotAllowedError,
    CorruptionError,
    ZfuseError,
)
from zfuse.format.ids import ChunkId
from zfuse.maintenance.pieces import Pieces, Request, requests
from zfuse.maintenance.stored_pieces import StoredPieces
from zfuse.repo.at_once import at_once
from zfuse.repo.chunk_files import ChunkFiles
from zfuse.repo.new_chunk import is_inline
from zfuse.repo.new_ids import new_id
from zfuse.repo.repository import Repository
from zfuse.repo.virtual import VirtualChunkResolver

IN_FLIGHT: Final = 64 << 20


@dataclass(slots=True)
class Progress:
    """How far a run is, in chunk references and their bytes.

    ``objects`` and ``object_bytes`` were stored by this run, ``reused`` objects by an earlier
    one; ``inline`` chunks go into manifests.
    """

    chunks: int = 0
    bytes: int = 0
    of_chunks: int = 0
    of_bytes: int = 0
    objects: int = 0
    object_bytes: int = 0
    reused: int = 0
    inline: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """How many requests are made at the same time, and how many bytes may wait in memory.

    What is larger than ``in_flight`` by itself is copied alone.
    """

    jobs: int = 16
    in_flight: int = IN_FLIGHT


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True, eq=False)
class CopiedPieces:
    """What became of pieces, by number: ``ids`` (n, 12) of chunk objects, or inline bytes.

    ``errors`` are those that could not be copied.
    """

    ids: npt.NDArray[np.uint8]
    inline: dict[int, bytes] = field(default_factory=dict)
    errors: dict[int, ZfuseError] = field(default_factory=dict)


class PieceCopier:
    """Copies pieces into chunk objects of *repository*, and notes them in *stored*."""

    def __init__(
        self,
        repository: Repository,
        resolver: VirtualChunkResolver,
        stored: StoredPieces,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.progress = Progress()
        self._repository = repository
        self._resolver = resolver
        self._stored = stored
        self._limits = limits
        self._puts = trio.CapacityLimiter(limits.jobs)
        self._room = _Room(limits.in_flight)

    async def copy(self, pieces: Pieces, files: ChunkFiles) -> CopiedPieces:
        """Copy *pieces*, but for those that are among the chunk objects *files* already.

        Raises:
            ContainerNotAllowedError, AccessDeniedError: they may not be read.
            StorageError: a store does not answer; what is stored by then is noted.
        """
        there, ids = self._stored.find(pieces.keys, pieces.refs.lengths, files)
        self.progress.reused += int(there.sum())
        copied = CopiedPieces(ids)
        turns = trio.Semaphore(self._limits.jobs)
        most = max(1, self._limits.in_flight // self._limits.jobs)
        failures: list[ZfuseError] = []

        async def run(request: Request) -> None:
            try:
                await self._serve(request, pieces, copied)
            except ZfuseError as exc:
                failures.append(exc)
                nursery.cancel_scope.cancel()
            finally:
                self._room.give_back(len(request))
                turns.release()

        async with trio.open_nursery() as nursery:
            for request in requests(pieces, np.flatnonzero(~there), most):
                await turns.acquire()
                await self._room.take(len(request))
                nursery.start_soon(run, request)
        if failures:
            raise failures[0]
        return copied

    async def _serve(self, request: Request, pieces: Pieces, copied: CopiedPieces) -> None:
        """Read a range, and store the pieces in it."""
        try:
            data = await self._resolver.read(request.ref, ByteRange(0, len(request)))
        except (ContainerNotAllowedError, AccessDeniedError):
            raise
        except CorruptionError as exc:
            copied.errors.update((number, exc) for number, _ in request.pieces)
            return
        jobs = []
        for number, place in request.pieces:
            if len(data) < place.stop or not len(place):
                location = request.ref.location
                copied.errors[number] = CorruptionError(f"{location} ends before the chunk")
            elif is_inline(self._repository, len(place)):
                copied.inline[number] = data[place.start : place.stop]
                self.progress.inline += 1
            else:
                jobs.append(partial(self._store, data, place, pieces.keys[number], copied, number))
        await at_once(jobs, most=self._limits.jobs)

    async def _store(
        self, data: bytes, place: ByteRange, key: bytes, copied: CopiedPieces, number: int
    ) -> None:
        """Store one piece as a chunk object."""
        chunk_id = new_id(ChunkId)
        async with self._puts:
            await self._repository.assets.store_chunk(chunk_id, data[place.start : place.stop])
        self._stored.add(key, chunk_id)
        copied.ids[number] = np.frombuffer(chunk_id, np.uint8)
        self.progress.objects += 1
        self.progress.object_bytes += len(place)


class _Room:
    """How many bytes may be in memory; whoever needs more than all of it gets it alone."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._freed = trio.Event()

    async def take(self, size: int) -> None:
        """Wait until *size* bytes are free, and take them; one task does so at a time."""
        while self._taken and self._taken + size > self._most:
            self._freed = trio.Event()
            await self._freed.wait()
        self._taken += size

    def give_back(self, size: int) -> None:
        """Free *size* bytes."""
        self._taken -= size
        self._freed.set()
