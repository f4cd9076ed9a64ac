"""What the file system asks of the store and when, and what it answers."""

import errno
import os

import pytest

from tests.compat.place import local_place
from tests.compat.repositories import build
from tests.fs.driving import driving
from zfuse.errors import (
    InvalidInputError,
    MissingObjectError,
    NotFoundError,
    ReadOnlyError,
    StaleError,
)
from zfuse.fs.entry import Caching, EntryKind
from zfuse.fs.inodes import ROOT
from zfuse.repo.ref import Ref, RefKind

pytestmark = pytest.mark.compat

MAIN = Ref(RefKind.BRANCH, "main")


async def everything_below(driven, inode):
    """List and stat all there is below a directory."""
    count = 0
    for item in await driven.list(inode):
        found = await driven.lookup(inode, item.name)
        assert await driven.fs.getattr(found.inode) == found
        count += 1
        if found.kind is EntryKind.DIRECTORY:
            count += await everything_below(driven, found.inode)
    return count


async def test_stat_and_listing_of_loaded_metadata_ask_no_store(repo, place):
    async with driving(place.url) as driven:
        count = await everything_below(driven, ROOT)
        driven.forget_all()
        driven.storage.reset()
        assert await everything_below(driven, ROOT) == count
        for name in ("nothing", "g/nothing", "g/a/c/9", "g/a/c/3/9", "g/a/c/nothing"):
            with pytest.raises(NotFoundError):
                await driven.find(f"branch/main/{name}")
        assert driven.storage.calls == []


async def test_listings_ask_for_metadata_alone_and_once(repo, place):
    """The number of calls does not depend on the number of chunks."""
    async with driving(place.url, ref=MAIN) as driven:
        driven.storage.reset()
        await everything_below(driven, ROOT)
        asked = sorted(key.partition("/")[0] for _, key in driven.storage.calls)
        assert asked == ["manifests", "manifests", "snapshots"]
        assert {operation for operation, _ in driven.storage.calls} == {"get"}


async def test_a_chunk_costs_its_snapshot_its_manifest_and_itself(repo, place):
    async with driving(place.url, ref=MAIN) as driven:
        driven.storage.reset()
        assert await driven.read_path("g/b/c/0") == b"b" * 700
        keys = [key.partition("/")[0] for _, key in driven.storage.calls]
        assert keys == ["snapshots", "manifests", "chunks"]
        driven.storage.reset()
        assert await driven.read_path("g/b/c/1") == b"B" * 800
        assert [key.partition("/")[0] for _, key in driven.storage.calls] == ["chunks"]


async def test_absent_chunks_cost_nothing(repo, place):
    async with driving(place.url, ref=MAIN) as driven:
        await driven.find("g/a/c/0/0")
        driven.storage.reset()
        for n in range(4, 20):
            with pytest.raises(NotFoundError) as caught:
                await driven.find(f"g/a/c/{n % 4}/{n}")
            assert caught.value.errno == errno.ENOENT
        assert driven.storage.calls == []


async def test_of_many_manifests_a_look_up_loads_those_that_cover_it(tmp_path):
    made = build("split_manifests", 2, local_place(tmp_path))
    async with driving(made.url) as driven:
        await driven.find("tag/split/split/zarr.json")
        driven.storage.reset()
        await driven.find("tag/split/split/c/4/6")
        assert len(driven.storage.keys("get")) == 2  # one for the directory, one for the chunk
        driven.storage.reset()
        with pytest.raises(NotFoundError):
            await driven.find("tag/split/split/c/9")
        with pytest.raises(NotFoundError):
            await driven.find("tag/split/split/c/4/99")
        assert driven.storage.calls == []


async def test_a_listing_left_half_read_leaves_nothing_behind(repo, place):
    async with driving(place.url) as driven:
        group = await driven.find("branch/main/g")
        array = await driven.find("branch/main/g/a")
        known = driven.fs.known_inodes
        for inode in (group.inode, array.inode, ROOT):
            handle = await driven.fs.opendir(inode)
            items, _ = await driven.fs.readdir(handle, 0)
            assert items
            assert driven.fs.known_inodes > known
            await driven.fs.readdir(handle, 1)
            driven.fs.releasedir(handle)
            assert driven.fs.known_inodes == known
        assert driven.fs.open_handles == 0


async def test_what_two_listings_told_survives_the_end_of_one(repo, place):
    async with driving(place.url) as driven:
        group = await driven.find("branch/main/g")
        one, other = [await driven.fs.opendir(group.inode) for _ in range(2)]
        items, _ = await driven.fs.readdir(one, 0)
        same, _ = await driven.fs.readdir(other, 0)
        assert items == same
        driven.fs.releasedir(one)
        driven.fs.remember(same[1].attributes.inode)
        driven.fs.releasedir(other)
        assert await driven.fs.getattr(same[1].attributes.inode) == same[1].attributes


