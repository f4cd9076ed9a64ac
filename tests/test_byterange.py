import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zfuse.byterange import ByteRange, coalesce
from zfuse.errors import InvalidInputError

ranges = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda r: ByteRange(r[0], sum(r)))
)


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (4, 3)])
def test_a_range_goes_forward_from_the_start(start, stop):
    with pytest.raises(InvalidInputError):
        ByteRange(start, stop)


def test_a_range_of_an_object_inside_another_is_clipped():
    assert ByteRange(2, 99).within(100, 10) == ByteRange(102, 110)
    assert ByteRange(20, 99).within(100, 10) == ByteRange(110, 110)


@given(ranges, st.integers(0, 5))
def test_coalesced_ranges_cover_all_and_lie_apart(pieces, gap):
    merged = coalesce(pieces, gap=gap)
    covered = {byte for r in merged for byte in range(r.start, r.stop)}
    asked = {byte for r in pieces for byte in range(r.start, r.stop)}
    assert asked <= covered
    assert all(b.start - a.stop > gap for a, b in itertools.pairwise(merged))
    assert all({r.start, r.stop - 1} <= asked for r in merged)
    # What was bridged lies in holes of up to that many bytes.
    assert all(any(abs(byte - a) <= gap for a in asked) for byte in covered - asked)
