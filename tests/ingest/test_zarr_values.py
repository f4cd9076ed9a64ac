"""Zarr stores read the same after they were ingested: by the official library, for every kind."""

import json
import shutil

import numpy as np
import pytest
import xarray as xr
import zarr

from tests.ingest.archive import arrays_of, equal_arrays, new_archive
from tests.ingest.zarr_arrays import GRID, make_v2, make_v3

pytestmark = [
    pytest.mark.compat,
    # What zarr-python itself warns of when it reads such arrays.
    pytest.mark.filterwarnings("ignore:The data type"),
    pytest.mark.filterwarnings("ignore:Numcodecs codecs"),
    pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning"),
    pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning"),
]


@pytest.mark.parametrize("make", [make_v2, make_v3])
async def test_every_array_reads_the_same(archive, make):
    make(archive.data / "old.zarr")
    archive.settle()
    report = await archive.ingest(archive.data / "old.zarr")
    expected = arrays_of(archive.data / "old.zarr")
    assert report.ingested[0].arrays == len(expected)
    equal_arrays(arrays_of(archive.store()), expected)


async def test_xarray_masks_the_same(archive):
    """A v2 store of zarr-python's own making, whose fill values xarray takes for missing data."""
    group = zarr.open_group(archive.data / "old.zarr", mode="w", zarr_format=2)
    names = {"_ARRAY_DIMENSIONS": ["x"]}
    for name, values in {
        "text": np.array(["a", ""], dtype=object), "fixed": np.array(["a", ""]),
        "number": np.array([0, 5]), "real": np.array([0, 5.5]), "date": np.array([1, 2], "M8[ns]"),
    }.items():  # fmt: skip
        kind = str if name == "text" else values.dtype
        array = group.create_array(name, shape=(2,), dtype=kind, attributes=names)
        array[...] = values
    archive.settle()
    await archive.ingest(archive.data / "old.zarr")
    with (
        xr.open_zarr(archive.data / "old.zarr", consolidated=False) as expected,
        xr.open_zarr(archive.store(), consolidated=False) as found,
    ):
        xr.testing.assert_equal(found.load(), expected.load())
        assert found["text"].isnull().sum() == 1


async def test_no_chunk_is_copied(archive):
    make_v3(archive.data / "old.zarr")
    archive.settle()
    report = await archive.ingest(archive.data / "old.zarr")
    assert {"manifests", "snapshots", "transactions"} <= set(archive.objects("."))
    assert "chunks" not in archive.objects(".")
    files = [p for p in (archive.data / "old.zarr").rglob("*") if p.name != "zarr.json"]
    assert report.ingested[0].chunks == sum(p.is_file() for p in files)


async def test_missing_chunks_stay_missing(archive):
    group = zarr.open_group(archive.data / "old.zarr", mode="w", zarr_format=2)
    array = group.create_array("a", shape=(4, 4), chunks=(2, 2), dtype="i4", fill_value=5)
    array[:2, :2] = 1
    archive.settle()
    await archive.ingest(archive.data / "old.zarr")
    array = zarr.open_group(archive.store(), mode="r")["a"]
    assert array.nchunks_initialized == 1
    assert array[0, 0] == 1
    assert array[3, 3] == 5


@pytest.mark.parametrize("zarr_format", [2, 3])
async def test_a_hierarchy_with_attributes_and_names_of_dimensions(either_archive, zarr_format):
    archive = either_archive
    group = zarr.open_group(
        archive.data / "old.zarr", mode="w", zarr_format=zarr_format, attributes={"title": "é"}
    )
    inner = group.create_group("inner/deep", attributes={"nested": {"list": [1, 2.5, None]}})
    names = {"dimension_names": ("y", "x")} if zarr_format == 3 else {}
    labels = {"_ARRAY_DIMENSIONS": ["y", "x"]} if zarr_format == 2 else {}
    array = inner.create_array(
        "a", data=GRID, chunks=(4, 4), attributes={"units": "m", **labels}, **names
    )
    archive.settle()
    await archive.ingest((archive.data / "old.zarr", "/kept/here"))
    root = zarr.open_group(archive.store(), mode="r")
    kept = root["kept/here"]
    assert kept.attrs["title"] == "é"
    assert kept["inner/deep"].attrs.asdict() == inner.attrs.asdict()
    found = kept["inner/deep/a"]
    assert found.metadata.dimension_names == ("y", "x")
    assert found.attrs["units"] == "m"
    assert "_ARRAY_DIMENSIONS" not in found.attrs
    assert np.array_equal(found[...], array[...])


