"""What stands in the way of a commit, and what is left alone by it."""

import json

import pytest
import trio
import trio.testing

from tests.compat.documents import GROUP, V2_DOT, array_document, put_all
from tests.compat.place import changing, create, local_place
from tests.fs.branches import writing
from zfuse.errors import BusyError
from zfuse.fs.sync_request import InvalidChangesError

LINE = array_document((40,), (1,))
SQUARE = array_document((20, 20), (1, 1))
RECTILINEAR = array_document(
    (4,),
    (1,),
    chunk_grid={"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": [2]}},
)


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def spec(request):
    return request.param


@pytest.fixture
def repo(tmp_path, spec):
    place = local_place(tmp_path)
    with changing(create(place, spec), "base") as store:
        put_all(store, {"zarr.json": GROUP, "g/zarr.json": GROUP, "line/zarr.json": LINE})
        put_all(store, {f"line/c/{n}": b"line %d" % n * 100 for n in range(5)})
    return tmp_path / "repository"


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


INVALID = {
    "outside": ({"line/c/40": b"x"}, "outside of the array, which has 40 chunks"),
    "far": ({"line/c/4000000000": b"x"}, "outside"),
    "no bytes": ({"line/c/1": b""}, "no bytes"),
    "rank": ({"line/c/7/7": b"x"}, "its index has 2 numbers, but the array has 1 dimensions"),
    "rank of new": ({"n/zarr.json": SQUARE, "n/c/7": b"x"}, "has 1 numbers"),
    "not json": ({"g/zarr.json": b'{"zarr_format":3,'}, "it is not JSON"),
    "empty": ({"g/zarr.json": b""}, "it is not JSON"),
    "list": ({"g/zarr.json": b"[]"}, "not a JSON object"),
    "nan": ({"g/zarr.json": GROUP.replace(b"{}", b'{"x":NaN}')}, 'writes "NaN", in quotes'),
    "bytes": ({"g/zarr.json": GROUP.replace(b"{}", b'"\xff"')}, "not UTF-8"),
    "v2": ({"n/zarr.json": b'{"zarr_format":2}'}, "zarr_format"),
    "no type": ({"n/zarr.json": b'{"zarr_format":3}'}, "neither array nor group"),
    "names": (
        {"n/zarr.json": array_document((4,), (1,), dimension_names=["x", "y"])},
        "2 dimension_names",
    ),
    "zero chunk": ({"n/zarr.json": array_document((4,), (0,))}, "the length 0"),
    "chunk rank": ({"n/zarr.json": array_document((4,), (1, 1))}, "chunk_shape has 2 dimensions"),
    "negative": ({"n/zarr.json": array_document((-4,), (1,))}, "length -4"),
    "too many": ({"n/zarr.json": array_document((2**33,), (1,))}, "Icechunk holds 4294967295"),
    "grid": ({"n/zarr.json": array_document((4,), (1,), chunk_grid={})}, "no configuration"),
    "into group": ({"line/zarr.json": GROUP}, "there is an array here"),
    "into array": ({"g/zarr.json": LINE}, "there is a group here"),
    "rank of old": ({"line/zarr.json": SQUARE}, "chunks are left"),
    "encoding": (
        {"line/zarr.json": array_document((40,), (1,), chunk_key_encoding=V2_DOT)},
        "chunks are left",
    ),
    "name": ({"\udcff/zarr.json": GROUP}, "can not hold the name"),
    "name above": ({"\udcff/n/zarr.json": LINE, "\udcff/n/c/0": b"x"}, "can not hold the name"),
    "dots": ({"%2E%2E/zarr.json": GROUP}, "can not hold the name"),
    "slash": ({"a%2Fb/zarr.json": GROUP}, "can not hold the name"),
    "empty name": ({"%/zarr.json": GROUP}, "can not hold the name"),
}


