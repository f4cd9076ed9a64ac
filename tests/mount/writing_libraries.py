"""Other libraries than zarr-python that write Zarr to a directory, as in writing_clients.

They write temporary files that they rename while they hold locks on them, or in place, or at
offsets of files that they keep open.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import acquire_zarr
import dask.array
import numpy as np
import pytest
import rasterio
import tensorstore
import xarray as xr
import zarr
from zarr.storage import LocalStore

from tests.compat.hierarchy import (
    ENCODING,
    append_times,
    dataset,
    datatree,
    values,
    write_xarray,
)
from tests.mount.clients import NODE_DIRECTORY
from tests.mount.writing_clients import Writer, same

NODE_SCRIPT = Path(__file__).with_name("write_zarrita.mjs")


def xarray_appends(root: Path) -> Iterator[None]:
    """A dataset, a tree, and two more steps of time."""
    write_xarray(root)
    yield
    append_times(LocalStore(root))
    assert xr.open_zarr(root, group="xr", consolidated=False).sizes["time"] == 8
    yield


def xarray_changes(root: Path) -> Iterator[None]:
    """A dataset at the root with consolidated metadata, a new variable, regions, and mode w."""
    dataset().to_zarr(root, mode="w", zarr_format=3, encoding=ENCODING)
    yield
    xr.Dataset({"wind": (("time", "lat"), values((6, 3), "f4"))}).to_zarr(root, mode="a")
    yield
    part = xr.Dataset({"wind": (("time", "lat"), -values((2, 3), "f4"))})
    part.to_zarr(root, region={"time": slice(2, 4), "lat": slice(0, 3)})
    later = dataset(8).isel(time=slice(6, 8)).drop_vars(["packed", "station", "flag"])
    later["wind"] = (("time", "lat"), values((2, 3), "f4"))
    later.to_zarr(root, append_dim="time")
    yield
    air = xr.open_zarr(root)[["air"]].load().isel(time=slice(2, 4), lon=slice(0, 2)) * 0 + 1
    air.drop_vars("lat").to_zarr(root, region="auto")
    found = xr.open_zarr(root)
    assert (found.air[2:4, :, 0:2] == 1).all()
    assert (found.wind[2:4] == -values((2, 3), "f4")).all()
    yield
    dataset(2)[["count"]].to_zarr(root, mode="w", zarr_format=3)
    assert list(xr.open_zarr(root)) == ["count"]
    yield


def xarray_datatree(root: Path) -> Iterator[None]:
    """A tree of datasets in one call, then again over it, of chunks that dask computes."""
    datatree().to_zarr(root, zarr_format=3, consolidated=False)
    yield
    tree = datatree().map_over_datasets(lambda node: node.chunk())
    tree["more"] = xr.DataTree(dataset(3))
    tree.to_zarr(root, mode="w", zarr_format=3)
    xr.testing.assert_equal(xr.open_datatree(root, engine="zarr")["more"].load(), tree["more"])
    yield


def dask_writes(root: Path) -> Iterator[None]:
    """dask.array.to_zarr: new, over an old one, and into a region, by several threads."""
    data = dask.array.from_array(values((30, 20)), chunks=(7, 5))
    zarr.create_group(root)
    data.to_zarr(str(root), component="a/x")
    yield
    (data * 2).rechunk((10, 10)).to_zarr(str(root), component="a/x", overwrite=True)
    yield
    array = zarr.open_array(root, path="a/x")
    data[:10, :10].to_zarr(array, region=(slice(20, 30), slice(10, 20)))
    same(array[20:, 10:], values((30, 20))[:10, :10])
    yield


def tensorstore_writes(root: Path) -> Iterator[None]:
    """tensorstore: create, write, open again, resize, replace, and shards in a transaction."""
    array = _tensorstore(root / "a", (20, 15), (7, 4), create=True)
    array.write(values((20, 15))).result()
    yield
    again = _tensorstore(root / "a", (20, 15), (7, 4), open=True, create=True)
    again[3:9, 2:11] = -values((6, 9))
    again[0:7, 12:15] = 0  # a chunk of fill values: deleted
    assert not (root / "a/c/0/3").exists()
    again = again.resize(exclusive_max=[9, 18]).result()
    yield
    new = _tensorstore(root / "a", (6,), (4,), create=True, delete_existing=True)
    new.write(values((6,))).result()
    sharded = _tensorstore(root / "s", (16, 16), (8, 8), inner=(2, 4), create=True)
    with tensorstore.Transaction() as transaction:
        sharded.with_transaction(transaction)[1:13, 3:9] = values((12, 6))
        sharded.with_transaction(transaction)[0, 0] = 1
    yield
    sharded[2, 2] = 22
    same(_tensorstore(root / "a", (6,), (4,), open=True).read().result(), values((6,)))
    yield


def _tensorstore(
    path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], *, inner: Any = None, **how: bool
) -> tensorstore.TensorStore:
    codecs: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": "little"}}]
    if inner is not None:
        shard = {"chunk_shape": inner, "codecs": codecs}
        codecs = [{"name": "sharding_indexed", "configuration": shard}]
    metadata = {
        "shape": shape,
        "data_type": "int32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        "codecs": codecs,
    }
    kvstore = {"driver": "file", "path": f"{path}/"}
    spec = {"driver": "zarr3", "kvstore": kvstore, "metadata": metadata}
    return tensorstore.open(spec, **how).result()


def zarrita_writes(root: Path) -> Iterator[None]:
    """zarrita in Node: groups, arrays, chunks, and parts of chunks, all written in place."""
    _zarrita(root, "create")
    same(zarr.open_array(root, path="a/x", mode="r"), np.arange(63, dtype="i4").reshape(9, 7))
    yield
    _zarrita(root, "change")
    found = zarr.open_array(root, path="a/x", mode="r")
    assert found[2, 1] == -5
    assert found.attrs["changed"] is True
    yield


def _zarrita(root: Path, what: str) -> None:
    node = shutil.which("node")
    if node is None or not (NODE_DIRECTORY / "node_modules" / "zarrita").exists():
        pytest.skip(f"zarrita is not in {NODE_DIRECTORY}: run scripts/test once, it installs it")
    subprocess.run(
        [node, "--input-type=module", "-", str(root), what],
        input=NODE_SCRIPT.read_bytes(),
        cwd=NODE_DIRECTORY,
        check=True,
        timeout=60,
    )


def acquire_streams(root: Path) -> Iterator[None]:
    """acquire-zarr: shards of open files filled at offsets, and a zarr.json written early."""
    data = values((10, 8, 12), "u2")
    kinds = acquire_zarr.DimensionType
    dimensions = [
        acquire_zarr.Dimension(
            name=name, kind=kind, array_size_px=size, chunk_size_px=chunk, shard_size_chunks=shard
        )
        for name, kind, size, chunk, shard in (
            ("t", kinds.TIME, 0, 2, 2),
            ("y", kinds.SPACE, 8, 4, 2),
            ("x", kinds.SPACE, 12, 6, 1),
        )
    ]
    array = acquire_zarr.ArraySettings(
        output_key="a", dimensions=dimensions, data_type=acquire_zarr.DataType.UINT16
    )
    for part in (data, data[:5]):  # the second stream takes the place of the first
        settings = acquire_zarr.StreamSettings(
            store_path=str(root / "stream"), overwrite=True, arrays=[array], max_threads=1
        )
        stream = acquire_zarr.ZarrStream(settings)
        for image in part:
            stream.append(image, "a")
        stream.close()
        same(zarr.open_array(root / "stream", path="a", mode="r"), part)
        yield


def gdal_writes(root: Path) -> Iterator[None]:
    """GDAL, through rasterio, into arrays of zarr-python's: its own have no valid fill value."""
    array = zarr.create_array(root, name="raster", shape=(3, 10, 20), chunks=(1, 4, 8), dtype="i2")
    array[...] = values((3, 10, 20), "i2")
    yield
    with rasterio.open(f'ZARR:"{root}":/raster', "r+") as raster:
        raster.write(-values((4, 8), "i2"), 2, window=((4, 8), (8, 16)))
        raster.write(-values((4, 4), "i2"), 3, window=((6, 10), (14, 18)))
    same(array[1, 4:8, 8:16], -values((4, 8), "i2"))
    same(array[2, 6:10, 14:18], -values((4, 4), "i2"))
    yield


OTHERS: dict[str, Writer] = {
    function.__name__: function
    for function in (
        *(xarray_appends, xarray_changes, xarray_datatree, dask_writes),
        *(tensorstore_writes, zarrita_writes, acquire_streams, gdal_writes),
    )
}
