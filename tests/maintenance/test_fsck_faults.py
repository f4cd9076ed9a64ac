"""Every planted fault is found, in repositories of both writers and versions."""

import contextlib
import itertools
import os
import shutil
from pathlib import Path

import pytest

from tests.maintenance import faults_chunks, faults_history
from tests.maintenance.planting import (
    MTIME,
    Planted,
    Unreadable,
    check,
    copy,
    make_icechunk,
    make_zfuse,
    told,
)
from zfuse.maintenance.fsck import Depth

FAULTS = {
    1: [*faults_history.V1, *faults_history.BOTH, *faults_chunks.CHUNKS],
    2: [*faults_history.V2, *faults_history.BOTH, *faults_chunks.CHUNKS],
}
# What zfuse wrote is the same but for its bytes: half of the faults are planted in each version.
CASES = [
    pytest.param(writer, spec, fault, id=f"{fault.__name__}-{writer}-{spec}")
    for writer, spec in itertools.product(("icechunk", "zfuse"), (1, 2))
    for n, fault in enumerate(FAULTS[spec])
    if writer == "icechunk" or n % 2 == spec - 1
]
BOTH_WRITERS = [(writer, spec) for writer in ("icechunk", "zfuse") for spec in (1, 2)]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return {}


@pytest.fixture
async def planted(sound, tmp_path_factory, tmp_path, request):
    """A function that copies the repository of a writer and version."""

    async def make(writer, spec):
        if (writer, spec) not in sound:
            place = tmp_path_factory.mktemp("sound")
            made = make_icechunk(place, spec) if writer == "icechunk" else make_zfuse(place, spec)
            sound[writer, spec] = made if writer == "icechunk" else await made
        return copy(sound[writer, spec], tmp_path)

    return make


def test_there_are_many_faults():
    assert len({fault.__name__ for faults in FAULTS.values() for fault in faults}) >= 75


@pytest.mark.parametrize(("writer", "spec", "fault"), CASES)
async def test_a_fault_is_found(planted, writer, spec, fault):
    damaged = await planted(writer, spec)
    key, words = fault(damaged)
    found, summary = await check(damaged.root)
    assert [f for f in found if f.object == key and words in f.problem], told(found)
    assert summary.findings == len(found)


@contextlib.contextmanager
def restored(data):
    """Put the files of a directory back after the block."""
    before = {path: path.read_bytes() for path in data.iterdir()}
    try:
        yield
    finally:
        for path, content in before.items():
            path.write_bytes(content)
            os.utime(path, (MTIME, MTIME))


@pytest.mark.parametrize(("writer", "spec"), BOTH_WRITERS)
@pytest.mark.parametrize("fault", faults_chunks.SOURCES)
async def test_a_source_that_is_not_what_it_was_is_found(planted, writer, spec, fault):
    damaged = await planted(writer, spec)
    with restored(damaged.data):
        key, words = fault(damaged)
        found, _ = await check(damaged.root)
        assert told(found) == []  # nobody asked
        allowed = [f"file://{damaged.data}/"]
        found, _ = await check(damaged.root, allowed=allowed, depth=Depth(asks_sources=True))
    assert [f for f in found if f.object == key and words in f.problem], told(found)
    assert {f.path for f in found} == {"/v"}


async def test_sources_that_nobody_allowed_are_counted_and_no_fault(planted):
    made = await planted("icechunk", 2)
    found, summary = await check(made.root, depth=Depth(asks_sources=True))
    assert found == []
    assert summary.not_asked == {f"file://{made.data}/": 3}


@pytest.mark.parametrize("prefix", ["manifests/", "snapshots/", "transactions/"])
async def test_an_object_that_can_not_be_read_is_found(planted, prefix):
    made = await planted("icechunk", 2)
    found, _ = await check(made.root, storage=Unreadable(made.root, prefix))
    assert found
    assert all(finding.object.startswith(prefix) for finding in found)
    assert all("it can not be read" in finding.problem for finding in found)


async def test_only_a_deep_check_reads_chunks(planted):
    made = await planted("icechunk", 2)
    storage = Unreadable(made.root, "chunks/")
    assert (await check(made.root, storage=storage))[0] == []
    found, _ = await check(made.root, storage=storage, depth=Depth(reads_chunks=True))
    assert len(found) == 10
    assert {finding.path for finding in found} == {"/a", "/line"}
    assert all("it can not be read" in finding.problem for finding in found)


OLD = Path(__file__).parents[1] / "data" / "icechunk-1.1.21-spec1" / "repository"


def _needed(root, kind):
    """Return an object of *kind* that the tip of main needs."""
    old = Planted(root, root, 1)
    arrays = [node.path for node in old.snapshot().nodes if getattr(node, "manifests", ())]
    (chunk, *_) = sorted(path.name for path in (root / "chunks").iterdir())
    keys = {"snapshots": f"snapshots/{old.tip()}", "transactions": old.log_key()}
    return {**keys, "manifests": old.manifest_key(arrays[0]), "chunks": f"chunks/{chunk}"}[kind]


@pytest.mark.parametrize("is_gone", [True, False])
@pytest.mark.parametrize("kind", ["snapshots", "manifests", "transactions", "chunks"])
async def test_damage_to_what_the_older_library_wrote_is_found(tmp_path, kind, is_gone):
    root = tmp_path / "copy"
    shutil.copytree(OLD, root)
    key = _needed(root, kind)
    if is_gone:
        (root / key).unlink()
    else:
        (root / key).write_bytes((root / key).read_bytes()[:60])
    found, _ = await check(root)
    hits = [f for f in found if f.object == key]
    assert any(f.problem.startswith(("gone", "damaged", "it has 60 bytes")) for f in hits)
    assert kind == "chunks" or all("branch/main" in f.refs for f in hits)
