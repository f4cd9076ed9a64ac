"""``zfuse diff``."""

from collections.abc import Mapping, Sequence
from typing import Any

import click
import trio

from zfuse.cli import output
from zfuse.cli.options import storage_options, virtual_option
from zfuse.cli.sessions import find_branch, print_changes
from zfuse.cli.target import find_target, is_target, opened, split_arguments
from zfuse.errors import InvalidInputError
from zfuse.repo.diff import difference
from zfuse.repo.ref import parse_ref, resolve


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
    REF: from it to the branch main, with two: from the first to the second.
    """
    if len(arguments) > 3:
        raise InvalidInputError(
            "give at most one place and two refs: zfuse diff [PATH] [REF [REF]]"
        )
    text, refs = _split(arguments)
    told = trio.run(_between, text, refs, flags) if refs else find_branch(text).call("diff")
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


async def _between(text: str | None, refs: list[str], flags: dict[str, Any]) -> dict[str, Any]:
    async with opened(find_target(text, flags)) as repository:
        before = await resolve(repository, await parse_ref(repository, refs[0]))
        after_ref = refs[1] if len(refs) > 1 else "main"
        after = await resolve(repository, await parse_ref(repository, after_ref))
        found = await difference(repository, before, after)
    return {"from": str(before), "to": str(after), **found}


def _member(told: Mapping[str, Any]) -> tuple[str, str]:
    before = output.json_text(told["before"]) if "before" in told else "(none)"
    after = output.json_text(told["after"]) if "after" in told else "(none)"
    return f"    {told['member']}:", f"{before} -> {after}"
