"""What garbage collection spares: young objects, sessions, others' commits, and the ops log."""

import os
import time

import pytest
import trio

from tests.compat.documents import array_document
from tests.repo.driving import NoVirtualChunks, official, open_repository, zfuse_keys
from tests.repo.stores import Store, another
from zfuse.errors import InvalidInputError, MissingObjectError, NotFoundError, ReadOnlyError
from zfuse.format.ids import ChunkId
from zfuse.format.repo_info import Availability, RepoInfo
from zfuse.maintenance.gc import GcSummary, collect_garbage
from zfuse.maintenance.id_set import IdSet
from zfuse.maintenance.sweep import unneeded
from zfuse.repo.create import create_repository
from zfuse.repo.new_ids import new_id
from zfuse.repo.refs import create_branch, delete_branch, reset_branch
from zfuse.repo.repository import Repository
from zfuse.repo.session import Session
from zfuse.repo.settings import change_config, set_status
from zfuse.storage.base import ObjectInfo, Version
from zfuse.storage.local import LocalStorage

LINE = array_document((40,), (1,))
BIG = b"x" * 600


def now():
    return time.time_ns() // 1000


async def objects(storage, prefix=""):
    return {info.key async for info in storage.list(prefix)}


async def moments(repository):
    """Return when each entry of the ops log was made."""
    return [each.updated_at async for each in repository.updates()]


async def commit(repository, number, branch="main"):
    session = await Session.open(repository, branch)
    await session.set_metadata("/a", LINE)
    await session.set_chunk("/a", (number,), BIG)
    return await session.commit(f"commit {number}")


async def test_chunks_that_no_commit_has_go_once_they_are_old(repository):
    storage = repository.storage
    await commit(repository, 0)
    kept = await objects(storage)
    begun = now()
    session = await Session.open(repository, "main")
    ref = await session.set_chunk("/a", (1,), BIG)
    await storage.put("chunks/readme.txt", b"nobody's")
    await collect_garbage(repository, begun)
    assert f"chunks/{ref.chunk_id}" in await objects(storage)
    summary = await collect_garbage(repository, now())
    assert summary == GcSummary(bytes_deleted=600, chunks_deleted=1)
    left = {key for key in await objects(storage) if not key.startswith("overwritten/")}
    assert left == {key for key in kept if not key.startswith("overwritten/")} | {
        "chunks/readme.txt"
    }


async def test_a_cutoff_to_come_is_that_of_the_beginning(repository):
    class Late(Store):
        """Somebody stores a chunk as soon as what is needed is known."""

        async def delete(self, key):
            await super().put(f"chunks/{late}", BIG)
            await super().delete(key)

    late, storage = new_id(ChunkId), Late()
    storage._objects = repository.storage._objects
    await storage.put(f"manifests/{new_id(ChunkId)}", b"garbage")
    other = await Repository.open(storage, virtual=NoVirtualChunks())
    summary = await collect_garbage(other, now() + 10**12)
    assert (summary.manifests_deleted, summary.chunks_deleted) == (1, 0)
    assert f"chunks/{late}" in await objects(storage)


async def test_others_commit_meanwhile(repository):
    """What a session that began since the cut-off brings in is spared, and so is its base."""
    for number in range(3):
        await commit(repository, number)
    await create_branch(repository, "gone", repository.branches["main"])
    await commit(repository, 3, "gone")
    await delete_branch(repository, "gone")
    cutoff = now()
    await trio.sleep(0.002)
    async with trio.open_nursery() as nursery:

        async def write():
            for number in range(4, 12):
                theirs = await another(repository.storage)
                await theirs.set_chunk("/a", (number,), BIG)
                await theirs.commit(f"theirs {number}")

        nursery.start_soon(write)
        for _ in range(4):
            await collect_garbage(repository, cutoff)
    await collect_garbage(repository, cutoff)
    await repository.refresh()
    found = await zfuse_keys(repository, repository.branches["main"])
    assert sum(data == BIG for data in found.values()) == 11
    assert len(await objects(repository.storage, "chunks/")) == 11


async def test_the_base_of_a_session_stays_although_no_branch_has_it(repository):
    first = await commit(repository, 0)
    base = await commit(repository, 1)
    session = await Session.open(repository, "main")
    await reset_branch(repository, "main", first)
    await collect_garbage(repository, now(), keep={base})
    assert await zfuse_keys(repository, base)
    await session.set_chunk("/a", (2,), BIG)
    await collect_garbage(repository, now() - 10**7, keep={base})
    await collect_garbage(repository, now())
    with pytest.raises((MissingObjectError, NotFoundError)):
        await repository.assets.fetch_snapshot(base)


async def test_nothing_is_deleted_where_a_manifest_is_gone(repository):
    await commit(repository, 0)
    (manifest,) = await objects(repository.storage, "manifests/")
    await repository.storage.delete(manifest)
    before = await objects(repository.storage, "chunks/")
    fresh = await Repository.open(repository.storage, virtual=NoVirtualChunks())
    with pytest.raises(MissingObjectError):
        await collect_garbage(fresh, now())
    assert await objects(repository.storage, "chunks/") == before


