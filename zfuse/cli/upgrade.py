"""``zfuse upgrade``."""

from dataclasses import asdict
from typing import Any

import click
import trio

from zfuse.cli import output
from zfuse.cli.mounted_here import refuse_while_mounted
from zfuse.cli.options import storage_options
from zfuse.cli.progress import Progress
from zfuse.cli.ref_commands import find_repository
from zfuse.cli.target import Target, opened
from zfuse.maintenance.upgrade import UpgradeSummary, upgrade_repository


@click.command(epilog="Example: zfuse upgrade s3://bucket/repo --dry-run")
@click.argument("target", metavar="[REPO|PATH]", required=False)
@click.option("--dry-run", is_flag=True, help="Read everything, and change nothing.")
@storage_options
@output.as_json
def command(
    *,
    target: str | None,
    dry_run: bool,
    as_json: bool,
    **flags: Any,  # noqa: ANN401
) -> None:
    """Make a repository of version 1 of the format one of version 2, in place.

    Nobody may write to it meanwhile, and programs that know version 1 alone can not read it
    afterwards. Branches, tags, the names of deleted tags, history and settings stay; snapshots
    that no ref leads to are forgotten. No data is copied.
    """
    found = find_repository(target, flags, "zfuse upgrade REPO")
    summary = trio.run(_upgrade, found, dry_run)
    if as_json:
        output.print_json({**asdict(summary), "dry_run": dry_run})
    else:
        _print(summary, dry_run=dry_run)


async def _upgrade(target: Target, dry_run: bool) -> UpgradeSummary:  # noqa: FBT001
    async with opened(target) as repository:
        if not dry_run:
            await trio.to_thread.run_sync(refuse_while_mounted, repository.storage.url)
        async with Progress.shown() as progress:
            return await upgrade_repository(repository, dry_run=dry_run, tell=progress.tell)


def _print(summary: UpgradeSummary, *, dry_run: bool) -> None:
    files = output.count(summary.files_deleted, "file")
    if summary.was_version_2:
        told = "the repository is of version 2 already"
        would = "would be" if dry_run else "were"
        print(f"{told}; {files} of version 1 {would} deleted" if summary.files_deleted else told)
        return
    deleted = (
        f", {output.count(summary.deleted_tags, 'deleted tag')}" if summary.deleted_tags else ""
    )
    branches = "1 branch" if summary.branches == 1 else f"{summary.branches} branches"
    print(
        f"the repository {'can be' if dry_run else 'is now'} of version 2: {branches},"
        f" {output.count(summary.tags, 'tag')}{deleted},"
        f" {output.count(summary.snapshots, 'snapshot')}"
    )
