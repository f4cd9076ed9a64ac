import pytest
from hypothesis import given
from hypothesis import strategies as st

from zfuse.cache.budget import MemoryBudget


def test_the_fullest_cache_gives():
    budget = MemoryBudget(100)
    small, large = budget.cache(len), budget.cache(len)
    budget.insert(small, "a", b"x" * 10)
    for n in range(9):
        budget.insert(large, n, b"x" * 10)
    assert budget.used == 100
    budget.insert(small, "b", b"x" * 10)
    assert list(small) == ["a", "b"]
    assert list(large) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_the_least_recently_used_goes():
    budget = MemoryBudget(30)
    cache = budget.cache(len)
    for key in "abc":
        budget.insert(cache, key, b"x" * 10)
    assert cache["a"] == b"x" * 10
    budget.insert(cache, "d", b"x" * 10)
    assert set(cache) == {"a", "c", "d"}


def test_what_is_replaced_weighs_no_longer():
    budget = MemoryBudget(100)
    cache = budget.cache(len)
    budget.insert(cache, "a", b"x" * 90)
    budget.insert(cache, "a", b"x" * 20)
    assert (budget.used, cache["a"]) == (20, b"x" * 20)


def test_an_entry_beyond_the_limit_is_held_alone():
    budget = MemoryBudget(100)
    cache = budget.cache(len)
    budget.insert(cache, "small", b"x" * 60)
    budget.insert(cache, "large", b"x" * 500)
    assert set(cache) == {"large"}
    budget.insert(cache, "next", b"x")
    assert set(cache) == {"next"}


def test_an_entry_beyond_the_limit_does_not_let_another_cache_grow():
    budget = MemoryBudget(100)
    metadata, chunks = budget.cache(len), budget.cache(len)
    budget.insert(metadata, "manifest", b"x" * 500)
    for n in range(100):
        budget.insert(chunks, n, b"x" * 10)
    assert set(metadata) == {"manifest"}
    assert set(chunks) == {99}


@given(
    st.integers(0, 50),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.integers(0, 60)), max_size=60),
)
def test_all_caches_together_stay_within_the_limit(limit, inserts):
    budget = MemoryBudget(limit)
    caches = [budget.cache(len) for _ in range(3)]
    for which, key, size in inserts:
        budget.insert(caches[which], key, bytes(size))
        assert caches[which][key] == bytes(size)
        assert budget.used == sum(len(value) for c in caches for value in c.values())
        assert budget.used <= limit or all(len(cache) <= 1 for cache in caches)


@pytest.mark.parametrize("limit", [0, 1])
def test_a_budget_of_nothing_keeps_the_last(limit):
    budget = MemoryBudget(limit)
    cache = budget.cache(len)
    budget.insert(cache, "a", b"xx")
    budget.insert(cache, "b", b"yy")
    assert dict(cache) == {"b": b"yy"}
