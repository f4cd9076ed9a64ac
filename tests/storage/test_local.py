import pytest

from tests.contracts.storage import StorageContract
from zfuse.storage.local import LocalStorage


class TestLocalStorage(StorageContract):
    exact_etags = False

    @pytest.fixture
    def storage(self, tmp_path):
        return LocalStorage(tmp_path / "not" / "yet")
