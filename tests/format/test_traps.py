"""The traps of the format for independent readers, each under its number.

The numbers are those of the project's list of what the official library does beyond its
specification. Traps that concern stores, sessions or mounts are tested where those are.
"""

import struct

import pytest
import zstandard

from tests.compat.documents import GROUP, array_document, put
from tests.compat.golden import Golden
from tests.compat.histories import ODD_REFS
from tests.compat.place import changing, create, local_place
from tests.compat.repositories import build
from tests.format import building
from tests.format.building import (
    ID,
    NODE,
    array_node,
    group_node,
    manifest,
    repo_info,
    snapshot,
    snapshot_info,
    structs,
    u8,
    u32,
    u32s,
    u64,
    unwrap,
    wrap,
)
from tests.format.reading import array_of, decoded_snapshot
from zfuse.errors import CorruptionError
from zfuse.format.chunk_ref import InlineRef, NativeRef, VirtualRef
from zfuse.format.config import RepositoryConfig
from zfuse.format.header import Compression, FileHeader, FileType
from zfuse.format.ids import NodeId, SnapshotId
from zfuse.format.manifest import Manifest
from zfuse.format.repo_info import RepoInfo, UpdateKind
from zfuse.format.snapshot import ArrayNode, DimensionShape, Snapshot
from zfuse.format.transaction_log import TransactionLog
from zfuse.format.zarr_json import ArrayMetadata, DefaultChunkKeys, V2ChunkKeys

FIRST, SECOND = bytes(12), b"\xff" * 12
SPEC2 = "icechunk-2.3.0-spec2"
UPGRADED = "icechunk-1.1.21-upgraded-by-2.3.0"


def files(repository, directory):
    return [path.read_bytes() for path in sorted((repository / directory).iterdir())]


def test_01_absent_parent_offset_is_the_first_snapshot():
    info = RepoInfo.decode(
        repo_info(s4=[snapshot_info(FIRST), snapshot_info(SECOND, parent=None)], s2=[{0: "main"}])
    )
    assert info.snapshots[SnapshotId(SECOND)].parent_id == SnapshotId(FIRST)
    assert info.snapshots[SnapshotId(FIRST)].parent_id is None
    assert info.branches == {"main": SnapshotId(FIRST)}  # absent snapshot_index is 0 too


def test_01_parent_offset_counts_from_the_start_of_the_list():
    ids = [bytes([n]) * 12 for n in range(4)]
    tables = [snapshot_info(ids[0], 3), *(snapshot_info(n, 0) for n in ids[1:3])]
    info = RepoInfo.decode(repo_info(s4=[*tables, snapshot_info(ids[3], -1)]))
    parents = [each.parent_id for each in info.snapshots.values()]
    assert parents == [SnapshotId(ids[3]), SnapshotId(ids[0]), SnapshotId(ids[0]), None]


def test_01_official_writer_leaves_parent_offset_0_out():
    # The initial snapshot (0b1c...) sorts first in most repositories, so this is the rule.
    info = Golden(SPEC2).repo_info()
    first = min(info.snapshots)
    children = [each for each in info.snapshots.values() if each.parent_id == first]
    assert children
    assert all(
        each.parent_id in info.snapshots for each in info.snapshots.values() if each.parent_id
    )


def test_01_other_scalars_that_absent_are_0():
    node = array_node(s3=[{}, {0: u64(4)}])
    (decoded,) = Snapshot.decode(snapshot(s2=[node])).nodes
    assert decoded.shape == (DimensionShape(0, 0), DimensionShape(4, 0))
    flag = {0: u8(15), 1: {0: building.u16(3)}, 2: u64(1)}
    info = RepoInfo.decode(repo_info(s5={}, s7=[flag]))
    assert info.status.availability == 0
    assert info.latest_updates[0].details == {"id": 3, "new_value": False, "is_set": False}


def test_01_absent_compression_algorithm_is_1_which_without_dictionary_is_none():
    ref = {0: u32s(0), 5: "s3://bucket/key", 2: u64(1), 3: u64(2)}
    for slots in ({}, {"s3": u8(1)}, {"s3": u8(0)}):
        assert array_of(manifest([ref], **slots), 1).ref(0) == VirtualRef("s3://bucket/key", 1, 2)


