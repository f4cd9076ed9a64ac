import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.format import building
from tests.format.building import RawString, manifest, u8, u32s, u64
from tests.format.references import any_ref, reference_maps
from zfuse.errors import InvalidInputError
from zfuse.format.chunk_ref import InlineRef, NativeRef, VirtualRef
from zfuse.format.ids import ChunkId, ManifestId, NodeId
from zfuse.format.manifest import Manifest
from zfuse.format.manifest_encoder import encode_manifest
from zfuse.format.ragged import Ragged
from zfuse.format.ref_columns import RefColumns, RefKind, join, merge, plain
from zfuse.format.stored_refs import stored_refs

ID, NODE = ManifestId(building.ID), NodeId(building.NODE)


def columns(refs, rank=1):
    return RefColumns.of_refs(rank, refs.items())


def contents(part):
    """Return what a reader of the manifest of *part* finds."""
    if not len(part):
        return {}
    array = Manifest.decode(encode_manifest(ID, {NODE: [part]}, spec_version=2).data).array(
        NODE, part.rank
    )
    rows = array.coords(0, len(array)).tolist()
    return {tuple(index): array.ref(row) for row, index in enumerate(rows)}


def u32(values):
    return np.array(values, np.uint32)


def u64s(*values):
    return np.array(values, np.uint64)


def test_columns_of_one_kind():
    ids = np.arange(24, dtype=np.uint8).reshape(2, 12)
    coords = u32([[0, 1], [5, 0]])
    first, second = ChunkId(ids[0].tobytes()), ChunkId(ids[1].tobytes())
    assert contents(RefColumns.native(coords, ids, u64s(7, 8))) == {
        (0, 1): NativeRef(first, 0, 7),
        (5, 0): NativeRef(second, 0, 8),
    }
    assert contents(RefColumns.native(coords, ids, u64s(7, 8), u64s(0, 3))) == {
        (0, 1): NativeRef(first, 0, 7),
        (5, 0): NativeRef(second, 3, 8),
    }
    assert contents(RefColumns.inline(coords, Ragged.of([b"", b"abc"]))) == {
        (0, 1): InlineRef(b""),
        (5, 0): InlineRef(b"abc"),
    }
    virtual = RefColumns.virtual(coords, Ragged.of([b"a", b"b"]), u64s(1, 0), u64s(2, 4))
    assert contents(virtual) == {(0, 1): VirtualRef("a", 1, 2), (5, 0): VirtualRef("b", 0, 4)}
    checked = virtual.with_checksums(etags=Ragged.of([b"e", None]), last_modified=u32([5, 6]))
    assert contents(checked) == {
        (0, 1): VirtualRef("a", 1, 2, "e", None),
        (5, 0): VirtualRef("b", 0, 4, None, 6),
    }


def test_columns_that_differ_in_length():
    with pytest.raises(InvalidInputError, match="length"):
        RefColumns.inline(u32([[0], [1]]), Ragged.of([b"a"]))
    with pytest.raises(InvalidInputError, match="length"):
        RefColumns.native(u32([0, 1]), np.zeros((2, 12), np.uint8), u64s(1, 2))


@pytest.mark.parametrize("index", [(), (1, 2), (-1,), (2**32,)])
def test_indices_that_are_none(index):
    with pytest.raises(InvalidInputError, match="1 numbers"):
        RefColumns.of_refs(1, [(index, InlineRef(b""))])


@given(st.integers(0, 4).flatmap(reference_maps))
def test_references_one_by_one(refs):
    rank = len(next(iter(refs), ()))
    assert contents(columns(refs, rank)) == refs


@given(reference_maps(2), st.data())
def test_take(refs, data):
    every = columns(refs, 2)
    mask = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(refs), max_size=len(refs))), bool
    )
    kept = {index: refs[index] for index, keep in zip(refs, mask, strict=True) if keep}
    assert contents(every.take(mask)) == kept
    assert contents(every.take(np.flatnonzero(mask)[::-1])) == kept


@given(st.lists(reference_maps(2, max_size=6), min_size=1, max_size=4), st.data())
def test_merge(parts, data):
    expected = {}
    for part in parts:
        expected |= part
    merged = merge([columns(part, 2) for part in parts])
    assert merged.coords.tolist() == sorted(map(list, expected))
    assert contents(merged) == expected
    gone = data.draw(st.lists(st.sampled_from([*expected, (9, 9)]), max_size=5))
    rest = merged.without(u32(gone).reshape(-1, 2))
    assert contents(rest) == {index: expected[index] for index in expected if index not in gone}


def test_merge_of_one_part_with_an_index_twice():
    part = RefColumns.of_refs(
        1, [((n,), InlineRef(bytes([n, k]))) for k in range(3) for n in (1, 0)]
    )
    assert contents(merge([part])) == {(0,): InlineRef(b"\0\2"), (1,): InlineRef(b"\1\2")}


def test_merge_keeps_what_is_sorted():
    part = columns({(n,): InlineRef(b"x") for n in range(5)})
    assert merge([RefColumns.empty(1), part]) is part
    assert len(merge([RefColumns.empty(3), RefColumns.empty(3)])) == 0


def test_inside_of_a_box():
    part = columns({(n, m): InlineRef(b"x") for n in range(4) for m in range(4)}, 2)
    assert part.inside(((1, 3), (0, 1))).coords.tolist() == [[1, 0], [2, 0]]
    assert part.inside(((0, 9), (0, 9))) is part


def stored(refs, rank=1, **slots):
    """Return the columns of a handmade manifest with the ChunkRef tables *refs*."""
    return stored_refs(Manifest.decode(manifest(refs, **slots)).array(NODE, rank))


