"""Change sets that no working tree made: built from nodes and ids alone, then committed."""

import icechunk
import numpy as np
import pytest
from zarr.core.sync import sync

from tests.compat.documents import GROUP, array_document, get, put_all
from tests.repo.driving import official, open_repository, session_keys, zfuse_keys
from tests.repo.editing import official_keys
from zfuse.errors import ConflictError, InvalidInputError, NotAllowedError
from zfuse.format.chunk_ref import InlineRef
from zfuse.format.ids import ChunkId, NodeId, SnapshotId
from zfuse.format.ref_columns import RefColumns
from zfuse.format.snapshot import ArrayNode
from zfuse.format.transaction_log import MoveOperation
from zfuse.repo.array_columns import array_columns
from zfuse.repo.change_set import ChangeSet, DeletedNode, NewNode
from zfuse.repo.chunk_changes import ChunkChanges
from zfuse.repo.commit import has_landed
from zfuse.repo.conflicts import ChunkChoice, ConflictPolicy
from zfuse.repo.documents import document_of, parse_document
from zfuse.repo.new_ids import new_id
from zfuse.repo.session import Session

pytestmark = pytest.mark.compat

LINE, LONGER, SHORTER = (array_document((length,), (1,)) for length in (3, 4, 2))
START = {
    "zarr.json": GROUP,
    "a/zarr.json": LINE,
    **{f"a/c/{n}": b"a%d" % n for n in range(3)},
    "b/zarr.json": LINE,
    **{f"b/c/{n}": b"b%d" % n for n in range(2)},
    "g/zarr.json": GROUP,
    "g/h/zarr.json": GROUP,
    "g/h/x/zarr.json": LINE,
    "g/h/x/c/1": b"x1",
}


@pytest.fixture(params=[1, 2])
def spec_version(request):
    return request.param


@pytest.fixture
def repo(spec_version, tmp_path):
    place = icechunk.local_filesystem_storage(str(tmp_path))
    config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=1)
    repo = icechunk.Repository.create(place, config=config, spec_version=spec_version)
    repo.save_config()
    session = repo.writable_session("main")
    put_all(session.store, START)
    session.commit("start")
    return repo


class Tip:
    """The tip of main, and change sets of it."""

    def __init__(self, repository, snapshot):
        self.repository = repository
        self.snapshot = snapshot
        self.nodes = {node.path: node for node in snapshot.nodes}

    @classmethod
    async def of(cls, directory):
        repository = await open_repository(directory)
        view = await repository.assets.fetch_hierarchy(repository.lookup_branch("main"))
        return cls(repository, view.snapshot)

    def session(self, changes):
        return Session(self.repository, "main", self.snapshot, changes)

    def moves(self, *pairs):
        """Return moves of the single nodes at the first of each pair."""
        nodes = [(self.nodes[source], target) for source, target in pairs]
        return {
            node.id: MoveOperation(node.path, target, node.id, isinstance(node, ArrayNode))
            for node, target in nodes
        }

    def deletion(self, *paths):
        nodes = [self.nodes[path] for path in paths]
        return {node.id: DeletedNode(node.path, isinstance(node, ArrayNode)) for node in nodes}

    def document(self, user_data):
        return parse_document(user_data, spec_version=self.snapshot.spec_version)

    def new(self, entries):
        return {
            new_id(NodeId): NewNode(path, self.document(data)) for path, data in entries.items()
        }


def chunks(entries):
    changes = ChunkChanges()
    for coords, data in entries.items():
        changes.set(coords, None if data is None else InlineRef(data))
    return changes


def renamed(keys, *pairs):
    """Return *keys* with what is below the first of each pair below the second."""
    found = {}
    for key, data in keys.items():
        places = [(s, t) for s, t in pairs if key.startswith(s + "/")]
        source, target = places[0] if places else ("", "")
        found[target + key.removeprefix(source)] = data
    return found


