"""Writing dask arrays through a fork that every worker gets a copy of."""

from collections.abc import Sequence
from typing import Any, Final

import dask.array
import zarr
from dask.base import compute
from dask.delayed import delayed

from zfuse.api.distributed import extract_session, merge_sessions
from zfuse.api.session import ForkSession

_SPLIT: Final = 8

Region = tuple[slice, ...]


def write(
    sources: Sequence[dask.array.Array],
    targets: Sequence[zarr.Array[Any]],
    regions: Sequence[Region | None] | None = None,
    *,
    split_every: int | None = None,
    **store_kwargs: Any,  # noqa: ANN401 - dask's
) -> ForkSession:
    """Compute *sources* and write them to *targets*, arrays of one fork or of forks like it.

    *regions* are the parts of the targets that are written, None for the whole. What the
    workers changed is merged *split_every* forks at a time, there; *store_kwargs* go to
    ``dask.array.store``. Returns a fork with all changes.

    Raises:
        SessionStateError: two workers changed the same thing differently.
        TypeError: a target is not in a fork, or there is none.
    """
    stored = dask.array.store(
        list(sources),
        list(targets),  # type: ignore[arg-type]  # zarr's arrays are not among its targets
        regions=None if regions is None else list(regions),  # type: ignore[arg-type]
        compute=False,
        return_stored=True,
        load_stored=False,
        **{"lock": False, **store_kwargs},
    )
    arrays = stored if isinstance(stored, tuple) else [stored]
    roots = [_merged(_forks(array), max(split_every or _SPLIT, 2)) for array in arrays]
    return merge_sessions(*compute(*roots))  # type: ignore[no-untyped-call]


def _forks(stored: dask.array.Array) -> list[Any]:
    """Return as delayed values the fork that each block of *stored* was written through."""
    extract = delayed(extract_session, pure=True)
    blocks = stored.to_delayed()  # type: ignore[no-untyped-call]
    return [extract(block) for block in blocks.ravel()]


def _merged(forks: list[Any], at_once: int) -> Any:  # noqa: ANN401 - a delayed value
    merge = delayed(merge_sessions, pure=True)
    while len(forks) > 1:
        forks = [merge(forks[low : low + at_once]) for low in range(0, len(forks), at_once)]
    return forks[0]
