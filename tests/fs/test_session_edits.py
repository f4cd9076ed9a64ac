"""Taking changes back: paths show what the base has again, and nothing of it gets lost."""

import pytest

from tests.compat.documents import GROUP, array_document, put_all
from tests.compat.place import changing, create, local_place
from tests.fs.branches import writing
from zfuse.errors import AlreadyExistsError, NotAllowedError, NotFoundError

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


@pytest.fixture
def base(b):
    return b.files()


async def discard(b, *paths):
    """Take changes back, and have none of the entries that somebody found before in the way."""
    await b.session.discard([tuple(path.split("/")) for path in paths])


async def shows(b, files):
    assert (await b.tree()).files == files
    for path in files:  # what was looked up before, too
        assert await b.read(path) == files[path]


async def test_all_is_taken_back_at_once(b, base):
    await b.move("g", "x")
    await b.write_all({"x/a/c/0": b"new", "one/c/9": b"nine", "notes": b"n"})
    await b.remove("two")
    await b.session.discard()
    await shows(b, base)
    assert not b.session.has_changes
    assert await b.told() == {}


async def test_files_are_taken_back_one_by_one(b, base):
    await b.write_all({"one/c/0": b"new", "one/c/1": b"new", "one/c/9": b"nine"})
    await b.unlink("one/c/2")
    await discard(b, "one/c/0", "one/c/2")
    await shows(b, base | {"one/c/1": b"new", "one/c/9": b"nine"})
    await discard(b, "one/c")
    await shows(b, base)
    assert not b.session.has_changes
    with pytest.raises(NotFoundError, match="nothing changed at /one/c"):
        await discard(b, "one/c")


@pytest.mark.parametrize("target", ["x", "g/h/x", "new/x"])
async def test_what_was_moved_goes_back(b, base, target):
    await b.make(target.rpartition("/")[0])
    await b.move("one", target)
    await b.write(f"{target}/c/0", b"new")
    await discard(b, target)
    await shows(b, base)
    await b.make("new")  # an empty directory of ours may be left
    await discard(b, "new")
    assert not b.session.has_changes


async def test_what_was_moved_out_of_a_moved_group_goes_back_there(b, base):
    await b.move("g", "x")
    await b.move("x/a", "a")
    await discard(b, "a")
    moved = {f"x/{path[2:]}" if path.startswith("g/") else path: base[path] for path in base}
    await shows(b, moved)
    await discard(b, "x")
    await shows(b, base)


async def test_all_of_a_chain_of_moves_goes_back(b, base):
    await b.move("g", "x")
    await b.move("x/a", "a")
    await discard(b, "x", "a")
    await shows(b, base)


async def test_exchanged_arrays_go_back_together_only(b, base):
    await b.move("one", "between")
    await b.move("two", "one")
    await b.move("between", "two")
    before = (await b.tree()).files
    for path in ("one", "two"):
        with pytest.raises(NotAllowedError, match=f"/{path} can not go back to /.*as well"):
            await discard(b, path)
        await shows(b, before)
    await discard(b, "one", "two")
    await shows(b, base)
    assert not b.session.has_changes


async def test_nothing_is_lost_where_the_place_is_taken(b, base):
    await b.move("one", "x")
    await b.write("one/zarr.json", GROUP)
    with pytest.raises(NotAllowedError, match="/x can not go back to /one"):
        await discard(b, "x")
    await discard(b, "x", "one", "one/zarr.json")
    await shows(b, base)


async def test_nothing_is_lost_where_the_group_is_gone(b, base):
    await b.move("g/a", "a")
    await b.remove("g")
    with pytest.raises(NotAllowedError, match="/a can not go back to /g/a"):
        await discard(b, "a")
    with pytest.raises(NotFoundError, match="all of /g was moved or removed"):
        await discard(b, "g/h")
    await discard(b, "a", "g")
    await shows(b, base)


async def test_what_was_removed_comes_back_beside_what_it_became(b, base):
    await b.move("one", "x")
    await discard(b, "one")
    await shows(b, base | {f"x{path[3:]}": base[path] for path in base if path.startswith("one/")})
    assert (await b.told())["copied"] == [{"from": "/one", "to": "/x"}]


async def test_copies_are_taken_back_without_the_source(b, base):
    await b.copy("g", "x")
    await b.write("x/a/c/0", b"new")
    await discard(b, "x")
    await shows(b, base)
    assert not b.session.has_changes


async def test_open_files_are_left_to_who_has_them_open(b, base):
    found = await b.find("one/c/0")
    content = await found.open()
    await content.write(0, b"NEW")
    await discard(b, "one/c/0")
    await content.write(3, b"!")
    assert (await content.read(0, 100))[:4] == b"NEW!"
    content.close()
    await shows(b, base)


async def test_copies_have_a_free_place_of_their_own(b, base):
    with pytest.raises(NotFoundError, match="there is nothing at /none"):
        await b.session.copy(("none",), ("x",))
    with pytest.raises(AlreadyExistsError, match="/two exists"):
        await b.session.copy(("one",), ("two",))
    with pytest.raises(NotFoundError, match="none"):
        await b.session.copy(("one",), ("none", "x"))
    with pytest.raises(NotFoundError, match=r"one/zarr.json"):
        await b.session.copy(("one",), ("one", "zarr.json", "x"))
    await shows(b, base)
