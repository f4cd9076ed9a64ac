import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import icechunk
import pytest
import zarr

from tests.mount.mounting import mounting
from zfuse.cli.detach import detach
from zfuse.daemon.control import runtime_directory
from zfuse.daemon.mountinfo import zfuse_mounts
from zfuse.daemon.unmount import wait_for_end

pytestmark = pytest.mark.fuse


@pytest.fixture
def directory(tmp_path):
    """An empty directory to mount at; what is left mounted there is taken away."""
    directory = tmp_path / "mnt"
    directory.mkdir()
    yield directory
    while any(mount.path == directory for mount in zfuse_mounts()):
        subprocess.run(["fusermount3", "-uz", directory], check=True, timeout=60)


@pytest.fixture
def log(home, directory):
    """Where ``mount -d`` logs."""
    state = Path(home["HOME"], ".local", "state", "zfuse")
    return state / f"{quote(str(directory), safe='')}.log"


def test_mount_d_returns_when_the_mount_can_be_read(zfuse, repository, directory, log):
    mounted = zfuse("mount", "-d", repository, directory, "--json").json
    assert sorted(os.listdir(directory)) == ["branch", "snapshot", "tag"]
    pid = mounted.pop("pid")
    place = {"repository": str(repository), "mountpoint": str(directory)}
    assert mounted == {**place, "ref": None, "recovered": []}
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.getsid(pid) == pid

    ended = zfuse("umount", directory, "--json").json
    told = {"mountpoint": str(directory), "pid": pid, "daemon_ended": True, "kept": []}
    assert ended == told
    assert wait_for_end(pid, 0)
    assert os.listdir(directory) == []
    assert "is mounted at" in log.read_text()


@pytest.mark.parametrize(
    "choice",
    [["--tag", "v1.0"], ["-o", "tag=v1.0"], ["-o", "noatime,tag=v1.0,x-a=b"]],
)
def test_one_ref_can_be_the_mount_point_itself(zfuse, repository, directory, choice):
    assert zfuse("mount", "-d", repository, directory, *choice).status == 0
    assert "temperature" in os.listdir(directory)
    assert zfuse("status", directory, "--json").json["ref"] == "tag/v1.0"
    info = zfuse("info", directory / "pressure", "--json").json
    assert (info["ref"], info["path"]) == ("tag/v1.0", "/pressure")
    assert zfuse("umount", directory).status == 0


def test_mount_d_shows_the_error_and_the_exit_code_when_it_fails(zfuse, tmp_path, directory, log):
    outcome = zfuse("mount", "-d", tmp_path / "nothing", directory)
    outcome.fails(10, "no Icechunk repository at")
    assert outcome.err in log.read_text()


def dying(reporter):
    os.kill(os.getpid(), signal.SIGKILL)


def talkative(reporter):
    sys.stderr.write("line\n" * 100 + "zfuse: it broke\n")
    sys.stderr.flush()
    return 8


@pytest.mark.parametrize(
    ("work", "status", "words"), [(dying, 1, "was killed by SIGKILL"), (talkative, 8, "code 8")]
)
def test_a_daemon_that_ends_without_a_word_leaves_its_log(tmp_path, capfd, work, status, words):
    def logging_work(reporter):
        reporter.log_to(tmp_path / "log")
        try:
            os._exit(work(reporter))
        finally:
            os._exit(99)

    assert detach(logging_work, lambda facts: None) == status
    last = capfd.readouterr().err.splitlines()[-1]
    assert words in last
    assert last.endswith(f"its log is {tmp_path}/log")


def test_the_log_goes_where_it_is_told(zfuse, repository, directory, tmp_path, log):
    told = tmp_path / "told.log"
    zfuse("mount", "-d", repository, directory, "--log-file", "told.log", cwd=tmp_path)
    zfuse("umount", directory)
    assert "is mounted at" in told.read_text()
    assert not log.exists()


