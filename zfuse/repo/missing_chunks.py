"""Which chunk objects are gone: garbage collection takes those that nothing refers to yet."""

from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt

from zfuse.errors import ObjectNotFoundError
from zfuse.format.ids import ChunkId
from zfuse.format.layout import chunk_key
from zfuse.repo.at_once import at_once
from zfuse.repo.chunk_files import ChunkFiles
from zfuse.storage.base import Storage

U8 = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

_FEW: Final = 500
"""So many objects are asked for one by one; for more all are listed, a thousand in a request."""
_AT_ONCE: Final = 16


async def missing_chunks(storage: Storage, chunk_ids: U8) -> Mask:
    """Return which of *chunk_ids* (n, 12) have no object in *storage*."""
    if len(chunk_ids) > _FEW:
        files = await ChunkFiles.listed(storage)
        return files.find(chunk_ids) < 0
    gone = np.zeros(len(chunk_ids), np.bool_)

    async def ask(row: int) -> None:
        try:
            await storage.head(chunk_key(ChunkId(chunk_ids[row].tobytes())))
        except ObjectNotFoundError:
            gone[row] = True

    await at_once([partial(ask, row) for row in range(len(chunk_ids))], most=_AT_ONCE)
    return gone