@pytest.mark.parametrize("name", INVALID)
async def test_what_can_not_be_committed_stands_in_the_way(repo, state, name):
    files, reason = INVALID[name]
    async with writing(repo, state) as b:
        tip = b.official().lookup_branch("main")
        before = {path: data for path, data in b.files().items() if path in files}
        await b.write("fine/zarr.json", GROUP)
        await b.write_all(files)
        invalid = (await b.told())["invalid"]
        assert {told["path"].lstrip("/") for told in invalid} <= files.keys()
        assert any(reason in told["reason"] for told in invalid), invalid
        for _ in range(2):
            with pytest.raises(InvalidChangesError) as caught:
                await b.sync()
            assert [p.path for p in caught.value.problems] == [told["path"] for told in invalid]
            assert reason in str(caught.value)
            assert b.official().lookup_branch("main") == tip
            await b.assert_shows_the_same()
        for path in files:
            if path in before:
                await b.write(path, before[path])
            else:
                await b.unlink(path)
        assert await b.told() == {"new": ["/fine"]} | _touched(files)
        await b.assert_syncs()


def _touched(files):
    if "line/c/1" in files:
        return {"chunks": [{"path": "/line", "written": 1, "deleted": 0}]}
    return {}


async def test_every_offender_is_named(repo, state):
    async with writing(repo, state) as b:
        await b.write_all({f"line/c/{n}": b"x" for n in range(40, 60)})
        await b.write_all({"g/zarr.json": b"", "n/zarr.json": b"{"})
        with pytest.raises(InvalidChangesError, match="and 17 more") as caught:
            await b.sync()
        paths = {f"/line/c/{n}" for n in range(40, 60)} | {"/g/zarr.json", "/n/zarr.json"}
        assert {problem.path for problem in caught.value.problems} == paths


async def test_a_rectilinear_grid_needs_version_2(repo, state, spec):
    async with writing(repo, state) as b:
        await b.write_all({"n/zarr.json": RECTILINEAR, "n/c/1": b"one"})
        if spec == 1:
            with pytest.raises(InvalidChangesError, match="version 1 can not hold a rectilinear"):
                await b.sync()
        else:
            await b.assert_syncs()


@pytest.mark.parametrize("copies", [False, True], ids=["moved", "copied"])
async def test_chunks_are_left_behind_by_no_change_of_rank(repo, state, copies):
    async with writing(repo, state) as b:
        await (b.copy if copies else b.move)("line", "n")
        await b.write("n/zarr.json", SQUARE)
        with pytest.raises(InvalidChangesError, match=r"/n/zarr.json: chunks are left"):
            await b.sync()
        await b.remove("n/c")
        await b.write("n/c/1/1", b"new")
        await b.assert_syncs()


async def test_a_name_that_no_node_can_have_stands_in_the_way_of_a_move(repo, state):
    async with writing(repo, state) as b:
        await b.move("line", "%2E")
        assert (await b.told())["invalid"] == [
            {"path": "/%2E", "reason": "Icechunk can not hold the name of its node"}
        ]
        await b.move("%2E", "%zz")
        await b.assert_syncs()


UNTRACKED = [
    *(".zgroup", "g/.zarray", "g/.zattrs", "line/.zarray", "line/.zattrs", "line/0.0"),
    *("line/c/.0.partial", "line/c/0.1f2e.partial", "line/c/0.__lock", "notes.txt", "g/c/0"),
    *("line/c/x/0", "line/c/01", "line/c/-1", "new/c/0", ".DS_Store", "line/c/0~", "g/Zarr.json"),
    "line/c/\udcff",
]


async def test_what_is_not_zarr_is_left_alone(repo, state):
    async with writing(repo, state) as b:
        await b.write_all({path: path.encode("utf-8", "surrogateescape") for path in UNTRACKED})
        assert await b.told() == {"untracked": sorted(f"/{path}" for path in UNTRACKED)}
        assert (await b.sync()).snapshot_id is None
        await b.write("line/c/0", b"new")
        await b.assert_syncs(UNTRACKED)
        assert b.session.has_changes
    async with writing(repo, state) as b:
        await b.assert_shows_the_same()
        await b.move("g", "h")
        await b.write("new/zarr.json", LINE)
        left = sorted({*UNTRACKED, "h/.zarray", "h/.zattrs", "h/c/0", "h/Zarr.json"})
        left = [path for path in left if not path.startswith(("g/", "new/"))]
        await b.assert_syncs(left)


