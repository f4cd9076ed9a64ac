import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zfuse.fs.names import NAME_MAX, decode_name, encode_name

names = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    st.text("%/.\x000125aAF~zrjson", max_size=12),
)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("air", "air"),
        ("50%", "50%"),
        ("a\nb\\c", "a\nb\\c"),
        ("a/b", "a%2Fb"),
        ("100%/b", "100%25%2Fb"),
        ("a%2Fb", "a%252Fb"),
        ("a%252Fb", "a%25252Fb"),
        ("a%41b", "a%41b"),
        ("", "%"),
        ("%", "%25"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("\0", "%00"),
        ("zarr.json", "zarr%2Ejson"),
        (".zgroup", ".zgroup"),
    ],
)
def test_shown(name, shown):
    assert encode_name(name) == shown
    assert decode_name(shown) == name


@given(names)
@example("%~")
@example("x" * 256)
def test_every_name_comes_back(name):
    shown = encode_name(name)
    assert decode_name(shown, [name]) == name
    assert shown not in {"", ".", "..", "zarr.json"}
    assert not set("/\0") & set(shown)
    assert len(shown.encode()) <= NAME_MAX


@given(names, names)
def test_no_two_names_are_shown_alike(one, other):
    assert (encode_name(one) == encode_name(other)) == (one == other)


@given(names)
def test_what_no_name_is_shown_as_is_nothing(shown):
    name = decode_name(shown)
    assert name is None or encode_name(name) == shown


def test_a_long_name_is_found_among_those_there_are():
    long, other = "é" * 200, "é" * 201
    assert decode_name(encode_name(long), [other, long]) == long
    assert decode_name(encode_name(long), [other]) is None
