"""Files of other formats read the same after they were ingested."""

import json
import shutil
import warnings
from pathlib import Path

import h5py
import kerchunk.df
import kerchunk.hdf
import netCDF4
import numpy as np
import pytest
import rasterio
import virtualizarr
import xarray as xr
import zarr

from tests.ingest.archive import arrays_of, same

pytestmark = [
    pytest.mark.compat,
    pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning"),
    pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning"),
    pytest.mark.filterwarnings("ignore:Numcodecs codecs"),
]
GRID = np.arange(60, dtype="f8").reshape(6, 10)
GRIB = Path(virtualizarr.__file__).parent / "tests" / "data" / "ecmwf_soil_8vars_tiny.grib1"


def make_hdf5(path) -> dict[str, np.ndarray]:
    """Write an HDF5 file with what HDF5 has; return its arrays."""
    with h5py.File(path, "w") as file:
        file.attrs["title"] = "é"
        file["plain"] = GRID
        file["big"] = GRID.astype(">i4")
        file.create_dataset("chunked", data=GRID, chunks=(4, 4))
        file.create_dataset("gzip", data=GRID, chunks=(4, 4), compression="gzip", shuffle=True)
        file.create_dataset("sum", data=GRID, chunks=(4, 4), fletcher32=True)
        file.create_dataset("fixed", data=np.array([b"ab", b"c"]))
        file.create_dataset("text", data=["a", "ééé", ""], dtype=h5py.string_dtype())
        file["scalar"] = 5
        file.create_dataset("partly", shape=(8, 8), chunks=(4, 4), dtype="i4", fillvalue=7)
        file["partly"][:4, :4] = 1
        file.create_group("empty")
        file["inner/deep/a"] = GRID
        return _datasets(file)


def _datasets(file) -> dict[str, np.ndarray]:
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            is_text = h5py.check_string_dtype(item.dtype) and item.dtype.kind == "O"
            found[name] = np.asarray(item.asstr()[...], "T") if is_text else item[...]

    file.visititems(visit)
    return found


async def test_hdf5(either_archive):
    archive = either_archive
    expected = make_hdf5(archive.data / "file.h5")
    archive.settle()
    report = await archive.ingest(archive.data / "file.h5")
    assert report.ingested[0].format == "hdf5"
    found = arrays_of(archive.store())
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert same(found[name], values), name
    root = zarr.open_group(archive.store(), mode="r")
    assert root.attrs["title"] == "é"
    assert "empty" in root


async def test_one_group_of_an_hdf5_file(archive):
    make_hdf5(archive.data / "file.h5")
    archive.settle()
    await archive.ingest((archive.data / "file.h5", "/x"), group="inner")
    assert list(arrays_of(archive.store())) == ["x/deep/a"]


def make_netcdf(path, kind) -> None:
    """Write a netCDF file, with groups where *kind* has them."""
    with netCDF4.Dataset(path, "w", format=kind) as file:
        file.createDimension("time", None)
        file.createDimension("x", 10)
        time = file.createVariable("time", "f8", ("time",))
        time.units = "days since 2000-01-01"
        values = file.createVariable("t", "i2", ("time", "x"), fill_value=-1)
        values.setncatts({"scale_factor": 0.5, "add_offset": 10.0, "units": "K"})
        values[:] = np.ma.masked_equal(GRID, 7)
        time[:] = np.arange(6)
        letters = file.createVariable("letters", "S1", ("x",))
        letters[:] = np.array(list("abcdefghij"), "S1")
        if kind == "NETCDF4":
            inner = file.createGroup("inner")
            inner.createDimension("y", 3)
            inner.createVariable("u", "f4", ("y", "x"), zlib=True)[:] = GRID[:3]


KINDS = ["NETCDF4", "NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"]


@pytest.mark.parametrize("kind", KINDS)
async def test_netcdf_reads_the_same_with_xarray(archive, kind):
    make_netcdf(archive.data / "file.nc", kind)
    archive.settle()
    report = await archive.ingest(archive.data / "file.nc")
    assert report.ingested[0].format == ("hdf5" if kind == "NETCDF4" else "netcdf3")
    with (
        xr.open_datatree(archive.data / "file.nc", engine="netcdf4") as expected,
        xr.open_datatree(archive.store(), engine="zarr", consolidated=False) as found,
    ):
        expected["letters"] = expected["letters"].astype("S1")  # xarray's own view of S1
        xr.testing.assert_identical(found.load(), expected.load())


@pytest.mark.parametrize("form", ["json", "parquet"])
async def test_kerchunk_references(archive, form):
    """Kerchunk references of an HDF5 file, with groups, inlined bytes and relative paths."""
    make_netcdf(archive.data / "file.nc", "NETCDF4")
    archive.settle()
    place = archive.data / f"references.{form}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = kerchunk.hdf.SingleHdf5ToZarr(
            str(archive.data / "file.nc"), inline_threshold=100
        ).translate()
        if form == "parquet":
            place.mkdir()
            kerchunk.df.refs_to_dataframe(made, str(place), record_size=4)
        else:
            place.write_text(json.dumps(made))
    archive.settle()
    report = await archive.ingest(place)
    assert report.ingested[0].format == "kerchunk"
    with (
        xr.open_datatree(archive.data / "file.nc", engine="netcdf4") as expected,
        xr.open_datatree(archive.store(), engine="zarr", consolidated=False) as found,
    ):
        for name in ("time", "t", "inner/u"):
            assert np.array_equal(found[name].values, expected[name].values, equal_nan=True), name