@pytest.mark.parametrize("daemon", [[], ["-d"]])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda d: d.rmdir(), ["there is no", "mkdir -p"]),
        (lambda d: (d / "file").touch(), ["not empty", "'file'"]),
        (lambda d: (d.rmdir(), d.touch()), ["not a directory"]),
    ],
)
def test_a_bad_mount_point_is_one_line(zfuse, repository, directory, daemon, make, words):
    make(directory)
    zfuse("mount", *daemon, repository, directory).fails(2, *words)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 2, ["zfuse mount REPO DIR"]),
        (["{repo}"], 2, ["zfuse mount REPO DIR"]),
        (["{repo}", "{repo}"], 2, ["inside the repository"]),
        (["{repo}", "{repo}/.."], 2, ["would hide"]),
        (["{repo}", "{dir}", "--rw", "--tag", "v1.0"], 2, ["tag/v1.0 can only be read", "--rw"]),
        (["{repo}", "{dir}", "--rw", "-o", "ro,uid=0"], 2, ["--rw and -o ro"]),
        (["{repo}", "{dir}", "--rw", "--journal", "{dir}/j"], 2, ["inside the mount", "--journal"]),
        (["{repo}", "{dir}", "--rw", "--journal", "/dev/null/j"], 2, ["kept in", "--journal DIR"]),
        (["{repo}", "{dir}", "--memory", "some"], 2, ["memory: 'some' must be a size"]),
        (["{repo}", "{dir}", "-o", "alow_other"], 2, ["'allow-other'"]),
        (["{repo}", "{dir}", "--tag", "nope"], 2, ["no tag 'nope'", "'v1.0'"]),
        (["{repo}", "{dir}", "--branch", "nope"], 2, ["no branch 'nope'"]),
        (["{repo}", "{dir}", "--snapshot", "nope"], 2, ["is not an id"]),
        (["{repo}", "{dir}", "--snapshot", "0" * 20], 2, ["no snapshot"]),
        (["{repo}", "{dir}", "--as-of", "2001-01-01"], 2, ["main"]),
        (["{repo}", "{dir}", "--as-of", "soon"], 2, ["not a time"]),
        (["{repo}", "{dir}", "--log-file", "{dir}2/log"], 2, ["can not log to", "--log-file FILE"]),
        (["{repo}", "{dir}", "-d", "--log-file", "{repo}"], 2, ["Is a directory"]),
        (["--name", "nowhere"], 2, ["/etc/zfuse/mounts.d/nowhere.toml"]),
        (["{dir}", "{dir}2"], 2, ["there is no"]),
    ],
)
def test_a_mount_that_cannot_be_is_one_line(zfuse, repository, directory, arguments, status, words):
    arguments = [argument.format(repo=repository, dir=directory) for argument in arguments]
    zfuse("mount", *arguments).fails(status, *words)


def test_paths_may_be_any_bytes(zfuse, repository, directory, tmp_path):
    name = os.fsdecode(b"\xff\xfe")
    place, point = tmp_path / name, directory / name
    shutil.copytree(repository, place)
    point.mkdir()
    zfuse("mount", "-d", "--rw", place, point)
    try:
        found = os.getxattr(point / "branch/main", "user.zfuse.repository")
        assert found == os.fsencode(place)
        (point / "branch/main/new").mkdir()
        zfuse("status", point).says(rf"{tmp_path}/\udcff\udcfe", rf"{directory}/\udcff\udcfe")
    finally:
        zfuse("umount", "--discard", point)


def test_a_mount_point_in_use_is_busy(zfuse, repository, mount):
    zfuse("mount", repository, mount).fails(7, "is mounted at", f"zfuse umount {mount}")
    assert os.listdir(mount / "branch") == ["draft", "main"]


