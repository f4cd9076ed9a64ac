"""``zfuse mv`` and ``zfuse cp``: nodes move and are copied, chunks stay where they are."""

import subprocess

import icechunk
import pytest
import zarr

from tests.cli.working import GROUP, branch, command, single, work
from tests.compat.documents import array_document, put
from tests.compat.place import changing, create, local_place
from tests.mount.mounting import mounting

__all__ = ["branch", "command", "single", "work"]  # fixtures

pytestmark = pytest.mark.fuse


def below(files, path):
    return {key[len(path) :]: data for key, data in files.items() if key.startswith(path)}


def test_mv_moves_a_node_and_stores_no_chunk(command, branch, work):
    base = branch.files()
    chunks = work.objects("chunks")
    branch.write("new/zarr.json", GROUP)
    told = command("mv", branch.path / "line", branch.path / "new/line", "--json").json
    assert told == {"from": str(branch.path / "line"), "to": str(branch.path / "new/line")}
    command("mv", branch.path / "g", branch.path / "h").says()
    assert below(branch.files(), "new/line/") == below(base, "line/")
    told = command("sync", branch.path, "-m", "move", "--json").json
    assert told["moved"][-1] == {"from": "/line", "to": "/new/line"}
    assert told["chunks_stored"] == 0
    assert work.objects("chunks") == chunks
    assert below(branch.committed(), "h/") == below(base, "g/")
    official = work.official()
    newest, before, *_ = branch.history()
    diff = official.diff(from_snapshot_id=before.id, to_snapshot_id=newest.id)
    assert sorted(diff.moved_nodes) == [
        *(("/g", "/h"), ("/g/square", "/h/square"), ("/line", "/new/line"))
    ]


def test_cp_copies_a_node_and_stores_no_chunk(command, branch, work):
    base = branch.files()
    chunks = work.objects("chunks")
    assert not (branch.path / "again").exists()
    command("cp", branch.path / "line", branch.path / "again").says()
    command("cp", branch.path / "g", branch.path / "h").says()
    assert below(branch.files(), "again/") == below(base, "line/")
    assert sorted(path.name for path in branch.path.iterdir()) == [
        *("again", "g", "h", "line", "zarr.json")
    ]
    told = command("sync", branch.path, "-m", "copy", "--json").json
    assert told["copied"][-1] == {"from": "/line", "to": "/again"}
    assert told["chunks_stored"] == 0
    assert work.objects("chunks") == chunks
    assert branch.committed() == branch.files()
    branch.write("again/c/0", b"of the copy alone")
    command("sync", branch.path, "-m", "write").says("is at")
    assert branch.committed()["line/c/0"] == base["line/c/0"]
    assert branch.committed()["again/c/0"] == b"of the copy alone"


def test_uncommitted_work_is_copied_too(command, branch):
    branch.write("n/zarr.json", array_document((4,), (1,)))
    branch.write("n/c/0", b"n" * 900)
    command("cp", branch.path / "n", branch.path / "m").says()
    branch.write("n/c/0", b"changed later")
    assert (branch.path / "m/c/0").read_bytes() == b"n" * 900
    command("sync", branch.path, "-m", "x").says("is at")
    assert branch.committed()["m/c/0"] == b"n" * 900


@pytest.mark.parametrize("name", ["mv", "cp"])
def test_what_can_not_be_is_said(command, branch, work, tmp_path, name):
    base = branch.files()
    line, other = branch.path / "line", work.mounted.path / "branch" / "main"
    command(name, branch.path / "none", branch.path / "x").fails(2, "none")
    command(name, line, branch.path / "g").fails(2, "g exists")
    command(name, line, branch.path / "none" / "x").fails(2, "none")
    command(name, line, other / "x").fails(2, "not in one branch")
    command(name, branch.path, branch.path / "x").fails(2, "root of a branch")
    command(name, line, tmp_path / "x").fails(6, "not inside a zfuse mount")
    command(name, work.mounted.path / "tag/v1/line", line).fails(2, "is in no branch")
    command(name, line, branch.path).fails(2)
    command(name, branch.path / "g", line / "x").fails(2, "line is an array")
    assert branch.files() == base
    if name == "mv":
        command(name, branch.path / "g", branch.path / "g" / "x").fails(2, "can not become")


