"""The test suites of zarr-python and xarray pass with their directory on a writable branch."""

from pathlib import Path

import icechunk
import pytest
import zarr
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from zarr.storage import LocalStore
from zarr.testing.stateful import ZarrHierarchyStateMachine

from tests.compat.documents import get_all
from tests.compat.place import local_place
from tests.mount.hierarchy_machine import CommittedHierarchy
from tests.mount.mounting import Mounted
from tests.mount.upstream import run_suite, source_of
from tests.mount.writing_tools import keys_of

pytestmark = [pytest.mark.compat, pytest.mark.fuse, pytest.mark.timeout(900)]

LIMIT_S = 700
LONG = pytest.mark.long
UNSETTLED = pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")

ZARR_CLASSES = Path(__file__).with_name("upstream_zarr.py")
ZARR_SUITES = {
    "arrays": (549, ["test_array.py"]),
    "groups": (243, ["test_group.py", "test_api.py", "test_api/test_asynchronous.py"]),
    "codecs": (
        360,
        [
            *("test_codec_pipeline.py", "test_codecs", "test_config.py", "test_fused_pipeline.py"),
            *("test_indexing.py", "test_metadata", "test_unified_chunk_grid.py"),
            *("test_store/test_core.py", "test_store/test_get_ranges.py"),
        ],
    ),
    "stores": (
        300,
        [f"test_store/test_{name}.py" for name in ("local", "logging", "wrapper")],
    ),
}
"""How many tests of which modules of zarr-python use ``tmp_path``; other modules want packages
that we have no other use for, and its machine of hierarchies runs here in another way."""

XARRAY = ("--pyargs", "xarray.tests.test_backends", "xarray.tests.test_backends_datatree")
XARRAY_CLASSES = (
    *("TestZarrDirectoryStore", "TestZarrWriteEmpty", "TestZarrRegionAuto"),
    *("TestInstrumentedZarrStore", "TestZarrDatatreeIO"),
)
XARRAY_SKIPS = {
    "requires cftime": "an optional package",
    "requires netcdf": "an optional package",
    "float32 will be treated as float64 in zarr": "xarray and zarr",
    "This works on pre ZDtype Zarr-Python, but fails after.": "xarray and zarr",
    "Bad _Unsigned attribute.": "xarray and zarr",
    "uint8 data can't be written to non-NetCDF4 data": "xarray and zarr",
    "No unlimited_dims handled in zarr.": "xarray and zarr",
    "Broken by Zarr 3.0.7": "xarray and zarr",
    "Unsupported with zarr_format=3: This test is unnecessary; no hidden Zarr keys": "format 3",
    "upstream zarr read-only changes have broken this test": "xarray and zarr",
}
"""Why xarray itself skips a test or expects it to fail, and whose matter that is."""

ZARR_SKIPS = {
    "could not import 'upath': No module named 'upath'": "an optional package",
    "CuPy not installed or no GPU available": "an optional package",
}


class Branch:
    """The branch ``main`` of a mounted repository."""

    def __init__(self, storage: icechunk.Storage, mounted: Mounted) -> None:
        self._storage = storage
        self._mounted = mounted
        self.root = mounted.path / "branch" / "main"

    def sync(self) -> None:
        """Commit it."""
        self._mounted.call("sync", branch="main", message="x")

    def copy(self, source: str, target: str) -> None:
        """Copy a node by reference."""
        paths = {"source": source.split("/"), "target": target.split("/")}
        self._mounted.call("copy", branch="main", **paths)

    def committed(self) -> dict[str, bytes]:
        """Return what the official library finds in it."""
        repository = icechunk.Repository.open(self._storage)
        return get_all(repository.readonly_session(branch="main").store)


@pytest.fixture
def branch(tmp_path, mounted) -> Branch:
    place = local_place(tmp_path)
    icechunk.Repository.create(place.storage)
    journal = str(tmp_path / "journal")
    return Branch(place.storage, mounted(place.url, "--rw", "--journal", journal))


@pytest.fixture
def work(tmp_path) -> Path:
    directory = tmp_path / "work"
    directory.mkdir()
    return directory


