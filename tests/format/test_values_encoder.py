import math

import pytest
from flatbuffers import flexbuffers
from hypothesis import given
from hypothesis import strategies as st

from zfuse.errors import InvalidInputError
from zfuse.format.values import decode_flexbuffer, decode_msgpack, decoder_of
from zfuse.format.values_encoder import encode_flexbuffer, encode_msgpack, encoder_of

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)


def trees(keys):
    """Values with mappings that have such *keys*."""
    return st.recursive(
        st.none() | st.booleans() | numbers | text,
        lambda inner: st.lists(inner, max_size=8) | st.dictionaries(keys, inner, max_size=8),
    )


EDGES = [
    0, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1, -1, -128, -129, -(2**31), -(2**63),
    0.1, 1.5, 1e300, -0.0, "", "x" * 255, "x" * 256, "x" * 70_000, [], {}, [[[]]], [{}],
    [1, 2, 3], [1, 2.5, None, "a", True], list(range(300)), ["s"] * 300,
    {"": 1}, {"a": {"a": {"a": 1}}}, {"b": 1, "a": 2, "ü": 3}, {"k" * 300: "v" * 300},
    {str(n): {"n": n} for n in range(300)},
]  # fmt: skip


@pytest.mark.parametrize("value", EDGES, ids=lambda value: repr(value)[:30])
@pytest.mark.parametrize("spec_version", [1, 2])
def test_edges(value, spec_version):
    assert decoder_of(spec_version)(encoder_of(spec_version)(value)) == value


@given(trees(keys))
def test_round_trips(value):
    assert decode_flexbuffer(encode_flexbuffer(value)) == value
    assert decode_msgpack(encode_msgpack(value)) == value


@given(trees(st.text("abc")))
def test_the_flatbuffers_package_reads_flexbuffers(value):
    # it takes keys for ASCII
    assert flexbuffers.Loads(encode_flexbuffer(value)) == value


@pytest.mark.parametrize(
    "encoded", [(encode_flexbuffer, decode_flexbuffer), (encode_msgpack, decode_msgpack)]
)
def test_what_json_says_in_other_words(encoded):
    encode, decode = encoded
    assert decode(encode([math.nan, math.inf, -math.inf])) == [None] * 3
    assert decode(encode([2**64, -(2**63) - 1])) == [float(2**64), float(-(2**63) - 1)]
    assert decode(encode({"pair": (1, 2)})) == {"pair": [1, 2]}


@pytest.mark.parametrize("encode", [encode_flexbuffer, encode_msgpack])
@pytest.mark.parametrize(
    "value", [b"bytes", {1: 2}, {1, 2}, object(), "\ud800", {"\udfff": 1}, 10**400, [[b"x"]]]
)
def test_what_json_has_not(encode, value):
    with pytest.raises(InvalidInputError) as refused:
        encode(value)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("encode", [encode_flexbuffer, encode_msgpack])
def test_depth(encode):
    value = None
    for _ in range(199):
        value = [value]
    encode(value)
    with pytest.raises(InvalidInputError, match="nested"):
        encode([value])


def test_a_key_with_a_nul_has_no_flexbuffer():
    with pytest.raises(InvalidInputError, match="NUL"):
        encode_flexbuffer({"a\0b": 1})
    assert decode_msgpack(encode_msgpack({"a\0b": 1})) == {"a\0b": 1}


def test_numbers_have_the_types_that_the_official_library_writes():
    # type in the high bits, width in the low ones, then the width of the root
    assert encode_flexbuffer(5) == bytes([5, 2 << 2, 1])
    assert encode_flexbuffer(-5) == bytes([251, 1 << 2, 1])
    assert encode_flexbuffer(True) == bytes([1, 26 << 2, 1])
    assert encode_flexbuffer(1.5) == b"\x00\x00\xc0\x3f" + bytes([3 << 2 | 2, 4])
    assert encode_flexbuffer(0.1)[-2:] == bytes([3 << 2 | 3, 8])
