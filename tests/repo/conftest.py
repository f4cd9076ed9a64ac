"""A session on a repository in memory, of either version, that has one commit."""

import pytest

from tests.compat.documents import array_document
from tests.repo.driving import NoVirtualChunks
from tests.repo.stores import Store
from zfuse.repo.create import create_repository
from zfuse.repo.repository import Repository
from zfuse.repo.session import Session

LINE = array_document((4,), (1,))


@pytest.fixture
def store():
    return Store()


@pytest.fixture(params=[1, 2])
async def repository(request, store):
    await create_repository(store, spec_version=request.param)
    return await Repository.open(store, virtual=NoVirtualChunks())


@pytest.fixture
async def session(repository):
    session = await Session.open(repository, "main")
    await session.set_metadata("/a", LINE)
    await session.set_chunk("/a", (0,), b"base")
    await session.commit("base")
    return session
