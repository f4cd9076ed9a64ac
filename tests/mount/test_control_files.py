"""``.zfuse/``: what a mount tells about itself, and the way to its daemon."""

import json
import os
import socket
import stat

import pytest

from tests.compat.place import local_place
from tests.compat.repositories import build
from tests.mount.mounting import mounting
from tests.mount.settling import wait_for

pytestmark = [pytest.mark.compat, pytest.mark.fuse]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return build("kinds", 2, local_place(tmp_path_factory.mktemp("control")))


@pytest.fixture(scope="module")
def control(made, tmp_path_factory):
    directory = tmp_path_factory.mktemp("control") / "mount"
    with mounting(made.url, directory, "--allow-virtual", made.place.prefix) as mount:
        yield mount, mount.path / ".zfuse"


def test_the_directory_is_there_but_not_listed(control):
    mount, directory = control
    assert sorted(os.listdir(mount.path)) == ["branch", "snapshot", "tag"]
    assert sorted(os.listdir(directory)) == ["config.json", "socket", "stats", "status.json"]


def test_sizes_hold_for_readers_that_trust_them(control):
    """The content differs at each look, so its size may only be a hint; reads go to the end."""
    _, directory = control
    for name in ("config.json", "status.json", "stats"):
        content = (directory / name).read_bytes()
        assert content.endswith(b"\n")
        assert (directory / name).stat().st_size > 100


def test_status_tells_what_is_shown(control, made):
    mount, directory = control
    (mount.path / "branch/main/a/zarr.json").read_bytes()
    status = json.loads((directory / "status.json").read_bytes())
    assert status["repository"] == made.url
    assert status["spec_version"] == 2
    assert status["mountpoint"] == str(mount.path)
    assert status["read_only"] is True
    assert status["pid"] == mount.daemon.pid
    assert {"ref": "branch/main", "snapshot": made.branches["main"]} in status["trees"]
    assert status["not_shown"] == []
    assert status == mount.call("status")


def test_config_has_no_secrets(tmp_path, mounted):
    made = build("empty", 2, local_place(tmp_path))
    environment = {"AWS_SECRET_ACCESS_KEY": "sesame", "AWS_SESSION_TOKEN": "open"}
    mount = mounted(made.url, "--region", "mars-1", "--memory", "20MiB", env=environment)
    text = (mount.path / ".zfuse/config.json").read_text()
    assert json.loads(text)["storage"]["region"] == "mars-1"
    assert json.loads(text)["memory_bytes"] == 20 << 20
    assert not any(word in text for word in ("sesame", "open", "secret_access", "token"))


def test_stats_count_what_the_stores_were_asked_for(control, made):
    mount, _ = control
    chunks = mount.path / "branch/main/a/c"
    assert len(os.listdir(chunks)) == 6
    before = mount.metric("storage_bytes_total", store=made.url, direction="in")
    for _ in range(2):
        assert len((chunks / "4/1").read_bytes()) == len((chunks / "9/0").read_bytes()) == 600
    after = mount.metric("storage_bytes_total", store=made.url, direction="in")
    assert after - before == 600
    for store in (made.url, "/"):
        assert mount.metric("storage_calls_total", store=store, verb="get_range") == 1
    assert mount.metric("storage_bytes_total", store="/", direction="in") == 600
    assert mount.metric("storage_errors_total") == mount.metric("storage_retries_total") == 0


def test_stats_count_what_is_open(control, made):
    mount, _ = control
    (root,) = (name for name in made.snapshots if name != made.branches["main"])
    # The kernel tells of a file that was closed when it finds the time.
    wait_for(lambda: mount.metric("open_handles") == 0)
    known = mount.metric("known_inodes")
    with (mount.path / "branch/main/a/zarr.json").open("rb"):
        wait_for(lambda: mount.metric("open_handles") == 1)
    wait_for(lambda: mount.metric("open_handles") == 0)
    assert not os.listdir(mount.path / "snapshot" / root)
    assert mount.metric("known_inodes") > known
    assert 0 < mount.metric("memory_bytes") < mount.metric("memory_limit_bytes") == 256 << 20


def test_the_socket_is_the_way_to_the_daemon(control):
    mount, directory = control
    target = os.readlink(directory / "socket")
    mode = os.stat(target).st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(target)).st_mode) == 0o700
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(60)
        link.connect(str(directory / "socket"))
        link.sendall(b'{"command": "status"}\n')
        answer = json.loads(link.makefile().readline())
    assert answer["result"]["pid"] == mount.daemon.pid


@pytest.mark.parametrize(
    "request_line",
    [b"nonsense\n", b"[]\n", b'{"command": "unheard-of"}\n', b'{"arguments": {}}\n', b"\xff\n"],
)
def test_a_bad_request_is_answered_and_harms_nobody(control, request_line):
    mount, directory = control
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(60)
        link.connect(str(directory / "socket"))
        link.sendall(request_line)
        answer = json.loads(link.makefile().readline())
    assert answer["exit_code"] == 2
    assert mount.call("status")["pid"] == mount.daemon.pid
