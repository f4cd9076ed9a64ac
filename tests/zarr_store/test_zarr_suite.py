"""What zarr-python asks of every store, in three places.

The chunks of its tests get arrays that can have them. Other keys than those of zarr.json
documents and of chunks are none that Icechunk can hold, nor are chunks without bytes, nor
documents that are none: what the tests do with such is expected to be refused, and what they
are about is tested in ``test_store`` with keys that there are.
"""

import asyncio

import pytest
from zarr.core.buffer import cpu
from zarr.testing.store import StoreTests

from tests.compat.documents import V2_DOT, V2_SLASH, array_document
from tests.zarr_store.in_asyncio import suite
from tests.zarr_store.owners import writable
from tests.zarr_store.places import PLACES, storage_at
from zfuse.portal import run_async
from zfuse.zarr_store.keyed import KeyedWorkspace
from zfuse.zarr_store.store import IcechunkStore

NUMBERS = array_document((10,), (1,), chunk_key_encoding=V2_DOT)
PLANE = array_document((2, 3), (1, 1))
DOCUMENTS = {
    "c/0": ("/", array_document((2,), (1,))),
    "foo/c/0.0": ("/foo/c", array_document((1, 1), (1, 1), chunk_key_encoding=V2_DOT)),
    "foo/0/0": ("/foo", array_document((1, 1), (1, 1), chunk_key_encoding=V2_SLASH)),
    "cc/0": ("/cc", NUMBERS),
    **{f"c/{a}/{b}": ("/", PLANE) for a in (0, 1) for b in (0, 1, 2)},
    **{str(n): ("/", NUMBERS) for n in range(10)},
}
"""By the keys of zarr's tests an array that has such a chunk, and where that is."""

NO_KEY = "no array of Icechunk has a chunk of that name"
NO_DOCUMENT = "Icechunk holds no zarr.json that is none"
NO_BYTES = "Icechunk holds no chunk without bytes"


def always(reason):
    return lambda arguments: reason


def of_data(arguments):
    if arguments["data"] == b"":
        return NO_BYTES
    return NO_DOCUMENT if arguments["key"] == "zarr.json" else None


def of_ranges(arguments):
    return NO_DOCUMENT if "zarr.json" in [key for key, _ in arguments["key_ranges"]] else None


DIFFERENCES = {
    "test_clear": always(NO_KEY),
    "test_delete": always(NO_DOCUMENT),
    "test_delete_dir": always(NO_DOCUMENT),
    "test_delete_sync": always(NO_KEY),
    "test_delete_sync_visible_to_async_get": always(NO_KEY),
    "test_exists": always(NO_DOCUMENT),
    "test_get": of_data,
    "test_get_partial_values": of_ranges,
    "test_get_sync": always(NO_KEY),
    "test_get_sync_byte_range_parity": always(NO_KEY),
    "test_getsize": of_data,
    "test_is_empty": always(NO_KEY),
    "test_list": always(NO_DOCUMENT),
    "test_list_dir": always(NO_DOCUMENT),
    "test_list_empty_path": always(NO_DOCUMENT),
    "test_list_prefix": always(NO_DOCUMENT),
    "test_serializable_store": always(NO_KEY),
    "test_set": of_data,
    "test_set_if_not_exists": always(NO_KEY),
    "test_set_many": always(NO_DOCUMENT),
    "test_set_sync": always(NO_KEY),
    "test_sync_async_set_get_parity": always(NO_KEY),
    "test_with_read_only_store": always(NO_KEY),
}


class RoomyStore(IcechunkStore):
    """Makes the array for a chunk first."""

    async def set(self, key, value):
        if not self.read_only:
            await run_async(make_room, self, key)
        await super().set(key, value)


@suite(DIFFERENCES)
class TestStore(StoreTests[RoomyStore, cpu.Buffer]):
    store_cls = RoomyStore
    buffer_cls = cpu.Buffer

    @pytest.fixture(params=[*PLACES[:2], pytest.param("s3", marks=pytest.mark.long)])
    def store_kwargs(self, request):
        with storage_at(request.param, request) as storage:
            yield {"owner": writable(storage)}

    @pytest.fixture
    def open_kwargs(self, store_kwargs):
        return store_kwargs

    @pytest.fixture
    def store(self, store_kwargs):
        return asyncio.run(RoomyStore.open(**store_kwargs))

    @pytest.fixture
    def store_not_open(self, store_kwargs):
        return RoomyStore(**store_kwargs)

    async def set(self, store, key, value):
        await run_async(make_room, store, key)
        await run_async(KeyedWorkspace(store.session.workspace).set, key, value.to_bytes())

    async def get(self, store, key):
        data = await run_async(KeyedWorkspace(store.session.workspace).get, key)
        return self.buffer_cls.from_bytes(data)

    def test_store_repr(self, store):
        assert repr(store) == f"<RoomyStore of {store.session!r}, writable>"

    def test_store_supports_writes(self, store):
        assert store.supports_writes

    def test_store_supports_listing(self, store):
        assert store.supports_listing


async def make_room(store, key):
    """Make an array that *key* is a chunk of, if there could be one."""
    if key in DOCUMENTS:
        path, document = DOCUMENTS[key]
        await store.session.workspace.set_metadata(path, document)
