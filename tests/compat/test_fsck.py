"""Nothing is found in sound repositories, whatever their history; odd ones are told exactly."""

import shutil
from datetime import UTC, datetime, timedelta

import icechunk
import pytest
import trio
from zarr.core.sync import sync

from tests.compat.documents import GROUP, array_document, get, put, put_all
from tests.compat.golden import NAMES, Golden
from tests.compat.place import changing, create, local_place
from tests.compat.repositories import CASES, build
from tests.format.assembling import Assembler, Edit, array, group
from tests.format.rewriting import rewrite
from tests.maintenance.planting import check, told
from zfuse.maintenance.fsck import Depth

ODD = {"virtual", "names", "wrong_rank", "odd_grids"}
SOUND = [case for case in CASES if case[0] not in ODD]
REWRITTEN = [("split_manifests", 2), ("refs", 1), ("many_virtual", 2), ("moved", 2), ("expired", 2)]
ALL = Depth(reads_chunks=True, asks_sources=True)


@pytest.fixture
def place(tmp_path):
    return local_place(tmp_path)


async def _findings(root, allow=()):
    found, summary = await check(root, allowed=allow, depth=ALL)
    return told(found), summary


@pytest.mark.parametrize(("name", "spec"), SOUND)
async def test_nothing_is_found_in_what_the_official_library_writes(place, tmp_path, name, spec):
    made = build(name, spec, place)
    found, summary = await _findings(tmp_path / "repository", made.allow)
    assert found == []
    assert summary.snapshots == len(made.snapshots)


@pytest.mark.parametrize(("name", "spec"), REWRITTEN)
async def test_nothing_is_found_in_what_the_encoders_write(place, tmp_path, name, spec):
    made = build(name, spec, place)
    rewrite(tmp_path / "repository")
    assert (await _findings(tmp_path / "repository", made.allow))[0] == []


def test_these_are_many_repositories():
    others = 10  # those below
    assert len(SOUND) + len(REWRITTEN) + others >= 40


@pytest.mark.parametrize("spec", [1, 2])
async def test_nothing_is_found_after_expiration_and_garbage_collection(place, tmp_path, spec):
    repo = create(place, spec)
    for number in range(4):
        with changing(repo, f"commit {number}") as store:
            put(store, "a/zarr.json", array_document((9,), (1,)))
            put(store, f"a/c/{number % 2}", bytes([number]) * 700)
    middle = list(repo.ancestry(branch="main"))[1].written_at
    repo.expire_snapshots(middle + timedelta(microseconds=1))
    repo.garbage_collect(datetime.now(UTC) + timedelta(days=1))
    found, summary = await _findings(tmp_path / "repository")
    assert found == []
    assert sum(counts.objects for counts in summary.unreferenced.values()) == 0
    with changing(repo, "after") as store:
        put(store, "a/c/5", b"x" * 700)
    assert (await _findings(tmp_path / "repository"))[0] == []


@pytest.mark.parametrize("spec", [1, 2])
async def test_garbage_is_counted_and_is_no_fault(place, tmp_path, spec):
    repo = create(place, spec)
    session = repo.writable_session("main")
    put_all(session.store, {"a/zarr.json": array_document((4,), (1,)), "a/c/0": bytes(700)})
    found, summary = await _findings(tmp_path / "repository")
    assert found == []
    chunks = summary.unreferenced["chunks"]
    assert (chunks.objects, chunks.bytes) == (1, 700)


@pytest.mark.parametrize("spec", [1, 2])
async def test_nothing_is_found_in_an_assembled_repository(tmp_path, spec):
    made = Assembler(tmp_path / "made", spec)
    nodes = {"/": group(), "/a": array((6, 4), (2, 2)), "/b": array((3,), (1,))}
    made.commit(Edit(nodes=nodes), "nodes")
    chunks = {"/a": {(0, 1): made.native(bytes(900)), (2, 0): made.native(b"x" * 600)}}
    tip = made.commit(Edit(chunks=chunks), "chunks")
    made.create_tag("t", tip)
    made.commit(Edit(chunks={"/a": {(0, 1): None, (1, 1): made.native(b"y")}}), "more")
    assert (await _findings(tmp_path / "made"))[0] == []


@pytest.mark.parametrize("forked", [False, True])
async def test_nothing_is_found_after_writing_with_forks_and_amending(place, tmp_path, forked):
    repo = create(place, 2)
    session = repo.writable_session("main")
    put_all(session.store, {"zarr.json": GROUP, "a/zarr.json": array_document((4,), (1,))})
    if forked:
        session.commit("array")
        session = repo.writable_session("main")
        forks = [session.fork() for _ in range(2)]
        for number, fork in enumerate(forks):
            put(fork.store, f"a/c/{number}", bytes([number]) * 700)
        await trio.to_thread.run_sync(session.merge, *forks)
    session.commit("chunks")
    session = repo.writable_session("main")
    put(session.store, "a/c/3", b"3")
    session.amend("amended")
    assert (await _findings(tmp_path / "repository"))[0] == []


@pytest.mark.parametrize("name", NAMES)
async def test_only_what_is_odd_is_found_in_golden_repositories(name):
    found, _ = await check(Golden(name).repository)
    # Official writers take chunks of a wrong rank, and those of 1.x took chunks of no bytes.
    known = {"/rank": {"manifests", "transactions"}}
    if "1.1.21" in name:
        known["/zero"] = {"manifests"}
    odd = {path: {f.object.partition("/")[0] for f in found if f.path == path} for path in known}
    assert odd == known
    assert {finding.path for finding in found} == known.keys()


@pytest.mark.parametrize("spec", [1, 2])
@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("virtual", {"/bad"}),
        ("names", {"/dots/.", "/dots/double//deep", "/dots/inner/."}),
        ("wrong_rank", {"/a", "/only", "/scalar", "/dotted"}),
        ("odd_grids", {"/short_names", "/long_chunk_shape"}),
    ],
)
async def test_what_the_official_library_should_not_have_taken_is_found(
    place, tmp_path, name, paths, spec
):
    made = build(name, spec, place)
    found, _ = await check(tmp_path / "repository", allowed=made.allow, depth=ALL)
    zero = {"/zero_chunks"} if (name, spec) == ("odd_grids", 2) else set()
    assert {finding.path for finding in found} == paths | zero


async def test_the_official_library_reads_on_what_is_found(place, tmp_path):
    """A missing chunk is found where the official library fails when it is read."""
    repo = create(place, 2)
    with changing(repo, "chunks") as store:
        put(store, "a/zarr.json", array_document((4,), (1,)))
        put_all(store, {f"a/c/{n}": bytes([n]) * 700 for n in range(4)})
    gone = sorted((tmp_path / "repository" / "chunks").iterdir())[0]
    shutil.move(gone, tmp_path / "away")
    found, _ = await check(tmp_path / "repository")
    (finding,) = found
    ((number,),) = finding.chunks.tolist()
    store = repo.readonly_session("main").store
    for n in range(4):
        reading = trio.to_thread.run_sync(lambda n=n: _read(store, f"a/c/{n}"))
        if n == number:
            with pytest.raises(icechunk.IcechunkError):
                await reading
        else:
            assert await reading == bytes([n]) * 700


def _read(store, key):
    return sync(get(store, key))
