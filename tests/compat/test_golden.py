"""Every file of every golden repository decodes to what its writer reported of it."""

from dataclasses import replace
from itertools import zip_longest

import pytest

from tests.compat.golden import NAMES, Golden, as_id, line, microseconds
from tests.compat.golden_content import CONTAINER, MODIFIED
from zfuse.format.chunk_ref import VirtualRef
from zfuse.format.config import RepositoryConfig, StoreConfig
from zfuse.format.ids import NodeId
from zfuse.format.manifest import Manifest
from zfuse.format.repo_info import Availability, RepoInfo, UpdateKind
from zfuse.format.snapshot import ArrayNode, Snapshot
from zfuse.format.transaction_log import TransactionLog

WHAT = ("groups", "arrays")
SPEC2 = [name for name in NAMES if Golden(name).report.get("repo_info")]
MODERN = [name for name in NAMES if "references" in Golden(name).report]


@pytest.fixture
def golden(request):
    return Golden(request.param)


each = pytest.mark.parametrize("golden", NAMES, indirect=True)
each_spec2 = pytest.mark.parametrize("golden", SPEC2, indirect=True)
each_modern = pytest.mark.parametrize("golden", MODERN, indirect=True)


def test_all_golden_repositories_are_there():
    assert NAMES == [
        "icechunk-1.1.21-spec1",
        "icechunk-1.1.21-upgraded-by-2.3.0",
        "icechunk-2.3.0-spec1",
        "icechunk-2.3.0-spec2",
    ]
    assert len(SPEC2) == 2
    assert len(MODERN) == 3


@each
def test_every_key_has_the_reported_content(golden):
    for name, told in golden.report["snapshots"].items():
        found = golden.keys(golden.snapshot(name))
        unreadable = {key for keys in told["unreadable"].values() for key in keys}
        assert found.keys() == told["keys"].keys() | unreadable
        for key, content in told["keys"].items():
            assert found[key] == content, key
        for kind, keys in told["unreadable"].items():
            # Only 1.x reads chunks of no bytes; whatever else fails is a virtual chunk.
            expected = "0 e3b0c44298fc1c149afbf4c8" if kind == "invalid-byte-range" else None
            assert {found[key] for key in keys} == {expected}


@each
def test_snapshots(golden):
    for name, told in golden.report["snapshots"].items():
        snapshot = golden.snapshot(name)
        assert str(snapshot.id) == name
        assert snapshot.message == told["message"]
        assert snapshot.metadata == told["metadata"]
        assert snapshot.flushed_at == microseconds(told["written_at"])
        if golden.name.endswith("spec1"):
            assert snapshot.parent_id == as_id(told["parent"])
        if snapshot.spec_version == 2:
            assert snapshot.parent_id is None


@each
def test_nodes(golden):
    for name, told in golden.report["snapshots"].items():
        snapshot = golden.snapshot(name)
        for node, expected in zip(snapshot.nodes, told["inspect"]["nodes"], strict=True):
            # 1.x does not tell shapes
            assert {
                k: v for k, v in _node(node).items() if k in expected or k != "shape"
            } == expected
        assert [node.path.encode() for node in snapshot.nodes] == sorted(
            node.path.encode() for node in snapshot.nodes
        )


def _node(node):
    told = {"id": str(node.id), "path": node.path, "node_type": "group"}
    if isinstance(node, ArrayNode):
        told["node_type"] = "array"
        names = node.dimension_names or ()
        told["shape"] = [
            {"array_length": dimension.array_length, "num_chunks": dimension.num_chunks}
            | ({"name": name} if name is not None else {})
            for dimension, name in zip_longest(node.shape, names)
        ]
        told["manifest_refs"] = [
            {"id": str(ref.manifest_id), "extents": [list(extent) for extent in ref.extents]}
            for ref in node.manifests
        ]
    return told


@each
def test_manifest_files(golden):
    for name, told in golden.report["snapshots"].items():
        found = golden.snapshot(name).manifest_files
        assert told["inspect"]["manifests"] == [
            {
                "id": str(info.manifest_id),
                "size_bytes": info.size_bytes,
                "num_chunk_refs": info.num_chunk_refs,
            }
            for info in sorted(found.values(), key=lambda info: info.manifest_id)
        ]
        for info in found.values():
            assert len(golden.read(f"manifests/{info.manifest_id}")) == info.size_bytes


@each
def test_every_manifest_says_how_many_references_it_holds(golden):
    counts = {
        str(info.manifest_id): info.num_chunk_refs
        for name in golden.report["snapshots"]
        for info in golden.snapshot(name).manifest_files.values()
    }
    files = list((golden.repository / "manifests").iterdir())
    assert len(files) >= len(counts) > 10
    for file in files:
        manifest = Manifest.decode(file.read_bytes())
        assert str(manifest.id) == file.name
        found = sum(
            len(manifest.array(node_id, rank) or ())
            for node_id in manifest.node_ids()
            for rank in manifest.ranks(node_id)
        )
        assert found == counts.get(file.name, found)


