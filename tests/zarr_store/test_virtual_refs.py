"""Virtual references through the store, as the official library takes, stores and reads them."""

import asyncio
import datetime as dt
from pathlib import Path
from types import SimpleNamespace

import icechunk
import numpy as np
import pytest

from tests.compat.documents import array_document, get_all, put
from tests.compat.place import access, container, local_place, source
from tests.repo.driving import NoVirtualChunks
from tests.zarr_store.owners import Owner, commit
from zfuse.errors import InvalidInputError, NotAllowedError, NotFoundError
from zfuse.portal import run
from zfuse.repo.repository import Repository
from zfuse.repo.session import Session
from zfuse.storage.local import LocalStorage
from zfuse.zarr_store.store import IcechunkStore

pytestmark = pytest.mark.compat

PLANE = array_document((4, 6), (2, 2))
TIME = dt.datetime(2023, 11, 14, 22, 13, 20, tzinfo=dt.UTC)  # when the sources changed last


class _NoReads(NoVirtualChunks):
    def declare(self, containers):
        """Take any: nothing is read."""


class Both:
    """A session of zfuse and one of the official library, with an array and a container."""

    def __init__(self, directory):
        self.place = local_place(directory)
        self.theirs = self._repository(self.place)
        self.other = local_place(directory, "official")
        self.session = self._repository(self.other, self.place).writable_session("main")
        self.ours = run(self._open)
        for store in (self.store, self.session.store):
            put(store, "a/zarr.json", PLANE)
            put(store, "a/c/1/0", b"native or inline")

    def _repository(self, place, data=None):
        config = icechunk.RepositoryConfig.default()
        config.set_virtual_chunk_container(container(data or place, "here"))
        return icechunk.Repository.create(
            place.storage, config=config, authorize_virtual_chunk_access=access(self.place.prefix)
        )

    async def _open(self):
        repository = await Repository.open(LocalStorage(Path(self.place.url)), virtual=_NoReads())
        return Owner(await Session.open(repository, "main"))

    @property
    def store(self):
        return IcechunkStore(self.ours)

    def committed(self):
        """Return what the official library reads of what each of the two committed."""
        commit(self.ours)
        self.session.commit("theirs")
        ours = icechunk.Repository.open(
            self.place.storage, authorize_virtual_chunk_access=access(self.place.prefix)
        )
        theirs = icechunk.Repository.open(
            self.other.storage, authorize_virtual_chunk_access=access(self.place.prefix)
        )
        return [get_all(r.readonly_session("main").store) for r in (ours, theirs)]


@pytest.fixture
def both(tmp_path):
    return Both(tmp_path)


@pytest.fixture
def file(both):
    return source(both.place, "data.bin", bytes(range(200)))


def spec(index, location, offset=0, length=4, **checksum):
    """Return the same reference for both libraries."""
    theirs = icechunk.VirtualChunkSpec(index, location, offset, length, **checksum)
    members = ("index", "location", "offset", "length")
    ours = {name: getattr(theirs, name) for name in members}
    ours |= {"etag_checksum": None, "last_updated_at_checksum": None, **checksum}
    return SimpleNamespace(**ours), theirs


@pytest.mark.parametrize("checksum", [None, TIME])
def test_single_references_are_read_by_the_official_library(both, file, checksum):
    for key, location in [("a/c/0/0", file), ("a/c/0/1", "vcc://here/data.bin")]:
        for store in (both.store, both.session.store):
            store.set_virtual_ref(key, location, offset=9, length=4, checksum=checksum)
    ours, theirs = both.committed()
    assert ours == theirs
    assert ours["a/c/0/1"] == bytes(range(9, 13))


def test_references_outside_of_all_containers_are_told(both, file):
    specs = [
        spec([0, 0], file, 3),
        spec([0, 1], "s3://elsewhere/x"),
        spec([1, 1], "vcc://here/data.bin", 5, last_updated_at_checksum=TIME),
        spec([1, 2], "vcc://nobody/x"),
    ]
    found = [
        both.store.set_virtual_refs("/a", [ours for ours, _ in specs]),
        both.session.store.set_virtual_refs("/a", [theirs for _, theirs in specs]),
    ]
    assert found == [[(0, 1), (1, 2)]] * 2
    ours, theirs = both.committed()
    assert ours == theirs
    assert "a/c/0/1" not in ours


