"""scripts/test runs what the plugin lists once more, so the list must be exact."""

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
TESTS = """
import pytest

@pytest.fixture
def broken():
    yield
    raise OSError("in teardown")

@pytest.mark.parametrize("name", ["one two", "x"])
def test_named(name):
    assert name == "x"

def test_fails_twice(broken):
    assert False

def test_passes():
    pass

@pytest.mark.xfail
def test_is_known_to_fail():
    assert False
"""


def run(tmp_path, *names):
    (tmp_path / "test_it.py").write_text(TESTS)
    plugin = ["-p", "tests.failed_list", "--failed-list", str(tmp_path / "failed")]
    alone = ["-c", "/dev/null", "--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *plugin, *alone, *(names or [str(tmp_path)])]
    env = {"PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=False)
    return done.returncode, (tmp_path / "failed").read_text().splitlines()


def test_each_test_that_failed_is_listed_once_and_can_be_run_by_that_name(tmp_path):
    status, failed = run(tmp_path)
    assert status == 1
    assert failed == ["test_it.py::test_named[one two]", "test_it.py::test_fails_twice"]
    assert run(tmp_path, failed[0]) == (1, [*failed, failed[0]])
