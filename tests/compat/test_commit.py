"""Commits by zfuse, judged by the official library: it reads, diffs, and goes on from them."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import icechunk
import numpy as np
import pytest
import trio
import zarr
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.compat.documents import array_document, put
from tests.repo.driving import (
    edit_session,
    official,
    open_repository,
    open_session,
    session_keys,
    zfuse_keys,
)
from tests.repo.editing import EDITS, Edit, base_edits, edit_officially, official_keys
from zfuse.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from zfuse.format.ids import SnapshotId
from zfuse.format.snapshot import ArrayNode, Snapshot
from zfuse.repo.catch_up import BranchConflictError

pytestmark = pytest.mark.compat

SETTINGS = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
PATHS = st.sampled_from(["/", "/g", "/g/a", "/g/h", "/a", "/a/k", "/b", "/x", "/g/x"])
MOVES = st.tuples(PATHS, PATHS)
EDIT_LISTS = st.lists(EDITS, max_size=5)
TURNS = st.one_of(
    st.tuples(st.just("zfuse"), EDIT_LISTS),
    st.tuples(st.just("official"), EDIT_LISTS),
    st.tuples(st.just("both"), EDIT_LISTS, EDIT_LISTS),
    st.tuples(st.just("zfuse moves"), st.lists(st.one_of(EDITS, MOVES), max_size=5)),
    st.tuples(st.just("official moves"), st.lists(MOVES, max_size=3)),
    st.tuples(st.just("zfuse amends"), st.lists(st.one_of(EDITS, MOVES), max_size=4)),
    st.tuples(st.just("official amends"), EDIT_LISTS),
    st.tuples(st.just("maintenance"), st.sampled_from(["rewrite", "expire", "collect"])),
)


def config():
    """Return settings under which a few chunks make a few manifests, and the ops log pages."""
    split = icechunk.ManifestSplittingConfig.from_dict(
        {
            icechunk.ManifestSplitCondition.path_matches("a$"): {
                icechunk.ManifestSplitDimCondition.Axis(0): 2
            }
        }
    )
    return icechunk.RepositoryConfig(
        inline_chunk_threshold_bytes=1,
        manifest=icechunk.ManifestConfig(splitting=split),
        num_updates_per_repo_info_file=4,
    )


async def start(directory, spec_version):
    """Make a repository with both: its settings come from the one, the first commit from zfuse."""
    place = icechunk.local_filesystem_storage(str(directory))
    repo = icechunk.Repository.create(place, config=config(), spec_version=spec_version)
    repo.save_config()
    session = await open_session(directory)
    await edit_session(session, base_edits())
    await session.commit("base")


@SETTINGS
@given(st.lists(TURNS, max_size=7), st.sampled_from([1, 2]))
def test_zfuse_and_the_official_library_take_turns(turns, spec_version):
    async def main():
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            await start(directory, spec_version)
            for turn in turns:
                await take(directory, turn, spec_version)
                # In version 1 nobody knows any more what came from snapshots that expired.
                lost = spec_version == 1 and ("maintenance", "expire") in turns
                await check(directory, has_logs=not lost)

    trio.run(main)


async def check(directory, *, has_logs):
    """Both read the same from the tip, and the official library follows its history."""
    repo = official(directory)
    repository = await open_repository(directory)
    tip = repository.lookup_branch("main")
    assert str(tip) == repo.lookup_branch("main")
    assert await zfuse_keys(repository, tip) == official_keys(repo, str(tip))
    history = [info.id for info in repo.ancestry(branch="main")]
    ours = [str(info.id) async for info in repository.ancestry(tip)]
    assert history == ours
    if has_logs and len(history) > 1:
        check_diff(repo, history[1], history[0])
    if repo.spec_version > 1:
        kinds = [type(update.kind).__name__ for update in repo.ops_log()]
        assert kinds[-1] == "RepoInitialized"
        assert len(kinds) == len([u async for u in repository.updates()])


def check_diff(repo, before, after):
    diff = repo.diff(from_snapshot_id=before, to_snapshot_id=after)
    old, new = (
        {"/" + key.removesuffix("zarr.json").rstrip("/") for key in official_keys(repo, s)}
        for s in (before, after)
    )
    old, new = ({p for p in paths if "/c/" not in p} for paths in (old, new))
    created, deleted = diff.new_groups | diff.new_arrays, diff.deleted_groups | diff.deleted_arrays
    sources, targets = ({move[n] for move in diff.moved_nodes} for n in (0, 1))
    assert new - old <= created | targets
    # Version 1 has no moves: there it shows a moved node as deleted where it is now.
    gone = old - new if repo.spec_version > 1 or not created & deleted else set()
    assert gone <= deleted | sources


async def take(directory, turn, spec_version):
    match turn:
        case ("zfuse", edits):
            session = await open_session(directory)
            await edit_session(session, edits)
            await commit_and_compare(directory, session)
        case ("zfuse moves", steps):
            session = await open_session(directory)
            await take_steps(session, steps)
            await commit_and_compare(directory, session)
        case ("zfuse amends", steps) if spec_version > 1:
            session = await open_session(directory)
            await take_steps(session, steps)
            shown = await session_keys(session)
            parent = [info.id for info in official(directory).ancestry(branch="main")][1]
            amended = await session.amend("amended")
            assert official_keys(official(directory), str(amended)) == shown
            assert official(directory).lookup_snapshot(str(amended)).parent_id == parent
        case ("both", ours, theirs):
            await race(directory, ours, theirs)
        case ("maintenance", what):
            maintain(directory, what, spec_version)
        case (who, edits):
            take_officially(directory, who, edits, spec_version)


async def take_steps(session, steps):
    for step in steps:
        if isinstance(step, Edit):
            await edit_session(session, [step])
            continue
        try:
            await session.move(*step)
        except (AlreadyExistsError, InvalidInputError, NotFoundError):
            continue


async def commit_and_compare(directory, session):
    shown, before = await session_keys(session), session.base.id
    snapshot_id = await session.commit("zfuse")
    assert (snapshot_id is None) == (session.base.id == before)
    assert official_keys(official(directory), str(session.base.id)) == shown
    assert await session_keys(session) == shown
    assert not session.has_changes


async def race(directory, ours, theirs):
    """Both change the same base; the official library commits first."""
    session = await open_session(directory)
    base = str(session.base.id)
    edited = official(directory).writable_session("main")
    await edit_session(session, ours)
    edit_officially(edited.store, theirs)
    first = edited.commit("official first", allow_empty=True)
    before = await session_keys(session)
    conflict, has_changes = None, session.has_changes
    try:
        await session.commit("zfuse second")
    except BranchConflictError as error:
        conflict = error
    if conflict is not None:
        event("conflict")
        assert conflict.obstacles
        # What was below an array before can be in the way too, by the official rules.
        assert {str(o.by.id) for o in conflict.obstacles if o.by is not None} <= {first}
        assert str(session.base.id) == base
        assert await session_keys(session) == before
        return
    assert not session.has_changes
    if has_changes:
        event("rebased")
        tip = official(directory).lookup_branch("main")
        assert str(session.base.id) == tip
        assert await session_keys(session) == official_keys(official(directory), tip)


def take_officially(directory, who, edits, spec_version):
    repo = official(directory)
    if who == "official moves" and spec_version > 1:
        session = repo.rearrange_session("main")
        for source, target in edits:
            try:
                session.move(source, target)
            except icechunk.IcechunkError:
                continue
        session.commit("moved", allow_empty=True)
    elif who == "official amends" and spec_version > 1:
        session = repo.writable_session("main")
        edit_officially(session.store, edits)
        try:
            session.amend("amended", allow_empty=True)
        except icechunk.SessionStateError:  # over a commit that moves nodes it will not
            event("not amended")
    elif who == "official":
        session = repo.writable_session("main")
        edit_officially(session.store, edits)
        session.commit("official", allow_empty=True)


def maintain(directory, what, spec_version):
    repo = official(directory)
    keys = official_keys(repo, repo.lookup_branch("main"))
    if what == "rewrite":
        repo.rewrite_manifests("rewritten", branch="main")
    elif what == "expire":
        repo.expire_snapshots(datetime.now(UTC))
    else:
        repo.garbage_collect(datetime.now(UTC))
    repo = official(directory)
    assert official_keys(repo, repo.lookup_branch("main")) == keys


# Not 0: in an array without chunks the official library stores the first one all the same.
SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 7))
RESIZE = st.builds(lambda shape: Edit("a/zarr.json", array_document(shape, (1, 1))), SHAPES)
CELLS = st.builds(
    lambda i, j, data: Edit(f"a/c/{i}/{j}", data),
    st.integers(0, 8),
    st.integers(0, 6),
    st.sampled_from([b"1", b"22", b"333", None]),
)
RULES = st.lists(
    st.tuples(
        st.sampled_from(
            [
                icechunk.ManifestSplitCondition.AnyArray(),
                icechunk.ManifestSplitCondition.path_matches("^/a$"),
                icechunk.ManifestSplitCondition.name_matches("b"),
                icechunk.ManifestSplitCondition.or_conditions(
                    [
                        icechunk.ManifestSplitCondition.name_matches("b"),
                        icechunk.ManifestSplitCondition.path_matches("a"),
                    ]
                ),
                icechunk.ManifestSplitCondition.and_conditions(
                    [
                        icechunk.ManifestSplitCondition.name_matches("b"),
                        icechunk.ManifestSplitCondition.path_matches("a"),
                    ]
                ),
            ]
        ),
        st.dictionaries(
            st.sampled_from(["0", "1", "x", "any"]), st.integers(1, 4), min_size=1, max_size=2
        ),
    ),
    max_size=3,
)
DIMENSIONS = {
    "0": icechunk.ManifestSplitDimCondition.Axis(0),
    "1": icechunk.ManifestSplitDimCondition.Axis(1),
    "x": icechunk.ManifestSplitDimCondition.DimensionName("^x"),
    "any": icechunk.ManifestSplitDimCondition.Any(),
}


def split_config(rules):
    sizes = {
        condition: {DIMENSIONS[name]: size for name, size in dims.items()}
        for condition, dims in rules
    }
    return icechunk.RepositoryConfig(
        inline_chunk_threshold_bytes=2,
        manifest=icechunk.ManifestConfig(
            splitting=icechunk.ManifestSplittingConfig.from_dict(sizes)
        ),
    )


def boxes(directory, snapshot_id):
    data = (Path(directory) / "snapshots" / snapshot_id).read_bytes()
    nodes = [n for n in Snapshot.decode(data).nodes if isinstance(n, ArrayNode)]
    return {node.path: sorted(ref.extents for ref in node.manifests) for node in nodes}, {
        ref.manifest_id for node in nodes for ref in node.manifests
    }


@SETTINGS
@given(
    RULES,
    st.lists(st.lists(st.one_of(CELLS, CELLS, CELLS, RESIZE), max_size=8), min_size=1, max_size=4),
    st.sampled_from([1, 2]),
)
def test_manifests_are_split_rewritten_and_kept_as_by_the_official_library(
    rules, commits, spec_version
):
    async def main():
        with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
            ours, theirs = Path(a), Path(b)
            places = [icechunk.local_filesystem_storage(d) for d in (a, b)]
            for place in places:
                repo = icechunk.Repository.create(
                    place, config=split_config(rules), spec_version=spec_version
                )
                repo.save_config()
            first = Edit(
                "a/zarr.json", array_document((8, 6), (1, 1), dimension_names=["x1", None])
            )
            known_ours, known_theirs = set(), set()
            for edits in [[first], *commits]:
                session = await open_session(ours)
                await edit_session(session, edits)
                edited = official(theirs).writable_session("main")
                edit_officially(edited.store, edits)
                await session.commit("zfuse", allow_empty=True)
                tip = edited.commit("official", allow_empty=True)
                found, ids = boxes(ours, str(session.base.id))
                expected, their_ids = boxes(theirs, tip)
                assert found == expected
                assert len(ids & known_ours) == len(their_ids & known_theirs)
                known_ours, known_theirs = ids, their_ids
                keys = official_keys(official(ours), str(session.base.id))
                assert keys == official_keys(official(theirs), tip)

    trio.run(main)


@pytest.mark.parametrize("spec_version", [1, 2])
async def test_other_split_rules_apply_to_what_is_written_next(spec_version, tmp_path):
    place = icechunk.local_filesystem_storage(str(tmp_path))
    icechunk.Repository.create(place, spec_version=spec_version)
    session = await open_session(tmp_path)
    await session.set_metadata("/a", array_document((10,), (1,)))
    await session.set_metadata("/rest", array_document((10,), (1,)))
    for n in range(10):
        await session.set_chunk("/a", (n,), b"%d" % n)
        await session.set_chunk("/rest", (n,), b"%d" % n)
    await session.commit("one manifest each")
    rules = [(icechunk.ManifestSplitCondition.AnyArray(), {"0": 4})]
    icechunk.Repository.open(place, config=split_config(rules)).save_config()
    session = await open_session(tmp_path)
    await session.set_chunk("/a", (5,), b"new")
    await session.commit("now split")
    found, _ = boxes(tmp_path, str(session.base.id))
    assert found == {"/a": [((0, 4),), ((4, 8),), ((8, 10),)], "/rest": [((0, 10),)]}
    keys = official_keys(official(tmp_path), str(session.base.id))
    assert [keys[f"a/c/{n}"] for n in range(10)] == [
        *(b"0", b"1", b"2", b"3", b"4", b"new", b"6", b"7", b"8", b"9")
    ]


@pytest.mark.parametrize("spec_version", [1, 2])
async def test_chunks_of_a_rank_that_is_not_the_arrays_stay_until_they_are_deleted(
    spec_version, tmp_path
):
    place = icechunk.local_filesystem_storage(str(tmp_path))
    repo = icechunk.Repository.create(place, spec_version=spec_version)
    edited = repo.writable_session("main")
    put(edited.store, "a/zarr.json", array_document((2, 2), (1, 1)))
    for key in ("a/c/0/0", "a/c/1", "a/c/1/1/1"):
        put(edited.store, key, key.encode())
    edited.commit("odd")
    session = await open_session(tmp_path)
    await session.set_chunk("/a", (0, 1), b"new")
    await session.commit("beside")
    keys = official_keys(official(tmp_path), str(session.base.id))
    assert keys["a/c/1"] == b"a/c/1"
    await session.delete_chunk("/a", (1,))
    await session.commit("one less")
    keys = official_keys(official(tmp_path), str(session.base.id))
    assert sorted(keys) == ["a/c/0/0", "a/c/0/1", "a/c/1/1/1", "a/zarr.json"]


async def test_values_of_all_types_are_read_back_from_an_array_of_many_chunks(tmp_path):
    icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path)))
    session = await open_session(tmp_path)
    await session.set_metadata("/", array_document((50, 40), (1, 1)))
    values = np.random.default_rng(0).integers(1, 255, (50, 40), np.uint8)
    for index, value in np.ndenumerate(values):
        session.tree.changes.set_chunk(
            session.tree.array("/").id, index, await session.store_chunk(bytes([value]))
        )
    tip = await session.commit("all", metadata={"n": [1, 2.5, {"deep": None}], "ü": "π"})
    repo = official(tmp_path)
    assert repo.lookup_snapshot(str(tip)).metadata == {"n": [1, 2.5, {"deep": None}], "ü": "π"}
    store = repo.readonly_session("main").store
    assert np.array_equal(zarr.open_array(store, mode="r")[:], values)
    assert isinstance(tip, SnapshotId)
