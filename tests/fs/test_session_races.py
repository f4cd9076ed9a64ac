"""What meets in a session: writers, syncs, refreshes, copies, others' commits and failures.

Each test stops one of them at the place where the other once made it lose or tear something.
"""

import os

import pytest

from tests.compat.documents import GROUP, array_document, put_all
from tests.compat.place import changing, create, local_place
from tests.fs.branches import writing
from tests.fs.racing import (
    Call,
    Stop,
    again,
    committed,
    fail_store,
    held,
    listed,
    opened,
    others,
    refresh,
    refuse_chunks,
    rest,
    stale_names,
    tip,
    until,
)
from zfuse.errors import BusyError, StaleError, StorageTimeoutError
from zfuse.fs import kept_session, session_edits
from zfuse.fs.journal import Journal
from zfuse.fs.overlay_file import OverlayFile
from zfuse.fs.staged import RowKind
from zfuse.fs.sync_request import InvalidChangesError
from zfuse.repo.catch_up import BranchConflictError
from zfuse.repo.conflicts import ChunkChoice, ConflictPolicy

LINE = array_document((2000,), (1,))
SIZE = 1200  # more than goes into a manifest
OURS, THEIRS = b"o" * SIZE, b"t" * SIZE


@pytest.fixture
async def b(tmp_path):
    place = local_place(tmp_path)
    with changing(create(place, 2), "base") as store:
        put_all(store, {"zarr.json": GROUP, "g/zarr.json": GROUP})
        put_all(store, {"one/zarr.json": LINE, "two/zarr.json": LINE})
        for path in ("one", "two"):
            put_all(store, {f"{path}/c/{n}": f"{path} {n}".encode() * 200 for n in range(3)})
    async with writing(tmp_path / "repository", tmp_path / "state") as branch:
        yield branch


# --- while a sync reads its rows ---------------------------------------------------------------


