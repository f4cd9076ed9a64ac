"""Commits to a store that breaks, stalls and loses answers: each lands once.

The deadline is long, and short for what the store shall fail.
"""

import pytest
import trio

from tests.counting import CountingStorage
from tests.repo.driving import NoVirtualChunks
from tests.servers.fault_proxy import Fault, fault_proxy, share
from tests.servers.seaweedfs import REGION
from zfuse.errors import OutcomeUnknownError, StorageError
from zfuse.repo.create import create_repository
from zfuse.repo.repository import Repository
from zfuse.repo.session import Session
from zfuse.storage.open import StorageOpener
from zfuse.storage.options import StorageOptions
from zfuse.storage.retry import RetryPolicy

LONG = RetryPolicy(deadline_s=120.0)
GROUP = b'{"node_type":"group","zarr_format":3,"attributes":{"n":%d}}'


def options(server, url):
    return StorageOptions(
        endpoint_url=url,
        region=REGION,
        force_path_style=True,
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
        deadline_s=LONG.deadline_s,
    )


async def commit(session, message):
    """Commit until it is known to have succeeded."""
    for _ in range(20):
        try:
            return await session.commit(message)
        except OutcomeUnknownError:
            await trio.sleep(0.05)
    raise AssertionError("never known")


@pytest.mark.parametrize("spec_version", [1, 2])
async def test_every_commit_lands_once_on_an_unsteady_store(spec_version, s3_server):
    location = f"s3://{s3_server.make_bucket()}/r"
    with fault_proxy(s3_server.endpoint) as proxy:
        async with StorageOpener() as opener:
            storage = await opener.open(location, options(s3_server, proxy.url))
            await create_repository(storage, spec_version=spec_version)
            repository = await Repository.open(storage, virtual=NoVirtualChunks())
            session = await Session.open(repository, "main")
            faults = (Fault.LOST, Fault.RESET, Fault.LOST, Fault.ERROR, Fault.UNAVAILABLE)
            proxy.plan = share(0.25, *faults)
            for n in range(8):
                await session.set_metadata("/g", GROUP % n)
                await commit(session, f"commit {n}")
            proxy.plan = share(0, Fault.LOST)
            await repository.refresh()
            tip = repository.lookup_branch("main")
            messages = [info.message async for info in repository.ancestry(tip)][:-1]
    assert messages == [f"commit {n}" for n in reversed(range(8))]


@pytest.mark.parametrize("spec_version", [1, 2])
async def test_a_store_that_stops_answering_the_decisive_write(spec_version, s3_server):
    location = f"s3://{s3_server.make_bucket()}/r"
    with fault_proxy(s3_server.endpoint) as proxy:
        async with StorageOpener() as opener:
            storage = await opener.open(location, options(s3_server, proxy.url))
            await create_repository(storage, spec_version=spec_version)
            counting = CountingStorage(storage)
            repository = await Repository.open(counting, virtual=NoVirtualChunks())
            session = await Session.open(repository, "main")
            await session.set_metadata("/g", GROUP % 1)
            hanging = []

            def plan(request):
                entry = request.target.endswith(("/repo", "/ref.json"))
                if hanging or (request.method == "PUT" and entry):
                    hanging.append(request)
                    return Fault.HANG
                return None

            async def lose_patience(operation, key):
                await trio.lowlevel.checkpoint()
                if operation == "put" and key.endswith(("repo", "ref.json")):
                    storage._policy = RetryPolicy(deadline_s=3.0)

            proxy.plan, counting.before = plan, lose_patience
            with pytest.raises(OutcomeUnknownError, match="try again"):
                await session.commit("hangs")
            assert hanging
            assert session.has_changes
            proxy.plan, counting.before, storage._policy = share(0, Fault.LOST), None, LONG
            await commit(session, "again")
            tip = repository.lookup_branch("main")
            messages = [info.message async for info in repository.ancestry(tip)][:-1]
    assert messages == ["hangs"]
    assert not session.has_changes


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.UNAVAILABLE, Fault.HANG])
async def test_a_store_that_is_down(fault, s3_server):
    location = f"s3://{s3_server.make_bucket()}/r"
    with fault_proxy(s3_server.endpoint) as proxy:
        async with StorageOpener() as opener:
            storage = await opener.open(location, options(s3_server, proxy.url))
            await create_repository(storage)
            repository = await Repository.open(storage, virtual=NoVirtualChunks())
            session = await Session.open(repository, "main")
            await session.set_metadata("/g", GROUP % 1)
            before = session.base.id
            proxy.plan, storage._policy = share(1, fault), RetryPolicy(deadline_s=1.0)
            with pytest.raises(StorageError) as caught:
                await session.commit("down")
            assert caught.value.exit_code == 75
            assert session.has_changes
            proxy.plan, storage._policy = share(0, fault), LONG
            await repository.refresh()
            assert repository.lookup_branch("main") == before
            tip = await commit(session, "up again")
            await repository.refresh()
            assert repository.lookup_branch("main") == tip
