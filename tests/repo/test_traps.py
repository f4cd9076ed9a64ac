"""Traps that show only with an open repository; those of its files are in tests/format."""

import datetime as dt

import pytest

from tests.compat.documents import GROUP, array_document, put, put_all
from tests.compat.place import changing, create, local_place
from tests.fs.driving import driving
from zfuse.format.ids import INITIAL_SNAPSHOT, SnapshotId
from zfuse.fs.inodes import ROOT
from zfuse.repo.ref import Ref, RefKind
from zfuse.repo.repository import Repository
from zfuse.storage.local import LocalStorage

pytestmark = pytest.mark.compat


class Unused:
    def declare(self, containers):
        self.containers = containers


async def test_12_expiration_edits_snapshots_of_version_1_in_place(tmp_path):
    repo = create(local_place(tmp_path), 1)
    for number in range(4):
        with changing(repo, f"{number}") as store:
            put(store, "zarr.json", GROUP + b" " * number)
    line = [SnapshotId.parse(s.id) for s in repo.ancestry(branch="main")]
    repository = await Repository.open(LocalStorage(tmp_path / "repository"), virtual=Unused())
    assert [info.id async for info in repository.ancestry(line[0])] == line
    newest = next(iter(repo.ancestry(branch="main"))).written_at
    repo.expire_snapshots(newest - dt.timedelta(microseconds=1))
    now = [SnapshotId.parse(s.id) for s in repo.ancestry(branch="main")]
    assert len(now) < len(line)
    assert [info.id async for info in repository.ancestry(line[0])] == now
    assert now[-1] == INITIAL_SNAPSHOT


@pytest.mark.parametrize("spec", [1, 2])
async def test_17_an_array_without_chunks_has_no_chunk_directory(tmp_path, spec):
    place = local_place(tmp_path)
    repo = create(place, spec)
    with changing(repo, "first") as store:
        line = array_document((8,), (2,))
        put_all(store, {"zarr.json": GROUP, "a/zarr.json": line, "b/zarr.json": line})
        put(store, "b/c/1", b"bytes")
    async with driving(place.url, ref=Ref(RefKind.BRANCH, "main")) as driven:
        for name, expected in (("a", {"zarr.json"}), ("b", {"zarr.json", "c"})):
            inode = (await driven.lookup(ROOT, name)).inode
            assert {item.name for item in await driven.list(inode)} == expected
