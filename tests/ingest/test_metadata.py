"""What becomes of metadata that JSON or Zarr v3 has no place for."""

import base64
import json
import struct

import numpy as np
import pytest

from zfuse.errors import InvalidInputError
from zfuse.ingest.metadata import (
    encoded_fill_value,
    group_document,
    json_attributes,
    v2_document,
    v3_document,
    without_strange_mask,
)

ZARRAY = {
    "zarr_format": 2, "shape": [4, 6], "chunks": [2, 3], "dtype": "<f8", "order": "C",
    "compressor": None, "filters": None, "fill_value": 0,
}  # fmt: skip


def converted(attributes=None, **changes) -> dict:
    return json.loads(v2_document("x", {**ZARRAY, **changes}, attributes or {}))


def test_numbers_that_json_does_not_know():
    values = {"a": float("nan"), "b": [float("inf"), {"c": -np.inf}], "d": np.float32(0.5)}
    values |= {"missing_value": np.nan, "_FillValue": float("nan"), "e": np.arange(2), 7: b"x"}
    assert json_attributes(values) == {
        "a": "NaN",
        "b": ["Infinity", {"c": "-Infinity"}],
        "d": 0.5,
        "e": [0, 1],
        "7": "x",
    }
    json.loads(group_document(values), parse_constant=pytest.fail)


def test_names_of_dimensions():
    named = {"_ARRAY_DIMENSIONS": ["y", "x"], "units": "m"}
    document = converted(named)
    assert document["dimension_names"] == ["y", "x"]
    assert document["attributes"].keys() == {"units", "_FillValue"}
    for odd in (["y"], "yx", [1, 2], None):
        document = converted({"_ARRAY_DIMENSIONS": odd})
        assert document.get("dimension_names") is None
        assert document["attributes"]["_ARRAY_DIMENSIONS"] == odd
    document = converted(_NCZARR_ARRAY={"dimrefs": ["/g/y", "/x"], "storage": "chunked"})
    assert document["dimension_names"] == ["y", "x"]


def test_members_that_v2_does_not_have():
    """As writers of netCDF and of old versions leave them."""
    assert converted(note="x", _Netcdf4Coordinates=[0])["shape"] == [4, 6]


def test_fill_values_that_xarray_reads():
    assert (
        encoded_fill_value(np.float32(1.5), np.dtype("f4"))
        == base64.b64encode(struct.pack("<d", 1.5)).decode()
    )
    assert encoded_fill_value(3.0, np.dtype("i2")) == 3
    assert encoded_fill_value(np.True_, np.dtype("?")) is True
    assert len(encoded_fill_value(1 + 2j, np.dtype("c8"))) == 2
    assert encoded_fill_value(b"x", np.dtype("S1")) is None
    assert encoded_fill_value(float("inf"), np.dtype("i2")) is None
    assert "_FillValue" not in converted(fill_value=None)["attributes"]
    assert converted(fill_value=None)["fill_value"] == 0.0
    assert converted(fill_value="NaN")["fill_value"] == "NaN"


@pytest.mark.parametrize(
    ("changes", "attributes", "mask"),
    [
        ({"dtype": "<U2", "fill_value": "zz"}, {}, {"missing_value": "zz"}),
        ({"dtype": "<U2", "fill_value": None}, {"_FillValue": "zz"}, {}),
        ({"dtype": "|S2", "fill_value": "enp6"}, {"_FillValue": "zz"}, {}),
        ({"dtype": "<M8[s]", "fill_value": "NaT"}, {"_FillValue": 7}, {}),
        ({"dtype": "<i2", "fill_value": None}, {"_FillValue": float("nan")}, {}),
        ({"dtype": "<i2", "fill_value": None}, {"_FillValue": [7]}, {"_FillValue": 7}),
        ({"dtype": "<i2", "fill_value": 7}, {"_FillValue": "x"}, {"_FillValue": 7}),
        (
            {"dtype": "|O", "fill_value": "", "filters": [{"id": "vlen-utf8"}]},
            {"missing_value": "x"},
            {"missing_value": "x"},
        ),
    ],
)
def test_masks_that_xarray_could_not_read(changes, attributes, mask):
    """One of these, and it opens nothing of the whole group."""
    found = converted(attributes, **changes)
    assert found["attributes"] == mask
    document = {"data_type": "string", "attributes": {"_FillValue": "x", "units": "m"}}
    kept = without_strange_mask(document)["attributes"]
    assert kept == {"units": "m", "missing_value": "x"}
    assert (
        without_strange_mask({**document, "data_type": "int8"})["attributes"]["_FillValue"] == "x"
    )


def test_chunks_of_length_0():
    """As kerchunk writes them for dimensions of length 0."""
    grid = converted(shape=[0, 6], chunks=[0, 3])["chunk_grid"]
    assert grid["configuration"]["chunk_shape"] == [1, 3]


def test_v3_metadata_stay_but_for_the_names_of_chunks():
    document = {
        "zarr_format": 3, "node_type": "array", "shape": [4], "data_type": "strange",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}},
        "chunk_key_encoding": {"name": "v2", "configuration": {"separator": "."}},
        "codecs": [{"name": "example.org/odd"}], "fill_value": "0x7fc0", "extra": {"a": 1},
        "attributes": {"x": 1}, "consolidated_metadata": None,
    }  # fmt: skip
    found = json.loads(v3_document("x", document))
    assert found.pop("chunk_key_encoding") == {
        "name": "default",
        "configuration": {"separator": "/"},
    }
    del document["chunk_key_encoding"], document["consolidated_metadata"]
    assert found == document
    with pytest.raises(InvalidInputError, match="array x has storage transformers"):
        v3_document("x", {**document, "storage_transformers": [{"name": "y"}]})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dtype": [["a", "<f8"]]}, "structured"),
        ({"dtype": "<q9"}, "array x"),
        ({"shape": "x"}, "array x"),
        ({"filters": [{"id": "strange"}]}, "array x.*strange"),
        ({"compressor": {"id": "strange"}}, "array x.*strange"),
        ({"filters": [{"id": "shuffle"}, {"id": "delta", "dtype": "<f8"}]}, "'delta' behind one"),
    ],
)
def test_what_v3_can_not_express(changes, words):
    with pytest.raises(InvalidInputError, match=words):
        converted(**changes)
