"""xarray's data sets in a repository: ``to_icechunk(dataset, session)``, then commit."""

from collections.abc import Hashable, Mapping, MutableMapping
from importlib import import_module
from typing import Any, Final, Literal

import xarray
import zarr
from xarray.backends.common import ArrayWriter
from xarray.backends.writers import (
    _validate_dataset_names,
    dump_to_store,
    get_writable_zarr_store,
)

from zfuse.api.session import Session

__all__ = ["to_icechunk"]

Mode = Literal["w", "w-", "a", "a-", "r+", "r"]
Region = Mapping[str, slice | Literal["auto"]] | Literal["auto"] | None

# How xarray itself stores a data array that has no name, or one that it may not have.
_NAME: Final = "__xarray_dataarray_name__"
_VARIABLE: Final = "__xarray_dataarray_variable__"


def to_icechunk(  # noqa: PLR0913 - the official signature
    obj: xarray.DataArray | xarray.Dataset,
    session: Session,
    *,
    group: str | None = None,
    mode: Mode | None = None,
    safe_chunks: bool = True,
    align_chunks: bool = False,
    append_dim: Hashable | None = None,
    region: Region = None,
    encoding: Mapping[Any, Any] | None = None,
    chunkmanager_store_kwargs: MutableMapping[Any, Any] | None = None,
    split_every: int | None = None,
) -> None:
    """Write *obj* into a session, by any number of processes if its arrays are of dask.

    *group*, *mode*, *append_dim*, *region*, *safe_chunks*, *align_chunks* and *encoding* mean
    what they mean to ``Dataset.to_zarr``. *chunkmanager_store_kwargs* go to
    ``dask.array.store``; *split_every* is how many workers' changes are merged at a time.

    Raises:
        SessionStateError: the session takes no changes, or two workers contradict each other.
        ValueError: xarray can not store *obj* like that.
    """
    dataset = _as_dataset(obj)
    _validate_dataset_names(dataset)
    target = get_writable_zarr_store(
        session.store,
        mode=mode,
        group=group,
        consolidated=False,
        append_dim=append_dim,
        region=region,
        safe_chunks=safe_chunks,
        align_chunks=align_chunks,
        zarr_format=3,
    )
    dataset = target._validate_and_autodetect_region(dataset)  # noqa: SLF001 - xarray has no other way
    target._validate_encoding(encoding or {})  # noqa: SLF001
    writer = ArrayWriter()  # type: ignore[no-untyped-call]
    # Arrays in memory are written here; those of dask are left to the writer.
    dump_to_store(dataset, target, writer, encoding=encoding or {})  # type: ignore[no-untyped-call]
    if writer.sources:
        fork = session.fork()
        targets = [zarr.open_array(fork.store, path=t.path, mode="r+") for t in writer.targets]
        dask_writes = import_module("zfuse.api.dask_writes")
        written = dask_writes.write(
            writer.sources,
            targets,
            writer.regions,
            split_every=split_every,
            **(chunkmanager_store_kwargs or {}),
        )
        session.merge(written)


def _as_dataset(obj: xarray.DataArray | xarray.Dataset) -> xarray.Dataset:
    if isinstance(obj, xarray.Dataset):
        return obj
    if obj.name is None:
        return obj.to_dataset(name=_VARIABLE)
    if obj.name in obj.coords or obj.name in obj.dims:
        dataset = obj.to_dataset(name=_VARIABLE)
        dataset.attrs[_NAME] = obj.name
        return dataset
    return obj.to_dataset()
