"""Which objects a repository has: names and sizes, from one listing of each folder."""

from collections.abc import Iterable
from contextlib import aclosing
from functools import partial
from typing import Final

from zfuse.errors import (
    ObjectNotFoundError,
    StorageError,
    StorageTimeoutError,
    TransientStorageError,
)
from zfuse.maintenance.fsck_findings import Counts
from zfuse.repo.at_once import at_once
from zfuse.storage.base import Storage

_AT_ONCE: Final = 32

GONE: Final = "gone"
"""What is wrong with an object that is not there."""


async def list_sizes(storage: Storage, folder: str) -> dict[str, int]:
    """Return the sizes of the objects in *folder* by their keys."""
    async with aclosing(storage.list(folder)) as found:
        return {info.key: info.size async for info in found}


async def read_objects(storage: Storage, keys: Iterable[str]) -> dict[str, bytes | str]:
    """Return the bytes of objects, or else what is wrong with them.

    Raises:
        StorageError: the store does not answer.
    """
    found: dict[str, bytes | str] = {}

    async def read(key: str) -> None:
        try:
            found[key] = (await storage.get(key)).data
        except ObjectNotFoundError:
            found[key] = GONE
        except (StorageTimeoutError, TransientStorageError):
            raise
        except StorageError as exc:
            found[key] = f"it can not be read: {exc}"

    await at_once([partial(read, key) for key in keys], most=_AT_ONCE)
    return found


def unreferenced(sizes: dict[str, int], used: Iterable[str]) -> Counts:
    """Count the listed objects that are not among those *used*."""
    counts = Counts()
    for key in sizes.keys() - set(used):
        counts.add(sizes[key])
    return counts
