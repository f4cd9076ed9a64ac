"""``zfuse ls``."""

from typing import Any

import click
import trio

from zfuse.cli import output
from zfuse.cli.nodes import count_stored, describe, summary
from zfuse.cli.options import ref_options, storage_options
from zfuse.cli.target import Place, Target, find_target, locate, opened, require_directory
from zfuse.format.snapshot import ArrayNode
from zfuse.repo.view import join


@click.command(epilog="Example: zfuse ls s3://bucket/repo /ocean --tag v1.0")
@click.argument("target", metavar="[REPO|PATH]", required=False)
@click.argument("node", required=False)
@click.option("-l", "--long", "with_bytes", is_flag=True, help="Also chunks and bytes stored.")
@ref_options
@storage_options
@output.as_json
def command(
    *,
    target: str | None,
    node: str | None,
    with_bytes: bool,
    as_json: bool,
    **flags: Any,  # noqa: ANN401
) -> None:
    """List what is in a group (NODE, default the root) of a repository, or an array itself.

    PATH is a path inside a mount, by default the current directory.
    """
    rows = trio.run(_list, find_target(target, flags), node, with_bytes)
    if as_json:
        for row in rows:
            output.print_json(row)
        return
    output.print_table([_line(row) for row in rows])


async def _list(target: Target, node: str | None, with_bytes: bool) -> list[dict[str, Any]]:  # noqa: FBT001
    async with opened(target) as repository:
        place = await locate(repository, target, node)
        require_directory(place)
        if isinstance(place.view.node(place.path), ArrayNode):
            return [await _row(place, place.path, with_bytes=with_bytes)]
        return [
            await _row(place, join(place.path, name), with_bytes=with_bytes)
            for name in sorted(place.view.children(place.path))
        ]


async def _row(place: Place, path: str, *, with_bytes: bool) -> dict[str, Any]:
    row = {"name": path.rpartition("/")[2] or "/", **describe(place.view, path)}
    node = place.view.node(path)
    if with_bytes and isinstance(node, ArrayNode):
        chunks, size = await count_stored(place.repository, node)
        row |= {"chunks_written": chunks, "bytes_stored": size}
    return row


def _line(row: dict[str, Any]) -> tuple[str, ...]:
    name = row["name"] if row["kind"] == "array" else output.styled(row["name"] + "/", bold=True)
    line = (name, summary(row))
    if "bytes_stored" in row:
        size = output.human_size(row["bytes_stored"])
        return (*line, f"{output.count(row['chunks_written'], 'chunk')}, {size}")
    return line
