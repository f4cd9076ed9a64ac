"""What an open repository knows of its history, by the word of the official library."""

import pytest

from tests.compat.documents import GROUP, put
from tests.compat.golden import NAMES, Golden, microseconds
from tests.compat.place import changing, create, local_place
from tests.compat.repositories import CASES, build
from tests.counting import CountingStorage
from zfuse.errors import (
    CorruptionError,
    MissingObjectError,
    NotFoundError,
    RepositoryNotFoundError,
)
from zfuse.format.ids import INITIAL_SNAPSHOT, SnapshotId
from zfuse.format.layout import snapshot_key
from zfuse.repo.repository import Repository, fetch_state
from zfuse.storage.local import LocalStorage
from zfuse.storage.memory import MemoryStorage

both = pytest.mark.parametrize("spec", [1, 2])


class Unused:
    def declare(self, containers):
        self.containers = containers


async def open_at(directory):
    return await Repository.open(CountingStorage(LocalStorage(directory)), virtual=Unused())


def as_microseconds(moment):
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


@pytest.mark.compat
@pytest.mark.parametrize(("name", "spec"), CASES)
async def test_history_is_what_the_official_library_says(name, spec, tmp_path):
    made = build(name, spec, local_place(tmp_path))
    official = made.open()
    repository = await open_at(tmp_path / "repository")
    assert {n: str(s) for n, s in repository.branches.items()} == made.branches
    assert {n: str(s) for n, s in repository.tags.items()} == made.tags
    for snapshot in made.snapshots:
        assert await repository.has_snapshot(SnapshotId.parse(snapshot))
        told = [
            (s.id, s.parent_id, as_microseconds(s.written_at), s.message, s.metadata)
            for s in official.ancestry(snapshot_id=snapshot)
        ]
        found = [
            (str(s.id), s.parent_id and str(s.parent_id), s.flushed_at, s.message, s.metadata)
            async for s in repository.ancestry(SnapshotId.parse(snapshot))
        ]
        assert found == told
    if spec > 1:
        found = [update.updated_at async for update in repository.updates()]
        assert found == [as_microseconds(u.updated_at) for u in official.ops_log()]
    newest = await repository.newest_snapshots(1000)
    times = [info.flushed_at for info in newest]
    assert times == sorted(times, reverse=True)
    assert {str(info.id) for info in newest} == set(made.snapshots)
    assert await repository.newest_snapshots(2) == newest[:2]


@pytest.mark.parametrize("name", NAMES)
async def test_history_of_golden_repositories(name):
    report = Golden(name).report
    repository = await open_at(Golden(name).repository)
    for tip, line in report["ancestry"].items():
        found = [info async for info in repository.ancestry(SnapshotId.parse(tip))]
        assert [str(info.id) for info in found] == line
        for info in found:
            told = report["snapshots"][str(info.id)]
            assert info.flushed_at == microseconds(told["written_at"])


@both
@pytest.mark.compat
async def test_unknown_snapshots(tmp_path, spec):
    create(local_place(tmp_path), spec)
    repository = await open_at(tmp_path / "repository")
    unknown = SnapshotId(bytes(12))
    assert not await repository.has_snapshot(unknown)
    with pytest.raises(NotFoundError, match=str(unknown)):
        await repository.snapshot_info(unknown)
    with pytest.raises(NotFoundError):
        [info async for info in repository.ancestry(unknown)]


@pytest.mark.compat
async def test_a_branch_whose_snapshot_is_gone_is_damage(tmp_path):
    repo = create(local_place(tmp_path), 1)
    tip = SnapshotId.parse(repo.lookup_branch("main"))
    (tmp_path / "repository" / snapshot_key(tip)).unlink()
    repository = await open_at(tmp_path / "repository")
    with pytest.raises(MissingObjectError, match=f"{tip} is gone"):
        [info async for info in repository.ancestry(tip)]


@pytest.mark.compat
async def test_history_ends_where_an_expired_parent_would_be(tmp_path):
    repo = create(local_place(tmp_path), 1)
    for number in range(3):
        with changing(repo, f"{number}") as store:
            put(store, "zarr.json", GROUP + b" " * number)
    line = [SnapshotId.parse(s.id) for s in repo.ancestry(branch="main")]
    (tmp_path / "repository" / snapshot_key(line[1])).unlink()
    repository = await open_at(tmp_path / "repository")
    assert [info.id async for info in repository.ancestry(line[0])] == line[:1]
    assert [info.id for info in await repository.newest_snapshots(9)] == line[:1]


@pytest.mark.compat
async def test_the_ops_log_ends_where_a_page_is_missing(tmp_path):
    made = build("ops_pages", 2, local_place(tmp_path))
    repository = await open_at(tmp_path / "repository")
    everything = [update async for update in repository.updates()]
    first = len(repository.state.info.latest_updates)
    page = repository.state.info.repo_before_updates
    (tmp_path / "repository/overwritten" / page).unlink()
    found = [update async for update in repository.updates()]
    assert found == everything[:first]
    assert first == len(list(made.open().ops_log())) < len(everything)


@both
@pytest.mark.compat
async def test_nothing_changes_but_with_a_refresh(tmp_path, spec):
    repo = create(local_place(tmp_path), spec)
    repository = await open_at(tmp_path / "repository")
    assert str(repository.lookup_branch("main")) == str(INITIAL_SNAPSHOT)
    with changing(repo, "first") as store:
        put(store, "zarr.json", GROUP)
    repo.create_tag("v1", repo.lookup_branch("main"))
    assert repository.lookup_branch("main") == INITIAL_SNAPSHOT
    with pytest.raises(NotFoundError, match="there are none"):
        repository.lookup_tag("v1")
    before = repository.state.fetched_at
    await repository.refresh()
    assert str(repository.lookup_branch("main")) == repo.lookup_branch("main")
    assert str(repository.lookup_tag("v1")) == repo.lookup_branch("main")
    assert repository.state.fetched_at > before


@pytest.mark.compat
async def test_where_both_kinds_of_entry_are_version_2_wins(tmp_path):
    for spec in (1, 2):
        (tmp_path / str(spec)).mkdir()
        create(local_place(tmp_path / str(spec)), spec)
    old = tmp_path / "1/repository"
    assert (await fetch_state(LocalStorage(old))).spec_version == 1
    (old / "repo").write_bytes((tmp_path / "2/repository/repo").read_bytes())
    assert (await fetch_state(LocalStorage(old))).spec_version == 2


async def test_what_is_no_repository(tmp_path):
    for storage in (LocalStorage(tmp_path), LocalStorage(tmp_path / "absent"), MemoryStorage()):
        with pytest.raises(RepositoryNotFoundError, match="zfuse create") as caught:
            await fetch_state(storage)
        assert caught.value.exit_code == 10
    (tmp_path / "repo").write_bytes(b"something else")
    with pytest.raises(CorruptionError):
        await fetch_state(LocalStorage(tmp_path))


@pytest.mark.compat
async def test_the_status_tells_whether_changes_are_refused(tmp_path):
    build("settings", 2, local_place(tmp_path))
    assert (await open_at(tmp_path / "repository")).is_read_only
    build("empty", 1, local_place(tmp_path, "old"))
    assert not (await open_at(tmp_path / "old")).is_read_only
