"""Damaged, missing and foreign metadata: an exit code or EIO, and a line that names the file."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from tests.compat.documents import GROUP, array_document, put_all
from tests.compat.place import changing, create, local_place
from tests.mount.mounting import failing_mount, mounting

pytestmark = [pytest.mark.compat, pytest.mark.fuse]

SPEC_BYTE, TYPE_BYTE, PAYLOAD = 36, 37, 39


@pytest.fixture(scope="module", params=[1, 2], ids=["spec1", "spec2"])
def whole(request, tmp_path_factory):
    """A repository with the branches main and dev, which share nothing."""
    repo = create(local_place(tmp_path_factory.mktemp("whole")), request.param)
    repo.save_config()
    repo.create_branch("dev", repo.lookup_branch("main"))
    for branch in ("main", "dev"):
        with changing(repo, f"on {branch}", branch=branch) as store:
            put_all(store, {"zarr.json": GROUP, "a/zarr.json": array_document((9,), (1,))})
            put_all(store, {f"a/c/{n}": branch.encode() * 200 for n in range(3)})
    snapshots = {branch: repo.lookup_branch(branch) for branch in ("main", "dev")}
    manifests = {
        branch: repo.list_manifest_files(snapshot)[0].id for branch, snapshot in snapshots.items()
    }
    place = Path(tmp_path_factory.getbasetemp(), f"whole{request.param - 1}", "repository")
    return request.param, snapshots, manifests, place


@pytest.fixture
def place(whole, tmp_path):
    return Path(shutil.copytree(whole[3], tmp_path / "repository"))


@pytest.fixture
def snapshot(whole, place):
    """The file of the snapshot that dev points at."""
    return place / "snapshots" / whole[1]["dev"]


@pytest.fixture
def manifest(whole, place):
    return place / "manifests" / whole[2]["dev"]


def flip(file, position, mask=0x01):
    content = bytearray(file.read_bytes())
    content[position] ^= mask
    file.write_bytes(content)


DAMAGES = {
    "truncated": lambda file: os.truncate(file, file.stat().st_size // 2),
    "emptied": lambda file: os.truncate(file, 0),
    "magic flipped": lambda file: flip(file, 0),
    "another type": lambda file: flip(file, TYPE_BYTE),
    "frame flipped": lambda file: flip(file, PAYLOAD),
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
}


def mount_fails(place, tmp_path, *options):
    """Try to mount, and return the exit code and what was said."""
    return failing_mount(place, tmp_path / "mount", *options)


def refused(action, *arguments):
    """Return the errno of *action*."""
    with pytest.raises(OSError) as error:  # noqa: PT011 - the errno is what is looked at
        action(*arguments)
    return error.value.errno


def errors_in(log):
    lines = log.read_text().splitlines()
    return [line for line in lines if " ERROR " in line or " WARNING " in line]


@pytest.mark.parametrize("damage", ["truncated", "another type", "frame flipped"])
def test_a_damaged_snapshot(damage, snapshot, place, tmp_path):
    """An error of the mount that shows nothing else; else of who looks into that branch."""
    DAMAGES[damage](snapshot)
    code, line = mount_fails(place, tmp_path, "--branch", "dev")
    assert code == 8, line
    assert snapshot.name in line
    with mounting(place, tmp_path / "all") as mount:
        dev, main = mount.path / "branch/dev", mount.path / "branch/main"
        assert sorted(os.listdir(mount.path / "branch")) == ["dev", "main"]
        assert refused(os.listdir, dev) == errno.EIO
        assert refused((dev / "zarr.json").read_bytes) == errno.EIO
        assert refused(os.stat, dev / "a/c/0") == errno.EIO
        assert (main / "a/c/0").read_bytes() == b"main" * 200
        assert all(snapshot.name in line for line in errors_in(mount.log))
        assert len(errors_in(mount.log)) == 3


@pytest.mark.parametrize("damage", ["truncated", "frame flipped"])
def test_a_damaged_manifest(damage, manifest, place, tmp_path):
    DAMAGES[damage](manifest)
    assert_chunks_cannot_be_had(place, tmp_path, manifest.name)


def test_a_missing_manifest(manifest, place, tmp_path):
    manifest.unlink()
    assert_chunks_cannot_be_had(place, tmp_path, manifest.name)


def assert_chunks_cannot_be_had(place, tmp_path, name):
    """EIO for every chunk, there or not: absence means the fill value, and nobody knows."""
    with mounting(place, tmp_path / "mount", "--branch", "dev") as mount:
        array = mount.path / "a"
        assert b"node_type" in (array / "zarr.json").read_bytes()
        assert refused((array / "c/0").read_bytes) == errno.EIO
        assert refused(os.stat, array / "c/8") == errno.EIO
        assert refused(os.listdir, array / "c") == errno.EIO
        assert len(errors_in(mount.log)) == 3
        assert all(name in line for line in errors_in(mount.log))


def test_a_missing_snapshot(snapshot, place, tmp_path):
    snapshot.unlink()
    code, line = mount_fails(place, tmp_path, "--branch", "dev")
    assert code == 8
    assert snapshot.name in line
    with mounting(place, tmp_path / "all") as mount:
        assert refused(os.listdir, mount.path / "branch/dev") == errno.EIO
        assert len(os.listdir(mount.path / "branch/main")) == 2


@pytest.mark.parametrize("damage", ["truncated"])
def test_a_damaged_transaction_log_costs_change_times_only(damage, whole, place, tmp_path):
    DAMAGES[damage](place / "transactions" / whole[1]["dev"])
    with mounting(place, tmp_path / "mount", "--branch", "dev") as mount:
        assert (mount.path / "a/c/0").read_bytes() == b"dev" * 200


def entry_of(spec, place):
    return place / ("repo" if spec == 2 else "refs/branch.main/ref.json")


@pytest.mark.parametrize("damage", ["truncated", "emptied", "magic flipped"])
def test_a_damaged_entry(damage, whole, place, tmp_path):
    entry = entry_of(whole[0], place)
    DAMAGES[damage](entry)
    code, line = mount_fails(place, tmp_path)
    assert code == 8, line
    assert str(entry.relative_to(place)) in line


@pytest.mark.parametrize("content", [b"storage: [", b"- 1\n", b"\xc3(", b"manifest: !what {x: 1"])
def test_a_damaged_configuration(content, whole, place, tmp_path):
    if whole[0] == 2:
        pytest.skip("it is in the repo info")
    (place / "config.yaml").write_bytes(content)
    code, line = mount_fails(place, tmp_path)
    assert code == 8, line
    assert "config.yaml" in line


@pytest.mark.parametrize("kind", ["entry", "snapshot"])
def test_a_newer_version(kind, whole, place, snapshot, tmp_path):
    file = {"entry": entry_of(whole[0], place), "snapshot": snapshot}[kind]
    if file.suffix == ".json":
        pytest.skip("version 1 has no version there")
    content = bytearray(file.read_bytes())
    content[SPEC_BYTE] = 3
    file.write_bytes(content)
    code, line = mount_fails(place, tmp_path, "--branch", "dev")
    assert code == 2
    assert "version 3" in line


def test_a_newer_manifest(place, manifest, tmp_path):
    content = bytearray(manifest.read_bytes())
    content[SPEC_BYTE] = 3
    manifest.write_bytes(content)
    assert_chunks_cannot_be_had(place, tmp_path, manifest.name)


def test_not_a_repository(place, tmp_path):
    for location in (place / "chunks", tmp_path / "nowhere"):
        code, line = mount_fails(location, tmp_path)
        assert code == 10
        assert str(location) in line
        assert "zfuse create" in line
    empty = tmp_path / "empty"
    empty.mkdir()
    assert mount_fails(empty, tmp_path)[0] == 10
    assert os.listdir(empty) == []


def test_a_file_is_no_repository(place, tmp_path):
    code, line = mount_fails(next((place / "snapshots").iterdir()), tmp_path)
    assert code == 10, line