def test_01_manifests_of_1_x_leave_the_algorithm_out():
    kinds = set()
    for data in files(Golden("icechunk-1.1.21-spec1").repository, "manifests"):
        decoded = Manifest.decode(data)
        for node_id in decoded.node_ids():
            for rank in decoded.ranks(node_id):
                refs = decoded.array(node_id, rank)
                kinds |= {type(refs.ref(row)) for row in range(len(refs))}
    assert kinds == {InlineRef, NativeRef, VirtualRef}


def test_02_the_newest_update_has_no_backup_and_all_others_do():
    newest, *older = Golden(SPEC2).repo_info().latest_updates
    assert newest.backup_path is None
    assert older
    for update in older:
        backup = Golden(SPEC2).repository / "overwritten" / update.backup_path
        # the copy is of the state that this update had made
        assert RepoInfo.decode(backup.read_bytes()).latest_updates[0].details == update.details


@pytest.mark.parametrize("kind", [FileType.SNAPSHOT, FileType.MANIFEST])
def test_05_only_one_zstd_frame_is_read(kind):
    decode = {FileType.SNAPSHOT: Snapshot.decode, FileType.MANIFEST: Manifest.decode}[kind]
    data = snapshot() if kind is FileType.SNAPSHOT else manifest([])
    decode(data)
    frame, payload = data[39:], unwrap(data)
    plain = FileHeader(kind, Compression.NONE, 2, "x").encode() + payload
    skippable = b"\x50\x2a\x4d\x18\x01\0\0\0x"
    for refused in (plain, data + frame, data + skippable, data + b"\0", data[:-1]):
        with pytest.raises(CorruptionError):
            decode(refused)


def test_05_frames_need_not_tell_their_size():
    golden = Golden("icechunk-1.1.21-spec1")
    for directory in ("snapshots", "manifests", "transactions"):
        for data in files(golden.repository, directory):
            assert zstandard.frame_content_size(data[39:]) == -1
    for data in files(golden.repository, "snapshots"):
        Snapshot.decode(data)
        Snapshot.decode(wrap(FileType.SNAPSHOT, unwrap(data), 1, write_checksum=True))


def test_06_unsorted_nodes():
    paths = ["/z", "/a/b", "/", "/a", "/m"]
    nodes = Snapshot.decode(snapshot(s2=[group_node(path) for path in paths])).nodes
    assert [node.path for node in nodes] == sorted(paths)


def test_06_unsorted_references():
    order = [(2, 1), (0, 5), (2, 0), (1, 1), (0, 0)]
    refs = [{0: u32s(*index), 1: repr(index).encode()} for index in order]
    found = array_of(manifest(refs), 2)
    assert found.coords(0, 5).tolist() == sorted(map(list, order))
    for index in order:
        assert found.ref(found.find(index)) == InlineRef(repr(index).encode())
    assert found.rows_under((2,)) == (3, 5)


def test_06_unsorted_arrays_snapshots_refs_and_changes():
    arrays = [{0: building.struct(n), 1: [{0: u32s(0), 1: n}]} for n in (b"b" * 8, b"a" * 8)]
    decoded = Manifest.decode(manifest([], s1=arrays))
    for node_id in decoded.node_ids():
        assert decoded.array(node_id, 1).ref(0) == InlineRef(bytes(node_id))
    tables = [snapshot_info(SECOND, 1), snapshot_info(FIRST)]
    refs = [{0: "z", 1: u32(1)}, {0: "main", 1: u32(0)}]
    info = RepoInfo.decode(repo_info(s4=tables, s2=refs, s3=["z", "a"]))
    assert info.branches == {"z": SnapshotId(FIRST), "main": SnapshotId(SECOND)}
    assert info.snapshots[SnapshotId(SECOND)].parent_id == SnapshotId(FIRST)
    assert set(info.deleted_tags) == {"a", "z"}
    changed = {0: building.struct(NODE), 1: [{0: u32s(2)}, {0: u32s(1)}]}
    log = TransactionLog.decode(building.transaction_log(s7=[changed]))
    assert log.updated_chunks[NodeId(NODE)][0].tolist() == [[1], [2]]


