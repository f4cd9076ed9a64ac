"""What can be committed. That official writers take all of it is checked with the real one."""

import icechunk
import pytest

from tests.compat.documents import GROUP, array_document, put
from zfuse.errors import InvalidInputError
from zfuse.format.ids import NodeId
from zfuse.format.snapshot import ArrayNode, DimensionShape, GroupNode, Snapshot
from zfuse.repo.documents import (
    ArrayDocument,
    GroupDocument,
    chunk_fault,
    parse_document,
    path_fault,
)

NODE = NodeId(b"12345678")


def rectilinear(*lengths):
    return {"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": [*lengths]}}


def array(shape=(10, 4), **members):
    return array_document(shape, (4, 4), **members)


TEXT = array(attributes={"x": "PLACE"})

FIT = {
    "plain": array(),
    "scalar": array_document((), ()),
    "empty": array_document((0,), (3,)),
    "names": array(dimension_names=["x", None]),
    "no names": array(dimension_names=None),
    "an empty name": array(dimension_names=["", "x"]),
    "a number beyond floats": TEXT.replace(b'"PLACE"', b"1e999"),
    "a long number": TEXT.replace(b'"PLACE"', b"9" * 5000),
    "half a surrogate": TEXT.replace(b"PLACE", b"\\ud800"),
    "200 levels": TEXT.replace(b'"PLACE"', b'{"a":' * 200 + b"1" + b"}" * 200),
    "many chunks": array_document((2**32 - 1,), (1,)),
    "a repeated attribute": TEXT.replace(b'"PLACE"', b'{"a":1,"a":2}'),
}


@pytest.mark.compat
@pytest.mark.parametrize("document", FIT.values(), ids=FIT)
@pytest.mark.parametrize("spec_version", [1, 2])
def test_a_fit_document_is_understood_as_the_official_library_does(
    document, spec_version, tmp_path
):
    found = parse_document(document, spec_version=spec_version)
    place = icechunk.local_filesystem_storage(str(tmp_path))
    repo = icechunk.Repository.create(place, spec_version=spec_version)
    session = repo.writable_session("main")
    put(session.store, "a/zarr.json", document)
    snapshot_id = session.commit("array")
    (node,) = Snapshot.decode((tmp_path / "snapshots" / snapshot_id).read_bytes()).nodes
    assert isinstance(found, ArrayDocument)
    assert found.node(node.id, "/a") == node


@pytest.mark.compat
def test_a_rectilinear_grid_counts_its_chunks():
    document = array_document((10, 4), (), chunk_grid=rectilinear([[3, 2], 4], [4]))
    found = parse_document(document, spec_version=2)
    assert found.shape == (DimensionShape(10, 3), DimensionShape(4, 1))
    # one number for a whole dimension, as zarr-python writes it too
    document = array_document((10, 4), (), chunk_grid=rectilinear(3, [4]))
    found = parse_document(document, spec_version=2)
    assert found.shape == (DimensionShape(10, 4), DimensionShape(4, 1))
    with pytest.raises(InvalidInputError, match="version 1"):
        parse_document(document, spec_version=1)


