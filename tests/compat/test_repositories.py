"""The test repositories are what their builders say, by the word of the official library."""

import pytest
from icechunk import ChunkType

from tests.compat.oracle import Ref, Refused, official_keys
from tests.compat.place import local_place
from tests.compat.repositories import build

pytestmark = pytest.mark.compat
MAIN = Ref("branch", "main")
both = pytest.mark.parametrize("spec", [1, 2])


def manifests(repo, ref):
    return repo.list_manifest_files(repo.readonly_session(**{ref.kind: ref.name}).snapshot_id)


@both
def test_kinds_has_one_array_with_all_kinds_of_chunks(spec, tmp_path):
    session = build("kinds", spec, local_place(tmp_path)).open().readonly_session("main")
    kinds = [session.chunk_type("/a", [row, 1]) for row in range(5)]
    assert kinds == [ChunkType.inline] * 3 + [ChunkType.native] * 2
    assert session.chunk_type("/a", [9, 0]) == ChunkType.virtual


@both
def test_good_virtual_references_are_read_and_bad_ones_are_not(spec, tmp_path):
    keys = official_keys(build("virtual", spec, local_place(tmp_path)).open(), MAIN)
    chunks = {key: content for key, content in keys.items() if "/c/" in key}
    refused = {key for key, content in chunks.items() if isinstance(content, Refused)}
    assert refused == {key for key in chunks if key.startswith("bad/")}
    assert len(refused) == 12
    assert len(chunks) == 28


@pytest.mark.parametrize(("spec", "compressed"), [(1, False), (2, True)])
def test_many_virtual_locations_are_compressed_in_version_2(spec, compressed, tmp_path):
    repo = build("many_virtual", spec, local_place(tmp_path)).open()
    (manifest,) = manifests(repo, MAIN)
    told = repo.inspect_manifest(manifest.id)
    assert told["total_virtual"] == 1200
    assert told["compression"]["uses_location_compression"] is compressed


@both
def test_split_manifests_are_several_before_and_after_the_rewriting(spec, tmp_path):
    repo = build("split_manifests", spec, local_place(tmp_path)).open()
    assert len(manifests(repo, Ref("tag", "split"))) == 10
    assert len(manifests(repo, MAIN)) == 8


@both
def test_what_a_shrinking_array_lost_stays_lost(spec, tmp_path):
    keys = official_keys(build("resized", spec, local_place(tmp_path)).open(), MAIN)
    assert sorted(key for key in keys if "/c/" in key) == ["a/c/0", "a/c/1"]
    assert keys["a/c/1"] == b"\2\2"


def test_an_upgraded_repository_holds_files_of_both_versions(tmp_path):
    made = build("upgraded", 2, local_place(tmp_path))
    repo = made.open()
    told = {repo.inspect_snapshot(s)["header"]["spec_version"] for s in made.snapshots}
    assert told == {"1.0", "2.0"}
    assert repo.list_tags() == {"before", "upgraded"}


def test_the_ops_log_of_ops_pages_goes_on_in_older_files(tmp_path):
    repo = build("ops_pages", 2, local_place(tmp_path)).open()
    assert len(repo.inspect_repo_info()["latest_updates"]) < len(list(repo.ops_log())) == 19


@both
def test_expiration_hangs_the_oldest_survivor_on_the_first_snapshot(spec, tmp_path):
    repo = build("expired", spec, local_place(tmp_path)).open()
    assert [s.message.split()[1] for s in repo.ancestry(branch="main")] == ["4", "3", "initialized"]


def test_unreferenced_snapshots_can_be_opened(tmp_path):
    made = build("unreferenced", 2, local_place(tmp_path))
    ancestors = {s.id for s in made.open().ancestry(branch="main")}
    assert len(set(made.snapshots) - ancestors) == 3


def test_odd_refs_of_version_1_are_known_by_their_true_names(tmp_path):
    made = build("refs_v1", 1, local_place(tmp_path))
    assert {"ü", "x\ny", "100%", ".."} <= made.tags.keys() & made.branches.keys()
    assert "%C3%BC" in made.open().list_branches()
