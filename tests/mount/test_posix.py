"""A read-only mount is a file system like any other to who looks at it and reads it."""

import errno
import fcntl
import mmap
import os
import stat
import subprocess
from datetime import UTC, datetime

import pytest

from tests.compat.place import local_place
from tests.compat.repositories import build
from tests.mount.mounting import mounting

pytestmark = [pytest.mark.compat, pytest.mark.fuse]

NOBODY = 65534


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return build("kinds", 2, local_place(tmp_path_factory.mktemp("posix")))


@pytest.fixture(scope="module")
def root(made, tmp_path_factory):
    directory = tmp_path_factory.mktemp("posix") / "mount"
    with mounting(made.url, directory, "--allow-virtual", made.place.prefix) as mount:
        yield mount.path


@pytest.fixture
def array(root):
    return root / "branch/main/a"


def written_at(made):
    return made.open().lookup_snapshot(made.branches["main"]).written_at


def test_stat(root, array, made):
    for path, kind, mode in (
        (root, stat.S_IFDIR, 0o555),
        (root / "branch", stat.S_IFDIR, 0o555),
        (array, stat.S_IFDIR, 0o555),
        (array / "c/4", stat.S_IFDIR, 0o555),
        (array / "zarr.json", stat.S_IFREG, 0o444),
        (array / "c/4/1", stat.S_IFREG, 0o444),
        (root / ".zfuse/status.json", stat.S_IFREG, 0o444),
    ):
        found = path.stat()
        assert stat.S_IFMT(found.st_mode) == kind, path
        assert stat.S_IMODE(found.st_mode) == mode, path
        assert (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())
        assert found.st_nlink == 1
        assert found.st_dev == root.stat().st_dev
    chunk = (array / "c/4/1").stat()
    assert chunk.st_size == 600
    assert chunk.st_blocks == 2
    moment = written_at(made)
    for name in ("c/4/1", "zarr.json", "c/9/0"):
        assert datetime.fromtimestamp((array / name).stat().st_mtime, UTC) == moment
        assert datetime.fromtimestamp((array / name).stat().st_ctime, UTC) == moment


def test_numbers_stay_and_tell_files_apart(root, array):
    paths = [root, *root.rglob("*")]
    first = [path.stat().st_ino for path in paths]
    assert len(paths) > 20
    assert len(set(first)) == len(first)
    assert [path.stat().st_ino for path in paths] == first
    listed = {entry.name: entry.inode() for entry in os.scandir(array / "c/4")}
    assert listed == {"1": (array / "c/4/1").stat().st_ino}


@pytest.mark.parametrize("tree", ["branch/main", "snapshot/{}"])
def test_xattrs_of_chunks(root, made, tree):
    snapshot = made.branches["main"]
    array = root / tree.format(snapshot) / "a"

    def told(name, chunk):
        return os.getxattr(array / "c" / chunk, f"user.zfuse.{name}").decode()

    assert [told("kind", c) for c in ("0/1", "4/1", "9/0")] == ["inline", "native", "virtual"]
    assert [told("length", c) for c in ("0/1", "4/1", "9/0")] == ["1", "600", "600"]
    assert told("location", "9/0") == f"{made.place.prefix}kinds.bin"
    assert told("location", "9/1") == "vcc://kinds/kinds.bin"
    assert (told("offset", "9/0"), told("offset", "4/1")) == ("100", "0")
    stored = os.path.join(made.url, "chunks", told("object", "4/1"))
    assert os.path.getsize(stored) == 600
    assert told("repository", "4/1") == made.url
    assert told("ref", "4/1") == tree.format(snapshot)
    assert told("snapshot", "4/1") == snapshot


def test_an_xattr_tells_whether_the_bytes_are_in_memory(mount, made):
    chunk = mount(made.url, "--branch", "main") / "a/c/3/1"
    assert os.getxattr(chunk, "user.zfuse.cached") == b"0"
    chunk.read_bytes()
    assert os.getxattr(chunk, "user.zfuse.cached") == b"1"


