"""Mounts that end leave nothing behind, however they end and however often."""

import contextlib
import errno
import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.compat.place import local_place
from tests.compat.repositories import build
from tests.mount.mounting import END_S, mounting
from tests.mount.settling import wait_for
from zfuse.daemon.control import runtime_directory
from zfuse.daemon.mountinfo import zfuse_mounts

pytestmark = [pytest.mark.compat, pytest.mark.fuse]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return build("kinds", 2, local_place(tmp_path_factory.mktemp("ends")))


def processes_of(directory):
    """Return the processes that were told of something below *directory*."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended
        if str(directory).encode() in command:
            found.append(int(process.name))
    return found


def mounts_below(directory):
    return [m.path for m in zfuse_mounts() if m.path.is_relative_to(directory)]


def held():
    """Return how many descriptors and threads this process has."""
    gc.collect()  # what other tests left may go at any time
    return len(os.listdir("/proc/self/fd")), threading.active_count()


def sockets_of(pids):
    """Return what is left in the runtime directory of the daemons *pids*."""
    left = []
    for path in runtime_directory(os.geteuid()).iterdir():
        try:
            target = os.readlink(path) if path.is_symlink() else path.name
        except FileNotFoundError:
            continue  # of another mount, which ended just now
        if target in {f"{pid}.sock" for pid in pids}:
            left.append(path)
    return left


def cycle(made, directory):
    """Mount, read, unmount; return the pid."""
    with mounting(made.url, directory, "--allow-virtual", made.place.prefix) as mount:
        array = mount.path / "branch/main/a"
        assert len((array / "c/4/1").read_bytes()) == len((array / "c/9/0").read_bytes()) == 600
        assert mount.call("refresh")["moved"] == []
    assert mount.daemon.returncode == 0
    return mount.daemon.pid


def leave_nothing(made, tmp_path, cycles):
    cycle(made, tmp_path / "mount")
    descriptors, threads = held()
    pids = [cycle(made, tmp_path / "mount") for _ in range(cycles)]
    assert mounts_below(tmp_path) == []
    wait_for(lambda: processes_of(tmp_path) == [])
    # Fewer than one a cycle: what is left of other tests comes and goes.
    wait_for(lambda: held()[0] < descriptors + cycles and held()[1] < threads + cycles)
    assert sockets_of(pids) == []
    assert os.listdir(tmp_path / "mount") == []


def test_20_cycles_leave_nothing(made, tmp_path):
    leave_nothing(made, tmp_path, 20)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_200_cycles_leave_nothing(made, tmp_path):
    leave_nothing(made, tmp_path, 200)


def of_daemon(mount):
    """Return how many descriptors and threads the daemon has."""
    process = Path("/proc", str(mount.daemon.pid))
    return len(os.listdir(process / "fd")), len(os.listdir(process / "task"))


def test_a_mount_at_work_gathers_nothing(made, mounted):
    mount = mounted(made.url, "--allow-virtual", made.place.prefix)

    def work():
        for path in mount.path.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                    file.read()
        os.path.exists(mount.path / "time/2020-01-01")
        mount.call("refresh")
        mount.call("status")

    def holds():
        return (*of_daemon(mount), mount.metric("known_inodes"))

    for _ in range(5):
        work()
    before, rounds = holds(), 50
    for _ in range(rounds):
        work()
    wait_for(lambda: mount.metric("open_handles") == 0)
    # Fewer than one a round: how many threads are idle just now, and what the kernel has
    # forgotten, is never quite the same.
    wait_for(lambda: all(now < then + rounds for now, then in zip(holds(), before, strict=True)))


def close(file):
    """Close a file of a mount that is gone, which tells of it once more."""
    with contextlib.suppress(OSError):
        file.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_signal_unmounts(number, busy, made, tmp_path):
    """Also while files are open: who has them gets an error, and the daemon does not wait."""
    with mounting(made.url, tmp_path / "mount", "--branch", "main") as mount:
        file = (mount.path / "a/c/4/1").open("rb", buffering=0) if busy else None
        mount.daemon.send_signal(number)
        assert mount.daemon.wait(END_S) == 0
        assert mount.path not in [m.path for m in zfuse_mounts()]
        assert os.listdir(mount.path) == []
        assert sockets_of([mount.daemon.pid]) == []
        assert "is unmounted" in mount.log.read_text()
        if file is not None:
            with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
                os.listxattr(file.fileno())
            close(file)


def zfuse(*arguments):
    command = [sys.executable, "-m", "zfuse", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=60, check=False, text=True)


def test_what_a_killed_daemon_left_is_taken_away(made, tmp_path):
    with mounting(made.url, tmp_path / "mount", "--branch", "main") as mount:
        opened = (mount.path / "a/zarr.json").open("rb", buffering=0)
        mount.daemon.kill()
        mount.daemon.wait(END_S)
        with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
            os.listdir(mount.path)
        close(opened)
        done = zfuse("status", mount.path)
        assert (done.returncode, len(done.stderr.splitlines())) == (6, 1)
        done = zfuse("umount", mount.path)
        assert (done.returncode, done.stderr) == (0, "")
        assert sockets_of([mount.daemon.pid]) == []
        assert os.listdir(mount.path) == []
    cycle(made, tmp_path / "mount")


def test_readers_of_a_daemon_that_is_killed_get_errors(made, tmp_path):
    """And none of them hangs."""
    code = "import sys\nwhile open(sys.argv[1], 'rb').read(): print(flush=True)"
    with mounting(made.url, tmp_path / "mount", "--branch", "main") as mount:
        command = [sys.executable, "-c", code, mount.path / "a/c/4/1"]
        said = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        readers = [subprocess.Popen(command, **said) for _ in range(4)]
        for reader in readers:
            assert reader.stdout.readline() == b"\n"
        mount.daemon.kill()
        for reader in readers:
            reader.communicate(timeout=END_S)
        assert [reader.returncode for reader in readers] == [1] * 4
        mount.daemon.wait(END_S)
        assert zfuse("umount", mount.path).returncode == 0
