from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.format.exercise import exercise
from tests.format.references import text
from zfuse.format.envelope import Envelope
from zfuse.format.flat import FlatBuffer
from zfuse.format.header import FileType
from zfuse.format.ids import NodeId, SnapshotId
from zfuse.format.initial import initial_transaction_log
from zfuse.format.transaction_log import MoveOperation, TransactionLog
from zfuse.format.transaction_log_encoder import encode_transaction_log

node_ids = st.binary(min_size=8, max_size=8).map(NodeId)
id_sets = st.frozensets(node_ids, max_size=4)
numbers = st.integers(0, 3) | st.integers(0, 2**32 - 1)


@st.composite
def indices(draw):
    """Indices in no order, some more than once, in parts of different ranks."""
    parts = []
    for rank in draw(st.lists(st.integers(0, 3), max_size=3)):
        found = draw(st.lists(st.tuples(*[numbers] * rank), max_size=6))
        parts.append(np.array(found, np.uint32).reshape(len(found), rank))
    return tuple(parts)


logs = st.builds(
    TransactionLog,
    st.sampled_from([1, 2]),
    st.binary(min_size=12, max_size=12).map(SnapshotId),
    *[id_sets] * 6,
    st.dictionaries(node_ids, indices(), max_size=3),
    st.lists(st.builds(MoveOperation, text, text, node_ids, st.booleans()), max_size=4).map(tuple),
)


def as_sets(chunks):
    found = {
        node_id: {tuple(index) for part in parts for index in part.tolist()}
        for node_id, parts in chunks.items()
    }
    return {node_id: each for node_id, each in found.items() if each}


@given(logs)
def test_round_trip(log):
    data = encode_transaction_log(log)
    assert exercise(data)
    decoded = TransactionLog.decode(data)
    assert as_sets(decoded.updated_chunks) == as_sets(log.updated_chunks)
    moves = () if log.spec_version == 1 else decoded.moved_nodes
    assert set(moves) == (set() if log.spec_version == 1 else set(log.moved_nodes))
    rest = {"updated_chunks": {}, "moved_nodes": (), "nbytes": 0}
    assert replace(decoded, **rest) == replace(log, **rest)


def root_table(log):
    data = encode_transaction_log(log)
    return FlatBuffer(Envelope.decode(data, expect=FileType.TRANSACTION_LOG).payload).root()


def test_lists_are_sorted():
    ids = [NodeId(bytes([n]) * 8) for n in (200, 3, 100)]
    chunk = np.array([[1]], np.uint32)
    log = replace(
        initial_transaction_log(),
        new_groups=frozenset(ids),
        updated_chunks=dict.fromkeys(ids, (chunk,)),
    )
    root = root_table(log)
    assert root.structs(1, 8) == sorted(ids)
    assert [table.struct(0, 8) for table in root.tables(7)] == sorted(ids)


def test_indices_are_sorted_whatever_their_rank():
    coords = (np.array([[1, 1], [0, 9], [0, 9]], np.uint32), np.array([[1], [0]], np.uint32))
    log = replace(initial_transaction_log(), updated_chunks={NodeId(b"node0001"): coords})
    (array,) = root_table(log).tables(7)
    payload = Envelope.decode(encode_transaction_log(log), expect=FileType.TRANSACTION_LOG).payload
    found = []
    for table in array.tables(1):
        start, count = table.vector(0, 4)
        found.append(tuple(np.frombuffer(payload, "<u4", count, start).tolist()))
    assert found == [(0,), (0, 9), (1,), (1, 1)]


def test_moves_are_sorted_segment_by_segment():
    wanted = ["/a", "/a/b", "/a-b", "/aa", "/ab", "/b"]
    moves = [
        MoveOperation(f"/old{n}", target, NodeId(bytes([n]) * 8), is_array=False)
        for n, target in enumerate(wanted)
    ]
    log = replace(initial_transaction_log(), moved_nodes=tuple(reversed(moves)))
    assert [table.string(1) for table in root_table(log).tables(8)] == wanted


def test_a_million_updated_chunks():
    count = 1_000_000
    coords = np.indices((100, 100, 100), np.uint32).reshape(3, count).T
    log = replace(initial_transaction_log(), updated_chunks={NodeId(b"node0001"): (coords[::-1],)})
    decoded = TransactionLog.decode(encode_transaction_log(log))
    assert np.array_equal(decoded.updated_chunks[NodeId(b"node0001")][0], coords)
