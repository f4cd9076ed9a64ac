"""``zfuse discard`` on a real mount: readers see the base again at once."""

import contextlib
import os

import pytest

from tests.cli.working import GROUP, LINE, branch, command, single, work

__all__ = ["branch", "command", "single", "work"]  # fixtures

pytestmark = pytest.mark.fuse


def test_paths_and_whole_branches_are_taken_back(command, branch):
    base = branch.files()
    branch.write("line/c/0", b"new")
    branch.write("line/c/9", b"nine")
    branch.write("n/zarr.json", GROUP)
    os.rename(branch.path / "g", branch.path / "x")
    assert not (branch.path / "g").exists()
    command("discard", branch.path / "line/c/0", branch.path / "x").says(
        f"branch {branch.name}: discarded; some changes are left"
    )
    more = {"line/c/9": b"nine", "n/zarr.json": GROUP}
    assert branch.files() == base | more
    told = command("discard", branch.path, "--json").json
    assert told == {"branch": branch.name, "discarded": True, "changes_left": False}
    assert branch.files() == base
    command("discard", branch.path).says(f"branch {branch.name} has no changes")
    command("status", branch.path).says("no changes")


def test_the_current_directory_is_the_default(command, branch, monkeypatch):
    branch.write("line/c/0", b"new")
    branch.write("g/square/c/0/0", b"new")
    monkeypatch.chdir(branch.path / "line")
    command("discard").says("some changes are left")
    monkeypatch.chdir(branch.path)
    command("discard").says("no changes are left")
    command("discard").says("has no changes")


def test_what_is_wrong_is_said_and_nothing_is_taken_back(command, branch, work):
    branch.write("line/c/0", b"new")
    os.rename(branch.path / "g", branch.path / "x")
    branch.write("g/zarr.json", LINE)
    command("discard", branch.path / "line/c/1").fails(2, "nothing changed at /line/c/1")
    command("discard", branch.path / "line", branch.path / "nope").fails(2, "at /nope")
    command("discard", branch.path / "x").fails(2, "/x can not go back to /g", "as well")
    command("discard", work.mounted.path).fails(2, "branch/NAME")
    command("discard", work.mounted.path / "tag" / "v1").fails(2, "is in no branch")
    with contextlib.chdir(branch.path):
        for name in ("discard", "umount", "sync"):
            options = ("-m", "...") if name == "sync" else ()
            command(name, "", *options).fails(2)
    assert (branch.path / "line/c/0").read_bytes() == b"new"
    assert (branch.path / "x" / "square" / "zarr.json").exists()


def test_several_branches_at_once(command, branch, work):
    other = work.official()
    other.create_branch(f"{branch.name}-o", branch.tip)
    work.mounted.call("refresh")
    second = work.mounted.path / "branch" / f"{branch.name}-o"
    branch.write("line/c/0", b"new")
    (second / "line/c/0").write_bytes(b"new")
    told = command("discard", branch.path, second / "line", "--json").json_lines
    assert [each["branch"] for each in told] == [branch.name, f"{branch.name}-o"]
    assert not any(each["changes_left"] for each in told)


def test_a_reader_keeps_what_it_has_open(command, branch):
    branch.write("line/c/0", b"new")
    with (branch.path / "line/c/0").open("rb") as reader:
        command("discard", branch.path).says("no changes are left")
        assert reader.read() == b"new"
    assert (branch.path / "line/c/0").read_bytes() == b"0" * 700


def test_an_emptied_branch_comes_back(command, branch, single):
    base = branch.files()
    work_path = branch.path
    for path in sorted(work_path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    os.rmdir(work_path)
    os.mkdir(work_path)
    assert branch.files() == {}
    command("status", work_path).says("deleted:")
    command("discard", work_path).says("no changes are left")
    assert branch.files() == base
