"""A program that writes to a repository from the processes of a cluster, and checks itself.

``python -m tests.api.in_a_cluster WRITE REPOSITORY [SIZE]``: the cluster, with all that
Dask has to say about a slow machine, is no part of the process of the tests.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from distributed import Client

import zfuse
from tests.api.other_process import to_zarr
from tests.servers.dask_cluster import patient_cluster
from zfuse.xarray import to_icechunk


def process(array, place):
    """Return a block that says which process computed it, once several take part."""
    Path(place, str(os.getpid())).touch()
    while len(os.listdir(place)) < 2:
        time.sleep(0.01)
    return array * 0 + os.getpid()


def write_forks(client, repository):
    """Have tasks write rows with ``to_zarr``, and hand their forks back."""
    session = repository.writable_session("main")
    zarr.create_array(session.store, name="a", shape=(40, 10), chunks=(1, 5), dtype="f8")
    fork = session.fork()
    tasks = [client.submit(to_zarr, fork, low, low + 5) for low in range(0, 40, 5)]
    session.merge(*client.gather(tasks))
    session.commit("rows")


def write_data_sets(client, repository, size):
    """Write a data set, append another, and write in a group which processes there are."""

    def commit(written, **options):
        session = repository.writable_session("main")
        to_icechunk(written, session, **options)
        session.commit("written")

    big = xr.Dataset({"v": (("y", "x"), da.random.random((int(size),) * 2, chunks=100))}).persist()
    commit(big)
    commit(big + 1, append_dim="y")
    with tempfile.TemporaryDirectory() as place:
        ones = da.ones((8, 8), chunks=1)
        who = ones.map_blocks(process, place, dtype=ones.dtype, meta=np.empty((0, 0)))
        commit(xr.Dataset({"pid": (("y", "x"), who)}), group="who")
    expected = xr.concat([big, big + 1], "y").compute()
    store = repository.readonly_session("main").store
    lazily = xr.open_zarr(store, consolidated=False, chunks={})
    assert np.isclose(float(lazily.v.sum()), float(expected.v.sum()))
    xr.testing.assert_identical(xr.open_zarr(store, consolidated=False).load(), expected)
    pids = set(np.unique(zarr.open_array(store, path="who/pid")[:]).astype(int).tolist())
    assert pids == set(client.run(os.getpid).values())
    assert len(pids) == 2
    assert os.getpid() not in pids


def main(write, place, *size):
    """Run *write* in a cluster of two processes."""
    repository = zfuse.Repository.open(zfuse.local_filesystem_storage(place))
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
        patient_cluster(2, scratch, processes=True) as local,
        Client(local, timeout=300) as client,
    ):
        client.wait_for_workers(2)
        {"forks": write_forks, "data sets": write_data_sets}[write](client, repository, *size)


if __name__ == "__main__":
    main(*sys.argv[1:])
