"""xarray's and dask's arrays in a repository: through forks, by processes of their own."""

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import dask
import dask.array as da
import icechunk
import icechunk.xarray
import numpy as np
import pytest
import xarray as xr
import zarr

import zfuse
from tests.api.other_process import write_row
from tests.compat.documents import get_all
from tests.compat.place import local_place
from zfuse.api.distributed import extract_session, merge_sessions
from zfuse.dask import store_dask
from zfuse.xarray import to_icechunk

pytestmark = pytest.mark.compat

LAZY = xr.Dataset(
    {
        "t": (("y", "x"), da.arange(400, chunks=100).reshape(20, 20).rechunk((5, 10))),
        "u": (("y",), np.arange(20.0)),
    },
    coords={"y": np.arange(20), "x": np.arange(20) * 0.5},
)
EAGER = LAZY.compute()
MORE = LAZY.assign_coords(y=np.arange(20, 40)) + 1000


@pytest.fixture(params=["threads", "synchronous"])
def scheduler(request):
    with dask.config.set(scheduler=request.param):
        yield


@pytest.fixture
def place(tmp_path):
    return local_place(tmp_path)


@pytest.fixture
def repository(place):
    return zfuse.Repository.create(zfuse.local_filesystem_storage(place.url))


def commit(repository, write):
    """Have *write* change a session, and commit that."""
    session = repository.writable_session("main")
    write(session)
    session.commit("written")


@pytest.mark.parametrize("dataset", [LAZY, EAGER], ids=["dask", "memory"])
@pytest.mark.parametrize(
    "more",
    [
        [],
        [(MORE, {"append_dim": "y"})],
        [(MORE.drop_vars("x"), {"region": {"y": slice(0, 20)}})],
        [(LAZY, {"mode": "w", "encoding": {"t": {"chunks": (5, 5), "dtype": "i2"}}})],
        [(LAZY.t, {"group": "g/h", "align_chunks": True})],
        [(LAZY.t.rename(None), {"mode": "a", "split_every": 2})],
        [(LAZY.y * 2, {"mode": "a"})],
    ],
    ids=["new", "append", "region", "over", "group", "unnamed", "coordinate"],
)
def test_what_is_written_is_what_the_official_library_writes(repository, tmp_path, dataset, more):
    theirs = icechunk.Repository.create(local_place(tmp_path, "theirs").storage)
    for each, options in [(dataset, {"mode": "w-"}), *more]:
        obj = each.compute() if dataset is EAGER else each
        commit(repository, lambda session: to_icechunk(obj, session, **options))  # noqa: B023
        commit(theirs, lambda session: icechunk.xarray.to_icechunk(obj, session, **options))  # noqa: B023
    ours = repository.readonly_session("main").store
    assert get_all(ours) == get_all(theirs.readonly_session("main").store)


def test_what_exists_is_not_replaced_unasked(repository):
    commit(repository, lambda session: to_icechunk(EAGER, session))
    with pytest.raises(FileExistsError):
        commit(repository, lambda session: to_icechunk(EAGER, session))


def test_arrays_are_stored_through_a_fork(repository, scheduler):
    data = da.arange(100, chunks=10)
    session = repository.writable_session("main")
    for name in ("a", "b"):
        zarr.create_array(session.store, name=name, shape=(100,), chunks=(10,), dtype=data.dtype)
    fork = session.fork()
    targets = [zarr.open_array(fork.store, path=name) for name in ("a", "b")]
    first_half = (slice(0, 50),)
    session.merge(
        store_dask(sources=[data, data[50:]], targets=targets, regions=[None, first_half])
    )
    session.commit("both")
    store = repository.readonly_session("main").store
    assert (zarr.open_array(store, path="a")[:] == np.arange(100)).all()
    expected = np.concatenate([np.arange(50, 100), np.zeros(50)])
    assert (zarr.open_array(store, path="b")[:] == expected).all()


def test_forks_alone_are_merged(repository):
    session = repository.writable_session("main")
    array = zarr.create_array(session.store, name="a", shape=(4,), chunks=(1,), dtype="u1")
    forks = [session.fork() for _ in range(4)]
    for number, fork in enumerate(forks):
        zarr.open_array(fork.store, path="a")[number] = number + 1
    merged = merge_sessions(forks[0], [forks[1], [forks[2], forks[3]]], forks[0])
    assert merged is forks[0]
    session.merge(merged)
    assert array[:].tolist() == [1, 2, 3, 4]
    assert extract_session(array) == session
    with pytest.raises(TypeError, match="Session is no fork"):
        merge_sessions(merged, session)
    with pytest.raises(TypeError, match="no forks"):
        merge_sessions([])
    with pytest.raises(TypeError, match="in a MemoryStore"):
        extract_session(zarr.zeros(1))


def read_both(repository, place):
    """Return what is committed, as zfuse and the official library read it."""
    official = icechunk.Repository.open(place.storage).readonly_session("main").store
    ours = repository.readonly_session("main").store
    return [xr.open_zarr(store, consolidated=False).load() for store in (ours, official)]


def test_processes_write_one_commit(repository, place):
    session = repository.writable_session("main")
    array = zarr.create_array(
        session.store, name="a", shape=(4, 1000), chunks=(1, 1000), dtype="u1", compressors=None
    )
    fork = session.fork()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        written = list(pool.map(write_row, [fork] * 4, range(4)))
    session.merge(*(fork for fork, _ in written))
    assert os.getpid() not in {process for _, process in written}
    assert array[:, 0].tolist() == [1, 2, 3, 4]
    session.commit("rows")
    theirs = icechunk.Repository.open(place.storage).readonly_session("main").store
    assert (zarr.open_array(theirs, path="a")[:] == np.arange(1, 5)[:, None]).all()


def in_a_cluster(*arguments):
    """Run a program that writes from two processes of a cluster; see there."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.api.in_a_cluster", *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=540,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-5000:]


@pytest.mark.timeout(600)
def test_tasks_that_use_to_zarr_hand_their_forks_back(repository, place):
    in_a_cluster("forks", place.url)
    theirs = icechunk.Repository.open(place.storage).readonly_session("main").store
    assert (zarr.open_array(theirs, path="a")[:] == np.arange(40)[:, None]).all()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("spec", "size"),
    [
        (2, 400),
        pytest.param(1, 2000, marks=pytest.mark.long),
        pytest.param(2, 2000, marks=pytest.mark.long),
    ],
)
def test_a_cluster_of_processes_writes_one_commit(place, spec, size):
    storage = zfuse.local_filesystem_storage(place.url)
    repository = zfuse.Repository.create(storage, spec_version=spec)
    in_a_cluster("data sets", place.url, size)
    ours, theirs = read_both(repository, place)
    xr.testing.assert_identical(ours, theirs)
    assert ours.v.shape == (2 * size, size)
    assert len(list(repository.ancestry(branch="main"))) == 4
