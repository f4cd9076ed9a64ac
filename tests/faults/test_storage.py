"""Storages in front of stores that break, stall and lie, through a proxy that makes them so."""

import itertools
import socket
import threading
from functools import partial

import pytest
import trio

from tests.servers.fault_proxy import Answer, Fault, fault_proxy, first, share
from tests.servers.seaweedfs import REGION
from zfuse.byterange import ByteRange
from zfuse.errors import OutcomeUnknownError, StorageTimeoutError, VersionMismatchError
from zfuse.storage.base import ABSENT, Unmodified
from zfuse.storage.open import StorageOpener
from zfuse.storage.options import StorageOptions

_numbers = itertools.count()
DATA = bytes(range(256)) * 1200  # 300 KiB


@pytest.fixture
async def opener():
    async with StorageOpener() as opener:
        yield opener


@pytest.fixture(scope="module")
def fault_bucket(s3_server):
    return s3_server.make_bucket()


@pytest.fixture
def proxy(s3_server):
    with fault_proxy(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def open_storage(opener, proxy, s3_server, fault_bucket):
    location = f"s3://{fault_bucket}/faults/{next(_numbers)}"

    async def open_storage(deadline_s=120.0):
        options = StorageOptions(
            endpoint_url=proxy.url,
            region=REGION,
            force_path_style=True,
            access_key_id=s3_server.access_key,
            secret_access_key=s3_server.secret_key,
            deadline_s=deadline_s,
        )
        return await opener.open(location, options)

    return open_storage


@pytest.fixture
async def storage(open_storage):
    return await open_storage()


async def until(condition):
    with trio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - another thread makes it true
            await trio.sleep(0.01)


def reads(proxy):
    """Return how many reads the proxy has seen."""
    return sum(request.method == "GET" for request in proxy.requests)


async def in_parallel(function, items):
    async with trio.open_nursery() as nursery:
        for item in items:
            nursery.start_soon(function, item)


ABSORBED = [
    (Fault.UNAVAILABLE,),
    (Fault.ERROR,),
    (Fault.RESET,),
    (Fault.LOST,),
    (Fault.TRUNCATE,),
    (Answer("429 Too Many Requests"),),
    (Fault.UNAVAILABLE, Fault.RESET, Fault.TRUNCATE, Fault.ERROR, Fault.LOST),
]


@pytest.mark.parametrize("faults", ABSORBED, ids=str)
async def test_a_fifth_of_requests_failing_is_absorbed(storage, proxy, faults):
    keys = [f"k{n}" for n in range(40)]
    proxy.plan = share(0.2, *faults)

    async def write_and_read(key):
        await storage.put(key, DATA + key.encode())
        assert (await storage.get(key)).data == DATA + key.encode()
        assert await storage.get_range(key, ByteRange(1000, 200_000)) == DATA[1000:200_000]
        assert (await storage.head(key)).size == len(DATA) + len(key)

    await in_parallel(write_and_read, keys)
    assert {info.key async for info in storage.list("")} == set(keys)
    await in_parallel(storage.delete, keys)
    assert storage.stats.errors == 0
    assert storage.stats.retries > 0


async def test_truncated_listings_are_read_again(storage, proxy):
    keys = [f"k{n}" for n in range(30)]
    await in_parallel(lambda key: storage.put(key, b"x"), keys)
    proxy.plan = first(2, Fault.TRUNCATE)
    assert {info.key async for info in storage.list("")} == set(keys)


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.DRIP])
async def test_one_that_hangs_is_left_for_another(open_storage, proxy, fault):
    await (await open_storage()).put("k", DATA)
    storage = await open_storage(deadline_s=12)
    proxy.plan = first(1, fault)
    assert (await storage.get("k")).data == DATA
    assert storage.stats.retries >= 1


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.DRIP, Fault.UNAVAILABLE, Fault.TRUNCATE])
async def test_what_never_works_ends_at_the_deadline(open_storage, proxy, fault):
    await (await open_storage()).put("k", DATA)
    storage = await open_storage(deadline_s=1)
    proxy.plan = lambda _request: fault
    with trio.fail_after(60):
        for call in (
            storage.get("k"),
            storage.get_range("k", ByteRange(0, len(DATA))),
            storage.get_range("k", ByteRange(0, 9), unmodified=Unmodified(last_modified=2**31)),
        ):
            with pytest.raises(StorageTimeoutError, match="k failed after"):
                await call


