"""A set of ids against Python's own."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zfuse.maintenance.id_set import IdSet

IDS = st.lists(st.sampled_from([bytes([n]) * 11 + bytes([m]) for n in range(9) for m in (0, 7)]))


def columns(ids):
    return np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 12)


@given(st.lists(IDS, max_size=8), IDS)
def test_it_holds_what_was_added(batches, asked):
    ids, known = IdSet(), set()
    for batch in batches:
        new = ids.add(columns(batch)).tolist()
        assert new == [each not in {*known, *batch[:n]} for n, each in enumerate(batch)]
        known |= set(batch)
        assert len(ids) == len(known)
    assert ids.has(columns(asked)).tolist() == [each in known for each in asked]


def test_adding_many_times_makes_few_runs():
    ids, rng = IdSet(), np.random.default_rng(1)
    for _ in range(300):
        assert ids.add(rng.integers(0, 256, (100, 12), np.uint8)).all()
    assert len(ids) == 30_000
    assert len(ids._runs) < 16
