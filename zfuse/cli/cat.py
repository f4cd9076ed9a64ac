"""``zfuse cat``."""

import base64
import sys
from typing import Any, Final

import click
import trio

from zfuse.byterange import ByteRange
from zfuse.cli import output
from zfuse.cli.options import ref_options, storage_options, virtual_option
from zfuse.cli.target import Place, Target, find_target, locate, opened
from zfuse.errors import InvalidInputError, NotFoundError
from zfuse.format.chunk_ref import ChunkRef
from zfuse.format.snapshot import ArrayNode
from zfuse.repo.chunks import ChunkIndex

_METADATA: Final = "zarr.json"
_BLOCK: Final = 8 << 20


@click.command(epilog="Example: zfuse cat s3://bucket/repo air/zarr.json | jq .shape")
@click.argument("target", metavar="REPO|PATH")
@click.argument("key", required=False)
@ref_options
@storage_options
@virtual_option
@output.as_json
def command(*, target: str, key: str | None, as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """Print the bytes of KEY (air/zarr.json, air/c/0/0) of a repository, or of a mounted file."""
    data = trio.run(_read, find_target(target, flags), key)
    if as_json:
        output.print_json({"size": len(data), "base64": base64.b64encode(data).decode()})
    else:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


async def _read(target: Target, key: str | None) -> bytes:
    async with opened(target) as repository:
        place = await locate(repository, target, key)
        if place.path == "/":
            raise InvalidInputError("say which key: zfuse cat REPO air/zarr.json")
        parent, _, name = place.path.rpartition("/")
        node = place.view.node(parent or "/")
        if name == _METADATA and node is not None:
            return node.user_data
        ref = await _chunk_ref(place)
        if ref is None:
            raise NotFoundError(_why_no_key(place))
        return await repository.assets.read_chunk(ref, ByteRange(0, ref.size), block=_BLOCK)


def _why_no_key(place: Place) -> str:
    key = place.path.lstrip("/")
    if place.view.is_directory(place.path):
        kind = "an array" if isinstance(place.view.node(place.path), ArrayNode) else "a group"
        return f"{key!r} is {kind}; its metadata is {key}/{_METADATA}"
    return f"{place.ref} has no key {key!r}; a chunk that was never written has none"


async def _chunk_ref(place: Place) -> ChunkRef | None:
    """Return the reference of the chunk whose key is the path of *place*, None if there is none."""
    parts = place.path.strip("/").split("/")
    for end in reversed(range(len(parts))):
        node = place.view.node("/" + "/".join(parts[:end]))
        metadata = place.view.metadata(node) if isinstance(node, ArrayNode) else None
        if metadata is None or metadata.chunk_key_encoding is None:
            continue
        assert isinstance(node, ArrayNode)
        rank = len(metadata.shape)
        coords = metadata.chunk_key_encoding.decode("/".join(parts[end:]), rank)
        if coords is not None:
            return await ChunkIndex(place.repository.assets).find(node, coords)
    return None
