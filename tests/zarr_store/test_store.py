"""Keys, ranges, listings and deletions of the store, compared with zarr's own in memory."""

import asyncio
import pickle

import numpy as np
import pytest
import zarr
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import cpu, default_buffer_prototype
from zarr.storage import MemoryStore

from tests.compat.documents import DOT, GROUP, V2_DOT, V2_SLASH, array_document, get_all
from tests.zarr_store.owners import commit, committed, writable
from zfuse.errors import (
    AlreadyExistsError,
    InvalidInputError,
    NotFoundError,
    ReadOnlyError,
)
from zfuse.storage.memory import MemoryStorage
from zfuse.zarr_store.store import IcechunkStore

PLANE = array_document((4, 6), (2, 2))
AFFIXED = {
    "name": "suffix",
    "configuration": {"suffix": ".zarr.json", "base_encoding": {"name": "default"}},
}
KEYS = {
    "zarr.json": GROUP,
    "a/zarr.json": PLANE,
    "a/c/0/0": b"0123456789",
    "a/c/1/2": b"n" * 1000,
    "a-b/zarr.json": array_document((2,), (1,)),
    "a-b/c/1": b"x",
    "a/below/zarr.json": GROUP,
    "g/h/dots/zarr.json": array_document((2, 2), (1, 1), chunk_key_encoding=DOT),
    "g/h/dots/c.0.1": b"x",
    "g/v2/zarr.json": array_document((2, 2), (1, 1), chunk_key_encoding=V2_DOT),
    "g/v2/1.1": b"x",
    "g/slash/zarr.json": array_document((2, 2), (1, 1), chunk_key_encoding=V2_SLASH),
    "g/slash/1/0": b"x",
    "affixed/zarr.json": array_document((2,), (1,), chunk_key_encoding=AFFIXED),
    "affixed/c/1.zarr.json": b"a chunk",
    "scalar/zarr.json": array_document((), ()),
    "scalar/c": b"x",
}
RANGES = [
    None,
    RangeByteRequest(0, 3),
    RangeByteRequest(2, 2),
    RangeByteRequest(5, 10**9),
    RangeByteRequest(10**9, 10**9 + 1),
    RangeByteRequest(3, 1),
    OffsetByteRequest(0),
    OffsetByteRequest(7),
    OffsetByteRequest(10**9),
    SuffixByteRequest(0),
    SuffixByteRequest(4),
    SuffixByteRequest(10**9),
]


def buffer(data):
    return cpu.Buffer.from_bytes(data)


async def fill(store):
    for key, data in KEYS.items():
        await store.set(key, buffer(data))


async def get(store, key, byte_range=None):
    found = await store.get(key, default_buffer_prototype(), byte_range)
    return None if found is None else found.to_bytes()


async def listed(names):
    return sorted([name async for name in names])


def filled():
    owner = writable(MemoryStorage())
    store = IcechunkStore(owner)
    asyncio.run(fill(store))
    return store


@pytest.fixture(scope="module")
def model():
    store = MemoryStore()
    asyncio.run(fill(store))
    return store


@pytest.fixture(scope="module", params=["session", "commit"])
def store(request):
    store = filled()
    if request.param == "session":
        return store
    commit(store.session)
    return IcechunkStore(committed(store.session))


@pytest.mark.parametrize("key", KEYS)
def test_ranges_are_those_of_zarr(store, model, key):
    for wanted in RANGES:
        if wanted == RangeByteRequest(3, 1):  # a range that ends before it begins
            assert asyncio.run(get(store, key, wanted)) == b""
        else:
            expected = asyncio.run(get(model, key, wanted))
            assert asyncio.run(get(store, key, wanted)) == expected
            assert store.get_sync(key, byte_range=wanted).to_bytes() == expected


def test_many_ranges_come_in_their_order(store, model):
    wanted = [(key, r) for key in ("a/c/0/0", "zarr.json", "nothing", "a/c/0/1") for r in RANGES]

    async def fetch(store):
        values = await store.get_partial_values(default_buffer_prototype(), iter(wanted))
        return [None if value is None else value.to_bytes() for value in values]

    got = asyncio.run(fetch(store))
    assert got == [asyncio.run(get(store, *each)) for each in wanted]
    assert got[2 * len(RANGES) :] == [None] * 2 * len(RANGES)


@pytest.mark.parametrize("prefix", ["", "/", "a", "a/", "a/c", "a/c/", "a/c/1", "a/below", "g"])
def test_directories_are_those_of_zarr(store, model, prefix):
    check_directory(store, model, prefix)


def test_many_ranges_of_one_key(store, model):
    wanted = [r for r in RANGES if r != RangeByteRequest(3, 1)]

    async def fetch(store, key):
        batches = store.get_ranges(key, wanted, prototype=default_buffer_prototype())
        return {place: value.to_bytes() async for batch in batches for place, value in batch}

    key = "a/c/1/2"
    expected = asyncio.run(fetch(model, key))
    assert asyncio.run(fetch(store, key)) == expected
    found = store.get_ranges_sync(key, wanted, prototype=default_buffer_prototype())
    assert {place: value.to_bytes() for place, value in found} == expected
    with pytest.raises(BaseExceptionGroup) as caught:
        asyncio.run(fetch(store, "a/c/0/1"))
    assert caught.group_contains(FileNotFoundError)


