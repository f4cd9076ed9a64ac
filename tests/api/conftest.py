"""What the tests of the interface leave behind."""

import pytest

from zfuse.api.opener import close_connections


@pytest.fixture(autouse=True, scope="module")
def closed_connections():
    """Close what a module's tests opened: other tests count threads and descriptors."""
    yield
    close_connections()
