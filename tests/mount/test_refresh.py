"""Branches that move while they are mounted: no old bytes under new names, nor the reverse."""

import contextlib
import json
import mmap
import os
import sys

import numpy as np
import pytest
import tensorstore
import zarr

from tests.compat.documents import GROUP, array_document, delete, put, put_all
from tests.compat.hierarchy import quiet
from tests.compat.place import changing, create, local_place
from tests.mount.settling import wait_for
from tests.mount.visitors import CHUNK, Reader, Shell
from zfuse.daemon.control import ReportedError, call

pytestmark = [pytest.mark.compat, pytest.mark.fuse]

MIB = 1 << 20
LINE = array_document((8,), (2,))


def refresh(path):
    """Let the mount of *path* refresh, as ``zfuse refresh`` does it."""
    return call(path, "refresh")["moved"]


@pytest.fixture(params=[2, 1], ids=["spec2", "spec1"])
def repo(request, tmp_path):
    """An official repository that holds a group with two arrays."""
    repo = create(local_place(tmp_path), request.param)
    with changing(repo, "first") as store:
        put_all(store, {"zarr.json": GROUP, "g/zarr.json": GROUP})
        put_all(store, {"g/a/zarr.json": LINE, "g/b/zarr.json": LINE})
        put_all(store, {f"g/a/c/{n}": b"old!" * 200 for n in range(3)})
        put(store, "g/b/c/0", b"same" * 200)
    return repo


@pytest.fixture
def place(tmp_path):
    return str(tmp_path / "repository")


@pytest.fixture
def branch(repo, mount, place):
    """The directory of the mounted branch main, in a mount of everything or of it alone."""
    if repo.spec_version > 1:
        return mount(place) / "branch/main"
    return mount(place, "--branch", "main")


def identity(path):
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


def test_a_refresh_shows_the_new_commit_at_once(repo, branch):
    a, b = branch / "g/a", branch / "g/b"
    kept = {path: identity(path) for path in (a / "c/1", a / "zarr.json", b / "c/0")}
    changed = identity(a / "c/0")
    assert (a / "c/0").read_bytes() == b"old!" * 200
    assert not (a / "c/3").exists()
    assert not (branch / "h").exists()
    with changing(repo, "second") as store:
        put_all(store, {"g/a/c/0": b"new" * 300, "g/a/c/3": b"grown", "h/zarr.json": GROUP})
        delete(store, "g/a/c/2")
        put(store, "g/b/zarr.json", array_document((8,), (2,), attributes={"v": 2}))
    assert (a / "c/0").read_bytes() == b"old!" * 200
    assert not (branch / "h").exists()
    (moved,) = refresh(branch)
    assert (moved["branch"], moved["after"]) == ("main", repo.lookup_branch("main"))
    assert (a / "c/0").read_bytes() == b"new" * 300
    assert (a / "c/3").read_bytes() == b"grown"
    assert not (a / "c/2").exists()
    assert sorted(os.listdir(a / "c")) == ["0", "1", "3"]
    assert sorted(os.listdir(branch)) == ["g", "h", "zarr.json"]
    assert json.loads((b / "zarr.json").read_bytes())["attributes"] == {"v": 2}
    assert identity(a / "c/0") != changed
    assert {path: identity(path) for path in kept} == kept
    assert refresh(branch) == []


def test_what_was_deleted_is_gone_and_may_come_back_as_another(repo, branch):
    (branch / "g/a/c/0").read_bytes()
    first = identity(branch / "g/a/zarr.json")
    with changing(repo, "delete") as store:
        delete(store, "g/a/zarr.json")
    refresh(branch)
    assert os.listdir(branch / "g") != []
    assert not (branch / "g/a").exists()
    with changing(repo, "again, as a group") as store:
        put_all(store, {"g/a/zarr.json": GROUP, "g/a/c/zarr.json": LINE})
    refresh(branch)
    assert (branch / "g/a/zarr.json").read_bytes() == GROUP
    assert sorted(os.listdir(branch / "g/a/c")) in (["zarr.json"], ["c", "zarr.json"])
    assert not (branch / "g/a/c/0").exists()
    with changing(repo, "and as an array") as store:
        delete(store, "g/a/c/zarr.json")
        delete(store, "g/a/zarr.json")
        put_all(store, {"g/a/zarr.json": LINE, "g/a/c/0": b"third"})
    refresh(branch)
    assert (branch / "g/a/c/0").read_bytes() == b"third"
    assert identity(branch / "g/a/zarr.json") != first