def test_xattrs_of_nodes(root, array, made):
    for node in (array, array / "zarr.json"):
        for name, value in {
            "repository": made.url,
            "ref": "branch/main",
            "snapshot": made.branches["main"],
            "kind": "metadata",
        }.items():
            assert os.getxattr(node, f"user.zfuse.{name}").decode() == value
    # An implicit group has no zarr.json, and the ref directories are no nodes.
    for path in (root, root / "branch", root / "branch/main", array / "c"):
        with pytest.raises(OSError, match=os.strerror(errno.ENODATA)):
            os.getxattr(path, "user.zfuse.snapshot")


def test_getfattr_answers_by_name(array):
    command = ["getfattr", "-n", "user.zfuse.kind", "--only-values", str(array / "c/4/1")]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert done.stdout == b"native"


def test_xattrs_are_hidden_from_lists_and_copies(array, tmp_path):
    for path in (array, array / "c/4/1", array / "zarr.json"):
        assert os.listxattr(path) == []
    subprocess.run(["cp", "-a", array / "c/4/1", tmp_path / "copy"], check=True, timeout=60)
    assert os.listxattr(tmp_path / "copy") == []


@pytest.mark.parametrize("name", ["user.zfuse.nothing", "user.other", "security.capability"])
def test_there_are_no_other_xattrs(array, name):
    with pytest.raises(OSError, match=os.strerror(errno.ENODATA)):
        os.getxattr(array / "c/4/1", name)


def test_statfs(root, array):
    for path in (root, array, array / "c/4/1"):
        found = os.statvfs(path)
        assert found.f_bavail == found.f_bfree == 0
        assert found.f_namemax == 255
        assert found.f_flag & os.ST_RDONLY
    told = subprocess.run(["df", "-P", root], capture_output=True, timeout=60, check=True).stdout
    assert str(root) in told.decode().splitlines()[1]


