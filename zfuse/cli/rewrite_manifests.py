"""``zfuse rewrite-manifests``."""

from typing import Any

import click
import trio

from zfuse.cli import output
from zfuse.cli.options import storage_options
from zfuse.cli.ref_commands import find_repository
from zfuse.cli.target import Target, opened
from zfuse.format.ids import SnapshotId
from zfuse.maintenance.rewrite_manifests import CommitMethod, rewrite_manifests


@click.command(epilog="Example: zfuse rewrite-manifests s3://bucket/repo -m 'split by time'")
@click.argument("target", metavar="[REPO|PATH]", required=False)
@click.option("-m", "--message", required=True, help="Message of the commit.")
@click.option("--branch", metavar="NAME", default="main", show_default=True)
@click.option("--amend", is_flag=True, help="Put it in the place of the newest commit.")
@storage_options
@output.as_json
def command(
    *,
    target: str | None,
    message: str,
    branch: str,
    amend: bool,
    as_json: bool,
    **flags: Any,  # noqa: ANN401
) -> None:
    """Write the manifests of a branch anew, split as the settings of the repository say now.

    The result is a commit that changes no node and no chunk.
    """
    found = find_repository(target, flags, "zfuse rewrite-manifests REPO -m MESSAGE")
    method: CommitMethod = "amend" if amend else "new_commit"
    snapshot_id, count = trio.run(_rewrite, found, message, branch, method)
    if as_json:
        told = {"branch": branch, "snapshot": str(snapshot_id), "manifests": count}
        output.print_json(told)
    else:
        print(
            f"wrote {output.count(count, 'manifest')}: {output.plain(branch)} is at {snapshot_id}"
        )


async def _rewrite(
    target: Target, message: str, branch: str, method: CommitMethod
) -> tuple[SnapshotId, int]:
    async with opened(target) as repository:
        snapshot_id = await rewrite_manifests(
            repository, message, branch=branch, commit_method=method
        )
        snapshot = await repository.assets.fetch_snapshot(snapshot_id)
        return snapshot_id, len(snapshot.manifest_files)
