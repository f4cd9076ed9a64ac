"""Checks a repository: every object that a version needs is there, readable and well formed.

One pass over the snapshots, then one over the manifests that they have, each read once. Of
chunks only names, sizes and how far references reach are kept: about 50 bytes each.

Specification: spec-v2 and spec-v1; what the official writers make of them beyond that.
"""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from itertools import batched
from typing import Final

import trio

from zfuse.byterange import ByteRange
from zfuse.errors import (
    CorruptionError,
    ObjectNotFoundError,
    StorageError,
    StorageTimeoutError,
    TransientStorageError,
    UnsupportedVersionError,
)
from zfuse.format.layout import manifest_key
from zfuse.format.manifest import Manifest
from zfuse.maintenance.fsck_entry import Entry, ops_log_findings, read_entry
from zfuse.maintenance.fsck_findings import Counts, Finding, Summary
from zfuse.maintenance.fsck_history import HistoryCheck, ManifestMap
from zfuse.maintenance.fsck_listing import list_sizes, read_objects, unreferenced
from zfuse.maintenance.fsck_manifest import (
    CheckedPart,
    ManifestUses,
    check_arrays,
    check_overlap,
    check_refs,
    decode_manifest,
)
from zfuse.maintenance.sources import Sources
from zfuse.repo.at_once import at_once
from zfuse.repo.chunk_files import ChunkFiles
from zfuse.repo.virtual import UnallowedContainerError, VirtualChunkResolver
from zfuse.storage.base import Storage

_AT_ONCE: Final = 16
_TOGETHER: Final = 8 << 20
"""Bytes of packed files that are read at the same time; unpacked they are some ten times that."""
_PIECE: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Depth:
    """How far a check goes: whether it reads all chunks, and asks for virtual sources."""

    reads_chunks: bool = False
    asks_sources: bool = False