def test_refs_come_and_go(repo, mount, place):
    root = mount(place)
    tip = repo.lookup_branch("main")
    assert os.listdir(root / "branch") == ["main"]
    repo.create_branch("dev", tip)
    repo.create_tag("v1", tip)
    refresh(root)
    assert sorted(os.listdir(root / "branch")) == ["dev", "main"]
    assert os.listdir(root / "tag") == ["v1"]
    inside = os.open(root / "branch/dev/g/a", os.O_RDONLY)
    try:
        repo.delete_branch("dev")
        refresh(root)
        assert not (root / "branch/dev").exists()
        assert os.listdir(root / "branch") == ["main"]
        assert sorted(os.listdir(inside)) == ["c", "zarr.json"]  # as long as somebody is there
    finally:
        os.close(inside)
    with changing(repo, "on") as store:
        put(store, "g/a/c/0", b"newer")
    repo.create_branch("dev", repo.lookup_branch("main"))
    refresh(root)
    assert (root / "branch/dev/g/a/c/0").read_bytes() == b"newer"
    assert (root / "tag/v1/g/a/c/0").read_bytes() == b"old!" * 200


def test_a_branch_that_was_reset_shows_the_past(repo, branch):
    first = repo.lookup_branch("main")
    with changing(repo, "second") as store:
        put_all(store, {"g/a/c/0": b"second", "g/a/c/3": b"second", "g/new/zarr.json": LINE})
    refresh(branch)
    assert (branch / "g/a/c/0").read_bytes() == (branch / "g/a/c/3").read_bytes() == b"second"
    later = identity(branch / "g/a/c/0")
    assert (branch / "g/new").exists()
    repo.reset_branch("main", first)
    refresh(branch)
    assert (branch / "g/a/c/0").read_bytes() == b"old!" * 200
    assert not (branch / "g/a/c/3").exists()
    assert not (branch / "g/new").exists()
    assert identity(branch / "g/a/c/0") != later
    with changing(repo, "another second") as store:
        put(store, "g/a/c/0", b"another")
    refresh(branch)
    assert (branch / "g/a/c/0").read_bytes() == b"another"


LARGE = {"whole": MIB, "in pieces": 9 * MIB}


