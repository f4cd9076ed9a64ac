"""What sessions of moves, copies and new nodes mean, and that icechunk reads it so."""

import pytest

from tests.compat.documents import GROUP, array_document, put_all
from tests.compat.place import changing, create, local_place
from tests.fs.branches import writing

LINE = array_document((40,), (1,))
SQUARE = array_document((20, 20), (1, 1))


def base_files():
    """A hierarchy with groups in groups, and arrays of native and of inline chunks."""
    files = {"zarr.json": GROUP, "g/zarr.json": GROUP, "g/h/zarr.json": GROUP}
    files |= {"other/zarr.json": GROUP, "empty/zarr.json": LINE}
    files |= {"g/a/zarr.json": SQUARE, "g/h/deep/zarr.json": LINE, "top/zarr.json": LINE}
    files |= {f"g/a/c/{n}/{m}": b"%d %d" % (n, m) * 200 for n in range(2) for m in range(3)}
    files |= {f"g/h/deep/c/{n}": b"deep %d" % n for n in range(3)}
    files |= {f"top/c/{n}": b"top %d" % n * 100 for n in range(12)}
    return files


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def spec(request):
    return request.param


@pytest.fixture
def repo(tmp_path, spec):
    place = local_place(tmp_path)
    with changing(create(place, spec), "base") as store:
        put_all(store, base_files())
    return tmp_path / "repository"


async def new_nodes(b):
    await b.write_all({"n/c/0": b"n", "n/zarr.json": LINE, "m/zarr.json": GROUP})
    return {"new": ["/m", "/n"], "chunks": [{"path": "/n", "written": 1, "deleted": 0}]}


async def new_metadata(b):
    await b.write("g/zarr.json", GROUP.replace(b"{}", b'{"x":1}'))
    await b.write("top/zarr.json", array_document((40,), (1,), attributes={"y": 2}))
    return {"updated": ["/g", "/top"]}


async def metadata_written_back(b):
    await b.write("g/zarr.json", GROUP)
    await b.write("top/c/0", b"changed")
    return {"chunks": [{"path": "/top", "written": 1, "deleted": 0}]}


async def chunks(b):
    await b.write_all({"top/c/0": b"new", "top/c/39": b"last" * 200})
    await b.unlink("top/c/5")
    await b.remove("g/a/c/1")
    return {
        "chunks": [
            {"path": "/g/a", "written": 0, "deleted": 3},
            {"path": "/top", "written": 2, "deleted": 1},
        ]
    }


async def deletion(b):
    await b.remove("g/h")
    await b.remove("empty")
    return {"deleted": ["/empty", "/g/h", "/g/h/deep"]}


async def group_without_its_zarr_json(b):
    await b.unlink("g/zarr.json")
    return {"deleted": ["/g"]}


async def emptied_and_filled(b):
    await b.clear()
    await b.write_all({"zarr.json": LINE, "c/1": b"one"})
    told = ["/", "/empty", "/g", "/g/a", "/g/h", "/g/h/deep", "/other", "/top"]
    return {
        "new": ["/"],
        "deleted": told,
        "chunks": [{"path": "/", "written": 1, "deleted": 0}],
    }


async def moved_array(b):
    await b.move("top", "up")
    return {"moved": [{"from": "/top", "to": "/up"}]}


async def moved_group(b):
    await b.move("g", "other/g")
    return {
        "moved": [
            {"from": path, "to": f"/other{path}"} for path in ("/g", "/g/a", "/g/h", "/g/h/deep")
        ]
    }


async def swapped(b):
    await b.move("top", "t")
    await b.move("empty", "top")
    await b.move("t", "empty")
    return {"moved": [{"from": "/empty", "to": "/top"}, {"from": "/top", "to": "/empty"}]}


async def swapped_groups(b):
    await b.move("g", "t")
    await b.move("other", "g")
    await b.move("t", "other")
    return {
        "moved": [
            {"from": "/g", "to": "/other"},
            {"from": "/g/a", "to": "/other/a"},
            {"from": "/g/h", "to": "/other/h"},
            {"from": "/g/h/deep", "to": "/other/h/deep"},
            {"from": "/other", "to": "/g"},
        ]
    }


async def rotated(b):
    await b.move("g/a", "t")
    await b.move("top", "g/a")
    await b.move("empty", "top")
    await b.move("t", "empty")
    return {
        "moved": [
            {"from": "/empty", "to": "/top"},
            {"from": "/g/a", "to": "/empty"},
            {"from": "/top", "to": "/g/a"},
        ]
    }


async def parent_and_child_change_places(b):
    await b.move("g/h", "h")
    await b.move("g", "h/g")
    return {
        "moved": [
            {"from": "/g", "to": "/h/g"},
            {"from": "/g/a", "to": "/h/g/a"},
            {"from": "/g/h", "to": "/h"},
            {"from": "/g/h/deep", "to": "/h/deep"},
        ]
    }


