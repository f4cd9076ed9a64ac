"""``--branch``, ``--tag``, ``--snapshot``, ``--as-of``: one version at the mount point itself."""

import json
import os
from datetime import timedelta

import pytest
import zarr

from tests.compat.hierarchy import quiet
from tests.compat.oracle import Ref, assert_shows, official_keys
from tests.compat.place import local_place
from tests.compat.repositories import build

pytestmark = [pytest.mark.compat, pytest.mark.fuse]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return build("refs", 2, local_place(tmp_path_factory.mktemp("single")))


@pytest.fixture(scope="module")
def history(made):
    """The snapshots of main, the oldest first."""
    return [*made.open().ancestry(branch="main")][::-1]


def assert_mounted(path, made, ref, snapshot):
    assert_shows(path, official_keys(made.open(), Ref("snapshot", snapshot)))
    status = json.loads((path / ".zfuse/status.json").read_bytes())
    assert status["ref"] == ref
    assert status["trees"] == [{"ref": ref, "snapshot": snapshot}]


@pytest.mark.parametrize("name", ["main", "a/b", "..", "n" * 300, "x\ny"])
def test_a_branch(made, mount, name):
    path = mount(made.url, "--branch", name)
    assert_mounted(path, made, f"branch/{name}", made.branches[name])


@pytest.mark.parametrize("name", ["v1", "a/b"])
def test_a_tag(made, mount, name):
    path = mount(made.url, "--tag", name)
    assert_mounted(path, made, f"tag/{name}", made.tags[name])


def test_a_snapshot_in_any_spelling(made, mount, history):
    snapshot = history[2].id
    spelled = snapshot.lower().replace("0", "o").replace("1", "l")
    assert spelled != snapshot
    path = mount(made.url, "--snapshot", spelled)
    assert_shows(path, official_keys(made.open(), Ref("snapshot", snapshot)))
    found = os.getxattr(path / "zarr.json", "user.zfuse.snapshot").decode()
    assert found == snapshot


@pytest.mark.parametrize("number", [0, 2])
def test_a_time_means_main_as_it_was(made, mount, history, number):
    moment = history[number].written_at
    path = mount(made.url, "--as-of", moment.isoformat())
    assert_shows(path, official_keys(made.open(), Ref("snapshot", history[number].id)))


def test_times_below_a_mount_of_everything(made, mount, history):
    directory = mount(made.url) / "time"
    for number in range(1, 4):
        before = history[number].written_at - timedelta(microseconds=1)
        utc = before.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        expected = official_keys(made.open(), Ref("snapshot", history[number - 1].id))
        assert_shows(directory / utc, expected)
        assert_shows(directory / before.isoformat(), expected)
    assert os.listdir(directory) == []
    long_ago = history[0].written_at - timedelta(days=1)
    for name in (long_ago.isoformat(), "2999-01-01", "nonsense", "2024-13-01"):
        with pytest.raises(FileNotFoundError):
            os.stat(directory / name)


def test_any_known_snapshot_resolves_in_a_mount_of_everything(made, mount, history):
    directory, snapshot = mount(made.url) / "snapshot", history[2].id
    for name in (snapshot, snapshot.lower()):
        assert_shows(directory / name, official_keys(made.open(), Ref("snapshot", snapshot)))
    for unknown in ("00000000000000000000", "x", "1CECHNKREP0F1RSTCMT00"):
        assert not (directory / unknown).exists()


@quiet
def test_zarr_opens_the_mount_point(mount, tmp_path):
    made = build("xarray", 2, local_place(tmp_path))
    group = zarr.open_group(mount(made.url, "--tag", "first"), mode="r")
    assert group["xr/air"].shape[0] == 6
    assert zarr.open_group(mount(made.url, "--branch", "main"), mode="r")["xr/air"].shape[0] == 8


def test_an_array_at_the_root(mount, tmp_path):
    made = build("root_array", 1, local_place(tmp_path))
    array = zarr.open_array(mount(made.url, "--branch", "main"), mode="r")
    assert array[:].tolist() == [97, 0, 99]


def test_a_node_called_like_the_control_directory(mount, tmp_path):
    """The control files have the name; the node is shown, and read, under another."""
    made = build("refs", 2, local_place(tmp_path))
    repo = made.open()
    session = repo.writable_session("main")
    group = zarr.create_group(session.store, path=".zfuse/inner")
    group.attrs["mine"] = True
    session.commit("a group called .zfuse")
    path = mount(made.url, "--branch", "main")
    assert (path / ".zfuse/status.json").exists()
    assert "%2Ezfuse" in os.listdir(path)
    found = json.loads((path / "%2Ezfuse/inner/zarr.json").read_bytes())
    assert found["attributes"] == {"mine": True}
    whole = mount(made.url) / "branch/main"
    assert (whole / ".zfuse/inner/zarr.json").exists()
