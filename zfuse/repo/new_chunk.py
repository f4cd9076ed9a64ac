"""Storing the bytes of a chunk that nobody refers to yet."""

from pathlib import Path

import trio

from zfuse.errors import InvalidInputError
from zfuse.format.chunk_ref import ChunkRef, InlineRef, NativeRef
from zfuse.format.ids import ChunkId
from zfuse.repo.new_ids import new_id
from zfuse.repo.repository import Repository


def is_inline(repository: Repository, size: int) -> bool:
    """Tell whether a chunk of *size* bytes goes into a manifest."""
    return size <= repository.state.config.inline_chunk_threshold_bytes


async def store_chunk(repository: Repository, data: bytes) -> ChunkRef:
    """Store the bytes of a chunk, if they are more than fit into a manifest.

    What is never committed is garbage.

    Raises:
        InvalidInputError: *data* is empty.
    """
    if not data:
        raise InvalidInputError("a chunk has no bytes, and no chunk decodes from nothing")
    if is_inline(repository, len(data)):
        return InlineRef(bytes(data))
    chunk_id = new_id(ChunkId)
    await repository.assets.store_chunk(chunk_id, data)
    return NativeRef(chunk_id, 0, len(data))


async def store_chunk_file(repository: Repository, path: Path, size: int) -> ChunkRef:
    """Do the same with the *size* bytes of a local file that nobody changes any more."""
    if not size or is_inline(repository, size):
        return await store_chunk(repository, await trio.to_thread.run_sync(path.read_bytes))
    chunk_id = new_id(ChunkId)
    await repository.assets.store_chunk_file(chunk_id, path)
    return NativeRef(chunk_id, 0, size)
