"""Data in buckets of a real server, for everybody or for those who have a key."""

import contextlib
from dataclasses import dataclass

import botocore.exceptions
import icechunk
import netCDF4
import numpy as np
import pytest
import zarr

from tests.ingest.archive import Archive, arrays_of, equal_arrays
from tests.ingest.zarr_arrays import GRID
from tests.servers.seaweedfs import PUBLIC, REGION
from zfuse.errors import AccessDeniedError, BusyError, NotFoundError
from zfuse.storage.options import StorageOptions

pytestmark = pytest.mark.compat


@dataclass
class Bucket:
    """A bucket, and how its data are reached."""

    server: object
    name: str
    archive: Archive
    is_public: bool

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    @property
    def options(self) -> StorageOptions:
        told = StorageOptions(
            endpoint_url=self.server.endpoint, region=REGION, anonymous=self.is_public
        )
        if self.is_public:
            return told
        return StorageOptions(
            endpoint_url=self.server.endpoint,
            region=REGION,
            access_key_id=self.server.access_key,
            secret_access_key=self.server.secret_key,
        )

    def put(self, directory) -> None:
        """Copy the files below *directory* into the bucket."""
        with contextlib.closing(self.server.client()) as client:
            for path in sorted(directory.rglob("*")):
                if path.is_file():
                    key = str(path.relative_to(directory))
                    client.put_object(Bucket=self.name, Key=key, Body=path.read_bytes())

    def store(self) -> icechunk.IcechunkStore:
        """Return the store of the official library, which may read the bucket."""
        credentials = icechunk.s3_anonymous_credentials()
        if not self.is_public:
            credentials = icechunk.s3_static_credentials(
                access_key_id=self.server.access_key, secret_access_key=self.server.secret_key
            )
        prefixes = self.archive.containers()
        authorized = icechunk.containers_credentials(dict.fromkeys(prefixes, credentials))
        return self.archive.store(authorized)


@pytest.fixture(params=["public", "private"])
async def bucket(request, s3_server, archive):
    is_public = request.param == "public"
    name = PUBLIC if is_public else s3_server.make_bucket()
    with contextlib.closing(s3_server.client()) as client:
        if is_public:
            with contextlib.suppress(botocore.exceptions.ClientError):
                client.create_bucket(Bucket=name)
        for each in client.list_objects_v2(Bucket=name).get("Contents", []):
            client.delete_object(Bucket=name, Key=each["Key"])
    made = Bucket(s3_server, name, archive, is_public)
    archive.source_options = made.options
    return made


@pytest.mark.parametrize("zarr_format", [2, 3])
async def test_a_zarr_store(bucket, zarr_format):
    group = zarr.open_group(bucket.archive.data / "old.zarr", mode="w", zarr_format=zarr_format)
    group.create_array("inner/a b", data=GRID, chunks=(4, 4))
    group.create_array("scalar", data=np.array(5))
    bucket.put(bucket.archive.data)
    expected = arrays_of(bucket.archive.data / "old.zarr")
    report = await bucket.archive.ingest(f"{bucket.url}/old.zarr/")
    assert [c.url_prefix for c in report.containers] == [f"{bucket.url}/"]
    equal_arrays(arrays_of(bucket.store()), expected)
    told = bucket.archive.containers()[f"{bucket.url}/"]
    assert bucket.server.secret_key not in str(report)
    assert bucket.server.secret_key not in str(told)
    (told_again,) = (await bucket.archive.ingest((f"{bucket.url}/old.zarr", "/x"))).ingested
    assert told_again.chunks == report.ingested[0].chunks


async def test_a_netcdf_file(bucket):
    with netCDF4.Dataset(bucket.archive.data / "file.nc", "w") as file:
        file.createDimension("y", 6)
        file.createDimension("x", 10)
        values = file.createVariable("inner/t", "f8", ("y", "x"), zlib=True, chunksizes=(4, 4))
        values[:] = GRID
    bucket.put(bucket.archive.data)
    await bucket.archive.ingest(f"{bucket.url}/file.nc")
    assert np.array_equal(arrays_of(bucket.store())["inner/t"], GRID)


async def test_etags_tell_a_changed_file(bucket):
    zarr.create_array(bucket.archive.data / "a", data=GRID, chunks=(6, 10))
    bucket.put(bucket.archive.data)
    await bucket.archive.ingest(f"{bucket.url}/a")
    assert np.array_equal(zarr.open_array(bucket.store(), mode="r")[...], GRID)
    with contextlib.closing(bucket.server.client()) as client:
        client.put_object(Bucket=bucket.name, Key="a/c/0/0", Body=b"x" * 480)
    with pytest.raises(icechunk.IcechunkError, match=r"modified|precondition|changed"):
        zarr.open_array(bucket.store(), mode="r")[...]


async def test_a_source_that_changes_meanwhile_is_not_committed(bucket):
    zarr.create_array(bucket.archive.data / "a", data=GRID, chunks=(4, 4))
    bucket.put(bucket.archive.data)

    def change(what, done, of):
        if (what, done) == ("parsing", 1):
            with contextlib.closing(bucket.server.client()) as client:
                client.put_object(Bucket=bucket.name, Key="a/c/0/0", Body=b"other")

    before = bucket.archive.history()
    with pytest.raises(BusyError, match="a/c/0/0 changed while it was ingested"):
        await bucket.archive.ingest(f"{bucket.url}/a", tell=change)
    assert bucket.archive.history() == before
    assert bucket.archive.containers() == {}


async def test_what_is_not_there_or_not_allowed(bucket):
    with pytest.raises(NotFoundError, match="does not exist"):
        await bucket.archive.ingest(f"{bucket.url}/nothing.zarr")
    private = bucket.server.make_bucket()
    bucket.archive.source_options = StorageOptions(
        endpoint_url=bucket.server.endpoint,
        region=REGION,
        anonymous=bucket.is_public,
        access_key_id=None if bucket.is_public else "wrong",
        secret_access_key=None if bucket.is_public else "wrong",
    )
    with pytest.raises(AccessDeniedError, match=f"s3://{private}/x.zarr"):
        await bucket.archive.ingest(f"s3://{private}/x.zarr")


async def test_a_whole_bucket_is_a_store(s3_server, archive):
    made = Bucket(s3_server, s3_server.make_bucket(), archive, is_public=False)
    archive.source_options = made.options
    root = zarr.open_group(archive.data, mode="w", zarr_format=2)
    root.create_array("part/a", data=GRID, chunks=(4, 4))
    made.put(archive.data)
    await archive.ingest((made.url, "/all"))
    await archive.ingest((made.url, "/some"), group="part")
    assert list(archive.containers()) == [f"{made.url}/"]
    assert np.array_equal(zarr.open_array(made.store(), path="all/part/a", mode="r")[...], GRID)
    assert np.array_equal(zarr.open_array(made.store(), path="some/a", mode="r")[...], GRID)
    with pytest.raises(NotFoundError, match="no such bucket"):
        await archive.ingest("s3://nowhere-at-all/x.zarr", overwrite=True)
