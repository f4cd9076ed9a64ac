"""zfuse branch and zfuse tag, on a repository and inside a mount."""

import io
import json

import icechunk
import pytest

from tests.cli.working import Work, branch, command, make_repository, work
from tests.mount.mounting import mounting

__all__ = ["branch", "command", "work"]  # fixtures

FIRST = "1CECHNKREP0F1RSTCMT0"


@pytest.fixture(params=[1, 2])
def repo(request, tmp_path):
    """A repository of either version with a commit on main, and the tag v1 at it."""
    return Work(make_repository(tmp_path, request.param), tmp_path / "state", None)


@pytest.fixture
def tip(repo):
    return repo.official().lookup_branch("main")


def test_branches_come_and_go(command, repo, tip):
    made = command("branch", "create", repo.repo, "dev", "--json").json
    assert made == {"branch": "dev", "snapshot": tip}
    command("branch", "create", repo.repo, "old", "--at", FIRST).says("made the branch old", FIRST)
    command("branch", "create", repo.repo, "too", "--at", "tag/v1").says(tip)
    rows = command("branch", "list", repo.repo, "--json").json_lines
    assert {row["branch"]: row["snapshot"] for row in rows} == {
        name: repo.official().lookup_branch(name) for name in ("dev", "main", "old", "too")
    }
    assert rows[0]["message"] == "base"
    listed = command("branch", "list", repo.repo).out.splitlines()
    assert [line.split()[0] for line in listed] == ["dev", "main", "old", "too"]
    moved = command("branch", "reset", repo.repo, "dev", FIRST, "--json").json
    assert moved == {"branch": "dev", "before": tip, "after": FIRST}
    assert repo.official().lookup_branch("dev") == FIRST
    command("branch", "reset", repo.repo, "dev", "main").says(f"at {tip} now, it was at {FIRST}")
    command("branch", "reset", repo.repo, "dev", "v1").says("already")
    gone = command("branch", "delete", repo.repo, "dev", "--json").json
    assert gone == {"branch": "dev", "snapshot": tip, "deleted": True}
    command("branch", "delete", repo.repo, "old").says(f"was at {FIRST}")
    assert repo.official().list_branches() == {"main", "too"}


def test_tags_come_and_go(command, repo, tip):
    assert command("tag", "create", repo.repo, "v2", "--json").json == {
        "tag": "v2",
        "snapshot": tip,
    }
    command("tag", "create", repo.repo, "v3", FIRST).says("made the tag v3", FIRST)
    rows = command("tag", "list", repo.repo, "--json").json_lines
    assert {row["tag"]: row["snapshot"] for row in rows} == {"v1": tip, "v2": tip, "v3": FIRST}
    command("tag", "list", repo.repo).says("v3", FIRST, "Repository initialized")
    assert command("tag", "delete", repo.repo, "v2", "--json").json["deleted"]
    command("tag", "delete", repo.repo, "v3").says(FIRST)
    assert repo.official().list_tags() == {"v1"}
    for create in ("v2", "v3"):
        command("tag", "create", repo.repo, create).fails(2, "never reused")


def test_what_is_refused_is_one_line(command, repo, monkeypatch, tmp_path):
    refused = {
        ("branch", "delete", repo.repo, "main"): (2, "main can not be deleted"),
        ("branch", "delete", repo.repo, "dev"): (2, "no branch 'dev'; there are 'main'"),
        ("branch", "create", repo.repo, "main"): (2, "already"),
        ("branch", "create", repo.repo, "x", "--at", "nix"): (2, "'nix' is no branch, tag"),
        ("branch", "create", repo.repo, ""): (2, "write zfuse branch create"),
        ("branch", "create", "s3://bucket/repo"): (2, "write zfuse branch create"),
        ("branch", "create", tmp_path / "none", "x"): (10, "no Icechunk repository"),
        ("branch", "reset", repo.repo, "main", "0" * 20): (2, "is no branch, tag or snapshot"),
        ("branch", "reset", repo.repo, "nix", "main"): (2, "no branch 'nix'"),
        ("branch", "reset", "main"): (2, "write zfuse branch reset"),
        ("branch", "crate"): (2, "did you mean 'create'?"),
        ("branch", "zzz"): (2, "there are list, create, delete, reset"),
        ("tag", "create", repo.repo, "v1"): (2, "there is a tag 'v1' already"),
        ("tag", "create", repo.repo, "v2", ""): (2, "write zfuse tag create"),
        ("tag", "delete", repo.repo, "nix"): (2, "no tag 'nix'; there are 'v1'"),
    }
    for arguments, (status, words) in refused.items():
        command(*arguments).fails(status, words)
    monkeypatch.chdir(tmp_path)
    for arguments in (("branch", "list"), ("branch", "delete", "x"), ("tag", "create", "x", "v1")):
        command(*arguments).fails(6, f"{tmp_path} is not inside a zfuse mount", "name the rep")
    assert repo.official().list_branches() == {"main"}
    assert repo.official().list_tags() == {"v1"}


