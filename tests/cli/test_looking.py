"""log, show, ls, tree, cat, info: on a repository, and on a path inside a mount."""

import base64
import re
import struct
from datetime import datetime

import icechunk
import pytest
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

ARRAYS = ["elevation", "pressure", "rainfall", "temperature"]


@pytest.fixture(scope="session")
def official(repository):
    return icechunk.Repository.open(icechunk.local_filesystem_storage(str(repository)))


def get(store, key):
    return sync(store.get(key, default_buffer_prototype())).to_bytes()


def test_log_is_the_ancestry(zfuse, repository, official):
    rows = zfuse("log", repository, "--json").json_lines
    expected = list(official.ancestry(branch="main"))
    assert [(r["id"], r["parent_id"], r["message"]) for r in rows] == [
        (s.id, s.parent_id, s.message) for s in expected
    ]
    assert datetime.fromisoformat(rows[0]["written_at"]) == expected[0].written_at
    assert rows[0]["written_at"].endswith("Z")
    assert rows[0]["branches"] == ["main"]
    assert rows[1]["tags"] == ["v1.0"]


@pytest.mark.parametrize(
    ("ref", "options"),
    [(["v1.0"], []), (["tag/v1.0"], []), ([], ["--tag", "v1.0"])],
    ids=["bare", "kind", "flag"],
)
def test_log_of_a_tag(zfuse, repository, ref, options):
    rows = zfuse("log", repository, *ref, *options, "-n", "1", "--json").json_lines
    assert [row["tags"] for row in rows] == [["v1.0"]]


def test_log_graph_has_every_snapshot_once(zfuse, repository):
    lines = zfuse("log", repository, "--graph").out.splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("* ")
    assert "(draft)" in lines[0]
    assert lines[1].startswith("| * ")
    assert "(main)" in lines[1]
    assert lines[2] == "|/"
    assert lines[3].startswith("* ")
    assert "tag: v1.0" in lines[3]
    assert lines[4].startswith("* ")


def test_show_names_the_refs(zfuse, repository, official):
    shown = zfuse("show", repository, "--json").json
    assert shown["branches"] == {b: official.lookup_branch(b) for b in ("draft", "main")}
    assert shown["tags"] == {"v1.0": official.lookup_tag("v1.0")}
    assert (shown["spec_version"], shown["availability"], shown["snapshots"]) == (2, "online", 4)
    (container,) = shown["virtual_chunk_containers"]
    assert container["store"] == "local_file_system"
    assert "tag/v1.0" in zfuse("show", repository).out


def test_show_tells_what_a_snapshot_changed(zfuse, repository):
    assert zfuse("show", repository, "main", "--json").json["changes"]["updated_chunks"] == {
        "/temperature": 1
    }
    first = zfuse("show", repository, "v1.0", "--json").json["changes"]
    assert first["new_arrays"] == [f"/{name}" for name in ARRAYS]
    assert first["new_groups"] == ["/"]
    text = zfuse("show", repository, "v1.0").out
    assert "new array" in text
    assert "/rainfall" in text


def test_ls_tells_shapes_and_bytes(zfuse, repository):
    rows = {row["name"]: row for row in zfuse("ls", "-l", repository, "--json").json_lines}
    assert list(rows) == ARRAYS
    assert rows["temperature"]["shape"] == [4, 12, 16]
    assert rows["temperature"]["dimension_names"] == ["time", "y", "x"]
    assert (rows["elevation"]["chunks"], rows["elevation"]["inner_chunks"]) == ([6, 8], [3, 4])
    assert rows["rainfall"]["chunks"][0][:3] == [31, 28, 31]
    assert (rows["pressure"]["chunks_written"], rows["pressure"]["bytes_stored"]) == (2, 1600)
    assert "12 x 16 int32, shards 6 x 8 of 3 x 4" in zfuse("ls", repository).out


def test_tree_draws_the_hierarchy(zfuse, repository):
    lines = zfuse("tree", repository).out.splitlines()
    assert [line.split()[1] for line in lines[1:]] == ARRAYS
    paths = [row["path"] for row in zfuse("tree", repository, "--json").json_lines]
    assert paths == ["/", *(f"/{name}" for name in ARRAYS)]
    assert len(zfuse("tree", repository, "-L", "1", "elevation").out.splitlines()) == 1


def test_cat_gives_the_bytes_as_stored(zfuse, repository, official):
    store = official.readonly_session("main").store
    for key in ("zarr.json", "elevation/zarr.json", "elevation/c/1/0", "rainfall/c/11"):
        answer = zfuse("cat", repository, key, "--json").json
        assert base64.b64decode(answer["base64"]) == get(store, key)
    assert zfuse("cat", repository, "zarr.json").out.encode() == get(store, "zarr.json")


