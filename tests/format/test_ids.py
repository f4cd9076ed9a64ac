import pytest
from hypothesis import given
from hypothesis import strategies as st

from zfuse.errors import InvalidInputError
from zfuse.format.ids import INITIAL_SNAPSHOT, ChunkId, ManifestId, NodeId, SnapshotId

ALPHABET = set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")


@given(st.binary(min_size=12, max_size=12))
def test_twelve_bytes(data):
    text = str(SnapshotId(data))
    assert len(text) == 20
    assert set(text) <= ALPHABET
    assert text[-1] in "0G"
    assert SnapshotId.parse(text) == SnapshotId.parse(text.lower()) == data


@given(st.binary(min_size=8, max_size=8))
def test_eight_bytes(data):
    text = str(NodeId(data))
    assert len(text) == 13
    assert NodeId.parse(text) == data


def test_initial_snapshot():
    assert str(INITIAL_SNAPSHOT) == "1CECHNKREP0F1RSTCMT0"


@pytest.mark.parametrize(
    "text", ["iCECHNKREP0F1RSTCMT0", "lCECHNKREPoFIRSTCMTO", "1CECHNKREP0F1RSTCMT1"]
)
def test_many_texts_name_one_id(text):
    assert SnapshotId.parse(text) == INITIAL_SNAPSHOT
    assert str(SnapshotId.parse(text)) == "1CECHNKREP0F1RSTCMT0"


@pytest.mark.parametrize(
    "text", ["", "1CECHNKREP0F1RSTCMT", "1CECHNKREP0F1RSTCMT00", "U" * 20, "é" * 20, "-" * 20]
)
def test_what_is_no_id(text):
    with pytest.raises(InvalidInputError):
        SnapshotId.parse(text)


@pytest.mark.parametrize("size", [0, 8, 11, 13])
def test_wrong_size(size):
    with pytest.raises(InvalidInputError):
        ChunkId(bytes(size))


def test_order_is_that_of_the_bytes():
    ids = [ManifestId(bytes([n]) * 12) for n in (255, 0, 128, 1)]
    assert sorted(ids) == sorted(ids, key=bytes)


def test_repr():
    assert repr(INITIAL_SNAPSHOT) == "SnapshotId(1CECHNKREP0F1RSTCMT0)"
