"""The names of branches, tags, snapshots and moments."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from tests.compat.documents import GROUP, put
from tests.compat.histories import ODD_REFS, ODD_REFS_V1
from tests.compat.place import changing, create, local_place
from tests.compat.repositories import build
from tests.fs.driving import driving
from zfuse.errors import NotFoundError
from zfuse.fs.entry import EntryKind
from zfuse.fs.inodes import ROOT
from zfuse.fs.names import decode_name, encode_name
from zfuse.fs.refs_directory import LISTED_SNAPSHOTS
from zfuse.repo.ref import Ref, RefKind

pytestmark = pytest.mark.compat
both = pytest.mark.parametrize("spec", [1, 2])


async def names_in(driven, path):
    return [item.name for item in await driven.list((await driven.find(path)).inode)]


async def snapshot_at(driven, path):
    """Return the id of the snapshot whose tree is at *path*."""
    found = await driven.find(f"{path}/zarr.json")
    return (await driven.fs.getxattr(found.inode, "user.zfuse.snapshot")).decode()


@pytest.fixture
def history(tmp_path, spec):
    """A repository and its snapshots on main, the oldest first, all but the first with nodes."""
    repo = create(local_place(tmp_path), spec)
    for number in range(3):
        with changing(repo, f"commit {number}") as store:
            put(store, "zarr.json", GROUP.replace(b"{}", b'{"n":%d}' % number))
    return repo, [*repo.ancestry(branch="main")][::-1]


@both
async def test_the_root_lists_what_can_be_listed(history, tmp_path, spec):
    async with driving(tmp_path / "repository") as driven:
        items = await driven.list(ROOT)
        assert [item.name for item in items] == ["branch", "tag", "snapshot"]
        assert {item.attributes.kind for item in items} == {EntryKind.DIRECTORY}
        assert (await driven.find("time")).kind is EntryKind.DIRECTORY
        assert await names_in(driven, "time") == []
        assert await names_in(driven, "tag") == []
        for name in ("branches", "", "Branch", "snapshots"):
            with pytest.raises(NotFoundError):
                await driven.find(name)


@pytest.mark.parametrize(
    ("name", "spec", "odd"), [("refs", 2, ODD_REFS), ("refs_v1", 1, ODD_REFS_V1)]
)
async def test_every_ref_is_listed_and_found_by_its_shown_name(name, spec, odd, tmp_path):
    made = build(name, spec, local_place(tmp_path))
    assert set(odd) <= made.branches.keys() & made.tags.keys()
    async with driving(made.url) as driven:
        for kind, refs in (("branch", made.branches), ("tag", made.tags)):
            shown = await names_in(driven, kind)
            assert sorted(shown) == sorted(map(encode_name, refs))
            for one in shown:
                real = decode_name(one, refs)
                await driven.find(f"{kind}/{one}")
                shows = {t.ref: str(t.snapshot_id) for t in driven.trees.open_trees()}
                assert shows[Ref(RefKind(kind), real)] == refs[real]
            for absent in ("gone", "weg ü", "weg%20ü", "%C3%BC", "a/b"):
                if absent in refs:
                    continue
                directory = await driven.find(kind)
                with pytest.raises(NotFoundError):
                    await driven.lookup(directory.inode, absent)


@both
async def test_snapshots_are_found_in_any_spelling(history, tmp_path, spec):
    _, line = history
    async with driving(tmp_path / "repository") as driven:
        assert sorted(await names_in(driven, "snapshot")) == sorted(s.id for s in line)
        newest = line[-1].id
        for text in (newest, newest.lower(), newest.replace("0", "O").replace("1", "l")):
            assert await snapshot_at(driven, f"snapshot/{text}") == newest
        for unknown in ("0" * 20, newest[:-1], newest + "0", "u" * 20, "main", ""):
            directory = await driven.find("snapshot")
            with pytest.raises(NotFoundError):
                await driven.lookup(directory.inode, unknown)


@both
async def test_the_newest_snapshots_are_listed_the_others_resolve(tmp_path, spec):
    repo = create(local_place(tmp_path), spec)
    for number in range(LISTED_SNAPSHOTS + 2):
        session = repo.writable_session("main")
        if number in {0, LISTED_SNAPSHOTS + 1}:
            put(session.store, "zarr.json", GROUP.replace(b"{}", b'{"n":%d}' % number))
        session.commit(str(number), allow_empty=True)
    line = [s.id for s in repo.ancestry(branch="main")]
    async with driving(tmp_path / "repository") as driven:
        assert await names_in(driven, "snapshot") == line[:LISTED_SNAPSHOTS]
        oldest = line[-2]
        assert await snapshot_at(driven, f"snapshot/{oldest}") == oldest


@both
async def test_a_moment_is_main_as_it_was_then(history, tmp_path, spec):
    _, line = history
    async with driving(tmp_path / "repository") as driven:
        for older, younger in pairwise(line[1:]):
            for moment in (
                older.written_at,
                younger.written_at - timedelta(microseconds=1),
            ):
                for text in (
                    moment.isoformat(),
                    moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                    moment.astimezone(UTC).replace(tzinfo=None).isoformat(),
                ):
                    assert await snapshot_at(driven, f"time/{text}") == older.id
        before = (line[0].written_at - timedelta(microseconds=1)).isoformat()
        for absent in (before, "2999-01-01T00:00:00Z", "yesterday", "", "12", "2026-02-30"):
            directory = await driven.find("time")
            with pytest.raises(NotFoundError):
                await driven.lookup(directory.inode, absent)


@both
async def test_a_moment_after_the_last_look_at_the_repository_makes_it_look_again(
    history, tmp_path, spec
):
    repo, line = history
    async with driving(tmp_path / "repository") as driven:
        assert await snapshot_at(driven, "branch/main") == line[-1].id
        with changing(repo, "later") as store:
            put(store, "zarr.json", GROUP)
        now = datetime.now(UTC).isoformat()
        assert await snapshot_at(driven, f"time/{now}") == repo.lookup_branch("main")
        assert await snapshot_at(driven, "branch/main") == line[-1].id, "no branch moves by that"
        await driven.fs.refresh()
        assert await snapshot_at(driven, "branch/main") == repo.lookup_branch("main")


@both
async def test_what_a_moment_means_never_changes_while_somebody_knows_it(history, tmp_path, spec):
    repo, line = history
    async with driving(tmp_path / "repository") as driven:
        moment = line[-1].written_at.isoformat()
        found = await driven.find(f"time/{moment}")
        repo.reset_branch("main", line[1].id)
        await driven.fs.refresh()
        assert await driven.find(f"time/{moment}") == found
        assert await snapshot_at(driven, f"time/{moment}") == line[-1].id


@both
async def test_times_of_directories(history, tmp_path, spec):
    """What is shown changed with the snapshot, what refs there are with the last look."""
    _, line = history
    written = line[-1].written_at
    expected = (int(written.timestamp()) * 1_000_000 + written.microsecond) * 1000
    async with driving(tmp_path / "repository") as driven:
        await driven.find("branch/main/zarr.json")
        assert (await driven.find("branch/main")).mtime_ns == expected
        looked = driven.repository.state.fetched_at * 1000
        assert (await driven.find("branch")).mtime_ns == looked
        assert (await driven.fs.getattr(ROOT)).mtime_ns == looked


async def test_a_node_called_like_the_control_directory(tmp_path):
    repo = create(local_place(tmp_path), 2)
    with changing(repo, "odd") as store:
        put(store, ".zfuse/zarr.json", GROUP)
        put(store, "g/.zfuse/zarr.json", GROUP)
    async with driving(tmp_path / "repository", ref=Ref(RefKind.BRANCH, "main")) as driven:
        shown = {item.name for item in await driven.list(ROOT)}
        assert shown == {"%2Ezfuse", "g"}
        assert await driven.read_path("%2Ezfuse/zarr.json") == GROUP
        assert await driven.read_path("g/.zfuse/zarr.json") == GROUP
        control = await driven.find(".zfuse")
        with pytest.raises(NotFoundError):
            await driven.lookup(control.inode, "zarr.json")
        with pytest.raises(NotFoundError):
            await driven.find("g/%2Ezfuse")
    async with driving(tmp_path / "repository") as driven:
        assert await driven.read_path("branch/main/.zfuse/zarr.json") == GROUP


@both
@pytest.mark.parametrize("writable", [False, True])
async def test_roots_have_the_time_of_their_snapshot(history, tmp_path, spec, writable):
    repo, line = history
    repo.create_tag("first", line[1].id)
    journal = tmp_path / "journal" if writable else None
    async with driving(tmp_path / "repository", journal=journal) as driven:
        with changing(repo, "later") as store:
            put(store, "later/zarr.json", GROUP)
        newest = next(iter(repo.ancestry(branch="main")))
        listed = await driven.list((await driven.find("branch")).inode)
        assert [item.name for item in listed] == ["main"]
        for path, info in {
            "branch/main": line[-1],
            "tag/first": line[1],
            f"snapshot/{line[2].id}": line[2],
            f"snapshot/{newest.id}": newest,
            f"time/{datetime.now(UTC).isoformat()}": newest,
        }.items():
            found = await driven.find(path)
            written_us = (info.written_at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
                microseconds=1
            )
            assert found.mtime_ns == written_us * 1000, path
            assert (await driven.fs.getattr(found.inode)).mtime_ns == found.mtime_ns
