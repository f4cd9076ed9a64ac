"""Reads that get many pieces: all of them, each once, within bounds and without long holes."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from zfuse.format.ragged import Ragged
from zfuse.format.ref_columns import RefColumns
from zfuse.maintenance.pieces import Pieces, requests

GAP = 32 << 10
CHUNKS = st.lists(
    st.tuples(
        st.sampled_from(["s3://b/one", "s3://b/two"]),
        st.sampled_from([None, "etag"]),
        st.integers(0, 20).map(lambda n: n * 10_000),
        st.integers(1, 60_000),
    ),
    max_size=30,
)


def columns_of(chunks):
    count = len(chunks)
    return RefColumns.virtual(
        np.arange(count, dtype=np.uint32).reshape(count, 1),
        Ragged.of(location.encode() for location, _, _, _ in chunks),
        np.array([offset for _, _, offset, _ in chunks], np.uint64),
        np.array([size for _, _, _, size in chunks], np.uint64),
    ).with_checksums(etags=Ragged.of(tag and tag.encode() for _, tag, _, _ in chunks))


INSIDE = [("s3://b/one", None, 0, 60_000), ("s3://b/one", None, 10_000, 10)]


@example(INSIDE, 50_000)
@given(CHUNKS, st.sampled_from([1, 50_000, 1 << 20]))
def test_every_piece_is_read_once(chunks, most):
    pieces = Pieces.of(columns_of(chunks))
    assert len(pieces) == len(set(chunks)) == len(set(pieces.keys.tolist()))
    for row, (location, etag, offset, size) in enumerate(chunks):
        ref = pieces.ref(int(pieces.of_row[row]))
        assert (ref.location, ref.etag, ref.offset, ref.size) == (location, etag, offset, size)
    seen = []
    for request in requests(pieces, np.arange(len(pieces)), most):
        assert len(request) <= most or len(request.pieces) == 1
        reached = 0
        for number, place in request.pieces:
            ref = pieces.ref(number)
            assert (ref.location, ref.etag) == (request.ref.location, request.ref.etag)
            assert (request.ref.offset + place.start, len(place)) == (ref.offset, ref.size)
            assert place.start <= reached + GAP
            reached = max(reached, place.stop)
        assert reached == len(request)
        seen += [number for number, _ in request.pieces]
    assert sorted(seen) == list(range(len(pieces)))