def test_a_mount_that_can_only_be_read_says_so(command, work, tmp_path):
    with mounting(work.repo, tmp_path / "mnt") as mounted:
        place = mounted.path / "branch" / "main"
        command("cp", place / "line", place / "x").fails(2, "--rw")
        command("mv", place / "line", place / "x").fails(2, "Read-only")


def manifest_of_a_million(place):
    """Make a repository with an array of 1,000,000 virtual chunks."""
    container = f"file://{place.data}/"
    config = icechunk.RepositoryConfig.default()
    store = icechunk.local_filesystem_store(str(place.data))
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(container, store))
    source = f"{container}file"
    with changing(create(place, 2, config), "base") as opened:
        put(opened, "zarr.json", GROUP)
        put(opened, "big/zarr.json", array_document((1000, 1000), (1, 1)))
        specs = [
            icechunk.VirtualChunkSpec([n // 1000, n % 1000], source, n % 999, 1)
            for n in range(1_000_000)
        ]
        opened.set_virtual_refs("/big", specs, validate_containers=False)


def test_a_million_chunks_move_at_once_and_nothing_is_stored(command, tmp_path):
    manifest_of_a_million(local_place(tmp_path))
    repo = tmp_path / "repository"
    state = ("--rw", "--journal", str(tmp_path / "state"))
    with mounting(repo, tmp_path / "mnt", *state) as mounted:
        main = mounted.path / "branch" / "main"
        manifests = set((repo / "manifests").iterdir())
        subprocess.run(["mv", main / "big", main / "moved"], check=True)
        told = command("sync", main, "-m", "move", "--json").json
        assert told["moved"] == [{"from": "/big", "to": "/moved"}]
        assert (told["chunks_stored"], told["chunks"]) == (0, [])
        assert set((repo / "manifests").iterdir()) == manifests
        command("cp", main / "moved", main / "copy").says()
        told = command("sync", main, "-m", "copy", "--json").json
        assert (told["chunks_stored"], told["chunks"]) == (0, [])
        assert (main / "moved" / "zarr.json").read_bytes() == (
            main / "copy" / "zarr.json"
        ).read_bytes()
        assert not list((repo / "chunks").glob("*"))


def test_a_repository_that_is_not_mounted_changes_at_once(command, branch, work):
    base = branch.committed()
    repo, name = str(work.repo), branch.name
    chunks = work.objects("chunks")
    told = command("move", repo, "line", "/k", "--branch", name, "-m", "move", "--json").json
    assert (told["from"], told["to"], told["branch"]) == ("/line", "/k", name)
    assert told["snapshot"] == branch.history()[0].id
    command("cp", repo, "/g", "h", "--branch", name, "-m", "copy").says(branch.history()[0].id)
    files = branch.committed()
    assert below(files, "k/") == below(base, "line/")
    assert below(files, "h/") == below(files, "g/") == below(base, "g/")
    assert work.objects("chunks") == chunks
    assert [info.message for info in branch.history()[:2]] == ["copy", "move"]
    command("mv", repo, "/nothing", "/x", "--branch", name, "-m", "m").fails(2, "nothing")
    command("mv", repo, "/k", "/g", "--branch", name, "-m", "m").fails(2, "/g")
    command("mv", repo, "/k", "/l", "--branch", name).fails(2, "-m")
    command("mv", repo, "/", "/l", "--branch", name, "-m", "m").fails(2, "root")
    for each in ("mv", "cp"):
        command(each, repo, "g", "k/x/y", "--branch", name, "-m", "m").fails(2, "/k is an array")
    assert branch.committed() == files
    # Everybody finds what is in groups alone, so those that are missing are made.
    command("mv", repo, "h", "new/er/h", "--branch", name, "-m", "m").says("is at")
    command("cp", repo, "k", "new/k", "--branch", name, "-m", "m").says("is at")
    root = zarr.open_group(work.official().readonly_session(name).store, mode="r")
    assert set(dict(root["new"].members())) == {"er", "k"}
    assert set(dict(root["new/er"].members())) == {"h"}
    command("fsck", repo).says("no faults")
