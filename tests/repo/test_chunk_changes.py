import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zfuse.errors import CorruptionError
from zfuse.format.chunk_ref import InlineRef, NativeRef, VirtualRef
from zfuse.format.ids import ChunkId
from zfuse.format.ragged import Ragged
from zfuse.format.ref_columns import RefColumns
from zfuse.repo import chunk_changes
from zfuse.repo.chunk_changes import UNTOUCHED, ChunkChanges

REFS = st.one_of(
    st.builds(InlineRef, st.binary(min_size=1, max_size=5)),
    st.builds(
        NativeRef,
        st.builds(ChunkId, st.binary(min_size=12, max_size=12)),
        st.integers(0, 2**40),
        st.integers(1, 2**40),
    ),
    st.builds(VirtualRef, st.sampled_from(["s3://b/k", "vcc://c/ü"]), st.just(3), st.just(4)),
    st.builds(VirtualRef, st.just("s3://b/k"), st.just(3), st.just(4), st.just("e"), st.none()),
    st.builds(VirtualRef, st.just("s3://b/k"), st.just(3), st.just(4), st.none(), st.just(1234)),
)
COORDS = st.one_of(
    st.tuples(st.integers(0, 3), st.integers(0, 2**32 - 1)),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
STEPS = st.one_of(
    st.tuples(st.just("set"), COORDS, st.one_of(st.none(), REFS)),
    st.tuples(st.just("set_many"), st.lists(st.tuples(COORDS, REFS), max_size=6)),
    st.tuples(st.just("delete_many"), st.lists(COORDS, max_size=6)),
    st.tuples(st.just("discard"), st.lists(COORDS, max_size=4)),
    st.tuples(
        st.just("then"),
        st.lists(st.dictionaries(COORDS, st.one_of(st.none(), REFS), max_size=6), max_size=4),
    ),
    st.tuples(st.just("copy")),
)


def take(step, changes, model):
    match step:
        case ("set", coords, ref):
            changes.set(coords, ref)
            model[coords] = ref
        case ("set_many", refs):
            changes.set_many(RefColumns.of_refs(2, refs))
            model.update(refs)
        case ("delete_many", coords):
            changes.delete_many(np.array(coords, np.uint32).reshape(len(coords), 2))
            model.update(dict.fromkeys(coords))
        case ("discard", coords):
            changes.discard(np.array(coords, np.uint32).reshape(len(coords), 2))
            for each in coords:
                model.pop(each, None)
        case ("then", several):
            changes.then_all([made_of(later) for later in several])
            model.update({coords: ref for later in several for coords, ref in later.items()})
        case ("copy",):
            frozen = changes.copy()
            changes.set((9, 9), None)
            assert frozen.find((9, 9)) is model.get((9, 9), UNTOUCHED)
            model[9, 9] = None


@given(*[st.dictionaries(COORDS, st.one_of(st.none(), REFS), max_size=6)] * 2)
def test_changes_travel(entries, others):
    changes = made_of(entries)
    twin = pickle.loads(pickle.dumps(changes))
    assert twin.same_as(changes)
    assert all(twin.find(coords) == ref for coords, ref in entries.items())
    assert twin.same_as(made_of(others)) == (entries == others)
    twin.set((9, 9), None)
    assert not twin.same_as(changes)


def made_of(entries):
    changes = ChunkChanges()
    for coords, ref in entries.items():
        changes.set(coords, ref)
    return changes


@given(st.lists(STEPS, max_size=12), st.integers(0, 3))
def test_changes_are_those_of_a_dictionary(steps, recent):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(chunk_changes, "_MOST_RECENT", recent)
        changes, model = ChunkChanges(), {}
        for step in steps:
            take(step, changes, model)
            for coords, ref in model.items():
                assert changes.find(coords) == ref
            assert changes.find((7, 7)) is UNTOUCHED
            assert bool(changes) == bool(model)
    tables = changes.tables()
    assert len(tables) == bool(model)
    for table in tables:
        assert [*map(tuple, table.coords().tolist())] == sorted(model)
        assert len(table) == len(model)
        deleted = sorted(coords for coords, ref in model.items() if ref is None)
        assert [*map(tuple, table.deleted.tolist())] == deleted
        asked = np.array([(7, 7), *model], np.uint32)
        assert table.holds(asked).tolist() == [False] + [True] * len(model)


def test_each_rank_has_a_table_of_its_own():
    changes = made_of({(1,): None, (): InlineRef(b"x"), (1, 2): None})
    assert [table.rank for table in changes.tables()] == [0, 1, 2]
    assert changes.find(()) == InlineRef(b"x")
    assert changes.find((1,)) is None
    assert changes.find((0,)) is UNTOUCHED


def test_a_reference_that_was_copied_damaged_can_not_be_read():
    changes = ChunkChanges()
    columns = RefColumns.of_refs(1, [((0,), InlineRef(b"x"))])
    changes.set_many(
        RefColumns(
            columns.coords,
            np.zeros(1, np.uint8),
            columns.offsets,
            columns.lengths,
            columns.chunk_ids,
            Ragged.absent(1),
            columns.etags,
            columns.last_modified,
        )
    )
    with pytest.raises(CorruptionError):
        changes.find((0,))


def test_a_million_changes_take_little_memory():
    count = 1_000_000
    coords = np.stack(np.unravel_index(np.arange(count), (1000, 1000)), axis=1).astype(np.uint32)
    ids = np.random.default_rng(1).integers(0, 256, (count, 12), np.uint8)
    tracemalloc.start()
    changes = ChunkChanges()
    for n in range(66_000):  # beyond what is kept as it comes
        changes.set((n // 1000, n % 1000), NativeRef(ChunkId(bytes(12)), 0, n))
    changes.set_many(RefColumns.native(coords, ids, np.full(count, 77, np.uint64)))
    changes.set((5, 5), None)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 100 * count
    assert changes.find((999, 999)) == NativeRef(ChunkId(ids[-1].tobytes()), 0, 77)
    assert changes.find((5, 5)) is None
    (table,) = changes.tables()
    assert len(table) == count
