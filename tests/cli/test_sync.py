"""``zfuse sync`` on real mounts: what it says, what it leaves, and what the commit holds."""

from datetime import UTC, datetime

import pytest
from icechunk import RepoAvailability, RepoStatus
from zarr.core.sync import sync

from tests.cli.working import (
    BIG,
    GROUP,
    LINE,
    branch,
    command,
    make_repository,
    single,
    work,
)
from tests.compat.documents import get_all
from tests.mount.mounting import mounting

__all__ = ["branch", "command", "single", "work"]  # fixtures

pytestmark = pytest.mark.fuse


def test_nothing_to_commit_is_said_and_no_error(command, branch):
    tip = branch.tip
    command("sync", branch.path, "-m", "x").says(f"nothing to commit on branch {branch.name}")
    told = command("sync", branch.path / "g", "-m", "x", "--json").json
    assert (told["branch"], told["snapshot"], told["changes_left"]) == (branch.name, None, False)
    assert branch.tip == tip


ODD = {"limit": "NaN", "note": ""}


@pytest.mark.parametrize("name", ["sync", "commit"])
def test_a_sync_is_one_commit_with_message_and_metadata(command, branch, name):
    branch.write("line/c/0", b"new" * BIG)
    branch.write("n/zarr.json", LINE)
    branch.write("n/c/3", b"three")
    outcome = command(
        *(name, branch.path / "line", "-m", "add n\nand more", "--json"),
        *("--metadata", "author=me", "--metadata", "run=17", "--metadata", 'tags=["a", "b"]'),
        *("--metadata", "limit=NaN", "--metadata", "note="),
    )
    told = outcome.json
    newest, before, *_ = branch.history()
    assert told["snapshot"] == newest.id
    assert before.message == "base"
    assert newest.message == "add n\nand more"
    assert newest.metadata == {"author": "me", "run": 17, "tags": ["a", "b"], **ODD}
    assert told["new"] == ["/n"]
    assert told["chunks"] == [
        {"path": "/line", "written": 1, "deleted": 0},
        {"path": "/n", "written": 1, "deleted": 0},
    ]
    assert not told["changes_left"]
    assert branch.committed() == branch.files()
    assert branch.committed()["n/c/3"] == b"three"
    command("sync", branch.path, "-m", "again").says("nothing to commit")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ['zfuse sync -m "..."']),
        (["-m", " "], ['zfuse sync -m "..."']),
        (["-m", "x", "--new-branch", ""], ["--new-branch NAME"]),
        (["-m", "x", "--amend", "--rebase", "ours"], ["--amend goes together with neither"]),
        (["-m", "x", "--amend", "--new-branch", "b"], ["--amend goes together with neither"]),
        (["-m", "x", "--metadata", "a"], ["--metadata a: write KEY=VALUE"]),
        (["-m", "x", "--metadata", "=1"], ["write KEY=VALUE"]),
        (["-m", "x", "--rebase", "mine"], ["ours", "theirs"]),
    ],
)
def test_wrong_usage(command, branch, arguments, words):
    branch.write("n/zarr.json", GROUP)
    tip = branch.tip
    command("sync", branch.path, *arguments).fails(2, *words)
    assert branch.tip == tip


def test_an_amendment_replaces_the_last_commit(command, branch):
    branch.write("line/c/0", b"one")
    command("sync", branch.path, "-m", "one").says()
    first = branch.history()
    branch.write("line/c/1", b"two")
    told = command("sync", branch.path, "-m", "one and two", "--amend", "--json").json
    newest, before, *_ = branch.history()
    assert told["snapshot"] == newest.id
    assert (newest.message, before.id) == ("one and two", first[1].id)
    assert branch.committed()["line/c/0"] == b"one"
    assert branch.committed()["line/c/1"] == b"two"
    # Without changes it is another message.
    command("sync", branch.path, "-m", "said better", "--amend").says("is at")
    newest, before, *_ = branch.history()
    assert (newest.message, before.id) == ("said better", first[1].id)
    assert branch.files() == branch.committed()


def test_an_amendment_of_what_others_did_meanwhile_is_a_conflict(command, branch):
    command("sync", branch.path, "-m", "mine", "--allow-empty").says("is at")
    branch.write("line/c/1", b"mine")
    theirs = branch.others("theirs", {"line/c/0": b"theirs"})
    command("sync", branch.path, "-m", "x", "--amend").fails(5, "sync without --amend")
    assert branch.tip == theirs
    command("sync", branch.path, "-m", "x").says("is at")
    assert branch.committed()["line/c/0"] == b"theirs"


