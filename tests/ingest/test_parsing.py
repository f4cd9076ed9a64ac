"""Who parses, and what is kept of it for a run that goes on after another was killed."""

import logging
import os

import dask
import distributed
import h5py
import numpy as np
import pytest
import trio
import zarr

from tests.ingest.archive import arrays_of, equal_arrays, settle
from tests.ingest.zarr_arrays import GRID, make_v3
from tests.servers.dask_cluster import PATIENCE, scheduler
from zfuse.errors import CorruptionError, InvalidInputError, NotFoundError, StorageError
from zfuse.ingest.parse import parse_source
from zfuse.ingest.parsed import ParsedSource
from zfuse.ingest.sources import source_of
from zfuse.ingest.workers import Parsing

pytestmark = [
    pytest.mark.compat,
    pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning"),
    pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The address of a cluster whose one worker is a thread that is talked to over TCP."""
    with scheduler(tmp_path_factory.mktemp("dask"), "threads") as address:
        yield address


@pytest.fixture(autouse=True)
def patient_clients(monkeypatch):
    """Give the clients of clusters time; what they log meanwhile is no test's business."""
    monkeypatch.setattr("zfuse.ingest.workers._CONNECT_S", 300)
    monkeypatch.setattr(logging.getLogger("distributed"), "propagate", False)
    with dask.config.set(PATIENCE):
        yield


def make_sources(archive) -> list[tuple]:
    """Make sources of three formats; return them with their nodes."""
    make_v3(archive.data / "zarr")
    zarr.create_array(archive.data / "one", data=GRID, chunks=(4, 4), zarr_format=2)
    with h5py.File(archive.data / "file.h5", "w") as file:
        file["inner/a"] = GRID
        file.create_dataset("text", data=["a", "é"], dtype=h5py.string_dtype())
    archive.settle()
    return [(archive.data / name, f"/{name}") for name in ("zarr", "one", "file.h5")]


async def test_a_cluster_parses_as_threads_do(archive, cluster):
    sources = make_sources(archive)
    await archive.ingest(*sources)
    expected = arrays_of(archive.store())
    again = [(place, f"/dask{node}") for place, node in sources]
    await archive.ingest(*again, parsing=Parsing(dask=cluster))
    found = arrays_of(archive.store())
    equal_arrays({name: found[f"dask/{name}"] for name in expected}, expected)


@pytest.mark.long
async def test_workers_in_processes_of_their_own(archive, tmp_path):
    sources = make_sources(archive)
    with scheduler(tmp_path, "processes") as address:
        await archive.ingest(*sources, parsing=Parsing(dask=address))
    expected = arrays_of(archive.data / "zarr")
    found = arrays_of(archive.store())
    equal_arrays({name: found[f"zarr/{name}"] for name in expected}, expected)


async def test_errors_of_a_cluster_are_those_of_threads(archive, cluster):
    make_sources(archive)
    parsing = Parsing(dask=cluster)
    with pytest.raises(NotFoundError, match="missing does not exist"):
        await archive.ingest(archive.data / "missing", parsing=parsing)
    report = await archive.ingest(
        (archive.data / "one", "/one"),
        (archive.data / "missing", "/missing"),
        keep_going=True,
        parsing=parsing,
    )
    assert len(report.ingested) == 1
    assert isinstance(report.failed[0][1], NotFoundError)


async def test_a_client_of_the_caller_stays_open(archive, cluster):
    sources = make_sources(archive)
    client = await trio.to_thread.run_sync(distributed.Client, cluster)
    try:
        await archive.ingest(sources[0], parsing=Parsing(dask=client))
        assert client.status == "running"
    finally:
        await trio.to_thread.run_sync(client.close)


async def test_no_scheduler(archive, monkeypatch):
    sources = make_sources(archive)
    monkeypatch.setattr("zfuse.ingest.workers._CONNECT_S", 1)
    with pytest.raises(StorageError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9"):
        await archive.ingest(*sources, parsing=Parsing(dask="tcp://127.0.0.1:9"))


def test_what_travels_is_what_was_parsed(tmp_path):
    make_v3(tmp_path / "zarr")
    settle(tmp_path)
    parsed = parse_source(source_of(str(tmp_path / "zarr")))
    data = parsed.to_bytes()
    again = ParsedSource.from_bytes(data)
    assert again.to_bytes() == data
    assert again.files.changed(parsed.files) is None
    assert [(n.path, n.document) for n in again.nodes] == [
        (n.path, n.document) for n in parsed.nodes
    ]
    for first, second in zip(parsed.nodes, again.nodes, strict=True):
        if first.chunks is not None:
            for name in ("coords", "files", "offsets", "lengths"):
                assert np.array_equal(getattr(first.chunks, name), getattr(second.chunks, name))


@pytest.mark.parametrize("damage", [lambda data: data[:-40], lambda _: b"", lambda _: b"PK\3\4"])
def test_damage_is_found(tmp_path, damage):
    zarr.create_array(tmp_path / "a", data=GRID)
    data = parse_source(source_of(str(tmp_path / "a"))).to_bytes()
    with pytest.raises(CorruptionError, match="is damaged"):
        ParsedSource.from_bytes(damage(data))


@pytest.fixture
def parsed_places(monkeypatch):
    """The names of the sources that are parsed, as they are."""
    parsed = []

    def parse(source):
        parsed.append(source.stem)
        return parse_source(source)

    monkeypatch.setattr("zfuse.ingest.workers.parse_source", parse)
    return parsed


async def test_a_run_goes_on(archive, tmp_path, parsed_places):
    """What the first run parsed before it failed is not parsed again, unless it changed."""
    kept = tmp_path / "kept"
    names = ("a", "b", "c")
    for name in names:
        zarr.create_array(archive.data / name, data=GRID)
    (archive.data / "c" / "zarr.json").rename(archive.data / "hidden")
    archive.settle()
    sources = [(archive.data / name, f"/{name}") for name in names]
    how = Parsing(jobs=1, kept=kept)
    with pytest.raises(InvalidInputError, match="no Zarr store"):
        await archive.ingest(*sources, parsing=how)
    assert parsed_places == ["a", "b", "c"]
    assert len(os.listdir(kept)) == 2
    (archive.data / "hidden").rename(archive.data / "c" / "zarr.json")
    os.utime(archive.data / "b" / "c" / "0" / "0", (1_500_000_000, 1_500_000_000))
    archive_again = Parsing(jobs=1, kept=kept, resume=True)
    await archive.ingest(*sources, parsing=archive_again)
    assert parsed_places == ["a", "b", "c", "b", "c"]
    assert not kept.exists()
    assert set(arrays_of(archive.store())) == set(names)


async def test_what_can_not_be_kept_is_ingested_all_the_same(archive, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    zarr.create_array(archive.data / "a", data=GRID)
    archive.settle()
    how = Parsing(kept=tmp_path / "file" / "kept", resume=True)
    await archive.ingest((archive.data / "a", "/a"), parsing=how)
    assert np.array_equal(arrays_of(archive.store())["a"], GRID)


async def test_a_run_that_does_not_resume_begins_anew(archive, tmp_path, parsed_places):
    kept = tmp_path / "kept"
    kept.mkdir()
    zarr.create_array(archive.data / "a", data=GRID)
    archive.settle()
    data = parse_source(source_of(str(archive.data / "a"))).to_bytes()
    (kept / "x.npz").write_bytes(data)
    await archive.ingest(archive.data / "a", parsing=Parsing(kept=kept))
    assert parsed_places == ["a"]
    assert not kept.exists()
