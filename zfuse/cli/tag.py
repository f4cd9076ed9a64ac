"""``zfuse tag``."""

from collections.abc import Sequence
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
from zfuse.cli.target import Target, is_target, locate_snapshot, opened
from zfuse.errors import InvalidInputError
from zfuse.format.ids import SnapshotId
from zfuse.repo.ref import RefKind
from zfuse.repo.refs import create_tag, delete_tag


@click.group(cls=Subcommands, epilog="Example: zfuse tag create s3://bucket/repo v1.0 main")
def command() -> None:
    """List, make and delete tags, which never move; each command takes --json."""


@command.command("list", epilog="Example: zfuse tag list s3://bucket/repo --json")
@click.argument("target", metavar="[REPO|PATH]", required=False)
@storage_options
@output.as_json
def list_(*, target: str | None, as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """List the tags with their snapshots; with --json, one object a line."""
    found = find_repository(target, flags, "zfuse tag list REPO")
    print_refs(trio.run(list_refs, found, RefKind.TAG), RefKind.TAG, as_json=as_json)


@command.command(epilog="Example: zfuse tag create s3://bucket/repo v1.0 main")
@click.argument("arguments", metavar="[REPO|PATH] NAME [REF]", nargs=-1)
@storage_options
@output.as_json
def create(*, arguments: Sequence[str], as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """Make the tag NAME at the snapshot of REF, by default what PATH is in, else main.

    REF is a branch, a tag, a snapshot id, or branch/NAME or tag/NAME. Of two words the first
    is REPO|PATH if it is a URL, or a path that is there, else NAME. A tag never moves, and the
    name of a deleted one can not be used again.
    """
    usage = "zfuse tag create [REPO|PATH] NAME [REF]"
    words, ref = list(arguments), None
    if len(words) == 3 or (len(words) == 2 and not is_target(words[0])):
        ref = words.pop()
    if ref == "":
        raise InvalidInputError(f"write {usage}")
    target, name = target_and_name(words, flags, usage)
    snapshot_id = trio.run(_create, target, name, ref)
    if as_json:
        output.print_json({"tag": name, "snapshot": str(snapshot_id)})
    else:
        print(f"made the tag {output.plain(name)} at {snapshot_id}{shown_by(target)}")


async def _create(target: Target, name: str, ref: str | None) -> SnapshotId:
    async with opened(target) as repository:
        snapshot_id = await locate_snapshot(repository, target, ref)
        await create_tag(repository, name, snapshot_id)
        return snapshot_id


@command.command(epilog="Example: zfuse tag delete s3://bucket/repo v1.0")
@click.argument("arguments", metavar="[REPO|PATH] NAME", nargs=-1)
@storage_options
@output.as_json
def delete(*, arguments: Sequence[str], as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """Delete the tag NAME for ever: there can be no other of that name."""
    target, name = target_and_name(arguments, flags, "zfuse tag delete [REPO|PATH] NAME")
    snapshot_id = trio.run(_delete, target, name)
    if as_json:
        output.print_json({"tag": name, "snapshot": str(snapshot_id), "deleted": True})
    else:
        print(f"deleted the tag {output.plain(name)}, which was at {snapshot_id}")


async def _delete(target: Target, name: str) -> SnapshotId:
    async with opened(target) as repository:
        snapshot_id = repository.lookup_tag(name)
        await delete_tag(repository, name)
        return snapshot_id
