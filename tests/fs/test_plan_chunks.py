"""What sessions mean for the chunks of arrays, under every way to name them."""

import numpy as np
import pytest
import zarr

from tests.compat.documents import DOT, GROUP, V2_DOT, V2_SLASH, array_document, put_all
from tests.compat.place import changing, create, local_place
from tests.fs.branches import writing
from zfuse.fs.sync_request import InvalidChangesError

LINE = array_document((40,), (1,))
SQUARE = array_document((20, 20), (1, 1))
SUFFIX = {
    "name": "suffix",
    "configuration": {"suffix": ".bin", "base_encoding": {"name": "default"}},
}
PREFIX = {
    "name": "prefix",
    "configuration": {"prefix": "data/p", "base_encoding": {"name": "v2"}},
}
SLASH = {"name": "default"}
ENCODINGS = {
    "slash": (SLASH, "c/{}/{}", "c"),
    "dot": (DOT, "c.{}.{}", "c"),
    "v2": (V2_DOT, "{}.{}", "0"),
    "v2-slash": (V2_SLASH, "{}/{}", "0"),
    "suffix": (SUFFIX, "c/{}/{}.bin", "c.bin"),
    "prefix": (PREFIX, "data/p{}.{}", "data/p0"),
}


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def repo(tmp_path, request):
    place = local_place(tmp_path)
    with changing(create(place, request.param), "base") as store:
        put_all(store, {"zarr.json": GROUP, "line/zarr.json": LINE, "square/zarr.json": SQUARE})
        put_all(store, {f"line/c/{n}": b"line %d" % n * 100 for n in range(12)})
        put_all(store, {f"square/c/{n}/{m}": b"%d %d" % (n, m) for n in range(3) for m in range(3)})
        put_all(store, {"scalar/zarr.json": array_document((), ()), "scalar/c": b"s"})
    return tmp_path / "repository"


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.mark.parametrize("name", ENCODINGS)
async def test_chunks_are_known_by_every_encoding(repo, state, name):
    encoding, pattern, scalar = ENCODINGS[name]
    async with writing(repo, state) as b:
        await b.write("n/zarr.json", array_document((4, 4), (1, 1), chunk_key_encoding=encoding))
        for n in range(3):
            await b.write("n/" + pattern.format(n, 3 - n), b"%d" % n * 600)
        await b.write("s/zarr.json", array_document((), (), chunk_key_encoding=encoding))
        await b.write(f"s/{scalar}", b"scalar")
        await b.assert_syncs()
        await b.write("n/" + pattern.format(0, 3), b"again")
        await b.unlink("n/" + pattern.format(1, 2))
        await b.move("n/" + pattern.format(2, 1), "n/" + pattern.format(2, 2))
        await b.unlink(f"s/{scalar}")
        await b.move("n", "m")
        assert await b.told() == {
            "moved": [{"from": "/n", "to": "/m"}],
            "chunks": [
                {"path": "/m", "written": 2, "deleted": 2},
                {"path": "/s", "written": 0, "deleted": 1},
            ],
        }
        await b.assert_syncs()


async def test_shards_strings_and_grids_come_from_files_as_zarr_wrote_them(tmp_path, state):
    source = zarr.open_group(tmp_path / "plain", mode="w")
    shards = source.create_array("shards", shape=(64,), chunks=(4,), shards=(16,), dtype="i4")
    shards[:40] = np.arange(40)
    source.create_array("words", shape=(3,), chunks=(2,), dtype="U5")[:] = ["a", "bc", "def"]
    source.create_array("point", shape=(), dtype="f8")[...] = 2.5
    source.create_array("none", shape=(0, 3), chunks=(1, 1), dtype="u1")
    create(local_place(tmp_path), 2)
    async with writing(tmp_path / "repository", state) as b:
        for path in sorted((tmp_path / "plain").rglob("*"), reverse=True):  # chunks come first
            if path.is_file():
                await b.write(str(path.relative_to(tmp_path / "plain")), path.read_bytes())
        await b.assert_syncs()
        store = b.official().readonly_session(branch="main").store
        read = zarr.open_group(store, mode="r")
        assert read["shards"][:].tolist() == [*range(40), *[0] * 24]
        assert read["words"][:].tolist() == ["a", "bc", "def"]
        assert read["point"][...] == 2.5


