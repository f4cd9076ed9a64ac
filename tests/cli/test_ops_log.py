"""zfuse ops-log: every kind of change, on all pages, as the official library lists them."""

from datetime import UTC, datetime

import icechunk
import pytest

from tests.cli.working import command
from zfuse.cli.ops_log import sentence, update_row
from zfuse.format.repo_info import Update, UpdateKind

__all__ = ["command"]  # a fixture


@pytest.fixture
def repo(tmp_path):
    """A repository in which everything happened, with three entries on each page."""
    config = icechunk.RepositoryConfig(num_updates_per_repo_info_file=3)
    repo = icechunk.Repository.create(
        icechunk.local_filesystem_storage(str(tmp_path / "repo")), config=config
    )
    first = repo.lookup_branch("main")
    session = repo.writable_session("main")
    tip = session.commit("one", allow_empty=True)
    repo.writable_session("main").amend("uno", allow_empty=True)
    repo.writable_session("main").flush("aside")
    repo.create_branch("dev\x1b", tip)
    repo.reset_branch("dev\x1b", first)
    repo.delete_branch("dev\x1b")
    repo.create_tag("v1", tip)
    repo.delete_tag("v1")
    repo.save_config()
    repo.set_metadata({"a": 1})
    repo.set_feature_flag("move_node", False)
    repo.set_feature_flag("move_node", True)
    repo.set_feature_flag("move_node", None)
    online = icechunk.RepoAvailability.online
    repo.set_status(icechunk.RepoStatus(availability=online, limited_availability_reason="why"))
    repo.expire_snapshots(datetime(2000, 1, 1, tzinfo=UTC))
    repo.garbage_collect(datetime(2000, 1, 1, tzinfo=UTC))
    return repo


def test_every_change_on_every_page(command, repo, tmp_path):
    rows = command("ops-log", tmp_path / "repo", "--json").json_lines
    expected = list(repo.ops_log())
    assert [row["kind"].replace("_", "") for row in rows] == [
        type(update.kind).__name__.lower() for update in expected
    ]
    assert [row["updated_at"] for row in rows] == [
        update.updated_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ").replace(".000000Z", "Z")
        for update in expected
    ]
    assert rows[-1]["kind"] == "repo_initialized"
    for row, update in zip(rows, expected, strict=True):
        for name in ("name", "branch"):
            assert row.get(name) == getattr(update.kind, name, None)
    newest = command("ops-log", tmp_path / "repo", "-n", "4", "--json").json_lines
    assert newest == rows[:4]


def test_people_read_sentences(command, repo, tmp_path):
    lines = command("ops-log", tmp_path / "repo").out.splitlines()
    assert len(lines) == len(list(repo.ops_log()))
    for words in (
        "the repository was made",
        "on branch main amended to",
        "on no branch",
        "branch dev\\x1b made",
        "branch dev\\x1b reset, was at",
        "tag v1 deleted, was at",
        "feature flag move_node: forbidden",
        "feature flag move_node: allowed",
        "feature flag move_node: by default",
        "set to online: why",
        "old snapshots expired",
    ):
        assert sum(words in line for line in lines) == 1, words


def test_every_kind_has_a_sentence():
    details = {
        UpdateKind.UNKNOWN: {"update_type": 99},
        UpdateKind.REPO_MIGRATED: {"from_version": 1, "to_version": 2},
    }
    for kind, fields in details.items():
        update = Update(kind, 0, None, fields)
        row = update_row(update)
        assert row == {
            "kind": kind.name.lower(),
            "updated_at": "1970-01-01T00:00:00Z",
            "backup": None,
            **fields,
        }
        assert all(str(value) in sentence(update, row) for value in fields.values())
