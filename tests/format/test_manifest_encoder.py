import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.building import unwrap
from tests.format.exercise import exercise
from tests.format.references import reference_maps
from zfuse.errors import InvalidInputError
from zfuse.format.chunk_ref import InlineRef, VirtualRef
from zfuse.format.envelope import WRITER, Envelope
from zfuse.format.flat import FlatBuffer
from zfuse.format.header import FileType
from zfuse.format.ids import ManifestId, NodeId
from zfuse.format.manifest import Manifest
from zfuse.format.manifest_encoder import encode_manifest
from zfuse.format.ragged import Ragged
from zfuse.format.ref_columns import RefColumns

ID = ManifestId(b"manifest0001")
A, B = NodeId(b"node000A"), NodeId(b"node000B")


def encode(arrays, spec_version=2, **options):
    return encode_manifest(ID, arrays, spec_version=spec_version, **options)


def inline(*indices):
    return RefColumns.of_refs(len(indices[0]), [(index, InlineRef(b"x")) for index in indices])


def decoded(manifest, node_id):
    """Return all references of an array by index, in the order of the file."""
    array_refs = {}
    for rank in manifest.ranks(node_id):
        array = manifest.array(node_id, rank)
        for row, index in enumerate(array.coords(0, len(array)).tolist()):
            array_refs[tuple(index)] = array.ref(row)
    return array_refs


ranks = st.integers(0, 3)


@given(
    st.dictionaries(
        st.binary(min_size=8, max_size=8).map(NodeId),
        st.lists(
            ranks.flatmap(lambda rank: reference_maps(rank, min_size=1)), min_size=1, max_size=3
        ),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from([1, 2]),
    st.integers(1, 9),
)
def test_round_trip(arrays, spec_version, level):
    parts = {
        node_id: [RefColumns.of_refs(len(next(iter(part))), part.items()) for part in maps]
        for node_id, maps in arrays.items()
    }
    file = encode(parts, spec_version, level=level)
    assert exercise(file.data)
    manifest = Manifest.decode(file.data)
    assert manifest.id == ID
    assert manifest.node_ids() == tuple(sorted(arrays))
    total = 0
    for node_id, maps in arrays.items():
        expected = {index: ref for part in maps for index, ref in part.items()}
        assert decoded(manifest, node_id) == expected
        rank = min(map(len, expected))
        assert file.refs[node_id].manifest_id == ID
        assert file.refs[node_id].extents == tuple(
            (min(index[axis] for index in expected), max(index[axis] for index in expected) + 1)
            for axis in range(rank)
        )
        total += len(expected)
    assert (file.info.manifest_id, file.info.size_bytes, file.info.num_chunk_refs) == (
        ID,
        len(file.data),
        total,
    )


def raw_indices(file):
    """Return the indices of the first array in the order of the file."""
    root = FlatBuffer(Envelope.decode(file.data, expect=FileType.MANIFEST).payload).root()
    array = root.tables(1)[0]
    found = []
    for table in array.tables(1):
        start, count = table.vector(0, 4)
        payload = unwrap(file.data)
        found.append(tuple(np.frombuffer(payload, "<u4", count, start).tolist()))
    return found


@given(
    st.lists(ranks.flatmap(lambda rank: reference_maps(rank, min_size=1)), min_size=1, max_size=3)
)
def test_references_are_in_lexicographic_order(maps):
    parts = [RefColumns.of_refs(len(next(iter(part))), part.items()) for part in maps]
    expected = sorted({index for part in maps for index in part})
    assert raw_indices(encode({A: parts})) == expected


def test_header():
    header = Envelope.decode(encode({A: [inline((0,))]}, 1).data, expect=FileType.MANIFEST).header
    assert (header.spec_version, header.writer) == (1, WRITER)
    assert WRITER.split("-")[0] == "zfuse"


@pytest.mark.parametrize(
    "arrays", [{}, {A: []}, {A: [RefColumns.empty(2)]}, {A: [inline((0,))], B: []}]
)
def test_nothing_to_write(arrays):
    with pytest.raises(InvalidInputError, match="must have references"):
        encode(arrays)


def test_a_scalar_has_no_extents():
    assert encode({A: [inline(())]}).refs[A].extents == ()


def test_chunks_share_the_location_of_their_file():
    location = "s3://bucket/" + "x" * 1000

    def size(count):
        refs = [((n,), VirtualRef(location, n, 1, etag="e" * 500)) for n in range(count)]
        return len(unwrap(encode({A: [RefColumns.of_refs(1, refs)]}).data))

    assert size(100) - size(50) < 50 * 60


def test_as_small_as_the_official_files():
    count = 1000
    coords = np.arange(2 * count, dtype=np.uint32).reshape(count, 2)
    refs = RefColumns.native(coords, np.zeros((count, 12), np.uint8), np.ones(count, np.uint64))
    # icechunk 2.3.0 takes 44 bytes for such a reference
    assert len(unwrap(encode({A: [refs]}).data)) <= 44 * count + 200


def test_more_than_a_flatbuffer_can_hold():
    chunks = Ragged.of([bytes(2**20)] * 2**11)  # one megabyte here, two gigabytes there
    coords = np.arange(len(chunks), dtype=np.uint32)[:, None]
    with pytest.raises(InvalidInputError, match="split"):
        encode({A: [RefColumns.inline(coords, chunks)]})
