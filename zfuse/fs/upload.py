"""Chunks go to the store as soon as they are closed under their final name.

A sync then finds most of them stored. A few are under way at a time, and a bounded number of
bytes; what fails is left to the sync, which tells why.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
import trio

from zfuse.errors import CorruptionError, InvalidInputError, JournalError, ZfuseError
from zfuse.format.chunk_ref import ChunkRef, InlineRef, NativeRef
from zfuse.format.ids import ChunkId
from zfuse.format.zarr_json import ArrayMetadata, ChunkKeyEncoding
from zfuse.fs.blobs import journal_errors
from zfuse.fs.overlay_directory import OverlayDirectory
from zfuse.fs.overlay_file import OverlayFile
from zfuse.fs.plan import METADATA_NAME
from zfuse.fs.staged import StagedFile, ref_to_text
from zfuse.fs.staging import Staging
from zfuse.repo.documents import ArrayDocument, chunk_fault, parse_document
from zfuse.repo.missing_chunks import missing_chunks
from zfuse.repo.new_chunk import is_inline, store_chunk_file
from zfuse.repo.repository import Repository

log = logging.getLogger(__name__)

AT_ONCE: Final = 8
MOST_BYTES: Final = 64 << 20
"""Bytes under way at a time; a chunk that is larger goes alone."""
OLD_US: Final = 3_600_000_000
"""Garbage younger than this nobody collects where others may write."""

_Parsed = tuple[ChunkKeyEncoding, ArrayDocument] | None


class Uploader:
    """Stores staged chunks of one branch."""

    def __init__(self, repository: Repository, staging: Staging) -> None:
        self._repository = repository
        self._staging = staging
        self._room = _Room(MOST_BYTES)
        self._slots = trio.CapacityLimiter(AT_ONCE)
        self._running: dict[str, trio.Event] = {}
        self._parsed: WeakKeyDictionary[OverlayFile, tuple[object, _Parsed]] = WeakKeyDictionary()
        self.stored = 0  # chunks, since the mount

    async def run(self) -> None:
        """Store what is closed, for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._staging.something_closed.wait()
                self._staging.something_closed = trio.Event()
                journal = self._staging.journal
                if journal is not None and journal.wants_checkpoint:
                    await trio.to_thread.run_sync(journal.checkpoint)
                while self._staging.closed:
                    # No more tasks than can work: the others wait in the queue, as numbers.
                    await self._slots.acquire_on_behalf_of(ticket := object())
                    nursery.start_soon(self._in_background, self._staging.closed.popleft(), ticket)

    async def _in_background(self, file_id: int, ticket: object) -> None:
        try:
            file = self._staging.files.get(file_id)
            if isinstance(file, OverlayFile) and await self._is_chunk(file):
                row = file.staged
                if row is not None and row.is_closed and row.ref is None:
                    await self._store(row)
        except ZfuseError as exc:
            log.debug("a chunk is not stored yet: %s", exc)
        except Exception:
            log.exception("bug in a background upload")
        finally:
            self._slots.release_on_behalf_of(ticket)

    async def store_all(
        self, files: Iterable[StagedFile], progress: Callable[[int], None]
    ) -> dict[int, ChunkRef]:
        """Store the bytes of *files* that are not stored yet; return where each is, by id.

        Those that were stored in a session that began long ago are looked at: somebody elsewhere
        may have taken them for garbage, and then they are stored again. *progress* is called
        with the bytes of each file that is done.
        """
        chosen = list(files)
        await self._forget_lost(chosen)
        refs: dict[int, ChunkRef] = {}
        refs.update(await trio.to_thread.run_sync(self._small, chosen))
        left = iter(chosen)

        async def work() -> None:
            for file in left:  # each takes the next one that nobody took
                if file.id not in refs:
                    refs[file.id] = file.ref or await self._store(file)
                progress(file.size)

        try:
            async with trio.open_nursery() as nursery:
                # Few tasks, as a session may have a million chunks.
                for _ in range(AT_ONCE):
                    nursery.start_soon(work)
        except* ZfuseError as group:
            raise _first(group) from None
        return refs

    async def _forget_lost(self, files: Sequence[StagedFile]) -> None:
        """Forget where the bytes of *files* were stored if they are not there any more."""
        journal = self._staging.begin()
        if time.time_ns() // 1000 - (journal.fact("began_us") or 0) < OLD_US:
            return
        stored = {i: f.ref for i, f in enumerate(files) if isinstance(f.ref, NativeRef) and f.blob}
        if not stored:
            return
        joined = b"".join(ref.chunk_id for ref in stored.values())
        ids = np.frombuffer(joined, np.uint8).reshape(-1, ChunkId.SIZE)
        gone = await missing_chunks(self._repository.storage, ids)
        for number, is_gone in zip(stored, gone.tolist(), strict=True):
            file = files[number]
            if is_gone and file.blob is not None:
                journal.set_ref(file.id, file.blob, None)
                file.ref = None
        if gone.any():
            log.warning("%d chunks are gone from the store, as after gc: stored again", gone.sum())

    def _small(self, files: Iterable[StagedFile]) -> dict[int, ChunkRef]:
        """Read the bytes of those that go into a manifest; a thread does all of them at once."""
        blobs = self._staging.begin().blobs
        refs: dict[int, ChunkRef] = {}
        for file in files:
            if file.ref is None and file.blob and is_inline(self._repository, file.size):
                refs[file.id] = InlineRef(_of_size(blobs.read(file.blob), file))
                self.stored += 1
        return refs

    async def _store(self, file: StagedFile) -> ChunkRef:
        """Store the bytes of a file and return where they are; at most once at a time."""
        blob = file.blob
        assert blob is not None
        while blob in self._running:
            await self._running[blob].wait()
        if file.ref is not None:
            return file.ref
        journal = self._staging.begin()
        known = journal.ref_of(file.id, blob)
        if known is not None:
            return known
        done = self._running[blob] = trio.Event()
        self._staging.uploading.add(blob)
        try:
            async with self._room.taken(file.size):
                path = journal.blobs.path(blob)
                with journal_errors("a staged file is gone from the journal"):
                    size = path.stat().st_size
                if size != file.size:
                    raise _damaged(file, size)
                ref = await store_chunk_file(self._repository, path, size)
            self.stored += 1
            self._note(file, blob, ref)
        finally:
            del self._running[blob]
            self._staging.uploading.discard(blob)
            self._staging.clear_blobs()
            done.set()
        return ref

    def _note(self, file: StagedFile, blob: str, ref: ChunkRef) -> None:
        text = ref_to_text(ref)
        assert text is not None
        if not self._staging.begin().set_ref(file.id, blob, text):
            return
        live = self._staging.files.get(file.id)
        if isinstance(live, OverlayFile) and live.staged is not None and live.staged.blob == blob:
            live.staged.ref = ref

    # --- is it a chunk already? ----------------------------------------------------------------

    async def _is_chunk(self, file: OverlayFile) -> bool:
        row = file.staged
        if row is None or file.is_gone or is_inline(self._repository, row.size):
            return False
        names = [file.name]
        place: object = file.directory
        while isinstance(place, OverlayDirectory):
            metadata = await place.child(METADATA_NAME)
            if isinstance(metadata, OverlayFile):
                parsed = await self._parse(metadata)
                if parsed is None:
                    return False
                encoding, document = parsed
                coords = encoding.decode("/".join(reversed(names)), len(document.shape))
                return coords is not None and chunk_fault(document.shape, coords, row.size) is None
            names.append(place.name)
            place = place.parent
        return False

    async def _parse(self, file: OverlayFile) -> _Parsed:
        row = file.staged
        if file.is_being_written:
            return None
        stamp: object = file.lower if row is None else (row.id, row.mtime_ns, row.size)
        known = self._parsed.get(file)
        if known is not None and known[0] == stamp:
            return known[1]
        parsed = _parsed(await self._bytes(file), self._repository.state.spec_version)
        self._parsed[file] = (stamp, parsed)
        return parsed

    async def _bytes(self, file: OverlayFile) -> bytes:
        content = await file.open()
        try:
            return await content.read(0, content.size)
        finally:
            content.close()


