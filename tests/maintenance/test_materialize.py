"""Virtual chunks become a repository's own: the same bytes, few requests, and never half of it."""

import pytest
import trio

from tests.compat.documents import array_document
from tests.repo.foreign import PREFIX, Chunk, make
from zfuse.errors import (
    AccessDeniedError,
    BusyError,
    ContainerNotAllowedError,
    MissingObjectError,
    NotFoundError,
    StorageTimeoutError,
)
from zfuse.format.chunk_ref import InlineRef, NativeRef, VirtualRef
from zfuse.maintenance.copy_pieces import Limits
from zfuse.maintenance.materialize import LostSourcesError
from zfuse.maintenance.stored_pieces import StoredPieces
from zfuse.repo.catch_up import BranchConflictError

KIB = 1024


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state" / "run"


def spread(count, size, *, gap=0, files=1):
    """Return chunks of one size in some files, one after the other."""
    return [Chunk(f"file{n % files}", n // files * (size + gap), size) for n in range(count)]


def chunk_puts(foreign):
    return [key for key in foreign.store.keys("put") if key.startswith("chunks/")]


async def kinds(foreign, path):
    session = await foreign.session()
    count = session.tree.array(path).shape[0].num_chunks
    return [type(await session.chunk_ref(path, (n,))) for n in range(count)]


@pytest.mark.parametrize("spec", [1, 2])
async def test_bytes_stay_as_they_are(state, spec):
    chunks = [*spread(5, 900, gap=11, files=2), Chunk("file0", 3, 512), Chunk("file1", 1, 513)]
    foreign = await make(state, {"/a": chunks, "/g/b": spread(3, 40)}, spec=spec)
    before = {path: await foreign.read(path) for path in ("/a", "/g/b")}
    progress = await foreign.run()
    for name in ("file0", "file1"):
        await foreign.source.delete(name)
    assert {path: await foreign.read(path) for path in before} == before
    assert await kinds(foreign, "/a") == [*[NativeRef] * 5, InlineRef, NativeRef]
    assert await kinds(foreign, "/g/b") == [InlineRef] * 3
    assert (progress.of_chunks, progress.objects, progress.inline) == (10, 6, 4)
    assert not state.exists()


async def test_only_what_is_asked_for_changes(state):
    foreign = await make(state, {"/a": spread(2, 600), "/g/b": spread(2, 600), "/g2": spread(1, 9)})
    await foreign.run("/g")
    assert await kinds(foreign, "/g/b") == [NativeRef] * 2
    assert await kinds(foreign, "/a") == [VirtualRef] * 2
    assert await kinds(foreign, "/g2") == [VirtualRef]
    with pytest.raises(NotFoundError, match="no /nowhere on the branch 'main'"):
        await foreign.run("/nowhere")
    foreign.store.reset()
    assert (await foreign.run("/g")).of_chunks == 0
    assert foreign.store.keys("put") == []


async def test_neighbours_are_read_together(state):
    chunks = [*spread(400, KIB), Chunk("far", 10 * KIB * KIB, KIB), Chunk("far", 0, KIB)]
    foreign = await make(state, {"/a": chunks[::-1]})
    before = await foreign.read("/a")
    foreign.source.reset()
    await foreign.run()
    assert sorted(foreign.source.keys("get_range")) == ["far", "far", "file0"]
    assert foreign.source.fetched == {"file0": 400 * KIB, "far": 2 * KIB}
    assert sorted(foreign.source.keys("head")) == ["far", "file0"]
    assert await foreign.read("/a") == before


async def test_a_piece_that_many_chunks_are_is_stored_once(state):
    foreign = await make(state, {"/a": [Chunk("one", 5, 700)] * 50, "/b": [Chunk("one", 6, 700)]})
    progress = await foreign.run()
    assert (progress.of_chunks, progress.objects) == (51, 2)
    session = await foreign.session()
    refs = {await session.chunk_ref("/a", (n,)) for n in range(50)}
    assert len(refs) == 1
    assert len(chunk_puts(foreign)) == 2


async def test_the_chunk_of_a_scalar_and_holes_in_an_array(state):
    foreign = await make(state, {"/a": spread(4, 700)})
    session = await foreign.session()
    await session.set_metadata("/s", array_document((), ()))
    await session.set_chunk_ref("/s", (), VirtualRef(PREFIX + "file0", 3, 600))
    await session.delete_chunk("/a", (2,))
    await session.commit("more")
    before = {path: await foreign.read(path) for path in ("/a", "/s")}
    assert (await foreign.run()).objects == 4
    assert {path: await foreign.read(path) for path in before} == before
    assert isinstance(await (await foreign.session()).chunk_ref("/s", ()), NativeRef)
    assert before["/a"].keys() == {(0,), (1,), (3,)}


@pytest.mark.parametrize("gap", [0, 64 * KIB])
async def test_memory_is_bounded(state, gap):
    foreign = await make(state, {"/a": spread(60, 100 * KIB, gap=gap, files=3)})
    slow = 0

    async def later(operation, key):
        nonlocal slow
        slow += 1
        for _ in range(slow % 5):
            await trio.lowlevel.checkpoint()

    foreign.store.before = foreign.source.before = later
    foreign.held.clear()
    await foreign.run(limits=Limits(jobs=8, in_flight=1024 * KIB))
    assert 200 * KIB < foreign.held["most"] <= 1024 * KIB
    assert len(chunk_puts(foreign)) == 60


async def test_a_chunk_larger_than_the_bound_is_copied_alone(state):
    foreign = await make(state, {"/a": spread(4, 300 * KIB)})
    before = await foreign.read("/a")
    foreign.held.clear()
    await foreign.run(limits=Limits(jobs=4, in_flight=100 * KIB))
    assert foreign.held["most"] == 300 * KIB
    assert await foreign.read("/a") == before


class Killed(BaseException):
    """The end of a process, as far as this one can have it."""


async def run_until(foreign, puts, **options):
    """Run until so many chunk objects are stored."""

    async def die(operation, key):
        if operation == "put" and key.startswith("chunks/") and len(chunk_puts(foreign)) > puts:
            raise Killed

    foreign.store.before = die
    with pytest.RaisesGroup(Killed, flatten_subgroups=True, allow_unwrapped=True):
        await foreign.run(**options)
    foreign.store.before = None
    done = len(chunk_puts(foreign)) - 1
    foreign.store.reset()
    foreign.source.reset()
    return done


async def test_a_run_that_died_goes_on(state):
    foreign = await make(state, {"/a": spread(20, 700, gap=40 * KIB), "/b": spread(20, 800)})
    before = {path: await foreign.read(path) for path in ("/a", "/b")}
    foreign.store.reset()
    tip = (await foreign.session()).base.id
    stored = await run_until(foreign, 25, limits=Limits(jobs=1))
    assert 20 <= stored <= 26
    assert (await foreign.session()).base.id == tip
    progress = await foreign.run()
    assert progress.reused == stored
    assert len(chunk_puts(foreign)) == 40 - stored
    assert foreign.source.fetched.total() <= 20 * 800
    assert {path: await foreign.read(path) for path in before} == before
    objects = [info.key async for info in foreign.store.list("chunks/")]
    assert len(objects) == 40


async def test_what_was_removed_meanwhile_is_stored_again(state):
    foreign = await make(state, {"/a": spread(10, 700, gap=40 * KIB)})
    before = await foreign.read("/a")
    foreign.store.reset()
    stored = await run_until(foreign, 6, limits=Limits(jobs=1))
    objects = [info.key async for info in foreign.store.list("chunks/")]
    await foreign.store.delete(objects[0])
    await foreign.store.inner.put(objects[1], b"cut off")
    await foreign.run()
    assert len(chunk_puts(foreign)) == 10 - stored + 2
    assert await foreign.read("/a") == before


@pytest.mark.parametrize("count", [8, 520])
async def test_what_is_taken_for_garbage_meanwhile_ends_the_run(state, count):
    foreign = await make(state, {"/a": spread(count, 700), "/b": [Chunk("b", 0, 9)]})
    before = await foreign.read("/a")

    async def collect(operation, key):
        if (operation, key) == ("get_range", "b"):
            (first, *_) = chunk_puts(foreign)
            await foreign.store.delete(first)

    foreign.source.before = collect
    tip = (await foreign.session()).base.id
    with pytest.raises(MissingObjectError, match="1 chunk objects that were stored are gone"):
        await foreign.run()
    assert (await foreign.session()).base.id == tip
    foreign.source.before = None
    progress = await foreign.run()
    assert (progress.reused, progress.objects) == (count - 1, 1)
    assert await foreign.read("/a") == before


async def test_a_source_that_was_replaced_meanwhile_is_read_again(state):
    old = [Chunk("one", n * 50_000, 700, etag="1") for n in range(6)]
    foreign = await make(state, {"/a": old})
    foreign.store.reset()
    await run_until(foreign, 4, limits=Limits(jobs=1))
    await foreign.source.put("one", b"new" * 200_000)
    info = await foreign.source.head("one")
    session = await foreign.session()
    for n, chunk in enumerate(old):
        ref = VirtualRef(PREFIX + "one", chunk.offset, 700, etag=str(info.version))
        await session.set_chunk_ref("/a", (n,), ref)
    await session.commit("the new file")
    foreign.store.reset()
    progress = await foreign.run()
    assert (progress.reused, progress.objects) == (0, 6)


async def test_a_torn_note_is_left_out(state):
    foreign = await make(state, {"/a": spread(10, 700, gap=40 * KIB)})
    foreign.store.reset()
    stored = await run_until(foreign, 6, limits=Limits(jobs=1))
    state.write_bytes(state.read_bytes()[:-5])
    progress = await foreign.run()
    assert progress.reused == stored - 1


async def test_notes_of_something_else_are_not_taken_for_ours(state):
    foreign = await make(state, {"/a": spread(3, 700)})
    state.parent.mkdir()
    state.write_bytes(b"something else" * 10)
    assert (await foreign.run()).objects == 3


async def test_two_runs_do_not_work_on_one_branch(state):
    foreign = await make(state, {"/a": spread(3, 700)})
    with StoredPieces(state), pytest.raises(BusyError, match="another zfuse materialize"):
        await foreign.run()


async def test_changed_and_vanished_sources_are_told_before_anything_is_fetched(state):
    chunks = [
        Chunk("kept", 0, 700),
        Chunk("gone", 0, 10),
        Chunk("short", 0, 99),
        Chunk("gone", 9, 9),
    ]
    chunks += [Chunk("tagged", 0, 5, etag="another"), Chunk("old", 0, 5, modified=1_000)]
    foreign = await make(state, {"/a": chunks})
    await foreign.source.delete("gone")
    await foreign.source.put("short", b"short")
    tip = (await foreign.session()).base.id
    with pytest.raises(LostSourcesError, match="nothing was committed") as caught:
        await foreign.run()
    told = {f.object.removeprefix(PREFIX): f for f in caught.value.findings}
    assert told.keys() == {"gone", "short", "tagged", "old"}
    assert told["gone"].chunks.tolist() == [[1], [3]]
    assert "it has 5 bytes" in told["short"].problem
    assert "etag" in told["tagged"].problem
    assert "modified at" in told["old"].problem
    assert caught.value.exit_code == 8
    assert foreign.source.keys("get_range") == []
    assert (await foreign.session()).base.id == tip


async def test_a_source_that_changes_meanwhile_ends_the_run(state):
    foreign = await make(state, {"/a": spread(6, 700, gap=40 * KIB), "/b": [Chunk("b", 0, 9)]})
    foreign.store.reset()

    async def replace(operation, key):
        if (operation, key) == ("get_range", "b"):
            await foreign.source.inner.put("b", b"short")

    foreign.source.before = replace
    with pytest.raises(LostSourcesError) as caught:
        await foreign.run()
    (finding,) = caught.value.findings
    assert (finding.object, finding.path, finding.chunks.tolist()) == (PREFIX + "b", "/b", [[0]])
    foreign.source.before = None
    await foreign.source.put("b", b"whole now")
    foreign.store.reset()
    assert (await foreign.run()).reused == 6  # what was sound is not fetched again


async def test_a_container_that_is_not_allowed_is_told(state):
    foreign = await make(state, {"/a": spread(2, 700)})
    with pytest.raises(ContainerNotAllowedError, match=f"--allow-virtual {PREFIX}"):
        await foreign.run(allowed=())
    foreign.source.before = _refuse
    with pytest.raises(AccessDeniedError, match="not you"):
        await foreign.run()
    assert foreign.store.keys("put") == []


async def _refuse(operation, key):
    raise AccessDeniedError("not you")


async def test_a_store_that_fails_ends_the_run_with_one_error(state):
    foreign = await make(state, {"/a": spread(20, 700, gap=40 * KIB)})

    async def fail(operation, key):
        if key.startswith("chunks/"):
            raise StorageTimeoutError("no answer")

    foreign.store.before = fail
    with pytest.raises(StorageTimeoutError, match="no answer"):
        await foreign.run()


async def test_what_others_commit_meanwhile_stays(state):
    foreign = await make(state, {"/a": spread(4, 700), "/b": spread(2, 700)})
    mine, theirs = await foreign.session(), await foreign.session()
    await theirs.set_chunk("/b", (1,), b"theirs")
    await theirs.commit("theirs")
    await foreign.run("/a", session=mine)
    assert (await foreign.read("/b"))[1,] == b"theirs"
    assert await kinds(foreign, "/a") == [NativeRef] * 4


async def test_others_who_write_the_same_chunk_are_a_conflict(state):
    foreign = await make(state, {"/a": spread(4, 700)})
    mine, theirs = await foreign.session(), await foreign.session()
    await theirs.set_chunk("/a", (1,), b"theirs")
    await theirs.commit("theirs")
    foreign.store.reset()
    with pytest.raises(BranchConflictError):
        await foreign.run(session=mine)
    assert (await foreign.read("/a"))[1,] == b"theirs"
    assert (await foreign.run()).reused == 3
