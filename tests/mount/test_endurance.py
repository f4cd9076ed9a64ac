"""What must not end a mount, and what must."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest

from tests.compat.documents import GROUP, array_document, put, put_all
from tests.compat.place import changing, create, local_place
from tests.mount.mounting import END_S, end
from zfuse.daemon.control import socket_path
from zfuse.daemon.mountinfo import zfuse_mounts

pytestmark = [pytest.mark.compat, pytest.mark.fuse]

LINE = array_document((8,), (2,))


@pytest.fixture
def repo(tmp_path):
    repo = create(local_place(tmp_path), 2)
    with changing(repo, "first") as store:
        put_all(store, {"zarr.json": GROUP, "a/zarr.json": LINE, "a/c/0": b"old!"})
    return repo


@pytest.fixture
def url(repo, tmp_path):
    return str(tmp_path / "repository")


@pytest.mark.parametrize(
    "request_line", [b"[" * 200_000, b"null", b'{"command": ["x"]}', b"{}", b"\xff\xfe"]
)
@pytest.mark.expects_log("bad request")
def test_no_request_to_the_control_socket_ends_it(url, mounted, request_line):
    mount = mounted(url)
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(60)
        link.connect(str(socket_path(mount.mount_point)))
        link.sendall(request_line + b"\n")
        answer = json.loads(link.makefile("rb").readline())
    assert answer["exit_code"] == 2
    assert (mount.path / "branch/main/a/c/0").read_bytes() == b"old!"


def test_a_mount_point_below_a_symbolic_link(url, tmp_path):
    (tmp_path / "real/mnt").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    command = [sys.executable, "-m", "zfuse"]
    below = tmp_path / "link/mnt"
    subprocess.run([*command, "mount", "-d", url, str(below)], check=True, timeout=60)
    try:
        assert (below / "branch/main/a/c/0").read_bytes() == b"old!"
        assert [m.path for m in zfuse_mounts() if m.path.is_relative_to(tmp_path)] == [
            tmp_path / "real/mnt"
        ]
    finally:
        subprocess.run([*command, "umount", str(below)], check=True, timeout=60)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts(url, mounted, number):
    """However often it is sent, and whatever the daemon is at."""
    mount = mounted(url)
    deadline = time.monotonic() + END_S
    while mount.daemon.poll() is None and time.monotonic() < deadline:
        mount.daemon.send_signal(number)
        time.sleep(0.005)  # without a pause it may get to nothing but its signals
    assert mount.daemon.poll() == 0, mount.log.read_text()
    assert mount.path not in {m.path for m in zfuse_mounts()}


def test_a_signal_before_the_mount_has_answered(url, tmp_path):
    """It is in the kernel's table then, and nobody can know whether it is ready."""
    directory, log = tmp_path / "early", tmp_path / "early.log"
    directory.mkdir()
    with log.open("wb") as out:
        command = [sys.executable, "-m", "zfuse", "mount", url, str(directory)]
        daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        while directory not in {m.path for m in zfuse_mounts()}:
            assert daemon.poll() is None, log.read_text()
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(END_S) == 0
        assert directory not in {m.path for m in zfuse_mounts()}
    finally:
        end(directory, daemon, log)


def test_a_look_into_the_present_moves_no_branch(repo, url, mounted):
    mount = mounted(url)
    shown = mount.path / "branch/main/a/c/0"
    assert shown.read_bytes() == b"old!"
    before = {tree["ref"]: tree["snapshot"] for tree in mount.call("status")["trees"]}
    with changing(repo, "second") as store:
        put(store, "a/c/0", b"new!")
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    assert (mount.path / "time" / now / "a/c/0").read_bytes() == b"new!"
    assert len(os.listdir(mount.path / "snapshot")) == 2  # the first, and the empty one
    assert shown.read_bytes() == b"old!"
    after = {tree["ref"]: tree["snapshot"] for tree in mount.call("status")["trees"]}
    assert after["branch/main"] == before["branch/main"]


def test_open_files_that_nobody_reads_stay_within_the_budget(tmp_path, mounted):
    place = local_place(tmp_path, "large")
    repo = create(place, 2)
    with changing(repo, "large chunks") as store:
        put(store, "zarr.json", array_document((24,), (1,)))
        for number in range(24):
            put(store, f"c/{number}", bytes([number]) * (4 << 20))
    mount = mounted(place.url, "--memory", "16MiB")
    chunks = mount.path / "branch/main/c"
    before = resident(mount.daemon.pid)
    files = [(chunks / str(number)).open("rb") for number in range(24)]
    try:
        # 96 MiB are open; what is freed stays with the process up to 64 MiB.
        assert resident(mount.daemon.pid) - before < 88 << 20
        assert mount.metric("memory_bytes") <= 16 << 20
        assert [f.read(1)[0] for f in files] == list(range(24))
    finally:
        for file in files:
            file.close()


def resident(pid):
    with open(f"/proc/{pid}/status") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS"))
