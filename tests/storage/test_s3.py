import pytest

from tests.contracts.storage import StorageContract
from zfuse.storage.options import StorageOptions


def options(server, **changes):
    given = {
        "endpoint_url": server.endpoint,
        "region": "us-east-1",
        "force_path_style": True,
        "access_key_id": server.access_key,
        "secret_access_key": server.secret_key,
    }
    return StorageOptions(**(given | changes))


class TestS3Storage(StorageContract):
    races = 2  # SeaweedFS takes seconds for one
    bent_keys = frozenset({"back\\slash"})  # SeaweedFS lists it with a slash

    @pytest.fixture
    async def storage(self, opener, s3_server, bucket, request):
        name = f"tests/{abs(hash(request.node.name))} with space"
        storage = await opener.open(f"s3://{bucket}/{name}", options(s3_server))
        return storage._inner