def test_cat_reads_virtual_chunks_that_are_allowed(zfuse, place):
    key = "pressure/c/0/0"
    zfuse("cat", place / "repo", key).fails(12, f"--allow-virtual file://{place}/data/")
    allowed = zfuse("cat", place / "repo", key, "--json", "--allow-virtual", f"file://{place}/data")
    data = base64.b64decode(allowed.json["base64"])
    assert struct.unpack_from("<d", data) == (950.0,)
    assert len(data) == 800


def test_info_counts_bytes_by_where_they_lie(zfuse, repository):
    info = zfuse("info", repository, "pressure", "--json").json
    assert (info["virtual_bytes"], info["native_bytes"], info["inline_bytes"]) == (1600, 0, 0)
    assert info["codecs"] == ["bytes"]
    info = zfuse("info", repository, "temperature", "--json").json
    assert info["native_bytes"] > 0
    assert info["chunks_written"] == 4
    assert zfuse("info", repository, "--json").json["kind"] == "group"
    assert "12 x 16" in zfuse("info", repository, "elevation").out


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["ls", "{repo}", "nowhere"], 2, ["branch/main has no /nowhere", "zfuse tree"]),
        (["cat", "{repo}", "temperature/c/9/0/0"], 2, ["no key 'temperature/c/9/0/0'"]),
        (["cat", "{repo}", "temperature"], 2, ["is an array", "temperature/zarr.json"]),
        (["log", "{repo}", "nope"], 2, ["'nope' is no branch, tag or snapshot"]),
        (["ls", "{repo}", "--branch", "nope"], 2, ["no branch 'nope'", "'draft', 'main'"]),
        (["ls", "{repo}", "--tag", "a", "--branch", "b"], 2, ["give only one"]),
        (["ls", "{repo}", "--snapshot", "0" * 20], 2, ["no snapshot " + "0" * 20, "zfuse log"]),
        (["ls", "{repo}", "--as-of", "2001-01-01"], 2, ["main", "2001-01-01T00:00:00Z"]),
        (["ls", "/nowhere/at/all"], 10, ["no Icechunk repository", "zfuse create"]),
        (["ls", "ftp://host/x"], 2, ["unknown scheme"]),
        (["ls", ""], 2, ["empty"]),
        (["cat", "{repo}"], 2, ["say which key"]),
        (["ls"], 6, ["not inside a zfuse mount"]),
        (["log", "v1.0"], 6, ["'v1.0'", "not inside a zfuse mount"]),
        (["show", "nope"], 6, ["'nope' is no path", "not inside a zfuse mount"]),
        (["log", "{repo}", "a", "b"], 2, ["too many"]),
    ],
)
def test_what_is_not_there_is_said_in_one_line(
    zfuse, repository, tmp_path, arguments, status, words
):
    arguments = [argument.format(repo=repository) for argument in arguments]
    zfuse(*arguments, cwd=tmp_path).fails(status, *words)


def test_a_name_that_is_a_branch_and_a_tag_has_to_be_told_apart(zfuse, tmp_path):
    storage = icechunk.local_filesystem_storage(str(tmp_path / "repo"))
    repo = icechunk.Repository.create(storage)
    repo.create_tag("main", repo.lookup_branch("main"))
    zfuse("log", tmp_path / "repo", "main").fails(2, "branch/main or tag/main")
    assert zfuse("log", tmp_path / "repo", "tag/main").status == 0


def test_a_path_inside_a_mount_is_its_repository_at_that_ref(zfuse, mount, repository, official):
    inside = zfuse("info", mount / "tag" / "v1.0" / "pressure", "--json").json
    assert inside["ref"] == "tag/v1.0"
    assert inside["path"] == "/pressure"
    assert inside == zfuse("info", repository, "pressure", "--tag", "v1.0", "--json").json

    names = [r["name"] for r in zfuse("ls", "--json", cwd=mount / "branch" / "draft").json_lines]
    assert names == ARRAYS
    (newest, *_) = zfuse("log", "--json", cwd=mount / "branch" / "draft").json_lines
    assert newest["id"] == official.lookup_branch("draft")
    (newest, *_) = zfuse("log", "v1.0", "--json", cwd=mount).json_lines
    assert newest["tags"] == ["v1.0"]


def test_what_the_mount_may_read_the_command_may_read(zfuse, mount):
    data = zfuse("cat", mount / "branch" / "main" / "pressure" / "c" / "0" / "0", "--json").json
    assert data["size"] == 800