def test_an_empty_commit_is_made_if_wanted(command, branch):
    tip = branch.tip
    command("sync", branch.path, "-m", "milestone", "--allow-empty").says("is at")
    newest, before, *_ = branch.history()
    assert (newest.message, before.id) == ("milestone", tip)


def test_open_and_untracked_files_are_named_and_left(command, branch):
    branch.write("line/c/0", b"new")
    branch.write("notes.txt", b"of mine")
    branch.write("g/.zarray", b"{}")
    with (branch.path / "line" / "c" / "5").open("wb") as file:
        file.write(b"half")
        file.flush()
        outcome = command("sync", branch.path, "-m", "x")
        outcome.says(
            "being written, not committed: /line/c/5",
            "untracked: /g/.zarray",
            "untracked: /notes.txt",
        )
        assert "line/c/5" not in branch.committed()
        assert branch.committed()["line/c/0"] == b"new"
        file.write(b" and half")
    told = command("sync", branch.path, "-m", "y", "--json").json
    assert told["untracked"] == ["/g/.zarray", "/notes.txt"]
    assert told["open_files"] == []
    assert told["changes_left"]
    assert branch.committed()["line/c/5"] == b"half and half"
    assert (branch.path / "notes.txt").read_bytes() == b"of mine"


def test_every_invalid_file_is_named_and_nothing_is_committed(command, branch):
    tip = branch.tip
    branch.write("fine/zarr.json", GROUP)
    branch.write("g/zarr.json", b'{"x": NaN}')
    for n in range(40, 50):
        branch.write(f"line/c/{n}", b"x")
    branch.write("line/c/1", b"")
    outcome = command("sync", branch.path, "-m", "x")
    assert outcome.status == 2
    assert outcome.out == ""
    *lines, last = outcome.err.splitlines()
    assert last.startswith("zfuse: nothing was committed: ")
    assert [line.split(":")[1].strip() for line in lines] == [
        *("/g/zarr.json", "/line/c/1"),
        *(f"/line/c/{n}" for n in range(40, 50)),
    ]
    assert lines[0].startswith("  invalid: /g/zarr.json: it has a bare NaN")
    told = command("sync", branch.path, "-m", "x", "--json").json
    assert told["snapshot"] is None
    assert len(told["invalid"]) == 12
    assert "no bytes" in told["invalid"][1]["reason"]
    assert branch.tip == tip
    shown = command("status", branch.path)
    shown.says("invalid:", "/line/c/49", "new:", "/fine")
    command("discard", branch.path / "g", branch.path / "line").says("some changes are left")
    command("sync", branch.path, "-m", "x").says("is at")
    assert branch.committed()["fine/zarr.json"] == GROUP


def test_disjoint_commits_of_others_are_no_obstacle(command, branch):
    branch.write("line/c/0", b"mine")
    branch.others("theirs", {"line/c/1": b"theirs", "o/zarr.json": GROUP})
    command("sync", branch.path, "-m", "mine").says("is at")
    assert [info.message for info in branch.history()][:2] == ["mine", "theirs"]
    assert branch.committed() == branch.files()
    assert (branch.path / "line/c/1").read_bytes() == b"theirs"


@pytest.fixture
def conflict(branch):
    """A branch on which others changed the same chunks and the same metadata."""
    for n in range(3):
        branch.write(f"line/c/{n}", b"mine %d" % n)
    branch.write("g/square/c/0/1", b"mine")
    branch.write("line/c/30", b"only mine")
    branch.others("chunks of theirs", {"line/c/0": b"theirs 0", "line/c/2": b"theirs 2"})
    branch.others("more of theirs", {"g/square/c/0/1": b"theirs", "line/c/20": b"only theirs"})
    return branch


def test_conflicts_are_named_with_who_and_when(command, conflict):
    tip = conflict.tip
    newest, before, *_ = conflict.history()
    outcome = command("sync", conflict.path, "-m", "mine")
    assert outcome.status == 5
    first, second, last = sorted(outcome.err.splitlines())
    assert first.startswith("  conflict: /g/square: chunk double update, chunks 0/1 (by ")
    assert f"(by {newest.id}, {newest.written_at:%Y-%m-%dT%H:%M:%S}" in first
    assert first.endswith(": more of theirs)")
    assert second.startswith("  conflict: /line: chunk double update, chunks 0, 2 (by ")
    assert last.startswith("zfuse: others changed /g/square, /line on the branch")
    for word in ("--rebase", "--new-branch", "zfuse discard"):
        assert word in last

    told = command("sync", conflict.path, "-m", "mine", "--json").json
    assert told["snapshot"] is None
    square, line = sorted(told["conflicts"], key=lambda each: each["path"])
    assert square["kind"] == "chunk_double_update"
    assert (square["chunks"], square["chunk_count"]) == ([[0, 1]], 1)
    assert (line["chunks"], line["chunk_count"]) == ([[0], [2]], 2)
    assert (square["snapshot"], square["message"]) == (newest.id, "more of theirs")
    assert square["committed_at_us"] == int(newest.written_at.timestamp() * 1e6)
    assert before.message == "chunks of theirs"

    assert conflict.tip == tip
    assert (conflict.path / "line/c/0").read_bytes() == b"mine 0"  # nothing is lost
    assert (conflict.path / "line/c/20").exists() is False


