"""Reads that hang in the store leave the rest of the mount answering, and end with EIO."""

import contextlib
import errno
import json
import os
import re
import subprocess
import sys
import time

import pytest

from tests.compat.documents import array_document, put, put_all
from tests.compat.place import changing, create, s3_place
from tests.mount.mounting import mounting
from tests.servers.fault_proxy import Fault, fault_proxy

pytestmark = [pytest.mark.compat, pytest.mark.fuse]

CHUNKS = 600
SHARD = 40 << 20
STEP = SHARD // CHUNKS // 4096 * 4096
DEADLINE_S = 6
ANSWER_S = DEADLINE_S / 2
"""What the rest of the mount may take: less than it would if it waited for those that hang."""

SHARDED = {
    "name": "sharding_indexed",
    "configuration": {
        "chunk_shape": [1 << 20],
        "codecs": [{"name": "bytes"}],
        "index_codecs": [{"name": "bytes"}],
    },
}

READERS = """
import json, os, sys, threading, time
errors = []
def read(path, offset):
    try:
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        print("reading", flush=True)
        os.pread(descriptor, 100, offset)
        errors.append(0)
    except OSError as error:
        errors.append(error.errno)
started = time.monotonic()
threads = [threading.Thread(target=read, args=item) for item in json.loads(sys.argv[1])]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps([time.monotonic() - started, errors]), flush=True)
"""


@pytest.fixture(scope="module")
def repository(s3_server, tmp_path_factory):
    """A repository on S3 with many chunks and a large shard, behind a proxy."""
    place = s3_place(
        tmp_path_factory.mktemp("blocked"),
        endpoint=s3_server.endpoint,
        bucket=s3_server.make_bucket(),
        prefix="blocked",
        key=s3_server.access_key,
        secret=s3_server.secret_key,
    )
    shard = array_document((SHARD,), (SHARD,), codecs=[SHARDED])
    with changing(create(place, 2), "data") as store:
        put_all(
            store, {"plain/zarr.json": array_document((CHUNKS,), (1,)), "shard/zarr.json": shard}
        )
        put_all(store, {f"plain/c/{n}": bytes([n % 250]) * 600 for n in range(CHUNKS)})
        put(store, "shard/c/0", os.urandom(SHARD))
    with fault_proxy(s3_server.endpoint) as proxy:
        yield place.url, proxy, s3_server.environment() | {"AWS_ENDPOINT_URL": proxy.url}


@pytest.fixture
def mount(repository, tmp_path):
    url, proxy, environment = repository
    proxy.plan = lambda _request: None
    options = ["--force-path-style", "--branch", "main", "--deadline", str(DEADLINE_S)]
    with mounting(url, tmp_path / "mount", *options, env=environment) as mount:
        yield mount, proxy


def hang_chunks(request):
    return Fault.HANG if request.method == "GET" and "/chunks/" in request.target else None


@contextlib.contextmanager
def blocked(proxy, reads):
    """Read each (path, offset) in a thread of its own, while the store hangs; give a result()."""
    proxy.plan = hang_chunks
    command = [sys.executable, "-c", READERS, json.dumps([(str(p), o) for p, o in reads])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def result():
        lines, _ = process.communicate(timeout=10 * DEADLINE_S)
        return json.loads(lines.splitlines()[-1])

    try:
        yield result
    finally:
        proxy.plan = lambda _request: None
        process.kill()
        process.communicate(timeout=60)


def wait_until_hanging(proxy, count, before):
    # A store is asked a limited number of questions at once; the rest wait in the daemon.
    deadline = time.monotonic() + 30
    while len(proxy.requests) - before < min(count, 100):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def longest(actions):
    """Return the seconds that the slowest of *actions* takes, and its number."""
    taken = []
    for number, action in enumerate(actions):
        started = time.monotonic()
        action()
        taken.append((time.monotonic() - started, number))
    return max(taken)


def everyday_work(directory, cached):
    """Return actions that need no store, on names that the kernel does not know yet."""
    return [
        *(lambda n=n: os.stat(directory / f"plain/c/{n}") for n in range(500, 520)),
        lambda: os.listdir(directory / "plain/c"),
        lambda: [entry.stat() for entry in os.scandir(directory / "plain/c")],
        lambda: os.listdir(directory),
        lambda: os.statvfs(directory),
        (directory / "plain/zarr.json").read_bytes,
        (directory / ".zfuse/status.json").read_bytes,
        lambda: os.getxattr(directory / "plain/c/599", "user.zfuse.kind"),
        *(cached.read_bytes for _ in range(3)),
    ]


@pytest.mark.parametrize("count", [14, 100, 500])
def test_the_rest_of_the_mount_answers(count, mount):
    """So many readers hang in open(2) of chunks, and as many in read(2) of a shard."""
    mount, proxy = mount
    directory = mount.path
    cached = directory / "plain/c/550"
    assert cached.read_bytes() == bytes([550 % 250]) * 600
    os.stat(directory / "shard/c/0")
    before = len(proxy.requests)
    chunks = [(directory / f"plain/c/{n}", 0) for n in range(count)]
    shards = [(directory / "shard/c/0", n * STEP) for n in range(count)]
    with blocked(proxy, [*chunks, *shards]) as result:
        wait_until_hanging(proxy, 2 * count, before)
        slowest, number = longest(everyday_work(directory, cached))
        assert slowest < ANSWER_S, f"number {number} took {slowest:.1f} s"
        seconds, errors = result()
    assert errors == [errno.EIO] * 2 * count
    assert 0.9 * DEADLINE_S <= seconds < 3 * DEADLINE_S
    log = mount.log.read_text()
    assert_told_once_each(log, count)
    # And all is well again once the store is.
    assert (directory / "plain/c/1").read_bytes() == b"\x01" * 600


def assert_told_once_each(log, count):
    """Fail unless each read left one line: operation, path, object and cause."""
    lines = [line for line in log.splitlines() if "chunks/" in line or " ERROR " in line]
    opens = [re.search(r" ERROR .*open branch/main/plain/c/(\d+): ", line) for line in lines]
    reads = [line for line in lines if " ERROR " in line and "read branch/main/shard/c/0" in line]
    assert {int(found[1]) for found in opens if found} == set(range(count))
    assert len(reads) == count
    assert len(lines) == 2 * count
    why = "no answer|too many calls at once|stopped answering"
    cause = rf"StorageTimeoutError: .*chunks/[0-9A-Z]{{20}} .*({why})"
    assert [line for line in lines if not re.search(cause, line)] == []
