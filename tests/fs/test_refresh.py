"""What a refresh does to what is open, and to the names that the kernel knows."""

import errno
import os

import pytest
import trio

from tests.compat.documents import array_document, delete, put, put_all
from tests.compat.place import changing
from tests.fs.driving import driving
from zfuse.errors import (
    CorruptionError,
    MissingObjectError,
    NotFoundError,
    StaleError,
)
from zfuse.repo.ref import Ref, RefKind

pytestmark = pytest.mark.compat

LINE = array_document((40,), (1,))


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

        async def cancel_at_the_second(_, key):
            nonlocal asked
            asked += key.startswith("snapshots/")
            if asked == 2:
                scope.cancel()
                await trio.sleep_forever()

        driven.storage.before = cancel_at_the_second
        with trio.CancelScope() as scope:
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
