"""A virtual data set in a public bucket, from the file to a commit that both libraries read."""

import contextlib
import warnings

import botocore.exceptions
import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import S3Store
from virtualizarr import open_virtual_dataset
from virtualizarr.parsers import HDFParser

import zfuse as ic
from tests.servers.seaweedfs import PUBLIC, REGION
from zfuse import config, credentials, storage, virtual

pytestmark = pytest.mark.compat


@pytest.fixture
def data(s3_server, tmp_path):
    """Put a NetCDF file into the public bucket; return its values and its prefix."""
    values = np.arange(60, dtype="f4").reshape(3, 4, 5)
    xr.Dataset({"t": (("time", "y", "x"), values)}).to_netcdf(
        tmp_path / "data.nc", engine="netcdf4", encoding={"t": {"chunksizes": (1, 4, 5)}}
    )
    with contextlib.closing(s3_server.client()) as client:
        with contextlib.suppress(botocore.exceptions.ClientError):  # another test made it
            client.create_bucket(Bucket=PUBLIC)
        body = (tmp_path / "data.nc").read_bytes()
        client.put_object(Bucket=PUBLIC, Key="virtual/data.nc", Body=body)
    return values, f"s3://{PUBLIC}/virtual/"


def opened(prefix, endpoint):
    """Return the virtual data set."""
    store = S3Store(
        PUBLIC,
        endpoint=endpoint,
        region=REGION,
        skip_signature=True,
        client_options={"allow_http": True},
    )
    registry = ObjectStoreRegistry({f"s3://{PUBLIC}": store})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return open_virtual_dataset(f"{prefix}data.nc", registry=registry, parser=HDFParser())


def test_a_virtual_data_set_is_written_committed_and_read(s3_server, data, tmp_path):
    """By the names of the official library, but for ``virtual.write``."""
    values, prefix = data
    settings = config.RepositoryConfig.default()
    place = storage.s3_store(
        region=REGION, endpoint_url=s3_server.endpoint, allow_http=True, force_path_style=True
    )
    settings.set_virtual_chunk_container(virtual.VirtualChunkContainer(prefix, place))
    access = credentials.containers_credentials(
        {prefix: credentials.s3_credentials(anonymous=True)}
    )
    where = storage.local_filesystem_storage(str(tmp_path / "repo"))
    repo = ic.Repository.create(where, settings, authorize_virtual_chunk_access=access)
    session = repo.writable_session("main")
    virtual.write(opened(prefix, s3_server.endpoint), session.store)
    assert set(session.all_virtual_chunk_locations()) == {f"{prefix}data.nc"}
    session.commit("virtual")
    theirs = icechunk.Repository.open(
        icechunk.local_filesystem_storage(str(tmp_path / "repo")),
        authorize_virtual_chunk_access=icechunk.containers_credentials(
            {prefix: icechunk.s3_credentials(anonymous=True)}
        ),
    )
    for reader in (repo, theirs):
        root = zarr.open_group(reader.readonly_session("main").store, mode="r")
        assert np.array_equal(root["t"][:], values)


def test_locations_in_a_container_by_name_are_told_as_urls():
    """As the official library tells them, so that a program can open what is there."""
    told = []
    for library in (icechunk, ic):
        config = library.RepositoryConfig.default()
        store = library.local_filesystem_store("/data")
        config.set_virtual_chunk_container(
            library.VirtualChunkContainer("file:///data/", store, "here")
        )
        repo = library.Repository.create(library.in_memory_storage(), config)
        session = repo.writable_session("main")
        zarr.create_array(session.store, name="v", shape=(4,), chunks=(2,), dtype="u1")
        session.store.set_virtual_ref("v/c/0", "vcc://here/a/b.bin", offset=0, length=2)
        session.store.set_virtual_ref("v/c/1", "file:///data/c.bin", offset=0, length=2)
        told.append(sorted(session.all_virtual_chunk_locations()))
        session.commit("Refer to files")
        told.append(sorted(repo.readonly_session("main").all_virtual_chunk_locations()))
    assert told == [["file:///data/a/b.bin", "file:///data/c.bin"]] * 4
