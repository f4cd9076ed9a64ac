"""Writers keep writing while a mount is synced ten times: nothing is lost, nothing half done."""

import json
import subprocess
import sys
import time

import pytest
import trio

from tests.compat.documents import GROUP
from tests.faults.killing import files_below
from tests.mount.busy_writers import SIZES, content
from tests.repo.driving import official
from tests.repo.editing import official_keys
from zfuse.repo.create import create_repository
from zfuse.storage.local import LocalStorage

pytestmark = [pytest.mark.fuse, pytest.mark.compat]

SYNCS = 10


@pytest.fixture
def notes(tmp_path):
    """Where writers tell what they wrote; they all end with the test."""
    place = tmp_path / "notes"
    place.mkdir()
    yield place
    (place / "stop").touch()


def start(branch, notes):
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.mount.busy_writers", role, str(branch), str(notes)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for role in SIZES
    ]


def stop(writers, notes):
    (notes / "stop").touch()
    for writer in writers:
        _, said = writer.communicate(timeout=60)
        assert writer.returncode == 0, said


def told(notes, kind):
    """Return the numbers of all chunks that must be there by now."""
    found = {}
    for path in notes.glob(f"*.{kind}"):
        role = path.name.partition(".")[0]
        numbers = json.loads(path.read_text())["numbers"]
        found |= {f"{role}/{name}": number for name, number in numbers.items()}
    return found


def chunks(keys):
    """Return the number of each chunk; all of its bytes must tell the same."""
    found = {}
    for key, data in keys.items():
        if not key.endswith("zarr.json"):
            found[key] = int.from_bytes(data[:8])
            assert data == content(found[key], key.partition("/")[0]), f"{key} is half written"
    return found


def contents(repo):
    """Return the chunks of each commit, oldest first."""
    commits = [info.id for info in repo.ancestry(branch="main")][-2::-1]
    return [chunks(official_keys(repo, commit)) for commit in commits]


def test_nothing_is_lost(tmp_path, mounted, notes):
    trio.run(create_repository, LocalStorage(tmp_path / "r"))
    mount = mounted(tmp_path / "r", "--rw", "--journal", str(tmp_path / "state"))
    branch = mount.path / "branch" / "main"
    (branch / "zarr.json").write_bytes(GROUP)
    writers = start(branch, notes)
    closed = []
    try:
        while len(list(notes.glob("*.closed"))) < len(SIZES):
            assert all(writer.poll() is None for writer in writers)
            time.sleep(0.05)
        for n in range(SYNCS):
            closed.append(told(notes, "closed"))
            mount.call("sync", branch="main", message=f"sync {n}")
    finally:
        stop(writers, notes)
    numbers = told(notes, "json")
    assert chunks(files_below(branch)) == numbers
    mount.call("sync", branch="main", message="rest")
    repo = official(tmp_path / "r")
    commits = contents(repo)
    assert commits[-1] == numbers
    assert files_below(branch) == official_keys(repo, repo.lookup_branch("main"))
    assert [i.message for i in repo.ancestry(branch="main")][-2::-1] == [
        *(f"sync {n}" for n in range(SYNCS)),
        "rest",
    ]
    assert len({frozenset(commit.items()) for commit in commits}) > SYNCS // 2  # all wrote on
    for before, commit in zip(closed, commits, strict=False):
        check(before, commit)
    check_order(commits)


def check(closed, commit):
    """Check that all that was closed before a sync is in its commit, or something newer."""
    for key, number in closed.items():
        if key.startswith(("replacer/", "maker/")):
            assert commit.get(key, -1) >= number, f"{key} lacks {number}"
    moved = {key.split("/")[1] for key in commit if key.startswith("mover/")}
    assert len(moved) == 1, "a moved group is in two places"
    newest = max(number for key, number in closed.items() if key.startswith("mover/"))
    assert max(number for key, number in commit.items() if key.startswith("mover/")) >= newest


def check_order(commits):
    """Check that no commit has anything older than one before it."""
    newest = {}
    for commit in commits:
        for key, number in commit.items():
            role, *_, place = key.split("/")
            name = f"mover/{place}" if role == "mover" else key
            assert number >= newest.get(name, 0), f"{key} went back"
            newest[name] = number
