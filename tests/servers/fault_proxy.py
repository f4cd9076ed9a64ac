"""An HTTP proxy in front of a real server that counts, delays and breaks what passes.

    with fault_proxy(s3_server.endpoint) as proxy:
        proxy.plan = share(0.2, Fault.UNAVAILABLE, Fault.RESET)
        ...use proxy.url...
        assert len(proxy.requests) == 3

Host and all other headers pass unchanged, so signatures hold. It runs in a thread of its own
and may be steered at any time.
"""

import contextlib
import random
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from socket import SO_LINGER, SOL_SOCKET
from urllib.parse import urlsplit

import trio


class Fault(Enum):
    """What happens to one request."""

    UNAVAILABLE = auto()  # 503 SlowDown, the server never sees the request
    ERROR = auto()  # 500 InternalError, likewise
    RESET = auto()  # connection reset before the server sees the request
    LOST = auto()  # the server acts, its answer is lost in a reset
    TRUNCATE = auto()  # half the answer's body, then the connection closes
    DRIP = auto()  # the answer at a few bytes a second
    HANG = auto()  # no answer, as long as the client waits, or until let_go()


@dataclass(frozen=True)
class Answer:
    """Given in the server's stead."""

    status: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def encode(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status}", f"Content-Length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(frozen=True)
class Request:
    """What a client asked for; header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]


Plan = Callable[[Request], Fault | Answer | None]

_XML = "<?xml version='1.0'?><Error><Code>{0}</Code><Message>{0}</Message></Error>"
_ANSWERS = {
    Fault.UNAVAILABLE: Answer("503 Slow Down", body=_XML.format("SlowDown").encode()),
    Fault.ERROR: Answer("500 Internal Server Error", body=_XML.format("InternalError").encode()),
}
_BODILESS = ("100", "204", "304")


def share(part: float, *faults: Fault | Answer, seed: int = 1) -> Plan:
    """Plan that breaks that part of all requests, with the faults in turn."""
    dice = random.Random(seed)
    count = 0

    def plan(_request: Request) -> Fault | Answer | None:
        nonlocal count
        if dice.random() >= part:
            return None
        count += 1
        return faults[count % len(faults)]

    return plan


def first(count: int, fault: Fault | Answer, method: str = "") -> Plan:
    """Plan that breaks the first *count* requests (with that method)."""
    left = count

    def plan(request: Request) -> Fault | Answer | None:
        nonlocal left
        if left == 0 or method not in ("", request.method):
            return None
        left -= 1
        return fault

    return plan


class FaultProxy:
    """Where it listens, what it saw, and what it shall do."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname, parts.port)
        self.url = ""
        self.plan: Plan = lambda _request: None
        self.latency_s = 0.0  # before each answer
        self.requests: list[Request] = []
        self.under_way = 0  # requests whose answer has not been passed on in full
        self.connections = 0
        self.bytes_sent = 0  # to clients, headers included
        self._hanging: set[trio.CancelScope] = set()
        self._token: trio.lowlevel.TrioToken

    def let_go(self) -> None:
        """Reset the connections that hang now, in a moment."""
        self._token.run_sync_soon(lambda: [scope.cancel() for scope in self._hanging])

    async def serve(self, ready: Callable[[], None]) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1024)
            self.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
            ready()
            await trio.serve_listeners(self._connection, listeners, handler_nursery=nursery)

    async def _connection(self, client: trio.SocketStream) -> None:
        self.connections += 1
        try:
            server = await trio.open_tcp_stream(*self._target)
            async with client, server:
                incoming, answers = _Reader(client), _Reader(server)
                while await self._exchange(client, server, incoming, answers):
                    pass
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            return  # one side went away, as sides do

    async def _exchange(self, client, server, incoming, answers) -> bool:
        """Pass one request and its answer; False ends the connection."""
        head = await incoming.head()
        if not head:
            return False
        request = _parse(head)
        self.requests.append(request)
        self.under_way += 1
        try:
            return await self._pass(client, server, incoming, answers, request, head)
        finally:
            self.under_way -= 1

    async def _pass(self, client, server, incoming, answers, request: Request, head: bytes) -> bool:
        if request.headers.get("expect", "").lower() == "100-continue":
            await client.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await incoming.exactly(int(request.headers.get("content-length", 0)))
        await trio.sleep(self.latency_s)
        fault = self.plan(request)
        if isinstance(fault, Fault):
            fault = _ANSWERS.get(fault, fault)
        if isinstance(fault, Answer):
            return await self._send(client, fault.encode())
        if fault is Fault.HANG:
            with trio.CancelScope() as hanging:
                self._hanging.add(hanging)
                await incoming.until_closed()
            self._hanging.discard(hanging)
        if fault in (Fault.HANG, Fault.RESET):
            return _reset(client)
        await server.send_all(head + body)
        if fault is Fault.LOST:
            await answers.final_head()
            return _reset(client)
        return await self._answer(client, answers, request, fault)

    async def _answer(self, client, answers, request: Request, fault: Fault | None) -> bool:
        head = await answers.final_head()
        if not head:
            return False
        answer = _parse(head)
        await self._send(client, head)
        if request.method == "HEAD" or answer.target.startswith(_BODILESS):
            return True
        if "content-length" not in answer.headers:
            chunked = answer.headers.get("transfer-encoding") == "chunked"
            async for piece in answers.chunks() if chunked else answers.rest():
                await self._send(client, piece)
            return chunked
        return await self._body(client, answers, int(answer.headers["content-length"]), fault)

    async def _body(self, client, answers, size: int, fault: Fault | None) -> bool:
        left = size // 2 if fault is Fault.TRUNCATE else size
        while left:
            if fault is Fault.DRIP:
                await trio.sleep(1)
            piece = await answers.some(min(left, 4) if fault is Fault.DRIP else left)
            if not piece:
                return False
            left -= len(piece)
            await self._send(client, piece)
        return fault is not Fault.TRUNCATE

    async def _send(self, client: trio.SocketStream, data: bytes) -> bool:
        self.bytes_sent += len(data)
        await client.send_all(data)
        return True


