"""Taking changes back, and copying by reference: work on the rows of a session.

Whoever calls holds the names of the branch still.
"""

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import trio

from zfuse.errors import AlreadyExistsError, BusyError, NotAllowedError, NotFoundError
from zfuse.fs.entry import Directory, Entry
from zfuse.fs.journal import ROOT_ROW, Journal
from zfuse.fs.journal_commit import drop_plain_directories
from zfuse.fs.overlay_directory import OverlayDirectory
from zfuse.fs.overlay_file import OverlayFile
from zfuse.fs.staged import EntryRow, Path, RowKind, StagedFile, path_to_bytes
from zfuse.fs.staging import Staging

StaleNames = list[tuple[Directory, str]]


def discard_all(staging: Staging, root: OverlayDirectory) -> StaleNames:
    """Forget all changes; return the names that mean something else now."""
    journal = staging.begin()
    with journal.change():
        blobs = [blob for (blob,) in journal.run("SELECT blob FROM file") if blob is not None]
        journal.run("DELETE FROM entry")
        journal.run("DELETE FROM file")
        journal.run("DELETE FROM directory WHERE id <> ?", ROOT_ROW)
        journal.run("UPDATE directory SET origin = ?, pending = NULL", b"")
    stale: StaleNames = []
    for entry in list(staging.live):
        if isinstance(entry, OverlayFile) and entry.staged is not None:
            _detach_file(entry, (), stale)
        elif isinstance(entry, OverlayDirectory) and entry.row is not None and entry is not root:
            if entry.row.origin == entry.path:
                entry.row = None
            else:
                _detach(entry, stale)
    root.row = staging.root_row()
    staging.stamp += 1
    for blob in blobs:
        staging.drop_blob(blob)
    return stale


def discard_paths(staging: Staging, paths: Sequence[Path]) -> StaleNames:
    """Forget all changes at and below *paths*; return the names that mean something else now.

    What was moved there goes back to where it was.

    Raises:
        NotFoundError: nothing changed at one of them.
        NotAllowedError: something can not go back, as its place is taken or gone.
    """
    journal = staging.begin()
    dropped = _Dropped()
    with journal.change():
        paths = _outermost(paths)
        for path in paths:
            _drop(journal, _find(journal, path), path, dropped)
        for origin, path in sorted(dropped.origins):
            if not _uncover(journal, origin):
                raise NotAllowedError(
                    f"/{'/'.join(path)} can not go back to /{'/'.join(origin)}, whose place is"
                    " taken or gone; discard that as well, in the same command"
                )
        plain = frozenset(drop_plain_directories(journal, journal.seq, set()))
    stale: StaleNames = []
    for entry in list(staging.live):
        _discarded(entry, paths, plain, stale)
    for blob in dropped.blobs:
        staging.drop_blob(blob)
    return stale


def _outermost(paths: Sequence[Path]) -> list[Path]:
    """Return the paths that are not at or below others."""
    found: list[Path] = []
    for path in sorted(paths):
        if not found or path[: len(found[-1])] != found[-1]:
            found.append(path)
    return found


def _discarded(
    entry: Entry, paths: Sequence[Path], plain: frozenset[int], stale: StaleNames
) -> None:
    """Let an entry that is in use take note of what was discarded."""
    if isinstance(entry, OverlayFile):
        for path in paths:
            _detach_file(entry, path, stale)
    elif isinstance(entry, OverlayDirectory):
        if any(entry.path[: len(path)] == path for path in paths):
            _detach(entry, stale)
        elif entry.row is not None and entry.row.id in plain:
            entry.row = None


async def copy(staging: Staging, root: OverlayDirectory, source: Path, target: Path) -> None:
    """Let *target* show what is at *source*, whose chunks in the repository stay where they are.

    Raises:
        NotFoundError: there is nothing at *source*, or no directory for *target*.
        AlreadyExistsError: there is something at *target*.
    """
    found = await _walk(root, source)
    above = await _walk(root, target[:-1])
    if not isinstance(above, OverlayDirectory):
        raise NotFoundError(f"there is no directory for /{'/'.join(target)}")
    if await above.child(target[-1]) is not None:
        raise AlreadyExistsError(f"/{'/'.join(target)} exists; remove it first")
    journal = staging.begin()
    if isinstance(found, OverlayFile):
        row = await found.stage()
        _require_closed(staging, [row])
        copied = await trio.to_thread.run_sync(_copied_file, journal, row)
        with journal.change():
            journal.add_file(copied)
            journal.put(above.ensure_row(), target[-1], RowKind.FILE, copied.id)
        staging.tell_closed(copied.id)
        return
    files = {} if found.row is None else _files_below(journal, found.row.id)
    _require_closed(staging, files.values())
    copies: dict[int, StagedFile] = {}
    with staging.holding():
        for file_id, file in files.items():
            copies[file_id] = await trio.to_thread.run_sync(_copied_file, journal, file)
    with journal.change():
        made = journal.add_directory(found.origin, found.pending, 0o755, time.time_ns())
        # Where the source goes, the nodes go; see plan.Region.
        journal.set_facts(copies=[*(journal.fact("copies") or ()), made.id])
        if found.row is not None:
            _copy_names(journal, found.row.id, made.id, copies)
        journal.put(above.ensure_row(), target[-1], RowKind.DIRECTORY, made.id)


