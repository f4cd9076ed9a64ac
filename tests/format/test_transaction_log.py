import numpy as np
import pytest

from tests.format import building
from tests.format.building import ID, NODE, structs, transaction_log, u8, u32s
from zfuse.errors import CorruptionError, UnsupportedVersionError
from zfuse.format.ids import NodeId, SnapshotId
from zfuse.format.transaction_log import MoveOperation, TransactionLog

OTHER = b"node0002"
LISTS = [
    "new_groups",
    "new_arrays",
    "deleted_groups",
    "deleted_arrays",
    "updated_arrays",
    "updated_groups",
]


def decode(**slots):
    return TransactionLog.decode(transaction_log(**slots))


def changed(node_id, *indices):
    return {0: building.struct(node_id), 1: [{0: u32s(*index)} for index in indices]}


def test_smallest():
    log = decode()
    assert log.id == SnapshotId(ID)
    assert log.spec_version == 2
    assert [getattr(log, name) for name in LISTS] == [frozenset()] * 6
    assert (log.updated_chunks, log.moved_nodes, log.nbytes) == ({}, (), 0)


@pytest.mark.parametrize(("slot", "name"), list(enumerate(LISTS, start=1)))
def test_nodes(slot, name):
    log = decode(**{f"s{slot}": structs(8, OTHER, NODE, NODE)})
    for each in LISTS:
        expected = {NodeId(NODE), NodeId(OTHER)} if each == name else set()
        assert getattr(log, each) == expected
    assert log.nbytes > 0


def test_chunks():
    chunks = decode(s7=[changed(OTHER, (1, 2), (0, 9), (1, 2)), changed(NODE, ())]).updated_chunks
    assert set(chunks) == {NodeId(NODE), NodeId(OTHER)}
    (coords,) = chunks[NodeId(OTHER)]
    assert coords.tolist() == [[0, 9], [1, 2]]
    assert coords.dtype == np.uint32
    (scalar,) = chunks[NodeId(NODE)]
    assert scalar.shape == (1, 0)


def test_chunks_of_several_ranks():
    log = decode(s7=[changed(NODE, (2, 1), (5,), (1, 1), (4,), (1, 2, 3))])
    assert [each.tolist() for each in log.updated_chunks[NodeId(NODE)]] == [
        [[4], [5]],
        [[1, 1], [2, 1]],
        [[1, 2, 3]],
    ]


def test_array_that_comes_twice():
    log = decode(s7=[changed(NODE, (1,)), changed(NODE, (0,), (1,), (2, 2))])
    assert [each.tolist() for each in log.updated_chunks[NodeId(NODE)]] == [[[0], [1]], [[2, 2]]]


def test_array_without_changes():
    assert decode(s7=[changed(NODE)]).updated_chunks == {NodeId(NODE): ()}


def test_moves():
    move = {0: "/a", 1: "/b/a", 2: building.struct(NODE), 3: u8(1)}
    group = {0: "/g", 1: "/h", 2: building.struct(OTHER)}
    assert decode(s8=[move, group]).moved_nodes == (
        MoveOperation("/a", "/b/a", NodeId(NODE), is_array=True),
        MoveOperation("/g", "/h", NodeId(OTHER), is_array=False),
    )


@pytest.mark.parametrize("slot", [0, 1, 2])
def test_incomplete_move(slot):
    move = {0: "/a", 1: "/b", 2: building.struct(NODE), 3: u8(1)}
    del move[slot]
    with pytest.raises(CorruptionError, match="required"):
        decode(s8=[move])


def test_move_of_what():
    with pytest.raises(CorruptionError, match="unknown type 2"):
        decode(s8=[{0: "/a", 1: "/b", 2: building.struct(NODE), 3: u8(2)}])


@pytest.mark.parametrize("slot", range(8))
def test_required_fields(slot):
    with pytest.raises(CorruptionError, match="required"):
        decode(**{f"s{slot}": None})


@pytest.mark.parametrize("slot", [0, 1])
def test_required_fields_of_an_array(slot):
    array = changed(NODE, (1,))
    del array[slot]
    with pytest.raises(CorruptionError, match="required"):
        decode(s7=[array])


def test_change_without_an_index():
    with pytest.raises(CorruptionError, match="no index"):
        decode(s7=[{0: building.struct(NODE), 1: [{}]}])


def test_newer_version():
    with pytest.raises(UnsupportedVersionError):
        decode(version=3)


def test_version_1():
    assert decode(version=1, s8=None).spec_version == 1
