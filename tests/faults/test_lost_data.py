"""Chunks whose bytes cannot be had are errors, never absent and never zeros."""

import errno
import os
import re
import shutil
from datetime import UTC, datetime

import icechunk
import pytest
import tensorstore
import zarr

from tests.compat.documents import GROUP, array_document, put, put_all
from tests.compat.hierarchy import quiet
from tests.compat.place import changing, create, local_place, s3_place
from tests.mount.mounting import failing_mount, mounting
from tests.servers.fault_proxy import Answer, Fault, fault_proxy
from zfuse.daemon.control import ReportedError

pytestmark = [pytest.mark.compat, pytest.mark.fuse]


def refused(action, *arguments):
    with pytest.raises(OSError) as error:  # noqa: PT011 - the errno is what is looked at
        action(*arguments)
    return error.value.errno


def told(mount, words):
    """Return the lines of the log that say *words*, a regular expression."""
    return [line for line in mount.log.read_text().splitlines() if re.search(words, line)]


# --- objects of the repository -------------------------------------------------------------------


@pytest.fixture
def repo(tmp_path):
    repo = create(local_place(tmp_path), 2)
    with changing(repo, "data") as store:
        put_all(store, {"zarr.json": GROUP, "a/zarr.json": array_document((4000,), (1000,))})
        put_all(store, {f"a/c/{n}": bytes([n + 1]) * 1000 for n in range(3)})
        put(store, "large/zarr.json", array_document((20 << 20,), (10 << 20,)))
        put(store, "large/c/0", b"L" * (10 << 20))
    return repo


def object_of(path):
    """Return the file that holds a chunk."""
    repository = os.getxattr(path, "user.zfuse.repository").decode()
    return os.path.join(repository, "chunks", os.getxattr(path, "user.zfuse.object").decode())


@quiet
def test_a_missing_chunk_object(repo, mounted, tmp_path):
    mount = mounted(tmp_path / "repository", "--branch", "main")
    chunk, large = mount.path / "a/c/1", mount.path / "large/c/0"
    lost = [object_of(chunk), object_of(large)]
    for path in lost:
        os.unlink(path)
    assert chunk.stat().st_size == 1000
    assert sorted(os.listdir(chunk.parent)) == ["0", "1", "2"]
    for path in (chunk, large):
        assert refused(path.read_bytes) == errno.EIO
    # Where the kernel read ahead it asks once more, as a rule at once.
    assert [1 <= len(told(mount, f" ERROR .*{path}")) <= 2 for path in lost] == [True, True]
    array = zarr.open_array(mount.path / "a", mode="r")
    with pytest.raises(OSError, match="Input/output error"):
        array[:]
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(mount.path / "a")}}
    with pytest.raises(ValueError, match="Input/output error"):
        tensorstore.open(spec).result().read().result()
    assert array[:1000].tolist() == [1] * 1000
    assert array[3000:].tolist() == [0] * 1000
    shutil.copy(object_of(mount.path / "a/c/0"), lost[0])
    assert chunk.read_bytes() == b"\x01" * 1000  # nothing remembers the failure for long


@pytest.mark.parametrize("length", [0, 1, 999])
def test_a_truncated_chunk_object(length, repo, mounted, tmp_path):
    mount = mounted(tmp_path / "repository", "--branch", "main")
    chunk, large = mount.path / "a/c/1", mount.path / "large/c/0"
    for path in (chunk, large):
        os.truncate(object_of(path), length)
        assert refused(path.read_bytes) == errno.EIO
    assert told(
        mount, f" ERROR .*open branch/main/a/c/1: CorruptionError: .*{object_of(chunk)[-20:]}"
    )
    assert told(mount, f" ERROR .*read branch/main/large/c/0: .*{object_of(large)[-20:]}")


def test_the_first_part_of_a_large_chunk_is_read_though_the_rest_is_lost(repo, mounted, tmp_path):
    mount = mounted(tmp_path / "repository", "--branch", "main")
    large = mount.path / "large/c/0"
    os.truncate(object_of(large), 5 << 20)
    with large.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        assert os.pread(file.fileno(), 1000, 0) == b"L" * 1000
        assert refused(os.pread, file.fileno(), 1000, 9 << 20) == errno.EIO


