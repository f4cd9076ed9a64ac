import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zfuse.format.index_keys import IndexKeys

NUMBER = st.one_of(st.integers(0, 3), st.integers(0, 300), st.integers(0, 2**32 - 1))


@st.composite
def indices(draw):
    rank = draw(st.integers(0, 5))
    rows = draw(st.lists(st.tuples(*[NUMBER] * rank), min_size=1, max_size=30))
    return rank, rows


def made(rank, rows):
    return IndexKeys(np.array(rows, np.uint32).reshape(len(rows), rank))


def ordered(rank, rows):
    keys = made(rank, rows)
    keys.sort()
    return keys


@given(indices())
def test_sort(indices):
    rank, rows = indices
    keys = made(rank, rows)
    assert keys.is_sorted() == (rows == sorted(set(rows)))
    kept = keys.sort()
    assert keys.is_sorted()
    assert [rows[n] for n in kept] == sorted(set(rows))
    assert [rows.index(rows[n]) for n in kept] == kept.tolist()
    assert list(map(tuple, keys.coords(0, len(keys)).tolist())) == sorted(set(rows))


@given(indices(), st.data())
def test_find(indices, data):
    rank, rows = indices
    keys, present = ordered(rank, rows), sorted(set(rows))
    probes = data.draw(st.lists(st.tuples(*[NUMBER] * rank), max_size=10)) + present
    expected = [present.index(probe) if probe in present else None for probe in probes]
    assert [keys.find(probe) for probe in probes] == expected
    many = keys.find_many(np.array(probes, np.uint32).reshape(len(probes), rank))
    assert many.tolist() == [-1 if row is None else row for row in expected]


@given(indices(), st.data())
def test_under(indices, data):
    rank, rows = indices
    keys, present = ordered(rank, rows), sorted(set(rows))
    length = data.draw(st.integers(0, rank))
    some = data.draw(st.sampled_from(present))[:length]
    for prefix in (some, data.draw(st.tuples(*[NUMBER] * length))):
        start, stop = keys.under(prefix)
        assert present[start:stop] == [row for row in present if row[:length] == prefix]


@given(indices())
def test_part_of_the_coords(indices):
    rank, rows = indices
    keys, present = ordered(rank, rows), sorted(set(rows))
    middle = len(present) // 2
    assert list(map(tuple, keys.coords(middle, len(present)).tolist())) == present[middle:]
    assert keys.coords(middle, middle).shape == (0, rank)


@pytest.mark.parametrize("top", [2**32 - 1, 2**31 - 1, 7])
def test_around_63_bits(top):
    rows = [(0, 0), (0, top), (top, 0), (top, top)]
    keys = made(2, rows)
    assert keys.is_sorted()
    assert [keys.find(row) for row in rows] == [0, 1, 2, 3]
    assert keys.find((top, 1)) is None
    assert keys.under((top,)) == (2, 4)
    assert keys.coords(1, 3).tolist() == [[0, top], [top, 0]]


def test_what_is_no_index():
    keys = made(2, [(1, 2)])
    for probe in [(), (1,), (1, 2, 3), (-1, 2), (1, 2**32), (1, 2**70), (2**64 + 1, 2)]:
        assert keys.find(probe) is None
    assert keys.under((1, 2, 3)) == (0, 0)
    assert keys.under((-1,)) == (0, 0)
    assert keys.find_many(np.array([[1]], np.uint32)).tolist() == [-1]


def test_numpy_numbers_do_not_overflow():
    keys = made(2, [(2**20, 2**20)])
    assert keys.find(np.array([2**20, 2**20], np.uint32)) == 0


def test_scalar():
    keys = made(0, [()])
    assert keys.find(()) == 0
    assert keys.under(()) == (0, 1)
    assert keys.coords(0, 1).shape == (1, 0)
    assert keys.find_many(np.empty((3, 0), np.uint32)).tolist() == [0, 0, 0]


def test_nothing():
    keys = IndexKeys(np.empty((0, 2), np.uint32))
    assert len(keys) == 0
    assert keys.is_sorted()
    assert keys.find((0, 0)) is None
    assert keys.find_many(np.zeros((2, 2), np.uint32)).tolist() == [-1, -1]
    assert keys.under(()) == (0, 0)
