"""Which snapshot brought what: against a model, against all logs, and where logs are missing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compat.documents import GROUP, array_document, put, put_all
from tests.compat.place import changing, create, local_place
from tests.counting import CountingStorage
from zfuse.errors import CorruptionError, StorageTimeoutError
from zfuse.format.ids import NodeId, SnapshotId
from zfuse.format.layout import snapshot_key, transaction_log_key
from zfuse.format.transaction_log import TransactionLog
from zfuse.repo import provenance
from zfuse.repo.change_log import ChangeLog
from zfuse.repo.provenance import MAX_LOGS, MAX_LOGS_V1, Origin, Provenance, trace
from zfuse.repo.repository import Repository
from zfuse.storage.local import LocalStorage

both = pytest.mark.parametrize("spec", [1, 2])
LINE = array_document((1000,), (1,))

NODES = [NodeId(bytes([n]) * 8) for n in range(3)]
numbers = st.one_of(st.integers(0, 2), st.sampled_from([255, 256, 65536, 2**32 - 1]))
indices = st.integers(0, 3).flatmap(lambda rank: st.tuples(*[numbers] * rank))
touched = st.dictionaries(st.sampled_from(NODES), st.sets(indices, max_size=6), max_size=3)
node_sets = st.frozensets(st.sampled_from(NODES))


def as_array(coords, rank):
    return np.array(coords, np.uint32).reshape(len(coords), rank)


def make_log(chunks, new=frozenset(), updated=frozenset()):
    by_rank = {
        node: tuple(
            as_array([c for c in sorted(coords) if len(c) == rank], rank)
            for rank in sorted({len(c) for c in coords})
        )
        for node, coords in chunks.items()
    }
    none = frozenset()
    log = TransactionLog(
        spec_version=2,
        id=SnapshotId(bytes(12)),
        new_groups=none,
        new_arrays=new,
        deleted_groups=none,
        deleted_arrays=none,
        updated_arrays=updated,
        updated_groups=none,
        updated_chunks=by_rank,
        moved_nodes=(),
        nbytes=0,
    )
    return ChangeLog(log)


def origin(number):
    return Origin(SnapshotId(bytes([number]) * 12), number)


@given(st.lists(st.tuples(touched, node_sets, node_sets), max_size=6), st.sets(indices))
def test_the_newest_log_that_mentions_something_tells_its_origin(logs, others):
    changes = [(origin(n + 1), make_log(*log)) for n, log in enumerate(logs)]
    horizon = origin(200)
    found = Provenance(changes, horizon)
    everything = others.union(*(c for log in logs for c in log[0].values()))
    for node in NODES:
        mentions = [n for n, (_, new, updated) in enumerate(logs) if node in new | updated]
        assert found.of_metadata(node) == (origin(mentions[0] + 1) if mentions else horizon)
        for coords in everything:
            mentions = [n for n, log in enumerate(logs) if coords in log[0].get(node, ())]
            expected = origin(mentions[0] + 1) if mentions else horizon
            assert found.of_chunk(node, coords) == expected
            many = found.of_chunks(node, as_array([coords, coords], len(coords)))
            assert [expected] * 2 == (
                [horizon] * 2 if many is None else [found.origins[n] for n in many]
            )


@pytest.fixture
def repo(tmp_path, spec):
    return create(local_place(tmp_path), spec)


def commit(repo, number):
    """Write chunk *number* of an array, and its metadata each tenth time."""
    with changing(repo, f"commit {number}") as store:
        if number % 10 == 0:
            document = array_document((1000,), (1,), attributes={"n": number})
            put(store, "a/zarr.json", document)
        put(store, f"a/c/{number}", b"%d" % number)
    return SnapshotId.parse(repo.lookup_branch("main"))


class Reader:
    """A repository that zfuse reads, and the calls that this takes."""

    def __init__(self, repository, storage):
        self.repository = repository
        self.storage = storage

    @classmethod
    async def open(cls, directory):
        storage = CountingStorage(LocalStorage(directory))
        return cls(await Repository.open(storage, virtual=Unused()), storage)

    async def trace(self, snapshot, known=None):
        await self.repository.refresh()
        self.storage.reset()
        return await trace(self.repository, snapshot, known)

    def logs_read(self):
        return [k.split("/")[1] for k in self.storage.keys("get") if k.startswith("transactions/")]

    async def node(self, snapshot):
        view = await self.repository.assets.fetch_hierarchy(snapshot)
        return view.node("/a").id


class Unused:
    def declare(self, containers):
        pass


@pytest.fixture
async def reader(tmp_path, repo):
    return await Reader.open(tmp_path / "repository")


@both
@pytest.mark.compat
async def test_beyond_the_limit_the_oldest_that_was_looked_at_stands_for_the_rest(
    reader, repo, spec
):
    limit = MAX_LOGS if spec > 1 else MAX_LOGS_V1
    line = [commit(repo, number) for number in range(limit + 4)][::-1]
    found = await reader.trace(line[0])
    assert [o.snapshot_id for o in found.origins] == line[: limit + 1]
    assert sorted(reader.logs_read()) == sorted(map(str, line[:limit]))
    node = await reader.node(line[0])
    for number in range(limit + 4):
        age = min(len(line) - 1 - number, limit)
        assert found.of_chunk(node, (number,)).snapshot_id == line[age]
    told = repo.lookup_snapshot(str(line[0])).written_at
    microseconds = int(told.timestamp()) * 1_000_000 + told.microsecond
    assert found.origins[0].flushed_at == microseconds


@both
@pytest.mark.compat
async def test_what_is_known_is_not_read_again_and_keeps_its_horizon(reader, repo, spec):
    limit = MAX_LOGS if spec > 1 else MAX_LOGS_V1
    line = [commit(repo, number) for number in range(limit + 2)]
    known = await reader.trace(line[-1])
    more = [commit(repo, limit + 2), commit(repo, limit + 3)]
    found = await reader.trace(more[-1], known)
    assert sorted(reader.logs_read()) == sorted(map(str, more))
    assert found.origins == (*found.origins[:2], *known.origins)
    node = await reader.node(line[-1])
    assert found.of_chunk(node, (0,)) == known.of_chunk(node, (0,)) == known.origins[-1]
    assert found.of_chunk(node, (limit + 3,)).snapshot_id == more[-1]


@both
@pytest.mark.compat
async def test_a_branch_that_was_reset_joins_what_is_known(reader, repo, spec):
    line = [commit(repo, number) for number in range(5)]
    known = await reader.trace(line[4])
    repo.reset_branch("main", str(line[2]))
    back = await reader.trace(line[2], known)
    assert reader.logs_read() == []
    assert back.origins == known.origins[2:]
    other = commit(repo, 7)
    found = await reader.trace(other, known)
    assert reader.logs_read() == [str(other)]
    assert [o.snapshot_id for o in found.origins] == [other, *line[2::-1]]


@both
@pytest.mark.compat
async def test_a_history_that_was_never_known_is_read_anew(reader, repo, spec):
    first, second = commit(repo, 0), commit(repo, 1)
    repo.create_branch("other", str(first))
    with changing(repo, "other", branch="other") as store:
        put(store, "a/c/9", b"other")
    other = SnapshotId.parse(repo.lookup_branch("other"))
    known = Provenance((), Origin(second, 1))
    found = await reader.trace(other, known)
    assert [o.snapshot_id for o in found.origins] == [other, first]


@both
@pytest.mark.compat
@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "newer"])
async def test_before_a_log_that_can_not_be_read_nothing_is_known(
    reader, repo, spec, tmp_path, damage
):
    line = [commit(repo, number) for number in range(6)][::-1]
    path = tmp_path / "repository" / transaction_log_key(line[2])
    if damage == "missing":
        path.unlink()
    else:
        whole = path.read_bytes()
        newer = whole[:36] + b"\x63" + whole[37:]  # of a version of the format that none knows
        damaged = {"truncated": whole[:60], "empty": b"", "newer": newer}
        path.write_bytes(damaged[damage])
    found = await reader.trace(line[0])
    assert [o.snapshot_id for o in found.origins] == line[:3]
    node = await reader.node(line[0])
    assert found.of_chunk(node, (5,)).snapshot_id == line[0]
    assert found.of_chunk(node, (0,)).snapshot_id == line[2]
    # What joins there keeps it so, though the logs before could be read.
    newer = commit(repo, 6)
    again = await reader.trace(newer, found)
    assert [o.snapshot_id for o in again.origins] == [newer, *line[:3]]


@pytest.mark.compat
@pytest.mark.parametrize("spec", [1])
async def test_a_damaged_ancestor_ends_the_history_and_not_the_reading(
    reader, repo, spec, tmp_path
):
    line = [commit(repo, number) for number in range(4)][::-1]
    path = tmp_path / "repository" / snapshot_key(line[2])
    path.write_bytes(path.read_bytes()[:70])
    found = await reader.trace(line[0])
    assert [o.snapshot_id for o in found.origins] == line[:2]
    path = tmp_path / "repository" / snapshot_key(line[0])
    path.write_bytes(path.read_bytes()[:70])
    with pytest.raises(CorruptionError):
        await reader.trace(line[0])


@both
@pytest.mark.compat
async def test_after_an_expiration_the_oldest_survivor_stands_for_the_rest(reader, repo, spec):
    line = [commit(repo, number) for number in range(4)][::-1]
    known = await reader.trace(line[0])
    told = repo.lookup_snapshot(str(line[1])).written_at
    repo.expire_snapshots(told)
    found = await reader.trace(line[0])
    survivors = [s.id for s in repo.ancestry(branch="main")][:-1]
    assert [str(o.snapshot_id) for o in found.origins] == survivors
    assert 1 <= len(survivors) < 4
    assert survivors[-1] not in reader.logs_read()
    # Who knew the history before goes on with it.
    newer = commit(repo, 4)
    again = await reader.trace(newer, known)
    assert again.origins[1:] == known.origins
    assert reader.logs_read() == [str(newer)]


@pytest.mark.compat
@pytest.mark.parametrize("spec", [2])
async def test_an_amended_commit_brought_what_the_replaced_one_did(reader, repo, spec):
    first = commit(repo, 0)
    replaced = commit(repo, 1)
    session = repo.writable_session("main")
    put(session.store, "a/c/2", b"2")
    session.amend("amended")
    amended = SnapshotId.parse(repo.lookup_branch("main"))
    known = await reader.trace(replaced)
    for found in (await reader.trace(amended), await reader.trace(amended, known)):
        node = await reader.node(amended)
        assert found.of_chunk(node, (1,)).snapshot_id == amended
        assert found.of_chunk(node, (2,)).snapshot_id == amended
        assert found.of_chunk(node, (0,)).snapshot_id == first


@pytest.mark.compat
@pytest.mark.parametrize("spec", [2])
async def test_rewritten_manifests_bring_nothing_new(reader, repo, spec):
    line = [commit(repo, number) for number in range(2)]
    repo.rewrite_manifests("rewritten", branch="main")
    tip = SnapshotId.parse(repo.lookup_branch("main"))
    found = await reader.trace(tip)
    node = await reader.node(tip)
    assert found.of_chunk(node, (1,)).snapshot_id == line[1]
    assert found.of_metadata(node).snapshot_id == line[0]


@both
@pytest.mark.compat
async def test_a_snapshot_that_the_repository_no_longer_knows_stands_for_itself(
    reader, repo, spec, tmp_path
):
    first = commit(repo, 0)
    commit(repo, 1)
    if spec > 1:
        repo.expire_snapshots(repo.lookup_snapshot(repo.lookup_branch("main")).written_at)
    path = tmp_path / "repository" / snapshot_key(first)
    content = path.read_bytes()
    node = await reader.node(first)
    path.unlink()
    found = await reader.trace(first)
    assert [o.snapshot_id for o in found.origins] == [first]
    assert found.of_chunk(node, (0,)).flushed_at > 1_000_000_000_000_000
    path.write_bytes(content)


@both
@pytest.mark.compat
async def test_the_first_snapshot_has_an_origin_too(reader, repo, spec):
    empty = SnapshotId.parse(repo.lookup_branch("main"))
    found = await reader.trace(empty)
    assert [o.snapshot_id for o in found.origins] == [empty]
    first = commit(repo, 0)
    found = await reader.trace(first)
    assert [o.snapshot_id for o in found.origins] == [first]
    assert reader.logs_read() == []


@both
@pytest.mark.compat
async def test_logs_that_are_too_much_are_left_out(reader, repo, spec, monkeypatch):
    line = [commit(repo, number) for number in range(6)][::-1]
    one = (await reader.repository.assets.fetch_change_log(line[0])).nbytes
    monkeypatch.setattr(provenance, "MAX_LOG_BYTES", 3 * one)
    found = await reader.trace(line[0])
    assert [o.snapshot_id for o in found.origins] == line[:4]


@both
@pytest.mark.compat
async def test_a_mount_that_lives_long_does_not_keep_all_logs(reader, repo, spec, monkeypatch):
    monkeypatch.setattr(provenance, "MAX_KEPT_LOGS", 3)
    line = [commit(repo, 0)]
    known = await reader.trace(line[0])
    for number in range(1, 7):
        line.insert(0, commit(repo, number))
        known = await reader.trace(line[0], known)
        assert [o.snapshot_id for o in known.origins] == line[:4]
        node = await reader.node(line[0])
        assert known.of_chunk(node, (0,)) == known.origins[-1]


@both
@pytest.mark.compat
async def test_a_store_that_fails_is_an_error_in_the_plain(reader, repo, spec):
    line = [commit(repo, number) for number in range(4)]

    async def fail(_, key):
        if key.startswith("transactions/"):
            raise StorageTimeoutError("too late")

    reader.storage.before = fail
    with pytest.raises(StorageTimeoutError):
        await reader.trace(line[-1])


@pytest.mark.compat
@pytest.mark.parametrize("spec", [2])
async def test_every_kind_of_change_counts(reader, repo, spec):
    """Groups and arrays, made and changed; deleting and making anew is another node."""
    ids = {}

    async def note(path):
        tip = SnapshotId.parse(repo.lookup_branch("main"))
        found = await reader.trace(tip)
        view = await reader.repository.assets.fetch_hierarchy(tip)
        ids[path] = view.node(path).id
        return found, tip

    with changing(repo, "first") as store:
        put_all(store, {"x/zarr.json": GROUP})
    with changing(repo, "made") as store:
        put_all(store, {"g/zarr.json": GROUP, "a/zarr.json": LINE})
    for path in ("/g", "/a"):
        found, tip = await note(path)
        assert found.of_metadata(ids[path]).snapshot_id == tip
    with changing(repo, "changed") as store:
        put_all(store, {"g/zarr.json": GROUP + b" ", "a/zarr.json": LINE + b" "})
    for path in ("/g", "/a"):
        before = ids[path]
        found, tip = await note(path)
        assert ids[path] == before
        assert found.of_metadata(before).snapshot_id == tip
    session = repo.rearrange_session("main")
    session.move("/a", "/g/b")
    session.commit("moved")
    found, _ = await note("/g/b")
    assert ids["/g/b"] == ids["/a"]
    assert found.of_metadata(ids["/a"]).snapshot_id == tip, "moving changes no bytes"
