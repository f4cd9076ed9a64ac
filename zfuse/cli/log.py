"""``zfuse log``."""

from collections.abc import Mapping, Sequence
from typing import Any

import click
import trio

from zfuse.cli import output
from zfuse.cli.options import ref_options, storage_options
from zfuse.cli.target import (
    Target,
    find_target_and_ref,
    locate_snapshot,
    opened,
    points_at_version,
)
from zfuse.format.ids import SnapshotId
from zfuse.format.repo_info import SnapshotInfo
from zfuse.repo.history_graph import draw_history
from zfuse.repo.repository import Repository

Row = dict[str, Any]


@click.command(epilog="Example: zfuse log s3://bucket/repo main -n 10")
@click.argument("arguments", metavar="[REPO|PATH] [REF]", nargs=-1)
@click.option("-n", "limit", type=click.IntRange(1), metavar="N", help="Show the newest N only.")
@click.option("--graph", is_flag=True, help="Draw all histories, or that of REF.")
@ref_options
@storage_options
@output.as_json
def command(
    *,
    arguments: Sequence[str],
    limit: int | None,
    graph: bool,
    as_json: bool,
    **flags: Any,  # noqa: ANN401
) -> None:
    """Show the snapshots that REF (default main) consists of, newest first.

    REF is a branch, a tag, a snapshot id, or branch/NAME or tag/NAME. Without REPO|PATH it
    is looked for in the mount of the current directory.
    """
    target, ref = find_target_and_ref(arguments, flags)
    rows = trio.run(_everything if graph else _history, target, ref, limit)
    if as_json:
        for row in rows:
            output.print_json(row)
        return
    margins = draw_history((row["id"], row["parent_id"]) for row in rows) if graph else None
    for row in rows:
        if margins is None:
            print(_line(row))
            continue
        margin = next(margins)
        for above in margin.above:
            print(above)
        print(margin.beside + _line(row))


async def _history(target: Target, ref: str | None, limit: int | None) -> list[Row]:
    async with opened(target) as repository:
        rows: list[Row] = []
        async for info in repository.ancestry(await locate_snapshot(repository, target, ref)):
            rows.append(snapshot_row(info, repository))
            if len(rows) == limit:
                break
        return rows


async def _everything(target: Target, ref: str | None, limit: int | None) -> list[Row]:
    async with opened(target) as repository:
        tips = {*repository.branches.values(), *repository.tags.values()}
        if points_at_version(target, ref):
            tips = {await locate_snapshot(repository, target, ref)}
        infos: dict[SnapshotId, SnapshotInfo] = {}
        for tip in tips:
            async for info in repository.ancestry(tip):
                if info.id in infos:
                    break
                infos[info.id] = info
        newest = sorted(infos.values(), key=lambda info: info.flushed_at, reverse=True)
        return [snapshot_row(info, repository) for info in newest[:limit]]


def snapshot_row(info: SnapshotInfo, repository: Repository) -> Row:
    """Return the JSON description of a snapshot, with the refs that point at it."""
    return {
        "id": str(info.id),
        "parent_id": str(info.parent_id) if info.parent_id is not None else None,
        "written_at": output.utc(info.flushed_at),
        "message": info.message,
        "metadata": dict(info.metadata),
        "branches": _names_of(info.id, repository.branches),
        "tags": _names_of(info.id, repository.tags),
    }


def _names_of(snapshot_id: SnapshotId, refs: Mapping[str, SnapshotId]) -> list[str]:
    return sorted(name for name, target in refs.items() if target == snapshot_id)


def _line(row: Row) -> str:
    refs = [*row["branches"], *(f"tag: {tag}" for tag in row["tags"])]
    shown = output.styled(f" ({', '.join(refs)})", fg="green") if refs else ""
    message = output.plain(row["message"].partition("\n")[0])
    return f"{output.styled(row['id'], fg='yellow')}  {row['written_at']}{shown}  {message}"
