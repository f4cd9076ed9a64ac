"""What other processes do to the arrays of a fork."""

import os

import dask.array
import zarr


def write_row(fork, row):
    """Fill a row of the array ``a``; return the fork and the process."""
    array = zarr.open_array(fork.store, path="a")
    array[row] = row + 1
    return fork, os.getpid()


def to_zarr(fork, low, high):
    """Write some rows of ``a`` with dask, and return the fork."""
    rows = dask.array.arange(low, high, chunks=1)[:, None] * dask.array.ones(10, chunks=5)
    target = zarr.open_array(fork.store, path="a")
    writing = dask.array.to_zarr(
        rows.astype(target.dtype), target, region=(slice(low, high),), compute=False
    )
    writing.compute(scheduler="threads")  # else other workers would write, in copies of the fork
    return fork