UNFIT = {
    "nothing": (b"", "not JSON"),
    "no object": (b"[]", "not a JSON object"),
    "half a document": (array()[:-1], "not JSON"),
    "something behind it": (GROUP + b"x", "not JSON"),
    "byte order mark": (b"\xef\xbb\xbf" + array(), "not JSON"),
    "not UTF-8": (TEXT.replace(b"PLACE", b"\xff"), "not UTF-8"),
    "too deep": (TEXT.replace(b'"PLACE"', b"[" * 100_000 + b"]" * 100_000), "too deep"),
    "NaN": (TEXT.replace(b'"PLACE"', b"NaN"), "bare NaN"),
    "infinity": (TEXT.replace(b'"PLACE"', b"-Infinity"), "bare -Infinity"),
    "version 2": (b'{"zarr_format": 2, "node_type": "group"}', "zarr_format"),
    "no type": (b'{"zarr_format": 3}', "node_type"),
    "another type": (b'{"node_type": "link"}', "node_type"),
    "two shapes": (array().replace(b'"shape"', b'"shape": [1], "shape"'), "shape more than once"),
    "two grids": (
        array(chunk_grid={"n": 1}).replace(
            b'{"n": 1}',
            b'{"name":"regular","name":"regular","configuration":{"chunk_shape":[1,1]}}',
        ),
        "more than once",
    ),
    "no shape": (array().replace(b'"shape": [10, 4]', b'"shape": 10'), "shape is not a list"),
    "negative shape": (array(shape=[-1, 4]), "length -1"),
    "fractional shape": (array(shape=[1.0, 4]), "length 1.0"),
    "boolean shape": (array(shape=[True, 4]), "length True"),
    "huge shape": (array(shape=[2**64, 4]), "length 18446744073709551616"),
    "zero chunk": (array_document((10,), (0,)), "length 0"),
    "short chunk shape": (array_document((10, 4), (4,)), "1 dimensions, its shape 2"),
    "long chunk shape": (array_document((10,), (4, 4)), "2 dimensions, its shape 1"),
    "too many chunks": (array_document((2**32,), (1,)), "4294967296 chunks along dimension 0"),
    "no grid": (array(chunk_grid="regular"), "chunk_grid"),
    "no configuration": (array(chunk_grid={"name": "regular"}), "chunk_grid"),
    "no chunk shape": (array(chunk_grid={"name": "regular", "configuration": {}}), "chunk_shape"),
    "another grid": (array(chunk_grid={"name": "hexagonal", "configuration": {}}), "hexagonal"),
    "rectilinear of another rank": (array(chunk_grid=rectilinear([4])), "does not fit"),
    "rectilinear zero": (array(chunk_grid=rectilinear([10, 0], [4])), "length 0"),
    "few names": (array(dimension_names=["x"]), "1 dimension_names, but 2 dimensions"),
    "many names": (array(dimension_names=["x", "y", "z"]), "3 dimension_names, but 2 dimensions"),
    "names of another kind": (array(dimension_names=["x", 1]), "dimension_names is 1"),
    "names with half a surrogate": (
        array(dimension_names=["x", "PLACE"]).replace(b"PLACE", b"\\ud800"),
        "dimension_names is",
    ),
    "no list of names": (array(dimension_names="xy"), "not a list"),
}


@pytest.mark.parametrize(("document", "reason"), UNFIT.values(), ids=UNFIT)
def test_an_unfit_document_is_refused_with_the_reason(document, reason):
    with pytest.raises(InvalidInputError, match=reason):
        parse_document(document, spec_version=2)


def test_a_document_becomes_a_node_and_the_reverse():
    group = parse_document(GROUP, spec_version=2)
    assert group == GroupDocument(GROUP)
    assert group.node(NODE, "/g") == GroupNode(NODE, "/g", GROUP)
    document = parse_document(array(dimension_names=["x", ""]), spec_version=2)
    assert document.dimension_names == ("x", None)
    node = document.node(NODE, "/a")
    assert node == ArrayNode(NODE, "/a", document.user_data, document.shape, ("x", None), ())


@pytest.mark.parametrize(
    ("coords", "size", "fault"),
    [
        ((2, 0), 1, None),
        ((3, 0), 1, "3 chunks along dimension 0"),
        ((0, 1), 1, "1 chunks along dimension 1"),
        ((0,), 1, "1 numbers, but the array has 2 dimensions"),
        ((0, 0, 0), 1, "3 numbers"),
        ((0, 0), 0, "no bytes"),
    ],
)
def test_a_chunk_must_lie_in_the_grid_and_have_bytes(coords, size, fault):
    shape = parse_document(array(), spec_version=2).shape
    found = chunk_fault(shape, coords, size)
    assert found == fault or fault in found


def test_paths_are_canonical_and_utf8():
    assert [path_fault(path) for path in ("/", "/a", "/a b/ü\n")] == [None, None, None]
    for path in ("", "a", "/a/", "//a", "/a//b", "/./a", "/a/.."):
        assert "canonical" in path_fault(path)
    assert "UTF-8" in path_fault("/\udcff")