class RepositoryCheck:
    """One check of the repository in *storage*; ``summary`` is whole when it has ended."""

    def __init__(self, storage: Storage, resolver: VirtualChunkResolver, depth: Depth) -> None:
        self.summary = Summary()
        self._storage = storage
        self._resolver = resolver
        self._sources = Sources(resolver, ask=depth.asks_sources)
        self._depth = depth

    async def findings(self) -> AsyncGenerator[Finding]:
        """Yield what is wrong.

        Raises:
            RepositoryNotFoundError: there is no repository, not even a damaged one.
            StorageError: the store does not answer.
        """
        entry = await read_entry(self._storage)
        self.summary.spec_version = entry.spec_version
        self._resolver.declare(entry.config.virtual_chunk_containers)
        for step in (self._check_entry, self._check_objects):
            async with aclosing(step(entry)) as found:
                async for finding in found:
                    self.summary.findings += 1
                    yield finding

    async def _check_entry(self, entry: Entry) -> AsyncGenerator[Finding]:
        for finding in entry.findings:
            yield finding
        if entry.info is not None:
            async for finding in ops_log_findings(self._storage, entry.info):
                yield finding

    async def _check_objects(self, entry: Entry) -> AsyncGenerator[Finding]:
        if entry.info is None and not entry.tips:
            return  # without an entry nobody knows what is needed
        # Listed after the refs were read: what these lead to was stored before.
        files = await ChunkFiles.listed(self._storage)
        history = HistoryCheck(self._storage, entry)
        async for finding in history.findings():
            yield finding
        self.summary.snapshots = len(history.seen)
        self.summary.unreferenced |= history.unreferenced
        async for finding in self._check_manifests(history.manifests, entry.spec_version, files):
            yield finding
        async for finding in self._check_chunks(history.manifests, files):
            yield finding

    # -- manifests ------------------------------------------------------------------------------

    async def _check_manifests(
        self, known: ManifestMap, version: int, files: ChunkFiles
    ) -> AsyncGenerator[Finding]:
        sizes = await list_sizes(self._storage, "manifests/")
        self.summary.manifests = len(known.manifests)
        used = map(manifest_key, known.manifests)
        self.summary.unreferenced["manifests"] = unreferenced(sizes, used)
        for batch in _batches(list(known.manifests.values()), sizes):
            blobs = await read_objects(self._storage, [uses.key for uses in batch])
            for uses in batch:
                data = blobs.pop(uses.key)
                if not isinstance(data, bytes):
                    yield uses.finding(data)
                    continue
                async for finding in self._check_manifest(data, uses, version, files):
                    yield finding
        async for finding in self._check_overlaps(known):
            yield finding

    async def _check_manifest(
        self, data: bytes, uses: ManifestUses, version: int, files: ChunkFiles
    ) -> AsyncGenerator[Finding]:
        parts: list[CheckedPart] = []

        def look() -> Iterator[Finding]:
            manifest, found = decode_manifest(data, uses, version)
            yield from found
            if manifest is not None:
                yield from check_arrays(manifest, uses, parts)
            for part in parts:
                yield from check_refs(part, uses.key, files, uses.number)

        found = look()
        while (batch := await trio.to_thread.run_sync(partial(_some, found))) != ():
            for finding in batch:
                yield finding
        for part in parts:
            self.summary.chunk_refs += len(part.columns)
            async for finding in self._check_sources(part):
                yield finding

    async def _check_sources(self, part: CheckedPart) -> AsyncGenerator[Finding]:
        for bad in await self._sources.bad(part.columns):
            if not isinstance(bad.error, UnallowedContainerError):  # the summary counts those
                yield part.use.finding(bad.location, bad.problem, part.columns.coords[bad.rows])

    async def _check_overlaps(self, known: ManifestMap) -> AsyncGenerator[Finding]:
        for use, one, other in known.overlaps:
            keys = manifest_key(one.manifest_id), manifest_key(other.manifest_id)
            blobs = await read_objects(self._storage, keys)
            try:
                left, right = (Manifest.decode(_bytes(blobs[key])) for key in keys)
            except (CorruptionError, UnsupportedVersionError):
                continue  # told already
            for finding in check_overlap(left, right, use, keys):
                yield finding

    # -- chunks ---------------------------------------------------------------------------------

    async def _check_chunks(self, known: ManifestMap, files: ChunkFiles) -> AsyncGenerator[Finding]:
        used = files.used()
        self.summary.native_chunks = len(used)
        self.summary.not_asked |= self._sources.unallowed()
        self.summary.virtual_sources = len(self._sources)
        unused = files.sizes[files.unused()]
        self.summary.unreferenced["chunks"] = Counts(len(unused), int(unused.sum()))
        for row in files.longer_than_used().tolist():
            use, end = known.firsts[files.user(row)], int(files.ends[row])
            problem = f"it has {files.sizes[row]} bytes, references go up to {end}"
            yield use.finding(f"chunks/{files.name(row)}", problem)
        if not self._depth.reads_chunks:
            return
        for batch in batched(used.tolist(), 16 * _AT_ONCE, strict=False):
            problems: dict[int, str] = {}
            jobs = [partial(self._read_chunk, files, row, problems) for row in batch]
            await at_once(jobs, most=_AT_ONCE)
            for row in sorted(problems):
                use = known.firsts[files.user(row)]
                yield use.finding(f"chunks/{files.name(row)}", problems[row])

    async def _read_chunk(self, files: ChunkFiles, row: int, problems: dict[int, str]) -> None:
        """Read a chunk object to its end, in pieces, and note what goes wrong."""
        key, size, at = f"chunks/{files.name(row)}", int(files.sizes[row]), 0
        while at < size:
            wanted = ByteRange(at, min(at + _PIECE, size))
            try:
                data = await self._storage.get_range(key, wanted)
            except (StorageTimeoutError, TransientStorageError):
                raise
            except ObjectNotFoundError:
                problems[row] = "gone since it was listed"
                return
            except StorageError as exc:
                problems[row] = f"it can not be read: {exc}"
                return
            self.summary.bytes_read += len(data)
            if len(data) < len(wanted):
                problems[row] = f"only {at + len(data)} of its {size} bytes can be read"
                return
            at = wanted.stop


def _bytes(data: bytes | str) -> bytes:
    if isinstance(data, str):
        raise CorruptionError(data)
    return data


def _some(findings: Iterator[Finding]) -> tuple[Finding, ...]:
    """Return the next findings, none at the end."""
    return tuple(finding for finding, _ in zip(findings, range(1000), strict=False))


def _batches(wanted: list[ManifestUses], sizes: dict[str, int]) -> Iterator[list[ManifestUses]]:
    """Yield *wanted* in parts that fit into memory together."""
    batch: list[ManifestUses] = []
    total = 0
    for uses in wanted:
        size = sizes.get(uses.key, 0)
        if batch and (total + size > _TOGETHER or len(batch) == _AT_ONCE):
            yield batch
            batch, total = [], 0
        batch.append(uses)
        total += size
    if batch:
        yield batch
