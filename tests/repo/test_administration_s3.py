"""Refs and settings on a real S3 server, changed by zfuse and by the official library in turn."""

import icechunk
import pytest

from tests.compat.place import s3_place
from tests.repo.stores import AnyContainers
from zfuse.errors import AlreadyExistsError
from zfuse.format.config import StoreConfig, VirtualChunkContainer
from zfuse.format.config_settings import put
from zfuse.format.ids import INITIAL_SNAPSHOT
from zfuse.repo.create import create_repository
from zfuse.repo.refs import create_branch, create_tag, delete_branch, delete_tag, reset_branch
from zfuse.repo.repository import Repository
from zfuse.repo.settings import add_container, change_config, remove_container
from zfuse.storage.open import StorageOpener
from zfuse.storage.options import StorageOptions


@pytest.fixture(scope="module")
def bucket(s3_server):
    return s3_server.make_bucket()


@pytest.mark.compat
@pytest.mark.parametrize("spec", [1, 2])
async def test_both_change_one_repository(spec, s3_server, bucket, tmp_path):
    access = {"key": s3_server.access_key, "secret": s3_server.secret_key}
    place = s3_place(
        tmp_path, endpoint=s3_server.endpoint, bucket=bucket, prefix=f"spec {spec}", **access
    )
    options = StorageOptions(
        endpoint_url=s3_server.endpoint,
        region="us-east-1",
        force_path_style=True,
        access_key_id=s3_server.access_key,
        secret_access_key=s3_server.secret_key,
    )
    async with StorageOpener() as opener:
        storage = await opener.open(place.url, options)
        await create_repository(storage, spec_version=spec)
        repository = await Repository.open(storage, virtual=AnyContainers())
        repo = icechunk.Repository.open(place.storage)
        for name in ("ü *%20", "dev") if spec == 1 else ("a/b", "dev"):
            await create_branch(repository, name, INITIAL_SNAPSHOT)
            await create_tag(repository, name, INITIAL_SNAPSHOT)
            assert {"main", name} <= repo.list_branches()
            assert name in repo.list_tags()
        tip = repo.writable_session("dev").commit("theirs", allow_empty=True)
        await repository.refresh()
        assert str(repository.lookup_branch("dev")) == tip
        await reset_branch(repository, "dev", INITIAL_SNAPSHOT)
        assert repo.lookup_branch("dev") == str(INITIAL_SNAPSHOT)
        await delete_branch(repository, "dev")
        await delete_tag(repository, "dev")
        with pytest.raises(icechunk.AlreadyExistsError):
            repo.create_tag("dev", tip)
        repo.create_tag("theirs", tip)
        with pytest.raises(AlreadyExistsError):
            await create_tag(repository, "theirs", INITIAL_SNAPSHOT)

        for name in ("one", "two"):
            container = VirtualChunkContainer(f"s3://{name}/", StoreConfig("s3"), name)
            await add_container(repository, container)
        await change_config(repository, lambda config: put(config, "compression.level", 6))
        repo = icechunk.Repository.open(place.storage)
        assert set(repo.config.virtual_chunk_containers) == {"s3://one/", "s3://two/"}
        config = repo.config
        config.inline_chunk_threshold_bytes = 9
        repo = icechunk.Repository.open(place.storage, config=config)
        repo.save_config()
        await remove_container(repository, "one")
        found = icechunk.Repository.fetch_config(place.storage)
        assert (found.inline_chunk_threshold_bytes, found.compression.level) == (9, 6)
        assert set(found.virtual_chunk_containers) == {"s3://two/"}