@pytest.mark.parametrize(
    "prefix",
    ["g/h", "g/h/dots", "g/v2", "g/slash", "g/slash/1", "scalar", "nothing", "a/nothing", "a/c/7"],
)
def test_odd_directories_are_those_of_zarr(store, model, prefix):
    check_directory(store, model, prefix)


def check_directory(store, model, prefix):
    inside = "" if prefix in {"", "/"} else prefix.rstrip("/") + "/"
    expected = sorted(key for key in KEYS if key.startswith(inside))
    assert asyncio.run(listed(store.list_prefix(prefix))) == expected
    assert asyncio.run(listed(store.list_dir(prefix))) == asyncio.run(
        listed(model.list_dir(prefix.rstrip("/")))
    )
    assert asyncio.run(store.is_empty(prefix)) == (not expected)
    assert asyncio.run(store.getsize_prefix(prefix)) == sum(len(KEYS[key]) for key in expected)


def test_what_is_there_has_a_size(store):
    for key, data in KEYS.items():
        assert asyncio.run(store.getsize(key)) == len(data)
        assert asyncio.run(store.exists(key))
    assert get_all(store) == KEYS


ABSENT = {
    "nothing": ["", "a", "foo.txt", "a/c", "a/c/", "b/zarr.json", "b/c/0", "g/c/0"],
    "not written": ["a/c/0/1", "a-b/c/0", "g/v2/0.0"],
    "outside": ["a/c/2/0", "a/c/0/3", "a/c/4294967295/0", "a/c/4294967296/0"],
    "of another rank": ["a/c/0", "a/c/0/0/0", "scalar/c/0"],
    "an alias": ["/a/c/0/0", "a//c/0/0", "a/./c/0/0", "ac/0/0", "a/c/00/0", "a/c/+0/0"],
    "a path": ["/zarr.json", "a//zarr.json", "a/./zarr.json", "./zarr.json", "a/../a/zarr.json"],
    "a longer name": ["zarr.json.bak", "a/c/0/0/", "zarr.json/", "a/c/0/0.partial"],
    "of another encoding": ["g/v2/c/1/1", "g/v2/1/1", "g/h/dots/c/0/1", "g/slash/c/1/0"],
    "of version 2": [".zgroup", "a/.zarray", "a/.zattrs", ".zmetadata"],
}


@pytest.mark.parametrize("key", [key for keys in ABSENT.values() for key in keys])
def test_what_is_not_there_is_absent(store, key):
    assert asyncio.run(get(store, key)) is None
    assert store.get_sync(key) is None
    assert not asyncio.run(store.exists(key))
    with pytest.raises(FileNotFoundError):
        asyncio.run(store.getsize(key))


REFUSED = [key for what, keys in ABSENT.items() for key in keys if what != "not written"]


@pytest.mark.parametrize("key", [key for key in REFUSED if key != "b/zarr.json"])
def test_nothing_is_stored_under_what_is_no_key(key):
    store = filled()
    for data in (b"x", GROUP):
        with pytest.raises((InvalidInputError, NotFoundError)):
            store.set_sync(key, buffer(data))
    store.delete_sync(key)
    assert get_all(store) == KEYS


@pytest.mark.parametrize(
    ("key", "data", "error"),
    [
        ("a/c/0/0", b"", InvalidInputError),
        ("a/zarr.json", GROUP, AlreadyExistsError),
        ("g/v2/zarr.json", b"{}", InvalidInputError),
        ("new/zarr.json", b"not json", InvalidInputError),
    ],
)
def test_what_icechunk_can_not_hold_is_refused(key, data, error):
    store = filled()
    with pytest.raises(error):
        asyncio.run(store.set(key, buffer(data)))
    assert get_all(store) == KEYS
    with pytest.raises(TypeError, match="must be a Buffer"):
        asyncio.run(store.set(key, data))


@pytest.mark.parametrize(
    ("key", "gone"),
    [
        ("a/c/0/0", ["a/c/0/0"]),
        ("a/zarr.json", ["a/zarr.json", "a/c/0/0", "a/c/1/2"]),
        ("a/below/zarr.json", ["a/below/zarr.json"]),
        ("zarr.json", list(KEYS)),
    ],
)
def test_a_node_takes_its_chunks_along_and_a_group_all_below(key, gone):
    store = filled()
    commit(store.session)
    asyncio.run(store.delete(key))
    left = {k: v for k, v in KEYS.items() if k not in gone}
    assert get_all(store) == left
    commit(store.session)
    assert get_all(IcechunkStore(committed(store.session))) == left


