import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mount.mounting import mounting

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "scripts" / "quickstart"


@pytest.fixture
def environment(tmp_path):
    """scripts/quickstart uses the environment that runs the tests, and a TMPDIR of its own."""
    (tmp_path / "q").mkdir()
    return {
        **os.environ,
        "ZFUSE_VENV": sys.prefix,
        "TMPDIR": str(tmp_path / "q"),
        "HOME": str(tmp_path),
    }


@pytest.mark.fuse
def test_makes_mounts_reads_and_leaves_nothing_behind(environment):
    done = subprocess.run(
        ["bash", QUICKSTART],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for command in ("log", "tree", "mount", "status", "umount"):
        assert f"\n$ zfuse {command}" in done.stdout
    for kind in ("regular", "sharded", "rectilinear", "virtual"):
        assert f"({kind})" in done.stdout
    assert done.stdout.count("as written") == 6
    assert "All values are as they were written" in done.stdout
    assert os.listdir(environment["TMPDIR"]) == []
    assert environment["TMPDIR"] not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.fuse
def test_a_value_that_differs_fails(tmp_path):
    command = [sys.executable, ROOT / "scripts" / "quickstart.py"]
    subprocess.run([*command, "make", "repo", "data"], check=True, cwd=tmp_path)
    allow = f"file://{tmp_path}/data/"
    with mounting(tmp_path / "repo", tmp_path / "mnt", "--allow-virtual", allow) as mounted:
        for version in ("branch/main", "branch/draft", "tag/v1.0"):
            shutil.copytree(mounted.path / version, tmp_path / "copy" / version)
    read = [*command, "read", tmp_path / "copy"]
    assert subprocess.run(read, stdout=subprocess.DEVNULL, check=False).returncode == 0

    # The file that virtual chunks lie in changes, which the references have a time against.
    os.utime(tmp_path / "data" / "pressure.raw", (0, 2_000_000_000))
    done = subprocess.run(
        [sys.executable, "-m", "zfuse", "cat", "repo", "pressure/c/1/0", "--allow-virtual", allow],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 8
    assert "changed since it was referenced" in done.stderr

    chunk = tmp_path / "copy" / "branch" / "main" / "pressure" / "c" / "1" / "0"
    chunk.write_bytes(bytes(8) + chunk.read_bytes()[8:])
    done = subprocess.run(read, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert [line.split("  ")[0] for line in done.stdout.splitlines() if "WRONG" in line] == [
        "branch/main pressure (virtual)"
    ]