@pytest.mark.parametrize("size", [2000, 400])
async def test_a_write_while_a_sync_reads_its_rows_waits_for_the_next_sync(b, monkeypatch, size):
    before, after = b"A" * size, b"B" * (size // 2) + b"A" * (size // 2)
    stop = Stop().before(monkeypatch, kept_session, "read_rows")
    refuse_chunks(b, stop)  # else it may be stored by then, and nothing can change it
    await b.write("one/c/5", before)
    content = await opened(b, "one/c/5")
    async with held(stop, b.sync) as sync:
        await content.write(0, b"B" * (size // 2))
    assert sync.error is None
    assert committed(b)["one/c/5"] == before
    assert await b.read("one/c/5") == after
    content.close()
    (b.shadow / "one/c/5").write_bytes(after)
    await b.assert_syncs()


async def test_permissions_that_change_while_a_sync_reads_its_rows_cost_no_array(b, monkeypatch):
    await b.write("two/c/5", OURS)
    directory = await b.find("one")
    stop = Stop().before(monkeypatch, kept_session, "read_rows")
    async with held(stop, b.sync) as sync:
        directory.set_mode(0o700)
    assert sync.result.snapshot_id is not None
    await b.assert_shows_the_same()
    await b.assert_sync_does_nothing()
    b.assert_committed()


async def test_a_first_change_while_a_sync_reads_its_rows_costs_no_array(b, monkeypatch):
    await b.write("two/c/5", OURS)
    content = await opened(b, "one/c/0")
    stop = Stop().before(monkeypatch, kept_session, "read_rows")
    async with held(stop, b.sync) as sync:
        await content.write(0, b"Z")
        content.close()
    assert sync.result.snapshot_id is not None
    (b.shadow / "one/c/0").write_bytes(b"Z" + b"one 0"[1:] + b"one 0" * 199)
    await b.assert_shows_the_same()
    await b.assert_syncs()


# --- others' commits ---------------------------------------------------------------------------


async def test_a_refresh_does_not_pass_over_a_file_that_is_being_written(b):
    content = await opened(b, "one/c/0")
    await content.write(0, b"OURS")
    theirs = others(b, {"one/c/0": THEIRS})
    told = await refresh(b)
    assert told.moved == []
    assert [type(exc) for exc in told.errors] == [BranchConflictError]
    content.close()
    with pytest.raises(BranchConflictError):
        await b.sync()
    assert (await b.read("one/c/0"))[:8] == b"OURS0one"
    assert tip(b) == theirs


async def test_a_sync_of_other_files_does_not_pass_over_one_that_is_being_written(b):
    await b.write("two/c/0", OURS)
    content = await opened(b, "one/c/0")
    await content.write(0, b"OURS")
    theirs = others(b, {"one/c/0": THEIRS})
    with pytest.raises(BranchConflictError):
        await b.sync()
    content.close()
    with pytest.raises(BranchConflictError):
        await b.sync()
    assert tip(b) == theirs
    assert await b.read("two/c/0") == OURS


async def test_what_is_closed_while_a_refresh_goes_on_conflicts_with_others_work(b, monkeypatch):
    await b.find("one/c/0")
    theirs = others(b, {"one/c/0": THEIRS})
    stop = Stop().after(monkeypatch, b.session.tree, "prepare")
    async with held(stop, refresh, b) as refreshed:
        await b.write("one/c/0", OURS)
    assert refreshed.result.moved == []
    assert [type(exc) for exc in refreshed.result.errors] == [BranchConflictError]
    with pytest.raises(BranchConflictError):
        await b.sync()
    assert await b.read("one/c/0") == OURS
    assert tip(b) == theirs


async def test_what_is_closed_while_a_sync_stores_chunks_conflicts_with_others_work(b):
    stop = Stop().at_storage(b, "put", "chunks/")
    await b.write("two/c/0", OURS)
    theirs = others(b, {"one/c/0": THEIRS})
    async with held(stop, b.sync) as sync:
        await b.write("one/c/0", OURS)
    assert isinstance(sync.error, BranchConflictError)
    assert tip(b) == theirs
    assert await b.read("one/c/0") == OURS


@pytest.mark.parametrize("path", ["one/zarr.json", "one/c/0"])
async def test_a_write_that_meets_a_refresh_is_kept_or_refused(b, monkeypatch, path):
    theirs = {"one/zarr.json": array_document((5,), (1,)), "one/c/0": THEIRS}[path]
    before = await b.read(path)
    content = await opened(b, path)
    others(b, {path: theirs})
    stop = Stop().after(monkeypatch, OverlayFile, "_copied")
    async with held(stop, content.write, 0, b"MINE") as written:
        told = await refresh(b)
    content.close()
    shown = await b.read(path)
    if written.error is None:
        assert shown == b"MINE" + before[4:]
        assert b.session.has_changes
        assert told.moved == []
    else:
        assert isinstance(written.error, StaleError)
        assert shown == theirs


async def test_names_that_gave_way_in_a_sync_are_told(b):
    await b.write("one/c/0", OURS)
    entry = await b.find("one/c/0")
    theirs = others(b, {"one/c/0": THEIRS})
    outcome = await b.sync(policy=ConflictPolicy(ChunkChoice.THEIRS))
    assert "one/c/0" in stale_names(outcome.stale)
    assert await b.read("one/c/0") == THEIRS
    assert committed(b)["one/c/0"] == THEIRS
    assert await b.find("one/c/0") is not entry
    assert outcome.snapshot_id is None
    assert tip(b) == theirs


# --- what is listed ----------------------------------------------------------------------------


async def test_a_listing_that_a_sync_overtakes_has_all_names(b):
    await b.write_all({f"one/c/{n}": b"n" * 30 for n in range(3, 200)})
    directory = await b.find("one/c")
    listing = await directory.listing()
    names = [name for name, _, _ in await listing.items(0, 64)]
    assert (await b.sync()).snapshot_id is not None
    names += await rest(listing, len(names))
    assert sorted(names) == sorted(map(str, range(200)))


async def test_a_listing_has_a_name_that_is_overwritten_meanwhile(b):
    listing = await (await b.find("one/c")).listing()
    await b.write("one/c/1", OURS)
    assert sorted(await rest(listing, 0)) == ["0", "1", "2"]


# --- directories that come and go --------------------------------------------------------------


async def test_permissions_of_a_removed_directory_leave_its_successor_alone(b):
    old = await b.make("d")
    await b.remove("d")
    await b.write("d/f", b"data")
    with pytest.raises(StaleError):
        old.set_mode(0o700)
    assert await b.read("d/f") == b"data"
    async with again(b) as later:
        assert await listed(await later.find("d")) == ["f"]
        assert await later.read("d/f") == b"data"


async def test_nothing_is_made_in_a_directory_whose_parent_is_gone(b):
    await b.move("one", "x")
    below = await b.find("x/c")
    await b.session.discard()
    await b.write("x/mine", b"mine")
    with pytest.raises(StaleError):
        await below.create("stray", 0o644, exclusive=False)
    assert await listed(await b.find("x")) == ["mine"]
    async with again(b) as later:
        assert await listed(await later.find("x")) == ["mine"]
        assert await later.read("one/c/0") == b"one 0" * 200


async def test_an_empty_directory_stays_through_two_syncs(b):
    await b.make("empty")
    for number in (5, 6):
        await b.write(f"one/c/{number}", OURS)
        assert (await b.sync()).snapshot_id is not None
        assert "empty" in await listed(await b.root())
    async with again(b) as later:
        assert await listed(await later.find("empty")) == []


async def test_an_array_whose_zarr_json_is_away_for_a_moment_loses_nothing(b):
    before = tip(b)
    await b.move("one/zarr.json", "one/zarr.json~")  # as vim does before it writes the new one
    assert [problem["path"] for problem in (await b.told())["invalid"]] == ["/one/zarr.json"]
    with pytest.raises(InvalidChangesError):
        await b.sync()
    assert tip(b) == before
    await b.assert_shows_the_same()
    await b.write("one/zarr.json", array_document((1000,), (1,)))
    await b.unlink("one/zarr.json~")
    await b.assert_syncs()


async def test_what_is_being_written_is_not_copied(b):
    file = await (await b.find("one/c")).create("7", 0o644, exclusive=False)
    content = await file.open()
    await content.write(0, b"half")
    with pytest.raises(BusyError):
        await b.session.copy(("one",), ("three",))
    with pytest.raises(BusyError):
        await b.session.copy(("one", "c", "7"), ("two", "c", "7"))
    assert "three" not in await listed(await b.root())
    content.close()
    (b.shadow / "one/c/7").write_bytes(b"half")
    await b.copy("one", "three")
    await b.assert_syncs()


async def test_what_a_crash_interrupted_is_not_copied(b):
    file = await (await b.find("one/c")).create("7", 0o644, exclusive=False)
    await (await file.open()).write(0, b"half")
    async with again(b) as later:
        with pytest.raises(BusyError):
            await later.session.copy(("one",), ("three",))


async def test_what_is_written_while_it_is_copied_is_copied_as_it_was(b, monkeypatch):
    await b.write_all({"one/c/6": b"s" * 400, "one/c/7": b"s" * 400})
    contents = [await opened(b, f"one/c/{n}") for n in (6, 7)]
    stop = Stop().before(monkeypatch, session_edits, "_copied_file")
    async with held(stop, b.copy, "one", "three") as copied:
        for content in contents:
            await content.write(200, b"i" * 400)
    assert copied.error is None
    for number, content in zip((6, 7), contents, strict=True):
        content.close()
        (b.shadow / f"one/c/{number}").write_bytes(b"s" * 200 + b"i" * 400)
        (b.shadow / f"three/c/{number}").write_bytes(b"s" * 400)
    await b.assert_shows_the_same()
    await b.assert_syncs()


# --- failures ----------------------------------------------------------------------------------


async def test_names_are_told_although_a_manifest_can_not_be_had(b):
    await listed(await b.find("one/c"))
    entry = await b.find("one/c/0")
    others(b, {"one/c/0": THEIRS})
    fail_store(b, "manifests/")
    told = await refresh(b)
    assert len(told.moved) == 1
    assert "one/c/0" in stale_names(told.stale)
    b.driven.storage.before = None
    assert await b.read("one/c/0") == THEIRS
    assert await b.find("one/c/0") is not entry


async def test_a_sync_that_landed_beside_others_work_is_no_failure(b):
    entry = await b.find("one/c/0")
    await b.write("two/c/0", OURS)
    others(b, {"one/c/0": THEIRS})
    fail_store(b, "manifests/", after="repo")
    outcome = await b.sync()
    assert outcome.snapshot_id is not None
    assert "one/c/0" in stale_names(outcome.stale)
    b.driven.storage.before = None
    assert await b.read("one/c/0") == THEIRS
    assert await b.find("one/c/0") is not entry


async def test_a_branch_shows_itself_after_its_changes_went_to_another(b, monkeypatch):
    before = tip(b)
    assets = b.session.tree.repository.assets
    fetch = assets.fetch_hierarchy

    async def known_alone(snapshot_id):
        if str(snapshot_id) != before:
            raise StorageTimeoutError("the store is down")
        return await fetch(snapshot_id)

    await b.write("one/c/0", OURS)
    with monkeypatch.context() as patch:
        patch.setattr(assets, "fetch_hierarchy", known_alone)
        await Call().run(lambda: b.sync(new_branch="side"))
    await b.sync()
    assert tip(b, "side") != before
    assert tip(b) == before == str(b.session.tree.snapshot_id)
    (b.shadow / "one/c/0").write_bytes(b"one 0" * 200)
    await b.write("one/c/1", OURS)
    await b.assert_syncs()


async def test_a_sync_that_finishes_another_tells_what_that_changed(b, monkeypatch):
    entry = await b.find("one/c/0")
    await b.write("two/c/0", OURS)
    others(b, {"one/c/0": THEIRS})
    tree = b.session.tree

    async def down(snapshot_id):
        raise StorageTimeoutError("the store is down")

    monkeypatch.setattr(tree, "prepare", down)
    with pytest.raises(StorageTimeoutError):
        await b.sync()
    monkeypatch.undo()
    outcome = await b.sync()
    assert "one/c/0" in stale_names(outcome.stale)
    assert await b.read("one/c/0") == THEIRS
    assert committed(b)["two/c/0"] == OURS
    assert await b.find("one/c/0") is not entry


def test_a_session_that_begins_while_another_ends_is_whole(tmp_path, monkeypatch):
    unlink = os.unlink
    later = []

    def watched(path, **options):
        unlink(path, **options)
        if os.path.basename(path) == "lock" and not later:
            later.append(None)
            later[0] = journal = Journal.open(tmp_path / "session")  # as another daemon does
            os.close(journal.blobs.open_new()[1])
            journal.add_directory((), None, 0o755, 0)
            journal.put(1, "away", RowKind.WHITEOUT)

    ending = Journal.open(tmp_path / "session")
    monkeypatch.setattr(os, "unlink", watched)
    ending.close()
    monkeypatch.undo()
    with pytest.raises(BusyError):
        Journal.open(tmp_path / "session")
    later[0].close()
    found = Journal.open(tmp_path / "session")
    assert [name for name, _ in found.entries(1)] == ["away"]
    assert len(found.blobs.sizes()) == 1
    found.close()


async def test_who_has_an_uploaded_file_open_goes_on_when_it_is_unlinked(b):
    await b.write("one/c/0", OURS)
    file = await b.find("one/c/0")

    async def uploaded():
        return await file.attribute("uploaded") == b"1"

    async def bytes_are_gone():
        return not any(p.is_file() for p in b.shadow.parent.glob("sessions/*/*/blobs/**/*"))

    await until(uploaded)
    content = await file.open()
    await b.unlink("one/c/0")
    await until(bytes_are_gone)
    assert await content.write(0, b"y") == 1
    assert await content.read(0, SIZE) == b"y" + OURS[1:]
    content.close()
    await b.assert_syncs()


async def test_a_handle_that_is_open_goes_on_writing_after_an_amend(b):
    await b.write("one/c/0", OURS)
    content = await opened(b, "one/c/0")
    assert (await b.sync(amends=True)).snapshot_id is not None
    assert await content.read(0, SIZE) == OURS
    assert await content.write(0, b"b") == 1
    content.close()
    (b.shadow / "one/c/0").write_bytes(b"b" + OURS[1:])
    await b.assert_syncs()


async def test_an_identical_zarr_json_leaves_no_changes(b):
    await b.write("one/zarr.json", LINE)
    await b.assert_sync_does_nothing()
    assert not b.session.has_changes
    assert await b.told() == {}


async def test_status_does_not_stumble_over_a_file_that_is_replaced(b, monkeypatch):
    await b.write("one/zarr.json", array_document((50,), (1,)))
    stop = Stop().before(monkeypatch, kept_session.KeptSession, "_read")
    async with held(stop, b.told) as told:
        await b.write("one/new", array_document((60,), (1,)))
        await b.move("one/new", "one/zarr.json")
        await b.session.staging._sweep()
    assert told.error is None
    assert told.result == {"updated": ["/one"]}
    await b.assert_syncs()