async def committed(directory, tip, changes, expected):
    """Commit *changes* of *tip*; both must read *expected*. Return the official diff."""
    session = tip.session(changes)
    assert await session_keys(session) == expected
    snapshot_id = await session.commit("direct", metadata={"k": 1})
    assert await session_keys(session) == expected
    assert not session.has_changes
    assert not session.changes()
    repo = official(directory)
    assert repo.lookup_branch("main") == str(snapshot_id)
    assert official_keys(repo, str(snapshot_id)) == expected
    assert await zfuse_keys(await open_repository(directory), snapshot_id) == expected
    return repo.diff(from_snapshot_id=str(tip.snapshot.id), to_snapshot_id=str(snapshot_id))


async def test_an_array_moves_and_changes_all_at_once(repo, spec_version, tmp_path):
    tip = await Tip.of(tmp_path)
    array = tip.nodes["/a"].id
    changes = ChangeSet(
        moved=tip.moves(("/a", "/g/z")),
        updated={array: tip.document(LONGER)},
        chunks={array: chunks({(0,): b"new", (1,): None, (3,): b"more"})},
    )
    expected = renamed(START, ("a", "g/z"))
    expected |= {"g/z/zarr.json": LONGER, "g/z/c/0": b"new", "g/z/c/3": b"more"}
    del expected["g/z/c/1"]
    diff = await committed(tmp_path, tip, changes, expected)
    if spec_version > 1:
        assert diff.moved_nodes == [("/a", "/g/z")]
        assert diff.updated_arrays == {"/g/z"}
        assert sorted(diff.updated_chunks["/g/z"]) == [[0], [1], [3]]
        assert not diff.new_arrays | diff.deleted_arrays


async def test_other_nodes_take_the_place_of_deleted_ones(repo, tmp_path):
    tip = await Tip.of(tmp_path)
    changes = ChangeSet(
        deleted=tip.deletion("/a", "/g", "/g/h", "/g/h/x"),
        new=tip.new({"/a": SHORTER, "/g": LINE, "/a/below": GROUP}),
    )
    array = next(i for i, new in changes.new.items() if new.path == "/a")
    changes.chunks = {array: chunks({(1,): b"other"})}
    kept = {key: data for key, data in START.items() if key.startswith(("b/", "zarr"))}
    expected = kept | {"a/zarr.json": SHORTER, "a/c/1": b"other", "g/zarr.json": LINE}
    diff = await committed(tmp_path, tip, changes, expected | {"a/below/zarr.json": GROUP})
    assert (diff.new_arrays, diff.deleted_arrays) == ({"/a", "/g"}, {"/a", "/g/h/x"})
    assert (diff.new_groups, diff.deleted_groups) == ({"/a/below"}, {"/g", "/g/h"})


async def test_nodes_take_the_places_of_each_other(repo, spec_version, tmp_path):
    tip = await Tip.of(tmp_path)
    changes = ChangeSet(moved=tip.moves(("/a", "/b"), ("/b", "/g/h/x"), ("/g/h/x", "/a")))
    expected = renamed(START, ("a", "b"), ("b", "g/h/x"), ("g/h/x", "a"))
    diff = await committed(tmp_path, tip, changes, expected)
    if spec_version > 1:
        assert set(diff.moved_nodes) == {("/a", "/b"), ("/b", "/g/h/x"), ("/g/h/x", "/a")}
    # and the amended commit is as if it had been done at once
    tip = await Tip.of(tmp_path)
    changes = ChangeSet(
        moved=tip.moves(("/a", "/g/h/x"), ("/g/h/x", "/c")), deleted=tip.deletion("/b")
    )
    expected = renamed(START, ("b", "c"))
    expected = {key: data for key, data in expected.items() if not key.startswith("a/")}
    session = tip.session(changes)
    if spec_version == 1:
        with pytest.raises(NotAllowedError):
            await session.amend("not in version 1")
        assert session.has_changes
        return
    chosen = new_id(SnapshotId)
    assert await session.amend("amended", metadata={"k": 2}, snapshot_id=chosen) == chosen
    assert await has_landed(tip.repository, "main", chosen)
    repo = official(tmp_path)
    assert official_keys(repo, repo.lookup_branch("main")) == expected
    start, amended = list(repo.ancestry(branch="main"))[1], repo.lookup_snapshot(str(chosen))
    assert (amended.parent_id, amended.metadata) == (start.id, {"k": 2})
    diff = repo.diff(from_snapshot_id=start.id, to_snapshot_id=str(chosen))
    assert set(diff.moved_nodes) == {("/b", "/c")}
    assert diff.deleted_arrays == {"/a"}


