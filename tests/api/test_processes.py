"""Sessions in threads, in other processes, after a fork, and under interrupts."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import zarr

import zfuse
from tests.api.everyday import group, make_world, write


@pytest.fixture
def world(tmp_path):
    """Return a repository on disk with some history."""
    return make_world(zfuse, zfuse.local_filesystem_storage(tmp_path / "repo"))


def test_repositories_and_sessions_go_through_pickles(world):
    """A copy reads the same, whatever became of the branch meanwhile."""
    world.repo.set_default_commit_metadata({"who": "me"})
    session = world.repo.readonly_session(tag="v1")
    copy = pickle.loads(pickle.dumps(session))
    assert (copy.snapshot_id, copy.read_only) == (session.snapshot_id, True)
    assert group(copy)["a"][:].tolist() == group(session)["a"][:].tolist()
    assert group(pickle.loads(pickle.dumps(session.store)).session)["a"].shape == (6, 4)
    repo = pickle.loads(pickle.dumps(world.repo))
    assert repo.lookup_branch("main") == world.ids["second"]
    assert repo.default_commit_metadata() == {"who": "me"}


def test_what_must_stay_in_its_process_is_not_pickled(world):
    """A writable session, and what is in memory."""
    with pytest.raises(ValueError, match="fork"):
        pickle.dumps(world.repo.writable_session("main"))
    with pytest.raises(TypeError, match="in memory"):
        pickle.dumps(zfuse.Repository.create(zfuse.in_memory_storage()))


def test_exceptions_go_through_pickles(world):
    """With what they tell programs."""
    session = world.repo.writable_session("main")
    write(5)(group(session))
    with world.repo.transaction("main", message="theirs") as store:
        zarr.open_group(store)["a"][0, 0] = 6
    for call in (
        lambda: session.commit("behind"),
        lambda: session.rebase(zfuse.ConflictDetector()),
        lambda: world.repo.lookup_tag("nope"),
    ):
        with pytest.raises(zfuse.IcechunkError) as caught:
            call()
        copy = pickle.loads(pickle.dumps(caught.value))
        assert type(copy) is type(caught.value)
        assert (copy.message, copy.kind) == (caught.value.message, caught.value.kind)
        assert vars(copy) == vars(caught.value)


def write_in_fork(fork, row):
    """Write a row in a fork that came from another process, and send it back."""
    group(fork)["a"][row, :] = 100 + row
    return fork


def test_other_processes_write_forks_that_become_one_commit(world):
    """As with dask or multiprocessing; the processes start anew."""
    session = world.repo.writable_session("main")
    group(session)["a"][5, 0] = 99
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        forks = pool.starmap(write_in_fork, [(session.fork(), row) for row in (0, 2)])
    session.merge(*forks)
    session.commit("together")
    found = group(world.repo.readonly_session("main"))["a"]
    assert found[0].tolist() == [100] * 4
    assert found[2].tolist() == [102] * 4
    assert found[5, 0] == 99
    assert found[1].tolist() == [1] * 4


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_sessions_go_on_after_a_fork_of_the_process(world):
    """The child has what the parent had, and either goes its own way."""
    session = world.repo.writable_session("main")
    write(41)(group(session))
    reading = world.repo.readonly_session("main")
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            group(session)["a"][1, 1] = 42
            ok = group(reading)["a"][0, 0] == 1 and world.repo.list_tags() == {"v1"}
            session.commit("in the child")
            status = 0 if ok else 2
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert session.has_uncommitted_changes
    root = group(world.repo.readonly_session("main"))
    assert (root["a"][0, 0], root["a"][1, 1]) == (41, 42)
    with pytest.raises(zfuse.ConflictError):
        session.commit("in the parent")


def test_threads_share_a_session(world):
    """Each writes its own array; one commit has them all."""
    session = world.repo.writable_session("main")
    root = group(session)

    def fill(number):
        array = root.create_array(f"t{number}", shape=(8,), chunks=(2,), dtype="i4")
        array[:] = number
        return session.status().new_arrays

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fill, range(16)))
    session.commit("threads")
    root = group(world.repo.readonly_session("main"))
    assert [int(root[f"t{n}"][:].sum()) for n in range(16)] == [8 * n for n in range(16)]


def test_threads_commit_to_one_branch(world):
    """Each with a session of its own; with a solver nobody loses anything."""

    def commit(number):
        session = world.repo.writable_session("main")
        group(session).create_group(f"g{number}")
        return session.commit(f"g{number}", rebase_with=zfuse.ConflictDetector())

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(commit, range(8)))
    assert len(set(made)) == 8
    assert {f"g{n}" for n in range(8)} <= set(group(world.repo.readonly_session("main")))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_interrupt_ends_a_call_and_leaves_the_session(world, monkeypatch):
    """A KeyboardInterrupt cancels what waits for the store, and the next call works."""
    session = world.repo.writable_session("main")
    write(8)(group(session))
    storage = session.workspace.repository.storage
    started, put = threading.Event(), storage.put

    async def hanging(*args, **kwargs):
        started.set()
        import trio  # noqa: PLC0415 - this runs in the trio world

        await trio.sleep_forever()

    monkeypatch.setattr(storage, "put", hanging)

    def interrupt():
        started.wait()
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        session.commit("interrupted")
    thread.join()
    monkeypatch.setattr(storage, "put", put)
    session.commit("after all")
    assert group(world.repo.readonly_session("main"))["a"][0, 0] == 8


def test_importing_the_commands_or_the_package_imports_no_zarr():
    """Names are imported when they are asked for."""
    program = (
        "import sys, zfuse, zfuse.cli.main, zfuse.storage.open\n"
        "assert not {m for m in sys.modules if m.startswith(('zarr', 'zfuse.api'))}\n"
        "from zfuse import storage, Repository\n"
        "assert storage.s3_store(region='x') and Repository and 'zarr' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=240)
