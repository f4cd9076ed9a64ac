"""Everything that reads Zarr from a path reads a mount, with the official store's values."""

import contextlib
import functools

import numpy as np
import pytest
import xarray as xr
import zarr

from tests.compat.hierarchy import CODECS, NUMBERS, quiet
from tests.compat.place import local_place, s3_place
from tests.compat.repositories import build
from tests.mount.clients import (
    CANNOT,
    READERS,
    copy_with_cp,
    dataset_of,
    datatree_of,
    read_with_zarr,
    read_with_zarrita,
)
from tests.mount.mounting import mounting

pytestmark = [pytest.mark.compat, pytest.mark.fuse]

ARRAYS = [
    *(f"dt/{dtype}" for dtype in NUMBERS),
    *(f"dt/{n}" for n in ("datetime", "timedelta", "fixed_string", "fixed_bytes", "string")),
    *(f"codec/{name}" for name in CODECS),
    *(f"shape/{n}" for n in ("scalar", "unset_scalar", "empty", "unwritten", "line", "cube")),
    *(f"shape/{n}" for n in ("deep", "holes", "one_chunk")),
    *(f"shard/{n}" for n in ("plain", "part", "nested", "index_at_start")),
    *(f"grid/{n}" for n in ("rectilinear", "regular_runs")),
]
ENCODINGS = ["default", "slash", "dot", "v2", "v2_slash"]
SUFFIXES = ["", "_line", "_scalar"]
READABLE = [(c, path) for c in READERS for path in ARRAYS if path not in CANNOT[c]]
maybe_consolidated = pytest.mark.parametrize("consolidated", [True, False])


