"""The judge is judged: a plain directory with all that is expected passes, no other does."""

import errno
import json
from pathlib import Path

import pytest

from tests.compat.documents import DOT, GROUP, array_document
from tests.compat.oracle import (
    Refused,
    Tree,
    assert_shows,
    differences,
    expected_tree,
    mounted_tree,
    official_keys,
)
from tests.compat.place import local_place
from tests.compat.repositories import CASES, build
from zfuse.fs.names import encode_name

pytestmark = pytest.mark.compat

SQUARE = array_document((4, 4), (2, 2))


def plain_copy(tree: Tree, directory: Path) -> None:
    """Make *directory* show *tree*, but for the files that can not be read."""
    for key in sorted(tree.directories):
        shown(directory, key).mkdir(exist_ok=True)
    for key, content in tree.files.items():
        if isinstance(content, bytes):
            above, _, name = key.rpartition("/")
            (shown(directory, above) / name).write_bytes(content)


def shown(directory: Path, key: str) -> Path:
    return directory.joinpath(*(encode_name(name) for name in key.split("/") if key))


@pytest.mark.parametrize(("name", "spec"), CASES)
def test_a_faithful_directory_passes(name, spec, tmp_path):
    made = build(name, spec, local_place(tmp_path))
    repo = made.open()
    distinct = {made.snapshot_of(ref): ref for ref in made.refs()}
    for snapshot, ref in distinct.items():
        official = official_keys(repo, ref)
        expected = expected_tree(official)
        assert len(expected.files) + len(expected.hidden) == len(official)
        directory = tmp_path / snapshot
        plain_copy(expected, directory)
        unread = [key for key, c in expected.files.items() if isinstance(c, Refused)]
        lines = differences(expected, mounted_tree(directory, [*official]))
        assert sorted(lines) == sorted(f"missing file {key!r}" for key in unread)


OFFICIAL = {"zarr.json": GROUP, "a/zarr.json": SQUARE, "a/c/0/1": b"abc", "i/j/zarr.json": GROUP}


@pytest.fixture
def directory(tmp_path):
    plain_copy(expected_tree(OFFICIAL), tmp_path)
    return tmp_path


def test_what_is_expected_passes(directory):
    assert_shows(directory, OFFICIAL)


def test_the_empty_chunk_directory_of_an_array_may_be_shown(directory):
    official = {key: data for key, data in OFFICIAL.items() if "/c/" not in key}
    (directory / "a/c/0/1").unlink()
    (directory / "a/c/0").rmdir()
    assert_shows(directory, official)
    (directory / "a/c").rmdir()
    assert_shows(directory, official)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "a/c/0/1").unlink(), "missing file 'a/c/0/1'"),
        (lambda d: (d / "a/c/0/0").touch(), "surplus file 'a/c/0/0'"),
        (lambda d: (d / "a/c/0/1").write_bytes(b"\0\0\0"), "'a/c/0/1': expected 3 B b'abc'"),
        (lambda d: (d / "a/c/1").mkdir(), "surplus directory 'a/c/1'"),
        (lambda d: (d / "i/j/zarr.json").unlink(), "missing file 'i/j/zarr.json'"),
        (lambda d: (d / "i").rename(d / "k"), "missing directory 'i'"),
        (lambda d: (d / "p%2Fq").mkdir(), "surplus directory 'p/q'"),
    ],
)
def test_every_difference_is_told(directory, damage, message):
    damage(directory)
    with pytest.raises(AssertionError) as failure:
        assert_shows(directory, OFFICIAL)
    assert message in str(failure.value)


def test_a_size_that_lies_is_told(tmp_path):
    (tmp_path / "zarr.json").symlink_to("/proc/self/status")
    with pytest.raises(AssertionError, match="st_size"):
        mounted_tree(tmp_path)


def test_what_must_fail_must_not_be_read(directory):
    official = OFFICIAL | {"a/c/0/1": Refused(errno.EIO, "gone")}
    with pytest.raises(AssertionError, match="expected EIO"):
        assert_shows(directory, official)
    assert Refused(errno.EIO, "gone") == Refused(errno.EIO, "other words")
    assert Refused(errno.EIO) != Refused(errno.EACCES)


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ({"name": "default"}, {"a/c/1/2", "s/c"}),
        (DOT, {"a/c.1.2", "s/c"}),
        ({"name": "v2"}, {"a/1.2", "s/0"}),
        ({"name": "v2", "configuration": {"separator": "/"}}, {"a/1/2", "s/0"}),
    ],
)
def test_chunks_are_expected_under_the_names_of_their_encoding(encoding, names):
    official = {
        "a/zarr.json": array_document((4, 4), (2, 2), chunk_key_encoding=encoding),
        "s/zarr.json": array_document((), (), chunk_key_encoding=encoding),
        "a/c/1/2": b"x",
        "s/c": b"y",
    }
    assert names == expected_tree(official).files.keys() - {"a/zarr.json", "s/zarr.json"}


def test_one_name_for_two_things_belongs_to_the_chunk_that_readers_look_for():
    official = {"a/zarr.json": SQUARE, "a/c/0/0": b"x", "a/c/0": b"y", "a/c/0/0/zarr.json": GROUP}
    tree = expected_tree(official)
    assert tree.hidden == {"a/c/0", "a/c/0/0/zarr.json"}
    assert json.loads(tree.files["a/zarr.json"])["shape"] == [4, 4]