def test_a_damaged_repository_says_so(zfuse, repository, directory, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    whole = (repository / "repo").read_bytes()
    (broken / "repo").write_bytes(whole[: len(whole) // 2])
    zfuse("mount", broken, directory).fails(8)


def test_settings_come_from_the_environment_and_the_users_file(zfuse, repository, directory, home):
    config = Path(home["HOME"], ".config", "zfuse", "config.toml")
    config.parent.mkdir(parents=True)
    config.write_text('tag = "v1.0"\nmemory = "64MiB"\n')
    zfuse("mount", "-d", repository, directory, env={"ZFUSE_MEMORY": "32MiB"})
    assert "temperature" in os.listdir(directory)
    text = (directory / ".zfuse" / "config.json").read_text()
    assert str(32 << 20) in text
    zfuse("umount", directory)

    config.write_text('tga = "v1.0"\n')
    zfuse("mount", repository, directory).fails(2, str(config), "did you mean 'tag'")


def test_umount_names_who_keeps_it_busy(zfuse, repository, directory):
    pid = zfuse("mount", "-d", repository, directory, "--json").json["pid"]
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        cwd=directory / "branch",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as user:
        user.stdout.readline()
        zfuse("umount", directory).fails(7, f"pid {user.pid}", "working directory", "--force")
        assert os.listdir(directory / "branch") == ["draft", "main"]
        assert zfuse("umount", directory, "--force").status == 0
        assert not any(m.path == directory for m in zfuse_mounts())
    assert wait_for_end(pid, 60)


def test_umount_works_from_inside_the_mount_and_only_there_is_one(zfuse, repository, directory):
    zfuse("mount", "-d", repository, directory)
    zfuse("umount", directory / "branch").fails(6, "nothing of zfuse is mounted at")
    assert zfuse("umount", "..", cwd=directory / "branch").status == 0
    zfuse("umount", directory).fails(6, "zfuse list")


def test_a_daemon_that_was_killed_is_seen_and_cleared_away(zfuse, repository, directory):
    pid = zfuse("mount", "-d", repository, directory, "--json").json["pid"]
    os.kill(pid, signal.SIGKILL)
    assert wait_for_end(pid, 60)
    (row,) = [r for r in zfuse("list", "--json").json_lines if r["mountpoint"] == str(directory)]
    assert row["alive"] is False
    assert f"no daemon: run zfuse umount {directory}" in zfuse("list").out
    doctor = zfuse("doctor", "--json")
    (finding,) = [row for row in doctor.json_lines if row["check"] == "mounts"]
    assert (doctor.status, finding["state"]) == (6, "bad")
    assert finding["advice"].startswith("run: zfuse umount /")
    zfuse("status", directory).fails(6, "is gone", f"zfuse umount {directory}")
    zfuse("ls", directory / "branch" / "main").fails(6, "is gone")
    zfuse("mount", repository, directory).fails(
        7, "its daemon is gone", f"zfuse umount {directory}"
    )
    assert zfuse("umount", directory).status == 0
    assert not (runtime_directory(os.geteuid()) / f"{pid}.sock").exists()
    assert os.listdir(directory) == []


def test_a_daemon_that_hangs_can_be_got_rid_of(zfuse, repository, directory):
    pid = zfuse("mount", "-d", repository, directory, "--json").json["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        outcome = zfuse("umount", "--force", directory, "--json")
        told = {"mountpoint": str(directory), "pid": pid, "daemon_ended": False, "kept": []}
        assert outcome.json == told
        assert f"kill {pid}" in outcome.err
        assert os.listdir(directory) == []
    finally:
        os.kill(pid, signal.SIGCONT)
    assert wait_for_end(pid, 60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_foreground_mount_though_it_is_in_use(repository, directory, number):
    with mounting(repository, directory) as mounted:
        held = os.open(directory / "tag" / "v1.0" / "zarr.json", os.O_RDONLY)
        try:
            mounted.daemon.send_signal(number)
            assert mounted.daemon.wait(60) == 0
            assert os.listdir(directory) == []
        finally:
            with contextlib.suppress(OSError):  # nobody is left to take note
                os.close(held)


def test_list_tells_repository_ref_and_daemon(zfuse, mount, repository):
    rows = [r for r in zfuse("list", "--json").json_lines if r["mountpoint"] == str(mount)]
    (row,) = rows
    assert row["repository"] == str(repository)
    assert (row["ref"], row["alive"]) == (None, True)
    assert os.path.isdir(f"/proc/{row['pid']}")
    assert str(mount) in zfuse("list").out


def test_status_tells_what_is_shown(zfuse, mount, repository):
    os.listdir(mount / "branch" / "draft")
    status = zfuse("status", mount, "--json").json
    assert status["repository"] == str(repository)
    assert "branch/draft" in {tree["ref"] for tree in status["trees"]}
    text = zfuse("status", cwd=mount / "branch").out
    assert "all refs" in text
    zfuse("status", cwd="/").fails(6, "not inside a zfuse mount")


def test_refresh_moves_branches(zfuse, tmp_path, directory):
    storage = icechunk.local_filesystem_storage(str(tmp_path / "repo"))
    repo = icechunk.Repository.create(storage)
    before = repo.lookup_branch("main")
    with mounting(tmp_path / "repo", directory):
        assert os.listdir(directory / "branch" / "main") == []
        assert zfuse("refresh", directory).out == "nothing moved\n"
        with repo.transaction("main", message="add") as store:
            zarr.create_group(store)
        after = repo.lookup_branch("main")
        moved = zfuse("refresh", directory, "--json").json["moved"]
        assert moved == [{"branch": "main", "before": before, "after": after}]
        assert os.listdir(directory / "branch" / "main") == ["zarr.json"]

        repo.create_branch("next", after)
        repo.create_tag("v1", after)
        assert zfuse("refresh", directory).out == "branch/next is new\ntag/v1 is new\n"
        repo.delete_branch("next")
        told = zfuse("refresh", directory, "--json").json
        assert told == {"moved": [], "new": [], "gone": ["branch/next"]}


def test_systemd_is_told(repository, directory, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(60)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        with mounting(repository, directory, env=env) as mounted:
            assert systemd.recv(1000).startswith(b"READY=1\nSTATUS=Serving ")
            assert systemd.recv(1000) == b"WATCHDOG=1"
            assert systemd.recv(1000) == b"WATCHDOG=1"
            mounted.daemon.send_signal(signal.SIGTERM)
            while (said := systemd.recv(1000)) != b"STOPPING=1":
                assert said == b"WATCHDOG=1"
            assert mounted.daemon.wait(60) == 0