@pytest.mark.parametrize("size", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("dropped", [False, True], ids=["page cache kept", "page cache dropped"])
def test_a_file_opened_before_keeps_its_bytes(tmp_path, mount, size, dropped):
    """Read in part before the move and in part after it, while another reads the new ones."""
    repo = create(local_place(tmp_path), 2)
    old, new = os.urandom(size), os.urandom(size - 5)
    with changing(repo, "old") as store:
        put_all(store, {"a/zarr.json": array_document((2 * size,), (size,)), "a/c/0": old})
    branch = mount(tmp_path / "repository") / "branch/main"
    with (branch / "a/c/0").open("rb", buffering=0) as before:
        assert before.read(100_000) == old[:100_000]
        with changing(repo, "new") as store:
            put(store, "a/c/0", new)
            put(store, "a/zarr.json", array_document((size,), (size,)))
        refresh(branch)
        if dropped:
            os.posix_fadvise(before.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert (branch / "a/c/0").read_bytes() == new
        assert before.read() == old[100_000:]
        assert os.pread(before.fileno(), 1000, 0) == old[:1000]
        assert os.fstat(before.fileno()).st_size == size
    assert (branch / "a/c/0").read_bytes() == new


def test_an_open_zarr_json_keeps_its_bytes(repo, branch):
    with (branch / "g/b/zarr.json").open("rb", buffering=0) as before:
        start = before.read(10)
        with changing(repo, "second") as store:
            put(store, "g/b/zarr.json", array_document((80,), (2,), attributes={"long": "x" * 99}))
        refresh(branch)
        os.posix_fadvise(before.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert start + before.read() == LINE
    assert (branch / "g/b/zarr.json").stat().st_size > len(LINE)


def test_what_is_mapped_keeps_its_bytes(repo, branch):
    with (branch / "g/a/c/0").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    array = np.memmap(branch / "g/a/c/1", mode="r")
    with changing(repo, "second") as store:
        put_all(store, {"g/a/c/0": b"new!" * 200, "g/a/c/1": b"new!" * 200})
    refresh(branch)
    assert mapped[:] == b"old!" * 200
    assert array.tobytes() == b"old!" * 200
    assert np.memmap(branch / "g/a/c/1", mode="r").tobytes() == b"new!" * 200
    mapped.close()


def test_a_listing_that_was_begun_before_goes_on(tmp_path, mount):
    """readdir(3) over more entries than one request holds, with a move in the middle."""
    count = 3000
    repo = create(local_place(tmp_path), 2)
    with changing(repo, "old") as store:
        put(store, "a/zarr.json", array_document((2 * count,), (1,)))
        put_all(store, {f"a/c/{n}": b"o" for n in range(count)})
    branch = mount(tmp_path / "repository") / "branch/main"
    with os.scandir(branch / "a/c") as entries:
        names = [next(entries).name for _ in range(10)]
        with changing(repo, "new") as store:
            put_all(store, {f"a/c/{n}": b"new" for n in range(2000, count + 1000)})
        refresh(branch)
        names += [entry.name for entry in entries]
    assert sorted(map(int, names)) == list(range(count))
    assert len(os.listdir(branch / "a/c")) == count + 1000
    # What the rest of the old listing told must not outlive the move.
    assert all((branch / f"a/c/{n}").stat().st_size == 3 for n in range(2000, count + 1000))
    assert (branch / "a/c/2500").read_bytes() == b"new"


def test_more_changes_than_are_named_one_by_one(tmp_path, mount):
    count = 10_500
    repo = create(local_place(tmp_path), 2)
    with changing(repo, "old") as store:
        put(store, "a/zarr.json", array_document((count,), (1,)))
        put_all(store, {f"a/c/{n}": b"o" for n in range(count)})
    branch = mount(tmp_path / "repository") / "branch/main"
    assert sum(entry.stat().st_size for entry in os.scandir(branch / "a/c")) == count
    with changing(repo, "new") as store:
        put_all(store, {f"a/c/{n}": b"new" for n in range(count)})
    refresh(branch)
    assert sum(entry.stat().st_size for entry in os.scandir(branch / "a/c")) == 3 * count
    assert all((branch / f"a/c/{n}").read_bytes() == b"new" for n in range(0, count, 500))


@quiet
def test_tensorstore_sees_new_data_when_it_rechecks(repo, branch):
    context = tensorstore.Context({"cache_pool": {"total_bytes_limit": 64 * MIB}})
    kvstore = {"driver": "file", "path": str(branch / "g/t")}
    spec = {"driver": "zarr3", "kvstore": kvstore, "recheck_cached_data": True}
    with pytest.raises(ValueError, match="NOT_FOUND"):
        tensorstore.open(spec, context=context).result()
    with changing(repo, "made") as store:
        zarr.create_array(
            store, name="g/t", shape=(4,), chunks=(2,), dtype="i4", fill_value=9, compressors=None
        )[:2] = 1
    refresh(branch)
    array = tensorstore.open(spec, context=context).result()
    assert array.read().result().tolist() == [1, 1, 9, 9]
    for value in (2, 3):
        with changing(repo, f"version {value}") as store:
            zarr.open_array(store, path="g/t", mode="r+")[...] = value
        refresh(branch)
        assert array.read().result().tolist() == [value] * 4


@pytest.fixture
def shell(branch):
    shell = Shell(branch / "g")
    yield shell
    shell.close()


def test_a_shell_goes_on_where_it_is(repo, branch, shell):
    assert shell.say("ls") == (["a", "b", "zarr.json"], 0)
    assert shell.say("head -c 4 a/c/0") == (["old!"], 0)
    with changing(repo, "second") as store:
        put_all(store, {"g/a/c/0": b"new", "g/z/zarr.json": GROUP})
        put(store, "g/zarr.json", GROUP.replace(b"{}", b'{"v":2}'))
    refresh(branch)
    assert shell.say("ls") == (["a", "b", "z", "zarr.json"], 0)
    assert shell.say("cat a/c/0") == (["new"], 0)
    assert shell.say("pwd -P") == ([str(branch / "g")], 0)
    assert shell.say("jq -c .attributes zarr.json") == (['{"v":2}'], 0)
    assert shell.say("cd z && ls && cd .. && ls -d a") == (["zarr.json", "a"], 0)
    assert shell.say("zfuse() { " + sys.executable + ' -m zfuse "$@"; }; zfuse refresh')[1] == 0


def test_who_stands_in_an_array_hides_the_next_one_from_nobody(repo, branch, shell):
    """The kernel keeps a directory that is somebody's, with what is in use below it."""
    assert shell.say("cd a/c && cat 0 | head -c 4") == (["old!"], 0)
    with holding(branch / "g/a/c/1"):
        with changing(repo, "another array") as store:
            delete(store, "g/a/zarr.json")
            put_all(store, {"g/a/zarr.json": LINE, "g/a/c/0": b"x", "g/a/c/1": b"y"})
        refresh(branch)
        assert [(branch / f"g/a/c/{n}").read_bytes() for n in (0, 1)] == [b"x", b"y"]
        # As in any directory that was removed.
        assert shell.say("cat 0")[1] == 1
        assert shell.say("cd ../../a/c && cat 0") == (["x"], 0)


def test_who_stands_in_an_array_that_shrinks_sees_what_became_of_it(repo, branch, shell):
    assert shell.say("cd a/c && cat 0 | head -c 4") == (["old!"], 0)
    with holding(branch / "g/a/c/1"):
        with changing(repo, "shorter") as store:
            put(store, "g/a/zarr.json", array_document((4,), (2,)))
            put_all(store, {"g/a/c/0": b"x", "g/a/c/1": b"y"})
        refresh(branch)
        assert [(branch / f"g/a/c/{n}").read_bytes() for n in (0, 1)] == [b"x", b"y"]
        assert shell.say("cat 0") == (["x"], 0)
        assert shell.say("ls") == (["0", "1"], 0)


@contextlib.contextmanager
def holding(path):
    """Pin what the kernel knows of *path*, without opening it."""
    descriptor = os.open(path, os.O_PATH)
    try:
        yield
    finally:
        os.close(descriptor)


@quiet
def test_zarr_objects_from_before_read_the_new_data(tmp_path, mount):
    repo = create(local_place(tmp_path), 2)
    with changing(repo, "first") as store:
        zarr.create_array(store, name="g/a", shape=(4,), chunks=(2,), dtype="i4")[...] = 1
    branch = mount(tmp_path / "repository") / "branch/main"
    array = zarr.open_group(branch / "g", mode="r")["a"]
    assert array[:].tolist() == [1, 1, 1, 1]
    with changing(repo, "second") as store:
        zarr.open_array(store, path="g/a", mode="r+")[2:] = 2
    refresh(branch)
    assert array[:].tolist() == [1, 1, 2, 2]


def test_following_needs_no_refresh(repo, mounted, place):
    mount = mounted(place, "--follow", "0.2")
    chunk = mount.path / "branch/main/g/a/c/0"
    assert chunk.read_bytes() == b"old!" * 200
    with changing(repo, "second") as store:
        put(store, "g/a/c/0", b"second")
    wait_for(lambda: chunk.read_bytes() == b"second")
    os.rename(place, place + ".away")
    wait_for(lambda: "following failed" in mount.log.read_text())
    assert chunk.read_bytes() == b"second"
    os.rename(place + ".away", place)
    with changing(repo, "third") as store:
        put(store, "g/a/c/0", b"third")
    wait_for(lambda: chunk.read_bytes() == b"third")


def test_readers_at_work_see_each_file_whole_and_never_older(tmp_path, mounted):
    """Several read all chunks in a loop while the branch moves under them."""
    repo = create(local_place(tmp_path), 2)

    def commit(version):
        shape = (6 + version % 2) * CHUNK  # one that shrinks is renewed as a whole
        with changing(repo, f"version {version}") as store:
            put(store, "a/zarr.json", array_document((shape,), (CHUNK,)))
            chunk = bytes([version]) * (CHUNK + version)
            put_all(store, {f"a/c/{n}": chunk for n in range(6)})

    commit(1)
    mount = mounted(tmp_path / "repository", "--follow", "0.1")
    chunks = [mount.path / f"branch/main/a/c/{n}" for n in range(6)]
    readers = [Reader(chunks) for _ in range(4)]
    for version in range(2, 14):
        commit(version)
        mount.call("refresh")
        assert chunks[0].read_bytes()[0] == version
    for reader in readers:
        reader.done.set()
        reader.join(60)
        assert not reader.is_alive()
        assert reader.faults == []


def test_a_branch_that_cannot_move_keeps_no_other_from_moving(repo, mounted, place):
    """Its new snapshot is damaged: it stays where it is, and that is said."""
    repo.create_branch("dev", repo.lookup_branch("main"))
    mount = mounted(place)
    chunks = {name: mount.path / "branch" / name / "g/a/c/0" for name in ("dev", "main")}
    assert {chunk.read_bytes() for chunk in chunks.values()} == {b"old!" * 200}
    for name in chunks:
        with changing(repo, f"on {name}", branch=name) as store:
            put(store, "g/a/c/0", name.encode())
    damaged = os.path.join(place, "snapshots", repo.lookup_branch("dev"))
    os.rename(damaged, damaged + ".away")
    with pytest.raises(ReportedError, match=repo.lookup_branch("dev")) as refused:
        mount.call("refresh")
    assert refused.value.exit_code == 8
    assert chunks["dev"].read_bytes() == b"old!" * 200
    assert chunks["main"].read_bytes() == b"main"
    os.rename(damaged + ".away", damaged)
    assert [move["branch"] for move in mount.call("refresh")["moved"]] == ["dev"]
    assert chunks["dev"].read_bytes() == b"dev"


def test_a_mount_outlives_the_snapshot_that_it_shows(repo, mounted, place):
    """Which garbage collection took: it cannot be read any more, and yet the branch can move."""
    repo.create_branch("dev", repo.lookup_branch("main"))
    with changing(repo, "elsewhere", branch="dev") as store:
        put(store, "g/b/c/1", b"dev")
    mount = mounted(place)
    chunks = {name: mount.path / "branch" / name / "g/a/c/0" for name in ("dev", "main")}
    assert chunks["main"].stat().st_size == 800
    assert (mount.path / "branch/dev").stat()  # and nobody looked into it
    shown = [repo.lookup_branch(name) for name in chunks]
    for name in chunks:
        with changing(repo, "second", branch=name) as store:
            put(store, "g/a/c/0", b"second")
    for snapshot in shown:
        os.unlink(os.path.join(place, "snapshots", snapshot))
    mount.call("refresh")
    assert [chunk.read_bytes() for chunk in chunks.values()] == [b"second"] * 2
