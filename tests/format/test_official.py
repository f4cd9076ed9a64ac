"""Files that icechunk 2.3.0 has just written decode to what it says of them itself."""

from itertools import zip_longest
from pathlib import Path

import pytest
from zarr.core.sync import sync

from tests.compat.golden import as_id, line, microseconds
from tests.compat.golden_report import digest, reference
from tests.compat.place import local_place
from tests.compat.repositories import BUILDERS, build
from zfuse.format.ids import INITIAL_SNAPSHOT, ManifestId, NodeId
from zfuse.format.layout import manifest_key, snapshot_key, transaction_log_key
from zfuse.format.manifest import Manifest
from zfuse.format.repo_info import RepoInfo
from zfuse.format.snapshot import ArrayNode, Snapshot
from zfuse.format.transaction_log import TransactionLog

KINDS = {1: "native", 2: "virtual", 3: "inline"}
WANTED = ("many_virtual", "split_manifests", "wrong_rank", "names", "refs", "resized", "deleted")
CASES = [(name, spec) for name in WANTED for spec in BUILDERS[name].specs]

pytestmark = pytest.mark.compat


class Repository:
    """A repository and its official reader."""

    def __init__(self, made):
        self.made = made
        self.official = made.open()
        self.snapshots = made.snapshots

    def read(self, key):
        return Path(self.made.url, key).read_bytes()

    def snapshot(self, name):
        return Snapshot.decode(self.read(snapshot_key(as_id(name))))


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def repository(request, tmp_path_factory):
    name, spec = request.param
    return Repository(build(name, spec, local_place(tmp_path_factory.mktemp(name))))


def test_snapshots(repository):
    for name in repository.snapshots:
        snapshot, told = repository.snapshot(name), repository.official.inspect_snapshot(name)
        assert str(snapshot.id) == told["id"] == name
        assert snapshot.spec_version == int(float(told["header"]["spec_version"]))
        assert snapshot.flushed_at == microseconds(told["flushed_at"])
        assert snapshot.message == told["commit_message"]
        assert snapshot.metadata == told["metadata"]
        assert [_node(node) for node in snapshot.nodes] == told["nodes"]
        assert {
            str(info.manifest_id): (info.size_bytes, info.num_chunk_refs)
            for info in snapshot.manifest_files.values()
        } == {m["id"]: (m["size_bytes"], m["num_chunk_refs"]) for m in told["manifests"]}


def _node(node):
    told = {"id": str(node.id), "path": node.path, "node_type": "group"}
    if isinstance(node, ArrayNode):
        told["node_type"] = "array"
        told["shape"] = [
            {"array_length": dimension.array_length, "num_chunks": dimension.num_chunks}
            | ({"name": name} if name is not None else {})
            for dimension, name in zip_longest(node.shape, node.dimension_names or ())
        ]
        told["manifest_refs"] = [
            {"id": str(ref.manifest_id), "extents": [list(extent) for extent in ref.extents]}
            for ref in node.manifests
        ]
    return told


def test_manifests(repository):
    ids = {
        info for name in repository.snapshots for info in repository.snapshot(name).manifest_files
    }
    for manifest_id in ids:
        manifest = Manifest.decode(repository.read(manifest_key(manifest_id)))
        told = repository.official.inspect_manifest(str(manifest_id))
        assert manifest.id == ManifestId.parse(told["id"]) == manifest_id
        assert {str(node_id): _count(manifest, node_id) for node_id in manifest.node_ids()} == {
            array["node_id"]: array["num_chunk_refs"] for array in told["arrays"]
        }


def _count(manifest, node_id):
    return sum(len(manifest.array(node_id, rank)) for rank in manifest.ranks(node_id))