async def test_nothing_is_deleted_where_a_snapshot_in_the_middle_is_gone(repository):
    """What it and its ancestors need is needed again when it is restored from a copy."""
    await commit(repository, 0)
    lost = await commit(repository, 1)
    await commit(repository, 2)
    await repository.storage.delete(f"snapshots/{lost}")
    before = await objects(repository.storage)
    fresh = await Repository.open(repository.storage, virtual=NoVirtualChunks())
    with pytest.raises(MissingObjectError, match=f"{lost} is referenced but gone"):
        await collect_garbage(fresh, now())
    assert before <= await objects(repository.storage)


async def test_a_repository_that_takes_no_changes_is_left_alone(store):
    await create_repository(store)
    repository = await Repository.open(store, virtual=NoVirtualChunks())
    await set_status(repository, Availability.READ_ONLY, "moving")
    before = await objects(store)
    with pytest.raises(ReadOnlyError):
        await collect_garbage(repository, now())
    assert await objects(store) == before


async def test_former_states_go_but_those_that_the_ops_log_needs(tmp_path):
    """Pages of three: every page that is read stays, now and as the log grows."""
    await create_repository(LocalStorage(tmp_path))
    repository = await open_repository(tmp_path)
    await change_config(repository, lambda old: {**old, "num_updates_per_repo_info_file": 3})
    for number in range(12):
        await commit(repository, number)
    await repository.storage.put("overwritten/repo.00000000000000.LOST", b"of a failed attempt")
    for path in (tmp_path / "overwritten").iterdir():
        os.utime(path, (1, 1))
    whole, total = await moments(repository), 0
    for number in range(12, 36):
        await commit(repository, number)
        if number % 6 == 0:
            for path in (tmp_path / "overwritten").iterdir():
                os.utime(path, (1, 1))
            total += (await collect_garbage(repository, now())).backups_deleted
        now_whole = await moments(repository)
        assert now_whole[-len(whole) :] == whole
        whole = now_whole
    assert len(whole) == 2 + 36 + 4
    assert not await objects(repository.storage, "overwritten/repo.00000000000000.LOST")
    left = len(await objects(repository.storage, "overwritten/"))
    assert left == len(whole) - total  # each update left one, and one attempt was lost
    assert left < 25
    assert max([len(page) async for page in pages(repository)]) <= 3 + 7
    officially = [each.updated_at for each in official(tmp_path).ops_log()]
    assert len(officially) == len(whole)


async def pages(repository):
    """Yield the entries of each file of the ops log."""
    info = repository.state.info
    while info is not None:
        yield info.latest_updates
        before = info.repo_before_updates
        blob = before and await repository.storage.get(f"overwritten/{before}")
        info = RepoInfo.decode(blob.data) if blob else None


@pytest.mark.parametrize("late_s", [-3600, 3600])
async def test_nothing_is_deleted_where_the_clock_of_the_store_is_another(late_s):
    """By this machine's clock a chunk that somebody stored just now may be an hour old."""
    storage = Store()
    await create_repository(storage)
    repository = await Repository.open(storage, virtual=NoVirtualChunks())
    session = await Session.open(repository, "main")
    await session.set_metadata("/a", LINE)
    await session.set_chunk("/a", (1,), BIG)
    before = await objects(storage)
    storage.late_s = late_s
    with pytest.raises(InvalidInputError, match=r"clocks .* 3[56]\d\d s apart"):
        await collect_garbage(repository, now())
    assert await objects(storage) == before
    storage.late_s = late_s // 10
    assert (await collect_garbage(repository, now())).chunks_deleted == 1


async def test_young_former_states_stay(tmp_path):
    await create_repository(LocalStorage(tmp_path))
    repository = await open_repository(tmp_path)
    await repository.storage.put("overwritten/repo.00000000000000.NEW", b"of an attempt now")
    assert (await collect_garbage(repository, now())).backups_deleted == 0
    assert await objects(repository.storage, "overwritten/repo.00000000000000.NEW")


async def test_what_a_snapshot_needs_is_read_without_its_nodes(repository):
    await commit(repository, 0)
    assets, tip = repository.assets, repository.branches["main"]
    files = await assets.fetch_manifest_files(tip)
    assert len(files) == 1
    snapshot = await assets.fetch_snapshot(tip)
    assert files == snapshot.manifest_files
    info = await assets.fetch_snapshot_info(tip)
    for fact in ("id", "parent_id", "flushed_at", "message", "metadata"):
        assert getattr(info, fact) == getattr(snapshot, fact)


def test_a_store_that_tells_whole_seconds_may_mean_the_end_of_one():
    def info(ns):
        return ObjectInfo("chunks/" + "0" * 20, 1, ns, Version("v"))

    choose = unneeded("chunks/", IdSet(), 5_500_000)
    assert [len(choose([info(ns)])) for ns in (4_000_000_000, 5_000_000_000, 5_000_000_001)] == [
        *(1, 0, 1)
    ]
