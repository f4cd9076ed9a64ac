import os
import socket
from pathlib import Path

import pytest

from zfuse.daemon.leftovers import clear_leftovers


@pytest.fixture
def gone():
    """The id of a process that is not there, and that no other one gets meanwhile."""
    return int(Path("/proc/sys/kernel/pid_max").read_text())


def bound(path):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    return listener


def test_what_a_killed_daemon_left_is_removed(tmp_path, gone):
    bound(tmp_path / f"{gone}.sock").close()
    (tmp_path / "0-57.sock").symlink_to(f"{gone}.sock")
    (tmp_path / "0-58.sock").symlink_to("nothing.sock")
    clear_leftovers(tmp_path)
    assert os.listdir(tmp_path) == []


def test_what_is_in_use_or_somebody_elses_stays(tmp_path, gone):
    with bound(tmp_path / f"{os.getpid()}.sock"), bound(tmp_path / f"{gone}.sock") as elsewhere:
        elsewhere.listen()
        (tmp_path / "0-57.sock").symlink_to(f"{os.getpid()}.sock")
        (tmp_path / "notes").touch()
        before = sorted(os.listdir(tmp_path))
        clear_leftovers(tmp_path)
        assert sorted(os.listdir(tmp_path)) == before
    clear_leftovers(tmp_path / "nowhere")
