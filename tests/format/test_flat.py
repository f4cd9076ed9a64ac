import struct

import pytest

from tests.format import building
from tests.format.building import RawString, build, i32, structs, u8, u16, u16s, u32, u64
from zfuse.errors import CorruptionError
from zfuse.format.flat import FlatBuffer, required

TABLE = {
    0: u8(1),
    1: u16(2),
    2: u32(3),
    3: i32(-4),
    4: u64(1 << 63),
    5: building.struct(b"abc"),
    6: {0: u8(9)},
    7: b"bytes",
    8: structs(3, b"abc", b"def"),
    9: u16s(7, 8),
    10: [{0: u8(n)} for n in range(20)],
    11: "téxt",
    12: ["a", "", "ß"],
}
READERS = {
    0: lambda t: t.u8(0),
    1: lambda t: t.u16(1),
    2: lambda t: t.u32(2),
    3: lambda t: t.i32(3),
    4: lambda t: t.u64(4),
    5: lambda t: t.struct(5, 3),
    6: lambda t: required(t.table(6), "6").u8(0),
    7: lambda t: t.byte_vector(7),
    8: lambda t: t.structs(8, 3),
    9: lambda t: t.u16s(9),
    10: lambda t: [each.u8(0) for each in required(t.tables(10), "10")],
    11: lambda t: t.string(11),
    12: lambda t: t.strings(12),
}
VALUES = {
    0: 1,
    1: 2,
    2: 3,
    3: -4,
    4: 1 << 63,
    5: b"abc",
    6: 9,
    7: b"bytes",
    8: [b"abc", b"def"],
    9: (7, 8),
    10: list(range(20)),
    11: "téxt",
    12: ["a", "", "ß"],
}


def root(data):
    return FlatBuffer(data).root()


@pytest.mark.parametrize("slot", READERS)
def test_read(slot):
    assert READERS[slot](root(build(TABLE))) == VALUES[slot]


def test_absent_fields():
    table = root(build({}))
    for slot in (0, 5, 1000):
        assert [table.u8(slot), table.u16(slot), table.u32(slot), table.i32(slot)] == [0] * 4
        assert table.u64(slot, default=7) == 7
        for read in (table.table, table.string, table.byte_vector, table.tables, table.strings):
            assert read(slot) is None
        assert table.struct(slot, 4) is None
        assert table.structs(slot, 4) is None
        assert table.u16s(slot) is None


def test_required():
    assert required(0, "x") == 0
    with pytest.raises(CorruptionError, match=r"Snapshot\.id"):
        required(None, "Snapshot.id")


@pytest.mark.parametrize("size", range(8))
def test_too_short(size):
    with pytest.raises(CorruptionError):
        root(bytes(size))


def read_all(data):
    table = root(data)
    for read in READERS.values():
        read(table)


def test_every_truncation_is_bounded():
    data = build(TABLE)
    for size in range(len(data)):
        cut = data[:size]
        for read in READERS.values():
            try:
                assert read(root(cut)) in VALUES.values()
            except CorruptionError:
                continue
        with pytest.raises(CorruptionError):
            read_all(cut)


def _refused(read, data):
    """Whether *read* refuses *data*; it raises nothing else."""
    try:
        read(root(data))
    except CorruptionError:
        return True
    return False


@pytest.mark.parametrize("number", [0, 1, 3, 4, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFF])
def test_every_word_may_be_wrong(number):
    data = build(TABLE)
    refused = 0
    for position in range(0, len(data) - 3, 4):
        damaged = bytearray(data)
        struct.pack_into("<I", damaged, position, number)
        refused += sum(_refused(read, bytes(damaged)) for read in READERS.values())
    assert refused > len(READERS)


@pytest.mark.parametrize("byte", [0, 1, 2, 4, 0x7F, 0xFF])
def test_every_byte_may_be_wrong(byte):
    data = build(TABLE)
    refused = 0
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] = byte
        refused += sum(_refused(read, bytes(damaged)) for read in READERS.values())
    assert refused > len(READERS)


def test_string_that_is_not_utf8():
    with pytest.raises(CorruptionError, match="UTF-8"):
        root(build({0: RawString(b"\xff")})).string(0)


def test_string_without_its_nul():
    data = build({0: "abc"})
    end = data.index(b"abc") + 3
    with pytest.raises(CorruptionError, match="no end"):
        root(data[:end] + b"d" + data[end + 1 :]).string(0)


def _aliased(count):
    """Return a buffer whose root has a vector of *count* offsets to one table with a string."""
    vtable = struct.pack("<HHH", 6, 8, 4)
    head = struct.pack("<IHxx", 16, 0)[:8] + vtable + b"\0\0"
    inner = 16
    table = struct.pack("<iI", inner - 8, 4)
    vector_at = inner + 8
    text_at = vector_at + 4 + 4 * count
    offsets = b"".join(struct.pack("<I", text_at - (vector_at + 4 + 4 * n)) for n in range(count))
    target = struct.pack("<iI", text_at - 8, 4) + struct.pack("<I", 1000) + b"x" * 1000 + b"\0"
    return head + table + struct.pack("<I", count) + offsets + target


def test_aliases_are_read():
    tables = root(_aliased(10)).tables(0)
    assert [table.string(0) for table in tables] == ["x" * 1000] * 10


def test_aliases_do_not_amplify():
    data = _aliased(100_000)
    tables = root(data).tables(0)
    read = 0
    with pytest.raises(CorruptionError, match="over and over"):  # noqa: PT012
        for table in tables:
            read += len(table.string(0))
    assert 1000 <= read < 4 * len(data) + (4 << 20)
