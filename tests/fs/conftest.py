"""What several tests of the file system look at."""

import pytest

from tests.compat.documents import GROUP, array_document, put_all
from tests.compat.place import changing, create, local_place

LINE = array_document((40,), (1,))
SQUARE = array_document((20, 20), (1, 1))


@pytest.fixture(scope="package", autouse=True)
def no_waiting_for_the_kernel():
    """Who closes a file tells at once whether he has it open still: no kernel comes between."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zfuse.fs.kept_session._LOOK_EVERY_S", 0)
        yield


@pytest.fixture
def place(tmp_path):
    return local_place(tmp_path)


@pytest.fixture
def repo(place):
    """A group with two arrays, whose chunks are native."""
    repo = create(place, 2)
    with changing(repo, "first") as store:
        put_all(store, {"zarr.json": GROUP, "g/zarr.json": GROUP, "g/a/zarr.json": SQUARE})
        put_all(store, {f"g/a/c/{n}/{m}": b"%d %d" % (n, m) for n in range(4) for m in range(4)})
        put_all(store, {"g/b/zarr.json": LINE, "g/b/c/0": b"b" * 700, "g/b/c/1": b"B" * 800})
    return repo
