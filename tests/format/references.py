"""Strategies for chunk references."""

from hypothesis import strategies as st

from zfuse.format.chunk_ref import InlineRef, NativeRef, VirtualRef
from zfuse.format.ids import ChunkId

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_sizes = st.integers(0, 2**40)

native = st.builds(NativeRef, st.binary(min_size=12, max_size=12).map(ChunkId), _sizes, _sizes)
inline = st.builds(InlineRef, st.binary(max_size=40))
virtual = st.builds(VirtualRef, text, _sizes, _sizes, text, st.none()) | st.builds(
    VirtualRef, text, _sizes, _sizes, st.none(), st.none() | st.integers(1, 2**32 - 1)
)
any_ref = native | inline | virtual


@st.composite
def reference_maps(draw, rank, refs=any_ref, **sizes):
    """References by chunk index, near and far."""
    number = st.integers(0, 3) | st.integers(0, 2**32 - 1)
    return draw(st.dictionaries(st.tuples(*[number] * rank), refs, **sizes))
