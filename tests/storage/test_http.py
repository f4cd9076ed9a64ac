import itertools
import os

import pytest
import trio

from tests.contracts.storage import BIG, StorageReadContract
from tests.servers.fault_proxy import Answer, fault_proxy
from zfuse.byterange import ByteRange
from zfuse.errors import (
    AccessDeniedError,
    NotAllowedError,
    PreconditionFailedError,
    StorageError,
    TransientStorageError,
)
from zfuse.storage.base import ABSENT, Unmodified
from zfuse.storage.open import StorageOpener

_numbers = itertools.count()


@pytest.fixture
def folder(nginx):
    path = nginx.root / f"folder-{next(_numbers)}"
    path.mkdir()
    return path


@pytest.fixture
def fill(folder):
    async def fill(key, data):
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return fill


class TestHttpStorage(StorageReadContract):
    @pytest.fixture
    async def storage(self, opener, nginx, folder):
        return (await opener.open(f"{nginx.url}/{folder.name}"))._inner


class TestServerWithoutRanges(StorageReadContract):
    @pytest.fixture
    async def storage(self, opener, nginx, folder):
        return (await opener.open(f"{nginx.url}/no-ranges/{folder.name}/"))._inner


class TestRedirects(StorageReadContract):
    @pytest.fixture
    async def storage(self, opener, nginx, folder):
        return (await opener.open(f"{nginx.url}/moved/{folder.name}"))._inner


async def test_writing_deleting_and_listing_are_refused(opener, nginx):
    storage = await opener.open(nginx.url)
    with pytest.raises(NotAllowedError):
        await storage.put("k", b"x")
    with pytest.raises(NotAllowedError):
        await storage.put("k", b"x", expect=ABSENT)
    with pytest.raises(NotAllowedError):
        await storage.delete("k")
    with pytest.raises(NotAllowedError):
        [info async for info in storage.list("")]


async def test_a_forbidden_file_is_access_denied(opener, nginx, fill):
    storage = await opener.open(f"{nginx.url}/private")
    for call in (storage.get("k"), storage.head("k"), storage.get_range("k", ByteRange(0, 1))):
        with pytest.raises(AccessDeniedError, match="/private/k"):
            await call


async def test_the_time_of_a_file_with_a_fraction_of_a_second_passes(opener, nginx, folder):
    (folder / "k").write_bytes(b"hello")
    os.utime(folder / "k", (100.75, 100.75))
    storage = await opener.open(f"{nginx.url}/{folder.name}")
    wanted = Unmodified(last_modified=100)
    assert await storage.get_range("k", ByteRange(0, 2), unmodified=wanted) == b"he"
    assert (await storage.head("k")).last_modified_ns == 100 * 10**9


async def test_without_ranges_only_what_is_needed_is_read(opener, nginx, folder):
    (folder / "big").write_bytes(BIG * 8)
    with fault_proxy(nginx.url) as proxy:
        storage = await opener.open(f"{proxy.url}/no-ranges/{folder.name}")
        assert await storage.get_range("big", ByteRange(10, 20)) == BIG[10:20]
        await trio.sleep(0.05)
        assert proxy.bytes_sent < len(BIG * 8) // 2


async def test_redirects_are_judged_behind_a_proxy_too(monkeypatch, nginx):
    with fault_proxy(nginx.url) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        proxy.plan = lambda _request: Answer("302 Found", {"Location": f"{nginx.url}/k"})
        async with StorageOpener() as opener:
            storage = await opener.open("http://far.example/data")
            with pytest.raises(StorageError, match="private network"):
                await storage.get("k")
        assert [request.target for request in proxy.requests] == ["http://far.example/data/k"]


async def test_a_proxy_needs_no_scheme(monkeypatch, nginx):
    with fault_proxy(nginx.url) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removeprefix("http://"))
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        proxy.plan = lambda _request: Answer("200 OK", body=b"hello")
        async with StorageOpener() as opener:
            storage = await opener.open("http://far.example/data")
            assert (await storage.get("k")).data == b"hello"


