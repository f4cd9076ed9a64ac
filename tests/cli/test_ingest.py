"""``zfuse ingest``: sources, nodes, what it prints, and mounts that show it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import icechunk
import netCDF4
import numpy as np
import pytest
import xarray as xr
import zarr

from tests.cli.working import command
from tests.ingest.archive import arrays_of, equal_arrays, settle
from tests.ingest.zarr_arrays import GRID, make_v3
from tests.mount.mounting import mounting
from zfuse.cli.main import run

__all__ = ["command"]  # fixtures

pytestmark = [
    pytest.mark.compat,
    pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning"),
    pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning"),
]


@pytest.fixture
def data(tmp_path):
    """A directory with sources."""
    place = tmp_path / "data"
    for name in ("one", "two"):
        group = zarr.open_group(place / f"{name}.zarr", mode="w", zarr_format=2)
        group.create_array("a", data=GRID, chunks=(4, 4))
        group.create_array("inner/b", data=np.array(5))
    with netCDF4.Dataset(place / "file.nc", "w") as file:
        file.createDimension("time", 4)
        file.createVariable("time", "f8", ("time",))[:] = np.arange(4)
        file.createVariable("t", "f8", ("time",), chunksizes=(2,))[:] = np.arange(4)
    settle(place)
    return place


@pytest.fixture
def repository(tmp_path):
    place = tmp_path / "repository"
    assert run(["create", str(place)]) == 0
    return place


def official(repository) -> icechunk.Repository:
    storage = icechunk.local_filesystem_storage(str(repository))
    config = icechunk.Repository.fetch_config(storage)
    prefixes = (config and config.virtual_chunk_containers) or {}
    access = dict.fromkeys(prefixes, icechunk.credentials.LocalFileSystemAccess)
    return icechunk.Repository.open(storage, authorize_virtual_chunk_access=access)


def arrays(repository, branch="main"):
    return arrays_of(official(repository).readonly_session(branch).store)


def test_one_source_becomes_the_root(command, data, repository):
    outcome = command("ingest", data / "one.zarr", repository, "-m", "all of it")
    outcome.says(
        f"file://{data}/one.zarr (zarr) is /: 2 arrays, 7 chunks",
        f"declared the virtual chunk container file://{data}/\n",
        f"to read it: --allow-virtual file://{data}/\n",
        "the branch is at ",
    )
    assert next(iter(official(repository).ancestry(branch="main"))).message == "all of it"
    equal_arrays(arrays(repository), arrays_of(data / "one.zarr"))


def test_json(command, data, repository):
    told = command("ingest", data / "one.zarr", repository, "--into", "x/y", "--json").json
    assert told["snapshot"] == official(repository).lookup_branch("main")
    assert told["ingested"] == [
        {
            "source": f"file://{data}/one.zarr",
            "format": "zarr",
            "node": "/x/y",
            "arrays": 2,
            "chunks": 7,
        }
    ]
    assert (told["failed"], told["containers"]) == ([], [f"file://{data}/"])
    told = command("ingest", data / "two.zarr", repository, "--into", "z", "--json").json
    assert told["containers"] == []


def test_many_sources_become_a_node_each(command, data, repository):
    sources = [data / "one.zarr", data / "file.nc", f"{data / 'two.zarr'}=/some/where"]
    command("ingest", *sources, repository, "--into", "all").says("is /all/one", "is /some/where")
    assert set(arrays(repository)) == {
        *("all/one/a", "all/one/inner/b", "all/file/t", "all/file/time"),
        *("some/where/a", "some/where/inner/b"),
    }


def test_names_with_equals_signs(command, data, repository):
    (data / "one.zarr").rename(data / "day=1")
    command("ingest", f"{data}/day=1", repository).says("day=1 (zarr) is /:")
    command("ingest", f"{data}/day=1=/x", repository).says("is /x:")


def test_a_group_a_format_and_a_branch(command, data, repository):
    before = official(repository).lookup_branch("main")
    official(repository).create_branch("dev", before)
    flags = ("--group", "inner", "--format", "zarr", "--branch", "dev")
    command("ingest", data / "one.zarr", repository, *flags).says()
    assert set(arrays(repository, "dev")) == {"b"}
    assert official(repository).lookup_branch("main") == before


def test_append_and_overwrite(command, data, repository):
    for _ in range(2):
        command(
            "ingest", data / "file.nc", repository, "--into", "x", "--append-dim", "time"
        ).says()
    assert arrays(repository)["x/t"].shape == (8,)
    again = ("ingest", data / "one.zarr", repository, "--into", "x")
    command(*again).fails(2, "/x exists", "--overwrite", "--append-dim")
    command(*again, "--overwrite").says()
    assert set(arrays(repository)) == {"x/a", "x/inner/b"}
    command(*again, "--overwrite", "--append-dim", "time").fails(2, "give one of them")


def test_what_fails(command, data, repository, tmp_path):
    (data / "broken.zarr").mkdir()
    (data / "broken.zarr" / "zarr.json").write_text("{")
    before = len(list(official(repository).ancestry(branch="main")))
    command("ingest", data / "missing", repository).fails(2, "missing does not exist")
    command("ingest", data / "broken.zarr", repository).fails(2, "half-written")
    command("ingest", data / "one.zarr", tmp_path / "nothing").fails(10, "no Icechunk repository")
    command("ingest", data / "one.zarr", repository, "--branch", "other").fails(2, "other")
    command("ingest", data / "one.zarr", repository, "--format", "hdf5").fails(2, "is a directory")
    command("ingest", "gs://bucket/x.zarr", repository).fails(2, "no virtual chunk container")
    command("ingest", data / "one.zarr").fails(2, "Missing argument")
    command("ingest", data / "one.zarr", repository, "--into", "a/../b").fails(2, "no node")
    both = (data / "one.zarr", data / "two.zarr")
    command("ingest", *(f"{each}=/x" for each in both), repository).fails(2, "would both be /x")
    assert len(list(official(repository).ancestry(branch="main"))) == before


def test_keep_going(command, data, repository):
    sources = (data / "one.zarr", data / "missing")
    outcome = command("ingest", *sources, repository, "--keep-going")
    assert outcome.status == 3
    assert "missing: " in outcome.err
    assert "left out" in outcome.err
    assert "is /one" in outcome.out
    told = command("ingest", data / "missing", repository, "--keep-going", "--json")
    assert told.status == 3
    assert told.json["snapshot"] is None
    assert told.json["failed"][0]["source"] == f"file://{data}/missing"


def test_without_the_extra_it_says_so(command, data, repository, monkeypatch):
    monkeypatch.setitem(sys.modules, "virtualizarr.parsers", None)
    outcome = command("ingest", data / "file.nc", repository)
    outcome.fails(2, "pip install 'zfuse[ingest]'")
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    bucket = ("s3://bucket/x.zarr", "--anonymous", "--endpoint-url", "http://127.0.0.1:9")
    command("ingest", *bucket, repository).fails(2, "pip install 'zfuse[ingest]'")
    command("ingest", data / "one.zarr", repository).says()  # local Zarr takes what zfuse has


@pytest.mark.fuse
def test_a_mount_shows_it(command, data, repository, tmp_path):
    """All values through a mount; bulk work goes to the repository, not through the mount."""
    make_v3(data / "all.zarr")
    settle(data)
    allow = ("--allow-virtual", f"file://{data}/")
    with mounting(repository, tmp_path / "mnt", *allow) as mounted:
        branch = mounted.path / "branch" / "main"
        command("ingest", data / "all.zarr", branch, "--into", "v3").says("is /v3")
        command("ingest", data / "one.zarr", branch / "v3" / "below").says("is /v3/below")
        command("ingest", data / "file.nc", branch, "--into", "nc").says()
        found = arrays_of(branch)
        expected = {f"v3/{name}": values for name, values in arrays_of(data / "all.zarr").items()}
        below = arrays_of(data / "one.zarr")
        expected |= {f"v3/below/{name}": values for name, values in below.items()}
        equal_arrays({k: v for k, v in found.items() if k in expected}, expected)
        with (
            xr.open_datatree(data / "file.nc", engine="netcdf4") as file,
            xr.open_datatree(branch / "nc", engine="zarr", consolidated=False) as tree,
        ):
            xr.testing.assert_identical(tree.load(), file.load())
        tag = mounted.path / "snapshot" / official(repository).lookup_branch("main")
        command("ingest", data / "one.zarr", tag).fails(2, "never changes")


@pytest.mark.fuse
def test_a_writable_mount_with_changes_moves_under_them(command, data, repository, tmp_path):
    arguments = ("--rw", "--journal", str(tmp_path / "state"))
    with mounting(repository, tmp_path / "mnt", *arguments) as mounted:
        branch = mounted.path / "branch" / "main"
        zarr.create_array(branch / "mine", data=GRID)
        command("ingest", data / "one.zarr", branch, "--into", "theirs").says()
        assert sorted(os.listdir(branch)) == ["mine", "theirs", "zarr.json"]
        command("sync", branch, "-m", "mine").says()
        assert {"mine", "theirs/a", "theirs/inner/b"} == set(arrays(repository))
        zarr.create_array(branch / "new", data=GRID)
        outcome = command("ingest", data / "two.zarr", branch, "--into", "new")
        assert outcome.status == 0
        assert "the mount does not show it yet" in outcome.err
        assert {"new/a", "new/inner/b"} <= set(arrays(repository))


@pytest.mark.fuse
def test_a_bucket_for_some(command, data, s3_server, repository, monkeypatch, tmp_path):
    """The credentials are those of the environment; none of them is kept."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    bucket = s3_server.make_bucket()
    with contextlib.closing(s3_server.client()) as client:
        for path in (data / "one.zarr").rglob("*"):
            if path.is_file():
                key = f"one.zarr/{path.relative_to(data / 'one.zarr')}"
                client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
    outcome = command("ingest", f"s3://{bucket}/one.zarr", repository)
    outcome.says("is /:", f"--allow-virtual s3://{bucket}/=env")
    kept = b"".join(path.read_bytes() for path in repository.rglob("*") if path.is_file())
    assert s3_server.secret_key.encode() not in kept
    assert s3_server.access_key.encode() not in kept
    key = f"{repository}", "a/c/0/0"
    allow = f"s3://{bucket}/=env"
    outcome = command("cat", *key, "--allow-virtual", allow, "--json")
    assert outcome.json["size"] == (data / "one.zarr" / "a" / "0.0").stat().st_size
    with mounting(repository, tmp_path / "mnt", "--branch", "main", "--allow-virtual", allow) as m:
        equal_arrays(arrays_of(m.path), arrays_of(data / "one.zarr"))
    command("create", f"s3://{bucket}/repository").says()
    command("ingest", f"s3://{bucket}/one.zarr", f"s3://{bucket}/repository", "--json").says()
    denied = command("ingest", f"s3://{bucket}/one.zarr", repository, "--into", "x", "--anonymous")
    denied.fails(12, "may not be read")