class _Room:
    """Lets holders take bytes of a limit, one that wants more than all alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._freed = trio.Event()

    def taken(self, size: int) -> "_Share":
        return _Share(self, min(size, self._limit))

    async def take(self, size: int) -> None:
        while self._taken + size > self._limit:
            await self._freed.wait()
        self._taken += size

    def give(self, size: int) -> None:
        self._taken -= size
        self._freed.set()
        self._freed = trio.Event()


class _Share:
    def __init__(self, room: _Room, size: int) -> None:
        self._room = room
        self._size = size

    async def __aenter__(self) -> None:
        await self._room.take(self._size)

    async def __aexit__(self, *_: object) -> None:
        self._room.give(self._size)


def _of_size(data: bytes, file: StagedFile) -> bytes:
    if len(data) != file.size:
        raise _damaged(file, len(data))
    return data


def _damaged(file: StagedFile, size: int) -> JournalError:
    return JournalError(f"a staged file has {size} bytes, not {file.size}; write it anew")


def _parsed(data: bytes, spec_version: int) -> _Parsed:
    try:
        document = parse_document(data, spec_version=spec_version)
        encoding = ArrayMetadata.parse(data).chunk_key_encoding
    except (InvalidInputError, CorruptionError):
        return None
    if encoding is None or not isinstance(document, ArrayDocument):
        return None
    return encoding, document


def _first(group: BaseExceptionGroup[ZfuseError]) -> ZfuseError:
    for exc in group.exceptions:
        return _first(exc) if isinstance(exc, BaseExceptionGroup) else exc
    raise AssertionError