async def test_a_proxy_that_can_not_be_is_named(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://somewhere:port")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with StorageOpener() as opener:
        storage = await opener.open("http://far.example/data")
        with pytest.raises(StorageError, match="http_proxy"):
            await storage.get("k")


class TestOddServers:
    """Servers that keep less than the standard asks for."""

    @pytest.fixture
    def proxy(self, nginx):
        with fault_proxy(nginx.url) as proxy:
            yield proxy

    @pytest.fixture
    async def storage(self, opener, proxy):
        return (await opener.open(proxy.url))._inner

    def answer(self, proxy, status, body=b"", **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        proxy.plan = lambda _request: Answer(status, headers, body)

    async def test_another_range_than_asked_is_an_error(self, storage, proxy):
        self.answer(proxy, "206 Partial Content", b"hel", Content_Range="bytes 0-2/5")
        with pytest.raises(TransientStorageError, match="asked for bytes 1-3"):
            await storage.get_range("k", ByteRange(1, 4))

    async def test_a_shorter_range_than_asked_is_an_error(self, storage, proxy):
        self.answer(proxy, "206 Partial Content", b"el", Content_Range="bytes 1-2/9")
        with pytest.raises(TransientStorageError, match="got 1-2"):
            await storage.get_range("k", ByteRange(1, 4))

    async def test_a_longer_range_than_asked_is_refused(self, storage, proxy):
        self.answer(proxy, "206 Partial Content", b"ello", Content_Range="bytes 1-4/5")
        with pytest.raises(StorageError, match="sends more"):
            await storage.get_range("k", ByteRange(1, 3))

    @pytest.mark.parametrize("location", ["/a b", "http://[::1/", "http://a..b/", "http://h:x/"])
    async def test_odd_redirects_are_storage_errors(self, storage, proxy, location):
        self.answer(proxy, "302 Found", Location=location)
        with pytest.raises(StorageError, match=r"valid URL|circles"):
            await storage.get("k")
        assert proxy.requests[-1].target in {"/k", "/a%20b"}

    async def test_fewer_bytes_than_the_range_has_is_an_error(self, storage, proxy):
        self.answer(proxy, "206 Partial Content", b"el", Content_Range="bytes 1-3/5")
        with pytest.raises(TransientStorageError, match="broke off"):
            await storage.get_range("k", ByteRange(1, 4))

    async def test_an_unknown_size_is_taken_at_its_word(self, storage, proxy):
        self.answer(proxy, "206 Partial Content", b"lo", Content_Range="bytes 3-4/*")
        assert await storage.get_range("k", ByteRange(3, 9)) == b"lo"

    async def test_a_partial_answer_must_tell_its_range(self, storage, proxy):
        self.answer(proxy, "206 Partial Content", b"el")
        with pytest.raises(StorageError, match="which range"):
            await storage.get_range("k", ByteRange(1, 3))

    async def test_416_inside_the_object_is_an_error(self, storage, proxy):
        self.answer(proxy, "416 Range Not Satisfiable", Content_Range="bytes */5")
        with pytest.raises(StorageError, match="refuses"):
            await storage.get_range("k", ByteRange(1, 3))
        assert await storage.get_range("k", ByteRange(5, 7)) == b""

    async def test_a_server_that_ignores_preconditions_is_found_out(self, storage, proxy):
        self.answer(
            proxy,
            "200 OK",
            b"hello",
            ETag='"now"',
            Last_Modified="Thu, 01 Jan 1970 00:01:40 GMT",
        )
        for wanted in (Unmodified(etag="then"), Unmodified(last_modified=99)):
            with pytest.raises(PreconditionFailedError, match="changed"):
                await storage.get_range("k", ByteRange(0, 1), unmodified=wanted)
        wanted = Unmodified(etag="now", last_modified=100)
        assert await storage.get_range("k", ByteRange(0, 1), unmodified=wanted) == b"h"

    async def test_what_a_server_does_not_tell_can_not_be_verified(self, storage, proxy):
        self.answer(proxy, "200 OK", b"hello")
        for wanted in (Unmodified(etag="then"), Unmodified(last_modified=99)):
            with pytest.raises(PreconditionFailedError, match="can not be verified"):
                await storage.get_range("k", ByteRange(0, 1), unmodified=wanted)

    async def test_a_weak_etag_is_compared_here(self, storage, proxy):
        self.answer(proxy, "200 OK", b"hello", ETag='W/"now"')
        wanted = Unmodified(etag='W/"now"')
        assert await storage.get_range("k", ByteRange(0, 1), unmodified=wanted) == b"h"
        assert "if-match" not in proxy.requests[-1].headers

    async def test_a_size_that_is_not_told_is_an_error(self, storage, proxy):
        self.answer(proxy, "204 No Content")
        with pytest.raises(StorageError, match="unexpected answer 204"):
            await storage.head("k")

    async def test_circles_end(self, storage, proxy):
        self.answer(proxy, "302 Found", Location=f"{proxy.url}/k")
        with pytest.raises(StorageError, match="circles"):
            await storage.get("k")
        assert len(proxy.requests) < 20

    @pytest.mark.parametrize("status", ["418 I'm a teapot", "400 Bad Request", "501 No"])
    async def test_other_refusals_are_not_repeated(self, storage, proxy, status):
        self.answer(proxy, status)
        with pytest.raises(StorageError, match=status[:3]) as caught:
            await storage.get("k")
        assert not isinstance(caught.value, TransientStorageError)

    @pytest.mark.parametrize(
        "status", ["408 T", "429 Too Many", "500 E", "502 B", "503 U", "504 G"]
    )
    async def test_passing_troubles_may_be_repeated(self, storage, proxy, status):
        self.answer(proxy, status)
        with pytest.raises(TransientStorageError, match=status[:3]):
            await storage.get("k")


async def test_a_certificate_that_is_not_trusted_is_told_at_once(opener, nginx):
    storage = await opener.open(nginx.tls_url)
    with pytest.raises(StorageError, match="certificate"):
        await storage.get("k")
    assert storage.stats.retries == 0


async def test_https_to_a_port_that_speaks_http(opener, nginx):
    storage = await opener.open(nginx.url.replace("http:", "https:"))
    with pytest.raises(StorageError, match="TLS"):
        await storage.get("k")
