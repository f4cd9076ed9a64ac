"""Taking changes back, and copying by reference: work on the rows of a session.

Whoever calls holds the names of the branch still.
"""

import os
import time
from dataclasses import dataclass, field, replace

import trio

from zfuse.errors import AlreadyExistsError, NotFoundError
from zfuse.fs.entry import Directory
from zfuse.fs.journal import ROOT_ROW, Journal
from zfuse.fs.overlay_directory import OverlayDirectory
from zfuse.fs.overlay_file import OverlayFile
from zfuse.fs.staged import EntryRow, Path, RowKind, StagedFile
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


def discard_path(staging: Staging, path: Path) -> StaleNames:
    """Forget all changes at and below *path*; return the names that mean something else now.

    What was moved there goes back to where it was.

    Raises:
        NotFoundError: nothing changed there.
    """
    journal = staging.begin()
    dropped = _Dropped()
    with journal.change():
        place = _find(journal, path)
        if place is None:
            raise NotFoundError(
                f"nothing changed at /{'/'.join(path)}; zfuse status tells what did"
            )
        _drop(journal, place, path[-1], dropped)
        for origin in dropped.origins:
            _uncover(journal, origin)
    stale: StaleNames = []
    for entry in list(staging.live):
        if isinstance(entry, OverlayFile):
            _detach_file(entry, path, stale)
        elif isinstance(entry, OverlayDirectory) and entry.path[: len(path)] == path:
            _detach(entry, stale)
    for blob in dropped.blobs:
        staging.drop_blob(blob)
    return stale


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
        copied = await trio.to_thread.run_sync(_copied_file, journal, row)
        with journal.change():
            journal.add_file(copied)
            journal.put(above.ensure_row(), target[-1], RowKind.FILE, copied.id)
        staging.tell_closed(copied.id)
        return
    files = {} if found.row is None else _files_below(journal, found.row.id)
    copies: dict[int, StagedFile] = {}
    for file_id, file in files.items():
        copies[file_id] = await trio.to_thread.run_sync(_copied_file, journal, file)
    with journal.change():
        made = journal.add_directory(found.origin, found.pending, 0o755, time.time_ns())
        if found.row is not None:
            _copy_names(journal, found.row.id, made.id, copies)
        journal.put(above.ensure_row(), target[-1], RowKind.DIRECTORY, made.id)


@dataclass(slots=True)
class _Dropped:
    blobs: list[str] = field(default_factory=list)
    origins: list[Path] = field(default_factory=list)


def _find(journal: Journal, path: Path) -> tuple[int, EntryRow] | None:
    """Return the row of the directory that *path* is in, and what the path stands for."""
    parent = ROOT_ROW
    for name in path[:-1]:
        entry = journal.entry(parent, name)
        if entry is None or entry.kind is not RowKind.DIRECTORY:
            return None
        parent = entry.child
    entry = journal.entry(parent, path[-1]) if path else None
    return None if entry is None else (parent, entry)


def _drop(journal: Journal, place: tuple[int, EntryRow], name: str, dropped: _Dropped) -> None:
    parent, entry = place
    journal.remove(parent, name)
    if entry.kind is RowKind.DIRECTORY:
        row = journal.directory_row(entry.child)
        if row is not None and row.origin is not None:
            dropped.origins.append(row.origin)
        for inner, below in journal.entries(entry.child):
            _drop(journal, (entry.child, below), inner, dropped)
        journal.drop_directory(entry.child)
    elif entry.kind is RowKind.FILE and not journal.links(entry.child):
        blob = journal.file_row(entry.child).blob
        if blob is not None:
            dropped.blobs.append(blob)
        journal.drop_file(entry.child)


def _uncover(journal: Journal, origin: Path) -> None:
    """Let the base show again where a directory was moved from."""
    place = _find(journal, origin)
    if place is not None and place[1].kind is RowKind.WHITEOUT:
        journal.remove(place[0], origin[-1])


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


def _copied_file(journal: Journal, row: StagedFile) -> StagedFile:
    """Return a new file with the bytes of another, which stay where they are stored."""
    if row.ref is not None:
        return replace(row, id=0, blob=None)
    assert row.blob is not None
    journal.blobs.require_room(row.size)
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
                _copy_names(journal, entry.child, made.id, copies)
                child = made.id
        journal.put(target, name, entry.kind, child)
