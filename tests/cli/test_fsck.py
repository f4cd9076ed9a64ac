"""zfuse fsck: a line for each fault, and what the exit code says."""

import json
import shutil

import pytest

from tests.cli.working import command
from tests.maintenance.planting import copy, make_icechunk
from tests.mount.mounting import mounting

__all__ = ["command"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_icechunk(tmp_path_factory.mktemp("made"), 2)


@pytest.fixture
def planted(made, tmp_path):
    return copy(made, tmp_path)


def test_a_sound_repository_has_no_faults(command, planted):
    outcome = command("fsck", planted.root)
    outcome.says("checked 3 snapshots, 6 manifests, 18 chunk references", "no faults")
    allow = ("--allow-virtual", f"file://{planted.data}/")
    (summary,) = command("fsck", planted.root, "--deep", "--virtual", *allow, "--json").json_lines
    assert (summary["event"], summary["sound"], summary["findings"]) == ("summary", True, 0)
    assert (summary["native_chunks"], summary["virtual_sources"]) == (10, 3)
    assert summary["bytes_read"] == 10 * 700


def test_a_fault_is_one_line(command, planted):
    key = planted.chunk_key()
    planted.file(key).unlink()
    outcome = command("fsck", planted.root)
    assert outcome.status == 8
    first, *_, last = outcome.out.splitlines()
    assert first == f"{key}: gone: /a chunk 0/0 (branch/main, branch/dev, tag/v1)"
    assert last == "1 fault"
    assert outcome.err == ""


def test_json_has_a_line_for_each_fault(command, planted):
    planted.file(planted.chunk_key()).unlink()
    planted.file("repo").write_bytes(planted.file("repo").read_bytes())
    outcome = command("fsck", planted.root, "--json")
    finding, summary = outcome.json_lines
    assert outcome.status == 8
    assert finding == {
        "event": "finding",
        "object": finding["object"],
        "problem": "gone",
        "path": "/a",
        "refs": ["branch/main", "branch/dev", "tag/v1"],
        "chunks": [[0, 0]],
    }
    assert (summary["event"], summary["sound"], summary["findings"]) == ("summary", False, 1)
    assert summary["unreferenced"]["chunks"] == {"objects": 0, "bytes": 0}


def test_garbage_is_no_fault(command, planted):
    planted.file("chunks/0000000000000000000G").write_bytes(bytes(2048))
    command("fsck", planted.root).says("1 object of 2.0 KiB that nothing refers to", "no faults")


def test_what_damage_makes_look_like_garbage_is_not_to_be_collected(command, planted):
    """With the snapshot restored from a copy it is needed again."""
    tip = json.loads(command("log", planted.root, "--json").out.splitlines()[0])["id"]
    planted.file(f"snapshots/{tip}").unlink()
    outcome = command("fsck", planted.root)
    assert outcome.status == 8
    assert "that nothing refers to: keep them until the faults are mended" in outcome.out
    assert "zfuse gc" not in outcome.out


def test_a_repository_whose_entry_is_damaged_can_be_looked_at(command, planted):
    planted.cut("repo")
    outcome = command("fsck", planted.root)
    assert outcome.status == 8
    assert "the newest copy that can be read is overwritten/repo." in outcome.out


def test_where_there_is_no_repository(command, tmp_path):
    (tmp_path / "empty").mkdir()
    command("fsck", tmp_path / "empty").fails(10, "no Icechunk repository")


def test_a_newer_repository_is_no_fault(command, planted):
    planted.patch("repo", 36, 3)
    command("fsck", planted.root).fails(2, "upgrade zfuse")


def test_all_that_hits_a_virtual_source_is_told(command, planted, tmp_path):
    data = tmp_path / "moved away"
    shutil.move(planted.data / "one.bin", data)
    try:
        allow = ("--allow-virtual", f"file://{planted.data}/")
        outcome = command("fsck", planted.root, "--virtual", *allow)
    finally:
        shutil.move(data, planted.data / "one.bin")
    assert outcome.status == 8
    location = f"file://{planted.data}/one.bin"
    assert f"{location}: gone: /v chunks 0, 1 (branch/main)" in outcome.out


def test_sources_that_nobody_allowed_are_counted_and_no_faults(command, planted):
    prefix = f"file://{planted.data}/"
    outcome = command("fsck", planted.root, "--virtual")
    assert outcome.status == 12
    assert f"not asked for: 3 virtual sources in {prefix}; allow it with --allow" in outcome.out
    assert "no faults" in outcome.out
    outcome = command("fsck", planted.root, "--virtual", "--json")
    assert outcome.status == 12
    summary = json.loads(outcome.out.splitlines()[-1])
    assert (summary["sound"], summary["not_asked"]) == (False, {prefix: 3})
    planted.file(planted.chunk_key()).unlink()
    assert command("fsck", planted.root, "--virtual").status == 8


def test_what_is_in_a_mount_means_its_repository(command, planted, tmp_path):
    planted.file(planted.chunk_key()).unlink()
    with mounting(planted.root, tmp_path / "mnt") as mounted:
        outcome = command("fsck", mounted.path / "branch" / "main")
    assert outcome.status == 8
    assert "1 fault" in outcome.out