@each_modern
def test_references(golden):
    told = golden.report["references"]
    seen = set()
    for name in golden.report["snapshots"]:
        for node in golden.snapshot(name).nodes:
            if not isinstance(node, ArrayNode) or not node.manifests:
                continue
            key = " ".join([str(node.id), *(str(ref.manifest_id) for ref in node.manifests)])
            seen.add(key)
            if told[key] is not None:
                found = sorted(golden.references(node), key=lambda pair: pair[0])
                named = {"named": f"{CONTAINER}named/"}
                assert [line(coords, ref, named) for coords, ref in found] == told[key]
    assert seen == told.keys()


@each
def test_checksums_of_virtual_chunks(golden):
    snapshot = golden.snapshot(golden.report["branches"]["main"])
    (node,) = (node for node in snapshot.nodes if node.path == "/virtual")
    refs = {coords: ref for coords, ref in golden.references(node) if coords[0] < 3}
    assert refs[0,] == VirtualRef(CONTAINER + "a.bin", 0, 1)
    modified = int(MODIFIED.timestamp())
    assert refs[1,] == VirtualRef(CONTAINER + "a%20b.bin", 7, 2**33, None, modified)
    assert (refs[2,].offset, refs[2,].size, refs[2,].etag) == (2**40, 3, '"etag"')


@each_spec2
def test_repo_info(golden):
    told = golden.report["repo_info"]
    info = golden.repo_info()
    assert {name: str(tip) for name, tip in info.branches.items()} == told["branches"]
    assert {name: str(tip) for name, tip in info.tags.items()} == told["tags"]
    assert list(info.deleted_tags) == told["deleted_tags"] == ["gone"]
    assert info.metadata == told["metadata"] == golden.report["repository_metadata"]
    assert {str(snapshot) for snapshot in info.snapshots} == {s["id"] for s in told["snapshots"]}
    for snapshot in told["snapshots"]:
        found = info.snapshots[as_id(snapshot["id"])]
        assert found.parent_id == as_id(snapshot.get("parent_id"))
        assert found.flushed_at == microseconds(snapshot["flushed_at"])
        assert found.message == snapshot["message"]
        assert found.metadata == snapshot["metadata"]


def test_status_and_flags():
    golden = Golden("icechunk-2.3.0-spec2")
    info = golden.repo_info()
    assert info.status.availability is Availability.READ_ONLY
    assert info.status.reason == "golden"
    assert info.status.set_at == microseconds(
        golden.report["ops_log"][0]["fields"]["status"]["set_at"]
    )
    assert info.enabled_feature_flags == (3,)
    assert info.disabled_feature_flags == (5,)


@each_spec2
def test_ancestry(golden):
    snapshots = golden.repo_info().snapshots
    for tip, line_of_descent in golden.report["ancestry"].items():
        found, current = [], as_id(tip)
        while current is not None:
            found.append(str(current))
            current = snapshots[current].parent_id
        assert found == line_of_descent


def test_expired_ancestors_are_named_by_the_survivor():
    infos = Golden("icechunk-2.3.0-spec2").repo_info().snapshots.values()
    (survivor,) = (info for info in infos if info.message == "survives")
    assert len(survivor.pruned_ancestor_tx_logs) == 2
    logs = [
        TransactionLog.decode(Golden("icechunk-2.3.0-spec2").read(f"transactions/{log}"))
        for log in survivor.pruned_ancestor_tx_logs
    ]
    assert [len(log.new_arrays) for log in logs] == [1, 0]  # oldest first


@each_spec2
def test_ops_log_goes_on_in_older_files(golden):
    updates, page, pages = [], golden.repo_info(), 1
    updates.extend(page.latest_updates)
    while (name := page.repo_before_updates) is not None:
        page = RepoInfo.decode(golden.read(f"overwritten/{name}"))
        newest, *older = page.latest_updates
        # The newest entry of a page had no backup yet when that page was: now it is the page.
        updates += [replace(newest, backup_path=name), *older]
        pages += 1
    assert [_update(update) for update in updates] == [
        (u["kind"], microseconds(u["updated_at"]), u["backup_path"], _fields(u["fields"]))
        for u in golden.report["ops_log"]
    ]
    assert (pages > 2) == (golden.name == "icechunk-2.3.0-spec2")


def _update(update):
    details = {key: value for key, value in update.details.items() if key != "is_set"}
    if update.kind is UpdateKind.REPO_STATUS_CHANGED:
        status = details.pop("status")
        details |= {"set_at": status.set_at, "reason": status.reason}
    details = {k: str(v) if isinstance(v, bytes) else v for k, v in details.items()}
    kind = update.kind.name.title().replace("_", "")
    return kind.replace("Gc", "GC"), update.updated_at, update.backup_path, details