async def test_a_group_moves_with_its_members_and_a_node_is_made_inside(
    repo, spec_version, tmp_path
):
    tip = await Tip.of(tmp_path)
    new = tip.new({"/z/h/new": SHORTER, "/g": LINE})
    inside = next(iter(new))
    member = tip.nodes["/g/h/x"].id
    changes = ChangeSet(
        new=new,
        moved=tip.moves(("/g", "/z"), ("/g/h", "/z/h"), ("/g/h/x", "/z/h/x")),
        chunks={inside: chunks({(0,): b"n0"}), member: chunks({(0,): b"x0"})},
    )
    expected = renamed(START, ("g", "z")) | {"g/zarr.json": LINE, "z/h/x/c/0": b"x0"}
    expected |= {"z/h/new/zarr.json": SHORTER, "z/h/new/c/0": b"n0"}
    diff = await committed(tmp_path, tip, changes, expected)
    if spec_version > 1:
        assert set(diff.moved_nodes) == {("/g", "/z"), ("/g/h", "/z/h"), ("/g/h/x", "/z/h/x")}
        assert diff.new_arrays == {"/z/h/new", "/g"}


async def test_arrays_whose_chunks_did_not_change_after_all(repo, tmp_path):
    tip = await Tip.of(tmp_path)
    array, gone = tip.nodes["/a"], tip.nodes["/b"]
    nothing = ChangeSet(chunks={array.id: ChunkChanges()})
    assert await tip.session(nothing).commit("nothing") is None
    changes = ChangeSet(
        deleted=tip.deletion("/b"), chunks={array.id: ChunkChanges(), gone.id: ChunkChanges()}
    )
    theirs = official(tmp_path).writable_session("main")
    put_all(theirs.store, {"a/zarr.json": LONGER})
    theirs.commit("no conflict")
    expected = {k: data for k, data in START.items() if not k.startswith("b/")}
    tip_id = await tip.session(changes).commit("less")
    assert official_keys(official(tmp_path), str(tip_id)) == expected | {"a/zarr.json": LONGER}
    before = str(tip.snapshot.id)
    diff = repo.diff(from_snapshot_id=before, to_snapshot_id=str(tip_id))
    assert not diff.updated_chunks


# -- on top of others -----------------------------------------------------------------------


def commit_officially(repo, entries):
    session = repo.writable_session("main")
    put_all(session.store, entries)
    return session.commit("theirs")


async def test_what_others_do_to_moved_nodes_goes_along(repo, tmp_path):
    tip = await Tip.of(tmp_path)
    theirs = {"a/c/0": b"theirs", "g/h/late/zarr.json": LINE, "g/h/late/c/2": b"late"}
    commit_officially(repo, theirs | {"b/zarr.json": LONGER, "b/c/3": b"b3"})
    moves = (("a", "b"), ("b", "a"), ("g", "z"))
    nodes = [(f"/{s}", f"/{t}") for s, t in (*moves, ("g/h", "z/h"), ("g/h/x", "z/h/x"))]
    changes = ChangeSet(
        moved=tip.moves(*nodes), chunks={tip.nodes["/a"].id: chunks({(1,): b"ours"})}
    )
    session = tip.session(changes)
    assert await session.rebase()
    expected = renamed(START | theirs | {"b/zarr.json": LONGER, "b/c/3": b"b3"}, *moves)
    expected["b/c/1"] = b"ours"
    assert await session_keys(session) == expected
    tip_id = await session.commit("ours")
    assert official_keys(official(tmp_path), str(tip_id)) == expected


