"""``zfuse diff``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import trio

from zfuse.cli import output
from zfuse.cli.options import storage_options, virtual_option
from zfuse.cli.sessions import find_branch, print_changes
from zfuse.cli.target import find_target, is_target, locate_snapshot, opened, split_arguments
from zfuse.daemon.mountinfo import find_mount
from zfuse.errors import InvalidInputError, NotMountedError
from zfuse.repo.diff import difference


@click.command(
    epilog="Example: zfuse diff /mnt/repo/branch/main; zfuse diff s3://bucket/repo v1 v2"
)
@click.argument("arguments", metavar="[REPO|PATH] [REF [REF]]", nargs=-1)
@storage_options
@virtual_option
@output.as_json
def command(*, arguments: tuple[str, ...], as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """Show which nodes and chunks changed, and the members of each zarr.json that did.

    Without a REF: what was written to the branch that PATH is in and not committed. With one
    REF: from it to the version that PATH is in, or to the branch main; with two: from the first
    to the second.
    """
    if len(arguments) > 3:
        raise InvalidInputError(
            "give at most one place and two refs: zfuse diff [PATH] [REF [REF]]"
        )
    text, refs = _split(arguments)
    told = trio.run(_between, text, refs, flags) if refs else _of_session(text)
    if as_json:
        output.print_json(told)
        return
    print_changes(told, nothing="no differences")
    for each in told["metadata"]:
        print(f"  {output.plain(each['path'])}:")
        output.print_table([_member(row) for row in each["differences"]])


def _split(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """Tell REPO|PATH from the refs: of two words the first is it if it can be one, else a ref."""
    match arguments:
        case (place, first, second):
            return place, [first, second]
        case (first, second) if not is_target(first):
            return None, [first, second]
        case _:
            text, ref = split_arguments(arguments)
            return text, [] if ref is None else [ref]


def _of_session(text: str | None) -> dict[str, Any]:
    try:
        if text:
            find_mount(Path(text))
    except NotMountedError as exc:
        raise NotMountedError(
            f"{text} is not inside a zfuse mount, where changes would be; to compare versions of"
            f" a repository name them: zfuse diff {text} REF [REF]"
        ) from exc
    return find_branch(text).call("diff")


async def _between(text: str | None, refs: list[str], flags: dict[str, Any]) -> dict[str, Any]:
    target = find_target(text, flags)
    async with opened(target) as repository:
        before = await locate_snapshot(repository, target, refs[0])
        after = await locate_snapshot(repository, target, refs[1] if len(refs) > 1 else None)
        found = await difference(repository, before, after)
    return {"from": str(before), "to": str(after), **found}


def _member(told: Mapping[str, Any]) -> tuple[str, str]:
    before = output.json_text(told["before"]) if "before" in told else "(none)"
    after = output.json_text(told["after"]) if "after" in told else "(none)"
    return f"    {told['member']}:", f"{before} -> {after}"
