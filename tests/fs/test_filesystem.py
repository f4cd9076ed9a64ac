"""What the file system asks of the store and when, and what a refresh does to what is open."""

import errno
import os

import pytest
import trio

from tests.compat.documents import GROUP, array_document, delete, put, put_all
from tests.compat.place import changing, create, local_place
from tests.compat.repositories import build
from tests.fs.driving import driving
from zfuse.errors import (
    CorruptionError,
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

LINE = array_document((40,), (1,))
SQUARE = array_document((20, 20), (1, 1))
MAIN = Ref(RefKind.BRANCH, "main")


@pytest.fixture
def place(tmp_path):
    return local_place(tmp_path)


@pytest.fixture
def repo(place):
    """A group with two arrays, whose chunks are native."""
    repo = create(place, 2)
    with changing(repo, "first") as store:
        put_all(store, {"zarr.json": GROUP, "g/zarr.json": GROUP, "g/a/zarr.json": SQUARE})
        put_all(store, {f"g/a/c/{n}/{m}": b"%d %d" % (n, m) for n in range(4) for m in range(4)})
        put_all(store, {"g/b/zarr.json": LINE, "g/b/c/0": b"b" * 700, "g/b/c/1": b"B" * 800})
    return repo


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


async def test_a_look_up_that_a_refresh_overtakes_gives_the_new_state(repo, place):
    async with driving(place.url) as driven:
        root = await driven.find("branch/main")
        with changing(repo, "second") as store:
            put(store, "g/a/c/0/0", b"after")

        async def move_first(_, key):
            if key.startswith("manifests/"):
                driven.storage.before = None
                assert (await driven.fs.refresh()).moved

        await driven.find("branch/main/g/zarr.json")
        driven.storage.before = move_first
        found = await driven.find("g/a/c/0/0", root.inode)
        assert driven.storage.before is None
        assert await driven.read(found.inode) == b"after"
        assert found.size == 5


async def test_a_listing_that_a_refresh_overtakes_is_of_the_new_state(repo, place):
    async with driving(place.url) as driven:
        directory = await driven.find("branch/main/g/b")
        with changing(repo, "second") as store:
            put(store, "g/b/c/7", b"after")

        async def move_first(_, key):
            if key.startswith("manifests/"):
                driven.storage.before = None
                await driven.fs.refresh()

        driven.storage.before = move_first
        chunks = await driven.lookup(directory.inode, "c")
        names = [item.name for item in await driven.list(chunks.inode)]
        assert names == ["0", "1", "7"]


async def test_an_error_of_the_old_state_is_not_the_answer(repo, place):
    """The old snapshot is collected while somebody looks for its manifest."""
    async with driving(place.url) as driven:
        root = await driven.find("branch/main")
        await driven.find("branch/main/zarr.json")
        with changing(repo, "second") as store:
            put(store, "g/b/c/0", b"after")

        async def vanish(_, key):
            if key.startswith("manifests/"):
                driven.storage.before = None
                await driven.fs.refresh()
                raise MissingObjectError(f"{key} is gone")

        driven.storage.before = vanish
        assert await driven.read_path("g/b/c/0", root.inode) == b"after"


async def test_an_open_file_keeps_its_content_across_refreshes(repo, place):
    async with driving(place.url) as driven:
        found = await driven.find("branch/main/g/b/c/0")
        document = await driven.find("branch/main/g/b/zarr.json")
        opened = await driven.fs.open(found.inode, os.O_RDONLY)
        open_document = await driven.fs.open(document.inode, os.O_RDONLY)
        with changing(repo, "second") as store:
            put(store, "g/b/c/0", b"after")
            put(store, "g/b/zarr.json", array_document((4,), (1,)))
        await driven.fs.refresh()
        assert await driven.fs.read(opened.handle, 0, 1000) == b"b" * 700
        assert await driven.fs.read(opened.handle, 690, 1000) == b"b" * 10
        assert await driven.fs.read(open_document.handle, 0, 1000) == LINE
        assert await driven.fs.getattr(found.inode) == found
        driven.fs.release(opened.handle)
        driven.fs.release(open_document.handle)
        again = await driven.find("branch/main/g/b/c/0")
        assert again.inode != found.inode
        assert await driven.read(again.inode) == b"after"


async def test_an_inode_whose_content_is_gone_is_stale_and_never_shows_the_new(repo, place):
    """The kernel looked the name up before a refresh, and opens it after."""
    async with driving(place.url) as driven:
        old = {n: await driven.find(f"branch/main/g/b/c/{n}") for n in (0, 1)}
        with changing(repo, "second") as store:
            put(store, "g/b/c/0", b"after")
        refreshed = await driven.fs.refresh()
        # A neighbour of the same array and snapshot: asked in the new version from now on.
        same = await driven.find("branch/main/g/b/c/1")
        assert same == old[1]
        with pytest.raises(StaleError) as caught:
            await driven.fs.open(old[0].inode, os.O_RDONLY)
        assert caught.value.errno == errno.ESTALE
        with pytest.raises(StaleError):
            await driven.fs.getattr(old[0].inode)
        assert await driven.read(old[1].inode) == b"B" * 800
        directory = await driven.find("branch/main/g/b/c")
        assert refreshed.stale == [(directory.inode, "0")]


async def test_a_chunk_that_another_line_of_history_has_is_not_mixed_up(repo, place):
    """Both lines have chunks of the first snapshot; they are not the same chunks."""
    first = repo.lookup_branch("main")
    async with driving(place.url) as driven:
        with changing(repo, "one line") as store:
            put(store, "g/b/c/1", b"one")
        await driven.fs.refresh()
        zero = await driven.find("branch/main/g/b/c/0")
        repo.reset_branch("main", first)
        with changing(repo, "other line") as store:
            put(store, "g/b/c/0", b"other")
        await driven.fs.refresh()
        one = await driven.find("branch/main/g/b/c/1")
        assert await driven.read(one.inode) == b"B" * 800
        with pytest.raises(StaleError):
            await driven.fs.open(zero.inode, os.O_RDONLY)
        assert await driven.read_path("branch/main/g/b/c/0") == b"other"


async def test_a_chunk_directory_whose_array_is_gone_is_stale(repo, place):
    async with driving(place.url) as driven:
        chunks = await driven.find("branch/main/g/b/c")
        with changing(repo, "another array") as store:
            delete(store, "g/b/zarr.json")
            put_all(store, {"g/b/zarr.json": LINE, "g/b/c/0": b"new"})
        refreshed = await driven.fs.refresh()
        with pytest.raises(StaleError):
            await driven.fs.lookup(chunks.inode, "0")
        with pytest.raises(StaleError):
            await driven.fs.opendir(chunks.inode)
        group = await driven.find("branch/main/g")
        assert (group.inode, "b") in refreshed.stale
        assert await driven.read_path("branch/main/g/b/c/0") == b"new"


async def test_a_directory_opened_before_a_refresh_stays_as_it_was(repo, place):
    async with driving(place.url) as driven:
        count = 1200
        with changing(repo, "many") as store:
            put(store, "g/b/zarr.json", array_document((9 * count,), (1,)))
            put_all(store, {f"g/b/c/{n}": b"o" for n in range(count)})
        await driven.fs.refresh()
        chunks = await driven.find("branch/main/g/b/c")
        handle = await driven.fs.opendir(chunks.inode)
        items, current = await driven.fs.readdir(handle, 0)
        assert current
        found = [(item.name, item.attributes.size) for item in items[:50]]
        with changing(repo, "other") as store:
            put_all(store, {f"g/b/c/{n}": b"new" for n in range(count - 5, count + 5)})
        await driven.fs.refresh()
        while True:
            items, current = await driven.fs.readdir(handle, len(found))
            assert not current
            if not items:
                break
            found += [(item.name, item.attributes.size) for item in items]
        assert sorted(found) == sorted((str(n), 1) for n in range(count))
        driven.fs.releasedir(handle)
        sizes = {i.name: i.attributes.size for i in await driven.list(chunks.inode)}
        assert len(sizes) == count + 5
        assert sizes[str(count)] == 3


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


async def test_a_branch_that_is_gone_keeps_showing_what_it_showed_to_those_inside(repo, place):
    repo.create_branch("dev/ü", repo.lookup_branch("main"))
    async with driving(place.url) as driven:
        inside = await driven.find("branch/dev%2Fü/g")
        branches = await driven.find("branch")
        repo.delete_branch("dev/ü")
        refreshed = await driven.fs.refresh()
        assert refreshed.stale == [(branches.inode, "dev%2Fü")]
        assert [(m.branch, m.after) for m in refreshed.moved] == [("dev/ü", None)]
        assert await driven.read_path("b/c/0", inside.inode) == b"b" * 700
        with pytest.raises(NotFoundError):
            await driven.find("branch/dev%2Fü")
        assert (await driven.fs.refresh()).moved == []
        repo.create_branch("dev/ü", repo.lookup_branch("main"))
        with changing(repo, "dev", branch="dev/ü") as store:
            put(store, "g/b/c/0", b"new")
        await driven.fs.refresh()
        assert await driven.read_path("branch/dev%2Fü/g/b/c/0") == b"new"
        assert await driven.read_path("b/c/0", inside.inode) == b"b" * 700


async def test_the_branch_that_is_the_whole_mount_may_come_back(repo, place):
    repo.create_branch("dev", repo.lookup_branch("main"))
    async with driving(place.url, ref=Ref(RefKind.BRANCH, "dev")) as driven:
        await driven.find("g/b/c/0")
        repo.delete_branch("dev")
        refreshed = await driven.fs.refresh()
        assert refreshed.stale == []
        assert await driven.read_path("g/b/c/0") == b"b" * 700
        repo.create_branch("dev", repo.lookup_branch("main"))
        with changing(repo, "dev", branch="dev") as store:
            put(store, "g/b/c/0", b"new")
        refreshed = await driven.fs.refresh()
        assert refreshed.stale
        assert await driven.read_path("g/b/c/0") == b"new"


async def test_a_tag_that_is_gone_is_looked_up_again(repo, place):
    repo.create_tag("v1", repo.lookup_branch("main"))
    async with driving(place.url) as driven:
        inside = await driven.find("tag/v1/g/b")
        tags = await driven.find("tag")
        repo.delete_tag("v1")
        refreshed = await driven.fs.refresh()
        assert (refreshed.stale, refreshed.moved) == ([(tags.inode, "v1")], [])
        with pytest.raises(NotFoundError):
            await driven.find("tag/v1")
        assert await driven.read_path("c/0", inside.inode) == b"b" * 700


async def test_an_expired_snapshot_is_looked_up_again_and_goes_on_for_those_inside(repo, place):
    old = repo.lookup_branch("main")
    with changing(repo, "second") as store:
        put(store, "g/b/c/0", b"second")
    async with driving(place.url) as driven:
        inside = await driven.find(f"snapshot/{old}/g")
        snapshots = await driven.find("snapshot")
        repo.expire_snapshots(repo.lookup_snapshot(repo.lookup_branch("main")).written_at)
        refreshed = await driven.fs.refresh()
        assert refreshed.stale == [(snapshots.inode, old)]
        with pytest.raises(NotFoundError):
            await driven.find(f"snapshot/{old}")
        # Its provenance was not known yet, and its ancestors are no longer told.
        assert await driven.read_path("b/c/0", inside.inode) == b"b" * 700
        assert await driven.read_path("b/zarr.json", inside.inode) == LINE


async def test_one_branch_that_can_not_be_read_does_not_hold_the_others_back(repo, place):
    repo.create_branch("bad", repo.lookup_branch("main"))
    async with driving(place.url) as driven:
        for branch in ("bad", "main"):
            await driven.find(f"branch/{branch}/g/b/c/0")
        with changing(repo, "on main") as store:
            put(store, "g/b/c/0", b"after")
        with changing(repo, "on bad", branch="bad") as store:
            put(store, "g/b/c/0", b"lost")
        snapshot = place.data.parent / "repository/snapshots" / repo.lookup_branch("bad")
        content = snapshot.read_bytes()
        snapshot.write_bytes(content[:100])
        refreshed = await driven.fs.refresh()
        assert [m.branch for m in refreshed.moved] == ["main"]
        assert [type(error) for error in refreshed.errors] == [CorruptionError]
        assert await driven.read_path("branch/main/g/b/c/0") == b"after"
        assert await driven.read_path("branch/bad/g/b/c/0") == b"b" * 700
        snapshot.write_bytes(content)
        refreshed = await driven.fs.refresh()
        assert [m.branch for m in refreshed.moved] == ["bad"]
        assert await driven.read_path("branch/bad/g/b/c/0") == b"lost"


async def test_a_refresh_that_is_cancelled_has_moved_nothing_untold(repo, place):
    repo.create_branch("dev", repo.lookup_branch("main"))
    async with driving(place.url) as driven:
        for branch in ("dev", "main"):
            await driven.find(f"branch/{branch}/g/b/c/0")
            with changing(repo, "more", branch=branch) as store:
                put(store, "g/b/c/0", branch.encode())
        asked = 0

        async def hang_at_the_second(_, key):
            nonlocal asked
            asked += key.startswith("snapshots/")
            if asked == 2:
                await trio.sleep_forever()

        driven.storage.before = hang_at_the_second
        with trio.move_on_after(0.2) as scope:
            await driven.fs.refresh()
        assert scope.cancelled_caught
        driven.storage.before = None
        refreshed = await driven.fs.refresh()
        assert {m.branch for m in refreshed.moved} == {"dev", "main"}
        assert len(refreshed.stale) == 2


async def test_a_branch_whose_old_snapshot_is_collected_gets_another_tree(repo, place):
    repo.create_tag("empty", [*repo.ancestry(branch="main")][-1].id)
    async with driving(place.url, memory=0) as driven:
        directory = await driven.find("branch/main/g/b")
        branches = await driven.find("branch")
        old = repo.lookup_branch("main")
        with changing(repo, "second") as store:
            put(store, "g/b/c/0", b"after")
        # What a tiny budget keeps is the newest: this is not the hierarchy of the branch.
        await driven.list((await driven.find("tag/empty")).inode)
        (place.data.parent / "repository/snapshots" / old).unlink()
        refreshed = await driven.fs.refresh()
        assert refreshed.errors == []
        assert (branches.inode, "main") in refreshed.stale
        assert await driven.read_path("branch/main/g/b/c/0") == b"after"
        again = await driven.find("branch/main/g/b")
        assert again.inode != directory.inode


async def test_directories_that_vanish_or_appear_are_looked_up_again(repo, place):
    async with driving(place.url) as driven:
        chunks = await driven.find("branch/main/g/a/c")
        for n in range(4):
            for m in range(4):
                await driven.find(f"branch/main/g/a/c/{n}/{m}")
        with changing(repo, "less") as store:
            for m in range(4):
                delete(store, f"g/a/c/2/{m}")
            delete(store, "g/a/c/1/1")
            put(store, "g/a/c/9/0", b"new")
        refreshed = await driven.fs.refresh()
        directories = {n: await driven.find(f"branch/main/g/a/c/{n}") for n in (0, 1)}
        assert (chunks.inode, "2") in refreshed.stale
        assert (chunks.inode, "9") in refreshed.stale
        assert (chunks.inode, "1") not in refreshed.stale
        assert (directories[1].inode, "1") in refreshed.stale
        assert not any(inode == directories[0].inode for inode, _ in refreshed.stale)
        with pytest.raises(NotFoundError):
            await driven.find("branch/main/g/a/c/2")
        with changing(repo, "nothing left") as store:
            for n in (0, 1, 3, 9):
                for m in range(4):
                    delete(store, f"g/a/c/{n}/{m}")
        array = await driven.find("branch/main/g/a")
        assert (array.inode, "c") in (await driven.fs.refresh()).stale
        with pytest.raises(NotFoundError):
            await driven.find("branch/main/g/a/c")


async def test_a_refresh_loads_no_manifest(repo, place):
    async with driving(place.url) as driven:
        await driven.find("branch/main/g/a/c/0/0")
        with changing(repo, "second") as store:
            put(store, "g/a/c/0/0", b"after")
            put(store, "g/b/c/0", b"after")
        driven.storage.reset()
        await driven.fs.refresh()
        asked = sorted(key.partition("/")[0] for _, key in driven.storage.calls)
        assert asked == ["repo", "snapshots", "transactions"]
        driven.storage.reset()
        assert (await driven.fs.refresh()).moved == []
        assert [key for _, key in driven.storage.calls] == ["repo"]


async def test_arrays_that_did_not_change_keep_all_their_names(repo, place):
    first = repo.lookup_branch("main")
    async with driving(place.url) as driven:
        for name in ("g/a/c/0/0", "g/b/c/0", "g/b/zarr.json", "zarr.json"):
            await driven.find(f"branch/main/{name}")
        with changing(repo, "second") as store:
            put(store, "g/a/c/0/1", b"after")
        await driven.fs.refresh()
        before = await driven.find("branch/main/g/b/c/0")
        repo.reset_branch("main", first)
        refreshed = await driven.fs.refresh()
        group = await driven.find("branch/main/g")
        assert refreshed.stale == [(group.inode, "a")]
        assert await driven.find("branch/main/g/b/c/0") == before


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