async def test_a_rebase_leaves_the_change_set_it_was_given_alone(repo, tmp_path):
    tip = await Tip.of(tmp_path)
    commit_officially(repo, {"a/c/0": b"theirs"})
    changes = ChangeSet(
        new=tip.new({"/new": GROUP}),
        chunks={tip.nodes["/a"].id: chunks({(0,): b"ours", (1,): b"ours"})},
    )
    session = tip.session(changes)
    with pytest.raises(ConflictError):
        await session.commit("fails")
    assert await session.rebase(ConflictPolicy(ChunkChoice.THEIRS))
    await session.set_metadata("/later", GROUP)
    assert [new.path for new in changes.new.values()] == ["/new"]
    assert changes.chunk(tip.nodes["/a"].id, (0,)) == InlineRef(b"ours")
    shown = await session_keys(session)
    assert (shown["a/c/0"], shown["a/c/1"]) == (b"theirs", b"ours")
    await session.commit("rebased")
    assert official_keys(official(tmp_path), str(session.base.id)) == shown


async def test_changes_in_conflict_go_to_a_new_branch(repo, tmp_path):
    tip = await Tip.of(tmp_path)
    theirs = commit_officially(repo, {"a/c/0": b"theirs"})
    array = tip.nodes["/a"].id
    changes = ChangeSet(
        moved=tip.moves(("/a", "/z")), chunks={array: chunks({(0,): b"ours"})}, updated={}
    )
    session = tip.session(changes)
    with pytest.raises(ConflictError):
        await session.commit("fails")
    await session.branch_off("mine")
    mine = await session.commit("mine")
    found = official(tmp_path)
    assert found.lookup_branch("main") == theirs
    assert found.lookup_branch("mine") == str(mine)
    assert official_keys(found, str(mine)) == renamed(START, ("a", "z")) | {"z/c/0": b"ours"}


# -- many references ------------------------------------------------------------------------


def objects(directory):
    kinds = ("chunks", "manifests")
    return {path for kind in kinds for path in (directory / kind).iterdir()}