def test_06_the_first_of_several_counts():
    nodes = [group_node("/a", b"first..."), array_node("/a"), group_node("/a", b"third...")]
    (node,) = Snapshot.decode(snapshot(s2=nodes)).nodes
    assert node.id == b"first..."
    refs = [{0: u32s(1), 1: b"1"}, {0: u32s(0), 1: b"a"}, {0: u32s(1), 1: b"2"}]
    found = array_of(manifest(refs), 1)
    assert [found.ref(row) for row in range(len(found))] == [InlineRef(b"a"), InlineRef(b"1")]
    arrays = [{0: building.struct(NODE), 1: [{0: u32s(0), 1: n}]} for n in (b"1", b"2")]
    assert array_of(manifest([], s1=arrays), 1).ref(0) == InlineRef(b"1")
    tables = [snapshot_info(FIRST, s3="1"), snapshot_info(FIRST, s3="2"), snapshot_info(SECOND, 1)]
    branches = [{0: "main", 1: u32(0)}, {0: "main", 1: u32(2)}]
    info = RepoInfo.decode(repo_info(s4=tables, s2=branches))
    assert info.snapshots[SnapshotId(FIRST)].message == "1"
    assert info.branches == {"main": SnapshotId(FIRST)}
    assert info.snapshots[SnapshotId(SECOND)].parent_id == SnapshotId(FIRST)


def test_07_order_is_that_of_the_bytes_of_the_whole_path(place):
    repo = create(place, 2)
    paths = [
        "foo",
        "foo-bar",
        "foo.bar",
        "foo/x",
        "foo0",
        "fo",
        "foo/x-y",
        "foo/ü",
        "Foo",
        "ﬀ",
        "𐀀",
    ]
    with changing(repo, "nodes") as store:
        for path in paths:
            put(store, f"{path}/zarr.json", GROUP)
    nodes = decoded_snapshot(place, repo.lookup_branch("main")).nodes
    found = [node.path for node in nodes]
    assert found == sorted((f"/{path}" for path in paths), key=str.encode)
    assert found.index("/foo") < found.index("/foo-bar") < found.index("/foo/x")
    assert found.index("/ﬀ") < found.index("/𐀀")  # not so in UTF-16


def test_08_an_upgraded_repository_keeps_files_of_version_1():
    golden = Golden(UPGRADED)
    info = golden.repo_info()
    assert info.spec_version == 2
    snapshots = [golden.snapshot(str(snapshot_id)) for snapshot_id in info.snapshots]
    assert {decoded.spec_version for decoded in snapshots} == {1, 2}
    old = [decoded for decoded in snapshots if decoded.spec_version == 1 and decoded.manifest_files]
    for decoded in old:
        assert golden.read(f"snapshots/{decoded.id}")[36] == 1
        for manifest_id in decoded.manifest_files:
            assert Manifest.decode(golden.read(f"manifests/{manifest_id}")).node_ids()
        assert TransactionLog.decode(golden.read(f"transactions/{decoded.id}")).spec_version == 1
    metadata = [decoded.metadata for decoded in old if decoded.metadata]
    assert metadata  # MessagePack, which no FlexBuffer is
    kinds = {update.kind for update in info.latest_updates}
    assert UpdateKind.REPO_MIGRATED in kinds


def test_08_structs_and_tables_of_one_file():
    # what counts is which vector is there, not the version of the file
    dims = structs(16, struct.pack("<QQ", 9, 5), align=8)
    for version in (1, 2):
        node = array_node(s0=dims, s3=None)
        (decoded,) = Snapshot.decode(snapshot(version=version, s2=[node])).nodes
        assert decoded.shape == (DimensionShape(9, 2),)
    both = array_node(s0=dims, s3=[{0: u64(7), 1: u32(7)}])
    (decoded,) = Snapshot.decode(snapshot(s2=[both])).nodes
    assert decoded.shape == (DimensionShape(7, 7),)


@pytest.mark.parametrize(
    ("length", "chunk", "count"),
    [(10, 4, 3), (9, 5, 2), (5, 8, 1), (0, 4, 0), (0, 0, 0), (1, 1, 1)],
)
def test_08_number_of_chunks_in_version_1(length, chunk, count):
    node = array_node(s0=structs(16, struct.pack("<QQ", length, chunk), align=8), s3=None)
    (decoded,) = Snapshot.decode(snapshot(version=1, s2=[node])).nodes
    assert decoded.shape == (DimensionShape(length, count),)


