"""status, umount, refresh and list where branches are written to."""

import json
import os
import time
from types import SimpleNamespace

import pytest

from tests.cli.working import GROUP, Work, branch, command, make_repository, single, work
from tests.compat.documents import get_all, put
from tests.mount.mounting import mounting
from zfuse.cli import refresh
from zfuse.daemon.mountinfo import zfuse_mounts

__all__ = ["branch", "command", "single", "work"]  # fixtures

pytestmark = pytest.mark.fuse


def test_status_tells_all_kinds_of_changes(command, branch, work):
    branch.write("line/c/0", b"new")
    branch.write("n/zarr.json", GROUP)
    branch.write("line/c/77", b"outside")
    branch.write("notes\x1b[31m", b"n")
    os.rename(branch.path / "g", branch.path / "h")
    command("cp", branch.path / "h", branch.path / "i").says()
    with (branch.path / "line/c/2").open("wb") as file:
        file.write(b"half")
        file.flush()
        outcome = command("status", branch.path)
        outcome.says(
            *("new:", "/n", "moved:", "/g -> /h", "copied:", "/g -> /i", "/line: 1 written"),
            *("untracked:", "/notes\\x1b[31m", "being written:", "/line/c/2", "invalid:"),
            "/line/c/77: it lies outside of the array, which has 40 chunks along dimension 0",
        )
        told = command("status", branch.path, "--json").json
    (session,) = [s for s in told["sessions"] if s["branch"] == branch.name]
    assert session["base"] == branch.tip
    assert session["has_changes"]
    assert session["open_files"] == ["/line/c/2"]
    assert session["untracked"] == ["/notes\x1b[31m"]
    assert session["copied"] == [
        {"from": "/g", "to": "/i"},
        {"from": "/g/square", "to": "/i/square"},
    ]
    assert not told["read_only"]


def test_status_of_only_untracked_files(command, branch):
    branch.write("notes", b"n")
    command("status", branch.path).says("nothing to commit", "untracked:")


def test_branches_of_any_name(command, branch, work):
    name = f"{branch.name}/ü %2F?#x"
    work.official().create_branch(name, branch.tip)
    command("refresh", branch.path).says(f"branch/{name} is new")
    (place,) = [p for p in branch.path.parent.iterdir() if p.name.startswith(f"{branch.name}%")]
    (place / "line/c/0").write_bytes(b"new")
    command("status", place).says(f"branch {name}, since", "/line: 1 written")
    told = command("recover", "--journal", work.state, "--json").json_lines
    assert name in {each["branch"] for each in told}
    command("discard", place / "line/c/0").says(f"branch {name}: discarded; no changes are left")
    (place / "line/c/0").write_bytes(b"newer")
    command("sync", place, "-m", "x").says(f"branch {name} is at")
    store = work.official().readonly_session(branch=name).store
    assert get_all(store)["line/c/0"] == b"newer"


def test_names_that_are_no_utf_8(zfuse, branch):
    (branch.path / "line" / "notes \udcff").write_bytes(b"n")
    os.mkdir(branch.path / "x\udcff")
    (branch.path / "x\udcff" / "zarr.json").write_bytes(GROUP)
    outcome = zfuse("status", branch.path)
    outcome.says(r"/line/notes \udcff", r"/x\udcff/zarr.json: Icechunk can not hold")
    told = zfuse("status", branch.path, "--json")
    assert r"/line/notes \udcff" in told.out
    (session,) = [s for s in told.json["sessions"] if s["branch"] == branch.name]
    assert session["untracked"] == ["/line/notes \udcff"]
    zfuse("discard", branch.path / "x\udcff").says("some changes are left")
    zfuse("mv", branch.path / "line", branch.path / "\udcff").says()
    zfuse("discard", branch.path / "\udcff").says("no changes are left")


def test_many_changes_are_cut_short_for_people(command, branch):
    for n in range(30):
        branch.write(f"notes {n}", b"n")
    outcome = command("status", branch.path)
    outcome.says("and 10 more; --json names all")
    sessions = command("status", branch.path, "--json").json["sessions"]
    (session,) = [s for s in sessions if s["branch"] == branch.name]
    assert len(session["untracked"]) == 30