WRITES = {
    "create": lambda d: os.open(d / "new", os.O_CREAT | os.O_WRONLY),
    "create exclusively": lambda d: os.open(d / "c/4/1", os.O_CREAT | os.O_EXCL | os.O_WRONLY),
    "write": lambda d: os.open(d / "zarr.json", os.O_WRONLY),
    "read and write": lambda d: os.open(d / "c/4/1", os.O_RDWR),
    "append": lambda d: os.open(d / "c/4/1", os.O_WRONLY | os.O_APPEND),
    "truncate on open": lambda d: os.open(d / "c/4/1", os.O_WRONLY | os.O_TRUNC),
    "truncate": lambda d: os.truncate(d / "c/4/1", 0),
    "mkdir": lambda d: os.mkdir(d / "new"),
    "rmdir": lambda d: os.rmdir(d / "c/4"),
    "unlink": lambda d: os.unlink(d / "c/4/1"),
    "rename": lambda d: os.rename(d / "c/4/1", d / "c/4/0"),
    "rename a directory": lambda d: os.rename(d, d.with_name("b")),
    "link": lambda d: os.link(d / "c/4/1", d / "c/4/0"),
    "symlink": lambda d: os.symlink("zarr.json", d / "link"),
    "fifo": lambda d: os.mkfifo(d / "fifo"),
    "chmod": lambda d: os.chmod(d / "c/4/1", 0o644),
    "chown": lambda d: os.chown(d / "c/4/1", 1, 1),
    "utime": lambda d: os.utime(d / "c/4/1"),
    "setxattr": lambda d: os.setxattr(d / "c/4/1", "user.mine", b"x"),
    "removexattr": lambda d: os.removexattr(d / "c/4/1", "user.zfuse.kind"),
    "bind a socket": lambda d: os.mknod(d / "sock", stat.S_IFSOCK | 0o600),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("place", ["branch/main/a", "snapshot/{}/a"])
def test_every_write_is_refused(root, made, place, write):
    directory = root / place.format(made.branches["main"])
    with pytest.raises(OSError) as refused:  # noqa: PT011 - errno is looked at below
        WRITES[write](directory)
    expected = errno.EEXIST if write == "create exclusively" else errno.EROFS
    assert refused.value.errno == expected
    assert len((directory / "c/4/1").read_bytes()) == 600


@pytest.mark.parametrize(
    "name",
    [
        *("c/4/0", "c/04/1", "c/+4/1", "c/4/1 ", "c/4/-1", "c/4/10000000000000000000000"),
        *("c/٤/1", "c.4.1", "4.1", ".zarray", ".zgroup", ".zattrs", "c/4/1/0", "zarr.json/x"),
    ],
)
def test_what_was_never_written_is_not_there(array, name):
    """Neither are other spellings of what is."""
    below_a_file = name in {"c/4/1/0", "zarr.json/x"}
    with pytest.raises(NotADirectoryError if below_a_file else FileNotFoundError):
        os.stat(array / name)


def test_every_way_to_read_gives_the_same(array, tmp_path):
    chunk = array / "c/4/1"
    expected = b"\x05" * 600
    with chunk.open("rb", buffering=0) as file:
        assert file.read(100) == expected[:100]
        assert file.read() == expected[100:]
        assert file.read() == b""
        assert os.pread(file.fileno(), 50, 580) == expected[580:]
        assert os.pread(file.fileno(), 50, 600) == b""
        assert os.pread(file.fileno(), 50, 1 << 40) == b""
        assert file.seek(0, os.SEEK_END) == 600
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 600
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[:] == expected
        with (tmp_path / "sent").open("wb") as copy:
            assert os.sendfile(copy.fileno(), file.fileno(), 0, 600) == 600
        fcntl.flock(file, fcntl.LOCK_SH)
        fcntl.lockf(file, fcntl.LOCK_UN)
        os.fsync(file.fileno())
    assert (tmp_path / "sent").read_bytes() == expected


def test_a_directory_can_be_opened_synced_and_read_again(array):
    descriptor = os.open(array, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
        first = sorted(os.listdir(descriptor))
        assert first == sorted(os.listdir(descriptor)) == ["c", "zarr.json"]
        assert os.stat("zarr.json", dir_fd=descriptor).st_size > 100
    finally:
        os.close(descriptor)


TOOLS = {
    "ls": "ls -lRa {0} >/dev/null",
    "find": "find {0} -type f -size +0 -newermt 2020-01-01 | wc -l | grep -qx 8",
    "du": "du -sk --apparent-size {0} >/dev/null",
    "grep": "grep -rl node_type {0} | grep -q zarr.json",
    "tar": "tar c -C {0} . | tar x -C {1} && diff -r {0} {1}",
    "rsync": "rsync -a {0}/ {1}/ && diff -r {0} {1}",
    "cp": "cp -a {0} {1}/copy && diff -r {0} {1}/copy",
    "jq": "jq -e '.shape == [6000, 2]' {0}/a/zarr.json",
    "sha256sum": "find {0} -type f -print0 | xargs -0 sha256sum | wc -l | grep -qx 8",
}


@pytest.mark.parametrize("tool", TOOLS)
def test_tools_go_through_a_whole_tree(root, tool, tmp_path):
    command = "set -o pipefail; " + TOOLS[tool].format(root / "branch/main", tmp_path)
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    subprocess.run(["chmod", "-R", "u+w", tmp_path], check=True, timeout=60)


def test_uid_gid_and_umask(mount, made):
    path = mount(made.url, "--branch", "main", "--uid", "1234", "--gid", "56", "--umask", "027")
    found = (path / "a/zarr.json").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 56, 0o440)
    assert stat.S_IMODE((path / "a").stat().st_mode) == 0o550


def as_nobody(path):
    """Return the errno of a read as another user, 0 if it worked."""
    code = "import sys\ntry: open(sys.argv[1], 'rb').read()\nexcept OSError as e: sys.exit(e.errno)"
    command = ["python3", "-c", code, str(path)]
    done = subprocess.run(command, user=NOBODY, group=NOBODY, cwd="/", timeout=60, check=False)
    return done.returncode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], errno.EACCES),
        (["--allow-other"], 0),
        (["--allow-other", "--umask", "077"], errno.EACCES),
        (["--allow-other", "--umask", "077", "--uid", str(NOBODY)], 0),
    ],
)
def test_other_users_see_what_they_are_allowed_to(mounted, made, options, expected, tmp_path):
    for directory in [tmp_path, *tmp_path.parents]:
        if directory.stat().st_mode & 0o001 == 0:
            directory.chmod(directory.stat().st_mode | 0o111)
    mount = mounted(made.url, "--branch", "main", *options)
    assert as_nobody(mount.path / "a/zarr.json") == expected
