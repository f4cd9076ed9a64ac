"""How a person names a version."""

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compat.documents import GROUP, put
from tests.compat.place import changing, create, local_place
from tests.counting import CountingStorage
from zfuse.errors import InvalidInputError, NotFoundError
from zfuse.repo.ref import Ref, RefKind, parse_ref, parse_time, resolve
from zfuse.repo.repository import Repository
from zfuse.storage.local import LocalStorage

both = pytest.mark.parametrize("spec", [1, 2])


class Unused:
    def declare(self, containers):
        pass


@pytest.fixture
def official(tmp_path, spec):
    repo = create(local_place(tmp_path), spec)
    with changing(repo, "first") as store:
        put(store, "zarr.json", GROUP)
    repo.create_branch("dev", repo.lookup_branch("main"))
    repo.create_branch("both", repo.lookup_branch("main"))
    repo.create_tag("v1", repo.lookup_branch("main"))
    repo.create_tag("both", [*repo.ancestry(branch="main")][-1].id)
    return repo


@pytest.fixture
async def storage(official, tmp_path):
    return CountingStorage(LocalStorage(tmp_path / "repository"))


@pytest.fixture
async def repository(storage):
    return await Repository.open(storage, virtual=Unused())


@both
@pytest.mark.compat
async def test_what_people_write(repository, official, spec):
    tip = official.lookup_branch("main")
    for text, ref in {
        "dev": Ref(RefKind.BRANCH, "dev"),
        "v1": Ref(RefKind.TAG, "v1"),
        "branch/both": Ref(RefKind.BRANCH, "both"),
        "tag/both": Ref(RefKind.TAG, "both"),
        "branch/a/b": Ref(RefKind.BRANCH, "a/b"),
        tip: Ref(RefKind.SNAPSHOT, tip),
        tip.lower(): Ref(RefKind.SNAPSHOT, tip),
        f"snapshot/{tip}": Ref(RefKind.SNAPSHOT, tip),
        "time/2026-01-01": Ref(RefKind.TIME, "2026-01-01"),
    }.items():
        assert await parse_ref(repository, text) == ref
    with pytest.raises(InvalidInputError, match="branch/both or tag/both"):
        await parse_ref(repository, "both")
    for text in ("nothing", "0" * 20, "", "main/x", "branches/main"):
        with pytest.raises(NotFoundError):
            await parse_ref(repository, text)


@both
@pytest.mark.compat
async def test_refs_resolve_to_what_the_official_library_says(repository, official, spec):
    line = [s.id for s in official.ancestry(branch="main")]
    for ref, snapshot in {
        Ref(RefKind.BRANCH, "main"): line[0],
        Ref(RefKind.BRANCH, "dev"): line[0],
        Ref(RefKind.TAG, "both"): line[-1],
        Ref(RefKind.SNAPSHOT, line[-1]): line[-1],
        Ref(RefKind.SNAPSHOT, line[-1].lower()): line[-1],
    }.items():
        assert str(await resolve(repository, ref)) == snapshot
        assert ref.is_immutable == (ref.kind is not RefKind.BRANCH)
    for ref in (
        Ref(RefKind.BRANCH, "v1"),
        Ref(RefKind.TAG, "dev"),
        Ref(RefKind.SNAPSHOT, "0" * 20),
    ):
        with pytest.raises(NotFoundError):
            await resolve(repository, ref)
    for ref in (Ref(RefKind.SNAPSHOT, "main"), Ref(RefKind.TIME, "soon")):
        with pytest.raises(InvalidInputError):
            await resolve(repository, ref)
    with pytest.raises(NotFoundError, match="'both', 'dev', 'main'"):
        await resolve(repository, Ref(RefKind.BRANCH, "x"))


@both
@pytest.mark.compat
async def test_a_moment_is_looked_for_as_of_the_last_look_or_a_new_one(
    repository, storage, official, spec
):
    line = [*official.ancestry(branch="main")]
    storage.reset()
    found = await resolve(repository, Ref(RefKind.TIME, line[1].written_at.isoformat()))
    assert str(found) == line[1].id
    assert "repo" not in storage.keys("get")
    assert storage.keys("list") == []
    with changing(official, "later") as store:
        put(store, "zarr.json", GROUP + b" ")
    now = datetime.now(UTC)
    found = await resolve(repository, Ref(RefKind.TIME, now.isoformat()))
    assert str(found) == official.lookup_branch("main")
    with pytest.raises(InvalidInputError, match="still to come"):
        await resolve(repository, Ref(RefKind.TIME, (now + timedelta(days=1)).isoformat()))
    with pytest.raises(NotFoundError, match="no snapshot as old as 1999"):
        await resolve(repository, Ref(RefKind.TIME, "1999-01-01"))
    with pytest.raises(NotFoundError, match="0001-01-01T00:00:00"):
        await resolve(repository, Ref(RefKind.TIME, "0001-01-01"))


@both
@pytest.mark.compat
async def test_a_snapshot_of_after_the_last_look_is_found(repository, official, spec):
    with changing(official, "later") as store:
        put(store, "later/zarr.json", GROUP)
    tip = official.lookup_branch("main")
    assert str(await resolve(repository, Ref(RefKind.SNAPSHOT, tip))) == tip
    assert str(repository.branches["main"]) != tip  # which a refresh alone moves
    with pytest.raises(NotFoundError, match="no snapshot 0000"):
        await resolve(repository, Ref(RefKind.SNAPSHOT, "0" * 20))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01", 0),
        ("1970-01-01T00:00:00", 0),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("2026-08-20T09:00:00Z", 1_787_216_400_000_000),
        ("2026-08-20T09:00:00.123456Z", 1_787_216_400_123_456),
        ("2026-08-20 09:00", 1_787_216_400_000_000),
        ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
    ],
)
def test_times(text, moment):
    assert parse_time(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026",
        "2026-13-01",
        "2026-02-30",
        "12:00",
        "1e9",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_what_is_no_time(text):
    with pytest.raises(InvalidInputError, match="is not a time"):
        parse_time(text)


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_microsecond_comes_back(moment):
    parsed = parse_time(moment.isoformat())
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=parsed) == moment


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_an_error(text):
    with contextlib.suppress(InvalidInputError):
        assert parse_time(text) < 253_402_300_800_000_000
