import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zstandard

from tests.format import building
from tests.format.building import ID, NODE, RawString, manifest, u8, u32, u32s, u64, unwrap
from tests.format.exercise import array as use_all
from zfuse.errors import CorruptionError, UnsupportedVersionError
from zfuse.format.chunk_ref import InlineRef, NativeRef, VirtualRef
from zfuse.format.ids import ChunkId, ManifestId, NodeId
from zfuse.format.manifest import Manifest

ARRAY = NodeId(NODE)
OTHER = NodeId(b"node0002")


def native(*index, size=5):
    return {0: u32s(*index), 2: u64(1), 3: u64(size), 4: building.struct(ID)}


def inline(*index, data=b"abc"):
    return {0: u32s(*index), 1: data}


def virtual(*index, location="s3://bucket/key", **slots):
    more = {int(name[1:]): value for name, value in slots.items()}
    return {0: u32s(*index), 2: u64(10), 3: u64(20), 5: location} | more


def array(refs, rank=1, **slots):
    return Manifest.decode(manifest(refs, **slots)).array(ARRAY, rank)


def only(ref, **slots):
    return array([ref], **slots).ref(0)


def test_kinds():
    refs = array([inline(0), native(1), virtual(2)])
    assert refs.ref(0) == InlineRef(b"abc")
    assert refs.ref(1) == NativeRef(ChunkId(ID), 1, 5)
    assert refs.ref(2) == VirtualRef("s3://bucket/key", 10, 20)
    assert refs.sizes(0, 3).tolist() == [3, 5, 20]
    assert refs.sizes(0, 3).dtype == np.uint64


def test_checksums():
    assert only(virtual(0, s6='"etag"')) == VirtualRef("s3://bucket/key", 10, 20, '"etag"', None)
    assert only(virtual(0, s7=u32(2**32 - 1))).last_modified == 2**32 - 1
    assert only(virtual(0, s7=u32(0))).last_modified is None
    assert only(virtual(0, s6="e", s7=u32(5))) == VirtualRef("s3://bucket/key", 10, 20, "e", None)


def test_absent_numbers_are_0():
    assert only({0: u32s(0), 4: building.struct(ID)}) == NativeRef(ChunkId(ID), 0, 0)


def test_large_offsets():
    ref = {0: u32s(0), 2: u64(2**62), 3: u64(2**33), 4: building.struct(ID)}
    refs = array([ref])
    assert refs.ref(0) == NativeRef(ChunkId(ID), 2**62, 2**33)
    assert refs.sizes(0, 1).tolist() == [2**33]


def test_find():
    refs = array([inline(*index) for index in [(0, 1), (0, 2), (3, 0), (3, 4)]], rank=2)
    assert len(refs) == 4
    assert refs.rank == 2
    assert [refs.find(index) for index in [(0, 1), (0, 2), (3, 0), (3, 4)]] == [0, 1, 2, 3]
    assert [refs.find(index) for index in [(0, 0), (9, 9), (0,), (), (0, 1, 0), (-1, 2)]] == [
        None
    ] * 6
    assert refs.find_many(np.array([[3, 0], [3, 1]], np.uint32)).tolist() == [2, -1]
    assert [refs.rows_under(p) for p in [(), (0,), (3,), (1,), (3, 4)]] == [
        (0, 4),
        (0, 2),
        (2, 4),
        (2, 2),
        (3, 4),
    ]
    assert refs.coords(1, 3).tolist() == [[0, 2], [3, 0]]
    assert refs.coords(1, 3).dtype == np.uint32
    assert refs.coords(2, 2).shape == (0, 2)


def test_grid_beyond_63_bits():
    top = 2**32 - 1
    refs = array([inline(0, top, 0), inline(1, 0, top), inline(top, top, top)], rank=3)
    use_all(refs)
    assert refs.find((1, 0, top)) == 1
    assert refs.find((1, 0, 0)) is None


def test_arrays():
    arrays = [
        {0: building.struct(NODE), 1: [inline(0)]},
        {0: building.struct(OTHER), 1: [native(7)]},
    ]
    decoded = Manifest.decode(manifest([], s1=[*arrays, {0: building.struct(b"no refs!"), 1: []}]))
    assert decoded.id == ManifestId(ID)
    assert decoded.node_ids() == (ARRAY, OTHER)
    assert decoded.array(OTHER, 1).coords(0, 1).tolist() == [[7]]
    assert decoded.array(NodeId(b"no refs!"), 1) is None
    assert decoded.array(NodeId(b"unknown!"), 1) is None
    assert decoded.ranks(NodeId(b"unknown!")) == ()


