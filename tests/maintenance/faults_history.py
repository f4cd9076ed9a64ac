"""Faults of entry objects, snapshots and transaction logs, to be planted.

Each function damages a Planted and returns the object that a finding has to name, and words of it.
"""

from dataclasses import replace

from tests.maintenance.planting import GROUP, Planted, put_number, swap
from zfuse.format.ids import INITIAL_SNAPSHOT, ManifestId, NodeId, SnapshotId
from zfuse.format.ref_file import encode_ref, tag_key
from zfuse.format.snapshot import GroupNode
from zfuse.format.transaction_log import MoveOperation

OTHER = b'{"zarr_format":3,"node_type":"array","shape":[6,4],'
UNKNOWN = SnapshotId(b"unknown here")


# -- version 2: the repo info -------------------------------------------------------------------


def repo_info_cut_off(p: Planted):
    p.cut("repo", 200)
    return "repo", "newest copy that can be read is overwritten/repo."


def repo_info_bad_magic(p: Planted):
    p.patch("repo", 3, 0x58)
    return "repo", "bad magic"


def repo_info_of_another_type(p: Planted):
    p.patch("repo", 37, 1)
    return "repo", "expected file type REPO_INFO"


def repo_info_not_compressed(p: Planted):
    p.patch("repo", 38, 0)
    return "repo", "not compressed"


def repo_info_branches_out_of_order(p: Planted):
    p.patch_payload("repo", lambda data, root: swap(data, root, 2))
    return "repo", "branches are out of order"


def repo_info_branch_twice(p: Planted):
    p.patch_payload("repo", lambda data, root: swap(data, root, 2, double=True))
    return "repo", "branches are out of order, or one comes twice"


def repo_info_without_main(p: Planted):
    def change(data, root):
        data[:] = data.replace(b"main\0", b"mail\0")

    p.patch_payload("repo", change)
    return "repo", "no branch main"


def ref_out_of_bounds(p: Planted):
    p.patch_payload("repo", lambda d, root: put_number(d, root.tables(2)[0], 1, "<I", 99))
    return "repo", "is at snapshot 99 of 3"


def parent_out_of_bounds(p: Planted):
    def change(data, root):
        told = [table for table in root.tables(4) if table._find(1, 4)]
        put_number(data, told[0], 1, "<i", 7)

    p.patch_payload("repo", change)
    return "repo", "a parent is snapshot 7 of 3"


def snapshot_own_ancestor(p: Planted):
    def change(data, root):
        told = [n for n, table in enumerate(root.tables(4)) if table._find(1, 4)]
        put_number(data, root.tables(4)[told[0]], 1, "<i", told[0])

    p.patch_payload("repo", change)
    return "repo", "its own ancestor"


def parent_younger(p: Planted):
    infos = p.info().snapshots
    late = replace(infos[p.parent()], flushed_at=infos[p.tip()].flushed_at + 1)
    p.change_info(snapshots={**infos, late.id: late})
    return "repo", f"{p.tip()} is not younger than its parent"


def tag_deleted_and_there(p: Planted):
    p.change_info(deleted_tags=("gone", "v1"))
    return "repo", "'v1' is said to be deleted"


def updates_out_of_order(p: Planted):
    p.change_info(latest_updates=p.info().latest_updates[::-1])
    return "repo", "updates are out of order"


def ops_log_empty(p: Planted):
    p.change_info(latest_updates=())
    return "repo", "ops log is empty"


def ops_log_page_gone(p: Planted):
    key = f"overwritten/{p.info().repo_before_updates}"
    p.file(key).unlink()
    return key, "gone, though the ops log goes on there"


def ops_log_page_damaged(p: Planted):
    key = f"overwritten/{p.info().repo_before_updates}"
    p.cut(key)
    return key, "the ops log goes on there, but it is damaged"


def ops_log_in_a_circle(p: Planted):
    page = p.info().repo_before_updates
    p.file(f"overwritten/{page}").write_bytes(p.file("repo").read_bytes())
    return f"overwritten/{page}", "comes back to this page"


def container_not_valid(p: Planted):
    (prefix,) = p.info().config["virtual_chunk_containers"]
    containers = {prefix: {"url_prefix": "nowhere", "store": {"s3": {}}}}
    p.change_info(config={**p.info().config, "virtual_chunk_containers": containers})
    return "repo", "of its config is not valid"


def config_not_settings(p: Planted):
    p.change_info(config=[1, 2])
    return "repo", "not a mapping of settings"


def time_unlike_in_repo_info(p: Planted):
    p.change_snapshot(flushed_at=p.snapshot().flushed_at + 1)
    return f"snapshots/{p.tip()}", "its time is not that in the repo info"


