"""What all tests of storages share."""

import pytest

from tests.servers.nginx import nginx
from tests.servers.seaweedfs import s3_server

__all__ = ["nginx", "s3_server"]


@pytest.fixture(autouse=True)
def no_credentials_around(monkeypatch):
    """Keep botocore from finding anything that a test did not give."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
                 "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
