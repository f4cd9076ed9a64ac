"""Stores that misbehave while a session commits, and what they hold in the end."""

import trio

from tests.repo.driving import NoVirtualChunks, zfuse_keys
from zfuse.errors import OutcomeUnknownError, StorageTimeoutError
from zfuse.repo.repository import Repository
from zfuse.repo.session import Session
from zfuse.storage.memory import MemoryStorage


class Store(MemoryStorage):
    """A store that can hold up writes of one kind, lose answers to them, and fall silent."""

    def __init__(self):
        super().__init__()
        self.lose = []  # for each write of the entry to come: whether it is carried out
        self.silent = False
        self.gate = None
        self.waits = trio.Event()  # that somebody is at the gate
        self.late_s = 0

    async def get(self, key):
        if self.silent:
            raise StorageTimeoutError("no answer")
        return await super().get(key)

    async def head(self, key):
        found = await super().head(key)
        later = found.last_modified_ns + self.late_s * 10**9
        return type(found)(found.key, found.size, later, found.version)

    async def put(self, key, data, *, expect=None):
        if key not in {"repo", "config.yaml"} and not key.startswith("refs/"):
            return await super().put(key, data, expect=expect)
        if self.gate is not None:
            self.waits.set()
            await self.gate.wait()
        if not self.lose:
            return await super().put(key, data, expect=expect)
        if self.lose.pop(0):
            await super().put(key, data, expect=expect)
        raise OutcomeUnknownError("the answer got lost")


async def another(store):
    """Return a session of somebody else."""
    repository = await Repository.open(store, virtual=NoVirtualChunks())
    return await Session.open(repository, "main")


async def history(store):
    repository = await Repository.open(store, virtual=NoVirtualChunks())
    tip = repository.lookup_branch("main")
    return [info.message async for info in repository.ancestry(tip)][:-1]


async def keys(store):
    repository = await Repository.open(store, virtual=NoVirtualChunks())
    return await zfuse_keys(repository, repository.lookup_branch("main"))


class AnyContainers:
    """Takes note of containers, and reads nothing."""

    def declare(self, containers):
        self.declared = dict(containers)

    async def read(self, ref, byte_range):
        raise AssertionError((ref, byte_range))
