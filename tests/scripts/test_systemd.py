"""systemd/: the unit, and the helper that mount(8) calls."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zfuse.daemon.mountinfo import zfuse_mounts

ROOT = Path(__file__).parents[2]
HELPER = ROOT / "systemd" / "mount.zfuse"
UNIT = ROOT / "systemd" / "zfuse@.service"
ZFUSE = Path(sys.prefix, "bin", "zfuse")


@pytest.fixture
def repository(tmp_path):
    subprocess.run(
        [ZFUSE, "create", tmp_path / "repo"], check=True, stdout=subprocess.DEVNULL, timeout=240
    )
    return tmp_path / "repo"


@pytest.fixture
def directory(tmp_path):
    directory = tmp_path / "mnt"
    directory.mkdir()
    yield directory
    while any(mount.path == directory for mount in zfuse_mounts()):
        subprocess.run(["fusermount3", "-uz", directory], check=True, timeout=60)


@pytest.fixture
def helper(tmp_path):
    """Calls mount.zfuse as mount(8) does."""

    def call(*arguments, zfuse=ZFUSE):
        return subprocess.run(
            ["sh", HELPER, *arguments],
            env={**os.environ, "ZFUSE": str(zfuse), "HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    return call


@pytest.mark.fuse
def test_the_helper_mounts_with_the_options_of_fstab(helper, repository, directory):
    options = "rw,branch=main,_netdev,nofail,x-systemd.automount"
    done = helper(str(repository), str(directory), "-o", options, "-n")
    assert (done.returncode, done.stderr) == (0, "")
    (mount,) = [m for m in zfuse_mounts() if m.path == directory]
    assert mount.source == str(repository)
    # One branch at the mount point itself, and that branch is empty.
    assert os.listdir(directory) == []


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["{repo}"], 1),
        (["{repo}", "{dir}", "-q"], 1),
        (["{repo}", "{dir}", "-o", "nonsense=1"], 1),
        (["{repo}", "{dir}/none"], 1),
        (["{repo}x", "{dir}"], 32),
        (["{repo}x", "{dir}", "-f"], 0),
    ],
)
def test_the_helper_answers_with_the_codes_of_mount_8(
    helper, repository, directory, arguments, status
):
    done = helper(*(a.format(repo=repository, dir=directory) for a in arguments))
    assert done.returncode == status, done.stderr
    assert not any(mount.path == directory for mount in zfuse_mounts())


@pytest.mark.parametrize(("code", "status"), [(1, 4), (2, 1), (12, 1), (75, 32), (130, 8), (0, 0)])
def test_every_exit_code_has_its_counterpart(helper, tmp_path, code, status):
    stub = tmp_path / "zfuse"
    stub.write_text(f"#!/bin/sh\nexit {code}\n")
    stub.chmod(0o755)
    assert helper("repo", "dir", zfuse=stub).returncode == status


@pytest.mark.fuse
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may call a helper of mount(8)")
def test_mount_8_finds_the_helper(repository, directory, tmp_path):
    # In a mount namespace of its own, with the helper laid over /usr/sbin.
    sbin = tmp_path / "sbin"
    sbin.mkdir()
    shutil.copy(HELPER, sbin)
    script = f"""
        set -e
        mount -t overlay overlay -o lowerdir={sbin}:/usr/sbin /usr/sbin
        mount -t zfuse {repository} {directory} -o allow_other,_netdev
        ls {directory}
        ! touch {directory}/branch/main/notes
        umount {directory}
        mount -t zfuse {repository} {directory} -o writable,journal={tmp_path}/state,nofail
        echo written > {directory}/branch/main/notes
        cat {directory}/branch/main/notes
        umount {directory}
        mount -t zfuse {repository} {directory} -o writable,ro,journal={tmp_path}/state
        ! touch {directory}/branch/main/notes
        umount {directory}
        test -e {tmp_path}/state/sessions/*/main/session.sqlite
    """
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", script],
        env={**os.environ, "ZFUSE": str(ZFUSE), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    told = [*("branch", "snapshot", "tag"), "written"]
    assert (done.returncode, done.stdout.split()) == (0, told), done.stderr


def test_systemd_takes_the_unit(tmp_path):
    # verify wants an instance, and the program to be there.
    unit = tmp_path / "zfuse@data.service"
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/zfuse", str(ZFUSE)))
    assert unit.read_text().count(str(ZFUSE)) == 3
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.fuse
@pytest.mark.skipif(os.geteuid() != 0, reason="lays a directory over /etc, which takes root")
def test_the_unit_starts_and_stops_what_the_mount_file_names(repository, directory, tmp_path):
    lines = dict(re.findall(r"^(Exec\w+)=-?(.*)$", UNIT.read_text(), re.M))
    start, stop, clear = (
        lines[key].replace("/usr/local/bin/zfuse", str(ZFUSE)).replace("%i", "data")
        for key in ("ExecStart", "ExecStop", "ExecStopPost")
    )
    mounts = tmp_path / "etc" / "zfuse" / "mounts.d"
    mounts.mkdir(parents=True)
    (mounts / "data.toml").write_text(
        f'repository = "{repository}"\nmountpoint = "{directory}"\nbranch = "main"\n'
    )
    script = f"""
        set -e
        mount -t overlay overlay -o lowerdir={tmp_path}/etc:/etc /etc
        {start} --json > {tmp_path}/ready &
        until [ -s {tmp_path}/ready ]; do kill -0 $!; sleep 0.05; done
        cat {tmp_path}/ready
        {stop}
        wait $!
        {clear} || echo "nothing left: $?"
    """
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", script],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    ready, left = done.stdout.splitlines()
    assert json.loads(ready)["mountpoint"] == str(directory)
    assert json.loads(ready)["ref"] == "branch/main"
    assert left == "nothing left: 6"