async def renamed_chunk(b):
    await b.move("line/c/0", "line/c/30")
    await b.move("line/c/1", "line/c/2")


async def renamed_directory_of_chunks(b):
    await b.move("square/c/0", "square/c/5")
    await b.move("square/c/2", "square/c/0")


async def renamed_and_written(b):
    await b.move("square/c/0", "square/c/5")
    await b.write("square/c/5/1", b"written")
    await b.unlink("square/c/5/2")
    await b.write("square/c/0/7", b"new")


async def written_and_renamed(b):
    await b.write("square/c/0/1", b"written")
    await b.unlink("square/c/0/2")
    await b.move("square/c/0", "square/c/9")


async def swapped_directories_of_chunks(b):
    await b.move("square/c/0", "square/t")
    await b.move("square/c/1", "square/c/0")
    await b.move("square/t", "square/c/1")


async def chunks_of_another_array(b):
    await b.copy("square/c/0", "line/t")
    await b.remove("line/c")
    await b.move("line/t", "line/c")


async def copied_chunks(b):
    await b.copy("square/c/0", "square/c/8")
    await b.copy("line/c/0", "line/c/33")
    await b.link("line/c/1", "line/c/34")


async def all_chunks_into_a_new_array(b):
    await b.write("n/zarr.json", SQUARE)
    await b.move("square/c", "n/c")


async def rank_changed(b):
    await b.remove("line/c")
    await b.write("line/zarr.json", array_document((4, 4), (1, 1)))
    await b.write("line/c/1/2", b"two")


async def scalar_becomes_a_line(b):
    await b.unlink("scalar/c")
    await b.write_all({"scalar/zarr.json": LINE, "scalar/c/0": b"zero"})


async def line_becomes_a_scalar(b):
    await b.remove("line/c")
    await b.write_all({"line/zarr.json": array_document((), ()), "line/c": b"scalar"})


async def encoding_changed(b):
    await b.remove("line/c")
    await b.write("line/zarr.json", array_document((40,), (1,), chunk_key_encoding=V2_DOT))
    await b.write("line/5", b"five")


async def grown(b):
    await b.write("line/zarr.json", array_document((400,), (1,)))
    await b.write("line/c/399", b"last")


async def shrunk(b):
    for n in range(5, 12):
        await b.unlink(f"line/c/{n}")
    await b.write("line/zarr.json", array_document((5,), (1,)))


async def deleted_and_written_again(b):
    await b.unlink("line/c/0")
    await b.write("line/c/0", b"again")
    await b.remove("square/c")
    await b.write("square/c/1/1", b"again")


async def moved_and_rank_changed(b):
    await b.move("line", "other")
    await b.remove("other/c")
    await b.write_all({"other/zarr.json": SQUARE, "other/c/3/3": b"three"})


async def chunk_moved_to_an_array_and_its_array_removed(b):
    await b.move("square/c/1", "square/c/4")
    await b.move("line/c/3", "square/c/4/9")
    await b.remove("line")


