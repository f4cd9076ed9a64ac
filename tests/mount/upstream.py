"""Test suites of zarr-python and xarray, run on a directory of ours by a pytest of their own.

Their text is not here: the classes come from the installed wheels, and what only the source
distribution has is downloaded when it is asked for. This module is also the plugin of that
pytest: it stands for the ``conftest.py`` that the wheels lack.
"""

import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

CACHE = Path(sys.prefix) / "cache"
"""Where source distributions are kept."""

DOWNLOAD_S = 240
INI = """\
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
strict = true
"""
MARKERS = ("flaky", "network", "mypy", "gpu", "s3", "slow_hypothesis", "skip_if_param")
MARKERS_OF_DASK_ARRAY = ("skip_with_dask_array", "xfail_with_dask_array")
FORMAT_PARAMETERS = ("zarr_format", "default_zarr_format")
STORE_PARAMETERS = ("store", "store2", "sync_store")


@dataclass(frozen=True)
class Outcome:
    """How many tests passed, what the failed ones said, how many did not run for which reason."""

    passed: int
    failed: dict[str, str]
    skipped: Counter[str]

    @property
    def counts(self) -> tuple[int, int, int]:
        """Return how many passed, failed, and were skipped."""
        return self.passed, len(self.failed), self.skipped.total()


def run_suite(
    directory: Path, work: Path, *arguments: str, limit_s: float, all_there: bool = False
) -> Outcome:
    """Run pytest with *arguments*, its ``tmp_path`` below *directory*, which exists.

    With *all_there* every temporary file is made there. Otherwise those are in *work*, as what
    pytest itself needs is: a forkserver wants a socket, which no mount has.
    """
    ini, report = work / "upstream.ini", work / "report.xml"
    ini.write_text(INI)
    temporary = directory / "tmp" if all_there else work / "tmp"
    temporary.mkdir()
    # "tests" is the name of zarr's package of tests too: the plugin goes by a name of its own
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(ini), "--rootdir", str(work)]
    plugins = [Path(__file__).stem, "no:trio", "no:cacheprovider", "no:timeout"]
    done = subprocess.run(
        [
            *command,
            *(word for plugin in plugins for word in ("-p", plugin)),
            *("--basetemp", str(directory / "base")),
            *("--junitxml", str(report), "--tb=short", *arguments),
        ],
        cwd=work,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parent),
            "TMPDIR": str(temporary),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )
    assert report.exists(), done.stdout[-6000:] + done.stderr[-2000:]
    return _outcome(report)


def _outcome(report: Path) -> Outcome:
    passed, failed, skipped = 0, {}, Counter[str]()
    for case in ET.parse(report).iter("testcase"):
        ends = {child.tag: child for child in case if child.tag in {"failure", "error", "skipped"}}
        if "skipped" in ends:
            skipped[ends["skipped"].get("message", "")] += 1
        elif ends:
            said = [end.text or "" for end in ends.values()]
            failed[f"{case.get('classname')}::{case.get('name')}"] = "\n".join(said)[-3000:]
        else:
            passed += 1
    return Outcome(passed, failed, skipped)


def source_of(name: str, version: str) -> Path:
    """Return an unpacked source distribution; skip the test if there is none to be had."""
    target = CACHE / f"{name}-{version}"
    if not target.exists():
        _download(name, version)
        with tarfile.open(CACHE / f"{name}-{version}.tar.gz") as archive:
            archive.extractall(CACHE, filter="data")
    return target


def _download(name: str, version: str) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    try:
        subprocess.run(
            [*pip, "--dest", str(CACHE), f"{name}=={version}"], check=True, timeout=DOWNLOAD_S
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"pip could not download the source of {name} {version}: {error}")


# --- the plugin of the other pytest ------------------------------------------------------------


def pytest_addoption(parser):
    """Offer the options that the suites ask for, and a selection of what concerns a mount."""
    for flag in ("--run-flaky", "--run-network-tests"):
        parser.addoption(flag, action="store_true")
    parser.addoption("--only-format", type=int, help="leave out tests of other Zarr formats")
    parser.addoption("--own-tests", default="", help="leave out what these classes inherit")
    parser.addoption("--on-disk", action="store_true", help="only tests that write to tmp_path")


def pytest_configure(config):
    """Know the marks that the suites use."""
    for marker in (*MARKERS, *MARKERS_OF_DASK_ARRAY):
        config.addinivalue_line("markers", f"{marker}: of the suites")


def pytest_collection_modifyitems(config, items):
    """Take out what is not asked for, and skip what cannot be."""
    unwanted = [item for item in items if not _wanted(item, config)]
    config.hook.pytest_deselected(items=unwanted)
    items[:] = [item for item in items if _wanted(item, config)]
    for item in items:
        for mark in item.iter_markers("skip_if_param"):
            _skip_if(item, **mark.kwargs)
        if "flaky" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="flaky, say its authors"))
        if "network" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs the network"))


def _wanted(item, config):
    only = config.getoption("--only-format")
    formats = {_parameters(item).get(name, only) for name in FORMAT_PARAMETERS}
    cls = getattr(item, "cls", None)
    inherits = cls is not None and item.originalname not in vars(cls)
    return (
        (only is None or formats == {only})
        and not (inherits and cls.__name__ in config.getoption("--own-tests").split(","))
        and (not config.getoption("--on-disk") or _is_on_disk(item))
    )


def _parameters(item):
    return item.callspec.params if hasattr(item, "callspec") else {}


def _is_on_disk(item):
    stores = [kind for name, kind in _parameters(item).items() if name in STORE_PARAMETERS]
    return "tmp_path" in item.fixturenames and (not stores or "local" in stores)


def _skip_if(item, *, reason, condition=True, **wanted):
    parameters = _parameters(item)
    if condition and all(parameters[name] == value for name, value in wanted.items()):
        item.add_marker(pytest.mark.skip(reason=reason))