async def moved_twice(b):
    await b.move("g", "x")
    await b.move("x/a", "a")
    await b.move("x/h/deep", "x/deep")
    return {
        "moved": [
            {"from": "/g", "to": "/x"},
            {"from": "/g/a", "to": "/a"},
            {"from": "/g/h", "to": "/x/h"},
            {"from": "/g/h/deep", "to": "/x/deep"},
        ]
    }


async def there_and_back(b):
    await b.move("g", "x")
    await b.move("x", "g")
    await b.write("g/h/deep/c/0", b"new")
    return {"chunks": [{"path": "/g/h/deep", "written": 1, "deleted": 0}]}


async def moved_then_written(b):
    await b.move("top", "up")
    await b.write_all({"up/c/0": b"new", "up/c/30": b"more"})
    await b.unlink("up/c/1")
    await b.write("up/zarr.json", array_document((40,), (1,), attributes={"z": 1}))
    return {
        "updated": ["/up"],
        "moved": [{"from": "/top", "to": "/up"}],
        "chunks": [{"path": "/up", "written": 2, "deleted": 1}],
    }


async def written_then_moved(b):
    await b.write_all({"g/a/c/0/0": b"new", "g/n/zarr.json": LINE, "g/n/c/3": b"three"})
    await b.move("g", "x")
    return {
        "new": ["/x/n"],
        "moved": [
            {"from": "/g", "to": "/x"},
            {"from": "/g/a", "to": "/x/a"},
            {"from": "/g/h", "to": "/x/h"},
            {"from": "/g/h/deep", "to": "/x/h/deep"},
        ],
        "chunks": [
            {"path": "/x/a", "written": 1, "deleted": 0},
            {"path": "/x/n", "written": 1, "deleted": 0},
        ],
    }


async def moved_into_a_new_directory(b):
    await b.write("new/zarr.json", GROUP)
    await b.move("top", "new/top")
    await b.make("plain")
    await b.move("g/h", "plain/h")
    return {
        "new": ["/new"],
        "moved": [
            {"from": "/g/h", "to": "/plain/h"},
            {"from": "/g/h/deep", "to": "/plain/h/deep"},
            {"from": "/top", "to": "/new/top"},
        ],
    }


async def moved_out_of_a_deleted_group(b):
    await b.move("g/h/deep", "deep")
    await b.remove("g")
    return {
        "deleted": ["/g", "/g/a", "/g/h"],
        "moved": [{"from": "/g/h/deep", "to": "/deep"}],
    }


async def replaced_by_a_new_one(b):
    await b.remove("top")
    await b.write_all({"top/zarr.json": SQUARE, "top/c/0/1": b"new"})
    return {
        "new": ["/top"],
        "deleted": ["/top"],
        "chunks": [{"path": "/top", "written": 1, "deleted": 0}],
    }


async def moved_and_replaced_by_a_new_one(b):
    await b.move("top", "old")
    await b.write_all({"top/zarr.json": LINE, "top/c/7": b"new"})
    return {
        "new": ["/top"],
        "moved": [{"from": "/top", "to": "/old"}],
        "chunks": [{"path": "/top", "written": 1, "deleted": 0}],
    }


async def replaced_by_another_by_rename(b):
    await b.remove("top")
    await b.move("g/h/deep", "top")
    return {"deleted": ["/top"], "moved": [{"from": "/g/h/deep", "to": "/top"}]}


async def moved_over_an_empty_directory(b):
    await b.make("hollow")
    await b.move("top", "hollow")
    return {"moved": [{"from": "/top", "to": "/hollow"}]}


async def below_an_array(b):
    await b.move("g/h", "top/h")
    return {
        "moved": [
            {"from": "/g/h", "to": "/top/h"},
            {"from": "/g/h/deep", "to": "/top/h/deep"},
        ]
    }


async def array_into_group_by_removal(b):
    await b.remove("top")
    await b.write("top/zarr.json", GROUP)
    await b.move("empty", "top/empty")
    return {
        "new": ["/top"],
        "deleted": ["/top"],
        "moved": [{"from": "/empty", "to": "/top/empty"}],
    }


async def group_into_array_by_removal(b):
    await b.remove("g")
    await b.write_all({"g/zarr.json": LINE, "g/c/0": b"zero"})
    return {
        "new": ["/g"],
        "deleted": ["/g", "/g/a", "/g/h", "/g/h/deep"],
        "chunks": [{"path": "/g", "written": 1, "deleted": 0}],
    }


async def copied(b):
    await b.copy("top", "again")
    return {"copied": [{"from": "/top", "to": "/again"}]}


async def copied_group(b):
    await b.copy("g", "other/g")
    paths = ("/g", "/g/a", "/g/h", "/g/h/deep")
    return {"copied": [{"from": path, "to": f"/other{path}"} for path in paths]}


async def copied_then_written(b):
    await b.copy("top", "again")
    await b.write("again/c/0", b"new")
    await b.unlink("again/c/2")
    await b.write("top/c/1", b"newer")
    return {
        "copied": [{"from": "/top", "to": "/again"}],
        "chunks": [
            {"path": "/again", "written": 1, "deleted": 0},
            {"path": "/top", "written": 1, "deleted": 0},
        ],
    }