# --- virtual chunks ------------------------------------------------------------------------------


@pytest.fixture
def virtual(tmp_path):
    """A repository with a virtual chunk in a file, and one in another with its time noted."""
    place = local_place(tmp_path)
    config = icechunk.RepositoryConfig.default()
    store = icechunk.local_filesystem_store(str(place.data))
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(place.prefix, store))
    repo = create(place, 2, config)
    for name in ("plain", "timed"):
        (place.data / name).write_bytes(name.encode() * 100)
        os.utime(place.data / name, (1_700_000_000, 1_700_000_000))
    with changing(repo, "virtual") as store:
        put(store, "a/zarr.json", array_document((2000,), (500,)))
        store.set_virtual_ref("a/c/0", place.prefix + "plain", offset=0, length=500)
        when = datetime.fromtimestamp(1_700_000_000, UTC)
        store.set_virtual_ref("a/c/1", place.prefix + "timed", offset=5, length=5, checksum=when)
    return place


def test_a_container_that_was_not_allowed(virtual, mounted):
    mount = mounted(virtual.url, "--branch", "main")
    assert (mount.path / "a/c/0").stat().st_size == 500
    assert refused((mount.path / "a/c/0").read_bytes) == errno.EACCES
    (line,) = told(mount, "branch/main/a/c/0")
    assert f"--allow-virtual {virtual.prefix}" in line
    assert virtual.prefix + "plain" in line


@pytest.mark.parametrize("cut", [-3, None], ids=["a beginning of the name", "somewhere else"])
def test_another_prefix_allows_nothing(cut, virtual, mounted):
    allowed = virtual.prefix[:cut] if cut else f"{virtual.prefix}sub/"
    mount = mounted(virtual.url, "--branch", "main", "--allow-virtual", allowed)
    assert refused((mount.path / "a/c/0").read_bytes) == errno.EACCES


def test_a_source_that_changed(virtual, mounted):
    mount = mounted(virtual.url, "--branch", "main", "--allow-virtual", virtual.prefix)
    os.utime(virtual.data / "timed", (1_700_000_100, 1_700_000_100))
    assert refused((mount.path / "a/c/1").read_bytes) == errno.EIO
    (line,) = told(mount, "branch/main/a/c/1")
    assert " ERROR " in line
    assert "changed since it was referenced" in line
    assert virtual.prefix + "timed" in line


@pytest.mark.parametrize("vanish", [os.unlink, lambda p: os.truncate(p, 100)])
def test_a_source_that_vanished(vanish, virtual, mounted):
    mount = mounted(virtual.url, "--branch", "main", "--allow-virtual", virtual.prefix)
    vanish(virtual.data / "plain")
    assert refused((mount.path / "a/c/0").read_bytes) == errno.EIO
    (line,) = told(mount, "branch/main/a/c/0")
    assert " ERROR " in line
    assert virtual.prefix + "plain" in line


def test_a_source_on_a_web_server(nginx, tmp_path, mounted):
    (nginx.root / "lost").mkdir()
    (nginx.root / "lost/data.bin").write_bytes(bytes(range(200)))
    prefix = f"{nginx.url}/lost/"
    config = icechunk.RepositoryConfig.default()
    config.set_virtual_chunk_container(
        icechunk.VirtualChunkContainer(prefix, icechunk.http_store())
    )
    repo = create(local_place(tmp_path), 2, config)
    with changing(repo, "virtual") as store:
        put(store, "a/zarr.json", array_document((300,), (100,)))
        store.set_virtual_ref("a/c/0", prefix + "data.bin", offset=7, length=100)
        store.set_virtual_ref("a/c/1", prefix + "none.bin", offset=0, length=100)
        etag = '"wrong"'
        store.set_virtual_ref("a/c/2", prefix + "data.bin", offset=0, length=9, checksum=etag)
    mount = mounted(tmp_path / "repository", "--branch", "main", "--allow-virtual", prefix)
    assert (mount.path / "a/c/0").read_bytes() == bytes(range(7, 107))
    assert refused((mount.path / "a/c/1").read_bytes) == errno.EIO
    assert refused((mount.path / "a/c/2").read_bytes) == errno.EIO
    assert "none.bin" in told(mount, "a/c/1")[0]
    assert "changed since it was referenced" in told(mount, "a/c/2")[0]