def test_a_terminal_asks_before_snapshots_leave_a_branch(command, repo, tip, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    reset = ("branch", "reset", repo.repo, "main", FIRST)
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    refused = command(*reset)
    assert refused.status == 130
    assert "1 snapshot would leave the branch main" in refused.err
    assert repo.official().lookup_branch("main") == tip
    monkeypatch.setattr("sys.stdin", Terminal(""))
    command(*reset, "--yes").says(f"at {FIRST} now")
    command("branch", "reset", repo.repo, "main", tip).says(f"at {tip} now")  # none leaves
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert command(*reset).status == 0
    assert repo.official().lookup_branch("main") == FIRST


def test_a_commit_that_comes_between_is_not_lost(command, repo, monkeypatch):
    async def commit(*_):
        repo.official().writable_session("main").commit("between", allow_empty=True)

    monkeypatch.setattr("zfuse.cli.branch.refuse_to_lose", commit)
    command("branch", "reset", repo.repo, "main", FIRST).fails(5, "no longer at")
    assert next(iter(repo.official().ancestry(branch="main"))).message == "between"


@pytest.mark.fuse
def test_changes_in_a_mount_are_in_the_way(command, branch):
    official, name, repo = branch.work.official(), branch.name, branch.work.repo
    branch.write("line/c/7", b"new")
    attempts = [("delete", repo, name), ("reset", repo, name, FIRST), ("delete", branch.path, name)]
    for attempt in attempts:
        command("branch", *attempt).fails(
            4, name, "not committed", str(branch.work.mounted.path), "zfuse sync or zfuse discard"
        )
    assert official.lookup_branch(name) == official.lookup_tag("v1")
    command("branch", "reset", repo, name, FIRST, "--force").says(FIRST)
    command("branch", "reset", repo, name, "v1", "--force").says("now")
    command("discard", branch.path).says("discarded")
    command("branch", "delete", repo, name).says("deleted")
    official.create_branch(name, official.lookup_tag("v1"))


@pytest.mark.fuse
def test_inside_a_mount_its_repository_is_meant(command, branch, monkeypatch):
    mount, official = branch.work.mounted.path, branch.work.official()
    official.reset_branch(branch.name, FIRST)
    branch.work.mounted.call("refresh")
    new = f"of-{branch.name}"
    monkeypatch.chdir(branch.path)
    # Where PATH is says where the branch begins, as the branch of a git checkout does.
    command("branch", "create", new).says(f"at {FIRST}", f"zfuse refresh {mount}")
    command("tag", "create", new, "main").says(f"made the tag {new} at {official.lookup_tag('v1')}")
    assert not (mount / "branch" / new).exists()
    command("refresh", mount).says(f"branch/{new} is new")
    assert (mount / "branch" / new).is_dir()
    command("branch", "reset", mount / "branch", new, "tag/v1").says("now")
    command("branch", "delete", new).says("deleted")
    command("tag", "delete", mount, new).says("deleted")


@pytest.mark.fuse
def test_changes_that_are_kept_are_in_the_way(command, tmp_path, monkeypatch):
    repo = Work(make_repository(tmp_path), tmp_path / "state", None)
    repo.official().create_branch("dev", FIRST)
    with mounting(repo.repo, tmp_path / "mnt", "--rw", "--journal", str(repo.state)) as mounted:
        (mounted.path / "branch" / "dev" / "notes.txt").write_bytes(b"of mine")
        command("umount", mounted.path, "--keep").says()
    monkeypatch.setenv("ZFUSE_JOURNAL", str(repo.state))
    command("branch", "delete", repo.repo, "dev").fails(4, "session 1 of zfuse recover", "--force")
    command("branch", "reset", repo.repo, "dev", "main").fails(4, "kept on this machine")
    command("branch", "reset", repo.repo, "main", FIRST).says("now")  # it has none
    command("branch", "delete", repo.repo, "dev", "--force").says("deleted")
    assert repo.official().list_branches() == {"main"}


def test_names_can_not_steer_the_terminal(command, tmp_path):
    repo = make_repository(tmp_path)
    name = "a\x1b[2Jb\n"
    made = command("branch", "create", repo, name)
    assert "a\\x1b[2Jb\\n" in made.out
    assert "\x1b" not in made.out + command("branch", "list", repo).out
    row = command("branch", "list", repo, "--json").json_lines[0]
    assert row["branch"] == name
    assert json.loads(json.dumps(row)) == row
    place = icechunk.local_filesystem_storage(str(repo))
    assert name in icechunk.Repository.open(place).list_branches()
