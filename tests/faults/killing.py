"""A daemon that is killed in the middle of its work, and what must be there afterwards.

What a writer does is a list of operations. Each has a model: what the mount and the repository
hold after it. Of the one that the death interrupted, either state may be found.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio

from tests.compat.documents import GROUP, array_document
from tests.mount.mounting import END_S, Mounted, mounting
from tests.repo.driving import official, open_session
from tests.repo.editing import official_keys
from zfuse.errors import NotMountedError
from zfuse.repo.create import create_repository
from zfuse.storage.local import LocalStorage

LINE = array_document((40,), (1,))
_TRACKED = re.compile(r"(.*/)?(zarr\.json|c/\d+)")


@dataclass(frozen=True)
class State:
    """Files by path, their bytes by number (names may share one), and what is committed.

    ``messages`` are those of all commits, newest first, ``tip`` is what the last one holds.
    """

    names: Mapping[str, int]
    contents: Mapping[int, bytes]
    tip: Mapping[str, bytes]
    messages: tuple[str, ...]

    @property
    def files(self):
        return {path: self.contents[number] for path, number in self.names.items()}

    @property
    def tracked(self):
        return {path: data for path, data in self.files.items() if _TRACKED.fullmatch(path)}

    def with_file(self, path, data):
        number = self.names.get(path, len(self.contents))
        return replace(
            self, names={**self.names, path: number}, contents={**self.contents, number: data}
        )

    def without(self, *paths):
        return replace(self, names={p: n for p, n in self.names.items() if p not in paths})

    def sharing(self, path):
        """Return all names of the file that has the name *path*."""
        number = self.names.get(path)
        return {path} | {p for p, n in self.names.items() if n == number and n is not None}

    def renamed(self, old, new):
        def name(path):
            return new + path[len(old) :] if path == old or path.startswith(old + "/") else path

        names = {path: n for path, n in self.names.items() if path != new}
        return replace(self, names={name(path): n for path, n in names.items()})

    def committed(self, message, *, amends=False):
        messages = self.messages[1:] if amends else self.messages
        return replace(self, tip=self.tracked, messages=(message, *messages))


@dataclass(frozen=True)
class Operation:
    """What to do to a mount, what that makes of a state, and whose bytes vary meanwhile."""

    act: Callable[[Mounted], None]
    model: Callable[[State], State]
    path: str | None = None


def place_of(mounted, path):
    return mounted.path / "branch" / "main" / path


def make(path):
    return Operation(lambda m: place_of(m, path).mkdir(), lambda state: state)


def store(path, data, *, fsync=False, truncate=True):
    """Write a file from its beginning, in two pieces."""

    def act(mounted):
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if truncate else 0)
        descriptor = os.open(place_of(mounted, path), flags, 0o644)
        try:
            for piece in (data[: len(data) // 2], data[len(data) // 2 :]):
                assert os.write(descriptor, piece) == len(piece)
            if fsync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def model(state):
        rest = b"" if truncate else state.files[path][len(data) :]
        return state.with_file(path, data + rest)

    return Operation(act, model, path)


def replaced(path, data):
    """Write a file as careful writers do: under another name first."""
    return [store(f"{path}.partial", data), rename(f"{path}.partial", path)]


def linked(path, data):
    """Write a file as tensorstore does: under another name, then linked into place."""
    other = f"{path}.__lock"
    return [store(other, data), link(other, path), unlink(other)]


def rename(old, new):
    return Operation(
        lambda m: place_of(m, old).rename(place_of(m, new)), lambda state: state.renamed(old, new)
    )


def link(path, new):
    def model(state):
        return replace(state, names={**state.names, new: state.names[path]})

    return Operation(lambda m: os.link(place_of(m, path), place_of(m, new)), model)


def unlink(path):
    return Operation(lambda m: place_of(m, path).unlink(), lambda state: state.without(path))


def truncate(path, size):
    return Operation(
        lambda m: os.truncate(place_of(m, path), size),
        lambda state: state.with_file(path, state.files[path][:size]),
        path,
    )


def sync(message, *, amends=False):
    def act(mounted):
        told = mounted.call("sync", branch="main", message=message, amend=amends)
        assert told["snapshot"] is not None

    return Operation(act, lambda state: state.committed(message, amends=amends))


def chunk(seed, size=3000):
    return bytes((seed * 7 + n) % 251 for n in range(size))


def workload():
    """Return what the writer does: a bit of everything that a session can hold."""
    return [
        make("g"),
        *replaced("g/zarr.json", GROUP),
        *(make("g/a"), store("g/a/zarr.json", LINE), make("g/a/c")),
        store("g/a/c/0", chunk(1)),
        *replaced("g/a/c/1", chunk(2)),
        store("g/a/c/2", chunk(3, 90), fsync=True),
        *(make("g/b"), store("g/b/zarr.json", LINE), make("g/b/c")),
        *linked("g/b/c/0", chunk(4)),
        store("g/b/c/1", chunk(12, 60)),
        store("g/a/c/0", chunk(5, 2500)),
        store("old/c/1", chunk(6, 700), truncate=False),
        *replaced("old/c/0", chunk(7)),
        unlink("old/c/2"),
        store("notes.txt", b"not Zarr" * 9, fsync=True),
        sync("first"),
        rename("g", "h"),
        store("h/a/c/3", chunk(8)),
        store("h/a/c/0", chunk(9, 100), truncate=False),
        link("h/a/c/3", "h/a/c/4"),
        unlink("h/b/c/0"),
        rename("old", "older"),
        sync("second"),
        store("older/c/0", chunk(10)),
        truncate("notes.txt", 20),
        *replaced("h/a/zarr.json", array_document((40,), (1,), attributes={"v": 2})),
        sync("second again", amends=True),
        store("h/b/c/2", chunk(11)),
        store("last.txt", b"still here"),
    ]


def make_repository(directory):
    """Make the repository that the work begins with, and return its state."""
    files = {"zarr.json": GROUP, "old/zarr.json": LINE}
    files |= {f"old/c/{n}": chunk(20 + n, 1000) for n in range(4)}

    async def fill():
        await create_repository(LocalStorage(directory))
        session = await open_session(directory)
        await session.set_metadata("/", GROUP)
        await session.set_metadata("/old", LINE)
        for n in range(4):
            await session.set_chunk("/old", (n,), files[f"old/c/{n}"])
        await session.commit("base")

    trio.run(fill)
    state = State({}, {}, files, ("base", "Repository initialized"))
    for path, data in files.items():
        state = state.with_file(path, data)
    return state


@dataclass
class Work:
    """A repository to work on in a directory, and how far the work came.

    ``state`` is what holds in any case, ``after`` what may hold too, and ``loose`` are the
    names of files that were being written.
    """

    directory: Path
    state: State
    after: State = field(init=False)
    loose: set[str] = field(default_factory=set)

    def __post_init__(self):
        self.after = self.state

    @property
    def repository(self):
        return self.directory / "r"

    def mounting(self, log=None, die=None):
        """Mount the repository for writing, in a daemon that dies at a step if it is told."""
        start = ["-m", "zfuse"]
        if log is not None:
            start = ["-m", "tests.faults.stepping", json.dumps({"log": str(log), "die": die})]
        arguments = ("--rw", "--journal", str(self.directory / "state"))
        return mounting(self.repository, self.directory / "m", *arguments, start=start)

    def do(self, operations, mounted):
        """Work until all is done, or the daemon dies; tell whether it did."""
        for operation in operations:
            self.after = operation.model(self.state)
            try:
                operation.act(mounted)
            except (OSError, NotMountedError) as error:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    mounted.daemon.wait(END_S)
                if mounted.daemon.returncode != -signal.SIGKILL:
                    raise AssertionError("the daemon did not die") from error
                if operation.path is not None:
                    self.loose = self.state.sharing(operation.path)
                return True
            self.state = self.after
        mounted.daemon.send_signal(signal.SIGTERM)
        return mounted.daemon.wait(END_S) == -signal.SIGKILL

    def check_repository(self):
        """Check with the official library that the repository is at the old or new snapshot."""
        repo = official(self.repository)
        found = official_keys(repo, repo.lookup_branch("main"))
        messages = tuple(info.message for info in repo.ancestry(branch="main"))
        states = (self.state, self.after)
        assert (messages, found) in [(s.messages, s.tip) for s in states], messages

    def check_mount(self, mounted):
        """Check that all that was closed is there, and nothing else but what was under way."""
        found = files_below(mounted.path / "branch" / "main")
        told = {path: data for path, data in found.items() if path not in self.loose}
        for state in (self.after, self.state):
            if told == state.without(*self.loose).files:
                break
        else:
            raise AssertionError(_difference(told, self.state.without(*self.loose).files))
        for path in self.loose & found.keys():
            place_of(mounted, path).unlink()
        self.state = state.without(*self.loose)

    def check_sync(self, mounted):
        """Commit what was found, and check that the official library reads it."""
        mounted.call("sync", branch="main", message="recovered")
        repo = official(self.repository)
        assert official_keys(repo, repo.lookup_branch("main")) == self.state.tracked
        assert files_below(mounted.path / "branch" / "main") == self.state.files


def _difference(found, expected):
    missing, surplus = expected.keys() - found.keys(), found.keys() - expected.keys()
    other = {path for path in found.keys() & expected.keys() if found[path] != expected[path]}
    return f"missing {missing}, surplus {surplus}, other bytes {other}"


def files_below(directory):
    """Return the bytes of all files below *directory*, by path."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def begun(template, state, directory):
    """Return work on a copy of the repository *template*."""
    directory.mkdir(exist_ok=True)
    shutil.copytree(template, directory / "r")
    return Work(directory, state)


