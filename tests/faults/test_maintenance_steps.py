"""The store goes down at each step of maintenance: every ref reads, and a second run ends it."""

import itertools
import random
import shutil
import time

import pytest
import trio

from tests.compat.random_history import (
    History,
    NoContainers,
    facts,
    objects,
    read_officially,
    read_with_zfuse,
)
from zfuse.errors import OutcomeUnknownError, StorageError, StorageTimeoutError
from zfuse.maintenance.expire import expire_snapshots
from zfuse.maintenance.gc import collect_garbage
from zfuse.maintenance.rewrite_manifests import rewrite_manifests
from zfuse.maintenance.upgrade import upgrade_repository
from zfuse.repo.repository import Repository
from zfuse.storage.base import Storage
from zfuse.storage.local import LocalStorage

DATA = bytes(range(100))


class Failing(LocalStorage):
    """A store that goes down after ``left`` requests; the last one may be carried out yet."""

    def __init__(self, root, left, *, carried_out):
        super().__init__(root)
        self.left = left
        self.carried_out = carried_out

    async def get(self, key):
        self._count()
        return await super().get(key)

    async def delete(self, key):
        if not self._counts() and not self.carried_out:
            raise StorageTimeoutError("no answer")
        await super().delete(key)
        self._check()

    delete_many = Storage.delete_many  # one by one

    async def put(self, key, data, *, expect=None):
        if not self._counts() and not self.carried_out:
            raise StorageTimeoutError("no answer")
        version = await super().put(key, data, expect=expect)
        if expect is not None and self.left < 0:
            raise OutcomeUnknownError("no answer")
        self._check()
        return version

    async def list(self, prefix):
        self._count()
        async for info in super().list(prefix):
            yield info

    def _counts(self):
        self.left -= 1
        return self.left >= 0

    def _check(self):
        if self.left < 0:
            self.carried_out = False  # and nothing after that
            raise StorageTimeoutError("no answer")

    def _count(self):
        self._counts()
        self._check()


async def expire(repository):
    await expire_snapshots(repository, now(), delete_expired_tags=True)


async def collect(repository):
    await collect_garbage(repository, now(), max_concurrent_deletes=1)


async def rewrite(repository):
    await rewrite_manifests(repository, "again", branch="main")


async def upgrade(repository):
    await upgrade_repository(repository)


def now():
    return time.time_ns() // 1000


@pytest.fixture(scope="module")
def histories(tmp_path_factory):
    """A history of each version, with garbage."""
    directory = tmp_path_factory.mktemp("histories")
    made = {}
    for spec in (1, 2):
        history = made[spec] = History.make(directory / str(spec), spec, random.Random(spec), 10)
        history.open().expire_snapshots(history.moment())
    return made


WAYS = [(1, expire), (2, expire), (1, collect), (2, collect), (1, upgrade), (2, rewrite)]


@pytest.mark.parametrize("stride", [23, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("carried_out", [False, True])
@pytest.mark.parametrize(("spec", "work"), WAYS)
def test_the_store_goes_down_at_each_step(spec, work, carried_out, histories, tmp_path, stride):
    history, path = histories[spec], tmp_path / "copy"
    before = read_officially(history.open())
    for step in itertools.count(int(carried_out), stride):
        shutil.copytree(history.path, path)
        if trio.run(attempt, Failing(path, step, carried_out=carried_out), work):
            break
        check_reading(history, path, before)
        assert trio.run(attempt, LocalStorage(path), work)
        check_reading(history, path, before)
        shutil.rmtree(path)
    assert step > 3
    if work is not rewrite:
        rerun = objects(path)
        shutil.rmtree(path)
        shutil.copytree(history.path, path)
        assert trio.run(attempt, LocalStorage(path), work)
        assert objects(path) == rerun


async def attempt(storage, work):
    """Do the work; tell whether it came to its end."""
    try:
        await work(await Repository.open(storage, virtual=NoContainers()))
    except StorageError:
        return False
    return True


def check_reading(history, path, before):
    officially = read_officially(history.open(path))
    assert trio.run(read_with_zfuse, path, DATA) == officially
    branches = {name for name in before if name.startswith("branch")}
    assert branches <= officially.keys()
    for name, content in officially.items():
        assert chunks(content) == chunks(before[name])
    assert facts(path)


def chunks(content):
    return {key: data for key, data in content.items() if key != "history"}
