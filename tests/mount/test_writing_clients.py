"""Whatever writes Zarr to a directory writes a branch: the official library reads it equal.

A writer runs twice at once, into a branch and into a plain directory, stage by stage. After each
stage ``zfuse sync`` commits, and then the official library and the mount must both show what the
plain directory has, key by key and byte by byte.
"""

import errno
import gzip
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import icechunk
import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore

from tests.compat.documents import get_all
from tests.compat.hierarchy import quiet, write_arrays, write_xarray
from tests.compat.place import Place, local_place, s3_place
from tests.mount.mounting import Mounted, mounting
from tests.mount.writing_clients import SPEC_2_ONLY, ZARR
from tests.mount.writing_libraries import OTHERS
from tests.mount.writing_tools import TOOLS, is_metadata, keys_of

pytestmark = [
    pytest.mark.compat,
    pytest.mark.fuse,
    # of zarr and xarray: unsettled data types, consolidated metadata, coming defaults
    *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("UserWarning", "FutureWarning")),
]

CROWD = ("zarr_resizes", "zarr_over_obstore", "xarray_appends", "tensorstore_writes", "rsync_a")
LIBRARIES = ZARR | OTHERS
ONE_COMMIT = (
    *("zarr_resizes", "zarr_deletes", "zarr_overwrites", "zarr_mode_w", "zarr_shards"),
    *("zarr_over_obstore", "xarray_changes", "tensorstore_writes", "zarrita_writes"),
    *("edited", "moved", "removed"),
)
ON_S3 = ("zarr_overwrites", "xarray_appends", "tensorstore_writes", "moved")
EXTRA = ("crowd", "one-commit")
SYNC_S = 200

KEPT = {
    "dt": {"i4", "i8", "u4", "u8", "f4", "f8", "string"},
    "codec": {"none", "gzip"},
    "shape": {"scalar", "unset_scalar", "unwritten", "line", "cube"},
    "shard": {"plain", "part"},
}
"""What the source of the tools has of these groups: all of it takes them twice as long."""


class Branches:
    """A mounted repository with a branch for each writer."""

    def __init__(self, place: Place, mounted: Mounted, *, by_command: bool) -> None:
        self.place = place
        self._mounted = mounted
        self._by_command = by_command

    def root(self, name: str) -> Path:
        """Return the directory of a branch."""
        return self._mounted.path / "branch" / name

    def sync(self, name: str) -> None:
        """Commit a branch as users do, or quicker: a command takes a third of a second to start."""
        if self._by_command:
            command = [sys.executable, "-m", "zfuse", "sync", str(self.root(name)), "-m", "a stage"]
            subprocess.run(command, check=True, timeout=SYNC_S)
        else:
            self._mounted.call("sync", branch=name, message="a stage")

    def committed(self, name: str) -> zarr.abc.store.Store:
        """Return the official store of a branch, opened anew."""
        repository = icechunk.Repository.open(self.place.storage)
        return repository.readonly_session(branch=name).store


ON_BOTH = {"zarr_creates", "zarr_deletes", "xarray_appends", "tensorstore_writes", "cp_r", "moved"}
"""Clients that run on version 1 each time; the others do so in a long run."""


@pytest.fixture(scope="module", params=[1, 2])
def spec(request) -> int:
    return request.param


