"""``zfuse diff``: of the changes in a session, and of any two refs."""

import json
import os

import pytest

from tests.cli.working import GROUP, LINE, branch, command, work
from tests.compat.documents import array_document

__all__ = ["branch", "command", "work"]  # fixtures

pytestmark = pytest.mark.fuse

EMPTY = {"untracked": [], "invalid": [], "open_files": [], "copied": []}


def change(branch):
    document = json.loads(LINE) | {"attributes": {"units": "K", "n": [1]}}
    branch.write("line/zarr.json", json.dumps(document).encode())
    branch.write("line/c/0", b"new")
    (branch.path / "line/c/1").unlink()
    branch.write("n/zarr.json", GROUP)
    os.rename(branch.path / "g", branch.path / "h")


DIFFERENCES = [
    {"member": "attributes.n", "after": [1]},
    {"member": "attributes.units", "after": "K"},
]


def test_changes_of_a_session(command, branch):
    command("diff", branch.path).says("no differences")
    change(branch)
    branch.write("notes", b"n")
    told = command("diff", branch.path, "--json").json
    assert told["new"] == ["/n"]
    assert told["updated"] == ["/line"]
    assert told["moved"] == [
        {"from": "/g", "to": "/h"},
        {"from": "/g/square", "to": "/h/square"},
    ]
    assert told["chunks"] == [{"path": "/line", "written": 1, "deleted": 1}]
    assert told["metadata"] == [{"path": "/line", "differences": DIFFERENCES}]
    assert told["untracked"] == ["/notes"]
    command("diff", branch.path / "line").says(
        *("new:", "/n", "updated:", "/line", "moved:", "/g -> /h"),
        *("/line: 1 written, 1 deleted", "attributes.units:", '(none) -> "K"', "untracked:"),
    )


def test_two_versions(command, branch, work):
    change(branch)
    document = array_document((40,), (1,), attributes={"a": 1})
    command("sync", branch.path, "-m", "first").says("is at")
    (branch.path / "h/square/zarr.json").unlink()
    for path in sorted((branch.path / "h/square").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    branch.write("line/zarr.json", document)
    command("sync", branch.path, "-m", "second").says("is at")
    newest, before, *_ = branch.history()

    told = command("diff", work.repo, "v1", before.id, "--json").json
    base = work.official().lookup_tag("v1")
    assert (told["from"], told["to"]) == (base, before.id)
    assert told["moved"] == [
        {"from": "/g", "to": "/h"},
        {"from": "/g/square", "to": "/h/square"},
    ]
    assert (told["new"], told["updated"], told["deleted"]) == (["/n"], ["/line"], [])
    assert told["chunks"] == [{"path": "/line", "written": 1, "deleted": 1}]
    assert told["metadata"] == [{"path": "/line", "differences": DIFFERENCES}]
    assert told | EMPTY == told

    told = command("diff", branch.path, before.id, newest.id, "--json").json
    assert (told["new"], told["deleted"], told["chunks"]) == ([], ["/h/square"], [])
    assert told["metadata"][0]["differences"] == [
        {"member": "attributes.a", "after": 1},
        {"member": "attributes.n", "before": [1]},
        {"member": "attributes.units", "before": "K"},
    ]
    # Backwards, and to a branch.
    told = command("diff", work.repo, newest.id, "v1", "--json").json
    assert (told["new"], told["deleted"]) == (["/g/square"], ["/n"])
    command("diff", work.repo, "v1", branch.name).says("deleted:", "/g/square")
    command("diff", work.repo, "v1").says("no differences")  # to main, where nothing happened
    command("diff", work.repo, "v1", "v1").says("no differences")
    # Two words in a mount are refs, not a place and a ref.
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(branch.path)
        assert command("diff", before.id, newest.id, "--json").json["deleted"] == ["/h/square"]
        assert command("diff", newest.id, before.id, "--json").json["new"] == ["/h/square"]
        command("diff", "nope", "v1").fails(2, "nope")
        # One word is compared with what the directory is in.
        assert command("diff", "v1", "--json").json["to"] == newest.id
        command("diff", newest.id).says("no differences")


def test_wrong_usage(command, branch, work, tmp_path):
    command("diff", work.repo, "v1", "nope").fails(2, "nope")
    command("diff", work.repo, "a", "b", "c").fails(2, "zfuse diff [PATH] [REF [REF]]")
    command("diff", tmp_path).fails(6, "not inside a zfuse mount", f"diff {tmp_path} REF [REF]")
    command("diff", work.mounted.path / "tag" / "v1").fails(2, "is in no branch")
