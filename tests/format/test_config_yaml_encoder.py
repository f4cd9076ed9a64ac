"""What is written is read again as it was, by zfuse here and by the official library elsewhere.

The official library reads these files in ``tests/repo/test_settings.py``.
"""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from zfuse.errors import InvalidInputError
from zfuse.format.config_yaml import Variant, decode_tagged, decode_yaml
from zfuse.format.config_yaml_encoder import encode_yaml

CONFIG = """\
inline_chunk_threshold_bytes: 77
compression: null
virtual_chunk_containers:
  "s3://b/":
    name: "no"
    url_prefix: "s3://b/"
    store: !s3
      region: "us-east-1"
      anonymous: false
  "file:///x/":
    name: null
    url_prefix: "file:///x/"
    store: !local_file_system "/x"
  "gs://g/":
    store: !gcs {}
manifest:
  preload:
    preload_if: !and
      - !num_refs
        from: !Included 1
        to: Unbounded
      - "true"
      - !or []
  splitting:
    split_sizes:
      -
        - !or
          - !name_matches
            regex: a
          - any_array
        -
          -
            condition: !DimensionName t
            num_chunks: 3
          -
            condition: Any
            num_chunks: 7
future: !new
  a: !old 1
"""

ODD = [
    *("", " ", "a: b", "a #b", "- a", "a\nb", "a\tb", "\U0001f9ca"),
    *["null", "~", "yes", "No", "1", "0o17", "0x1F", "1e3", ".inf", ".nan", "1:30", "2026-01-01"],
    *[
        "#a",
        "!s3",
        "&a",
        "*a",
        "%a",
        "@a",
        "`a`",
        "{",
        "[",
        "'",
        '"',
        "\\",
        "|",
        ">",
        "?",
        ",",
        "=",
    ],
    *["\x85", "\u2028", "\ufeff", "\x7f", "\x00", "\ufffe", "\uffff"],
]
TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(ODD)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def test_the_layout():
    assert encode_yaml(decode_tagged(CONFIG.encode())).decode() == CONFIG


def test_variants_are_told_by_their_place():
    """Values that came from a repository of version 2, or from a program, have no marks."""
    values = decode_yaml(CONFIG.encode().partition(b"future")[0])
    assert not isinstance(values["virtual_chunk_containers"]["s3://b/"]["store"], Variant)
    assert encode_yaml(values).decode() == CONFIG.partition("future")[0]


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_everything_is_read_as_it_was(values):
    plain = {f"x{name}": value for name, value in values.items()}
    assert decode_yaml(encode_yaml(plain)) == plain


@given(TEXTS)
def test_any_reader_of_yaml_takes_texts_for_texts(text):
    assert yaml.safe_load(encode_yaml({"name": text})) == {"name": text}


def test_nothing_to_say():
    assert decode_yaml(encode_yaml({})) == {}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"store": {"s3": {}, "gcs": {}}}, "one key"),
        ({"name": b"bytes"}, "JSON"),
        ({"name": {1: 2}}, "not a string"),
    ],
)
def test_what_can_not_be_written(values, words):
    with pytest.raises(InvalidInputError, match=words):
        encode_yaml(values)