def test_list_and_the_control_files_tell_of_sessions(command, branch, work):
    top = str(work.mounted.path)

    def row():
        rows = command("list", "--json").json_lines
        (found,) = [each for each in rows if each["mountpoint"] == top]
        return found

    assert (row()["read_only"], row()["changed"]) == (False, [])
    branch.write("line/c/0", b"new")
    assert row()["changed"] == [branch.name]
    command("list").says(f"changes on {branch.name}")
    status = json.loads((work.mounted.path / ".zfuse" / "status.json").read_text())
    (session,) = [s for s in status["sessions"] if s["branch"] == branch.name]
    assert session == {
        "branch": branch.name,
        "base": branch.tip,
        "recovered": False,
        "has_changes": True,
        "branch_is_gone": False,
        "refusal": None,
    }
    config = json.loads((work.mounted.path / ".zfuse" / "config.json").read_text())
    assert (config["rw"], config["journal"]) == (True, str(work.state))


def test_refresh_goes_on_under_disjoint_changes(command, branch):
    branch.write("line/c/0", b"mine")
    before = branch.tip
    assert (branch.path / "line/c/1").read_bytes() == b"1" * 700
    theirs = branch.others("theirs", {"line/c/1": b"theirs", "o/zarr.json": GROUP})
    told = command("refresh", branch.path, "--json").json
    assert told["moved"] == [{"branch": branch.name, "before": before, "after": theirs}]
    assert (branch.path / "line/c/1").read_bytes() == b"theirs"
    assert (branch.path / "line/c/0").read_bytes() == b"mine"
    assert (branch.path / "o/zarr.json").read_bytes() == GROUP
    command("refresh", branch.path).says("nothing moved")
    command("sync", branch.path, "-m", "mine").says("is at")
    assert [info.message for info in branch.history()][:2] == ["mine", "theirs"]
    assert branch.committed() == branch.files()


def test_refresh_of_what_both_changed_leaves_everything(command, branch):
    branch.write("line/c/0", b"mine")
    branch.write("line/c/9", b"mine")
    theirs = branch.others("theirs", {"line/c/0": b"theirs", "line/c/1": b"theirs"})
    before = branch.files()
    outcome = command("refresh", branch.path)
    assert outcome.status == 5
    conflict, last = outcome.err.splitlines()
    assert conflict.startswith(f"  conflict: /line: chunk double update, chunks 0 (by {theirs}, ")
    assert "zfuse sync --rebase" in last
    told = command("refresh", branch.path, "--json").json
    assert told["conflicts"][0]["chunks"] == [[0]]
    assert branch.files() == before
    command("sync", branch.path, "-m", "x", "--rebase", "ours").says("is at")
    command("refresh", branch.path).says("nothing moved")


def test_refresh_moves_the_others_though_one_has_conflicts(command, branch, work):
    official = work.official()
    official.create_branch(f"{branch.name}-free", branch.tip)
    command("refresh", branch.path).says(f"branch/{branch.name}-free is new")
    free = work.mounted.path / "branch" / f"{branch.name}-free"
    assert (free / "line/c/0").read_bytes() == b"0" * 700
    branch.write("line/c/0", b"mine")
    branch.others("theirs", {"line/c/0": b"theirs"})
    session = official.writable_session(f"{branch.name}-free")
    put(session.store, "line/c/0", b"free")
    session.commit("free")
    assert command("refresh", branch.path).status == 5
    assert (free / "line/c/0").read_bytes() == b"free"
    assert (branch.path / "line/c/0").read_bytes() == b"mine"


def test_refresh_waits_until_something_moved(command, branch, monkeypatch):
    theirs = []

    def while_it_waits(_):
        theirs.append(branch.others("theirs", {"line/c/0": b"theirs"}))

    assert (branch.path / "line/c/0").exists()
    command("refresh", branch.path)
    command("refresh", branch.path, "--wait", "--timeout", "0.1").fails(7, "within 0.1 s")
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=while_it_waits)
    monkeypatch.setattr(refresh, "time", clock)
    outcome = command("refresh", branch.path, "--wait")
    (tip,) = theirs
    outcome.says(f"branch {branch.name}: ", f" -> {tip}\n")
    assert (branch.path / "line/c/0").read_bytes() == b"theirs"


