"""A session outlives its mount, belongs to one mount at a time, and is never lost."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from tests.compat.documents import array_document
from tests.faults.killing import chunk, files_below, make_repository
from tests.mount.mounting import END_S, failing_mount
from tests.repo.driving import official
from tests.repo.editing import official_keys

pytestmark = [pytest.mark.fuse, pytest.mark.compat]

NEW = {"new/zarr.json": array_document((4,), (1,)), "new/c/0": chunk(1), "notes.txt": b"mine"}


@pytest.fixture
def place(tmp_path):
    """A directory with the repository ``r``, and sessions in ``state``."""
    make_repository(tmp_path / "r")
    return tmp_path


@pytest.fixture
def writable(place, mounted):
    """A function that mounts the repository for writing."""
    return lambda *arguments: mounted(
        place / "r", "--rw", "--journal", str(place / "state"), *arguments
    )


def zfuse(*arguments):
    """Run the command; return its exit code and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "zfuse", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def write(directory, files=NEW):
    for path, data in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(data)


def refuses(directory):
    with pytest.raises(OSError, match=os.strerror(errno.EBUSY)):
        (directory / "x").write_bytes(b"1")


def stop(mounted):
    mounted.daemon.send_signal(signal.SIGTERM)
    assert mounted.daemon.wait(END_S) == 0


def keys(place, branch="main"):
    repo = official(place / "r")
    return official_keys(repo, repo.lookup_branch(branch))


def messages(place, branch="main"):
    return [info.message for info in official(place / "r").ancestry(branch=branch)]


def saved(place):
    """Save the only session there is, and return its files."""
    status, said = zfuse("recover", "1", place / "saved", "--journal", place / "state")
    assert status == 0, said
    return files_below(place / "saved")


@pytest.mark.parametrize("has_changes", [False, True])
def test_a_branch_is_mounted_for_writing_once(place, writable, has_changes):
    first = writable("--branch", "main")
    if has_changes:
        write(first.path)
    arguments = ("--rw", "--journal", str(place / "state"), "--branch", "main")
    status, said = failing_mount(place / "r", place / "other", *arguments)
    assert (status, f"pid {first.daemon.pid}" in said) == (7, True), said
    stop(first)
    again = writable("--branch", "main")
    assert files_below(again.path).items() >= (NEW if has_changes else {}).items()


@pytest.mark.expects_log("can only be read")
def test_another_mount_of_all_branches_shows_what_it_can_not_write(writable):
    first = writable()
    write(first.path / "branch/main")
    second = writable()
    main = second.path / "branch/main"
    shown = files_below(main)
    assert "old/c/0" in shown
    assert not NEW.keys() & shown.keys()
    refuses(main)
    assert "can only be read" in second.log.read_text()
    assert files_below(first.path / "branch/main") == shown | NEW


def test_who_writes_first_has_the_session(writable):
    first, second = writable(), writable()
    main = first.path / "branch/main"
    before = files_below(main)
    write(second.path / "branch/main")
    refuses(main)
    second.call("sync", branch="main", message="second")
    (second.path / "branch/main/notes.txt").unlink()
    stop(second)
    assert files_below(main) == before
    write(main, {"notes.txt": b"mine now"})
    assert zfuse("refresh", main)[0] == 0
    assert files_below(main) == before | NEW | {"notes.txt": b"mine now"}


def test_changes_that_another_left_are_not_mixed_with(writable):
    first, second = writable(), writable()
    main = first.path / "branch/main"
    before = files_below(main)
    write(second.path / "branch/main")
    stop(second)
    refuses(main)
    assert files_below(main) == before
    stop(first)
    assert files_below(writable().path / "branch/main") == before | NEW


@pytest.mark.parametrize("arguments", [(), ("--branch", "main")])
def test_a_session_outlives_a_clean_end(place, writable, arguments):
    first = writable(*arguments)
    top = "branch/main" if not arguments else "."
    write(first.path / top)
    held = (first.path / top / "new/c/1").open("wb")
    held.write(b"x" * 5000)
    held.flush()
    stop(first)
    with pytest.raises(OSError, match=r"not connected|aborted"):
        held.close()
    second = writable(*arguments)
    found = files_below(second.path / top)
    assert found.items() >= NEW.items()
    assert "a session with changes was found" in second.log.read_text()
    (second.path / top / "new/c/1").unlink()
    second.call("sync", branch="main", message="late")
    assert keys(place).items() >= {k: v for k, v in NEW.items() if k != "notes.txt"}.items()