def test_stores_of_zarr(branch, work):
    outcome = run_suite(branch.root, work, "--noconftest", str(ZARR_CLASSES), limit_s=LIMIT_S)
    assert outcome.counts == (77, 0, 0), outcome


def limits(examples: int, steps: int) -> settings:
    return settings(
        settings.get_profile("zfuse"),
        max_examples=examples,
        stateful_step_count=steps,
        suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
    )


@UNSETTLED
@pytest.mark.parametrize(("examples", "steps"), [(25, 20), pytest.param(150, 50, marks=LONG)])
def test_hierarchies_of_zarr(examples, steps, branch):
    """zarr's machine that compares a store with one in memory; its root is that of the branch."""
    store = LocalStore(branch.root)
    with zarr.config.set({"array.rectilinear_chunks": True}):
        run_state_machine_as_test(
            lambda: ZarrHierarchyStateMachine(store), settings=limits(examples, steps)
        )


@UNSETTLED
@pytest.mark.parametrize(("examples", "steps"), [(8, 30), pytest.param(50, 50, marks=LONG)])
def test_hierarchies_of_zarr_between_commits_moves_and_copies(examples, steps, branch):
    def machine() -> CommittedHierarchy:
        return CommittedHierarchy(
            branch.root, sync=branch.sync, copy=branch.copy, committed=branch.committed
        )

    with zarr.config.set({"array.rectilinear_chunks": True}):
        run_state_machine_as_test(machine, settings=limits(examples, steps))


def test_backends_of_xarray(branch, work):
    """Of the classes that inherit others' tests only their own; Zarr format 3."""
    chosen = ("-k", " or ".join(XARRAY_CLASSES), "--only-format", "3")
    own = ("--own-tests", "TestZarrWriteEmpty")
    outcome = run_suite(branch.root, work, *XARRAY, *chosen, *own, limit_s=LIMIT_S, all_there=True)
    assert outcome.failed == {}, outcome
    assert set(outcome.skipped) <= set(XARRAY_SKIPS), outcome
    assert outcome.passed + outcome.skipped.total() == 241, outcome
    assert outcome.passed >= 220, outcome
    branch.sync()  # what the tests left behind
    left = {str(key): (branch.root / key).read_bytes() for key in keys_of(branch.root)}
    assert branch.committed().items() <= left.items()
    assert {key for key in left if key.endswith("zarr.json")} <= set(branch.committed())


@LONG
@pytest.mark.parametrize(
    ("cls", "count"),
    [
        ("TestZarrDirectoryStore", 366),
        ("TestZarrWriteEmpty", 406),
        ("TestZarrRegionAuto", 30),
        ("TestZarrDatatreeIO", 42),
    ],
)
def test_all_backends_of_xarray(cls, count, branch, work):
    """Zarr format 2 too: its files are none of Icechunk's, and stay in the session."""
    outcome = run_suite(branch.root, work, *XARRAY, "-k", cls, limit_s=LIMIT_S, all_there=True)
    assert outcome.failed == {}, outcome
    assert outcome.passed + outcome.skipped.total() == count, outcome
    unknown = [why for why in outcome.skipped if why not in XARRAY_SKIPS]
    assert all(why.startswith("Unsupported with zarr_format=") for why in unknown), outcome
    assert outcome.passed > 0.85 * count, outcome


@LONG
@pytest.mark.parametrize("suite", ZARR_SUITES)
def test_all_of_zarr_that_writes_to_disk(suite, branch, work):
    """From the source distribution, which must be had; Zarr format 3."""
    count, modules = ZARR_SUITES[suite]
    tests = source_of("zarr", "3.4.2") / "tests"
    chosen = ("--on-disk", "--only-format", "3", "--run-slow-hypothesis")
    paths = [str(tests / module) for module in modules]
    outcome = run_suite(branch.root, work, *paths, *chosen, limit_s=LIMIT_S)
    assert outcome.failed == {}, outcome
    assert set(outcome.skipped) <= set(ZARR_SKIPS), outcome
    assert outcome.passed + outcome.skipped.total() == count, outcome