def test_a_conflict_is_solved_by_ours(command, conflict):
    command("sync", conflict.path, "-m", "mine", "--rebase", "ours").says("is at")
    found = conflict.committed()
    assert (found["line/c/0"], found["g/square/c/0/1"]) == (b"mine 0", b"mine")
    assert (found["line/c/20"], found["line/c/30"]) == (b"only theirs", b"only mine")
    assert conflict.files() == found


def test_a_conflict_is_solved_by_theirs(command, conflict):
    command("sync", conflict.path, "-m", "mine", "--rebase", "theirs").says("is at")
    found = conflict.committed()
    assert (found["line/c/0"], found["line/c/1"]) == (b"theirs 0", b"mine 1")
    assert (found["g/square/c/0/1"], found["line/c/30"]) == (b"theirs", b"only mine")
    assert conflict.files() == found


def test_nothing_is_left_of_ours(command, branch):
    branch.write("line/c/0", b"mine")
    theirs = branch.others("theirs", {"line/c/0": b"theirs"})
    command("sync", branch.path, "-m", "mine", "--rebase", "theirs").says("nothing to commit")
    assert branch.tip == theirs
    assert branch.files() == branch.committed()


def test_a_conflict_is_solved_on_a_new_branch(command, conflict):
    tip = conflict.tip
    name = f"{conflict.name}-mine"
    told = command("sync", conflict.path, "-m", "mine", "--new-branch", name, "--json").json
    assert told["branch"] == name
    assert conflict.tip == tip
    official = conflict.work.official()
    assert official.lookup_branch(name) == told["snapshot"]
    newest, before, *_ = official.ancestry(branch=name)
    assert (newest.message, before.message) == ("mine", "base")
    # The old branch shows what others did, and the new one can be seen at once.
    assert conflict.files() == conflict.committed()
    other = conflict.work.mounted.path / "branch" / name
    assert (other / "line/c/0").read_bytes() == b"mine 0"
    command("sync", other, "-m", "x").says("nothing to commit")


def test_a_new_branch_must_be_new(command, branch):
    branch.write("line/c/0", b"mine")
    command("sync", branch.path, "-m", "x", "--new-branch", "main").fails(
        2, "a branch 'main' already"
    )
    assert (branch.path / "line/c/0").read_bytes() == b"mine"


def test_a_conflict_is_solved_by_discarding(command, conflict):
    command("discard", conflict.path / "line/c/0", conflict.path / "line/c/2").says("some changes")
    command("discard", conflict.path / "g").says("some changes are left")
    command("sync", conflict.path, "-m", "rest").says("is at")
    found = conflict.committed()
    assert (found["line/c/0"], found["line/c/1"]) == (b"theirs 0", b"mine 1")
    assert conflict.files() == found


def test_conflicts_of_metadata_and_deletions(command, branch):
    branch.write("line/zarr.json", LINE.replace(b'"attributes": {}', b'"attributes": {"m": 1}'))
    branch.write("g/square/c/0/0", b"mine")
    official = branch.work.official()
    session = official.writable_session(branch.name)
    sync(session.store.delete_dir("g/square"))
    session.commit("delete theirs")
    document = LINE.replace(b'"attributes": {}', b'"attributes": {"t": 2}')
    branch.others("attributes of theirs", {"line/zarr.json": document})
    told = command("sync", branch.path, "-m", "mine", "--json")
    assert told.status == 5
    kinds = {(each["path"], each["kind"], each["message"]) for each in told.json["conflicts"]}
    assert kinds == {
        ("/line", "zarr_metadata_double_update", "attributes of theirs"),
        ("/g/square", "chunks_updated_in_deleted_array", "delete theirs"),
    }
    assert command("sync", branch.path, "-m", "mine", "--rebase", "ours").status == 5


