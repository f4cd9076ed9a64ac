"""Worker processes that each mount the same repository read it in parallel."""

import contextlib
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle
from multiprocessing import get_context

import numpy as np
import pytest
import zarr
from distributed import Client, LocalCluster

from tests.compat.place import changing, create, local_place
from tests.mount.reading_worker import meet_at, read_rows, total
from zfuse.daemon.mountinfo import zfuse_mounts

pytestmark = [pytest.mark.compat, pytest.mark.fuse]

DATA = np.random.default_rng(5).integers(0, 2**16, (64, 4096), "u2")
PARTS = [(low, low + 4) for low in range(0, 64, 4)]


@pytest.fixture
def where(tmp_path):
    """Where a worker mounts which snapshot; what is committed later must not be read."""
    repository = create(local_place(tmp_path), 2)
    with changing(repository, "data") as store:
        zarr.create_array(store, name="a", shape=DATA.shape, chunks=(2, 4096), dtype="u2")[:] = DATA
    snapshot = repository.lookup_branch("main")
    with changing(repository, "later") as store:
        zarr.open_array(store, path="a")[:] = 0
    return tmp_path / "repository", snapshot, tmp_path


@contextlib.contextmanager
def unmounted_afterwards(directory):
    """Expect a mount for each of two workers, and end them."""
    try:
        yield
    finally:
        mine = [m.path for m in zfuse_mounts() if m.path.parent == directory]
        for path in mine:
            command = [sys.executable, "-m", "zfuse", "umount", str(path)]
            subprocess.run(command, timeout=60, check=True)
    assert len(mine) == 2


def test_processes_read_through_mounts_of_their_own(where):
    context = get_context("spawn")
    with (
        unmounted_afterwards(where[2]),
        ProcessPoolExecutor(
            2, mp_context=context, initializer=meet_at, initargs=(context.Barrier(2),)
        ) as pool,
    ):
        found = [pool.submit(read_rows, where, *part) for part in PARTS]
        assert b"".join(future.result()[0] for future in found) == DATA.tobytes()
        assert len({future.result()[1] for future in found}) == 2


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.expects_log("Worker process still alive")
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of dask's own connections
def test_workers_of_a_cluster_read_through_mounts_of_their_own(where):
    with (
        unmounted_afterwards(where[2]),
        LocalCluster(
            n_workers=2, threads_per_worker=2, processes=True, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        workers = cycle(client.scheduler_info()["workers"])
        found = client.gather(
            [client.submit(total, where, *part, workers=next(workers)) for part in PARTS]
        )
        assert sum(part for part, _ in found) == int(DATA.sum(dtype="u8"))
        assert len({process for _, process in found}) == 2