def test_08_2_x_computes_the_chunk_length_back(place):
    repo = create(place, 1)
    shapes = {"a": (10, 4), "b": (9, 5), "c": (5, 8), "d": (0, 4)}
    with changing(repo, "arrays") as store:
        for name, (length, chunk) in shapes.items():
            put(store, f"{name}/zarr.json", array_document((length,), (chunk,)))
    for node in decoded_snapshot(place, repo.lookup_branch("main")).nodes:
        length, chunk = shapes[node.path[1:]]
        assert node.shape == (DimensionShape(length, -(-length // chunk)),)


def test_09_version_2_has_parents_in_the_repo_info_alone():
    golden = Golden(SPEC2)
    info = golden.repo_info()
    for snapshot_id, known in info.snapshots.items():
        assert golden.snapshot(str(snapshot_id)).parent_id is None
        assert known.parent_id is None or known.parent_id in info.snapshots
    assert sum(known.parent_id is None for known in info.snapshots.values()) >= 1


def test_09_scalars_have_an_empty_shape_in_both_versions():
    for slots in ({"s3": None}, {}):
        (node,) = Snapshot.decode(snapshot(s2=[array_node(**slots)])).nodes
        assert node.shape == ()


def test_13_aliases_of_chunk_keys_are_no_chunks():
    keys = DefaultChunkKeys("/")
    assert keys.decode("c/0/1", 2) == (0, 1)
    for alias in ("c/00/1", "c/+0/1", "c//0/1", "c/./0/1", "/c/0/1", "c/0/1/", "ac/0/1", "c/0 /1"):
        assert keys.decode(alias, 2) is None


def test_15_implicit_groups_are_not_in_the_snapshot(place):
    repo = create(place, 2)
    with changing(repo, "deep") as store:
        put(store, "a/b/zarr.json", GROUP)
    assert [n.path for n in decoded_snapshot(place, repo.lookup_branch("main")).nodes] == ["/a/b"]


@pytest.mark.parametrize("spec", [1, 2])
def test_16_odd_names_are_kept_as_they_are(tmp_path, spec):
    made = build("names", spec, local_place(tmp_path))
    tip = made.branches["main"]
    found = [node.path for node in decoded_snapshot(made.place, tip).nodes]
    assert found == [node["path"] for node in made.open().inspect_snapshot(tip)["nodes"]]
    assert any(len(name) > 255 for path in found for name in path.split("/"))
    assert any("\n" in path for path in found)


def test_18_chunk_key_encodings_are_known_though_the_official_store_ignores_them(tmp_path):
    made = build("encodings", 2, local_place(tmp_path))
    nodes = decoded_snapshot(made.place, made.branches["main"]).nodes
    found = {
        ArrayMetadata.parse(n.user_data).chunk_key_encoding
        for n in nodes
        if isinstance(n, ArrayNode)
    }
    assert {DefaultChunkKeys("."), V2ChunkKeys("."), V2ChunkKeys("/")} <= found


def test_28_containers_that_a_repository_declares(tmp_path):
    made = build("virtual", 2, local_place(tmp_path))
    with open(f"{made.url}/repo", "rb") as file:
        config = RepositoryConfig.from_values(RepoInfo.decode(file.read()).config)
    (declared,) = config.virtual_chunk_containers.values()
    assert (declared.url_prefix, declared.name) == (made.place.prefix, "virt")
    assert declared.store.kind == "local_file_system"


def test_29_odd_names_of_refs(tmp_path):
    made = build("refs", 2, local_place(tmp_path))
    with open(f"{made.url}/repo", "rb") as file:
        info = RepoInfo.decode(file.read())
    assert set(ODD_REFS) <= set(info.branches)
    assert {name: str(tip) for name, tip in info.branches.items()} == made.branches
    assert {name: str(tip) for name, tip in info.tags.items()} == made.tags
    assert "dele/ted" in info.deleted_tags


def test_30_expired_ancestors_leave_their_transaction_logs():
    golden = Golden(SPEC2)
    pruned = [
        log
        for known in golden.repo_info().snapshots.values()
        for log in known.pruned_ancestor_tx_logs
    ]
    assert pruned
    for log in pruned:
        assert TransactionLog.decode(golden.read(f"transactions/{log}")).id == log
    logs = structs(12, SECOND, FIRST)
    info = RepoInfo.decode(repo_info(s4=[snapshot_info(ID, s5=logs)]))
    assert info.snapshots[SnapshotId(ID)].pruned_ancestor_tx_logs == (
        SnapshotId(SECOND),
        SnapshotId(FIRST),
    )
