"""zfuse expire, gc, rewrite-manifests, upgrade and stats, and the sessions that they spare."""

import contextlib
import hashlib
import os
import signal
import time
from datetime import UTC, datetime, timedelta

import icechunk
import pytest

from tests.cli.working import BIG, Work, command, make_repository
from tests.compat.documents import GROUP, put
from tests.compat.place import changing
from tests.mount.mounting import END_S, mounting
from zfuse.cli.cutoff import parse_cutoff
from zfuse.errors import InvalidInputError
from zfuse.fs.journal import Journal

__all__ = ["command"]  # fixtures

NOW = 1_800_000_000_000_000
OTHERS = {"gc": (), "expire": (), "upgrade": (), "stats": (), "rewrite-manifests": ("-m", "x")}


@pytest.fixture(params=[1, 2])
def work(request, tmp_path):
    """A repository of either version with a few commits, a branch that is gone, and garbage."""
    work = Work(make_repository(tmp_path, request.param), tmp_path / "state", None)
    add_history(work.official())
    return work


@pytest.fixture
def second(tmp_path):
    """One of version 2."""
    work = Work(make_repository(tmp_path), tmp_path / "state", None)
    add_history(work.official())
    return work


def add_history(repo):
    for number in range(3):
        with changing(repo, f"commit {number}") as store:
            put(store, "line/c/0", b"%d" % number * BIG)
    repo.create_branch("old", repo.lookup_tag("v1"))
    session = repo.writable_session("main")
    put(session.store, "line/c/9", b"lost" * BIG)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("0s", NOW),
        ("90m", NOW - 5_400_000_000),
        ("12h", NOW - 43_200_000_000),
        ("30d", NOW - 30 * 86_400_000_000),
        (" 2w ", NOW - 14 * 86_400_000_000),
        ("99999d", 0),
        ("2026-08-20", 1_787_184_000_000_000),
        ("2026-08-20T02:00:00.5+02:00", 1_787_184_000_500_000),
    ],
)
def test_what_a_cutoff_may_be(text, moment):
    assert parse_cutoff(text, NOW) == moment


@pytest.mark.parametrize(
    "text",
    ["", "d", "3", "-3d", "3y", "1.5d", "yesterday", "2028-01-01", "2026-08-20T09:00:00"],
)
def test_what_is_no_cutoff(text):
    with pytest.raises(InvalidInputError, match=r"write 2026|still to come"):
        parse_cutoff(text, NOW)


def test_expiration_and_collection(command, work):
    repo = work.repo
    before = {kind: work.objects(kind) for kind in ("chunks", "snapshots", "manifests")}
    would = command("expire", repo, "--older-than", "0s", "--dry-run", "--json").json
    told = command("expire", repo, "--older-than", "0s", "--json").json
    assert told["snapshots"] == would["snapshots"]
    assert len(told["snapshots"]) == 2
    assert (told["held_by"], told["branches"], told["tags"]) == (None, [], [])
    assert {kind: work.objects(kind) for kind in before} == before
    would = command("gc", repo, "--older-than", "0s", "--dry-run", "--json").json
    assert {kind: work.objects(kind) for kind in before} == before
    told = command("gc", repo, "--older-than", "0s", "--json").json
    assert told | {"dry_run": True, "older_than": would["older_than"]} == would
    assert told["chunks_deleted"] == len(before["chunks"] - work.objects("chunks")) == 3
    assert told["snapshots_deleted"] == len(before["snapshots"] - work.objects("snapshots")) == 2
    command("gc", repo, "--older-than", "1h").says("nothing to delete")
    official = work.official()
    assert next(official.ancestry(branch="main")).message == "commit 2"
    assert official.list_tags() == {"v1"}


def test_refs_go_on_demand_and_are_named(command, work):
    flags = ("--delete-expired-branches", "--delete-expired-tags")
    command("expire", work.repo, "--older-than", "0s", *flags, "--dry-run").says(
        "would expire", "would delete the branch old", "would delete the tag v1"
    )
    assert work.official().list_branches() == {"main", "old"}
    command("expire", work.repo, "--older-than", "0s", *flags).says(
        "deleted the branch old", "deleted the tag v1", "zfuse gc"
    )
    assert work.official().list_branches() == {"main"}
    assert not work.official().list_tags()


