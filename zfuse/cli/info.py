"""``zfuse info``."""

from collections.abc import Mapping
from typing import Any

import click
import trio

from zfuse.cli import output
from zfuse.cli.nodes import describe, stored_bytes, times
from zfuse.cli.options import ref_options, storage_options
from zfuse.cli.target import Target, find_target, locate, opened, require_directory
from zfuse.format.snapshot import ArrayNode


@click.command(epilog="Example: zfuse info /mnt/repo/branch/main/air")
@click.argument("target", metavar="[REPO|PATH]", required=False)
@click.argument("node", required=False)
@ref_options
@storage_options
@output.as_json
def command(*, target: str | None, node: str | None, as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """Describe NODE (default the root) of a repository, or the node at PATH in a mount.

    Of an array: shape, type, chunks, codecs, how many chunks are written, and the bytes
    stored by where they lie. Virtual bytes are counted once per reference.
    """
    described = trio.run(_describe, find_target(target, flags), node)
    if as_json:
        output.print_json(described)
    else:
        output.print_fields(_readable(described))


async def _describe(target: Target, name: str | None) -> dict[str, Any]:
    async with opened(target) as repository:
        place = await locate(repository, target, name)
        require_directory(place)
        described = {
            "repository": repository.storage.url,
            "ref": str(place.ref),
            "snapshot": str(place.snapshot_id),
            **describe(place.view, place.path),
        }
        node = place.view.node(place.path)
        if isinstance(node, ArrayNode):
            stored = await stored_bytes(repository, node)
            described |= {
                "chunks_written": stored.chunks,
                "bytes_stored": stored.total,
                "native_bytes": stored.native,
                "inline_bytes": stored.inline,
                "virtual_bytes": stored.virtual,
            }
        return described


def _readable(described: Mapping[str, Any]) -> dict[str, object]:
    fields = {name.replace("_", " "): value for name, value in described.items()}
    for name in ("shape", "chunk grid", "chunks", "inner chunks"):
        if fields.get(name) is not None:
            fields[name] = times(fields[name])
    for name in ("codecs", "dimension names"):
        if fields.get(name):
            fields[name] = ", ".join(str(part) for part in fields[name])
    for name in [name for name in fields if name.endswith("bytes") or name == "bytes stored"]:
        fields[name] = output.human_size(fields[name])
    return fields