def test_a_branch_that_was_deleted(command, branch):
    branch.write("line/c/0", b"mine")
    branch.work.official().delete_branch(branch.name)
    command("sync", branch.path, "-m", "x").fails(2, branch.name, "--new-branch")
    command("status", branch.path).says("others deleted the branch", "--new-branch", "/line")
    name = f"{branch.name}-again"
    command("sync", branch.path, "-m", "x", "--new-branch", name).says(f"branch {name} is at")
    found = branch.work.official().readonly_session(branch=name).store
    assert get_all(found)["line/c/0"] == b"mine"


def test_a_branch_that_was_reset(command, branch):
    assert (branch.path / "line/c/1").exists()
    branch.others("theirs", {"line/c/1": b"theirs"})
    command("refresh", branch.path).says(f"branch {branch.name}: ", f" -> {branch.tip}")
    branch.write("line/c/0", b"mine")
    official = branch.work.official()
    official.reset_branch(branch.name, official.lookup_tag("v1"))
    outcome = command("sync", branch.path, "-m", "x")
    outcome.fails(5, "was reset", "--new-branch")
    assert (branch.path / "line/c/0").read_bytes() == b"mine"
    name = f"{branch.name}-again"
    command("sync", branch.path, "-m", "x", "--new-branch", name).says(f"branch {name} is at")


def test_what_can_not_be_written(command, work, branch, tmp_path):
    top = work.mounted.path
    command("sync", top / "tag" / "v1", "-m", "x").fails(2, "is in no branch")
    command("sync", top / "snapshot" / branch.tip, "-m", "x").fails(2, "is in no branch")
    command("sync", tmp_path, "-m", "x").fails(6, "not inside a zfuse mount")
    command("sync", top / "branch" / "nope", "-m", "x").fails(2, "no branch 'nope'")
    with pytest.raises(OSError, match="Read-only"):
        (top / "tag" / "v1" / "x").write_bytes(b"")
    with mounting(work.repo, tmp_path / "mnt") as mounted:
        command("sync", mounted.path / "branch" / "main", "-m", "x").fails(2, "--rw")
        command("discard", mounted.path / "branch" / "main").fails(2, "--rw")
    with mounting(work.repo, tmp_path / "tag", "--tag", "v1") as mounted:
        command("sync", mounted.path, "-m", "x").fails(2, "tag/v1", "fixed")


def test_at_the_top_the_branch_must_be_clear(command, work, branch):
    work.official().create_branch(f"{branch.name}-2", branch.tip)
    top = work.mounted.path
    command("refresh", top).says(f"branch/{branch.name}-2 is new")
    branch.write("line/c/0", b"one")
    (top / "branch" / f"{branch.name}-2" / "line/c/0").write_bytes(b"two")
    named = f"branch/{branch.name}, branch/{branch.name}-2"
    command("sync", top, "-m", "x").fails(2, named, "say which")
    command("discard", top).fails(2, "above the branches")
    command("sync", branch.path, "-m", "x").says("is at")
    command("sync", top, "-m", "x").says(f"branch {branch.name}-2 is at")
    command("sync", top, "-m", "x").says("nothing to commit")


def test_a_branch_mounted_alone(command, single):
    with single() as branch:
        branch.write("line/c/0", b"new")
        command("status", branch.path).says("writes:", "yes", "branch main, since", "/line: 1")
        command("sync", branch.path, "-m", "x").says("branch main is at")
        assert branch.committed() == branch.files()
        branch.write("line/c/0", b"newer")
        command("discard", branch.path).says("no changes are left")
        assert (branch.path / "line/c/0").read_bytes() == b"new"


def test_a_repository_that_became_read_only(command, single):
    with single() as branch:
        branch.write("line/c/0", b"new")
        official = branch.work.official()
        now = datetime.now(UTC)
        official.set_status(RepoStatus(RepoAvailability.read_only, now, "closed for the winter"))
        command("sync", branch.path, "-m", "x").fails(2, "read-only")
        assert (branch.path / "line/c/0").read_bytes() == b"new"
        official.set_status(RepoStatus(RepoAvailability.online, now, None))
        command("sync", branch.path, "-m", "x").says("is at")


def test_version_1_has_no_amendments(command, tmp_path):
    repo = make_repository(tmp_path, 1)
    arguments = ("--rw", "--journal", str(tmp_path / "state"))
    with mounting(repo, tmp_path / "mnt", *arguments) as mounted:
        place = mounted.path / "branch" / "main"
        (place / "line/c/0").write_bytes(b"new")
        command("sync", place, "-m", "x", "--amend").fails(2, "version 1")
        command("sync", place, "-m", "x").says("is at")