CHANGES = [
    *(renamed_chunk, renamed_directory_of_chunks, renamed_and_written, written_and_renamed),
    *(swapped_directories_of_chunks, chunks_of_another_array, copied_chunks),
    *(all_chunks_into_a_new_array, rank_changed, scalar_becomes_a_line, line_becomes_a_scalar),
    *(encoding_changed, grown, shrunk, deleted_and_written_again, moved_and_rank_changed),
    chunk_moved_to_an_array_and_its_array_removed,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_chunks_are_committed_as_they_are_shown(repo, state, change):
    async with writing(repo, state) as b:
        await change(b)
        await b.assert_shows_the_same()
        await b.assert_syncs()
        assert await b.told() == {}
        await b.write("line2/zarr.json", LINE)
        await b.assert_syncs()


async def test_moves_and_copies_store_no_chunk(repo, state):
    async with writing(repo, state) as b:
        await b.move("line", "moved")
        await b.move("square/c/0", "square/c/7")
        await b.copy("moved", "copy")
        await b.move("moved/c/0", "moved/c/20")
        b.driven.storage.reset()
        outcome = await b.assert_syncs()
        assert outcome.chunks_stored == 0
        assert not [key for key in b.driven.storage.keys("put") if key.startswith("chunks/")]


NOT_CHUNKS_ANY_MORE = [
    ("square/c", "square/old"),
    ("square/c/0", "square/old"),
    ("square/c/0", "backup"),
    ("square/c", "line/c/0/x"),
]


@pytest.mark.parametrize(("source", "target"), NOT_CHUNKS_ANY_MORE)
async def test_chunks_that_would_be_nobodys_stand_in_the_way(repo, state, source, target):
    async with writing(repo, state) as b:
        if target.startswith("line/c"):
            await b.unlink("line/c/0")
            await b.make("line/c/0")
        await b.move(source, target)
        await b.assert_shows_the_same()
        with pytest.raises(InvalidChangesError, match=f"/{target}") as caught:
            await b.sync()
        assert "no array" in str(caught.value)
        await b.assert_shows_the_same()
        await b.remove(target)
        await b.assert_syncs()


async def test_a_chunk_that_is_nobodys_stays_where_it_is(repo, state):
    async with writing(repo, state) as b:
        await b.move("line/c/0", "line/old chunk")
        await b.move("line/c/1", "aside")
        await b.assert_syncs(["line/old chunk", "aside"])
    async with writing(repo, state) as b:
        assert b.session.recovered
        await b.assert_shows_the_same()
        assert await b.read("aside") == b"line 1" * 100


INNER = array_document((4,), (1,))


@pytest.fixture
def nested(tmp_path):
    """Arrays that have nodes in the directories of their chunks."""
    with changing(create(local_place(tmp_path), 2), "base") as store:
        put_all(store, {"zarr.json": GROUP, "line/zarr.json": LINE, "line/c/zarr.json": GROUP})
        put_all(store, {f"line/c/{n}": b"line %d" % n for n in range(3)})
        put_all(store, {"square/zarr.json": SQUARE, "square/c/1/zarr.json": INNER})
        put_all(store, {f"square/c/1/{n}": b"%d" % n for n in range(3)})
        put_all(store, {"square/c/1/c/0": b"inner", "square/c/0/0": b"outer"})
    return tmp_path / "repository"


async def written_around_a_node(b):
    await b.write_all({"line/c/0": b"new", "square/c/1/1": b"new", "square/c/1/c/1": b"inner new"})


async def removed_around_a_node(b):
    await b.unlink("line/c/0")
    await b.unlink("square/c/1/2")


async def removed_with_the_node(b):
    await b.remove("line/c")
    await b.remove("square/c/1")


async def moved_with_the_node(b):
    await b.move("square/c/1", "square/c/5")
    await b.write("square/c/5/0", b"new")


async def node_put_around_chunks(b):
    await b.write("square/c/0/zarr.json", INNER)
    await b.write("square/c/0/1", b"outer new")


NESTED = [
    *(written_around_a_node, removed_around_a_node, removed_with_the_node, moved_with_the_node),
    node_put_around_chunks,
]


@pytest.mark.parametrize("change", NESTED, ids=lambda change: change.__name__)
async def test_nodes_below_chunks_leave_them_to_their_array(nested, state, change):
    async with writing(nested, state) as b:
        await change(b)
        await b.assert_shows_the_same()
        await b.assert_syncs()