@pytest.fixture
def mounted(tmp_path):
    """A function that mounts a repository of its own, and returns the work and two branches."""
    repo = make_repository(tmp_path)
    work = Work(repo, tmp_path / "state", None)
    work.official().create_branch("dev", work.official().lookup_branch("main"))

    def mount():
        given = ("--rw", "--journal", str(work.state))
        return work, mounting(repo, tmp_path / "mnt", *given)

    return mount


def is_mounted(path):
    return any(mount.path == path for mount in zfuse_mounts())


def tip_files(work, name):
    return get_all(work.official().readonly_session(branch=name).store)


def test_umount_keeps_changes_and_says_so(command, mounted):
    work, mounting_it = mounted()
    with mounting_it as first:
        (first.path / "branch/main/line/c/0").write_bytes(b"main")
        (first.path / "branch/dev/line/c/0").write_bytes(b"dev")
        command("umount", first.path).says("changes on main, dev are kept in ")
        assert not is_mounted(first.path)
    _, mounting_it = mounted()
    with mounting_it as second:
        assert (second.path / "branch/main/line/c/0").read_bytes() == b"main"
        told = command("umount", second.path, "--keep", "--json").json
        assert sorted(told["kept"]) == ["dev", "main"]
        assert told["daemon_ended"]
    assert tip_files(work, "main")["line/c/0"] == b"0" * 700


def test_umount_commits_every_branch(command, mounted):
    work, mounting_it = mounted()
    with mounting_it as first:
        (first.path / "branch/main/line/c/0").write_bytes(b"main")
        (first.path / "branch/dev/line/c/0").write_bytes(b"dev")
        (first.path / "branch/dev/notes").write_bytes(b"n")
        command("umount", first.path, "--sync").fails(2, "belong together")
        command("umount", first.path, "-m", "x").fails(2, "belong together")
        command("umount", first.path, "--keep", "--discard").fails(2, "give one of them")
        command("umount", first.path, "--force", "--sync", "-m", "x").fails(2, "zfuse sync")
        outcome = command("umount", first.path, "--sync", "-m", "the end")
        outcome.says("changes on dev are kept")  # the untracked file
    for name in ("main", "dev"):
        assert tip_files(work, name)["line/c/0"] == name.encode()
        assert next(iter(work.official().ancestry(branch=name))).message == "the end"


def test_umount_stays_where_a_commit_fails(command, mounted):
    work, mounting_it = mounted()
    with mounting_it as first:
        (first.path / "branch/main/line/c/0").write_bytes(b"main")
        (first.path / "branch/main/line/c/50").write_bytes(b"outside")
        outcome = command("umount", first.path, "--sync", "-m", "x")
        assert outcome.status == 2
        assert outcome.err.startswith("  invalid: /line/c/50: it lies outside")
        assert is_mounted(first.path)
        (first.path / "branch/main/line/c/50").unlink()
        session = work.official().writable_session("main")
        put(session.store, "line/c/0", b"theirs")
        session.commit("theirs")
        outcome = command("umount", first.path, "--sync", "-m", "x")
        assert outcome.status == 5
        assert outcome.err.startswith("  conflict: /line: chunk double update, chunks 0")
        assert is_mounted(first.path)
        assert (first.path / "branch/main/line/c/0").read_bytes() == b"main"
        command("umount", first.path, "--discard").says()
        assert not is_mounted(first.path)
    assert tip_files(work, "main")["line/c/0"] == b"theirs"
    assert not list(work.state.glob("sessions/*/*/session.sqlite"))


def test_a_busy_mount_stays_with_its_changes(command, mounted):
    _, mounting_it = mounted()
    with mounting_it as first:
        place = first.path / "branch/main/notes"
        with place.open("wb") as file:
            file.write(b"half")
            command("umount", first.path).fails(7, "busy")
        assert place.read_bytes() == b"half"


def test_a_branch_mounted_alone_is_kept_under_its_name(command, single):
    with single() as branch:
        branch.write("line/c/0", b"alone")
        command("umount", branch.path).says("changes on main are kept")
    with single() as branch:
        assert (branch.path / "line/c/0").read_bytes() == b"alone"
        command("umount", branch.path, "--sync", "-m", "alone").says()
        assert branch.committed()["line/c/0"] == b"alone"