def message_unlike_in_repo_info(p: Planted):
    p.change_snapshot(message="another")
    return f"snapshots/{p.tip()}", "its message is not that in the repo info"


def pruned_log_gone(p: Planted):
    info = replace(p.info().snapshots[p.tip()], pruned_ancestor_tx_logs=(UNKNOWN,))
    p.change_info(snapshots={**p.info().snapshots, info.id: info})
    return f"transactions/{UNKNOWN}", "in place of an expired parent"


# -- version 1: refs and config -----------------------------------------------------------------


def main_gone(p: Planted):
    p.file("refs/branch.main/ref.json").unlink()
    return "refs/branch.main/ref.json", "no reader finds the repository"


def ref_not_json(p: Planted):
    p.file(tag_key("v1", encoded_names=True)).write_bytes(b"{")
    return tag_key("v1", encoded_names=True), "does not name a snapshot"


def ref_to_nowhere(p: Planted):
    p.file(tag_key("v1", encoded_names=True)).write_bytes(encode_ref(UNKNOWN))
    return f"snapshots/{UNKNOWN}", "gone"


def config_damaged(p: Planted):
    p.file("config.yaml").write_bytes(b"a: [")
    return "config.yaml", "damaged"


def parent_gone(p: Planted):
    p.file(f"snapshots/{INITIAL_SNAPSHOT}").unlink()
    return f"snapshots/{INITIAL_SNAPSHOT}", "gone"


def ancestry_in_a_circle(p: Planted):
    p.change_snapshot(p.parent(), parent_id=p.tip())
    return f"snapshots/{p.parent()}", "not younger than its parent"


def file_newer_than_repository(p: Planted):
    p.change_snapshot(spec_version=2)
    return f"snapshots/{p.tip()}", "it is of version 2, newer than the repository"


# -- both versions: snapshots -------------------------------------------------------------------


def snapshot_gone(p: Planted):
    key = f"snapshots/{p.tip()}"
    p.file(key).unlink()
    return key, "gone"


def snapshot_cut_off(p: Planted):
    key = f"snapshots/{p.tip()}"
    p.cut(key)
    return key, "damaged"


def snapshot_is_a_manifest(p: Planted):
    key = f"snapshots/{p.tip()}"
    p.file(key).write_bytes(p.file(p.manifest_key()).read_bytes())
    return key, "expected file type SNAPSHOT"


def snapshot_of_another_id(p: Planted):
    parent, key = p.parent(), f"snapshots/{p.tip()}"
    p.file(key).write_bytes(p.file(f"snapshots/{parent}").read_bytes())
    return key, f"says that its id is {parent}"


def nodes_out_of_order(p: Planted):
    key = f"snapshots/{p.tip()}"
    p.patch_payload(key, lambda data, root: swap(data, root, 2))
    return key, "nodes are out of order"


def node_twice(p: Planted):
    key = f"snapshots/{p.tip()}"
    p.patch_payload(key, lambda data, root: swap(data, root, 2, first=2, double=True))
    return key, "nodes are out of order, or one comes twice"


def document_not_json(p: Planted):
    p.change_node("/a", user_data=b"{")
    return f"snapshots/{p.tip()}", "not valid: it is not JSON"


def document_of_another_shape(p: Planted):
    document = p.node("/a").user_data.replace(b'"shape": [4, 4]', b'"shape": [3, 4]')
    p.change_node("/a", user_data=document)
    return f"snapshots/{p.tip()}", "its shape is not that of its zarr.json"


def document_of_another_grid(p: Planted):
    document = p.node("/a").user_data.replace(b'"chunk_shape": [2, 2]', b'"chunk_shape": [1, 2]')
    p.change_node("/a", user_data=document)
    return f"snapshots/{p.tip()}", "its chunk grid is not that"


def document_of_other_names(p: Planted):
    p.change_node("/a", dimension_names=("x", "y"))
    return f"snapshots/{p.tip()}", "its dimension names are not those"


def document_of_another_kind(p: Planted):
    p.change_node("/a", user_data=GROUP)
    return f"snapshots/{p.tip()}", "that of another kind of node"


def two_nodes_of_one_id(p: Planted):
    p.change_node("/g", id=p.node("/a").id)
    return f"snapshots/{p.tip()}", "it has the same id as /a"


def path_not_canonical(p: Planted):
    extra = GroupNode(NodeId(b"12345678"), "/g/../h", GROUP)
    p.change_snapshot(nodes=(*p.snapshot().nodes, extra))
    return f"snapshots/{p.tip()}", "path is not canonical"


