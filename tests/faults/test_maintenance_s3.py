"""Maintenance of a repository on S3 whose server fails now and then, or for good."""

import contextlib
import random

import icechunk
import pytest
import trio

from tests.compat.random_history import (
    History,
    NoContainers,
    objects,
    open_for_tests,
    read_officially,
)
from tests.counting import CountingStorage
from tests.servers.fault_proxy import Fault, fault_proxy, share
from zfuse.errors import StorageError
from zfuse.maintenance.expire import expire_snapshots
from zfuse.maintenance.gc import collect_garbage
from zfuse.maintenance.upgrade import upgrade_repository
from zfuse.repo.publish import now_us
from zfuse.repo.repository import Repository
from zfuse.storage.local import LocalStorage
from zfuse.storage.open import StorageOpener
from zfuse.storage.options import StorageOptions
from zfuse.storage.retry import RetryPolicy

LONG = RetryPolicy(deadline_s=120.0)
pytestmark = pytest.mark.compat


class Bucket:
    """A copy of a history in a bucket, reached through a proxy."""

    def __init__(self, server, history):
        self.server, self.name = server, server.make_bucket()
        self.history = history

    def official(self):
        storage = icechunk.s3_storage(
            bucket=self.name,
            prefix="r",
            region="us-east-1",
            endpoint_url=self.server.endpoint,
            allow_http=True,
            access_key_id=self.server.access_key,
            secret_access_key=self.server.secret_key,
            force_path_style=True,
        )
        return icechunk.Repository.open(
            storage, authorize_virtual_chunk_access=self.history.access()
        )

    @contextlib.asynccontextmanager
    async def storage(self, endpoint):
        options = StorageOptions(
            endpoint_url=endpoint,
            region="us-east-1",
            force_path_style=True,
            access_key_id=self.server.access_key,
            secret_access_key=self.server.secret_key,
            deadline_s=LONG.deadline_s,
        )
        async with StorageOpener() as opener:
            yield await opener.open(f"s3://{self.name}/r", options)

    async def fill(self):
        source = LocalStorage(self.history.path)
        async with self.storage(self.server.endpoint) as target:
            for key in objects(self.history.path):
                await target.put(key, (await source.get(key)).data)
        await trio.sleep(1)  # the server tells the second in which that was, no more

    async def keys(self):
        async with self.storage(self.server.endpoint) as storage:
            found = {info.key async for info in storage.list("")}
        return {key for key in found if not key.startswith("overwritten/")}


async def maintain(storage, spec):
    repository = await Repository.open(storage, virtual=NoContainers())
    await expire_snapshots(repository, now_us(), delete_expired_tags=True)
    await collect_garbage(repository, now_us())
    if spec == 1:
        await upgrade_repository(repository)


@pytest.fixture(params=[1, 2])
def bucket(request, tmp_path, s3_server):
    history = History.make(tmp_path / "made", request.param, random.Random(request.param), 14)
    bucket = Bucket(s3_server, history)
    trio.run(bucket.fill)
    return bucket


def test_a_server_that_fails_now_and_then(bucket, tmp_path):
    history = bucket.history
    local = history.copy("local")

    async def on_s3(proxy):
        async with bucket.storage(proxy.url) as storage:
            await maintain(storage, history.spec)

    async def locally():
        await maintain((await open_for_tests(local)).storage, history.spec)

    trio.run(locally)
    with fault_proxy(bucket.server.endpoint) as proxy:
        proxy.plan = share(0.15, Fault.UNAVAILABLE, Fault.RESET)
        trio.run(on_s3, proxy)
    assert trio.run(bucket.keys) == objects(local)
    assert len(objects(local)) < len(objects(history.path))
    assert read_officially(bucket.official()) == read_officially(history.open(local))


def test_a_server_that_fails_for_good(bucket):
    before = read_officially(bucket.history.open())
    deletions = 0

    def plan(request):
        nonlocal deletions
        deletions += request.method == "DELETE"
        return Fault.ERROR if deletions > 3 else None

    async def fail(proxy):
        async with bucket.storage(proxy.url) as storage:
            counting = CountingStorage(storage)
            repository = await Repository.open(counting, virtual=NoContainers())
            await expire_snapshots(repository, now_us())

            async def lose_patience(operation, _key):
                await trio.lowlevel.checkpoint()
                if operation == "delete":
                    storage._policy = RetryPolicy(deadline_s=5)

            counting.before = lose_patience
            with pytest.raises(StorageError):
                await collect_garbage(repository, now_us())
            proxy.plan, counting.before, storage._policy = (lambda _request: None), None, LONG
            await collect_garbage(repository, now_us())

    with fault_proxy(bucket.server.endpoint) as proxy:
        proxy.plan = plan
        trio.run(fail, proxy)
    assert deletions > 3
    for name, content in read_officially(bucket.official()).items():
        assert content == before[name] | {"history": content["history"]}