async def test_14_hanging_reads_do_not_keep_others_waiting(storage, proxy):
    await storage.put("slow", DATA)
    await storage.put("fast", DATA)
    proxy.plan = lambda request: Fault.HANG if request.target.endswith("slow") else None
    async with trio.open_nursery() as nursery:
        for _ in range(14):
            nursery.start_soon(storage.get, "slow")
        await until(lambda: reads(proxy) == 14)
        with trio.fail_after(60):  # those that hang end in twice the time
            assert (await storage.get("fast")).data == DATA
        nursery.cancel_scope.cancel()


async def test_cancelled_reads_leave_no_connection_behind(storage, proxy):
    await storage.put("k", DATA)
    proxy.plan = lambda _request: Fault.HANG
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(storage.get, "k")
        await until(lambda: reads(proxy) == 20)
        nursery.cancel_scope.cancel()
    proxy.plan = lambda _request: None
    for _ in range(3):
        assert (await storage.get("k")).data == DATA


class TestConditionalPuts:
    async def test_refusals_are_absorbed(self, storage, proxy):
        proxy.plan = first(3, Fault.UNAVAILABLE, "PUT")
        version = await storage.put("k", b"1", expect=ABSENT)
        proxy.plan = first(3, Fault.UNAVAILABLE, "PUT")
        await storage.put("k", b"2", expect=version)
        assert (await storage.get("k")).data == b"2"
        assert storage.stats.retries == 6

    @pytest.mark.parametrize("fault", [Fault.LOST, Fault.RESET, Fault.ERROR])
    async def test_a_lost_answer_is_never_taken_for_a_lost_race(self, storage, proxy, fault):
        """The write may have landed: it is neither repeated nor called a conflict."""
        version = await storage.put("k", b"1", expect=ABSENT)
        for key, expect in (("k", version), ("new", ABSENT)):
            sent = len(proxy.requests)
            proxy.plan = first(1, fault, "PUT")
            with pytest.raises(OutcomeUnknownError):
                await storage.put(key, b"2", expect=expect)
            assert len(proxy.requests) == sent + 1
        landed = fault is Fault.LOST
        assert ((await storage.get("k")).data == b"2") == landed
        assert {info.key async for info in storage.list("")} == ({"k", "new"} if landed else {"k"})

    async def test_no_answer_until_the_deadline(self, open_storage, proxy):
        storage = await open_storage(deadline_s=2)
        proxy.plan = first(1, Fault.HANG, "PUT")
        with pytest.raises(OutcomeUnknownError):
            await storage.put("k", b"1", expect=ABSENT)

    async def test_a_stale_connection_does_not_make_the_outcome_unknown(self, storage, proxy):
        """Each goes over a new connection, which no server has closed meanwhile."""
        await storage.put("k", b"1", expect=ABSENT)
        before = proxy.connections
        with pytest.raises(VersionMismatchError):
            await storage.put("k", b"2", expect=ABSENT)
        assert proxy.connections == before + 1

    async def test_a_down_endpoint_is_no_unknown_outcome(self, opener):
        """It is repeated, as nothing is whose outcome is not known."""
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
            options = StorageOptions(
                endpoint_url=f"http://127.0.0.1:{closed.getsockname()[1]}", region=REGION,
                access_key_id="a", secret_access_key="b", deadline_s=120,
            )  # fmt: skip
            storage = await opener.open("s3://bucket", options)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(storage.put, "k", b"1", expect=ABSENT))
                await until(lambda: storage.stats.retries > 3)
                nursery.cancel_scope.cancel()


async def test_the_limit_of_requests_at_once_holds_on_the_wire(storage, proxy):
    await storage.put("k", DATA[:3000])
    proxy.latency_s = 0.05
    await in_parallel(storage.get, ["k"] * 400)
    assert proxy.connections <= 130


async def test_http_absorbs_faults_too(opener, nginx):
    (nginx.root / "faulty").write_bytes(DATA)
    with fault_proxy(nginx.url) as proxy:
        proxy.plan = share(0.2, Fault.UNAVAILABLE, Fault.RESET, Fault.TRUNCATE, Fault.LOST)
        storage = await opener.open(proxy.url, StorageOptions(deadline_s=120))

        async def read(n):
            assert await storage.get_range("faulty", ByteRange(n, n + 9999)) == DATA[n : n + 9999]

        await in_parallel(read, range(0, 100_000, 1000))
        assert storage.stats.errors == 0
        assert storage.stats.retries > 0


async def test_closing_fails_what_is_under_way_and_leaves_no_thread(proxy, nginx):
    proxy.plan = lambda _request: Fault.HANG
    async with trio.open_nursery() as nursery:
        async with StorageOpener() as opener:
            storage = await opener.open(proxy.url)
            nursery.start_soon(storage.get, "k")
            await until(lambda: reads(proxy) == 1)
        nursery.cancel_scope.cancel()
    assert "zfuse-asyncio" not in {t.name for t in threading.enumerate()}