@pytest.fixture(scope="module")
def branches(spec, tmp_path_factory) -> Iterator[Branches]:
    place = local_place(tmp_path_factory.mktemp(f"spec{spec}"))
    repository = icechunk.Repository.create(place.storage, spec_version=spec)
    for name in (*LIBRARIES, *TOOLS, *EXTRA):
        repository.create_branch(name, repository.lookup_branch("main"))
    directory = tmp_path_factory.mktemp(f"spec{spec}-mount") / "mount"
    with mounting(
        place.url, directory, "--rw", "--journal", str(directory.parent / "journal")
    ) as mounted:
        yield Branches(place, mounted, by_command=spec == 2)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A plain hierarchy that tools copy: some of each kind."""
    directory = tmp_path_factory.mktemp("source") / "plain"
    write_arrays(LocalStore(directory), rectilinear=False)
    write_xarray(directory)
    for group, keep in KEPT.items():
        for array in (directory / group).iterdir():
            if array.is_dir() and array.name not in keep:
                shutil.rmtree(array)
    return directory


@pytest.fixture(autouse=True)
def _gzip_without_a_time(monkeypatch):
    """Two runs of a writer write the same bytes, though gzip puts the time into its header."""
    monkeypatch.setattr(gzip, "time", SimpleNamespace(time=lambda: 0))


@pytest.fixture
def stages(source):
    """A function that starts a writer, of whichever kind, in a directory."""
    return lambda name, root: (
        LIBRARIES[name](root) if name in LIBRARIES else TOOLS[name](root, source)
    )


def assert_equal(branches: Branches, name: str, plain: Path) -> None:
    """Fail unless the official library and the mount show branch *name* as *plain* is."""
    expected = {str(key): (plain / key).read_bytes() for key in keys_of(plain)}
    assert expected, "the writer wrote nothing"
    store = branches.committed(name)
    assert get_all(store) == expected
    root = branches.root(name)
    assert {str(key): (root / key).read_bytes() for key in keys_of(root)} == expected


@quiet
def assert_equal_values(branches: Branches, name: str, plain: Path) -> None:
    """Fail unless the official library reads each node as zarr reads it from *plain*."""
    store = branches.committed(name)
    with zarr.config.set({"array.rectilinear_chunks": True}):
        for key in filter(is_metadata, keys_of(plain)):
            assert_same_node(store, plain, "" if key.parts == ("zarr.json",) else str(key.parent))


def assert_same_node(store: zarr.abc.store.Store, plain: Path, path: str) -> None:
    found = zarr.open(store, path=path, mode="r", use_consolidated=False)
    expected = zarr.open(plain, path=path, mode="r", use_consolidated=False)
    assert type(found) is type(expected)
    assert dict(found.attrs) == dict(expected.attrs)
    if isinstance(expected, zarr.Array):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(np.asarray(found[...]), np.asarray(expected[...]))


def cases() -> Iterator[object]:
    """Yield every client on both versions; where only the version differs, most are long."""
    for name in (*LIBRARIES, *TOOLS):
        yield pytest.param(2, name)
        if name not in SPEC_2_ONLY:
            yield pytest.param(1, name, marks=[] if name in ON_BOTH else pytest.mark.long)


@pytest.mark.parametrize(("spec", "name"), list(cases()), indirect=["spec"])
def test_what_a_client_writes_is_committed(name, spec, branches, stages, tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()
    commits = 0
    for _ in zip(stages(name, plain), stages(name, branches.root(name)), strict=True):
        branches.sync(name)
        assert_equal(branches, name, plain)
        commits += 1
    assert_equal_values(branches, name, plain)
    history = icechunk.Repository.open(branches.place.storage).ancestry(branch=name)
    assert len(list(history)) == commits + 1


@pytest.mark.parametrize("spec", [2], indirect=True)
def test_many_writers_one_commit(branches, stages, tmp_path):
    """All stages of many writers, each in its own group, with no commit between them."""
    plain = tmp_path / "plain"
    for name in ONE_COMMIT:
        for root in (plain, branches.root("one-commit")):
            (root / "some" / name).mkdir(parents=True)
            assert sum(1 for _ in stages(name, root / "some" / name)) > 0
    branches.sync("one-commit")
    assert_equal(branches, "one-commit", plain)
    for root in (plain, branches.root("one-commit")):
        (root / "some").rename(root / "others")
        shutil.rmtree(root / "others" / "zarr_shards")
    branches.sync("one-commit")
    assert_equal(branches, "one-commit", plain)


@pytest.mark.filterwarnings("ignore")  # threads take the filters of warnings from each other
def test_writers_at_the_same_time(branches, stages, tmp_path):
    """Several programs write different groups of one branch at once; then one commit has all."""
    plain = tmp_path / "plain"
    roots = [plain, branches.root("crowd")]
    for root in roots:
        for name in CROWD:
            (root / name).mkdir(parents=True)
    with ThreadPoolExecutor(len(CROWD)) as threads:
        ends = [threads.submit(list, stages(n, root / n)) for root in roots for n in CROWD]
        assert all(end.result(SYNC_S) for end in ends)
    branches.sync("crowd")
    assert_equal(branches, "crowd", plain)
    assert_equal_values(branches, "crowd", plain)


def test_writers_on_s3(s3_server, stages, tmp_path):
    """Where chunks are uploaded in the background, and commits are conditional requests."""
    account = {"key": s3_server.access_key, "secret": s3_server.secret_key}
    bucket = s3_server.make_bucket()
    place = s3_place(tmp_path, endpoint=s3_server.endpoint, bucket=bucket, prefix="a/b", **account)
    repository = icechunk.Repository.create(place.storage)
    for name in ON_S3:
        repository.create_branch(name, repository.lookup_branch("main"))
    options = ("--rw", "--journal", str(tmp_path / "journal"), "--force-path-style")
    env = s3_server.environment()
    with mounting(place.url, tmp_path / "mount", *options, env=env) as mounted:
        branches = Branches(place, mounted, by_command=False)
        for name in ON_S3:
            plain = tmp_path / "plain" / name
            plain.mkdir(parents=True)
            for _ in zip(stages(name, plain), stages(name, branches.root(name)), strict=True):
                branches.sync(name)
                assert_equal(branches, name, plain)


def test_writers_where_one_branch_is_mounted(stages, tmp_path):
    """Mode "w" cannot take the mount point away; what it emptied comes back with discard."""
    place = local_place(tmp_path)
    repository = icechunk.Repository.create(place.storage)
    plain = tmp_path / "plain"
    options = ("--rw", "--journal", str(tmp_path / "journal"), "--branch", "main")
    with mounting(place.url, tmp_path / "mount", *options) as mounted:
        for root in (plain, mounted.path):
            for name in ON_S3:
                (root / name).mkdir(parents=True)
                assert sum(1 for _ in stages(name, root / name)) > 0
        mounted.call("sync", message="all")
        expected = {str(key): (plain / key).read_bytes() for key in keys_of(plain)}
        assert get_all(repository.readonly_session("main").store) == expected
        with pytest.raises(OSError, match="busy") as caught:
            zarr.open_group(mounted.path, mode="w")
        assert caught.value.errno == errno.EBUSY
        assert keys_of(mounted.path) == []
        command = [sys.executable, "-m", "zfuse", "discard", str(mounted.path)]
        subprocess.run(command, check=True, timeout=SYNC_S)
        assert {str(k): (mounted.path / k).read_bytes() for k in keys_of(mounted.path)} == expected
