"""Writers keep writing while a mount is synced ten times: nothing is lost, nothing half done."""

import contextlib
import json
import subprocess
import sys
import threading
import time

import pytest
import trio

from tests.compat.documents import GROUP
from tests.faults.killing import files_below
from tests.mount.busy_writers import SIZES, content
from tests.mount.settling import wait_for
from tests.repo.driving import official
from tests.repo.editing import official_keys
from zfuse.errors import NotMountedError
from zfuse.repo.create import create_repository
from zfuse.storage.local import LocalStorage

pytestmark = [pytest.mark.fuse, pytest.mark.compat]

SYNCS = 10
LONG = pytest.mark.long


@pytest.fixture
def notes(tmp_path):
    """Where writers tell what they wrote."""
    place = tmp_path / "notes"
    place.mkdir()
    return place


@pytest.fixture
def start(notes):
    """A function that starts all writers on a branch; they end with the test."""
    with contextlib.ExitStack() as stack:

        def begin(branch):
            command = [sys.executable, "-m", "tests.mount.busy_writers"]
            writers = []
            for role in SIZES:
                arguments = [role, str(branch), str(notes)]
                writer = subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True)
                stack.callback(writer.communicate)
                stack.callback(writer.kill)
                writers.append(writer)
            return writers

        yield begin


def wait_for_all(writers, notes):
    """Return once each writer has written something."""
    while len(list(notes.glob("*.closed"))) < len(SIZES):
        assert all(writer.poll() is None for writer in writers)
        time.sleep(0.05)


def wait_for_more(notes):
    """Return once a writer has begun and closed another file, since this was called."""
    replaced = newest(notes, "replacer")
    # The next one may have been begun before.
    wait_for(lambda: newest(notes, "replacer") >= replaced + 2)


def newest(notes, role):
    numbers = told(notes, "closed")
    return max(number for key, number in numbers.items() if key.startswith(f"{role}/"))


def sync_for_ever(mount):
    while True:
        mount.call("sync", branch="main", message="more")


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


def test_nothing_is_lost(tmp_path, mounted, notes, start):
    trio.run(create_repository, LocalStorage(tmp_path / "r"))
    mount = mounted(tmp_path / "r", "--rw", "--journal", str(tmp_path / "state"))
    branch = mount.path / "branch" / "main"
    (branch / "zarr.json").write_bytes(GROUP)
    writers = start(branch)
    closed = []
    try:
        wait_for_all(writers, notes)
        for n in range(SYNCS):
            closed.append(told(notes, "closed"))
            mount.call("sync", branch="main", message=f"sync {n}")
            wait_for_more(notes)
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
    assert len({frozenset(commit.items()) for commit in commits}) == SYNCS + 1  # all wrote on
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


@pytest.mark.parametrize("seconds", [0.5, *(pytest.param(n / 3, marks=LONG) for n in range(6))])
def test_the_daemon_dies_under_it_all(tmp_path, mounted, notes, start, seconds):
    trio.run(create_repository, LocalStorage(tmp_path / "r"))
    arguments = ("--rw", "--journal", str(tmp_path / "state"))
    mount = mounted(tmp_path / "r", *arguments)
    branch = mount.path / "branch" / "main"
    (branch / "zarr.json").write_bytes(GROUP)
    writers = start(branch)
    wait_for_all(writers, notes)
    killing = threading.Timer(seconds, mount.daemon.kill)
    killing.start()
    with pytest.raises(NotMountedError):
        sync_for_ever(mount)
    killing.join()
    for writer in writers:
        _, said = writer.communicate(timeout=60)
        assert "OSError" in said or "Error: [Errno" in said, said
    closed = told(notes, "closed")
    assert {key.split("/")[0] for key in closed} >= SIZES.keys() - {"deleter"}
    again = mounted(tmp_path / "r", *arguments).path / "branch" / "main"
    lost = {key for key, number in closed.items() if not is_there(again, key, number)}
    # what a writer was about to replace or delete as the daemon died
    assert len(lost) == len({key.split("/")[0] for key in lost}), lost
    assert not any(key.startswith(("replacer/", "mover/")) for key in lost), lost


def is_there(branch, key, number):
    """Tell whether a chunk that was closed is there, or a newer one in its place."""
    role, *_, place = key.split("/")
    pattern = f"mover/g?/a/c/{place}" if role == "mover" else key
    for path in branch.glob(pattern):
        data = path.read_bytes()
        found = int.from_bytes(data[:8])
        return data == content(found, role) and found >= number
    return False
