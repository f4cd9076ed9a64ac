"""What ``zfuse branch`` and ``zfuse tag`` share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zfuse.cli import output
from zfuse.cli.target import Target, find_target, opened
from zfuse.errors import InvalidInputError, NotFoundError, NotMountedError
from zfuse.format.ids import SnapshotId
from zfuse.repo.ref import RefKind
from zfuse.repo.repository import Repository


def target_and_name(
    arguments: Sequence[str], flags: Mapping[str, Any], usage: str
) -> tuple[Target, str]:
    """Interpret ``[REPO|PATH] NAME``; *usage* is how the command is written.

    Raises:
        InvalidInputError: there is no name.
        NotMountedError: only the name is given, and this is no mount.
    """
    if len(arguments) not in {1, 2} or not arguments[-1] or "://" in arguments[-1]:
        raise InvalidInputError(f"write {usage}")
    *place, name = arguments
    return find_repository(place[0] if place else None, flags, usage), name


def find_repository(text: str | None, flags: Mapping[str, Any], usage: str) -> Target:
    """Find REPO|PATH, by default the mount of the current directory.

    Raises:
        NotMountedError: nothing is given, and this is no mount.
    """
    try:
        return find_target(text, flags)
    except NotMountedError as exc:
        if text is not None:
            raise
        raise NotMountedError(
            f"{Path.cwd()} is not inside a zfuse mount; name the repository: {usage}"
        ) from exc


async def list_refs(target: Target, kind: RefKind) -> list[dict[str, Any]]:
    """Return the branches or the tags, by name, each with the snapshot that it names."""
    async with opened(target) as repository:
        refs = repository.branches if kind is RefKind.BRANCH else repository.tags
        return [await _row(repository, kind, name, refs[name]) for name in sorted(refs)]


async def _row(
    repository: Repository, kind: RefKind, name: str, snapshot_id: SnapshotId
) -> dict[str, Any]:
    row: dict[str, Any] = {kind.value: name, "snapshot": str(snapshot_id)}
    try:
        info = await repository.snapshot_info(snapshot_id)
    except NotFoundError:
        return row | {"written_at": None, "message": None}
    return row | {"written_at": output.utc(info.flushed_at), "message": info.message}


def print_refs(rows: Sequence[Mapping[str, Any]], kind: RefKind, *, as_json: bool) -> None:
    """Print what ``list_refs`` returned."""
    if as_json:
        for row in rows:
            output.print_json(row)
        return
    output.print_table(
        [
            (
                output.styled(row[kind.value], fg="green"),
                output.styled(row["snapshot"], fg="yellow"),
                row["written_at"] or "(not found)",
                (row["message"] or "").partition("\n")[0],
            )
            for row in rows
        ]
    )


def shown_by(target: Target) -> str:
    """Return what to add to a report on refs: how the mount that was pointed at gets to know."""
    if target.mountpoint is None:
        return ""
    return f"; zfuse refresh {output.plain(str(target.mountpoint))} shows it there"
