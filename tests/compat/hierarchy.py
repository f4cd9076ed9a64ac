"""A hierarchy with every kind of array that Zarr v3 readers meet, for any zarr store."""

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.abc.store import Store
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)

NUMBERS = ("bool", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")
CODECS: dict[str, dict[str, Any]] = {
    "none": {"compressors": None},
    "gzip": {"compressors": GzipCodec(level=5)},
    "zstd": {"compressors": ZstdCodec(level=3)},
    "zstd_crc32c": {"compressors": [ZstdCodec(level=1), Crc32cCodec()]},
    "blosc_lz4": {"compressors": BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")},
    "blosc_zstd": {"compressors": BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle")},
    "big_endian": {"compressors": None, "serializer": BytesCodec(endian="big")},
    "transpose": {"compressors": ZstdCodec(), "filters": TransposeCodec(order=(1, 0))},
}


def values(shape: tuple[int, ...], dtype: str = "i4") -> np.ndarray:
    """Return numbers that differ from element to element and from the fill value."""
    count = int(np.prod(shape))
    data = np.arange(1, count + 1)
    if dtype == "bool":
        return (data % 3 > 0).reshape(shape)
    if dtype in {"c8", "c16"}:
        data = data + 1j * data[::-1]
    return (data % 120 if dtype.endswith("1") else data).astype(dtype).reshape(shape)


def quiet[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """Call *function* with zarr's warnings about unsettled data types off."""

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*args, **kwargs)

    return called


@quiet
def write_arrays(store: Store, *, rectilinear: bool = True) -> None:
    """Write groups ``dt codec shape shard grid`` of arrays into the empty *store*."""
    root = zarr.create_group(store, attributes={"title": "every kind of array", "π": [1, None]})
    _write_data_types(root.create_group("dt"))
    _write_codecs(root.create_group("codec"))
    _write_shapes(root.create_group("shape"))
    _write_shards(root.create_group("shard"))
    if rectilinear:
        _write_rectilinear(root.create_group("grid"))


def _write_data_types(group: zarr.Group) -> None:
    for dtype in NUMBERS:
        array = group.create_array(dtype, shape=(7, 5), chunks=(3, 2), dtype=dtype)
        array[...] = values((7, 5), dtype)
    days = np.array(["2026-01-01", "NaT", "1969-12-31T23:59:59"], dtype="datetime64[s]")
    _store(group, "datetime", days)
    _store(group, "timedelta", np.array([1, -2, 3], dtype="timedelta64[ms]"))
    _store(group, "fixed_string", np.array(["a", "äöü", ""], dtype="U3"))
    _store(group, "fixed_bytes", np.array([b"ab", b"", b"\xff\x01"], dtype="S2"))
    text = group.create_array("string", shape=(4,), chunks=(2,), dtype=str)
    text[:3] = np.array(["", "long " * 9, "ünï"], dtype=object)


def _store(group: zarr.Group, name: str, data: np.ndarray) -> None:
    array = group.create_array(name, shape=data.shape, chunks=(2,), dtype=data.dtype)
    array[...] = data


def _write_codecs(group: zarr.Group) -> None:
    for name, options in CODECS.items():
        array = group.create_array(name, shape=(20, 30), chunks=(8, 16), dtype="i4", **options)
        array[...] = values((20, 30))


def _write_shapes(group: zarr.Group) -> None:
    group.create_array("scalar", shape=(), chunks=(), dtype="f8")[...] = 2.5
    group.create_array("unset_scalar", shape=(), chunks=(), dtype="i2", fill_value=9)
    group.create_array("empty", shape=(0, 4), chunks=(2, 2), dtype="i4")
    group.create_array("unwritten", shape=(6, 4), chunks=(2, 2), dtype="f4", fill_value=np.nan)
    _store(group, "line", np.arange(11, dtype="u2"))
    cube = group.create_array("cube", shape=(3, 4, 5), chunks=(2, 2, 2), dtype="i2")
    cube[...] = values((3, 4, 5), "i2")
    deep = group.create_array("deep", shape=(2, 2, 2, 2, 2), chunks=(1, 2, 1, 2, 1), dtype="u1")
    deep[...] = values((2, 2, 2, 2, 2), "u1")
    holes = group.create_array("holes", shape=(9, 9), chunks=(3, 3), dtype="i4", fill_value=-1)
    holes[0:3, 3:6] = values((3, 3))
    holes[6:9, 6:9] = values((3, 3))
    big = group.create_array("one_chunk", shape=(50, 60), chunks=(50, 60), dtype="f8")
    big[...] = values((50, 60), "f8")


def _write_shards(group: zarr.Group) -> None:
    plain = group.create_array("plain", shape=(16, 16), chunks=(4, 4), shards=(8, 8), dtype="i4")
    plain[...] = values((16, 16))
    part = group.create_array("part", shape=(20, 9), chunks=(2, 3), shards=(8, 6), dtype="u2")
    part[0:3, 0:4] = values((3, 4), "u2")
    part[17:20, 6:9] = values((3, 3), "u2")
    at_start = group.create_array(
        "index_at_start",
        shape=(16, 16),
        chunks=(8, 8),
        dtype="f4",
        compressors=None,
        serializer=ShardingCodec(
            chunk_shape=(4, 2), codecs=[BytesCodec(), GzipCodec()], index_location="start"
        ),
    )
    at_start[0:12, 0:16] = values((12, 16), "f4")
    nested = group.create_array(
        "nested",
        shape=(16,),
        chunks=(16,),
        dtype="u4",
        compressors=None,
        serializer=ShardingCodec(
            chunk_shape=(8,), codecs=[ShardingCodec(chunk_shape=(2,), codecs=[BytesCodec()])]
        ),
    )
    nested[...] = values((16,), "u4")


def _write_rectilinear(group: zarr.Group) -> None:
    with zarr.config.set({"array.rectilinear_chunks": True}):
        array = group.create_array(
            "rectilinear", shape=(10, 7), chunks=[[2, 2, 5, 1], [3, 4]], dtype="i4"
        )
        array[...] = values((10, 7))
        array[2:4, 3:7] = 0  # equals the fill value: this chunk is not stored
        uniform = group.create_array(
            "regular_runs", shape=(12,), chunks=[[4, 4, 4]], dtype="u1", fill_value=7
        )
        uniform[4:12] = values((8,), "u1")


def dataset(times: int = 6) -> xr.Dataset:
    """Return a small dataset with coordinates, CF times, a mask and a scalar."""
    shape = (times, 3, 4)
    air = np.arange(np.prod(shape), dtype="f4").reshape(shape) / 7
    air[1, 1, 1] = np.nan
    return xr.Dataset(
        {
            "air": (("time", "lat", "lon"), air, {"units": "K", "long_name": "air température"}),
            "packed": (("lat", "lon"), np.linspace(-1, 1, 12).reshape(3, 4)),
            "count": (("time",), np.arange(times, dtype="i8")),
            "station": (("lat",), np.array(["one", "two", "drei"])),
            "flag": ((), np.int8(3)),
        },
        coords={
            "time": np.datetime64("2026-01-31T12:00", "ns")
            + np.arange(times) * np.timedelta64(6, "h"),
            "lat": np.array([60.0, 50.0, 40.0]),
            "lon": np.array([0.0, 10.0, 20.0, 30.0]),
        },
        attrs={"source": "made for a test", "history": ["a", 1]},
    )


ENCODING: dict[str, dict[str, Any]] = {
    "air": {"chunks": (2, 3, 2)},
    "packed": {"dtype": "i2", "scale_factor": 0.001, "add_offset": 0.5, "_FillValue": -32768},
    "time": {"units": "hours since 2000-01-01", "calendar": "proleptic_gregorian"},
}


def datatree() -> xr.DataTree:
    """Return a tree of datasets, with an empty group in between."""
    fine, coarse = dataset(4), dataset(2)
    return xr.DataTree.from_dict(
        {"/": xr.Dataset(attrs={"top": 1}), "/fine": fine, "/between/coarse": coarse}
    )


@quiet
def write_xarray(target: Store | Path, *, consolidated: bool = False) -> None:
    """Write a dataset into group ``xr`` and a tree below ``tree``."""
    dataset().to_zarr(
        target, group="xr", mode="a", zarr_format=3, consolidated=consolidated, encoding=ENCODING
    )
    for node in datatree().subtree:
        node.to_dataset(inherit=False).to_zarr(
            target,
            group="tree" + node.path.rstrip("/"),
            mode="a",
            zarr_format=3,
            consolidated=consolidated,
        )
    if consolidated:
        zarr.consolidate_metadata(target, path="tree", zarr_format=3)


@quiet
def append_times(store: Store) -> None:
    """Append two steps of time to group ``xr``, as a daily job does."""
    more = dataset(8).isel(time=slice(6, 8)).drop_vars(["packed", "station", "flag"])
    more.to_zarr(store, group="xr", append_dim="time", consolidated=False)
