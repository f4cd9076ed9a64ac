"""zarr-python's store tests with a LocalStore in ``tmp_path``; tests.mount.upstream runs them.

zarr's wheel has the tests, and asks for these few methods.
"""

import pytest
from zarr.core.buffer import Buffer, cpu
from zarr.storage import LocalStore
from zarr.testing.store import StoreTests


class TestLocalStore(StoreTests[LocalStore, cpu.Buffer]):
    """All that zarr-python asks of a store."""

    store_cls = LocalStore
    buffer_cls = cpu.Buffer

    @pytest.fixture
    def store_kwargs(self, tmp_path):
        return {"root": tmp_path}

    async def get(self, store: LocalStore, key: str) -> Buffer:
        path = store.root / key
        return self.buffer_cls.from_bytes(path.read_bytes())

    async def set(self, store: LocalStore, key: str, value: Buffer) -> None:
        path = store.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value.to_bytes())

    def test_store_repr(self, store: LocalStore) -> None:
        assert str(store) == store.root.as_uri()

    def test_store_supports_writes(self, store: LocalStore) -> None:
        assert store.supports_writes

    def test_store_supports_listing(self, store: LocalStore) -> None:
        assert store.supports_listing
