"""``zfuse branch``."""

import sys
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import click
import trio

from zfuse.cli import output
from zfuse.cli.options import storage_options
from zfuse.cli.ref_commands import (
    find_repository,
    list_refs,
    print_refs,
    shown_by,
    target_and_name,
)
from zfuse.cli.subcommands import Subcommands
from zfuse.cli.target import Target, locate_snapshot, opened
from zfuse.cli.uncommitted import refuse_to_lose
from zfuse.errors import InvalidInputError, NotAllowedError
from zfuse.format.ids import SnapshotId
from zfuse.format.repo_info_encoder import MAIN_BRANCH
from zfuse.repo.ref import RefKind
from zfuse.repo.refs import create_branch, delete_branch, reset_branch
from zfuse.repo.repository import Repository

_force = click.option(
    "--force", is_flag=True, help="Even if changes on this machine lose their branch."
)


@dataclass(frozen=True, slots=True)
class ResetOrder:
    """What ``zfuse branch reset`` is asked for."""

    name: str
    ref: str
    force: bool
    asks: bool


@click.group(cls=Subcommands, epilog="Example: zfuse branch create s3://bucket/repo dev --at v1.0")
def command() -> None:
    """List, make, delete and move branches; each command takes --json."""


@command.command("list", epilog="Example: zfuse branch list s3://bucket/repo --json")
@click.argument("target", metavar="[REPO|PATH]", required=False)
@storage_options
@output.as_json
def list_(*, target: str | None, as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """List the branches with their newest snapshots; with --json, one object a line."""
    found = find_repository(target, flags, "zfuse branch list REPO")
    print_refs(trio.run(list_refs, found, RefKind.BRANCH), RefKind.BRANCH, as_json=as_json)


@command.command(epilog="Example: zfuse branch create s3://bucket/repo dev --at v1.0")
@click.argument("arguments", metavar="[REPO|PATH] NAME", nargs=-1)
@click.option("--at", metavar="REF", help="Where it begins [what PATH is in, else main].")
@storage_options
@output.as_json
def create(
    *,
    arguments: Sequence[str],
    at: str | None,
    as_json: bool,
    **flags: Any,  # noqa: ANN401
) -> None:
    """Make the branch NAME at a snapshot.

    REF is a branch, a tag, a snapshot id, or branch/NAME or tag/NAME.
    """
    target, name = target_and_name(arguments, flags, "zfuse branch create [REPO|PATH] NAME")
    snapshot_id = trio.run(_create, target, name, at)
    if as_json:
        output.print_json({"branch": name, "snapshot": str(snapshot_id)})
    else:
        print(f"made the branch {output.plain(name)} at {snapshot_id}{shown_by(target)}")


async def _create(target: Target, name: str, at: str | None) -> SnapshotId:
    async with opened(target) as repository:
        snapshot_id = await locate_snapshot(repository, target, at)
        await create_branch(repository, name, snapshot_id)
        return snapshot_id


@command.command(epilog="Example: zfuse branch delete s3://bucket/repo dev")
@click.argument("arguments", metavar="[REPO|PATH] NAME", nargs=-1)
@_force
@storage_options
@output.as_json
def delete(
    *,
    arguments: Sequence[str],
    force: bool,
    as_json: bool,
    **flags: Any,  # noqa: ANN401
) -> None:
    """Delete the branch NAME; its snapshots stay until zfuse gc collects them.

    Changes of it on this machine that are not committed are in the way (exit code 4).
    """
    target, name = target_and_name(arguments, flags, "zfuse branch delete [REPO|PATH] NAME")
    snapshot_id = trio.run(_delete, target, name, force)
    if as_json:
        output.print_json({"branch": name, "snapshot": str(snapshot_id), "deleted": True})
    else:
        print(f"deleted the branch {output.plain(name)}, which was at {snapshot_id}")


async def _delete(target: Target, name: str, force: bool) -> SnapshotId:  # noqa: FBT001 - trio.run
    async with opened(target) as repository:
        if name == MAIN_BRANCH:
            raise NotAllowedError("the branch main can not be deleted; every repository has it")
        snapshot_id = repository.lookup_branch(name)
        if not force:
            await refuse_to_lose(target, repository, name)
        await delete_branch(repository, name)
        return snapshot_id


@command.command(epilog="Example: zfuse branch reset s3://bucket/repo main v1.0 --yes")
@click.argument("arguments", metavar="[REPO|PATH] NAME REF", nargs=-1)
@click.option("--yes", is_flag=True, help="Do not ask, where snapshots leave the branch.")
@_force
@storage_options
@output.as_json
def reset(
    *,
    arguments: Sequence[str],
    yes: bool,
    force: bool,
    as_json: bool,
    **flags: Any,  # noqa: ANN401
) -> None:
    """Move the branch NAME to the snapshot of REF, wherever that is.

    On a terminal it asks before snapshots leave the branch; they stay in the repository until
    zfuse gc collects them. Changes of the branch on this machine that are not committed are
    in the way (exit code 4). If somebody commits meanwhile nothing is done (exit code 5).
    """
    usage = "zfuse branch reset [REPO|PATH] NAME REF"
    if len(arguments) not in {2, 3} or not all(arguments):
        raise InvalidInputError(f"write {usage}")
    *place, name, ref = arguments
    target = find_repository(place[0] if place else None, flags, usage)
    order = ResetOrder(name, ref, force=force, asks=sys.stdin.isatty() and not yes)
    before, after = trio.run(_reset, target, order)
    if as_json:
        output.print_json({"branch": name, "before": str(before), "after": str(after)})
    elif before == after:
        print(f"the branch {output.plain(name)} is at {after} already")
    else:
        told = f"the branch {output.plain(name)} is at {after} now, it was at {before}"
        print(told + shown_by(target))


async def _reset(target: Target, order: ResetOrder) -> tuple[SnapshotId, SnapshotId]:
    name = order.name
    async with opened(target) as repository:
        before = repository.lookup_branch(name)
        after = await locate_snapshot(repository, target, order.ref)
        if before == after:
            return before, after
        if not order.force:
            await refuse_to_lose(target, repository, name)
        leaving = await _leaving(repository, before, after) if order.asks else 0
        if leaving:
            snapshots = output.count(leaving, "snapshot")
            shown = f"{snapshots} would leave the branch {output.plain(name)}"
            click.confirm(f"{shown}; go on?", abort=True, err=True)
        await reset_branch(repository, name, after, expected=before)
        return before, after


async def _leaving(repository: Repository, before: SnapshotId, after: SnapshotId) -> int:
    """Return how many snapshots are in the history of *before* and not in that of *after*."""
    async with aclosing(repository.ancestry(after)) as ancestry:
        kept = {info.id async for info in ancestry}
    leaving = 0
    async with aclosing(repository.ancestry(before)) as ancestry:
        async for info in ancestry:
            if info.id in kept:
                break
            leaving += 1
    return leaving