async def test_untracked_files_of_what_was_removed_are_gone(repo, state):
    async with writing(repo, state) as b:
        await b.write("g/notes", b"n")
        await b.assert_sync_does_nothing()
        await b.remove("g")
        await b.assert_syncs()
        assert not b.session.has_changes


async def test_an_empty_directory_is_nothing_to_commit_and_stays(repo, state):
    async with writing(repo, state) as b:
        await b.make("hollow/inner")
        await b.assert_sync_does_nothing()
        await b.write("line/c/0", b"new")
        await b.assert_syncs()
        assert {"hollow", "hollow/inner"} <= (await b.tree()).directories


async def open_for_writing(b, path, data):
    above = await b.make(path.rpartition("/")[0])
    file = await above.create(path.rpartition("/")[2], 0o644, exclusive=False)
    content = await file.open()
    await content.write(0, data)
    return content


async def test_open_files_are_named_and_left(repo, state):
    async with writing(repo, state) as b:
        chunk = await open_for_writing(b, "line/c/0", b"half")
        document = await open_for_writing(b, "n/zarr.json", LINE[:20])
        await b.write_all({"n/c/0": b"n", "line/c/1": b"new"})
        told = await b.told()
        assert told == {
            "chunks": [{"path": "/line", "written": 1, "deleted": 0}],
            "untracked": ["/n/c/0"],
            "open_files": ["/line/c/0", "/n/zarr.json"],
        }
        outcome = await b.sync()
        assert outcome.summary["open_files"] == ["/line/c/0", "/n/zarr.json"]
        b.assert_committed(["n/c/0"])  # the plain directory has no half of a file
        await chunk.write(4, b" and half")
        chunk.close()
        await document.write(20, LINE[20:])
        document.close()
        (b.shadow / "line/c/0").write_bytes(b"half and half" + b"line 0" * 100)
        (b.shadow / "n/zarr.json").write_bytes(LINE)
        data = (await b.read("line/c/0"))[:13]
        assert data == b"half and half"
        (b.shadow / "line/c/0").write_bytes(await b.read("line/c/0"))
        await b.assert_syncs()


async def test_who_has_a_copy_of_a_closed_descriptor_writes_on(repo, state):
    async with writing(repo, state) as b:
        half = await open_for_writing(b, "line/c/0", b"half")
        half.flush()  # as when a process that inherited it ends
        assert (await b.told())["open_files"] == ["/line/c/0"]
        outcome = await b.sync()
        assert outcome.snapshot_id is None
        assert outcome.summary["open_files"] == ["/line/c/0"]
        with pytest.raises(BusyError, match="being written"):
            await b.session.copy(("line",), ("copy",))
        await half.truncate(0)
        await half.write(0, b"whole")
        half.flush()
        half.close()
        (b.shadow / "line/c/0").write_bytes(b"whole")
        await b.assert_syncs()


async def test_a_sync_knows_what_was_closed_before_though_the_kernel_tells_it_later(
    repo, state, monkeypatch
):
    monkeypatch.setattr("zfuse.fs.kept_session._LOOK_EVERY_S", 0.02)
    async with writing(repo, state) as b:
        content = await open_for_writing(b, "line/c/40", b"outside")
        content.flush()

        async def release():
            await trio.testing.wait_all_tasks_blocked()
            content.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(release)
            with pytest.raises(InvalidChangesError, match="outside"):
                await b.sync()


async def test_files_that_a_death_interrupted_are_written_anew_or_discarded(repo, state):
    async with writing(repo, state) as b:
        await open_for_writing(b, "line/c/0", b"half")
        await open_for_writing(b, "line/c/1", b"half")
        await open_for_writing(b, "g/.partial", b"half")
        await open_for_writing(b, "g/zarr.json", b"{")
    async with writing(repo, state) as b:
        assert b.session.recovered
        told = await b.told()
        paths = [each["path"] for each in told["invalid"]]
        assert paths == ["/g/zarr.json", "/line/c/0", "/line/c/1"]
        assert "interrupted" in json.dumps(told["invalid"])
        assert told["untracked"] == ["/g/.partial"]
        with pytest.raises(InvalidChangesError, match="interrupted"):
            await b.sync()
        await b.write("line/c/0", b"whole")
        await b.session.discard([("line", "c", "1"), ("g",)])
        await b.assert_syncs()