def test_the_branch_of_a_session_stays(command, work):
    repo, journal = work.official(), Journal.open(work.state / "sessions" / "x" / "old")
    repo.create_branch("gone", repo.lookup_branch("old"))
    base = repo.lookup_branch("old")
    facts = {"branch": "old", "base": base, "repository": str(work.repo), "began_us": 1}
    with contextlib.closing(journal):
        with journal.change():
            journal.set_facts(**facts)
        flags = ("--delete-expired-branches", "--journal", work.state, "--json")
        told = command("expire", work.repo, "--older-than", "0s", *flags).json
    assert told["branches"] == ["gone"]
    assert work.official().lookup_branch("old") == base


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_refused(command, tmp_path, name):
    cutoff = ("--older-than", "30d") if name in {"gc", "expire"} else ()
    command(name, tmp_path / "nowhere", *cutoff, *OTHERS[name]).fails(10, "no Icechunk repository")
    command(name, "", *cutoff, *OTHERS[name]).fails(2, "REPO|PATH")
    if cutoff:
        command(name, tmp_path).fails(2, "--older-than")
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        command(name, tmp_path, "--older-than", tomorrow).fails(2, "still to come")


def test_manifests_are_split_anew(command, work):
    config = icechunk.RepositoryConfig(
        manifest=icechunk.ManifestConfig(
            splitting=icechunk.ManifestSplittingConfig.from_dict(
                {
                    icechunk.ManifestSplitCondition.AnyArray(): {
                        icechunk.ManifestSplitDimCondition.Any(): 1
                    }
                }
            )
        )
    )
    storage = icechunk.local_filesystem_storage(str(work.repo))
    icechunk.Repository.open(storage, config=config).save_config()
    before = work.official().lookup_branch("main")
    told = command("rewrite-manifests", work.repo, "-m", "split", "--json").json
    assert told["manifests"] == 4 + 4
    assert work.official().lookup_branch("main") == told["snapshot"] != before
    if work.official().spec_version == 1:
        command("rewrite-manifests", work.repo, "-m", "x", "--amend").fails(2, "can not be amended")
    else:
        command("rewrite-manifests", work.repo, "-m", "again", "--amend").says("wrote 8 manifests")
    command("rewrite-manifests", work.repo, "-m", "x", "--branch", "no").fails(2, "no branch 'no'")


def test_an_upgrade(command, work):
    was_version_2 = work.official().spec_version == 2
    would = command("upgrade", work.repo, "--dry-run", "--json").json
    told = command("upgrade", work.repo, "--json").json
    assert told | {"dry_run": True} == would
    assert told["was_version_2"] is was_version_2
    official = work.official()
    assert (official.spec_version, official.list_tags()) == (2, {"v1"})
    command("upgrade", work.repo).says("version 2 already")


def test_an_upgrade_of_what_can_not_be_read(command, tmp_path):
    repo = make_repository(tmp_path, 1)
    (repo / "refs/tag.v1/ref.json").write_bytes(b"?")
    before = sorted(repo.rglob("*"))
    outcome = command("upgrade", repo)
    outcome.fails(8, "refs/tag.v1/ref.json does not name a snapshot")
    assert sorted(repo.rglob("*")) == before


def test_stats(command, work):
    told = command("stats", work.repo, "--json").json
    official = work.official().chunk_storage_stats()
    assert told["native_bytes"] == official.native_bytes
    assert told["total_bytes"] == official.total_bytes()
    assert (told["branches"], told["tags"], told["native_chunks"]) == (2, 1, 7)
    command("stats", work.repo).says("native chunks", "virtual chunks", "snapshots")