@pytest.mark.parametrize("is_committed", [True, False])
@pytest.mark.parametrize(
    "prefix", ["", "a", "a/", "a/c", "a/c/1", "g", "g/h", "g/slash/1", "scalar", "nothing", "a/c/9"]
)
def test_a_directory_goes_with_all_that_is_in_it(prefix, is_committed):
    store = filled()
    if is_committed:
        commit(store.session)
    asyncio.run(store.delete_dir(prefix))
    inside = prefix.rstrip("/") + "/" if prefix else ""
    assert get_all(store) == {k: v for k, v in KEYS.items() if not k.startswith(inside)}


@pytest.mark.parametrize("clear", [lambda s: asyncio.run(s.clear()), IcechunkStore.sync_clear])
def test_clearing_leaves_nothing(clear):
    store = filled()
    clear(store)
    assert get_all(store) == {}
    assert asyncio.run(store.is_empty(""))


def test_what_exists_is_not_set_again():
    store = filled()
    for key, data in [("a/c/0/0", b"new"), ("a/c/0/1", b"new"), ("g/zarr.json", GROUP)]:
        asyncio.run(store.set_if_not_exists(key, buffer(data)))
    assert get_all(store) == KEYS | {"a/c/0/1": b"new", "g/zarr.json": GROUP}


def test_one_of_many_that_set_what_does_not_exist_wins():
    store = filled()

    async def race():
        sets = [store.set_if_not_exists("a/c/0/1", buffer(bytes([n]) * 1000)) for n in range(20)]
        await asyncio.gather(*sets, store.set("a/c/0/2", buffer(b"other")))
        first = await get(store, "a/c/0/1")
        await asyncio.gather(*(store.set_if_not_exists("a/c/0/1", buffer(b"late")) for _ in sets))
        return first, await get(store, "a/c/0/1")

    first, later = asyncio.run(race())
    assert first == later == first[:1] * 1000


def test_a_read_only_store_changes_nothing():
    writable_store = filled()
    commit(writable_store.session)
    of_session = IcechunkStore(committed(writable_store.session))
    for store in (of_session, writable_store.with_read_only(read_only=True)):
        assert store.read_only
        for change in (
            store.set("a/c/0/1", buffer(b"x")),
            store.set_if_not_exists("a/c/0/1", buffer(b"x")),
            store.delete("a/c/0/0"),
            store.delete_dir(""),
            store.clear(),
        ):
            with pytest.raises(ReadOnlyError) as caught:
                asyncio.run(change)
            assert isinstance(caught.value, ValueError)  # as zarr's own stores
    assert of_session.with_read_only(read_only=False).read_only
    again = writable_store.with_read_only(read_only=True).with_read_only(read_only=False)
    assert not again.read_only
    assert get_all(writable_store) == KEYS


def test_a_store_is_that_of_its_session():
    store = filled()
    assert store == IcechunkStore(store.session) != filled()
    assert pickle.loads(pickle.dumps(store)) == store
    assert store.session.workspace is pickle.loads(pickle.dumps(store)).session.workspace


def test_shards_are_read_in_ranges():
    owner = writable(MemoryStorage())
    data = np.arange(400 * 400, dtype="u4").reshape(400, 400)
    array = zarr.create_array(
        IcechunkStore(owner), shape=(400, 400), chunks=(20, 20), shards=(200, 200), dtype="u4",
        compressors=None,
    )  # fmt: skip
    array[:] = data
    commit(owner)
    fresh = IcechunkStore(committed(owner))
    assert (zarr.open_array(fresh)[210:230, 5:15] == data[210:230, 5:15]).all()
    cache = fresh.session.workspace.repository.assets.chunk_cache
    assert 0 < cache.misses < 12  # blocks of 64 KiB, of which four shards have 40
    assert (zarr.open_array(fresh)[:] == data).all()


def test_chunks_of_different_lengths_are_chunks():
    owner = writable(MemoryStorage())
    data = np.arange(120.0).reshape(10, 12)
    with zarr.config.set({"array.rectilinear_chunks": True}):
        array = zarr.create_array(
            IcechunkStore(owner), shape=(10, 12), chunks=[[3, 3, 4], [4, 4, 4]], dtype="f8"
        )
        array[:] = data
        commit(owner)
        assert (zarr.open_array(IcechunkStore(committed(owner)))[:] == data).all()
    assert len(get_all(IcechunkStore(committed(owner)))) == 10


@pytest.mark.parametrize("pipeline", ["BatchedCodecPipeline", "FusedCodecPipeline"])
def test_every_pipeline_of_zarr_reads_and_writes(pipeline):
    owner = writable(MemoryStorage())
    data = np.random.default_rng(0).integers(0, 255, (64, 64), "u1")
    path = f"zarr.core.codec_pipeline.{pipeline}"
    with zarr.config.set({"codec_pipeline.path": path}):
        array = zarr.create_array(IcechunkStore(owner), shape=(64, 64), chunks=(8, 8), dtype="u1")
        array[:] = data
        array[3:9, 5:7] = 0
        data[3:9, 5:7] = 0
        assert (zarr.open_array(IcechunkStore(owner))[:] == data).all()