@pytest.mark.parametrize("make", [make_v2, make_v3])
async def test_one_group_of_a_store(archive, make):
    source = archive.data / "old.zarr"
    group = zarr.open_group(source, mode="w", zarr_format=2 if make is make_v2 else 3)
    group.create_array("outside", data=GRID)
    group.create_group("part/inner").create_array("a", data=GRID)
    archive.settle()
    await archive.ingest(source, group="part")
    assert list(arrays_of(archive.store())) == ["inner/a"]
    await archive.ingest((source, "/one"), group="/part/inner/a/")
    assert np.array_equal(zarr.open_array(archive.store(), path="one", mode="r")[...], GRID)


async def test_many_stores_become_many_nodes_of_one_commit(archive):
    for name in ("first", "second"):
        make = zarr.open_group(archive.data / name, mode="w", zarr_format=3)
        make.create_array("a", data=GRID + len(name))
    archive.settle()
    before = len(archive.history())
    await archive.ingest(
        (archive.data / "first", "/x/first"), (archive.data / "second", "/x/second")
    )
    assert len(archive.history()) == before + 1
    assert sorted(arrays_of(archive.store())) == ["x/first/a", "x/second/a"]


async def test_other_files_in_a_store_are_no_chunks(archive):
    source = archive.data / "old.zarr"
    array = zarr.create_array(source / "a", data=GRID[0], chunks=(4,), zarr_format=2)
    for name in (".DS_Store", "0.partial", "00", "-1", "7", "1.5", "x"):
        (source / "a" / name).write_bytes(b"junk")
    (source / "a" / "below").mkdir()
    (source / "a" / "below" / "0").write_bytes(b"junk")
    archive.settle()
    report = await archive.ingest(source / "a")
    assert report.ingested[0].chunks == 3
    assert np.array_equal(zarr.open_array(archive.store(), mode="r")[...], array[...])


async def test_consolidated_metadata_do_not_come_along(archive):
    source = archive.data / "old.zarr"
    group = zarr.open_group(source, mode="w", zarr_format=3)
    group.create_array("a", data=GRID)
    with pytest.warns(UserWarning, match="Consolidated metadata"):
        zarr.consolidate_metadata(source)
    assert "consolidated_metadata" in json.loads((source / "zarr.json").read_bytes())
    archive.settle()
    await archive.ingest(source)
    root = zarr.open_group(archive.store(), mode="r")
    assert root.metadata.consolidated_metadata is None
    assert np.array_equal(root["a"][...], GRID)


@pytest.mark.parametrize("name", ["a b", "a%20b", "a#b", "a?b", "é[x]", "a+b&c=d", "a'b\"c"])
@pytest.mark.parametrize("zarr_format", [2, 3])
async def test_names_that_urls_encode(archive, name, zarr_format):
    source = archive.data / name
    group = zarr.open_group(source, mode="w", zarr_format=zarr_format)
    group.create_array(name, data=GRID, chunks=(4, 4))
    archive.settle()
    await archive.ingest(source)
    assert np.array_equal(zarr.open_group(archive.store(), mode="r")[name][...], GRID)


async def test_the_repository_survives_its_source(archive):
    """What is ingested refers to the source: without it reading fails, and gives no zeros."""
    zarr.create_array(archive.data / "a", data=GRID, chunks=(4, 4))
    archive.settle()
    await archive.ingest(archive.data / "a")
    shutil.rmtree(archive.data / "a")
    with pytest.raises(Exception, match=r"not found|No such file"):
        zarr.open_array(archive.store(), mode="r")[...]


@pytest.mark.parametrize("spec_version", [1, 2])
async def test_rectilinear_grids_need_version_2(tmp_path, spec_version):
    archive = await new_archive(tmp_path, spec_version)
    with zarr.config.set({"array.rectilinear_chunks": True}):
        zarr.create_array(archive.data / "a", data=GRID, chunks=((2, 4), (3, 3, 4)))
    archive.settle()
    if spec_version == 1:
        with pytest.raises(Exception, match="version 1 can not hold a rectilinear"):
            await archive.ingest(archive.data / "a")
    else:
        await archive.ingest(archive.data / "a")
        with zarr.config.set({"array.rectilinear_chunks": True}):
            assert np.array_equal(zarr.open_array(archive.store(), mode="r")[...], GRID)