# --- the branch goes away ----------------------------------------------------------------------


def forget_base(place):
    """Let the snapshot that a session began from be gone: others went on, and cleaned up."""
    repo = official(place / "r")
    session = repo.writable_session("main")
    snapshot = session.commit("theirs", allow_empty=True)
    info = next(iter(repo.ancestry(snapshot_id=snapshot)))
    repo.expire_snapshots(older_than=info.written_at)
    repo.garbage_collect(info.written_at)


def delete_branch(place):
    repo = official(place / "r")
    repo.create_branch("other", repo.lookup_branch("main"))
    repo.delete_branch("topic")


def reset_branch(place):
    repo = official(place / "r")
    first = list(repo.ancestry(branch="topic"))[-1].id
    repo.reset_branch("topic", first)


def topic(place):
    repo = official(place / "r")
    repo.create_branch("topic", repo.lookup_branch("main"))


def test_the_branch_is_deleted_while_nobody_has_it_mounted(place, writable):
    topic(place)
    first = writable("--branch", "topic")
    write(first.path)
    stop(first)
    delete_branch(place)
    arguments = ("--rw", "--journal", str(place / "state"))
    status, said = failing_mount(place / "r", place / "m", *arguments, "--branch", "topic")
    assert (status, "'topic'" in said) == (2, True), said
    everything = writable()
    assert files_below(everything.path / "branch/main")["old/c/0"]
    assert "zfuse recover" in everything.log.read_text()
    assert saved(place) == NEW


def test_the_branch_is_deleted_under_a_mount(place, writable):
    topic(place)
    first = writable()
    write(first.path / "branch/topic")
    delete_branch(place)
    status, said = zfuse("sync", first.path / "branch/topic", "-m", "lost?")
    assert status in {2, 5}, said
    assert "zfuse: " in said
    assert "Traceback" not in said
    assert files_below(first.path / "branch/topic").items() >= NEW.items()
    status, said = zfuse("sync", first.path / "branch/topic", "-m", "kept", "--new-branch", "b2")
    assert status == 0, said
    assert keys(place, "b2").items() >= {k: v for k, v in NEW.items() if "txt" not in k}.items()


@pytest.mark.parametrize("remounts", [False, True])
def test_the_branch_is_reset(place, writable, remounts):
    topic(place)
    first = writable()
    write(first.path / "branch/topic")
    if remounts:
        stop(first)
    reset_branch(place)
    mount = writable() if remounts else first
    branch = mount.path / "branch/topic"
    assert files_below(branch).items() >= NEW.items()
    status, said = zfuse("sync", branch, "-m", "lost?")
    assert (status, "was reset" in said) == (5, True), said
    assert files_below(branch).items() >= NEW.items()
    status, said = zfuse("sync", branch, "-m", "kept", "--new-branch", "b2")
    assert status == 0, said
    assert keys(place, "b2").items() >= {k: v for k, v in NEW.items() if "txt" not in k}.items()


def test_the_base_is_gone(place, writable):
    first = writable()
    write(first.path / "branch/main")
    stop(first)
    forget_base(place)
    arguments = ("--rw", "--journal", str(place / "state"))
    status, said = failing_mount(place / "r", place / "m", *arguments, "--branch", "main")
    assert (status, "zfuse recover" in said) == (5, True), said
    everything = writable()
    shown = files_below(everything.path / "branch/main")
    assert shown["old/c/0"]
    assert not NEW.keys() & shown.keys()
    refuses(everything.path / "branch/main")
    stop(everything)
    assert saved(place) == NEW
    assert zfuse("recover", "1", "--delete", "--journal", place / "state")[0] == 0
    anew = writable()
    write(anew.path / "branch/main", files_below(place / "saved"))
    anew.call("sync", branch="main", message="rescued")
    assert messages(place)[0] == "rescued"