def test_many_arrays_in_one_manifest():
    arrays = [
        {0: building.struct(n.to_bytes(8)), 1: [inline(*range(n % 4), row) for row in range(n % 3)]}
        for n in range(300)
    ]
    decoded = Manifest.decode(manifest([], s1=arrays))
    for n in range(300):
        found = decoded.array(NodeId(n.to_bytes(8)), n % 4 + 1)
        assert (0 if found is None else len(found)) == n % 3
        if found is not None:
            use_all(found)


def test_references_beyond_one_block():
    refs = [inline(n // 300, n % 300, data=n.to_bytes(4)) for n in range(70_000)]
    found = array(refs, rank=2)
    assert len(found) == 70_000
    assert found.find((233, 99)) == 69_999
    assert found.ref(65_536) == InlineRef((65_536).to_bytes(4))
    assert found.coords(65_535, 65_537).tolist() == [[218, 135], [218, 136]]
    assert set(found.sizes(0, 70_000).tolist()) == {4}


def test_many_references_in_no_order():
    order = [(n * 7919 % 5000, n % 3) for n in range(5000)]
    refs = [inline(*index, data=repr(index).encode()) for index in order]
    other = [inline(n) for n in reversed(range(4100))]
    decoded = Manifest.decode(manifest([*refs, *refs[:100], *other]))
    assert decoded.ranks(ARRAY) == (1, 2)
    found = decoded.array(ARRAY, 2)
    assert [tuple(index) for index in found.coords(0, len(found)).tolist()] == sorted(order)
    for index in order[::97]:
        assert found.ref(found.find(index)) == InlineRef(repr(index).encode())
    assert decoded.array(ARRAY, 1).coords(0, 4100)[:, 0].tolist() == list(range(4100))


def test_no_object_per_reference():
    count = 30_000
    data = manifest([native(n // 200, n % 200) for n in range(count)])
    Manifest.decode(data)  # what is loaded once is not counted
    tracemalloc.start()
    try:
        decoded = Manifest.decode(data)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(decoded.array(ARRAY, 2)) == count
    raw = len(unwrap(data))
    assert kept < raw + 20 * count  # positions and keys: 16 bytes
    assert peak < raw + 200 * count  # a tuple of two numbers takes 120


def test_weight():
    small = Manifest.decode(manifest([inline(0)]))
    large = Manifest.decode(manifest([inline(0, data=bytes(100_000))]))
    assert 99_990 <= large.nbytes - small.nbytes < 100_100


def test_compressed_bytes_are_let_go():
    data = manifest([inline(n) for n in range(100)])
    before = sys.getrefcount(data)
    decoded = Manifest.decode(data)
    use_all(decoded.array(ARRAY, 1))
    assert sys.getrefcount(data) == before


@pytest.mark.parametrize("slot", [0, 1])
def test_required_fields(slot):
    with pytest.raises(CorruptionError, match="required"):
        Manifest.decode(manifest([], **{f"s{slot}": None}))


@pytest.mark.parametrize("slot", [0, 1])
def test_required_fields_of_an_array(slot):
    table = {0: building.struct(NODE), 1: [inline(0)]}
    del table[slot]
    with pytest.raises(CorruptionError, match="required"):
        Manifest.decode(manifest([], s1=[table]))


def test_reference_without_an_index():
    with pytest.raises(CorruptionError, match="no index"):
        array([inline(0), {1: b"abc"}])


def test_index_of_absurd_rank():
    with pytest.raises(CorruptionError):
        array([inline(*range(2000))])


def test_reference_to_nowhere():
    refs = array([inline(0), {0: u32s(1), 3: u64(7)}, inline(2)])
    with pytest.raises(CorruptionError, match="nowhere"):
        refs.ref(1)
    assert refs.sizes(0, 3).tolist() == [3, 0, 3]
    assert refs.ref(2) == InlineRef(b"abc")


@pytest.mark.parametrize(("offset", "size"), [(0, 2**63), (2**63, 1), (2**64 - 1, 2**64 - 1)])
def test_chunk_beyond_any_file(offset, size):
    refs = array([{0: u32s(0), 2: u64(offset), 3: u64(size), 4: building.struct(ID)}, inline(1)])
    with pytest.raises(CorruptionError, match="said to be"):
        refs.ref(0)
    assert refs.sizes(0, 2).tolist() == [size if size < 2**63 else 0, 3]


def test_location_that_is_not_utf8():
    with pytest.raises(CorruptionError, match="UTF-8"):
        only(virtual(0, location=RawString(b"\xff")))


def test_newer_version():
    with pytest.raises(UnsupportedVersionError):
        Manifest.decode(manifest([], version=3))


def test_rows_are_checked():
    with pytest.raises(IndexError):
        array([inline(0)]).ref(1)


LOCATIONS = [f"s3://bucket/some/prefix/file-{n:04}.nc" for n in range(500)]
DICTIONARY = zstandard.train_dictionary(2048, [each.encode() for each in LOCATIONS])
RAW_DICTIONARY = DICTIONARY.as_bytes()


def packed(location, dictionary=DICTIONARY, **options):
    return zstandard.ZstdCompressor(dict_data=dictionary, **options).compress(location.encode())


def compressed(*index, data, **slots):
    return {0: u32s(*index), 3: u64(9), 8: data} | slots


def with_dictionary(refs, algorithm=1, dictionary=RAW_DICTIONARY):
    return array(refs, s2=dictionary, s3=None if algorithm is None else u8(algorithm))


def test_compressed_locations():
    refs = with_dictionary([compressed(n, data=packed(each)) for n, each in enumerate(LOCATIONS)])
    assert [refs.ref(n).location for n in range(500)] == LOCATIONS
    assert refs.sizes(0, 500).tolist() == [9] * 500


def test_compressed_locations_in_many_threads():
    refs = with_dictionary([compressed(n, data=packed(each)) for n, each in enumerate(LOCATIONS)])

    def read(_):
        return [refs.ref(n).location for n in range(500)]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, range(16))) == [LOCATIONS] * 16


@pytest.mark.parametrize("size", [0, 1, 1023, 1024])
@pytest.mark.parametrize("sized", [True, False])
def test_longest_location(size, sized):
    location = "x" * size
    ref = compressed(0, data=packed(location, write_content_size=sized))
    assert with_dictionary([ref]).ref(0).location == location


@pytest.mark.parametrize("size", [1025, 5000, 10_000_000])
@pytest.mark.parametrize("sized", [True, False])
def test_too_long_location(size, sized):
    ref = compressed(0, data=packed("x" * size, write_content_size=sized))
    with pytest.raises(CorruptionError):
        with_dictionary([ref]).ref(0)


FOREIGN = zstandard.train_dictionary(1024, [f"https://other/{n}/x".encode() * 3 for n in range(90)])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"plain text",
        packed(LOCATIONS[0], FOREIGN),
        packed(LOCATIONS[0])[:-1],
        packed(LOCATIONS[0]) + b"x",
        packed(LOCATIONS[0]) * 2,
        zstandard.ZstdCompressor(dict_data=DICTIONARY).compress(b"\xff\xfe"),
    ],
    ids=["empty", "plain", "foreign", "cut", "trailing", "two frames", "not utf-8"],
)
def test_damaged_location(data):
    refs = with_dictionary([compressed(0, data=data), inline(1)])
    with pytest.raises(CorruptionError):
        refs.ref(0)
    assert refs.ref(1) == InlineRef(b"abc")


@pytest.mark.parametrize(
    ("algorithm", "dictionary"),
    [(0, RAW_DICTIONARY), (2, RAW_DICTIONARY), (1, None), (None, None)],
)
def test_compressed_location_without_use_of_a_dictionary(algorithm, dictionary):
    refs = with_dictionary([compressed(0, data=packed(LOCATIONS[0]))], algorithm, dictionary)
    with pytest.raises(CorruptionError, match="dictionary"):
        refs.ref(0)


@pytest.mark.parametrize("dictionary", [b"", b"\x37\xa4\x30\xec", RAW_DICTIONARY[:50]])
def test_damaged_dictionary_spoils_its_own_locations_only(dictionary):
    refs = with_dictionary([compressed(0, data=packed(LOCATIONS[0])), virtual(1)], 1, dictionary)
    with pytest.raises(CorruptionError):
        refs.ref(0)
    assert refs.ref(1).location == "s3://bucket/key"