async def many_references(directory, shape):
    """Commit an array ``/g/many`` whose every chunk is a byte of one object; return the tip."""
    tip = await Tip.of(directory)
    count = int(np.prod(shape))
    chunk_id = new_id(ChunkId)
    await tip.repository.assets.store_chunk(chunk_id, bytes(range(251)) * (count // 251 + 1))
    coords = np.indices(shape, np.uint32).reshape(len(shape), count).T
    ids = np.tile(np.frombuffer(bytes(chunk_id), np.uint8), (count, 1))
    ones = np.ones(count, np.uint64)
    columns = RefColumns.native(np.ascontiguousarray(coords), ids, ones, ones.cumsum() - ones)
    new = tip.new({"/g/many": array_document(shape, [1] * len(shape))})
    many = ChunkChanges()
    many.set_many(columns)
    await tip.session(ChangeSet(new=new, chunks=dict.fromkeys(new, many))).commit("many")
    return await Tip.of(directory)


async def test_a_copy_of_many_references_stores_no_chunk(repo, tmp_path):
    tip = await many_references(tmp_path, (100_000,))
    source = tip.nodes["/g/many"]
    before = objects(tmp_path)
    copy = new_id(NodeId)
    changes = ChangeSet(new={copy: NewNode("/copy", document_of(source))})
    for columns in await array_columns(tip.repository.assets, source, ()):
        changes.chunks_of(copy).set_many(columns)
    changes.set_chunk(copy, (7,), InlineRef(b"!"))
    await tip.session(changes).commit("copied")
    (manifest,) = objects(tmp_path) - before
    assert manifest.parent.name == "manifests"
    expected, found = references(tmp_path, "/g/many"), references(tmp_path, "/copy")
    assert len(expected) == 100_000
    assert found == expected | {(7,): (INLINE, "", 0, 1)}


INLINE = 3


def references(directory, path):
    """Return what the official library knows of every chunk of an array: kind, place, range."""
    store = official(directory).readonly_session("main").store

    async def collect():
        found = {}
        async for coords, *columns, _ in store.array_chunk_iterator(path):
            places = zip(*(list(column) for column in columns), strict=True)
            found |= zip(map(tuple, coords.tolist()), places, strict=True)
        return found

    return sync(collect())


async def test_an_array_of_a_million_references_moves_without_any(tmp_path):
    place = icechunk.local_filesystem_storage(str(tmp_path))
    repo = icechunk.Repository.create(place)
    session = repo.writable_session("main")
    put_all(session.store, START)
    session.commit("start")
    tip = await many_references(tmp_path, (1000, 1000))
    before = objects(tmp_path)
    nodes = [path for path in tip.nodes if path == "/g" or path.startswith("/g/")]
    changes = ChangeSet(moved=tip.moves(*((path, "/z" + path) for path in nodes)))
    await tip.session(changes).commit("moved")
    assert objects(tmp_path) == before
    moved = (await Tip.of(tmp_path)).nodes["/z/g/many"]
    assert moved.manifests == tip.nodes["/g/many"].manifests
    repo = official(tmp_path)
    store = repo.readonly_session("main").store
    assert [sync(get(store, f"z/g/many/c/0/{n}")) for n in (0, 250, 251)] == [b"\0", b"\xfa", b"\0"]
    before, after = (info.id for info in list(repo.ancestry(branch="main"))[1::-1])
    diff = repo.diff(from_snapshot_id=before, to_snapshot_id=after)
    assert set(diff.moved_nodes) == {(path, "/z" + path) for path in nodes}
    assert not diff.updated_chunks


# -- what can be no change of that version --------------------------------------------------


def stranger():
    return new_id(NodeId)


FAULTS = {
    "updated stranger": lambda t: ChangeSet(updated={stranger(): t.document(LINE)}),
    "deleted stranger": lambda t: ChangeSet(deleted={stranger(): DeletedNode("/a", True)}),
    "chunks of a stranger": lambda t: ChangeSet(chunks={stranger(): chunks({(0,): b"x"})}),
    "chunks of a group": lambda t: ChangeSet(chunks={t.nodes["/g"].id: chunks({(0,): b"x"})}),
    "new though there": lambda t: ChangeSet(
        new={t.nodes["/a"].id: NewNode("/n", t.document(LINE))}
    ),
    "deleted and moved": lambda t: ChangeSet(deleted=t.deletion("/a"), moved=t.moves(("/a", "/n"))),
    "deleted and filled": lambda t: ChangeSet(
        deleted=t.deletion("/a"), chunks={t.nodes["/a"].id: chunks({(0,): b"x"})}
    ),
    "an array turns into a group": lambda t: ChangeSet(
        updated={t.nodes["/a"].id: t.document(GROUP)}
    ),
    "deleted elsewhere": lambda t: ChangeSet(deleted={t.nodes["/a"].id: DeletedNode("/b", True)}),
    "deleted as another kind": lambda t: ChangeSet(
        deleted={t.nodes["/a"].id: DeletedNode("/a", False)}
    ),
    "moved from elsewhere": lambda t: ChangeSet(
        moved={t.nodes["/a"].id: MoveOperation("/b", "/n", t.nodes["/a"].id, True)}
    ),
    "moved nowhere": lambda t: ChangeSet(moved=t.moves(("/a", "/a"))),
    "moved onto another": lambda t: ChangeSet(moved=t.moves(("/a", "/b"))),
    "two moved to one path": lambda t: ChangeSet(moved=t.moves(("/a", "/n"), ("/b", "/n"))),
    "new at the path of another": lambda t: ChangeSet(new=t.new({"/a": GROUP})),
    "new at no path": lambda t: ChangeSet(new=t.new({"/a//b": GROUP})),
}


@pytest.mark.parametrize("spec_version", [2])
@pytest.mark.parametrize("fault", FAULTS)
async def test_changes_of_another_version_are_refused(fault, repo, tmp_path):
    tip = await Tip.of(tmp_path)
    with pytest.raises(InvalidInputError, match="these changes can not be committed: "):
        await tip.session(FAULTS[fault](tip)).commit("refused")
    found = official(tmp_path)
    assert found.lookup_branch("main") == str(tip.snapshot.id)
