import pytest
from hypothesis import given
from hypothesis import strategies as st

from zfuse.errors import CorruptionError, InvalidInputError
from zfuse.format.flat import FlatBuffer
from zfuse.format.flat_writer import REF, FlatWriter

SCALARS = {"B": "u8", "H": "u16", "i": "i32", "I": "u32", "Q": "u64"}
RANGES = {
    "B": (0, 2**8 - 1),
    "H": (0, 2**16 - 1),
    "i": (-(2**31), 2**31 - 1),
    "I": (0, 2**32 - 1),
    "Q": (0, 2**64 - 1),
}


@st.composite
def fields(draw):
    """Fields of a table in an arbitrary order: (slot, format or maker, value)."""
    slots = draw(st.lists(st.integers(0, 20), unique=True, max_size=8))
    return [(slot, *draw(field_values())) for slot in slots]


@st.composite
def field_values(draw):
    kind = draw(st.sampled_from([*SCALARS, "8s", "12s", "string", "bytes", "strings", "absent"]))
    if kind in RANGES:
        return kind, draw(st.integers(*RANGES[kind]))
    if kind in ("8s", "12s"):
        size = int(kind[:-1])
        return kind, draw(st.binary(min_size=size, max_size=size))
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    values = {
        "string": text,
        "bytes": st.binary(max_size=20),
        "strings": st.lists(text, max_size=4),
        "absent": st.none(),
    }
    return kind, draw(values[kind])


def write(w, kind, value):
    if kind == "string":
        return REF, w.string(value)
    if kind == "bytes":
        return REF, w.byte_vector(value)
    if kind == "strings":
        return REF, w.offsets([w.string(text) for text in value])
    return (REF if kind == "absent" else kind), value


def read(table, slot, kind):
    if kind in SCALARS:
        return getattr(table, SCALARS[kind])(slot)
    if kind in ("8s", "12s"):
        return table.struct(slot, int(kind[:-1]))
    readers = {"string": table.string, "bytes": table.byte_vector, "strings": table.strings}
    return readers[kind](slot) if kind in readers else None


@given(st.lists(fields(), max_size=5))
def test_tables_read_as_they_were_written(tables):
    w = FlatWriter()
    places = [w.table(*((slot, *write(w, k, v)) for slot, k, v in each)) for each in tables]
    data = w.finish(w.table((0, REF, w.offsets(places)), (1, "Q", 7)))
    assert data[4:8] == b"Ichk"
    root = FlatBuffer(data).root()
    assert root.u64(1) == 7
    for table, each in zip(root.tables(0), tables, strict=True):
        for slot, kind, value in each:
            assert read(table, slot, kind) == value
            assert kind != "absent" or table.u64(slot, default=3) == 3
        assert table.u64(21, default=3) == 3


def test_tables_with_equal_fields_share_a_vtable():
    def size(count):
        w = FlatWriter()
        places = [w.table((3, "Q", n), (1, "I", n)) for n in range(count)]
        return len(w.finish(w.table((0, REF, w.offsets(places)))))

    # where the vtable is, padding, 8 bytes, 4 bytes, padding; and 4 in the vector
    assert size(1002) - size(2) == 1000 * (24 + 4)


@pytest.mark.parametrize("count", range(4))
@pytest.mark.parametrize("size", range(5))
def test_structs_of_8_bytes_are_aligned(count, size):
    w = FlatWriter()
    noise = w.byte_vector(bytes(size))
    vector = w.vector(b"".join(n.to_bytes(16, "little") for n in range(count)), count, align=8)
    data = w.finish(w.table((0, REF, vector), (1, REF, noise)))
    start, found = FlatBuffer(data).root().vector(0, 16)
    assert (start % 8, found) == (0, count)
    assert FlatBuffer(data).root().structs(0, 16) == [
        n.to_bytes(16, "little") for n in range(count)
    ]


def test_text_that_is_no_unicode():
    with pytest.raises(InvalidInputError, match="UTF-8"):
        FlatWriter().string("\ud800")


def test_a_reader_notices_a_cut_buffer():
    w = FlatWriter()
    data = w.finish(w.table((0, REF, w.string("all of it"))))
    with pytest.raises(CorruptionError):
        FlatBuffer(data[:-8]).root().string(0)