@pytest.mark.fuse
def test_chunks_of_a_session_are_spared_until_they_are_committed(command, second, tmp_path):
    arguments = ("--rw", "--journal", str(second.state))
    before = second.objects("chunks")
    with mounting(second.repo, tmp_path / "mnt", *arguments) as mounted:
        main = mounted.path / "branch" / "main"
        (main / "line/c/5").write_bytes(b"mine" * BIG)
        wait_until_uploaded(main / "line/c/5")
        new = second.objects("chunks") - before
        assert len(new) == 1
        told = command("gc", main, "--older-than", "0s", "--json").json
        assert told["held_by"] == {
            "branch": "main",
            "base": second.official().lookup_branch("main"),
        }
        began = datetime.now(UTC) - timedelta(minutes=9)
        assert datetime.fromisoformat(told["older_than"]) < began
        assert told["chunks_deleted"] == 0
        assert new <= second.objects("chunks")
        command("upgrade", second.repo).fails(7, "mounted at", "zfuse umount")
        mounted.daemon.send_signal(signal.SIGKILL)
        mounted.daemon.wait(END_S)
        for name in ("gc", "expire"):  # its journal may be anywhere
            outcome = command(name, second.repo, "--older-than", "0s")
            outcome.fails(7, f"the mount {mounted.path} of this repository", "zfuse umount")
        assert new <= second.objects("chunks")
    command("gc", second.repo, "--older-than", "0s", *arguments[1:]).says("a session on the branch")
    assert new <= second.objects("chunks")
    others = second.official()
    for number in range(2):  # the base of the session is no tip any more
        with changing(others, f"theirs {number}") as store:
            put(store, "g/zarr.json", GROUP + b" " * (number + 1))
    told = command("expire", second.repo, "--older-than", "0s", *arguments[1:], "--json").json
    assert told["held_by"] is not None
    with mounting(second.repo, tmp_path / "mnt", *arguments) as mounted:
        command("sync", mounted.path / "branch/main", "-m", "mine").says()
        for path in (*second.repo.glob("chunks/*"), *second.repo.glob("snapshots/*")):
            os.utime(path, (1, 1))
        command("gc", second.repo, "--older-than", "2h", *arguments[1:]).says("deleted")
        told = command("gc", second.repo, "--older-than", "0s", *arguments[1:])
        told.says("the branch main is mounted to be written to")
    assert new <= second.objects("chunks")
    (got,) = (each for each in second.official().ancestry(branch="main") if each.message == "mine")
    assert got.id == second.official().lookup_branch("main")
    command("gc", second.repo, "--older-than", "0s", *arguments[1:]).says()


@pytest.mark.fuse
def test_what_a_mount_shows_stays(command, second, tmp_path):
    repo, data = second.official(), b"for a while" * BIG
    with changing(repo, "for a while") as store:
        put(store, "line/c/7", data)
    with mounting(second.repo, tmp_path / "mnt") as mounted:
        main = mounted.path / "branch" / "main"
        assert (main / "line" / "zarr.json").exists()
        repo.reset_branch("main", repo.lookup_tag("v1"))
        command("gc", second.repo, "--older-than", "0s").says("deleted")
        assert (main / "line/c/7").read_bytes() == data
    told = command("gc", second.repo, "--older-than", "0s", "--json").json
    assert told["chunks_deleted"] == 2


def wait_until_uploaded(path):
    """Return once a file is stored in the background, and its session knows where."""
    deadline = time.monotonic() + 60
    while os.getxattr(path, "user.zfuse.uploaded") != b"1":
        assert time.monotonic() < deadline, f"{path} was not uploaded"
        time.sleep(0.05)


def test_a_session_that_can_not_be_read_is_in_the_way(command, second):
    place = second.state / "sessions" / "x" / "main"
    place.mkdir(parents=True)
    (place / "session.sqlite").write_bytes(b"nonsense" * 100)
    flags = ("--older-than", "0s", "--journal", second.state)
    command("gc", second.repo, *flags).says()  # it is another repository's
    digest = hashlib.sha256(str(second.repo).encode()).hexdigest()[:20]
    place.parent.rename(second.state / "sessions" / digest)
    before = second.objects("chunks")
    command("gc", second.repo, *flags).fails(1, "can not be read", "zfuse recover")
    assert second.objects("chunks") == before