@pytest.fixture(scope="module")
def mounts():
    """Ends the mounts that the fixtures below make."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def mounted_repository(tmp_path_factory, mounts):
    """A function that makes and mounts a repository, and returns its official store and main."""

    @functools.cache
    def make(name):
        made = build(name, 2, local_place(tmp_path_factory.mktemp(name)))
        directory = tmp_path_factory.mktemp(f"{name}-mount") / "mount"
        mounted = mounts.enter_context(mounting(made.url, directory))
        store = made.open().readonly_session(branch="main").store
        return store, mounted.path / "branch" / "main"

    return make


@pytest.fixture(scope="module")
def mounted_from_s3(tmp_path_factory, mounts, s3_server):
    """The same for a repository on an S3 server that checks signatures."""
    account = {"key": s3_server.access_key, "secret": s3_server.secret_key}

    @functools.cache
    def make(name):
        directory = tmp_path_factory.mktemp(f"{name}-on-s3")
        bucket = s3_server.make_bucket()
        place = s3_place(
            directory, endpoint=s3_server.endpoint, bucket=bucket, prefix="a/b", **account
        )
        made = build(name, 2, place)
        options = ("--branch", "main", "--force-path-style")
        env = s3_server.environment()
        mounted = mounts.enter_context(mounting(made.url, directory / "m", *options, env=env))
        return made.open().readonly_session(branch="main").store, mounted.path

    return make


@quiet
def official_values(store, path):
    with zarr.config.set({"array.rectilinear_chunks": True}):
        return np.asarray(zarr.open_array(store, path=path, mode="r")[...])


def assert_same(found, expected):
    assert found.shape == expected.shape
    if expected.dtype.kind == "T":
        assert found.tolist() == expected.tolist()
        return
    if not (expected.dtype == "bool" and found.dtype == "uint8"):  # GDAL has no bool
        assert found.dtype == expected.dtype
    assert np.array_equal(found, expected, equal_nan=expected.dtype.kind in "fcmM")


def test_the_matrix_names_every_array(mounted_repository):
    store, _ = mounted_repository("arrays")
    with zarr.config.set({"array.rectilinear_chunks": True}):
        members = quiet(zarr.open_group(store, mode="r").members)(max_depth=None)
    assert {name for name, node in members if isinstance(node, zarr.Array)} == set(ARRAYS)


@pytest.mark.parametrize(("client", "path"), READABLE)
def test_reads(client, path, mounted_repository):
    store, directory = mounted_repository("arrays")
    assert_same(READERS[client](directory, path), official_values(store, path))


def test_zarrita_reads(mounted_repository, tmp_path):
    store, directory = mounted_repository("arrays")
    paths = [path for path in ARRAYS if path not in CANNOT["zarrita"]]
    found = read_with_zarrita(directory, paths, tmp_path)
    assert len(found) == len(paths) > 25
    for path, values in found.items():
        assert_same(values, official_values(store, path))


@pytest.mark.parametrize("client", READERS)
def test_reads_from_s3(client, mounted_from_s3):
    store, directory = mounted_from_s3("arrays")
    for path in ARRAYS:
        if path not in CANNOT[client]:
            assert_same(READERS[client](directory, path), official_values(store, path))


@pytest.mark.parametrize("name", ["arrays", "encodings"])
def test_zarr_reads_a_copy(name, mounted_repository, tmp_path):
    store, directory = mounted_repository(name)
    copy = copy_with_cp(directory, tmp_path / "copy")
    for path in ARRAYS if name == "arrays" else ENCODINGS:
        official = path if name == "arrays" else "default"
        assert_same(read_with_zarr(copy, path), official_values(store, official))


@pytest.mark.parametrize(
    ("client", "suffix"),
    [(c, s) for c in READERS for s in SUFFIXES if (c, s) != ("gdal", "_scalar")],  # has no scalars
)
def test_reads_every_chunk_key_encoding(client, suffix, mounted_repository):
    """The official store cannot read these but for the first two; all hold the same chunks."""
    store, directory = mounted_repository("encodings")
    expected = official_values(store, f"default{suffix}")
    assert expected.any()
    for encoding in ENCODINGS:
        assert_same(READERS[client](directory, f"{encoding}{suffix}"), expected)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_zarrita_reads_every_chunk_key_encoding(suffix, mounted_repository, tmp_path):
    store, directory = mounted_repository("encodings")
    paths = [f"{encoding}{suffix}" for encoding in ENCODINGS]
    found = read_with_zarrita(directory, paths, tmp_path)
    for path in paths:
        assert_same(found[path], official_values(store, f"default{suffix}"))


@quiet
def test_xarray_opens_a_dataset(mounted_repository):
    store, directory = mounted_repository("xarray")
    official = xr.open_zarr(store, group="xr", consolidated=False).load()
    assert official.sizes["time"] == 8
    xr.testing.assert_identical(dataset_of(directory, "xr", consolidated=False), official)
    before = dataset_of(directory.parents[1] / "tag" / "first", "xr", consolidated=False)
    xr.testing.assert_identical(before["air"], official["air"].isel(time=slice(0, 6)))


@quiet
def test_xarray_opens_a_dataset_on_s3(mounted_from_s3):
    store, directory = mounted_from_s3("xarray")
    official = xr.open_zarr(store, group="xr", consolidated=False).load()
    xr.testing.assert_identical(dataset_of(directory, "xr", consolidated=False), official)


@quiet
def test_xarray_opens_a_datatree(mounted_repository):
    store, directory = mounted_repository("xarray")
    official = xr.open_datatree(store, engine="zarr", group="tree", consolidated=False).load()
    assert "/between/coarse" in official.groups
    xr.testing.assert_identical(datatree_of(directory, "tree", consolidated=False), official)


@maybe_consolidated
@quiet
def test_xarray_opens_what_has_consolidated_metadata(consolidated, mounted_repository):
    store, directory = mounted_repository("consolidated")
    official = xr.open_zarr(store, group="xr", consolidated=False).load()
    found = dataset_of(directory, "xr", consolidated=consolidated)
    xr.testing.assert_identical(found, official)
    official = xr.open_datatree(store, engine="zarr", group="tree", consolidated=False).load()
    tree = datatree_of(directory, "tree", consolidated=consolidated)
    xr.testing.assert_identical(tree, official)
