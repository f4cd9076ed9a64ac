"""``zfuse gc``."""

from dataclasses import asdict
from typing import Any

import click
import trio

from zfuse.cli import output
from zfuse.cli.cutoff import (
    Cutoff,
    collection_cutoff,
    journal_option,
    older_than_option,
    parse_cutoff,
    sessions_of,
    unfinished_copies,
)
from zfuse.cli.mounted_here import shown_snapshots
from zfuse.cli.options import storage_options
from zfuse.cli.progress import Progress
from zfuse.cli.ref_commands import find_repository
from zfuse.cli.target import Target, opened
from zfuse.format.ids import SnapshotId
from zfuse.maintenance.gc import GcSummary, collect_garbage
from zfuse.repo.publish import now_us


@click.command(epilog="Example: zfuse gc s3://bucket/repo --older-than 7d --dry-run")
@click.argument("target", metavar="[REPO|PATH]", required=False)
@older_than_option
@click.option("--dry-run", is_flag=True, help="Tell what would be deleted, and delete nothing.")
@journal_option
@storage_options
@output.as_json
def command(
    *,
    target: str | None,
    older_than: str,
    dry_run: bool,
    as_json: bool,
    **flags: Any,  # noqa: ANN401
) -> None:
    """Delete the objects that no version of a repository needs.

    What was stored since the moment given stays: choose one before any write began that is
    still to be committed, on whatever machine. Sessions of mounts on this machine are known, and
    what was stored since the oldest of them began stays in any case, as does what mounts show.
    Former states of the repository that the ops log does not need go, too.
    """
    moment = parse_cutoff(older_than, now_us())
    found = find_repository(target, flags, "zfuse gc REPO --older-than TIME")
    summary, cutoff = trio.run(_collect, found, moment, dry_run)
    if as_json:
        output.print_json({**asdict(summary), **cutoff.facts(), "dry_run": dry_run})
        return
    cutoff.print()
    _print(summary, dry_run=dry_run)


async def _collect(
    target: Target,
    older_than: int,
    dry_run: bool,  # noqa: FBT001
) -> tuple[GcSummary, Cutoff]:
    async with opened(target) as repository:
        sessions = await trio.to_thread.run_sync(sessions_of, target, repository)
        cutoff = collection_cutoff(older_than, [*sessions, *unfinished_copies(repository)])
        shown = await trio.to_thread.run_sync(lambda: set(shown_snapshots(repository.storage.url)))
        async with Progress.shown() as progress:
            summary = await collect_garbage(
                repository,
                cutoff.at,
                dry_run=dry_run,
                keep=shown | {SnapshotId.parse(session.base) for session in sessions},
                tell=progress.tell,
            )
        return summary, cutoff


def _print(summary: GcSummary, *, dry_run: bool) -> None:
    counts = {
        "snapshot": summary.snapshots_deleted,
        "transaction log": summary.transaction_logs_deleted,
        "manifest": summary.manifests_deleted,
        "chunk": summary.chunks_deleted,
        "former state": summary.backups_deleted,
    }
    told = [output.count(number, noun) for noun, number in counts.items() if number]
    begin = "would delete" if dry_run else "deleted"
    size = output.human_size(summary.bytes_deleted + summary.backup_bytes_deleted)
    print(f"{begin} {', '.join(told)} ({size})" if told else "there is nothing to delete")
