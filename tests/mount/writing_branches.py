"""One writable mount with a branch for each test, all of which begin alike."""

import errno
import itertools

import icechunk
import pytest

from tests.compat.documents import DOT, GROUP, array_document, get_all, put_all
from tests.compat.place import changing, create, local_place
from tests.mount.mounting import mounting

BRANCHES = 60
THOUSANDS = 5000
CHUNK = b"chunk of the base " * 40


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A repository with many equal branches, and main, which has another array."""
    place = local_place(tmp_path_factory.mktemp("writing"))
    repo = create(place, 2)
    with changing(repo, "base") as store:
        put_all(store, {"zarr.json": GROUP, "g/zarr.json": GROUP})
        put_all(store, {"g/a/zarr.json": array_document((4, 30), (1, 1))})
        put_all(
            store, {f"g/a/c/{n}/{m}": CHUNK + b"%d %d" % (n, m) for n in (0, 1) for m in (0, 1)}
        )
        put_all(store, {"g/a/c/2/0": b"tiny"})
        put_all(store, {"line/zarr.json": array_document((9,), (1,))})
        put_all(store, {"line/c/0": CHUNK, "line/c/1": b"tiny"})
        put_all(store, {"many/zarr.json": array_document((300,), (1,), chunk_key_encoding=DOT)})
        put_all(store, {f"many/c/{n}": b"many %d" % n for n in range(300)})
    tip = repo.lookup_branch("main")
    repo.create_tag("first", tip)
    for number in range(BRANCHES):
        repo.create_branch(f"b{number}", tip)
    with changing(repo, "thousands") as store:
        put_all(store, {"thousands/zarr.json": array_document((THOUSANDS,), (1,))})
        put_all(store, {f"thousands/c/{n}": b"x" for n in range(THOUSANDS)})
    return place


@pytest.fixture(scope="module")
def mounted(place, tmp_path_factory):
    directory = tmp_path_factory.mktemp("writing")
    journal = directory / "journal"
    with mounting(place.url, directory / "mount", "--rw", "--journal", str(journal)) as mounted:
        yield mounted


@pytest.fixture(scope="module")
def numbers():
    return itertools.count()


@pytest.fixture
def root(mounted, numbers):
    """The root of a branch that no other test has."""
    return mounted.path / f"branch/b{next(numbers)}"


@pytest.fixture
def sync(mounted, place, root):
    """A function that commits the branch, and returns all keys of it by the official library."""

    def commit():
        mounted.call("sync", branch=root.name, message="a commit")
        repository = icechunk.Repository.open(place.storage)
        return get_all(repository.readonly_session(root.name).store)

    return commit


def fails(number, function, *arguments, **options):
    """Fail unless a call ends with the errno *number*."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - errno is looked at below
        function(*arguments, **options)
    found = caught.value.errno
    assert found == number, f"{errno.errorcode[number]} expected: {caught.value}"
