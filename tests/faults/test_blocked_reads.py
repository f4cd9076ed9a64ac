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
FOREVER_S = 240
DEADLINE_S = 10

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
        if offset:
            os.write(1, b"reading\\n")
        os.pread(descriptor, 100, offset)
        errors.append(0)
    except OSError as error:
        errors.append(error.errno)
    os.write(ended, b".")
ended = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
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
    """A function that mounts it for main, with a deadline in seconds; and the proxy."""
    url, proxy, environment = repository
    proxy.plan = lambda _request: None
    with contextlib.ExitStack() as stack:

        def make(deadline_s):
            options = ["--force-path-style", "--branch", "main", "--deadline", str(deadline_s)]
            made = mounting(url, tmp_path / "mount", *options, env=environment)
            return stack.enter_context(made)

        yield make, proxy
        proxy.plan = lambda _request: None
        proxy.let_go()


def hang_chunks(request):
    return Fault.HANG if request.method == "GET" and "/chunks/" in request.target else None


class Readers:
    """So many readers in open(2) of chunks, and as many in read(2) of a shard, in a process."""

    def __init__(self, directory, count, place):
        chunks = [(f"{directory}/plain/c/{n}", 0) for n in range(count)]
        shards = [(f"{directory}/shard/c/0", n * STEP + 1) for n in range(count)]
        self.count = count
        self._ended = place / "ended"
        command = [sys.executable, "-c", READERS, json.dumps([*chunks, *shards]), self._ended]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.communicate(timeout=60)

    def wait_until_hanging(self, proxy, before):
        for _ in range(self.count):
            assert self._process.stdout.readline() == "reading\n"
        # A store is asked a limited number of questions at once; the rest wait in the daemon.
        end = time.monotonic() + 120
        while len(proxy.requests) - before < min(self.count, 100):
            assert time.monotonic() < end
            time.sleep(0.02)

    @property
    def ended(self):
        """How many of the reads have come to an end."""
        return self._ended.stat().st_size

    def result(self):
        """Return the seconds that all took together, and what became of each."""
        lines, _ = self._process.communicate(timeout=120)
        return json.loads(lines.splitlines()[-1])


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
def test_the_rest_of_the_mount_answers(count, mount, tmp_path):
    """It does not wait for any of those that hang."""
    make, proxy = mount
    directory = make(FOREVER_S).path
    cached = directory / "plain/c/550"
    assert cached.read_bytes() == bytes([550 % 250]) * 600
    os.stat(directory / "shard/c/0")
    before, proxy.plan = len(proxy.requests), hang_chunks
    with Readers(directory, count, tmp_path) as readers:
        readers.wait_until_hanging(proxy, before)
        for action in everyday_work(directory, cached):
            action()
        assert readers.ended == 0
        # And all is well again once the store is.
        proxy.plan = lambda _request: None
        proxy.let_go()
        assert readers.result()[1] == [0] * 2 * count
    assert (directory / "plain/c/1").read_bytes() == b"\x01" * 600


def test_reads_that_hang_end_at_the_deadline(mount, tmp_path):
    make, proxy = mount
    mounted, count = make(DEADLINE_S), 500
    proxy.plan = hang_chunks
    with Readers(mounted.path, count, tmp_path) as readers:
        seconds, errors = readers.result()
    assert errors == [errno.EIO] * 2 * count
    assert seconds >= 0.9 * DEADLINE_S
    assert_told(mounted.log.read_text(), count)


def assert_told(log, count):
    """Fail unless each request of the kernel left a line: operation, path, object and cause.

    It asks once more where it read ahead; after seconds, that is a failure of its own. What it
    read ahead for one reader may be the page of another, who then has no request of his own.
    On a busy machine not all come to tell their cause before they are ended.
    """
    lines = [line for line in log.splitlines() if "chunks/" in line or " ERROR " in line]
    opens = [re.search(r" ERROR .*open branch/main/plain/c/(\d+): ", line) for line in lines]
    numbers = [int(found[1]) for found in opens if found]
    reads = [line for line in lines if " ERROR " in line and "read branch/main/shard/c/0" in line]
    assert sorted(numbers) == list(range(count))
    assert 0.9 * count <= len(reads) <= 2 * count
    assert len(lines) == len(numbers) + len(reads)
    why = "no answer|too many calls at once|stopped answering"
    cause = rf"StorageTimeoutError: .*chunks/[0-9A-Z]{{20}} .*({why})"
    told = [line for line in lines if re.search(cause, line)]
    ended = [line for line in lines if line.endswith(f": no answer within {DEADLINE_S} s")]
    assert told
    assert len(told) + len(ended) == len(lines)
