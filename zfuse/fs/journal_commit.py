"""What a commit that landed leaves of a session: all that came after it."""

import time
from dataclasses import dataclass
from typing import Final

from zfuse.format.ids import SnapshotId
from zfuse.fs.journal import ROOT_ROW, Journal
from zfuse.fs.staged import Path, RowKind, path_from_bytes, path_to_bytes

_UNNAMED: Final = (
    " WHERE NOT EXISTS (SELECT 1 FROM entry WHERE entry.child = file.id AND entry.kind = ?)"
)
_LONGEST_UPLOAD_US: Final = 3_600_000_000
"""One that goes on during the commit began later than this before it."""
_LINKED: Final = "SELECT child FROM entry WHERE kind = ? GROUP BY child HAVING count(*) > 1"


@dataclass(frozen=True, slots=True)
class Completed:
    """What left the session; ``origins`` are those of the directories that stay.

    ``linked`` are the files that had several names and lost some or all. ``blobs`` hold bytes
    that the repository has now.
    """

    directories: frozenset[int]
    files: frozenset[int]
    linked: frozenset[int]
    origins: dict[int, Path | None]
    blobs: list[str]


def complete_commit(journal: Journal, base: SnapshotId, cut: int) -> Completed:
    """Start the session anew from the snapshot *base*, which has all that is as old as *cut*.

    Entries that were excluded stay. A directory that everybody emptied stays too, as no
    snapshot can hold it.
    """
    with journal.change():
        kept_empty = _empty_directories(journal, cut)
        linked = {row for (row,) in journal.run(_LINKED, int(RowKind.FILE))}
        files = _drop_entries(journal, cut)
        journal.run("DELETE FROM entry WHERE kind = ? AND seq <= ?", int(RowKind.WHITEOUT), cut)
        journal.run("UPDATE directory SET origin = pending, pending = NULL")
        for row_id in kept_empty:  # no snapshot has them
            journal.run("UPDATE directory SET origin = NULL WHERE id = ?", row_id)
        dropped = drop_plain_directories(journal, cut, kept_empty)
        gone = journal.run("SELECT id, blob FROM file" + _UNNAMED, int(RowKind.FILE))
        journal.run("DELETE FROM file" + _UNNAMED, int(RowKind.FILE))
        journal.run("DELETE FROM excluded")
        journal.set_facts(base=str(base), pending=None, cut=cut, seq=journal.seq)
        _note_beginning(journal)
    origins = {
        row_id: path_from_bytes(origin)
        for row_id, origin in journal.run("SELECT id, origin FROM directory")
    }
    return Completed(
        frozenset(dropped),
        frozenset(file_id for file_id, _ in gone),
        frozenset(linked.intersection(files)),
        origins,
        [blob for _, blob in gone if blob is not None],
    )


def _note_beginning(journal: Journal) -> None:
    """Let the session begin anew for garbage collection, which spares what is stored since.

    That holds unless something is left of which chunks are in the repository already.
    """
    if not journal.run("SELECT 1 FROM file WHERE ref IS NOT NULL LIMIT 1"):
        latest = time.time_ns() // 1000 - _LONGEST_UPLOAD_US
        journal.set_facts(began_us=max(latest, journal.fact("began_us") or 0))


def _drop_entries(journal: Journal, cut: int) -> list[int]:
    """Drop the names of committed files and return the files."""
    where = (
        " FROM entry WHERE kind = ? AND seq <= ? AND NOT EXISTS (SELECT 1 FROM excluded"
        " WHERE excluded.parent = entry.parent AND excluded.name = entry.name)"
    )
    values = (int(RowKind.FILE), cut)
    files = [row for (row,) in journal.run("SELECT DISTINCT child" + where, *values)]
    journal.run("DELETE" + where, *values)
    return files


def _empty_directories(journal: Journal, cut: int) -> set[int]:
    """Return the directories that the base did not have and that no commit can hold."""
    parents = dict(
        journal.run("SELECT child, parent FROM entry WHERE kind = ?", int(RowKind.DIRECTORY))
    )
    held = {ROOT_ROW}
    told = journal.run(
        "SELECT id FROM directory WHERE origin IS NOT NULL"
        " UNION SELECT parent FROM entry WHERE kind = ? AND seq <= ? AND NOT EXISTS (SELECT 1"
        " FROM excluded WHERE excluded.parent = entry.parent AND excluded.name = entry.name)",
        *(int(RowKind.FILE), cut),
    )
    for (row_id,) in told:
        while row_id is not None and row_id not in held:
            held.add(row_id)
            row_id = parents.get(row_id)  # noqa: PLW2901 - climbs
    return {row_id for (row_id,) in journal.run("SELECT id FROM directory")} - held


def drop_plain_directories(journal: Journal, cut: int, kept: set[int]) -> list[int]:
    """Drop the rows of directories that are as the base has them; return which.

    Those that changed after *cut*, and those in *kept*, stay.
    """
    origins = dict(journal.run("SELECT id, origin FROM directory"))
    children: dict[int, int] = dict(
        journal.run("SELECT parent, count(*) FROM entry GROUP BY parent")
    )
    rows = journal.run(
        "SELECT child, parent, name, seq FROM entry WHERE kind = ?", int(RowKind.DIRECTORY)
    )
    places = {child: (parent, name, seq) for child, parent, name, seq in rows}
    dropped: list[int] = []
    pending = [row_id for row_id in places if not children.get(row_id)]
    while pending:
        row_id = pending.pop()
        parent, name, seq = places[row_id]
        if row_id in kept or seq > cut or not _is_natural(origins, row_id, parent, name):
            continue
        journal.remove(parent, name.decode("utf-8", "surrogateescape"))
        journal.drop_directory(row_id)
        dropped.append(row_id)
        children[parent] -= 1
        if not children[parent] and parent in places:
            pending.append(parent)
    return dropped


def _is_natural(origins: dict[int, bytes | None], row_id: int, parent: int, name: bytes) -> bool:
    above, own = origins.get(parent), origins.get(row_id)
    if above is None or own is None:
        return False
    return own == (above + b"/" + name if above else name)


def set_pending(journal: Journal) -> dict[int, Path]:
    """Note where each directory is as a commit begins, and return it: there the base will have it.

    Whoever calls holds the names of the branch still.
    """
    below: dict[int, list[tuple[int, str]]] = {}
    told = "SELECT child, parent, name FROM entry WHERE kind = ?"
    for child, parent, name in journal.run(told, int(RowKind.DIRECTORY)):
        below.setdefault(parent, []).append((child, name.decode("utf-8", "surrogateescape")))
    paths: dict[int, Path] = {ROOT_ROW: ()}
    pending = [ROOT_ROW]
    while pending:
        row_id = pending.pop()
        for child, text in below.get(row_id, ()):
            paths[child] = (*paths[row_id], text)
            pending.append(child)
    with journal.change():
        for row_id, path in paths.items():
            journal.run(
                "UPDATE directory SET pending = ? WHERE id = ?", path_to_bytes(path), row_id
            )
    return paths
