"""Ingest writes the references that VirtualiZarr's own writer for Icechunk writes."""

import json
import warnings

import icechunk
import kerchunk.hdf
import numpy as np
import pytest
import xarray as xr
import zarr
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import LocalStore
from virtualizarr import open_virtual_datatree
from virtualizarr.parsers import HDFParser, KerchunkJSONParser, NetCDF3Parser, ZarrParser

from tests.ingest.archive import new_archive
from zfuse.daemon.assemble import assembled
from zfuse.daemon.settings import mount_settings
from zfuse.format.ref_columns import RefKind, plain
from zfuse.format.snapshot import ArrayNode
from zfuse.repo.array_columns import array_columns

pytestmark = [
    pytest.mark.compat,
    pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning"),
    pytest.mark.filterwarnings("ignore:Numcodecs codecs"),
]
GRID = np.arange(6000.0).reshape(60, 100)


def dataset() -> xr.Dataset:
    """Return data of many chunks, with groups of numbers on both sides of 1000 chunks."""
    return xr.Dataset({"t": (("y", "x"), GRID), "y": ("y", np.arange(60))})


CASES = {
    "v2": ("old.zarr", ZarrParser),
    "v3": ("old.zarr", ZarrParser),
    "sharded": ("old.zarr", ZarrParser),
    "netcdf4": ("file.nc", HDFParser),
    "netcdf3": ("file.nc", NetCDF3Parser),
    "kerchunk": ("references.json", KerchunkJSONParser),
}


def make(place, case) -> None:
    chunks = {"t": {"chunks": (3, 2)}}
    match case:
        case "netcdf4":
            shape = {"t": {"chunksizes": (3, 2), "zlib": True}}
            dataset().to_netcdf(place, engine="netcdf4", encoding=shape)
        case "kerchunk":
            file = place.with_name("file.nc")
            make(file, "netcdf4")
            made = kerchunk.hdf.SingleHdf5ToZarr(str(file), inline_threshold=0).translate()
            place.write_text(json.dumps(made))
        case "netcdf3":
            dataset().to_netcdf(place, engine="scipy", format="NETCDF3_64BIT")
        case "sharded":
            shards = {"t": {"chunks": (3, 2), "shards": (6, 10)}}
            dataset().to_zarr(place, zarr_format=3, encoding=shards, consolidated=False)
        case _:
            dataset().to_zarr(place, zarr_format=int(case[1]), encoding=chunks, consolidated=False)


async def references(url) -> dict[str, dict[tuple, tuple]]:
    """Return for each array the locations, offsets and lengths by chunk."""
    found = {}
    async with assembled(mount_settings(url, {})) as parts:
        repository = parts.repository
        view = await repository.assets.fetch_hierarchy(repository.lookup_branch("main"))
        for node in view.snapshot.nodes:
            if not isinstance(node, ArrayNode):
                continue
            rows = {}
            for part in await array_columns(repository.assets, node, ()):
                columns = plain(part)
                assert set(columns.kinds.tolist()) <= {RefKind.VIRTUAL, RefKind.INLINE}
                for row, coords in enumerate(columns.coords.tolist()):
                    place = (columns.offsets[row], columns.lengths[row])
                    rows[tuple(coords)] = (columns.texts[row], *map(int, place))
            found[node.path] = rows
    return found


def write_with_virtualizarr(archive, place, parser) -> None:
    storage = icechunk.local_filesystem_storage(archive.url)
    config = icechunk.RepositoryConfig.default()
    config.set_virtual_chunk_container(
        icechunk.VirtualChunkContainer(
            f"file://{place.parent}/", icechunk.local_filesystem_store(str(place.parent))
        )
    )
    repository = icechunk.Repository.open(storage, config=config)
    session = repository.writable_session("main")
    registry = ObjectStoreRegistry({"file://": LocalStore()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = open_virtual_datatree(
            url=f"file://{place}", registry=registry, parser=parser(), loadable_variables=[]
        )
        tree.vz.to_icechunk(session.store)
    session.commit("virtualizarr")


@pytest.mark.parametrize("case", CASES)
async def test_the_same_references(tmp_path, case):
    (tmp_path / "theirs").mkdir()
    ours, theirs = await new_archive(tmp_path), await new_archive(tmp_path / "theirs")
    name, parser = CASES[case]
    make(ours.data / name, case)
    ours.settle()
    await ours.ingest(ours.data / name)
    write_with_virtualizarr(theirs, ours.data / name, parser)
    found, expected = await references(ours.url), await references(theirs.url)
    assert found == expected
    assert len(found["/t"]) == {"sharded": 100, "netcdf3": 1}.get(case, 1000)
    arrays = [
        zarr.open_group(archive.store(), mode="r")["t"].metadata.to_dict()
        for archive in (ours, theirs)
    ]
    if case == "kerchunk":  # VirtualiZarr wraps codecs that Zarr v3 has itself
        return
    for document in arrays:  # what VirtualiZarr adds of its own, or leaves out
        document["attributes"] = None
    assert arrays[0] == arrays[1]