def _fields(told):
    told = dict(told)
    if "status" in told:
        status = told.pop("status")
        told |= {"set_at": microseconds(status["set_at"]), "reason": status["reason"]}
    return told


@each_spec2
def test_every_former_repo_info_decodes(golden):
    ids = {update["backup_path"] for update in golden.report["ops_log"]} - {None}
    files = list((golden.repository / "overwritten").iterdir())
    assert {file.name for file in files if file.name.startswith("repo.")} == ids
    infos = [RepoInfo.decode(f.read_bytes()) for f in files if f.name.startswith("repo.")]
    times = {info.latest_updates[0].updated_at for info in infos}
    assert len(times) == len(ids) > 1


@each
def test_transaction_logs(golden):
    for name, told in golden.report["snapshots"].items():
        if not (golden.repository / "transactions" / name).exists():
            assert told["parent"] is None
            continue
        log = TransactionLog.decode(golden.read(f"transactions/{name}"))
        assert str(log.id) == name
        expected = told.get("transaction_log")
        if expected is not None and not _pruned(golden, name):
            assert _log(log) == _sorted(expected)


def _pruned(golden, name):
    """Return whether the library merges logs of expired ancestors into what it tells."""
    if not golden.name.endswith("spec2"):
        return False
    return bool(golden.repo_info().snapshots[as_id(name)].pruned_ancestor_tx_logs)


def _log(log):
    names = [f"{kind}_{what}" for kind in ("new", "deleted", "updated") for what in WHAT]
    told = {name: sorted(map(str, getattr(log, name))) for name in names}
    told["updated_chunks"] = {
        str(node_id): sorted(c for rank in ranks for c in rank.tolist())
        for node_id, ranks in log.updated_chunks.items()
    }
    told["moved_nodes"] = [{"from": move.source, "to": move.target} for move in log.moved_nodes]
    return told


def _sorted(told):
    chunks = {entry["node_id"]: sorted(entry["chunks"]) for entry in told["updated_chunks"]}
    lists = {key: sorted(told[key]) for key in told if key.endswith(WHAT)}
    return lists | {"updated_chunks": chunks, "moved_nodes": told["moved_nodes"]}


def test_transaction_logs_of_1_x_say_what_its_diff_says():
    golden = Golden("icechunk-1.1.21-spec1")
    for name, told in golden.report["snapshots"].items():
        if told["parent"] is None or told["message"] == "survives":
            continue  # the diff of a survivor has the expired changes too
        log = TransactionLog.decode(golden.read(f"transactions/{name}"))
        paths = _paths(golden.snapshot(told["parent"])) | _paths(golden.snapshot(name))
        expected = told["changes"]
        for kind in ("new", "deleted", "updated"):
            for what in WHAT:
                change = f"{kind}_{what}"
                assert sorted(paths[node] for node in getattr(log, change)) == expected[change]
        assert expected["updated_chunks"] == {
            paths[node]: sorted(c for rank in ranks for c in rank.tolist())
            for node, ranks in log.updated_chunks.items()
        }


def _paths(snapshot: Snapshot) -> dict[NodeId, str]:
    return {node.id: node.path for node in snapshot.nodes}


def test_moved_nodes():
    golden = Golden("icechunk-2.3.0-spec2")
    (name,) = (n for n, told in golden.report["snapshots"].items() if told["message"] == "moved")
    ids = {path: node for node, path in _paths(golden.snapshot(name)).items()}
    log = TransactionLog.decode(golden.read(f"transactions/{name}"))
    assert {(move.target, move.node_id, move.is_array) for move in log.moved_nodes} == {
        ("/bar", ids["/bar"], False),
        ("/bar/native", ids["/bar/native"], True),
        ("/bar/x", ids["/bar/x"], False),
    }


@each
def test_config(golden):
    path = golden.repository / "config.yaml"
    if path.exists():
        config = RepositoryConfig.from_yaml(path.read_bytes())
    else:
        config = RepositoryConfig.from_values(golden.repo_info().config)
    assert config.inline_chunk_threshold_bytes == 100
    container = config.virtual_chunk_containers[CONTAINER]
    assert container.url_prefix == CONTAINER
    assert container.store == StoreConfig("local_file_system", {"path": "/tmp/zfuse-golden"})
    assert container.name is None
    assert config.raw["manifest"]["splitting"]["split_sizes"] == [
        [
            {"path_matches": {"regex": "^/split$"}},
            [
                {"condition": {"Axis": 0}, "num_chunks": 2},
                {"condition": {"Axis": 1}, "num_chunks": 3},
            ],
        ]
    ]
    names = {c.name for c in config.virtual_chunk_containers.values()}
    assert names == ({None, "named"} if golden.name == "icechunk-2.3.0-spec2" else {None})
