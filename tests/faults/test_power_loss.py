"""What fsync in a mount promises: all that the file needs is on the disk, in the right order."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.faults.killing import Work, chunk, make_repository, place_of

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.compat,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not there"),
]

CALLS = "fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat"
_NAMES = re.compile(r'<(/[^>]*)>|"([^"]*)"')


@pytest.fixture
def work(tmp_path):
    return Work(tmp_path, make_repository(tmp_path / "r"))


class Trace:
    """The system calls that a daemon made: pairs of the call and the last path it names."""

    def __init__(self, directory):
        self.log = directory / "strace"

    @contextlib.contextmanager
    def of(self, pid):
        with contextlib.ExitStack() as stack:
            while not is_traced(pid):  # a thread that began meanwhile may have escaped
                stack.close()
                stack.enter_context(self._attached(pid))
            yield

    @contextlib.contextmanager
    def _attached(self, pid):
        command = ["strace", "-f", "-y", "-e", f"trace={CALLS}", "-o", self.log, "-p", str(pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            assert "attached" in strace.stderr.readline()
            try:
                yield
            finally:
                strace.send_signal(signal.SIGINT)
                strace.communicate(timeout=60)

    @property
    def calls(self):
        found = []
        for line in self.log.read_text().splitlines():
            call = re.match(r"\d+ +(\w+)\(", line)
            if call is not None:
                first, second = _NAMES.findall(line)[-1]
                found.append((call[1], first or second))
        return found

    def synced(self):
        """Return the paths that were synced, in order."""
        return [path for call, path in self.calls if call in {"fsync", "fdatasync"}]


def is_traced(pid):
    """Tell whether all threads of a process are traced."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            if "TracerPid:\t0\n" in task.joinpath("status").read_text():
                return False
    return True


def journal_of(work):
    (path,) = (work.directory / "state").glob("sessions/*/*/session.sqlite")
    return path.parent


def before(paths, first, second):
    """Tell whether *first* was synced before the last time that *second* was."""
    return first in paths and paths.index(first) < len(paths) - 1 - paths[::-1].index(second)


def test_fsync_of_a_file(work):
    trace = Trace(work.directory)
    with work.mounting() as mounted:
        descriptor = os.open(place_of(mounted, "old/c/9"), os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, chunk(1))
        with trace.of(mounted.daemon.pid):
            os.fsync(descriptor)
        os.close(descriptor)
        journal = journal_of(work)
        (blob,) = journal.glob("blobs/*/*")
        synced = trace.synced()
        for path in (blob, blob.parent, blob.parent.parent):
            assert before(synced, str(path), str(journal / "session.sqlite-wal")), synced
        assert str(journal) in synced


def test_the_place_of_a_session_is_synced_too(work):
    trace = Trace(work.directory)
    with work.mounting() as mounted:
        with trace.of(mounted.daemon.pid):
            place_of(mounted, "new").mkdir()
            descriptor = os.open(place_of(mounted, "new"), os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        synced = trace.synced()
        journal = journal_of(work)
        assert str(journal / "session.sqlite-wal") in synced
        places = [journal, *journal.parents]
        for place in places[: places.index(work.directory / "state") + 1]:
            assert str(place) in synced, place


def test_a_sync_notes_what_it_does_before_it_does_it(work):
    trace = Trace(work.directory)
    with work.mounting() as mounted:
        place_of(mounted, "old/c/9").write_bytes(chunk(1))
        with trace.of(mounted.daemon.pid):
            mounted.call("sync", branch="main", message="mine")
        calls = trace.calls
        wal = str(journal_of(work) / "session.sqlite-wal")
    published = calls.index(next(c for c in calls if "rename" in c[0] and c[1].endswith("/r/repo")))
    synced = [n for n, call in enumerate(calls) if call == ("fsync", wal)]
    assert min(synced) < published  # the commit was noted
    removed = [n for n, (call, path) in enumerate(calls) if "unlink" in call and "/blobs/" in path]
    assert removed
    assert any(published < n < min(removed) for n in synced)  # and that it landed
