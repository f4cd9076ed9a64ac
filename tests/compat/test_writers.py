"""Many processes commit to one branch at once, and no commit gets lost."""

import json
import subprocess
import sys
from pathlib import Path

import icechunk
import pytest

from tests.compat.documents import array_document, put_all
from tests.compat.place import changing, local_place, s3_place
from tests.repo.editing import official_keys
from tests.repo.writer import content

pytestmark = pytest.mark.compat
ROOT = Path(__file__).parents[2]
both = pytest.mark.parametrize("spec_version", [1, 2])


def create(place, spec_version):
    repo = icechunk.Repository.create(place.storage, spec_version=spec_version)
    with changing(repo, "base") as store:
        put_all(store, {"a/zarr.json": array_document((8, 25), (1, 1))})
    return repo


def write_at_once(url, libraries, commits, **access):
    """Let a process of each of *libraries* commit; return when all are done."""
    processes = []
    for writer, library in enumerate(libraries):
        spec = {"url": url, "writer": writer, "commits": commits, "library": library, **access}
        command = [sys.executable, "-m", "tests.repo.writer", json.dumps(spec)]
        processes.append(
            subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    try:
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        for process in processes:
            _, errors = process.communicate(timeout=1500)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
            process.wait()


def check(place, spec_version, writers, commits):
    repo = icechunk.Repository.open(place.storage)
    tip = repo.lookup_branch("main")
    expected = {f"a/c/{w}/{n}": content(w, n) for w in range(writers) for n in range(commits)}
    keys = official_keys(repo, tip)
    assert {key: data for key, data in keys.items() if "/c/" in key} == expected
    messages = [info.message for info in repo.ancestry(branch="main")][:-2]
    assert sorted(messages) == sorted(f"{w} {n}" for w in range(writers) for n in range(commits))
    if spec_version > 1:
        kinds = [type(update.kind).__name__ for update in repo.ops_log()]
        assert kinds.count("NewCommit") == writers * commits + 1


def on_a_directory(tmp_path, spec_version, writers, commits):
    place = local_place(tmp_path)
    create(place, spec_version)
    write_at_once(place.url, ["zfuse"] * writers, commits)
    check(place, spec_version, writers, commits)


def on_s3(tmp_path, server, spec_version, libraries, commits):
    access = {"endpoint": server.endpoint, "key": server.access_key, "secret": server.secret_key}
    place = s3_place(tmp_path, bucket=server.make_bucket(), prefix="r", **access)
    create(place, spec_version)
    write_at_once(place.url, libraries, commits, **access)
    check(place, spec_version, len(libraries), commits)


@both
def test_some_processes_commit_to_a_directory(spec_version, tmp_path):
    on_a_directory(tmp_path, spec_version, 4, 4)


@both
def test_some_processes_commit_to_s3(spec_version, tmp_path, s3_server):
    on_s3(tmp_path, s3_server, spec_version, ["zfuse"] * 3, 3)


@both
def test_zfuse_and_the_official_library_commit_to_s3_at_once(spec_version, tmp_path, s3_server):
    on_s3(tmp_path, s3_server, spec_version, ["zfuse", "icechunk"], 4)


@pytest.mark.long
@pytest.mark.timeout(1800)
@both
def test_eight_processes_commit_25_times_each_to_a_directory(spec_version, tmp_path):
    on_a_directory(tmp_path, spec_version, 8, 25)


@pytest.mark.long
@pytest.mark.timeout(1800)
@both
def test_eight_processes_commit_25_times_each_to_s3(spec_version, tmp_path, s3_server):
    on_s3(tmp_path, s3_server, spec_version, ["zfuse"] * 8, 25)


@pytest.mark.long
@pytest.mark.timeout(1800)
@both
def test_half_of_eight_processes_use_the_official_library(spec_version, tmp_path, s3_server):
    on_s3(tmp_path, s3_server, spec_version, ["zfuse", "icechunk"] * 4, 25)