# --- the server ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def on_s3(s3_server, tmp_path_factory):
    place = s3_place(
        tmp_path_factory.mktemp("lost"),
        endpoint=s3_server.endpoint,
        bucket=s3_server.make_bucket(),
        prefix="lost",
        key=s3_server.access_key,
        secret=s3_server.secret_key,
    )
    with changing(create(place, 2), "data") as store:
        put(store, "a/zarr.json", array_document((4000,), (1000,)))
        put_all(store, {f"a/c/{n}": bytes([n + 1]) * 1000 for n in range(3)})
    with fault_proxy(s3_server.endpoint) as proxy:
        yield place, proxy, s3_server.environment() | {"AWS_ENDPOINT_URL": proxy.url}


STYLE = "--force-path-style"


@pytest.mark.parametrize(
    ("changes", "options", "code", "words"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, [], 12, "credentials|denied|SignatureDoesNotMatch"),
        ({"AWS_ACCESS_KEY_ID": "unknown"}, [], 12, "credentials|denied|InvalidAccessKeyId"),
        ({}, ["--anonymous"], 12, "credentials|denied|anonymous"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, ["--deadline", "2"], 75, "reachable"),
        (
            {"AWS_ENDPOINT_URL": "http://no.such.host.invalid"},
            ["--deadline", "60"],
            75,
            "no host named",
        ),
        ({}, ["--profile", "nobody"], 2, "nobody"),
    ],
)
def test_no_way_into_the_store(changes, options, code, words, on_s3, tmp_path):
    place, _, environment = on_s3
    found, line = failing_mount(
        place.url, tmp_path / "mount", STYLE, *options, env=environment | changes
    )
    assert (found, bool(re.search(words, line))) == (code, True), line


@pytest.mark.parametrize("url", ["s3://no-such-bucket-here/x", "s3://{bucket}/elsewhere"])
def test_no_repository_in_the_store(url, on_s3, tmp_path):
    place, _, environment = on_s3
    location = url.format(bucket=place.url.split("/")[2])
    code, line = failing_mount(location, tmp_path / "mount", STYLE, env=environment)
    assert code == 10, line
    assert location in line


def test_a_store_that_goes_away_and_comes_back(on_s3, tmp_path):
    place, proxy, environment = on_s3
    proxy.plan = lambda _request: None
    options = [STYLE, "--branch", "main", "--deadline", "8"]
    with mounting(place.url, tmp_path / "mount", *options, env=environment) as mount:
        read = (mount.path / "a/c/0").read_bytes
        assert read() == b"\x01" * 1000
        proxy.plan = lambda _request: Fault.UNAVAILABLE
        assert read() == b"\x01" * 1000
        assert (mount.path / "a/c/1").stat().st_size == 1000
        assert refused((mount.path / "a/c/1").read_bytes) == errno.EIO
        (line,) = told(mount, " ERROR .*a/c/1")
        # The last attempt may be cut off by the deadline.
        assert re.search(r"chunks/[0-9A-Z]{20}.*(SlowDown|no answer)", line)
        proxy.plan = lambda _request: None
        assert (mount.path / "a/c/1").read_bytes() == b"\x02" * 1000


def test_credentials_that_expire(on_s3, tmp_path):
    place, proxy, environment = on_s3
    denied = Answer("403 Forbidden", body=b"<Error><Code>AccessDenied</Code></Error>")
    proxy.plan = lambda _request: None
    with mounting(place.url, tmp_path / "mount", STYLE, env=environment) as mount:
        chunks = mount.path / "branch/main/a/c"
        assert len(os.listdir(chunks)) == 3
        proxy.plan = lambda _request: denied
        assert refused((chunks / "2").read_bytes) == errno.EACCES
        (line,) = told(mount, " ERROR .*a/c/2")
        assert "AccessDenied" in line
        with pytest.raises(ReportedError, match=r"[dD]enied") as refresh:
            mount.call("refresh")
        assert refresh.value.exit_code == 12
        proxy.plan = lambda _request: None
        assert (chunks / "2").read_bytes() == b"\x03" * 1000
        assert mount.call("refresh")["moved"] == []
