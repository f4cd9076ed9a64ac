"""The containers that an ingest declares, and those that it finds."""

from functools import partial

import icechunk
import numpy as np
import pytest
import trio
import zarr

from tests.ingest.archive import new_archive, settle
from tests.ingest.zarr_arrays import GRID
from zfuse.errors import AlreadyExistsError, InvalidInputError
from zfuse.format.config import StoreConfig, VirtualChunkContainer
from zfuse.ingest.containers import Reach, missing_containers
from zfuse.storage.options import StorageOptions

LOCAL = StorageOptions()
MINIO = StorageOptions(endpoint_url="http://127.0.0.1:9000", region="eu-west-1", anonymous=True)


def container(prefix, **options) -> VirtualChunkContainer:
    kind = "local_file_system" if prefix.startswith("file") else "s3"
    return VirtualChunkContainer(prefix, StoreConfig(kind, options))


def missing(declared, *places, options=LOCAL) -> list[str]:
    """Return the prefixes that are missing for *places*, pairs of a place and its directory."""
    found = missing_containers({c.url_prefix: c for c in declared}, [Reach(places, options)])
    return [each.url_prefix for each in found]


STORE = ("file:///data/in/x.zarr/", "file:///data/in/")


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ((), ["file:///data/in/"]),
        (("file:///data/",), []),
        (("file:///data/in/",), []),
        (("file:///data/in/x.zarr/",), []),
        (("file:///data/in/x.zarr/a/",), ["file:///data/in/"]),
        (("file:///dat/", "file:///data/in/x/"), ["file:///data/in/"]),
    ],
)
def test_what_is_declared_is_not_declared_again(declared, expected):
    assert missing([container(prefix) for prefix in declared], STORE) == expected


def test_one_container_for_neighbours_and_none_inside_another():
    places = [
        ("file:///data/in/deep/f.nc", "file:///data/in/deep/"),
        ("file:///data/g.nc", "file:///data/"),
        ("file:///data/h.nc", "file:///data/"),
        ("file:///other/i.nc", "file:///other/"),
    ]
    assert missing([], *places) == ["file:///data/", "file:///other/"]


def test_what_a_container_says():
    (local,) = missing_containers({}, [Reach((("file:///a%20b/c.nc", "file:///a%20b/"),), LOCAL)])
    assert local.store == StoreConfig("local_file_system", {"path": "/a b/"})
    (bucket,) = missing_containers({}, [Reach((("s3://bucket/c.nc", "s3://bucket/"),), MINIO)])
    assert bucket.store.kind == "s3_compatible"
    assert bucket.store.options == {
        "region": "eu-west-1",
        "endpoint_url": "http://127.0.0.1:9000",
        "anonymous": True,
        "allow_http": True,
        "force_path_style": True,
        "requester_pays": False,
    }


def test_the_root_directory_is_no_container():
    with pytest.raises(InvalidInputError, match="move it into a directory"):
        missing([], ("file:///x.zarr/", "file:///"))


def test_another_server():
    place = ("s3://bucket/x.nc", "s3://bucket/")
    other = container("s3://bucket/", endpoint_url="https://other.example")
    with pytest.raises(InvalidInputError, match=r"is at https://other\.example, the source at"):
        missing([other], place, options=MINIO)
    same = container("s3://bucket/", endpoint_url="http://127.0.0.1:9000/")
    assert missing([same], place, options=MINIO) == []


class Others:
    """Commits with the official library, once, while an ingest is on its last step."""

    def __init__(self, archive, name, values=GRID):
        self.archive, self.name, self.values = archive, name, values

    def __call__(self, what, done, of):
        if (what, done) == ("writing", 0):
            storage = icechunk.local_filesystem_storage(self.archive.url)
            session = icechunk.Repository.open(storage).writable_session("main")
            zarr.create_array(session.store, name=self.name, data=self.values)
            session.commit("others")


@pytest.mark.compat
async def test_a_commit_that_fails_leaves_no_container(archive):
    """Others put something at the node meanwhile."""
    zarr.create_array(archive.data / "a", data=GRID)
    settle(archive.data)
    with pytest.raises(AlreadyExistsError, match="/a exists"):
        await archive.ingest((archive.data / "a", "/a"), tell=Others(archive, "a", GRID + 1))
    assert archive.containers() == {}
    assert archive.history()[0] == "others"
    await archive.ingest((archive.data / "a", "/b"))
    root = zarr.open_group(archive.store(), mode="r")
    assert np.array_equal(root["a"][...], GRID + 1)
    assert np.array_equal(root["b"][...], GRID)


@pytest.mark.compat
async def test_others_commit_elsewhere_meanwhile(archive):
    """That both make the groups above is no conflict."""
    zarr.create_array(archive.data / "a", data=GRID)
    settle(archive.data)
    await archive.ingest((archive.data / "a", "/x/a"), tell=Others(archive, "x/theirs"))
    assert archive.history()[:2] == ["test", "others"]
    assert set(zarr.open_group(archive.store(), path="x", mode="r")) == {"a", "theirs"}


@pytest.mark.compat
@pytest.mark.parametrize("spec_version", [1, 2])
async def test_two_that_append_at_the_same_time(tmp_path, spec_version):
    """Both are in afterwards, one behind the other."""
    archive = await new_archive(tmp_path, spec_version)
    for number in range(4):
        values = np.full((2, 3), number)
        zarr.create_array(
            archive.data / f"m{number}", data=values, chunks=(1, 3), dimension_names=("t", "x")
        )
    settle(archive.data)
    await archive.ingest((archive.data / "m0", "/a"))
    async with trio.open_nursery() as nursery:
        for number in range(1, 4):
            place = (archive.data / f"m{number}", "/a")
            nursery.start_soon(partial(archive.ingest, place, append_dim="t"))
    found = zarr.open_array(archive.store(), path="a", mode="r")[...]
    assert found.shape == (8, 3)
    assert sorted(found[::2, 0].tolist()) == [0, 1, 2, 3]
    assert len(archive.history()) == 5