def test_a_link_into_a_mount_leads_to_what_is_there(zfuse, mount, tmp_path):
    (tmp_path / "link").symlink_to(mount / "tag" / "v1.0" / "pressure")
    inside = zfuse("info", tmp_path / "link", "--json").json
    assert (inside["ref"], inside["path"]) == ("tag/v1.0", "/pressure")


def test_a_path_of_no_version_is_explained(zfuse, mount):
    zfuse("ls", mount / "branch").fails(2, "point below branch/NAME")


def test_there_is_no_colour_where_no_terminal_is(zfuse, repository):
    assert "\x1b" not in zfuse("log", repository).out


def test_show_takes_the_ref_from_flags_and_from_paths(zfuse, mount, repository, official):
    tagged = zfuse("show", repository, "v1.0", "--json").json
    assert tagged["id"] == official.lookup_tag("v1.0")
    assert zfuse("show", repository, "--tag", "v1.0", "--json").json == tagged
    assert zfuse("show", mount / "tag" / "v1.0", "--json").json == tagged
    shown = zfuse("show", "--json", cwd=mount / "branch" / "draft").json
    assert shown["id"] == official.lookup_branch("draft")
    # What is to be looked at by default does not hide the list of refs.
    listed = zfuse("show", repository, "--json", env={"ZFUSE_TAG": "v1.0"}).json
    assert set(listed["branches"]) == {"draft", "main"}


def test_the_graph_of_a_ref_is_its_history(zfuse, repository):
    lines = zfuse("log", repository, "v1.0", "--graph").out.splitlines()
    assert len(lines) == 2
    assert "tag: v1.0" in lines[0]


def test_an_array_is_listed_and_drawn_as_itself(zfuse, repository):
    (row,) = zfuse("ls", "-l", repository, "pressure", "--json").json_lines
    assert (row["name"], row["bytes_stored"]) == ("pressure", 1600)
    assert "10 x 20 float64" in zfuse("tree", repository, "pressure").out


def test_one_chunk_is_not_chunks(zfuse, tmp_path):
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "repo")))
    with repo.transaction("main", message="add", metadata={"by": {"who": "me"}}) as store:
        zarr.create_array(store, name="a", shape=(1,), dtype="i4")[:] = 1
    assert "  1 chunk, " in zfuse("ls", "-l", tmp_path / "repo").out
    assert re.search(r'^by: +{"who": "me"}$', zfuse("show", tmp_path / "repo", "main").out, re.M)


def test_what_a_repository_says_cannot_steer_the_terminal(zfuse, tmp_path):
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "repo")))
    nasty = "\x1b]0;owned\x07\x9b2J\u202e"
    metadata = {f"key{nasty}": f"value{nasty}"}
    with repo.transaction("main", message=f"one{nasty}\ntwo{nasty}", metadata=metadata) as store:
        group = zarr.create_group(store)
        group.create_group(f"g{nasty}")
        group.create_array(f"a{nasty}\nb", shape=(1,), dtype="i4", dimension_names=[nasty])[:] = 1
    repo.create_branch(f"b{nasty}", repo.lookup_branch("main"))
    repo.create_tag(f"t{nasty}", repo.lookup_branch("main"))
    for command in (["log"], ["show"], ["show", "main"], ["ls", "-l"], ["tree"]):
        outcome = zfuse(command[0], tmp_path / "repo", *command[1:])
        assert outcome.status == 0
        assert r"\x1b]0;owned\x07\x9b2J\u202e" in outcome.out
        assert not set(outcome.out) & set("\x1b\x07\x9b\u202e")
    described = zfuse("info", tmp_path / "repo", f"a{nasty}\nb")
    assert described.status == 0
    assert "\x1b" not in described.out
    assert r"\nb" in described.out
    assert "\x1b" not in zfuse("ls", tmp_path / "repo", f"x{nasty}").err
    (newest, *_) = zfuse("log", tmp_path / "repo", "--json").json_lines
    assert newest["message"] == f"one{nasty}\ntwo{nasty}"


def test_without_credentials_it_says_how_to_give_some(zfuse):
    there = ["s3://bucket/repo", "--endpoint-url", "http://127.0.0.1:1", "--region", "x"]
    zfuse("ls", *there).fails(12, "AWS_ACCESS_KEY_ID", "--profile", "--anonymous")


def test_who_was_refused_without_credentials_is_not_told_to_send_none(zfuse, s3_server):
    outcome = zfuse("ls", "s3://closed/repo", "--anonymous", env=s3_server.environment())
    outcome.fails(12, "whose credentials are sent")
    assert "pass --anonymous" not in outcome.err
