"""Sessions on branches that others move: what goes on, what stays, and what is nobody's loss."""

import pytest
from zarr.core.sync import sync

from tests.compat.documents import GROUP, array_document, delete, put_all
from tests.compat.place import changing, create, local_place
from tests.fs.branches import writing
from zfuse.errors import ConflictError

LINE = array_document((40,), (1,))


@pytest.fixture
async def b(tmp_path):
    place = local_place(tmp_path)
    with changing(create(place, 2), "base") as store:
        put_all(store, {"zarr.json": GROUP, "g/zarr.json": GROUP, "g/a/zarr.json": LINE})
        put_all(store, {"one/zarr.json": LINE, "two/zarr.json": LINE, "g/h/zarr.json": GROUP})
        for path in ("g/a", "one", "two"):
            put_all(store, {f"{path}/c/{n}": f"{path} {n}".encode() * 100 for n in range(3)})
    async with writing(tmp_path / "repository", tmp_path / "state") as branch:
        yield branch


def others(b, files, removed=()):
    """Commit as somebody else, and do the same to the plain directory."""
    with changing(b.official(), "theirs") as store:
        put_all(store, files)
        for key in removed:
            delete(store, key)
    for path, data in files.items():
        (b.shadow / path).parent.mkdir(parents=True, exist_ok=True)
        (b.shadow / path).write_bytes(data)
    for path in removed:
        (b.shadow / path).unlink()


async def refresh(b):
    await b.driven.repository.refresh()
    await b.session.advance(b.driven.repository.branches["main"])


async def test_changes_go_on_top_of_those_of_others(b):
    await b.write_all({"one/c/0": b"mine", "n/zarr.json": LINE, "notes": b"n"})
    await b.unlink("one/c/1")
    assert await b.read("two/c/0") == b"two 0" * 100
    others(b, {"two/c/0": b"theirs", "two/c/7": b"theirs", "o/zarr.json": GROUP}, ["g/a/c/0"])
    await refresh(b)
    await b.assert_shows_the_same()
    assert await b.told() == {
        "new": ["/n"],
        "chunks": [{"path": "/one", "written": 1, "deleted": 1}],
        "untracked": ["/notes"],
    }
    others(b, {"two/c/1": b"theirs again"})
    await b.assert_syncs(["notes"])


async def test_a_moved_array_gets_the_chunks_of_others(b):
    await b.move("one", "x")
    with changing(b.official(), "theirs") as store:
        put_all(store, {"one/c/9": b"nine"})
    (b.shadow / "x/c/9").write_bytes(b"nine")
    await refresh(b)
    await b.assert_shows_the_same()
    await b.assert_syncs()


@pytest.mark.parametrize("refreshes", [False, True])
async def test_what_others_add_below_what_was_removed_is_not_removed(b, refreshes):
    await b.remove("one/c")
    await b.remove("g")
    with changing(b.official(), "theirs") as store:
        put_all(store, {"one/c/9": b"nine"})
    if refreshes:
        with pytest.raises(ConflictError, match="others added /one below what was removed"):
            await refresh(b)
        await b.assert_shows_the_same()
    (b.shadow / "one/c").mkdir()
    (b.shadow / "one/c/9").write_bytes(b"nine")
    await b.assert_syncs()


async def test_a_node_that_others_add_to_a_removed_group_stays(b):
    await b.remove("g/h")
    await b.unlink("one/c/0")
    others(b, {"g/h/new/zarr.json": LINE, "g/h/new/c/0": b"zero", "one/c/5": b"five"})
    tip = b.session.tree.snapshot_id
    with pytest.raises(ConflictError):
        await refresh(b)
    assert b.session.tree.snapshot_id == tip


async def test_an_untracked_file_outlives_its_group(b):
    await b.write("g/h/notes", b"n")
    session = b.official().writable_session("main")
    sync(session.store.delete_dir("g/h"))
    session.commit("theirs")
    (b.shadow / "g/h/zarr.json").unlink()
    await refresh(b)
    await b.assert_shows_the_same()
    await b.write("one/c/0", b"mine")
    await b.assert_syncs(["g/h/notes"])


async def test_conflicts_leave_everything(b):
    await b.write_all({"one/c/0": b"mine", "two/c/0": b"mine"})
    with changing(b.official(), "theirs") as store:
        put_all(store, {"one/c/0": b"theirs", "g/a/c/0": b"theirs"})
    with pytest.raises(ConflictError, match="others changed /one"):
        await refresh(b)
    await b.assert_shows_the_same()
    assert b.session.has_changes
