"""Lists out of order are told; no file of the official library has one."""

import pytest

from tests.format.building import (
    array_node,
    group_node,
    manifest,
    repo_info,
    snapshot,
    snapshot_info,
    struct,
    structs,
    transaction_log,
    u16s,
    u32,
    u32s,
    u64,
)
from tests.format.damage import golden_files
from zfuse.errors import CorruptionError
from zfuse.format.header import FileType
from zfuse.format.ids import NodeId
from zfuse.format.order import Disorder, disorders

ONE, TWO = b"one of them.", b"two of them."
LOW, HIGH = b"node0001", b"node0002"


def refs(*indices):
    return [{0: u32s(*index), 1: b"x"} for index in indices]


def names(data, file_type):
    return [wrong.what for wrong in disorders(data, file_type)]


@pytest.mark.parametrize("file_type", [kind for kind, files in golden_files().items() if files])
def test_golden_files_are_in_order(file_type):
    files = golden_files()[file_type]
    assert [disorders(data, file_type) for data in files] == [[]] * len(files)


def test_nodes_are_sorted_by_the_bytes_of_their_paths():
    paths = ["/foo", "/foo-bar", "/foo/x", "/ü"]
    nodes = [group_node(path, b"node%04d" % n) for n, path in enumerate(paths)]
    assert names(snapshot(s2=nodes), FileType.SNAPSHOT) == []
    swapped = [nodes[0], nodes[2], nodes[1], nodes[3]]
    assert names(snapshot(s2=swapped), FileType.SNAPSHOT) == ["nodes"]
    assert names(snapshot(s2=[nodes[0], nodes[0]]), FileType.SNAPSHOT) == ["nodes"]


def test_manifest_files_are_sorted_by_id():
    def files(*ids):
        return [{0: struct(manifest_id), 1: u64(5), 2: u32(1)} for manifest_id in ids]

    assert names(snapshot(s7=files(ONE, TWO)), FileType.SNAPSHOT) == []
    assert names(snapshot(s7=files(TWO, ONE)), FileType.SNAPSHOT) == ["manifest files of version 2"]
    old = [manifest_id.ljust(32, b"\0") for manifest_id in (TWO, ONE)]
    data = snapshot(version=1, s6=structs(32, *old, align=8))
    assert names(data, FileType.SNAPSHOT) == ["manifest files"]


@pytest.mark.parametrize(
    ("indices", "is_sorted"),
    [
        ([(0, 1), (0, 2), (1, 0)], True),
        ([(0, 2), (0, 1)], False),
        ([(1, 0), (1, 0)], False),
        ([(1,), (0, 5)], True),  # each rank by itself
        ([(1,), (0, 5), (0,)], False),
        ([], True),
    ],
)
def test_references_are_sorted_by_index(indices, is_sorted):
    found = disorders(manifest(refs(*indices)), FileType.MANIFEST)
    assert found == ([] if is_sorted else [Disorder("references", NodeId(LOW))])


def test_arrays_are_sorted_by_the_id_of_their_node():
    arrays = [{0: struct(node_id), 1: refs((0,))} for node_id in (HIGH, LOW)]
    assert names(manifest([], s1=arrays), FileType.MANIFEST) == ["arrays"]
    assert names(manifest([], s1=arrays[::-1]), FileType.MANIFEST) == []


def test_ids_in_a_transaction_log_are_sorted():
    data = transaction_log(s3=structs(8, HIGH, LOW), s5=structs(8, LOW, LOW))
    assert names(data, FileType.TRANSACTION_LOG) == ["deleted groups", "updated arrays"]
    chunks = [{0: struct(node_id), 1: refs((1,), (0,))} for node_id in (HIGH, LOW)]
    assert names(transaction_log(s7=chunks), FileType.TRANSACTION_LOG) == [
        "arrays with changed chunks"
    ]
    # The chunks of each may come in any order.
    assert names(transaction_log(s7=chunks[::-1]), FileType.TRANSACTION_LOG) == []


def test_what_the_repo_info_lists_is_sorted():
    snapshots = [snapshot_info(raw_id) for raw_id in (TWO, ONE)]
    branches = [{0: name, 1: u32(0)} for name in ("main", "dev")]
    data = repo_info(s2=branches, s3=["b", "a"], s4=snapshots, s10=u16s(4, 3))
    assert names(data, FileType.REPO_INFO) == [
        "branches",
        "deleted tags",
        "snapshots",
        "enabled feature flags",
    ]


def test_what_does_not_decode_has_no_order():
    with pytest.raises(CorruptionError):
        disorders(snapshot(s2=[array_node()])[:50], FileType.SNAPSHOT)
