"""Expiration, garbage collection and upgrades do to random histories what icechunk's do."""

import os
import random
from dataclasses import replace
from datetime import UTC, datetime

import icechunk
import pytest
import trio

from tests.compat.random_history import (
    History,
    facts,
    microseconds,
    objects,
    open_for_tests,
    read_officially,
    read_with_zfuse,
)
from zfuse.format.repo_info import RepoInfo, UpdateKind
from zfuse.maintenance.expire import expire_snapshots
from zfuse.maintenance.gc import collect_garbage
from zfuse.maintenance.rewrite_manifests import rewrite_manifests
from zfuse.maintenance.stats import chunk_storage_stats
from zfuse.maintenance.upgrade import upgrade_repository

pytestmark = pytest.mark.compat

DATA = bytes(range(100))
SPECS = pytest.mark.parametrize("spec", [1, 2])


def make(tmp_path, spec, seed, steps=12):
    return History.make(tmp_path / "made", spec, random.Random(2 * seed + spec), steps)


def zfuse_does(function, path, *arguments, **options):
    """Open the repository at *path* and call *function* with it."""

    async def act():
        return await function(await open_for_tests(path), *arguments, **options)

    return trio.run(act)


def check_reading(history, path, before):
    """Assert that both libraries read all that is left of *before*, alike and as it was."""
    officially = read_officially(history.open(path))
    assert trio.run(read_with_zfuse, path, DATA) == officially
    for name, content in officially.items():
        assert without_history(content) == without_history(before[name]), name


def without_history(content):
    return {key: data for key, data in content.items() if key != "history"}


def check_maintenance(history):
    """Expire and collect garbage with each library on a copy: the same is left, and reads."""
    rng, theirs, ours = history.rng, history.copy("theirs"), history.copy("ours")
    before = read_officially(history.open())
    if rng.random() < 0.7:
        moment = history.moment()
        refs = {f"delete_expired_{kind}": rng.random() < 0.5 for kind in ("branches", "tags")}
        expired = history.open(theirs).expire_snapshots(moment, **refs)
        found = zfuse_does(expire_snapshots, ours, microseconds(moment), **refs)
        assert {str(each) for each in found} == expired
        assert facts(ours) == facts(theirs)
        assert objects(ours) == objects(theirs)
        assert _updates(history.open(ours)) == _updates(history.open(theirs))
        check_reading(history, ours, before)
    moment = rng.choice([history.moment(), datetime.now(UTC)])
    for path in ours.glob("overwritten/*"):
        os.utime(path, (1, 1))
    would = zfuse_does(collect_garbage, ours, microseconds(moment), dry_run=True)
    was = objects(ours)
    official = history.open(theirs).garbage_collect(moment)
    summary = zfuse_does(collect_garbage, ours, microseconds(moment))
    for kind in ("chunks", "manifests", "snapshots", "transaction_logs", "attributes"):
        assert getattr(summary, f"{kind}_deleted") == getattr(official, f"{kind}_deleted"), kind
    assert would == summary
    assert objects(ours) == objects(theirs)
    assert facts(ours) == facts(theirs)
    sizes = sum(len((history.path / key).read_bytes()) for key in was - objects(ours))
    if history.spec == 2:  # in version 1 expiration may have written a file of another size
        assert summary.bytes_deleted == official.bytes_deleted == sizes
    assert _updates(history.open(ours)) == _updates(history.open(theirs))
    check_reading(history, ours, before)


def _updates(repo):
    return [str(each.kind) for each in repo.ops_log()] if repo.spec_version == 2 else []


@SPECS
@pytest.mark.parametrize("seed", range(7))
def test_expiration_and_collection_are_the_official_ones(seed, spec, tmp_path):
    check_maintenance(make(tmp_path, spec, seed))


@pytest.mark.long
@SPECS
@pytest.mark.parametrize("batch", range(10))
def test_expiration_and_collection_are_the_official_ones_at_length(batch, spec, tmp_path):
    for seed in range(1000 + 25 * batch, 1025 + 25 * batch):
        check_maintenance(make(tmp_path / str(seed), spec, seed, steps=16))


