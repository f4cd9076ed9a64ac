"""``zfuse ops-log``."""

from contextlib import aclosing
from typing import Any, Final

import click
import trio

from zfuse.cli import output
from zfuse.cli.options import storage_options
from zfuse.cli.ref_commands import find_repository
from zfuse.cli.target import Target, opened
from zfuse.errors import NotAllowedError
from zfuse.format.ids import SnapshotId
from zfuse.format.repo_info import RepoStatus, Update, UpdateKind
from zfuse.format.repo_update import FeatureFlag

_SENTENCES: Final = {
    UpdateKind.REPO_INITIALIZED: "the repository was made",
    UpdateKind.REPO_MIGRATED: "migrated from spec version {from_version} to {to_version}",
    UpdateKind.CONFIG_CHANGED: "the configuration changed",
    UpdateKind.METADATA_CHANGED: "the metadata changed",
    UpdateKind.TAG_CREATED: "tag {name} made",
    UpdateKind.TAG_DELETED: "tag {name} deleted, was at {previous_snapshot}",
    UpdateKind.BRANCH_CREATED: "branch {name} made",
    UpdateKind.BRANCH_DELETED: "branch {name} deleted, was at {previous_snapshot}",
    UpdateKind.BRANCH_RESET: "branch {name} reset, was at {previous_snapshot}",
    UpdateKind.NEW_COMMIT: "commit {new_snapshot} on branch {branch}",
    UpdateKind.COMMIT_AMENDED: (
        "commit {previous_snapshot} on branch {branch} amended to {new_snapshot}"
    ),
    UpdateKind.NEW_DETACHED_SNAPSHOT: "snapshot {new_snapshot} on no branch",
    UpdateKind.GC_RAN: "garbage was collected",
    UpdateKind.EXPIRATION_RAN: "old snapshots expired",
    UpdateKind.REPO_STATUS_CHANGED: "set to {availability}",
}
_IDS: Final = {"previous_snap_id": "previous_snapshot", "new_snap_id": "new_snapshot"}


@click.command(epilog="Example: zfuse ops-log s3://bucket/repo -n 20")
@click.argument("target", metavar="[REPO|PATH]", required=False)
@click.option("-n", "limit", type=click.IntRange(1), metavar="N", help="Show the newest N only.")
@storage_options
@output.as_json
def command(*, target: str | None, limit: int | None, as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """Show every change of the repository, newest first: commits, refs, settings, maintenance.

    With --json, one object a line. A repository of version 1 keeps no such log.
    """
    found = find_repository(target, flags, "zfuse ops-log REPO")
    trio.run(_print, found, limit, as_json)


async def _print(target: Target, limit: int | None, as_json: bool) -> None:  # noqa: FBT001 - trio.run
    async with opened(target) as repository:
        if repository.state.spec_version == 1:
            raise NotAllowedError(
                "a repository of version 1 keeps no ops log; zfuse log --graph shows its commits"
            )
        shown = 0
        async with aclosing(repository.updates()) as updates:
            async for update in updates:
                row = update_row(update)
                if as_json:
                    output.print_json(row)
                else:
                    print(f"{row['updated_at']}  {output.plain(sentence(update, row))}")
                shown += 1
                if shown == limit:
                    return


def update_row(update: Update) -> dict[str, Any]:
    """Return the JSON description of an entry of the ops log."""
    row: dict[str, Any] = {
        "kind": update.kind.name.lower(),
        "updated_at": output.utc(update.updated_at),
    }
    for name, value in update.details.items():
        match value:
            case SnapshotId():
                row[_IDS.get(name, name)] = str(value)
            case RepoStatus():
                row["availability"] = value.availability.name.lower()
                row["reason"] = value.reason
            case _:
                row[name] = value
    if update.kind is UpdateKind.FEATURE_FLAG_CHANGED:
        row["flag"] = _flag(row.pop("id"))
    return row | {"backup": update.backup_path}


def sentence(update: Update, row: dict[str, Any]) -> str:
    """Return what a person reads of an entry, *row* is its JSON description."""
    if update.kind is UpdateKind.FEATURE_FLAG_CHANGED:
        state = ("allowed" if row["new_value"] else "forbidden") if row["is_set"] else "by default"
        return f"feature flag {row['flag']}: {state}"
    if update.kind not in _SENTENCES:
        return f"a change that this zfuse does not know (type {row['update_type']})"
    told = _SENTENCES[update.kind].format_map(row)
    return f"{told}: {row['reason']}" if row.get("reason") else told


def _flag(number: int) -> str:
    known = {int(flag): flag.name.lower() for flag in FeatureFlag}
    return known.get(number, str(number))
