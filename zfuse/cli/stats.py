"""``zfuse stats``."""

from dataclasses import asdict
from typing import Any

import click
import trio

from zfuse.cli import output
from zfuse.cli.options import storage_options
from zfuse.cli.progress import Progress
from zfuse.cli.ref_commands import find_repository
from zfuse.cli.target import Target, opened
from zfuse.maintenance.stats import ChunkStorageStats, chunk_storage_stats


@click.command(epilog="Example: zfuse stats s3://bucket/repo --json")
@click.argument("target", metavar="[REPO|PATH]", required=False)
@storage_options
@output.as_json
def command(*, target: str | None, as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """Tell how much a repository holds: chunks by kind, manifests and snapshots.

    Counted is what branches and tags lead to, each chunk once; chunks inside of manifests count
    in each manifest. All manifests are read. What a mount is doing says its .zfuse/stats.
    """
    found = find_repository(target, flags, "zfuse stats REPO")
    stats, names = trio.run(_count, found)
    if as_json:
        output.print_json({**names, **asdict(stats), "total_bytes": stats.total_bytes()})
        return
    output.print_table(
        [
            ("native chunks", str(stats.native_chunks), output.human_size(stats.native_bytes)),
            ("inlined chunks", str(stats.inlined_chunks), output.human_size(stats.inlined_bytes)),
            ("virtual chunks", str(stats.virtual_chunks), output.human_size(stats.virtual_bytes)),
            ("manifests", str(stats.manifests), output.human_size(stats.manifest_bytes)),
            ("snapshots", str(stats.snapshots), ""),
            *((name, str(number), "") for name, number in names.items()),
        ]
    )


async def _count(target: Target) -> tuple[ChunkStorageStats, dict[str, int]]:
    async with opened(target) as repository, Progress.shown() as progress:
        stats = await chunk_storage_stats(repository, progress.tell)
        return stats, {"branches": len(repository.branches), "tags": len(repository.tags)}