def _rename_manifest(p: Planted, occurrence):
    """Replace the id of a manifest at one of the two places where a snapshot has it."""
    key, found = f"snapshots/{p.tip()}", bytes(p.node("/a").manifests[0].manifest_id)

    def change(data, root):
        places = [n for n in range(len(data)) if data[n : n + 12] == found]
        assert len(places) == 2
        listed = root.vector(6, 32) if p.spec == 1 else root.vector(7, 4)
        at = min(places, key=lambda place: abs(place - listed[0]))
        places.remove(at)
        at = at if occurrence == "listed" else places[0]
        data[at : at + 12] = b"another one "

    p.patch_payload(key, change)
    return key


def manifest_not_listed(p: Planted):
    name = p.manifest_key()
    key = _rename_manifest(p, "listed")
    return key, f"{name} is not listed among the files"


def manifest_listed_in_vain(p: Planted):
    key, name = _rename_manifest(p, "listed"), ManifestId(b"another one ")
    return key, f"it lists manifests/{name}, which no array has"


def manifest_twice(p: Planted):
    p.change_node("/a", manifests=p.node("/a").manifests * 2)
    return f"snapshots/{p.tip()}", "twice"


# -- both versions: transaction logs ------------------------------------------------------------


def log_gone(p: Planted):
    p.file(p.log_key()).unlink()
    return p.log_key(), "gone"


def log_cut_off(p: Planted):
    p.cut(p.log_key())
    return p.log_key(), "damaged"


def log_of_another_id(p: Planted):
    p.change_log(id=UNKNOWN)
    return p.log_key(), f"says that its id is {UNKNOWN}"


def log_of_unknown_nodes(p: Planted):
    p.change_log(new_groups=frozenset({NodeId(b"12345678")}))
    return p.log_key(), "the new node"


def log_of_another_kind(p: Planted):
    p.change_log(updated_groups=frozenset({p.node("/a").id}))
    return p.log_key(), "for another kind"


def log_of_deleted_node_that_is_there(p: Planted):
    p.change_log(deleted_arrays=frozenset({p.node("/a").id}))
    return p.log_key(), "the node is there, though it was deleted"


def log_of_another_rank(p: Planted):
    line = p.node("/line").id
    p.change_log(updated_chunks={p.node("/a").id: _indices(p, line)})
    return p.log_key(), "chunks with an index of 1 numbers"


def _indices(p, node_id):
    from zfuse.format.transaction_log import TransactionLog  # noqa: PLC0415

    return TransactionLog.decode(p.file(p.log_key()).read_bytes()).updated_chunks[node_id]


def log_out_of_order(p: Planted):
    p.patch_payload(p.log_key(), lambda data, root: swap(data, root, 7))
    return p.log_key(), "arrays with changed chunks are out of order"


def log_of_an_unknown_move(p: Planted):
    move = MoveOperation("/p", "/q", NodeId(b"12345678"), is_array=False)
    p.change_log(moved_nodes=(move,))
    return p.log_key(), "the moved node"


V2 = [
    *(repo_info_cut_off, repo_info_bad_magic, repo_info_of_another_type, repo_info_not_compressed),
    *(repo_info_branches_out_of_order, repo_info_branch_twice, repo_info_without_main),
    *(ref_out_of_bounds, parent_out_of_bounds, snapshot_own_ancestor, parent_younger),
    *(tag_deleted_and_there, updates_out_of_order, ops_log_empty, ops_log_page_gone),
    *(ops_log_page_damaged, ops_log_in_a_circle, container_not_valid, config_not_settings),
    *(time_unlike_in_repo_info, message_unlike_in_repo_info, pruned_log_gone),
    log_of_an_unknown_move,
]
V1 = [
    *(main_gone, ref_not_json, ref_to_nowhere, config_damaged, parent_gone),
    *(ancestry_in_a_circle, file_newer_than_repository),
]
BOTH = [
    *(snapshot_gone, snapshot_cut_off, snapshot_is_a_manifest, snapshot_of_another_id),
    *(nodes_out_of_order, node_twice, document_not_json, document_of_another_shape),
    *(document_of_another_grid, document_of_other_names, document_of_another_kind),
    *(two_nodes_of_one_id, path_not_canonical, manifest_not_listed, manifest_listed_in_vain),
    *(manifest_twice, log_gone, log_cut_off, log_of_another_id, log_of_unknown_nodes),
    *(log_of_another_kind, log_of_deleted_node_that_is_there, log_of_another_rank),
    log_out_of_order,
]
