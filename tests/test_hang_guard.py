import subprocess
import sys
from pathlib import Path

import pytest

from tests.hang_guard import mounts_below

ROOT = Path(__file__).parents[1]

HANGING = """
import contextlib, os, signal, subprocess, sys
from pathlib import Path
import pytest
from tests.mount.mounting import mounting

# Mounted before any test: the time of a test counts.
place = Path(__file__).parent / "t" / "here"
subprocess.run([sys.executable, "-m", "zfuse", "create", place / "repo"], check=True)
stack = contextlib.ExitStack()
mounted = stack.enter_context(mounting(place / "repo", place / "mnt"))

def test_hangs():
    os.kill(mounted.daemon.pid, signal.SIGSTOP)
    try:
        with pytest.raises(OSError, match="not connected|abort"):
            os.listdir(place / "mnt" / "snapshot")
    finally:
        os.kill(mounted.daemon.pid, signal.SIGCONT)

def test_goes_on():
    stack.close()
"""


def test_finds_the_zfuse_mounts_of_the_run_and_no_others(tmp_path):
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(
        "40 22 0:57 / /tmp/run/t/a ro - fuse.zfuse /data ro,user_id=0\n"
        "41 22 0:58 / /tmp/run2/a ro - fuse.zfuse /data ro,user_id=0\n"
        "42 22 0:59 / /tmp/run/b ro - fuse.sshfs host ro,user_id=0\n"
        "43 22 0:60 / /tmp/run ro - ext4 /dev/vda rw\n"
    )
    assert mounts_below("/tmp/run", mountinfo) == [Path("/sys/fs/fuse/connections/57")]


@pytest.mark.fuse
def test_a_hanging_mount_is_aborted_and_the_run_goes_on(tmp_path):
    (tmp_path / "test_hanging.py").write_text(HANGING)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.hang_guard", "-p", "no:cacheprovider"),
            *("--hang-seconds", "3", "--basetemp", tmp_path / "t", "-c", ROOT / "pyproject.toml"),
            *("-s", "--rootdir", ROOT, tmp_path / "test_hanging.py"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    assert "::test_hangs hangs: aborting" in done.stderr
