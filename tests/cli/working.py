"""Branches on a real mount that tests write to, one for each test."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import icechunk
import pytest

from tests.cli.outcome import Outcome
from tests.compat.documents import GROUP, array_document, get_all, put_all
from tests.compat.place import changing, create, local_place
from tests.mount.mounting import Mounted, mounting
from zfuse.cli.main import run

LINE = array_document((40,), (1,))
SQUARE = array_document((20, 20), (1, 1))
BIG = 700  # bytes of a chunk that is an object of its own


def base_files() -> dict[str, bytes]:
    """Return what every branch begins with."""
    files = {"zarr.json": GROUP, "g/zarr.json": GROUP, "line/zarr.json": LINE}
    files |= {"g/square/zarr.json": SQUARE}
    files |= {f"line/c/{n}": b"%d" % n * BIG for n in range(4)}
    return files | {f"g/square/c/{n}/{m}": b"%d %d" % (n, m) for n in range(2) for m in range(2)}


@dataclass
class Work:
    """A repository that is mounted to be written to, with all its refs."""

    repo: Path
    state: Path
    mounted: Mounted | None
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def official(self) -> icechunk.Repository:
        """Open the repository with the official library."""
        return icechunk.Repository.open(icechunk.local_filesystem_storage(str(self.repo)))

    def objects(self, folder: str) -> set[str]:
        """Return the objects of one kind that are stored."""
        return set(os.listdir(self.repo / folder))


@dataclass
class Branch:
    """A branch that is mounted at ``path``."""

    work: Work
    name: str
    path: Path

    def write(self, name: str, data: bytes) -> Path:
        """Write a file; directories are made on the way."""
        place = self.path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        return place

    def files(self) -> dict[str, bytes]:
        """Return all files that the mount shows."""
        return {
            str(path.relative_to(self.path)): path.read_bytes()
            for path in self.path.rglob("*")
            if path.is_file()
        }

    def committed(self) -> dict[str, bytes]:
        """Return what the official library has at the tip."""
        return get_all(self.work.official().readonly_session(branch=self.name).store)

    def history(self) -> list[icechunk.SnapshotInfo]:
        """Return the commits of the branch, newest first."""
        return list(self.work.official().ancestry(branch=self.name))

    @property
    def tip(self) -> str:
        """The newest snapshot."""
        return self.work.official().lookup_branch(self.name)

    def others(self, message: str, files: dict[str, bytes]) -> str:
        """Commit *files* with the official library; return the snapshot."""
        with changing(self.work.official(), message, branch=self.name) as store:
            put_all(store, files)
        return self.tip


def make_repository(directory: Path, spec: int = 2) -> Path:
    """Make a repository whose branch main and tag v1 have ``base_files``."""
    repo = create(local_place(directory), spec)
    with changing(repo, "base") as store:
        put_all(store, base_files())
    repo.create_tag("v1", repo.lookup_branch("main"))
    return directory / "repository"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A mount of all refs, shared by the tests of a module."""
    directory = tmp_path_factory.mktemp("work")
    repo = make_repository(directory)
    arguments = ("--rw", "--journal", str(directory / "state"))
    with mounting(repo, directory / "mnt", *arguments) as mounted:
        yield Work(repo, directory / "state", mounted)


@pytest.fixture
def branch(work):
    """A branch of the shared mount that only this test knows."""
    name = f"b{next(work.numbers)}"
    official = work.official()
    official.create_branch(name, official.lookup_tag("v1"))
    work.mounted.call("refresh")
    yield Branch(work, name, work.mounted.path / "branch" / name)
    work.mounted.call("discard", branch=name)


@pytest.fixture
def single(tmp_path):
    """A function that mounts the branch main of a repository of its own, alone."""
    repo = make_repository(tmp_path)
    work = Work(repo, tmp_path / "state", None)

    @contextlib.contextmanager
    def mount(*arguments):
        given = ("--branch", "main", "--rw", "--journal", str(work.state), *arguments)
        with mounting(repo, tmp_path / "mnt", *given) as work.mounted:
            yield Branch(work, "main", work.mounted.path)

    return mount


@pytest.fixture
def command(capfd, monkeypatch, home):
    """Runs the command line in this process, for speed: ``command("sync", path, "-m", "x")``."""
    monkeypatch.setenv("HOME", home["HOME"])
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)

    def call(*arguments) -> Outcome:
        capfd.readouterr()
        before = os.getcwd()
        try:
            status = run([str(argument) for argument in arguments])
        finally:
            os.chdir(before)
        said = capfd.readouterr()
        return Outcome(status, said.out, said.err)

    return call


__all__ = ["BIG", "GROUP", "LINE", "SQUARE", "Branch", "Work", "make_repository"]