async def test_positions_of_a_listing_can_be_gone_back_to(repo, place):
    async with driving(place.url) as driven:
        chunks = await driven.find("branch/main/g/a/c")
        handle = await driven.fs.opendir(chunks.inode)
        items, _ = await driven.fs.readdir(handle, 0)
        assert [item.name for item in items] == ["0", "1", "2", "3"]
        assert [i.name for i in (await driven.fs.readdir(handle, 2))[0]] == ["2", "3"]
        assert [i.name for i in (await driven.fs.readdir(handle, 0))[0]] == ["0", "1", "2", "3"]
        assert (await driven.fs.readdir(handle, 4))[0] == []
        assert (await driven.fs.readdir(handle, 99))[0] == []
        driven.fs.releasedir(handle)


async def test_requests_that_make_no_sense(repo, place):
    async with driving(place.url) as driven:
        directory = await driven.find("branch/main/g")
        document = await driven.find("branch/main/g/zarr.json")
        with pytest.raises(InvalidInputError):
            await driven.fs.open(directory.inode, os.O_RDONLY)
        with pytest.raises(InvalidInputError):
            await driven.fs.opendir(document.inode)
        with pytest.raises(InvalidInputError):
            await driven.fs.lookup(document.inode, "x")
        with pytest.raises(InvalidInputError):
            driven.fs.readlink(document.inode)
        for flags in (os.O_WRONLY, os.O_RDWR):
            with pytest.raises(ReadOnlyError) as caught:
                await driven.fs.open(document.inode, flags)
            assert caught.value.errno == errno.EROFS
        with pytest.raises(StaleError):
            await driven.fs.getattr(12345)
        assert driven.fs.open_handles == 0


async def test_a_manifest_that_is_gone_is_an_error_and_no_absent_chunk(repo, place):
    for path in (place.data.parent / "repository/manifests").iterdir():
        path.unlink()
    async with driving(place.url) as driven:
        await driven.find("branch/main/g/b/zarr.json")
        for name in ("g/b/c/0", "g/a/c/0"):
            with pytest.raises(MissingObjectError) as caught:
                await driven.find(f"branch/main/{name}")
            assert caught.value.errno == errno.EIO


async def test_how_long_the_kernel_may_keep_what(repo, place):
    repo.create_tag("v1", repo.lookup_branch("main"))
    snapshot = repo.lookup_branch("main")
    async with driving(place.url) as driven:
        for path, caching in {
            "branch": Caching.BRIEFLY,
            "snapshot": Caching.BRIEFLY,
            "branch/main": Caching.BRIEFLY,
            "branch/main/g/a/c": Caching.BRIEFLY,
            "branch/main/g/zarr.json": Caching.FOREVER,
            "branch/main/g/a/c/0/0": Caching.FOREVER,
            "tag/v1": Caching.FOREVER,
            "tag/v1/g": Caching.FOREVER,
            "tag/v1/g/a/c/0": Caching.FOREVER,
            f"snapshot/{snapshot}/g/b": Caching.FOREVER,
        }.items():
            assert (await driven.find(path)).caching is caching, path


async def test_extended_attributes(repo, place):
    async with driving(place.url) as driven:
        chunk = await driven.find("branch/main/g/b/c/0")

        async def told(inode, name):
            return await driven.fs.getxattr(inode, f"user.zfuse.{name}")

        assert await told(chunk.inode, "kind") == b"native"
        assert await told(chunk.inode, "length") == b"700"
        assert await told(chunk.inode, "offset") == b"0"
        assert await told(chunk.inode, "ref") == b"branch/main"
        assert await told(chunk.inode, "snapshot") == repo.lookup_branch("main").encode()
        assert await told(chunk.inode, "cached") == b"0"
        key = (await told(chunk.inode, "object")).decode()
        assert (place.data.parent / "repository/chunks" / key).read_bytes() == b"b" * 700
        opened = await driven.fs.open(chunk.inode, os.O_RDONLY)
        assert await told(chunk.inode, "cached") == b"1"
        driven.fs.release(opened.handle)
        inline = await driven.find("branch/main/g/a/c/1/1")
        assert await told(inline.inode, "kind") == b"inline"
        assert await told(inline.inode, "object") is None
        directory = await driven.find("branch/main/g/b")
        assert await told(directory.inode, "node") == await told(
            (await driven.find("branch/main/g/b/zarr.json")).inode, "node"
        )
        assert await told(directory.inode, "nothing") is None
        assert await driven.fs.getxattr(chunk.inode, "user.other") is None
        assert await told((await driven.find("branch")).inode, "kind") is None