def test_a_box_of_references(both, file):
    offsets = np.arange(4, dtype=np.uint64)
    lengths = np.full(4, 7, np.uint64)
    for store in (both.store, both.session.store):
        found = store.set_virtual_refs_arr(
            "a", (2, 2), [file, "", file, "s3://elsewhere/x"], offsets, lengths, arr_offset=(0, 1)
        )
        assert found == [(1, 2)]
    ours, theirs = both.committed()
    assert ours == theirs
    assert {"a/c/0/1", "a/c/1/1"} < ours.keys()


async def batches(store, size):
    return [batch async for batch in store.array_chunk_iterator("/a", size)]


@pytest.mark.parametrize("size", [1, 2, 100])
def test_references_come_back_in_batches(both, file, size):
    put(both.store, "a/c/1/2", b"n" * 1000)
    both.store.set_virtual_ref("a/c/0/1", "vcc://here/data.bin", offset=9, length=4)
    found = asyncio.run(batches(both.store, size))
    assert {len(coords) for coords, *_ in found} == (
        {1} if size == 1 else {2, 1} if size == 2 else {3}
    )
    rows = {}
    for coords, kinds, places, offsets, lengths, inlined in found:
        for row, index in enumerate(coords.tolist()):
            what = (int(kinds[row]), places[row], int(offsets[row]), int(lengths[row]))
            rows[tuple(index)] = (*what, inlined.get(row))
    assert rows.pop((0, 1)) == (2, file, 9, 4, None)
    assert rows.pop((1, 0)) == (3, "", 0, 16, b"native or inline")
    kind, place, *rest = rows.pop((1, 2))
    assert (kind, rest) == (1, [0, 1000, None])
    assert (Path(both.place.url) / "chunks" / place).exists()
    assert not rows


@pytest.mark.parametrize(
    ("key", "location", "error"),
    [
        ("a/c/0/0", "s3://elsewhere/x", InvalidInputError),
        ("a/c/0/0", "nothing", InvalidInputError),
        ("a/c/0/0", "s3:///key", InvalidInputError),
        ("a/c/9/0", "file:///x", InvalidInputError),
        ("a/c/0", "vcc://here/x", InvalidInputError),
        ("a/c/2/0", "vcc://here/x", InvalidInputError),
        ("b/c/0", "vcc://here/x", NotFoundError),
        ("a/zarr.json", "vcc://here/x", NotAllowedError),
        ("foo", "vcc://here/x", InvalidInputError),
    ],
)
def test_what_can_not_be_a_virtual_chunk_is_refused(both, key, location, error):
    before = get_all(both.store)
    with pytest.raises(error):
        both.store.set_virtual_ref(key, location, offset=0, length=4)
    assert get_all(both.store) == before


@pytest.mark.parametrize(
    ("index", "length", "offset"), [([2, 0], 4, 0), ([0], 4, 0), ([0, 0], 0, 0), ([0, 0], 4, -1)]
)
def test_one_bad_reference_refuses_all(both, index, length, offset):
    before = get_all(both.store)
    good, bad = (
        SimpleNamespace(
            index=i, location="vcc://here/x", offset=o, length=n,
            etag_checksum="tag", last_updated_at_checksum=None,
        )
        for i, o, n in [([0, 0], 0, 4), (index, offset, length)]
    )  # fmt: skip
    with pytest.raises(InvalidInputError):
        both.store.set_virtual_refs("a", [good, bad])
    assert get_all(both.store) == before
    assert both.store.set_virtual_refs("a", []) is None
    with pytest.raises(NotFoundError):
        both.store.set_virtual_refs("b", [good])


@pytest.mark.parametrize(
    ("checksum", "error"),
    [
        (dt.datetime(2023, 1, 1), TypeError),
        (dt.datetime(1960, 1, 1, tzinfo=dt.UTC), InvalidInputError),
        (dt.datetime(2200, 1, 1, tzinfo=dt.UTC), InvalidInputError),
    ],
)
def test_times_that_say_nothing_are_refused(both, checksum, error):
    with pytest.raises(error):
        both.store.set_virtual_ref("a/c/0/0", "vcc://here/x", offset=0, length=4, checksum=checksum)


@pytest.mark.parametrize(
    ("grid", "count", "first"), [((2,), 1, None), ((3,), 2, None), ((2,), 2, (0, 0))]
)
def test_columns_have_one_length(both, grid, count, first):
    numbers = np.zeros(2, np.uint64)
    with pytest.raises(ValueError, match=r"length|locations"):
        both.store.set_virtual_refs_arr(
            "a", grid, ["file:///x"] * count, numbers, numbers, arr_offset=first
        )
