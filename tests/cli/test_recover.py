"""What a dead daemon left: found by the next mount, or saved as files by ``zfuse recover``."""

import os
import shutil
import signal

import pytest

from tests.cli.working import GROUP, LINE, Work, command, make_repository, single
from tests.mount.mounting import END_S, failing_mount, mounting

__all__ = ["command", "single"]  # fixtures

pytestmark = pytest.mark.fuse


@pytest.fixture
def work(tmp_path):
    """A repository of its own, not mounted, and a directory for its sessions."""
    return Work(make_repository(tmp_path), tmp_path / "state", None)


@pytest.fixture
def mount(work, tmp_path):
    """A function that mounts all of it to be written to."""

    def make(*arguments, at="mnt"):
        given = ("--rw", "--journal", str(work.state), *arguments)
        return mounting(work.repo, tmp_path / at, *given)

    return make


@pytest.fixture
def left(mount, work):
    """A session on main that the daemon was killed over, and one on dev."""
    work.official().create_branch("dev", work.official().lookup_branch("main"))
    with mount() as mounted:
        main = mounted.path / "branch" / "main"
        (main / "line/c/0").write_bytes(b"new" * 300)
        (main / "notes.txt").write_bytes(b"of mine")
        os.makedirs(main / "a" / "b")
        (main / "a/b/zarr.json").write_bytes(LINE)
        os.rename(main / "line/c/1", main / "line/c/30")
        (mounted.path / "branch" / "dev" / "zarr.json").write_bytes(GROUP + b" ")
        mounted.daemon.send_signal(signal.SIGKILL)
        mounted.daemon.wait(END_S)
    return work


def told(command, work):
    return command("recover", "--journal", work.state, "--json").json_lines


def test_sessions_are_listed(command, work):
    assert told(command, work) == []
    command("recover", "--journal", work.state).says("no sessions")


def test_a_session_that_was_left_is_listed_and_saved(command, left, tmp_path):
    dev, main = sorted(told(command, left), key=lambda each: each["branch"])
    tip = left.official().lookup_branch("main")
    assert (dev["branch"], main["branch"]) == ("dev", "main")
    assert main["repository"] == f"file://{left.repo}" or main["repository"].endswith("repository")
    assert main["base"] == tip
    assert not main["in_use"]
    assert (main["files"], main["bytes"]) == (4, 900 + 7 + len(LINE) + 700)
    command("recover", "--journal", left.state).says("main", "dev", "kept", "4 files")

    shutil.rmtree(left.repo)  # whatever became of it
    target = tmp_path / "rescued"
    number = str(main["number"])
    outcome = command("recover", number, target, "--journal", left.state, "--json")
    assert outcome.json["directory"] == str(target)
    found = {str(p.relative_to(target)): p.read_bytes() for p in target.rglob("*") if p.is_file()}
    assert found == {
        "line/c/0": b"new" * 300,
        "notes.txt": b"of mine",
        "a/b/zarr.json": LINE,
    }
    assert (outcome.json["files"], outcome.json["left_in_repository"]) == (3, 1)
    assert len(told(command, left)) == 2  # saving takes nothing away
    command("recover", number, target, "--journal", left.state).fails(2, "exists")
    below = target / "notes.txt" / "new"
    command("recover", number, below, "--journal", left.state).fails(2, "Not a directory")
    command("recover", number, "--journal", left.state).fails(2, f"zfuse recover {number} DIR")
    command("recover", "9", target, "--journal", left.state).fails(2, "no session 9")
    command("recover", number, "--delete", "--journal", left.state).says("forgot", "branch main")
    assert [each["branch"] for each in told(command, left)] == ["dev"]


def test_the_next_mount_goes_on_and_says_so(command, left, mount, tmp_path):
    with mount() as mounted:
        main = mounted.path / "branch" / "main"
        assert (main / "line/c/0").read_bytes() == b"new" * 300
        assert (main / "line/c/30").read_bytes() == b"1" * 700
        assert not (main / "line/c/1").exists()
        status = command("status", mounted.path)
        status.says("branch main, since", "found again after its mount had ended", "branch dev")
        assert "a session with changes was found" in mounted.log.read_text()
        assert all(each["in_use"] for each in told(command, left))
        number = next(e["number"] for e in told(command, left) if e["branch"] == "main")
        command("recover", number, "--delete", "--journal", left.state).fails(7, "unmount")
        outcome = command("recover", number, tmp_path / "rescued", "--journal", left.state)
        outcome.says("saved 3 files to", "left out: 1 chunk that the repository has")
        command("sync", main, "-m", "x").says("is at")
        shown = command("status", main)
        shown.says("notes.txt")
        assert (main / "line/c/0").read_bytes() == b"new" * 300


def test_a_mount_in_the_background_says_so(zfuse, left, tmp_path):
    directory = tmp_path / "mnt"
    given = ("mount", "-d", left.repo, directory, "--rw", "--journal", left.state)
    try:
        outcome = zfuse(*given)
        outcome.says("branch main has changes of an earlier mount", "zfuse status", "branch dev")
        kept = f"changes on dev, main are kept in {left.state}; zfuse mount --rw goes on with them"
        assert zfuse("umount", directory).out == kept + "\n"
        assert sorted(zfuse(*given, "--json").json["recovered"]) == ["dev", "main"]
    finally:
        zfuse("umount", "--force", directory)


def test_two_daemons_never_share_a_session(command, left, mount, work, tmp_path):
    with mount(at="first") as first:
        (first.path / "branch" / "main" / "notes.txt").write_bytes(b"more")
        status, said = failing_mount(
            *(work.repo, tmp_path / "alone", "--branch", "main"),
            *("--rw", "--journal", str(work.state)),
        )
        assert status == 7
        assert f"pid {first.daemon.pid}" in said
        with mount(at="second") as second:
            place = second.path / "branch" / "main"
            with pytest.raises(OSError, match="busy"):
                (place / "notes.txt").write_bytes(b"x")
            command("sync", place, "-m", "x").fails(7, f"pid {first.daemon.pid}")
            shown = command("status", second.path / "branch" / "main")
            shown.says("can only be read", f"pid {first.daemon.pid}")
    with mount() as again:
        assert (again.path / "branch" / "main" / "notes.txt").read_bytes() == b"more"


def test_a_branch_that_is_gone_leaves_its_session(command, left, mount):
    left.official().delete_branch("dev")
    with mount() as mounted:
        assert "dev" in mounted.log.read_text()
        shown = command("status", mounted.path)
        shown.says("branch main, since")
    branches = [each["branch"] for each in told(command, left)]
    assert sorted(branches) == ["dev", "main"]


def test_a_session_whose_file_is_damaged_is_said(command, left):
    for path in left.state.glob("sessions/*/dev/session.sqlite*"):
        path.write_bytes(b"this is no database" * 500)
    outcome = command("recover", "--journal", left.state)
    outcome.says("branch main", "4 files", "branch dev", "damaged", "can not be read")
    dev = next(each for each in told(command, left) if each["branch"] == "dev")
    assert "is not a database" in dev["damage"]
    command("recover", dev["number"], left.state / "x", "--journal", left.state).fails(1, "dev")