def _reset(client: trio.SocketStream) -> bool:
    client.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    return False


def _parse(head: bytes) -> Request:
    """Take a request or an answer apart; of an answer, the target is the status."""
    first_line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target = first_line.split(" ", 2)[:2]
    headers = dict(line.split(":", 1) for line in lines)
    return Request(method, target, {k.lower(): v.strip() for k, v in headers.items()})


class _Reader:
    """What came in and was not taken yet."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def _more(self) -> bool:
        data = await self._stream.receive_some(1 << 18)
        self._buffer += data
        return bool(data)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    async def head(self) -> bytes:
        """Return a head with its empty line, or b"" at the end."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if not await self._more():
                return b""
        return self._take(end + 4)

    async def final_head(self) -> bytes:
        """Return the head of the answer to what was asked, not of "100 Continue"."""
        while (head := await self.head()).startswith(b"HTTP/1.1 100"):
            pass
        return head

    async def line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if not await self._more():
                return b""
        return self._take(end + 2)

    async def some(self, size: int) -> bytes:
        if not self._buffer:
            await self._more()
        return self._take(size)

    async def exactly(self, size: int) -> bytes:
        while len(self._buffer) < size and await self._more():
            pass
        return self._take(size)

    async def chunks(self):
        while line := await self.line():
            size = int(line.split(b";")[0], 16)
            yield line + await self.exactly(size + 2)
            if size == 0:
                return

    async def rest(self):
        while piece := await self.some(1 << 18):
            yield piece

    async def until_closed(self) -> None:
        while await self._more():
            self._buffer.clear()


@contextlib.contextmanager
def fault_proxy(target: str) -> Iterator[FaultProxy]:
    """Run a proxy before the server at the URL *target*."""
    proxy = FaultProxy(target)
    ready = threading.Event()
    scope = trio.CancelScope()
    tokens = []

    async def main() -> None:
        tokens.append(trio.lowlevel.current_trio_token())
        with scope:
            await proxy.serve(ready.set)

    thread = threading.Thread(target=trio.run, args=(main,), name="fault-proxy", daemon=True)
    thread.start()
    try:
        assert ready.wait(60)
        yield proxy
    finally:
        tokens[0].run_sync_soon(scope.cancel)
        thread.join(60)
        assert not thread.is_alive()
