"""What all tests of storages share."""

import os

import pytest

from zfuse.storage.open import StorageOpener

_AWS_VARIABLES = (
    "AWS_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_CA_BUNDLE",
)


@pytest.fixture(autouse=True)
def no_credentials_around(monkeypatch):
    """Keep botocore from finding anything that a test did not give."""
    for name in _AWS_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
async def opener():
    async with StorageOpener() as opener:
        yield opener


@pytest.fixture(scope="session")
def bucket(s3_server):
    """One for all tests; take a prefix each."""
    return s3_server.make_bucket()


@pytest.fixture
def open_descriptors():
    """Return a function that counts the descriptors of this process."""
    return lambda: len(os.listdir("/proc/self/fd"))
