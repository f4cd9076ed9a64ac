"""How references are split into manifests, compared with the official library."""

import tempfile
from pathlib import Path

import icechunk
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compat.documents import array_document
from tests.repo.driving import edit_session, official, open_session
from tests.repo.editing import Edit, edit_officially, official_keys
from zfuse.format.snapshot import ArrayNode, Snapshot

pytestmark = pytest.mark.compat

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


@settings(max_examples=25)
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


METADATA = {
    "attributes": array_document((10,), (1,), attributes={"x": 1}),
    "longer": array_document((11,), (1,)),
    "shorter": array_document((9,), (1,)),
}


@pytest.mark.parametrize("what", METADATA)
async def test_other_split_rules_apply_when_metadata_change(what, tmp_path):
    found = []
    for library in ("zfuse", "icechunk"):
        directory = tmp_path / library
        place = icechunk.local_filesystem_storage(str(directory))
        session = icechunk.Repository.create(place).writable_session("main")
        line = Edit("a/zarr.json", array_document((10,), (1,)))
        edit_officially(session.store, [line, *(Edit(f"a/c/{n}", b"x") for n in range(10))])
        session.commit("one manifest")
        rules = [(icechunk.ManifestSplitCondition.AnyArray(), {"0": 4})]
        icechunk.Repository.open(place, config=split_config(rules)).save_config()
        edits = [Edit("a/zarr.json", METADATA[what])]
        found.append(boxes(directory, await commit(library, directory, edits))[0])
    assert found[0] == found[1]
    assert len(found[0]["/a"]) == 3


async def commit(library, directory, edits):
    """Commit *edits* with one of the two and return the id of the snapshot."""
    if library == "zfuse":
        session = await open_session(directory)
        await edit_session(session, edits)
        return str(await session.commit("zfuse"))
    edited = official(directory).writable_session("main")
    edit_officially(edited.store, edits)
    return edited.commit("official")


# What the engine of the official library knows and others do not, and what no pattern is to it.
PATTERNS = {
    "[[:alpha:]]+": ("abc", "123"),
    "[[:^alpha:]]b": ("1b", "ab"),
    "^/?[a-z&&[^b]]+$": ("acd", "abd"),
    "[a-w--b]x": ("ax", "bx"),
    "[[a-c]x]$": ("x", "y"),
    r"\p{Greek}": ("π", "p"),
    r"\pLz": ("az", "1z"),
    r"\d": ("٣", "x"),
    "(?i)A$": ("a", "b"),
    "^/?(?i)A": ("a", "b"),
    "(?x) a z ": ("az", "a z"),
    r"a\z": ("a", "ab"),
    "(?<name>a)": ("a", "b"),
    "^/g/a$": ("g/a", "a"),
    "^a$": ("g/a", "ba"),
    "/": ("a", "g/a"),
    "a|": ("a", "b"),
    "": ("a", "b"),
    "(": ("(", "a"),
    "[a[b]": ("ab", "a"),
    r"\Qa.\E": ("a.", "a"),
    "*": ("*", "a"),
}
CONDITIONS = {
    "path": lambda p: {icechunk.ManifestSplitCondition.path_matches(p): AXIS},
    "name": lambda p: {icechunk.ManifestSplitCondition.name_matches(p): AXIS},
    "dimension": lambda p: {
        icechunk.ManifestSplitCondition.AnyArray(): {
            icechunk.ManifestSplitDimCondition.DimensionName(p): 2
        }
    },
}
AXIS = {icechunk.ManifestSplitDimCondition.Axis(0): 2}


@pytest.mark.parametrize("pattern", PATTERNS)
async def test_patterns_mean_what_they_mean_to_the_official_library(pattern, tmp_path):
    edits = []
    for text in PATTERNS[pattern]:
        line = array_document((4,), (1,), dimension_names=[text])
        edits += [Edit(f"{text}/zarr.json", line)]
        edits += [Edit(f"{text}/c/{n}", b"x") for n in range(4)]
    for number, condition in enumerate(CONDITIONS.values()):
        splitting = icechunk.ManifestSplittingConfig.from_dict(condition(pattern))
        config = icechunk.RepositoryConfig(
            manifest=icechunk.ManifestConfig(splitting=splitting),
        )
        found = []
        for library in ("zfuse", "icechunk"):
            directory = tmp_path / f"{library}{number}"
            place = icechunk.local_filesystem_storage(str(directory))
            icechunk.Repository.create(place, config=config).save_config()
            found.append(boxes(directory, await commit(library, directory, edits))[0])
        assert found[0] == found[1]


async def test_a_pattern_that_takes_for_ever_is_given_up(tmp_path, caplog):
    splitting = icechunk.ManifestSplittingConfig.from_dict(CONDITIONS["path"]("(a|aa|aaa)+$"))
    config = icechunk.RepositoryConfig(manifest=icechunk.ManifestConfig(splitting=splitting))
    place = icechunk.local_filesystem_storage(str(tmp_path))
    icechunk.Repository.create(place, config=config).save_config()
    name = "a" * 90 + "b"
    edits = [Edit(f"{name}/zarr.json", array_document((4,), (1,))), Edit(f"{name}/c/0", b"x")]
    with caplog.at_level("INFO", "zfuse.repo.manifest_splits"):
        await commit("zfuse", tmp_path, edits)
    assert "is not heeded" in caplog.text