def all_steps(template, state, directory):
    """Return the lines of all steps that the work takes, in the order of one run."""
    work = begun(template, state, directory)
    with work.mounting(directory / "steps") as mounted:
        assert not work.do(workload(), mounted)
    return (directory / "steps").read_text().splitlines()


def distinct(lines):
    """Leave out the lines after statements that only the end of a transaction makes true."""
    outside = re.compile(r"(blob|journal|store|schema|BEGIN|COMMIT)\b.* after")
    return [line for line in lines if not line.endswith("after") or outside.match(line)]


def recovery_steps(template, state, directory, die):
    """Return the lines of all steps that a daemon takes to recover after a death at a step."""
    work = begun(template, state, directory)
    with work.mounting(directory / "steps", die) as mounted:
        assert work.do(workload(), mounted)
    with work.mounting(directory / "recovery"):
        return (directory / "recovery").read_text().splitlines()


def kill_and_recover(template, state, directory, die, die_again=None):
    """Let the daemon die at a step, and check all that must hold; tell whether it came to it.

    With *die_again* the one that recovers dies too, at that step. Runs differ in what goes on in
    the background, so that not each comes to all the steps of another.
    """
    work = begun(template, state, directory)
    with work.mounting(directory / "steps", die) as mounted:
        killed = work.do(workload(), mounted)
    if die_again is not None:
        killed &= _dies(work, die_again)
    work.check_repository()
    with work.mounting() as mounted:
        work.check_mount(mounted)
        work.check_sync(mounted)
    shutil.rmtree(directory)
    return killed


def _dies(work, step):
    """Tell whether a daemon that recovers dies at *step*, be it when others see the mount."""
    try:
        with work.mounting(work.directory / "recovery", step) as mounted:
            mounted.daemon.wait(END_S)
    except subprocess.TimeoutExpired:
        return False
    except AssertionError as error:
        if "mount ended with -9" not in str(error):
            raise
    return True
