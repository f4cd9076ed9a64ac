"""Programs that read Zarr from a directory: each as a function from a path to values.

All take the directory that shows a hierarchy, and the path of an array in it.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import dask.array
import numpy as np
import pytest
import rasterio
import tensorstore
import xarray as xr
import zarr
from zarr.storage import LocalStore

from tests.compat.hierarchy import quiet

Reader = Callable[[Path, str], np.ndarray]

NODE_DIRECTORY = Path(sys.prefix) / "node"
"""Where scripts/test installs what tests/node/package.json lists."""

NODE_SCRIPT = Path(__file__).with_name("read_zarrita.mjs")


@quiet
def read_with_zarr(directory: Path, array_path: str) -> np.ndarray:
    """Read with zarr-python's LocalStore."""
    with zarr.config.set({"array.rectilinear_chunks": True}):
        array = zarr.open_array(LocalStore(directory, read_only=True), path=array_path, mode="r")
        return np.asarray(array[...])


@quiet
def read_with_dask(directory: Path, array_path: str) -> np.ndarray:
    """Read with dask.array, one task a chunk, in threads."""
    array = dask.array.from_zarr(str(directory), component=array_path)
    return np.asarray(array.compute(scheduler="threads", num_workers=4))


def read_with_tensorstore(directory: Path, array_path: str) -> np.ndarray:
    """Read with tensorstore's zarr3 driver on its file driver."""
    kvstore = {"driver": "file", "path": str(directory / array_path)}
    spec = {"driver": "zarr3", "kvstore": kvstore}
    return tensorstore.open(spec, open=True, read=True).result().read().result()


@quiet
def read_with_gdal(directory: Path, array_path: str) -> np.ndarray:
    """Read with the GDAL that rasterio brings: leading dimensions are bands, bools are bytes."""
    shape = json.loads((directory / array_path / "zarr.json").read_bytes())["shape"]
    with rasterio.open(f'ZARR:"{directory}":/{array_path}') as raster:
        return raster.read().reshape(shape)


def copy_with_cp(directory: Path, target: Path) -> Path:
    """Copy the whole directory to the new *target* with ``cp -r``."""
    subprocess.run(["cp", "-r", str(directory), str(target)], check=True, timeout=120)
    return target


def read_with_zarrita(
    directory: Path, array_paths: Iterable[str], work: Path
) -> dict[str, np.ndarray]:
    """Read several arrays with zarrita in one run of Node; *work* takes its output."""
    node = shutil.which("node")
    if node is None or not (NODE_DIRECTORY / "node_modules" / "zarrita").exists():
        pytest.skip(f"zarrita is not in {NODE_DIRECTORY}: run scripts/test once, it installs it")
    paths = list(array_paths)
    # Standard input, because modules are then looked for in the current directory.
    subprocess.run(
        [node, "--input-type=module", "-", str(directory), str(work), *paths],
        input=NODE_SCRIPT.read_bytes(),
        cwd=NODE_DIRECTORY,
        check=True,
        timeout=120,
    )
    told = json.loads((work / "arrays.json").read_text())
    return {path: _from_zarrita(told[n], work / str(n)) for n, path in enumerate(paths)}


def _from_zarrita(told: dict, raw: Path) -> np.ndarray:
    if told["values"] is not None:
        return np.array(told["values"], dtype=told["dtype"]).reshape(told["shape"])
    flat = np.frombuffer(raw.read_bytes(), dtype=told["dtype"])
    strides = [step * flat.itemsize for step in told["stride"]]  # a transposed chunk stays so
    return np.lib.stride_tricks.as_strided(flat, told["shape"], strides)


def dataset_of(directory: Path, group: str, *, consolidated: bool) -> xr.Dataset:
    """Open a group as xarray does it, and load it."""
    return xr.open_zarr(directory, group=group, consolidated=consolidated).load()


def datatree_of(directory: Path, group: str, *, consolidated: bool) -> xr.DataTree:
    """Open a group and all below it as xarray does it, and load it."""
    tree = xr.open_datatree(directory, engine="zarr", group=group, consolidated=consolidated)
    return tree.load()


READERS: dict[str, Reader] = {
    "zarr": read_with_zarr,
    "dask": read_with_dask,
    "tensorstore": read_with_tensorstore,
    "gdal": read_with_gdal,
}

CANNOT = {
    "zarr": set(),
    "dask": {"grid/rectilinear", "grid/regular_runs"},  # it asks for one chunk shape
    "tensorstore": {
        *(f"dt/{name}" for name in ("datetime", "timedelta", "string")),  # not among its types
        *(f"dt/{name}" for name in ("fixed_string", "fixed_bytes")),
        *("grid/rectilinear", "grid/regular_runs"),
    },
    "gdal": {
        *(f"dt/{name}" for name in ("datetime", "timedelta", "string")),
        *(f"dt/{name}" for name in ("fixed_string", "fixed_bytes")),
        *(f"shard/{name}" for name in ("plain", "part", "nested", "index_at_start")),
        *(f"shape/{name}" for name in ("scalar", "unset_scalar", "empty")),
        *("grid/rectilinear", "grid/regular_runs", "codec/zstd_crc32c"),
    },
    "zarrita": {
        *(f"dt/{name}" for name in ("datetime", "timedelta", "fixed_string", "fixed_bytes")),
        *("dt/c8", "dt/c16", "dt/f2"),
        *("grid/rectilinear", "grid/regular_runs", "shape/empty"),
        *("shard/index_at_start", "shard/nested"),
    },
}
"""Arrays of tests.compat.hierarchy that a client can read from no directory at all."""