@dataclass(slots=True)
class _Dropped:
    """What is not staged any more; ``origins`` come with the path that showed them."""

    blobs: list[str] = field(default_factory=list)
    origins: list[tuple[Path, Path]] = field(default_factory=list)


def _find(journal: Journal, path: Path) -> tuple[int, EntryRow]:
    """Return the row of the directory that *path* is in, and what the path stands for.

    Raises:
        NotFoundError: nothing changed there.
    """
    parent = ROOT_ROW
    for depth, name in enumerate(path):
        entry = journal.entry(parent, name)
        if entry is not None and depth == len(path) - 1:
            return parent, entry
        if entry is None:
            break
        if entry.kind is RowKind.WHITEOUT:
            above = "/".join(path[: depth + 1])
            raise NotFoundError(f"all of /{above} was moved or removed; discard that")
        parent = entry.child
    raise NotFoundError(f"nothing changed at /{'/'.join(path)}; zfuse status tells what did")


def _drop(journal: Journal, place: tuple[int, EntryRow], path: Path, dropped: _Dropped) -> None:
    parent, entry = place
    journal.remove(parent, path[-1])
    if entry.kind is RowKind.DIRECTORY:
        row = journal.directory_row(entry.child)
        if row is not None and row.origin is not None:
            dropped.origins.append((row.origin, path))
        for inner, below in journal.entries(entry.child):
            _drop(journal, (entry.child, below), (*path, inner), dropped)
        journal.drop_directory(entry.child)
    elif entry.kind is RowKind.FILE and not journal.links(entry.child):
        blob = journal.file_row(entry.child).blob
        if blob is not None:
            dropped.blobs.append(blob)
        journal.drop_file(entry.child)


def _uncover(journal: Journal, origin: Path) -> bool:
    """Let a directory of the base show where the base has it, or at a copy; tell if it does."""
    for depth in range(len(origin), -1, -1):
        showing = journal.run(
            "SELECT id FROM directory WHERE origin = ?", path_to_bytes(origin[:depth])
        )
        for (row_id,) in showing:
            entry = None if depth == len(origin) else journal.entry(row_id, origin[depth])
            if entry is None:
                return True
            if entry.kind is RowKind.WHITEOUT and depth == len(origin) - 1:
                journal.remove(row_id, origin[depth])
                return True
        if showing:
            return False
    return False


def _detach(entry: OverlayDirectory, stale: StaleNames) -> None:
    if entry.parent is not None and not entry.is_gone:
        stale.append((entry.parent, entry.name))
        entry.parent.leave(entry.name)
        entry.removed()


def _detach_file(entry: OverlayFile, path: Path, stale: StaleNames) -> None:
    """Take the names at and below *path* from a file."""
    if entry.is_gone:
        return
    lost = 0
    for place, name in list(entry.names):
        assert isinstance(place, OverlayDirectory)
        if (*place.path, name)[: len(path)] == path:
            stale.append((place, name))
            place.leave(name)
            entry.lose_name(place, name)
            lost += 1
    if lost and not entry.links_left:
        entry.unlinked()


async def _walk(root: OverlayDirectory, path: Path) -> OverlayDirectory | OverlayFile:
    place: OverlayDirectory | OverlayFile = root
    for name in path:
        found = await place.child(name) if isinstance(place, OverlayDirectory) else None
        if found is None:
            raise NotFoundError(f"there is nothing at /{'/'.join(path)}")
        place = found
    return place


def _require_closed(staging: Staging, files: Iterable[StagedFile]) -> None:
    half_closed = staging.half_closed.values()
    held = {f.staged.id for f in half_closed if isinstance(f, OverlayFile) and f.staged is not None}
    count = sum(not file.is_closed or file.id in held for file in files)
    if count:
        raise BusyError(f"{count} of the files to copy are being written; copy when that is done")


def _copied_file(journal: Journal, row: StagedFile) -> StagedFile:
    """Return a new file with the bytes of another, which stay where they are stored."""
    if row.ref is not None:
        return replace(row, id=0, blob=None)
    assert row.blob is not None
    journal.room.require(row.size)
    blob, descriptor = journal.blobs.copy(row.blob)
    os.close(descriptor)
    return replace(row, id=0, blob=blob, is_closed=True)


def _files_below(journal: Journal, row_id: int) -> dict[int, StagedFile]:
    found: dict[int, StagedFile] = {}
    for _, entry in journal.entries(row_id):
        if entry.kind is RowKind.FILE:
            found[entry.child] = journal.file_row(entry.child)
        elif entry.kind is RowKind.DIRECTORY:
            found |= _files_below(journal, entry.child)
    return found


def _copy_names(journal: Journal, source: int, target: int, copies: dict[int, StagedFile]) -> None:
    for name, entry in journal.entries(source):
        child = 0
        match entry.kind:
            case RowKind.FILE:
                file = copies[entry.child]
                child = file.id or journal.add_file(file).id
            case RowKind.DIRECTORY:
                row = journal.directory_row(entry.child)
                assert row is not None
                made = journal.add_directory(row.origin, row.pending, row.mode, row.mtime_ns)
                journal.set_facts(copies=[*(journal.fact("copies") or ()), made.id])
                _copy_names(journal, entry.child, made.id, copies)
                child = made.id
        journal.put(target, name, entry.kind, child)