@SPECS
@pytest.mark.parametrize("seed", range(100, 103))
def test_chunks_are_counted_as_officially(seed, spec, tmp_path):
    history = make(tmp_path, spec, seed)
    ours = zfuse_does(chunk_storage_stats, history.path)
    theirs = history.open().chunk_storage_stats()
    assert (ours.native_bytes, ours.virtual_bytes, ours.inlined_bytes) == (
        theirs.native_bytes,
        theirs.virtual_bytes,
        theirs.inlined_bytes,
    )
    assert ours.total_bytes() == theirs.total_bytes() > 0
    assert ours.non_virtual_bytes() == theirs.non_virtual_bytes()


@pytest.mark.parametrize("seed", range(200, 205))
def test_an_upgrade_is_the_official_one(seed, tmp_path):
    history = make(tmp_path, 1, seed, steps=16)
    before = read_officially(history.open())
    theirs, ours = history.copy("theirs"), history.copy("ours")
    icechunk.upgrade_icechunk_repository(history.open(theirs), dry_run=False)
    was = objects(ours)
    would = zfuse_does(upgrade_repository, ours, dry_run=True)
    assert objects(ours) == was
    summary = zfuse_does(upgrade_repository, ours)
    assert summary == would
    assert not summary.was_version_2
    official, own = (RepoInfo.decode((path / "repo").read_bytes()) for path in (theirs, ours))
    assert own.latest_updates[0].kind is UpdateKind.REPO_MIGRATED
    assert own.latest_updates[0].updated_at > own.latest_updates[1].updated_at
    assert _undated(own) == _undated(official)
    assert objects(ours) == objects(theirs)
    check_reading(history, ours, before)
    repo = history.open(ours)
    assert read_officially(repo) == before
    repo.create_tag("afterwards", repo.lookup_branch("main"))
    kinds = _updates(repo)
    assert "TagCreated" in kinds[0]
    assert "RepoMigrated" in kinds[1]
    assert "RepoInitialized" in kinds[-1]


def _undated(info):
    migrated, *others = info.latest_updates
    return replace(info, latest_updates=(replace(migrated, updated_at=0), *others))


@SPECS
@pytest.mark.parametrize("seed", range(300, 302))
def test_rewritten_manifests_read_as_before_and_are_split_as_officially(seed, spec, tmp_path):
    history = make(tmp_path, spec, seed)
    dimension = {icechunk.ManifestSplitDimCondition.Axis(0): 4}
    splitting = icechunk.ManifestSplittingConfig.from_dict(
        {icechunk.ManifestSplitCondition.AnyArray(): dimension}
    )
    config = icechunk.RepositoryConfig(manifest=icechunk.ManifestConfig(splitting=splitting))
    storage = icechunk.local_filesystem_storage(str(history.path))
    icechunk.Repository.open(storage, config=config).save_config()
    theirs, ours = history.copy("theirs"), history.copy("ours")
    before = read_officially(history.open())
    official = history.open(theirs).rewrite_manifests("again", branch="main", metadata={"a": 1})
    new = zfuse_does(rewrite_manifests, ours, "again", branch="main", metadata={"a": 1})
    repo = history.open(ours)
    assert _manifests(repo, str(new)) == _manifests(history.open(theirs), official)
    tip = repo.lookup_snapshot(str(new))
    assert tip.metadata == history.open(theirs).lookup_snapshot(official).metadata
    assert (tip.message, tip.id) == ("again", repo.lookup_branch("main"))
    assert repo.diff(from_snapshot_id=tip.parent_id, to_snapshot_id=tip.id).is_empty()
    check_reading(history, ours, before)
    chunks = {key for key in objects(ours) if key.startswith("chunks/")}
    assert chunks == {key for key in objects(history.path) if key.startswith("chunks/")}


def _manifests(repo, snapshot_id):
    return sorted(each.num_chunk_refs for each in repo.list_manifest_files(snapshot_id))
