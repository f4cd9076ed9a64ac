import subprocess
import sys
from pathlib import Path

import pytest

from tests.hang_guard import mounts_below

ROOT = Path(__file__).parents[1]

HANGING = """
import os, signal, subprocess, sys
import pytest
from tests.mount.mounting import mounting

def test_hangs(tmp_path):
    create = [sys.executable, "-m", "zfuse", "create", tmp_path / "repo"]
    subprocess.run(create, check=True)
    with mounting(tmp_path / "repo", tmp_path / "mnt") as mounted:
        os.kill(mounted.daemon.pid, signal.SIGSTOP)
        try:
            with pytest.raises(OSError, match="not connected|abort"):
                os.listdir(tmp_path / "mnt" / "snapshot")
        finally:
            os.kill(mounted.daemon.pid, signal.SIGCONT)

def test_goes_on():
    pass
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
            *("--hang-seconds", "6", "--basetemp", tmp_path / "t", "-c", ROOT / "pyproject.toml"),
            *("--rootdir", ROOT, tmp_path / "test_hanging.py"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr
