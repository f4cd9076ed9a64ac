"""Coordinates that stay when sources extend arrays: a source has to have the same ones.

They say where all values are. With others everything else would fit, and be in a wrong place.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import trio
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from zfuse.byterange import ByteRange
from zfuse.errors import InvalidInputError, ZfuseError
from zfuse.format.chunk_ref import VirtualRef
from zfuse.format.snapshot import ArrayNode
from zfuse.ingest.parsed import ParsedNode, ParsedSource
from zfuse.ingest.placement import Arrival
from zfuse.repo.workspace import Workspace
from zfuse.storage.foreign_files import ObjectAccess, split_url

_MOST_CHUNKS: Final = 64
_MOST_BYTES: Final = 1 << 24
_BLOCK: Final = 1 << 20

_Chunks = Mapping[int, bytes]


async def check_coordinates(
    workspace: Workspace, arrival: Arrival, dimension: str, access: ObjectAccess
) -> None:
    """Check that the source has the coordinates that are there, but for those along *dimension*.

    A coordinate is an array that is called as its one dimension. Huge ones are not looked at, nor
    are virtual chunks that are out of reach: nobody said how to read from another bucket.

    Raises:
        InvalidInputError: one has other values.
    """
    for node in arrival.parsed.nodes:
        present = workspace.node(arrival.path_of(node))
        if not isinstance(present, ArrayNode) or not _stays(present, node, dimension):
            continue
        before = await _present(workspace, present, arrival.parsed, access)
        if before is None:
            continue
        after = await trio.to_thread.run_sync(_arriving, arrival.parsed, node, access)
        if not await trio.to_thread.run_sync(_same, node.document, before, after):
            name = present.path.rpartition("/")[2]
            raise InvalidInputError(
                f"{present.path} can not be extended along {dimension!r}: {arrival.parsed.location}"
                f" has other values of {name}; ingest it to another node, or keep those that are"
                f" there with --skip {name}"
            )


def _stays(present: ArrayNode, node: ParsedNode, dimension: str) -> bool:
    """Tell whether an array is a coordinate that could be the same, and is not too large."""
    name = present.path.rpartition("/")[2]
    if node.chunks is None or name == dimension or list(present.dimension_names or ()) != [name]:
        return False
    shape = [length.array_length for length in present.shape]
    small = len(node.chunks) <= _MOST_CHUNKS and node.chunks.lengths.sum() <= _MOST_BYTES
    few = present.shape[0].num_chunks <= _MOST_CHUNKS
    return bool(small and few and json.loads(node.document)["shape"] == shape)


async def _present(
    workspace: Workspace, array: ArrayNode, parsed: ParsedSource, access: ObjectAccess
) -> _Chunks | None:
    """Return the chunks of an array that is there, None if they are out of reach."""
    roots = {split_url((place or b"").decode())[0] for place in parsed.files.locations}
    found = {}
    for number in range(array.shape[0].num_chunks):
        ref = await workspace.chunk_ref(array.path, (number,))
        if ref is None:
            continue
        if not isinstance(ref, VirtualRef):
            wanted = ByteRange(0, ref.size)
            assets = workspace.repository.assets
            found[number] = await assets.read_chunk(ref, wanted, block=_BLOCK)
            continue
        if split_url(ref.location)[0] not in roots or ref.size > _MOST_BYTES:
            return None
        data = await trio.to_thread.run_sync(_read, access, ref.location, ref.offset, ref.size)
        if data is None:
            return None
        found[number] = data
    return found


def _read(access: ObjectAccess, location: str, offset: int, size: int) -> bytes | None:
    """Return a part of a file, None if it has none such."""
    root, key = split_url(location)
    files = access.files(root)
    with suppress(ZfuseError):
        if int(files.head(key).sizes[0]) >= offset + size:
            return files.read(key, offset, size)
    return None


def _arriving(parsed: ParsedSource, node: ParsedNode, access: ObjectAccess) -> _Chunks:
    """Return the chunks of an array of a source.

    Raises:
        ZfuseError: they can not be read.
    """
    chunks = node.chunks
    assert chunks is not None
    rows = zip(
        chunks.coords[:, 0].tolist(),
        chunks.files.tolist(),
        chunks.offsets.tolist(),
        chunks.lengths.tolist(),
        chunks.inline,
        strict=True,
    )
    found = {}
    for number, file, offset, length, data in rows:
        if file < 0:
            found[number] = data or b""
        else:
            root, key = split_url((parsed.files.locations[file] or b"").decode())
            found[number] = access.files(root).read(key, offset, length)
    return found


def _same(document: bytes, before: _Chunks, after: _Chunks) -> bool:
    """Tell whether chunks of an array have the same values; so they have if no codec reads them."""
    if before == after:
        return True
    try:
        first, second = _decoded(document, before), _decoded(document, after)
    except Exception:  # noqa: BLE001 - of any codec
        return True
    return np.array_equal(first, second, equal_nan=first.dtype.kind in "fcmM")


def _decoded(document: bytes, chunks: _Chunks) -> npt.NDArray[Any]:
    buffer = default_buffer_prototype().buffer
    objects = {"zarr.json": document, **{f"c/{n}": data for n, data in chunks.items()}}
    store = MemoryStore({key: buffer.from_bytes(data) for key, data in objects.items()})
    return np.asarray(zarr.open_array(store, mode="r")[...])
