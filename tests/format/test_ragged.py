import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zfuse.format.ragged import Ragged

strings = st.lists(st.none() | st.binary(max_size=30), max_size=20)


@given(strings)
def test_holds_what_it_was_made_of(items):
    column = Ragged.of(items)
    assert list(column) == items
    assert len(column) == len(items)
    assert column.present.tolist() == [item is not None for item in items]


def test_equal_strings_share_their_bytes():
    assert len(Ragged.of([b"abc", b"abc", None, b"abc", b"de"]).data) == 5


@given(st.lists(strings, max_size=4), st.data())
def test_concat_and_take(parts, data):
    every = [item for part in parts for item in part]
    column = Ragged.concat([Ragged.of(part) for part in parts])
    assert list(column) == every
    rows = data.draw(st.lists(st.integers(0, max(0, len(every) - 1)), max_size=8 * bool(every)))
    assert list(column.take(np.array(rows, np.int64))) == [every[row] for row in rows]


@given(strings, strings)
def test_concat_leaves_out_bytes_that_nobody_names(kept, dropped):
    column = Ragged.of([*dropped, *kept]).take(slice(len(dropped), None))
    joined = Ragged.concat([column])
    assert list(joined) == kept
    assert len(joined.data) <= 2 * sum(len(item) for item in {*kept} - {None})


@given(strings)
def test_unique_strings_and_their_numbers(items):
    found, numbers = Ragged.of(items).unique()
    assert [found[n] for n in numbers.tolist()] == items
    assert len(found) == len(set(items))


@given(strings, st.integers(0, 9))
def test_copies_to_any_place(items, gap):
    column = Ragged.of(items)
    lengths = [len(item or b"") + gap for item in items]
    ends = np.cumsum([0, *lengths])
    target = np.full(ends[-1], 7, np.uint8)
    column.copy_to(target, ends[:-1])
    assert target.tobytes() == b"".join((item or b"") + bytes([7]) * gap for item in items)


def test_only_some_rows():
    column = Ragged.of([b"a", None, b"b"])
    assert list(column.only(np.array([True, True, False]))) == [b"a", None, None]


@given(st.lists(st.none() | st.binary(max_size=4) | st.text(max_size=4).map(str.encode)))
def test_which_are_utf8(items):
    def is_utf8(item):
        try:
            (item or b"").decode()
        except UnicodeDecodeError:
            return False
        return True

    assert Ragged.of(items).is_utf8().tolist() == [is_utf8(item) for item in items]


def test_nothing():
    assert list(Ragged.absent(3)) == [None] * 3
    assert list(Ragged.concat([Ragged.absent(2), Ragged.of([b"x"])])) == [None, None, b"x"]
    assert len(Ragged.concat([])) == 0
