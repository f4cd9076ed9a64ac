"""The command line as a person has it: a process of its own, and a home of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.outcome import Outcome
from tests.mount.mounting import mounting

QUICKSTART = Path(__file__).parents[2] / "scripts" / "quickstart.py"


@pytest.fixture
def home(tmp_path):
    """Environment variables of a user whose home is empty."""
    place = tmp_path / "home"
    place.mkdir()
    inherited = {
        k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "ZFUSE_", "XDG_"))
    }
    return {**inherited, "HOME": str(place), "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture
def zfuse(home):
    """Runs the command line: ``zfuse("ls", repository, cwd=..., env={...})``."""

    def run(*arguments, cwd=None, env=None, stdout=subprocess.PIPE):
        done = subprocess.run(
            [sys.executable, "-m", "zfuse", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
            cwd=cwd,
            env={**home, **(env or {})},
        )
        return Outcome(done.returncode, done.stdout or "", done.stderr)

    return run


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A directory with ``repo`` (the quick start's repository) and ``data`` (its virtual file)."""
    place = tmp_path_factory.mktemp("quickstart")
    (place / "data").mkdir()
    subprocess.run(
        [sys.executable, QUICKSTART, "make", place / "repo", place / "data"],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=240,
    )
    return place


@pytest.fixture(scope="session")
def repository(place):
    return place / "repo"


@pytest.fixture(scope="session")
def mount(place, tmp_path_factory):
    """The directory where all of the repository is mounted."""
    directory = tmp_path_factory.mktemp("cli") / "mnt"
    with mounting(place / "repo", directory, "--allow-virtual", f"file://{place}/data/") as mounted:
        yield mounted.path