@pytest.mark.long
def test_a_killed_run_goes_on(data, repository, home, tmp_path):
    """Whatever moment it is killed at, --resume ends it, and nothing is half there before."""
    names = []
    for number in range(30):
        group = zarr.open_group(data / f"s{number}.zarr", mode="w", zarr_format=2)
        group.create_array("a", data=GRID, chunks=(1, 1))
        names.append(str(data / f"s{number}.zarr"))
    settle(data)
    arguments = [sys.executable, "-m", "zfuse", "ingest", *names, str(repository), "--resume"]
    for delay in (0.9, 1.3, 1.7, 2.1):
        process = subprocess.Popen(arguments, env=home, stderr=subprocess.PIPE)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = subprocess.run(arguments, env=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "exists" in done.stderr, done.stderr
    assert len(arrays(repository)) == 30
    assert len(list(official(repository).ancestry(branch="main"))) == 2
    assert not list((tmp_path / "home").rglob("*.npz"))


def test_an_interrupt_ends_it_at_once(data, repository, home):
    """Also while threads parse, which nothing can stop."""
    sources = [f"{data / 'file.nc'}=/n{number}" for number in range(1000)]
    arguments = [sys.executable, "-m", "zfuse", "ingest", *sources, str(repository)]
    kept = Path(home["HOME"], ".local", "state", "zfuse", "ingest")
    with subprocess.Popen(arguments, env=home) as process:
        while not list(kept.glob("*/*.npz")):  # it is at it
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert len(list(official(repository).ancestry(branch="main"))) == 1
