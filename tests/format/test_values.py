import math

import msgpack
import pytest
from flatbuffers import flexbuffers
from hypothesis import given
from hypothesis import strategies as st

from tests.format.building import flexbuffer
from zfuse.errors import CorruptionError
from zfuse.format.values import (
    MAX_DEPTH,
    decode_flexbuffer,
    decode_msgpack,
    decoder_of,
    plain,
)

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
ASCII = st.text(st.characters(min_codepoint=1, max_codepoint=126), max_size=8)


def json_values(keys, largest):
    """Return values with *keys* in mappings, and floats up to *largest*."""
    return st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(1 << 63), (1 << 63) - 1)
        | st.floats(-largest, largest)
        | TEXT,
        lambda inner: st.lists(inner, max_size=6) | st.dictionaries(keys, inner, max_size=6),
        max_leaves=20,
    )


@given(json_values(TEXT, 1e300))
def test_msgpack(value):
    assert decode_msgpack(msgpack.packb(value)) == value


# the package takes ASCII keys, and numbers that fit a small float
@given(json_values(ASCII, 1e38))
def test_flexbuffer(value):
    assert decode_flexbuffer(flexbuffer(value)) == value


def test_version_decides():
    assert decoder_of(1)(msgpack.packb([1])) == [1]
    assert decoder_of(2)(flexbuffer([1])) == [1]


@pytest.mark.parametrize(
    "value",
    [
        [1] * 10_000,
        [None] * 10_000,
        ["a"] * 3_000,
        [True, False] * 2_000,
        [1.5] * 1_000,
        [{}] * 2_000,
        [{"a long key that writers keep once for all of the mappings": 1}] * 500,
        {str(n): n for n in range(2_000)},
        "x" * 100_000,
    ],
    ids=lambda value: str(value)[:12],
)
def test_no_sound_value_exhausts_the_budget(value):
    assert decode_flexbuffer(flexbuffer(value)) == value


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_has_not(number):
    assert decode_msgpack(msgpack.packb([number])) == [None]
    assert decode_flexbuffer(flexbuffer([number, "x"])) == [None, "x"]


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("numbers", [(1, 2, 3, 4), (-1, 2, -3, 4), (0.5, 1.5, 2.5, 3.5)])
def test_fixed_typed_vectors(count, numbers):
    builder = flexbuffers.Builder()
    with builder.TypedVector():
        for number in numbers[:count]:
            builder.Add(number)
    assert decode_flexbuffer(bytes(builder.Finish())) == list(numbers[:count])
    builder = flexbuffers.Builder()
    builder.FixedTypedVectorFromElements(list(numbers[:count]))
    assert decode_flexbuffer(bytes(builder.Finish())) == list(numbers[:count])


def test_types_that_only_other_writers_use():
    builder = flexbuffers.Builder()
    with builder.Vector():
        builder.IndirectInt(-5)
        builder.IndirectUInt((1 << 64) - 1)
        builder.IndirectFloat(0.25)
        builder.Blob(b"ab")
        builder.Key("key")
        builder.Bool(True)
    assert decode_flexbuffer(bytes(builder.Finish())) == [
        -5,
        (1 << 64) - 1,
        0.25,
        [97, 98],
        "key",
        True,
    ]
    builder = flexbuffers.Builder()
    with builder.TypedVector():
        builder.Key("a")
        builder.Key("b")
    assert decode_flexbuffer(bytes(builder.Finish())) == ["a", "b"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgpack.packb([1, 2])[:-1],
        msgpack.packb(1) + b"\x01",
        msgpack.packb({1: 2}),
        msgpack.packb(b"bytes"),
        msgpack.packb(msgpack.Timestamp(1)),
        msgpack.packb(msgpack.ExtType(5, b"x")),
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xffx",
        b"\xa1\xff",
        b"\x81\x90\x01",
        b"\x91" * 300 + b"\xc0",
        b"\x91" * 100_000 + b"\xc0",
    ],
    ids=lambda data: repr(data[:8]),
)
def test_damaged_msgpack(data):
    with pytest.raises(CorruptionError):
        decode_msgpack(data)


def nested(depth):
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_depth():
    plain(nested(MAX_DEPTH))
    assert decode_msgpack(msgpack.packb(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    assert decode_flexbuffer(flexbuffer(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    with pytest.raises(CorruptionError):
        plain(nested(MAX_DEPTH + 1))
    with pytest.raises(CorruptionError):
        decode_msgpack(msgpack.packb(nested(MAX_DEPTH + 1)))
    with pytest.raises(CorruptionError):
        decode_flexbuffer(flexbuffer(nested(MAX_DEPTH + 1)))


def test_loop_in_a_flexbuffer():
    # a vector of one vector, which is the vector itself
    with pytest.raises(CorruptionError, match="nested"):
        decode_flexbuffer(b"\x01\x00\x28\x02\x28\x01")


def test_flexbuffer_that_doubles_at_every_level():
    # each vector holds the one before it twice
    data, last = b"\x02\x00\x00\x00\x00", 1
    for _ in range(40):
        start = len(data) + 1
        data += bytes([2, start - last, start + 1 - last, 10 << 2, 10 << 2])
        last = start
    root = len(data)
    with pytest.raises(CorruptionError, match="over and over"):
        decode_flexbuffer(data + bytes([root - last, 10 << 2, 1]))


@pytest.mark.parametrize("byte", [0, 1, 2, 3, 0x28, 0x7F, 0xFF])
def test_damaged_flexbuffers(byte):
    sound = flexbuffer({"a": [1, 2, 3], "b": {"c": "text", "d": [0.5, None, "x"]}, "e": [True]})
    refused = 0
    for position in range(len(sound)):
        for data in (sound[:position], sound[:position] + bytes([byte]) + sound[position + 1 :]):
            try:
                decode_flexbuffer(data)
            except CorruptionError:
                refused += 1
    assert refused > len(sound) // 2
