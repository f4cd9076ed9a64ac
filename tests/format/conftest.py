import pytest

from tests.compat.place import local_place


@pytest.fixture
def place(tmp_path):
    """Where the official library can make a repository."""
    return local_place(tmp_path)
