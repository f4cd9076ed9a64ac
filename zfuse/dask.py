"""Dask arrays in a repository: written by any number of processes, committed as one.

fork = session.fork()
target = zarr.open_array(fork.store, path="temperature")
session.merge(store_dask(sources=[array], targets=[target]))
session.commit("Add temperatures")
"""

from collections.abc import Sequence
from typing import Any

import dask.array
import zarr

from zfuse.api.dask_writes import Region, write
from zfuse.api.session import ForkSession

__all__ = ["store_dask"]


def store_dask(
    *,
    sources: Sequence[dask.array.Array],
    targets: Sequence[zarr.Array[Any]],
    regions: Sequence[Region | None] | None = None,
    split_every: int | None = None,
    **store_kwargs: Any,  # noqa: ANN401 - dask's
) -> ForkSession:
    """Compute *sources* and write them to *targets*, arrays of a fork of a session.

    *regions* are the parts of the targets that are written. *split_every* is how many workers'
    changes are merged at a time, *store_kwargs* go to ``dask.array.store``. Returns a fork with
    all changes, to be merged into the session.

    Raises:
        SessionStateError: two workers changed the same thing differently.
        TypeError: a target is not in a fork.
    """
    return write(sources, targets, regions, split_every=split_every, **store_kwargs)