@given(st.integers(0, 3).flatmap(lambda rank: reference_maps(rank, min_size=1)))
def test_stored_references(refs):
    rank = len(next(iter(refs)))
    data = encode_manifest(ID, {NODE: [columns(refs, rank)]}, spec_version=2).data
    assert contents(stored_refs(Manifest.decode(data).array(NODE, rank))) == refs


NATIVE = {2: u64(1), 3: u64(5), 4: building.struct(building.ID)}
LOCATED = {2: u64(1), 3: u64(5), 5: "s3://b/k"}
DAMAGED = {
    "nothing": {},
    "text that is not UTF-8": {5: RawString(b"s3://\xff")},
    "etag that is not UTF-8": LOCATED | {6: RawString(b"\xff")},
    "a dictionary is missing": {8: b"packed"},
    "even with a location": LOCATED | {8: b"packed"},
}


@pytest.mark.parametrize("fields", DAMAGED.values(), ids=DAMAGED)
def test_damaged_references_stay_damaged_ones(fields):
    part = stored([{0: u32s(0)} | fields, {0: u32s(1), 1: b"good"}])
    assert part.kinds.tolist() == [RefKind.DAMAGED, RefKind.INLINE]
    array = Manifest.decode(encode_manifest(ID, {NODE: [part]}, spec_version=2).data).array(NODE, 1)
    assert array.ref(1) == InlineRef(b"good")
    with pytest.raises(Exception, match="nowhere"):
        array.ref(0)


def test_what_readers_heed_first():
    part = stored([{0: u32s(0), 1: b"in", **LOCATED, **NATIVE}, {0: u32s(1), 1: b"in", **LOCATED}])
    assert contents(part) == {
        (0,): NativeRef(ChunkId(building.ID), 1, 5),
        (1,): VirtualRef("s3://b/k", 1, 5),
    }


def test_text_behind_a_damaged_etag_of_a_native_reference():
    part = stored([{0: u32s(0), 6: RawString(b"\xff"), **NATIVE}])
    assert contents(part) == {(0,): NativeRef(ChunkId(building.ID), 1, 5)}


LOCATIONS = [f"s3://bucket/some/place/{n}/data.bin" for n in range(200)]


def trained(size):
    samples = [location.encode() for location in LOCATIONS] * 5
    return zstandard.train_dictionary(size, samples).as_bytes()


ONE, TWO = trained(400), trained(500)


def packed(dictionary, numbers, checksum=None):
    """Return the columns of a manifest whose locations are compressed."""
    compressor = zstandard.ZstdCompressor(dict_data=zstandard.ZstdCompressionDict(dictionary))
    tables = [
        {0: u32s(n), 2: u64(n), 3: u64(9), 8: compressor.compress(LOCATIONS[n].encode())}
        | ({} if checksum is None else {6: checksum})
        for n in numbers
    ]
    return stored(tables, s2=dictionary, s3=u8(1))


def expected(numbers, etag=None):
    return {(n,): VirtualRef(LOCATIONS[n], n, 9, etag) for n in numbers}


def test_compressed_locations_stay_compressed():
    part = packed(ONE, range(50), checksum="e")
    assert set(part.kinds) == {RefKind.PACKED}
    assert part.dictionary == ONE
    changed = merge([part, columns({(7,): InlineRef(b"new"), (99,): VirtualRef("s3://n", 1, 2)})])
    assert changed.dictionary == ONE
    wanted = expected(range(50), "e") | {(7,): InlineRef(b"new"), (99,): VirtualRef("s3://n", 1, 2)}
    assert contents(changed) == wanted
    again = Manifest.decode(encode_manifest(ID, {NODE: [changed]}, spec_version=2).data)
    assert set(stored_refs(again.array(NODE, 1)).kinds) == {
        RefKind.PACKED,
        RefKind.INLINE,
        RefKind.VIRTUAL,
    }


def test_locations_of_several_dictionaries_are_unpacked():
    part = join([packed(ONE, range(5)), packed(TWO, range(5, 9))])
    assert part.dictionary is None
    assert set(part.kinds) == {RefKind.VIRTUAL}
    assert contents(part) == expected(range(9))


def test_arrays_of_several_dictionaries_in_one_manifest():
    other = NodeId(b"another1")
    data = encode_manifest(
        ID, {NODE: [packed(ONE, [1])], other: [packed(TWO, [2])]}, spec_version=2
    ).data
    decoded = Manifest.decode(data)
    assert decoded.array(NODE, 1).ref(0).location == LOCATIONS[1]
    assert decoded.array(other, 1).ref(0).location == LOCATIONS[2]


def test_a_dictionary_that_nobody_needs_any_more_is_left_out():
    part = packed(ONE, [1]).take(slice(0, 0))
    merged = join([part, packed(TWO, [2])])
    assert merged.dictionary == TWO
    assert contents(merged) == expected([2])


def test_version_1_has_no_compressed_locations():
    data = encode_manifest(ID, {NODE: [packed(ONE, range(3))]}, spec_version=1).data
    part = stored_refs(Manifest.decode(data).array(NODE, 1))
    assert set(part.kinds) == {RefKind.VIRTUAL}
    assert contents(part) == expected(range(3))


def test_a_damaged_compressed_location():
    damaged = stored([{0: u32s(0), 8: b"rubbish"}, {0: u32s(1), 1: b"x"}], s2=ONE, s3=u8(1))
    assert damaged.kinds.tolist() == [RefKind.PACKED, RefKind.INLINE]
    assert plain(damaged).kinds.tolist() == [RefKind.DAMAGED, RefKind.INLINE]


@given(st.lists(any_ref, min_size=1))
def test_plain_changes_nothing_else(refs):
    part = columns({(n,): ref for n, ref in enumerate(refs)})
    assert contents(plain(part)) == contents(part)
