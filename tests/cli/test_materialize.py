"""zfuse materialize, on repositories and in mounts; icechunk reads what it made."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import icechunk
import numpy as np
import pytest
import trio

from tests.cli.working import command
from tests.compat.documents import array_document, get_all, put
from tests.compat.place import access, changing, container, create, local_place, source
from tests.maintenance.planting import BIG, Planted, make_icechunk, make_zfuse
from tests.mount.mounting import mounting
from tests.repo.foreign import Chunk, make
from zfuse.cli.materialize import commit
from zfuse.cli.sessions import explained
from zfuse.daemon.control import ReportedError

__all__ = ["command"]

ROOT = Path(__file__).parents[2]


def official(made):
    storage = icechunk.local_filesystem_storage(str(made.root))
    return icechunk.Repository.open(
        storage, authorize_virtual_chunk_access=access(f"file://{made.data}/")
    )


def kinds(made, path, count):
    session = official(made).readonly_session("main")
    return {str(session.chunk_type(path, [n])).rpartition(".")[2].lower() for n in range(count)}


def allow(made):
    return "--allow-virtual", f"file://{made.data}/"


@pytest.mark.parametrize("writer", ["icechunk", "zfuse"])
@pytest.mark.parametrize("spec", [1, 2])
def test_afterwards_the_source_may_be_deleted(command, tmp_path, writer, spec):
    if writer == "icechunk":
        make = make_icechunk(tmp_path, spec)
    else:
        make = trio.run(make_zfuse, tmp_path, spec)
    before = get_all(official(make).readonly_session("main").store)
    assert kinds(make, "/v", 4) == {"virtual"}
    told = command("materialize", make.root, "-m", "own", *allow(make), "--json").json
    assert told["snapshot"] == official(make).lookup_branch("main")
    assert (told["chunks"], told["bytes"]) == (4, 1720)
    assert (told["objects_stored"], told["inline_chunks"]) == (2, 2)
    shutil.rmtree(make.data)
    assert get_all(official(make).readonly_session("main").store) == before
    assert kinds(make, "/v", 4) == {"native", "inline"}
    assert next(official(make).ancestry(branch="main")).message == "own"
    command("fsck", make.root).says("no faults")
    command("materialize", make.root, "-m", "again").says("branch main has no virtual chunks there")


def test_nodes_of_a_branch(command, tmp_path):
    made = make_icechunk(tmp_path, 2)
    repo = official(made)
    repo.create_branch("work", repo.lookup_branch("main"))
    arguments = ("-m", "own", *allow(made), "--branch", "work")
    command("materialize", made.root, "a", "line", *arguments).says("has no virtual chunks")
    command("materialize", made.root, "a", "v", *arguments).says("branch work is at", "4 chunks")
    assert kinds(made, "/v", 4) == {"virtual"}
    command("materialize", made.root, "nowhere", "-m", "own").fails(2, "there is no /nowhere")
    command("materialize", made.root).fails(2, "say what the commit does")
    command("materialize", made.root, "v", "-m", "own").fails(12, "--allow-virtual")


def test_lost_sources_are_listed(command, tmp_path):
    made = make_icechunk(tmp_path, 2)
    tip = official(made).lookup_branch("main")
    (made.data / "one.bin").unlink()
    location = f"file://{made.data}/one.bin"
    outcome = command("materialize", made.root, "-m", "own", *allow(made))
    assert outcome.status == 8
    assert f"  lost: {location}: gone: /v chunks 0, 1" in outcome.err
    told = command("materialize", made.root, "-m", "own", *allow(made), "--json").json
    assert told["snapshot"] is None
    assert [(f["object"], f["chunks"]) for f in told["lost"]] == [(location, [[0], [1]])]
    assert official(made).lookup_branch("main") == tip


def test_a_mount_shows_it_at_once(command, tmp_path):
    made = make_icechunk(tmp_path, 2)
    options = ("--rw", "--journal", str(tmp_path / "journal"), *allow(made))
    with mounting(made.root, tmp_path / "mnt", *options) as mounted:
        branch = mounted.path / "branch" / "main"
        before = [(branch / f"v/c/{n}").read_bytes() for n in range(4)]
        (branch / "line/c/0").write_bytes(b"changed")
        outcome = command("materialize", branch / "v", "-m", "own")
        outcome.fails(4, "not committed", "zfuse sync or zfuse discard")
        command("discard", branch)
        command("materialize", mounted.path / "tag/v1", "-m", "own").fails(2, "tag/v1 is fixed")
        other = mounted.path / "branch" / "dev"
        command("materialize", branch / "v", other, "-m", "own").fails(2, "not in one branch")
        (branch / "NOTES").write_bytes(b"what no commit takes is in nobody's way")
        outcome = command("materialize", branch / "v", branch / "a", "-m", "own")
        outcome.says("branch main is at", "4 chunks of 1.7 KiB are its own now")
        shutil.rmtree(made.data)
        shown = mounted.call("status")
        assert [(branch / f"v/c/{n}").read_bytes() for n in range(4)] == before
        assert os.getxattr(branch / "v/c/0", "user.zfuse.kind") == b"native"
        assert official(made).lookup_branch("main") in str(shown)


async def test_chunks_that_others_wrote_meanwhile_are_listed(tmp_path, capsys):
    foreign = await make(tmp_path / "state", {"/a": [Chunk("one", n, 700) for n in range(3)]})
    mine, theirs = await foreign.session(), await foreign.session()
    await theirs.set_chunk("/a", (1,), b"theirs")
    await theirs.commit("theirs")
    await mine.set_chunk("/a", (1,), b"mine")
    with pytest.raises(ReportedError, match="start it again") as caught, explained(as_json=False):
        await commit(mine, "own")
    assert caught.value.exit_code == 5
    assert "conflict: /a: chunk double update, chunks 1 (by " in capsys.readouterr().err


def _many(directory, count):
    """Make an array of *count* chunks in as many files."""
    place = local_place(directory)
    config = icechunk.RepositoryConfig.default()
    config.set_virtual_chunk_container(container(place))
    options = {"authorize_virtual_chunk_access": access(place.prefix)}
    repo = create(place, 2, config, **options)
    repo.save_config()
    names = [source(place, f"{n}.bin", b"%4d" % n * (BIG // 4)) for n in range(count)]
    with changing(repo, "many") as store:
        put(store, "m/zarr.json", array_document((count,), (1,)))
        lengths = np.full(count, BIG, "u8")
        store.set_virtual_refs_arr("/m", (count,), names, np.zeros(count, "u8"), lengths)
    return Planted(directory / "repository", place.data, 2)


def test_a_killed_run_goes_on(command, home, tmp_path):
    count = 200
    made = _many(tmp_path, count)
    before = get_all(official(made).readonly_session("main").store)
    arguments = ["materialize", str(made.root), "-m", "own", *allow(made), "--json"]
    # Up to 15 others are on their way then.
    spec = {"log": str(tmp_path / "steps"), "die": "store put chunks #60 before"}
    stepping = [sys.executable, "-m", "tests.faults.stepping", json.dumps(spec), *arguments]
    died = subprocess.run(stepping, env=home, cwd=ROOT, check=False, timeout=200)
    assert died.returncode == -signal.SIGKILL
    spared = command("gc", made.root, "--older-than", "0s", "--json").json
    assert (spared["held_by"], spared["chunks_deleted"]) == ({"branch": "main", "base": None}, 0)
    told = command(*arguments).json
    assert told["objects_reused"] > 30
    assert told["objects_stored"] == count - told["objects_reused"]
    shutil.rmtree(made.data)
    assert get_all(official(made).readonly_session("main").store) == before
    garbage = command("fsck", made.root, "--json").json_lines[-1]["unreferenced"]["chunks"]
    assert garbage["objects"] <= 16  # stored, and not noted yet when the process died