async def written_then_copied(b):
    await b.write_all({"g/a/c/0/0": b"new", "g/a/zarr.json": array_document((21, 20), (1, 1))})
    await b.unlink("g/a/c/1/1")
    await b.copy("g/a", "again")
    return {
        "updated": ["/g/a"],
        "copied": [{"from": "/g/a", "to": "/again"}],
        "chunks": [
            {"path": "/again", "written": 1, "deleted": 0},
            {"path": "/g/a", "written": 1, "deleted": 1},
        ],
    }


async def copied_and_the_source_removed(b):
    await b.copy("g/h", "kept")
    await b.remove("g")
    return {
        "deleted": ["/g", "/g/a"],
        "moved": [
            {"from": "/g/h", "to": "/kept"},
            {"from": "/g/h/deep", "to": "/kept/deep"},
        ],
    }


async def copied_into_itself(b):
    await b.copy("g", "g2")
    await b.move("g2", "g/g2")
    await b.copy("g/h", "g/h/h")
    return {
        "copied": [
            {"from": "/g", "to": "/g/g2"},
            {"from": "/g/a", "to": "/g/g2/a"},
            {"from": "/g/h", "to": "/g/g2/h"},
            {"from": "/g/h", "to": "/g/h/h"},
            {"from": "/g/h/deep", "to": "/g/g2/h/deep"},
            {"from": "/g/h/deep", "to": "/g/h/h/deep"},
        ]
    }


async def copied_new_array(b):
    await b.write_all({"n/zarr.json": LINE, "n/c/0": b"n" * 600, "n/c/1": b"m"})
    await b.copy("n", "m")
    await b.write("m/c/0", b"other")
    return {
        "new": ["/m", "/n"],
        "chunks": [
            {"path": "/m", "written": 2, "deleted": 0},
            {"path": "/n", "written": 2, "deleted": 0},
        ],
    }


async def copied_then_moved(b):
    await b.copy("top", "x")
    await b.move("top", "y")
    return {
        "moved": [{"from": "/top", "to": "/y"}],
        "copied": [{"from": "/top", "to": "/x"}],
    }


async def moved_then_copied(b):
    await b.move("g", "x")
    await b.copy("x", "a")
    await b.move("x/a", "b")
    return {
        "moved": [
            {"from": "/g", "to": "/x"},
            {"from": "/g/a", "to": "/b"},
            {"from": "/g/h", "to": "/x/h"},
            {"from": "/g/h/deep", "to": "/x/h/deep"},
        ],
        "copied": [
            {"from": "/g", "to": "/a"},
            {"from": "/g/a", "to": "/a/a"},
            {"from": "/g/h", "to": "/a/h"},
            {"from": "/g/h/deep", "to": "/a/h/deep"},
        ],
    }


async def copy_that_was_moved(b):
    await b.copy("top", "x")
    await b.move("x", "a")
    await b.move("top", "z")
    return {
        "moved": [{"from": "/top", "to": "/z"}],
        "copied": [{"from": "/top", "to": "/a"}],
    }


async def spaces_and_percents(b):
    await b.move("top", "a b%20c")
    await b.move("g/h", "größe")
    return {
        "moved": [
            {"from": "/g/h", "to": "/größe"},
            {"from": "/g/h/deep", "to": "/größe/deep"},
            {"from": "/top", "to": "/a b%20c"},
        ]
    }


SESSIONS = [
    *(new_nodes, new_metadata, metadata_written_back, chunks, deletion),
    *(group_without_its_zarr_json, emptied_and_filled, moved_array, moved_group),
    *(swapped, swapped_groups, rotated, parent_and_child_change_places, moved_twice),
    *(there_and_back, moved_then_written, written_then_moved, moved_into_a_new_directory),
    *(moved_out_of_a_deleted_group, replaced_by_a_new_one, moved_and_replaced_by_a_new_one),
    *(replaced_by_another_by_rename, moved_over_an_empty_directory, below_an_array),
    *(array_into_group_by_removal, group_into_array_by_removal, copied, copied_group),
    *(copied_then_written, written_then_copied, copied_and_the_source_removed),
    *(copied_into_itself, copied_new_array, copied_then_moved, moved_then_copied),
    *(copy_that_was_moved, spaces_and_percents),
]


@pytest.mark.parametrize("change", SESSIONS, ids=lambda change: change.__name__)
async def test_a_session_becomes_the_commit_that_it_means(repo, tmp_path, change):
    async with writing(repo, tmp_path / "state") as branch:
        expected = await change(branch)
        await branch.assert_shows_the_same()
        assert await branch.told() == expected
        await branch.assert_syncs()
        assert await branch.told() == {}
        # The next session starts from there.
        await branch.write("then/zarr.json", GROUP)
        await branch.assert_syncs()
    async with writing(repo, tmp_path / "state") as branch:
        await branch.assert_shows_the_same()
        assert not branch.session.recovered
