from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from zfuse.byterange import ByteRange
from zfuse.errors import StorageError, TransientStorageError
from zfuse.storage.asyncio_thread import AsyncioThread
from zfuse.storage.http_connection import Connection, KeptConnections
from zfuse.storage.http_pool import HttpPool
from zfuse.storage.http_session import HttpRequest, HttpSession

ORIGIN = ("http", "host", 80, 0)


@asynccontextmanager
async def server(answer):
    """Give the URL of a server that answers each request with what ``answer(number)`` returns.

    The number is that of the connection; where the answer is None it stays silent for good.
    """
    count = 0

    async def serve(stream):
        nonlocal count
        count += 1
        number = count
        while await stream.receive_some(1 << 16):
            data = await answer(number)
            if data is None:
                await trio.sleep_forever()
            await stream.send_all(data)
            if b"Content-Length: 2" not in data:
                break

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def sent(pool, url, window=None):
    return await pool.send(HttpRequest("GET", url, {}, window=window))


@pytest.fixture
async def connected():
    """Return a function that gives a connection and the socket at its other end."""
    sockets = []

    def connected():
        pair = trio.socket.socketpair()
        sockets.extend(pair)
        return Connection(trio.SocketStream(pair[0]), None), pair[1]

    yield connected
    for each in sockets:
        each.close()


def is_open(connection):
    return connection.plain.socket.fileno() >= 0


class TestKeptConnections:
    async def test_the_last_used_is_taken_first(self, connected):
        kept = KeptConnections()
        (first, _), (second, _) = connected(), connected()
        kept.put(ORIGIN, first)
        kept.put(ORIGIN, second)
        assert kept.take(("http", "other", 80, 0)) is None
        assert [kept.take(ORIGIN) for _ in range(3)] == [second, first, None]

    async def test_after_15_seconds_they_are_closed(self, autojump_clock, connected):
        kept = KeptConnections()
        (old, _), (young, _) = connected(), connected()
        kept.put(ORIGIN, old)
        await trio.sleep(14)
        kept.put(ORIGIN, young)
        await trio.sleep(2)
        assert kept.take(("http", "other", 80, 0)) is None
        assert (is_open(old), is_open(young), len(kept)) == (False, True, 1)
        await trio.sleep(16)
        assert kept.take(ORIGIN) is None
        assert not is_open(young)

    async def test_what_the_other_side_has_closed_is_not_used(self, connected):
        kept = KeptConnections()
        (live, _peer), (closed, peer) = connected(), connected()
        kept.put(ORIGIN, live)
        kept.put(ORIGIN, closed)
        peer.close()
        assert kept.take(ORIGIN) is live
        assert not is_open(closed)

    async def test_too_many_origins_close_the_one_unused_for_longest(self, connected):
        kept, connections = KeptConnections(), []
        for port in range(258):
            connections.append(connected()[0])
            kept.put(("http", "host", port, 0), connections[-1])
        assert len(kept) == 256
        assert [is_open(c) for c in connections[:4]] == [False, False, True, True]
        kept.close_all()
        assert not any(map(is_open, connections))


async def test_one_vanished_peer_closes_all_kept_connections_to_it():
    vanished, used, all_there = False, [], trio.Event()

    async def answer(number):
        if vanished and number <= 4:
            return None
        used.append(number)
        if len(used) == 4:
            all_there.set()
        await all_there.wait()
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    pool = HttpPool(60)
    async with server(answer) as url:
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(sent, pool, url)
        assert len(pool._kept) == 4
        vanished = True
        pool._idle_s = 0.3
        with pytest.raises(TransientStorageError, match="stopped answering"):
            await sent(pool, url)
        pool._idle_s = 60
        assert (await sent(pool, url)).body == b"ok"
        assert used[4:] == [5]
    await pool.aclose()


@pytest.mark.parametrize("length", [b"5", b"1000000000000000"])
async def test_a_partial_answer_longer_than_asked_is_refused(length):
    async def answer(_number):
        head = b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-4/9\r\nContent-Length: "
        return head + length + b"\r\n\r\nhello"

    async with server(answer) as url:
        with pytest.raises(StorageError, match="asked for 4 bytes") as caught:
            await sent(HttpPool(60), url, ByteRange(0, 4))
        assert not isinstance(caught.value, TransientStorageError)
        async with AsyncioThread() as thread:
            session = HttpSession(60)
            request = HttpRequest("GET", url, {}, window=ByteRange(0, 4))
            with pytest.raises(StorageError, match="asked for 4 bytes"):
                await thread.run(session.send, request)
            await thread.run(session.close)


async def test_an_endless_partial_answer_is_refused():
    async def answer(_number):
        return b"HTTP/1.1 206 P\r\nTransfer-Encoding: chunked\r\n\r\n" + b"3\r\nabc\r\n" * 3

    async with server(answer) as url:
        with pytest.raises(StorageError, match="asked for 4 bytes"):
            await sent(HttpPool(60), url, ByteRange(0, 4))


async def test_an_announced_length_costs_no_memory():
    async def answer(_number):
        return b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000\r\n\r\nhello"

    async with server(answer) as url:
        with pytest.raises(TransientStorageError, match="broke"):
            await sent(HttpPool(60), url)


@pytest.mark.parametrize(
    "url",
    [
        "http://host:99999/",
        "http://host:port/",
        "http://[::1/",
        "http://a..b/",
        f"http://{'a' * 70}.org/",
        "http://127.0.0.1:1 2/",
        "http:///path",
        "ftp://host/",
    ],
)
async def test_what_is_no_url_is_a_storage_error(url):
    with pytest.raises(StorageError, match="not a valid URL"):
        await sent(HttpPool(60), url)


async def test_a_path_that_can_not_be_sent_is_a_storage_error(nginx):
    for path in ("a b", "\xe9"):
        with pytest.raises(StorageError, match="not a valid URL"):
            await sent(HttpPool(60), f"{nginx.url}/{path}")