def test_references(repository):
    for name in repository.snapshots:
        session = repository.official.readonly_session(snapshot_id=name)
        for node in repository.snapshot(name).nodes:
            if isinstance(node, ArrayNode) and node.manifests:
                found = list(_found(repository, node))
                assert len({coords for coords, _ in found}) == len(found)
                told = sync(_told(session, node.path))
                if told is not None:
                    assert sorted(line(coords, ref, {}) for coords, ref in found) == told


def _found(repository, node):
    for manifest_id in {ref.manifest_id for ref in node.manifests}:
        manifest = Manifest.decode(repository.read(manifest_key(manifest_id)))
        for rank in manifest.ranks(node.id):
            array = manifest.array(node.id, rank)
            for row, coords in enumerate(array.coords(0, len(array)).tolist()):
                assert array.find(coords) == row
                ref = array.ref(row)
                assert array.sizes(row, row + 1) == [ref.size]
                yield tuple(coords), ref


async def _told(session, path):
    lines = []
    try:
        async for batch in session.store.array_chunk_iterator(path):
            coords, kinds, locations, offsets, lengths, inlined = batch
            for row, index in enumerate(coords.tolist()):
                kind = KINDS[int(kinds[row])]
                where = digest(inlined[row]) if kind == "inline" else locations[row]
                lines.append(reference(index, kind, int(offsets[row]), int(lengths[row]), where))
    except ValueError:  # it cannot cope with indices of several ranks in one array
        return None
    return sorted(lines)


def test_transaction_logs(repository):
    for name in repository.snapshots:
        if name == str(INITIAL_SNAPSHOT) and repository.made.spec == 1:
            continue
        log = TransactionLog.decode(repository.read(transaction_log_key(as_id(name))))
        told = repository.official.inspect_transaction_log(name)
        assert str(log.id) == name
        for change in ("new", "deleted", "updated"):
            for what in ("groups", "arrays"):
                ids = told[f"{change}_{what}"]
                assert getattr(log, f"{change}_{what}") == {NodeId.parse(each) for each in ids}
        assert {
            str(node_id): sorted(index for coords in ranks for index in coords.tolist())
            for node_id, ranks in log.updated_chunks.items()
        } == {each["node_id"]: sorted(each["chunks"]) for each in told["updated_chunks"]}
        assert len(log.moved_nodes) == len(told["moved_nodes"])


def test_repo_info(repository):
    if repository.made.spec == 1:
        assert not Path(repository.made.url, "repo").exists()
        return
    info, told = RepoInfo.decode(repository.read("repo")), repository.official.inspect_repo_info()
    assert {name: str(tip) for name, tip in info.branches.items()} == told["branches"]
    assert {name: str(tip) for name, tip in info.tags.items()} == told["tags"]
    assert sorted(info.deleted_tags) == sorted(told["deleted_tags"])
    assert {str(snapshot): info.snapshots[snapshot].parent_id for snapshot in info.snapshots} == {
        each["id"]: as_id(each.get("parent_id")) for each in told["snapshots"]
    }
    for each in told["snapshots"]:
        found = info.snapshots[as_id(each["id"])]
        assert (found.message, found.metadata) == (each["message"], each["metadata"])
        assert found.flushed_at == microseconds(each["flushed_at"])
    assert [update.updated_at for update in info.latest_updates] == [
        int(update.updated_at.timestamp() * 1_000_000 + 0.5)
        for update in repository.official.ops_log()
    ][: len(info.latest_updates)]


def test_ancestry(repository):
    parents = {name: repository.snapshot(name).parent_id for name in repository.snapshots}
    if repository.made.spec == 2:
        known = RepoInfo.decode(repository.read("repo")).snapshots
        assert set(parents.values()) == {None}  # version 2 keeps them in the repo info alone
        parents = {str(snapshot): known[snapshot].parent_id for snapshot in known}
    for tip in repository.made.branches.values():
        found, current = [], tip
        while current is not None:
            found.append(current)
            parent = parents[current]
            current = None if parent is None else str(parent)
        assert found == [info.id for info in repository.official.ancestry(snapshot_id=tip)]