def references_to(path, order="C") -> dict[str, object]:
    """Return kerchunk references to an array in order C or F, in two files."""
    zarray = {
        "zarr_format": 2, "shape": [4, 4], "chunks": [2, 4], "dtype": "<f8", "order": order,
        "compressor": None, "filters": None, "fill_value": 0.0,
    }  # fmt: skip
    return {
        ".zgroup": json.dumps({"zarr_format": 2}),
        "a/.zarray": json.dumps(zarray),
        "a/0.0": [f"{path}/first", 8, 64],
        "a/1.0": [f"{path}/second"],
    }


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("base", ["absolute", "relative", "template", "url"])
async def test_kerchunk_references_by_hand(archive, order, base):
    """No names of dimensions, order F, whole files, relative paths, templates."""
    values = np.arange(16.0).reshape(4, 4)
    first, second = (values[n : n + 2].tobytes(order=order) for n in (0, 2))
    (archive.data / "files").mkdir()
    (archive.data / "files" / "first").write_bytes(b"8 bytes." + first)
    (archive.data / "files" / "second").write_bytes(second)
    path = {
        "absolute": f"{archive.data}/files",
        "relative": "files",
        "template": "{{where}}",
        "url": f"file://{archive.data}/files",
    }[base]
    made = {"version": 1, "refs": references_to(path, order)}
    made["templates"] = {"where": f"{archive.data}/files"}
    (archive.data / "references.json").write_text(json.dumps(made))
    archive.settle()
    await archive.ingest(archive.data / "references.json")
    assert same(arrays_of(archive.store())["a"], values)
    assert list(archive.containers()) == [f"file://{archive.data}/files/"]


async def test_grib(archive):
    shutil.copy(GRIB, archive.data / "soil.grib1")
    archive.settle()
    report = await archive.ingest(archive.data / "soil.grib1")
    assert report.ingested[0].format == "grib"
    found = arrays_of(archive.store())
    assert np.array_equal(found["depth_bls/instant/stl1"].ravel(), np.arange(16))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
async def test_tiff(archive, count):
    image = np.arange(64 * 48, dtype="u2").reshape(64, 48)
    profile = {"driver": "GTiff", "height": 64, "width": 48, "count": 1, "dtype": "uint16"}
    tiles = {"tiled": True, "blockxsize": 16, "blockysize": 32, "compress": "deflate"}
    with rasterio.open(archive.data / "image.tif", "w", **profile, **tiles) as file:
        file.write(image, 1)
        if count == 2:
            file.build_overviews([2])
    archive.settle()
    report = await archive.ingest(archive.data / "image.tif")
    assert report.ingested[0].format == "tiff"
    found = arrays_of(archive.store())
    assert len(found) == count
    assert np.array_equal(found["0" if count == 1 else "0/0"].squeeze(), image)


@pytest.mark.parametrize("zarr_format", [2, 3])
async def test_xarray_reads_a_zarr_store_as_before(archive, zarr_format):
    """Masked values, times and names of dimensions of a tree of data sets."""
    times = np.array(["2000-01-01", "2000-01-02"], "M8[ns]")
    values = xr.DataArray(
        [[1.0, np.nan], [3.0, 4.0]],
        dims=("time", "x"),
        coords={"time": times},
        attrs={"units": "K"},
    )
    packed = {"dtype": "i2", "scale_factor": 0.5, "_FillValue": -1}
    tree = xr.DataTree.from_dict(
        {
            "/": xr.Dataset({"t": values}),
            "/inner/deep": xr.Dataset(
                {"u": values * 2, "n": ("x", [1, 2]), "s": ("x", ["a", "b"])}
            ),
        }
    )
    encoding = {"/": {"t": packed}, "/inner/deep": {"u": {"_FillValue": 9.5}}}
    tree.to_zarr(
        archive.data / "old.zarr", encoding=encoding, zarr_format=zarr_format, consolidated=False
    )
    archive.settle()
    await archive.ingest(archive.data / "old.zarr")
    with (
        xr.open_datatree(archive.data / "old.zarr", engine="zarr", consolidated=False) as expected,
        xr.open_datatree(archive.store(), engine="zarr", consolidated=False) as found,
    ):
        xr.testing.assert_identical(found.load(), expected.load())
        assert np.isnan(found["t"].values[0, 1])


async def test_xarray_finds_a_fill_value_that_v2_has_as_an_attribute(archive):
    attributes = {"_ARRAY_DIMENSIONS": ["x"], "_FillValue": 2.0, "missing_value": np.nan}
    group = zarr.open_group(archive.data / "old.zarr", mode="w", zarr_format=2)
    group.create_array("a", data=np.arange(4.0), fill_value=None, attributes=attributes)
    archive.settle()
    await archive.ingest(archive.data / "old.zarr")
    with xr.open_dataset(archive.store(), engine="zarr", consolidated=False) as found:
        assert np.array_equal(found["a"], [0, 1, np.nan, 3], equal_nan=True)
