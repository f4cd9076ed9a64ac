"""Requests on trio's own sockets, for the bytes of chunks.

A daemon has one interpreter. With the bodies read by an event loop in another thread, the two
threads take the interpreter from each other several times for each piece that arrives, which
cost more than the copying itself (256 GETs of 1 MiB: 1.1 s of CPU, against 0.5 s here). So
bodies are sent and read here, those of known length straight into the memory that is handed
on; h11 speaks the protocol.

What needs a proxy, and what may be sent only once, goes through zfuse.storage.http_session.
"""

import io
import socket
import ssl
from collections.abc import Callable
from typing import Final
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

import h11
import trio
from multidict import CIMultiDict

from zfuse.byterange import ByteRange
from zfuse.errors import StorageError, TransientStorageError
from zfuse.storage.http_connection import BrokenError, Connection, KeptConnections
from zfuse.storage.http_session import HttpAnswer, HttpRequest, check_size, without_credentials

_ERROR_BODY_MAX: Final = 1 << 16
_HEAD_PIECE: Final = 1 << 14
_BODY_PIECE: Final = 1 << 18
_LEAST_PROGRESS: Final = 1 << 14
"""Bytes that must arrive within the time that a connection may be idle."""

_AT_ONCE: Final = 1 << 26
"""Up to this length, an announced body gets its memory before it arrives."""


class HttpPool:
    """Connections that are kept open and used again.

    A connection that delivers next to nothing in *idle_s* seconds counts as broken.
    """

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s
        self._kept = KeptConnections()
        self._trusted: ssl.SSLContext | None = None
        self._proxies: dict[str, str] | None = None

    def reaches(self, url: str) -> bool:
        """Tell whether *url* is reached without a proxy."""
        if self._proxies is None:  # read once: it goes through the environment
            self._proxies = getproxies()
        if not self._proxies:
            return True
        try:
            parts = urlsplit(url)
            return parts.scheme not in self._proxies or proxy_bypass(parts.hostname or "")
        except ValueError:
            return True  # send() tells what is wrong

    async def send(self, request: HttpRequest) -> HttpAnswer:
        """Return the answer to a request that may be sent twice.

        Raises:
            TransientStorageError: the connection failed.
            StorageError: the URL is not valid, the host does not exist, its certificate is not
                trusted, or it sends more than was asked for.
        """
        try:
            url = urlsplit(request.url)
            return await self._send(url, _port(url), request)
        except (ValueError, h11.LocalProtocolError) as exc:  # names also fail in the resolver
            # What is wrong with it is not told: that may quote a part that should not be seen.
            raise StorageError(f"{without_credentials(request.url)} is not a valid URL") from exc

    async def aclose(self) -> None:
        """Close all connections."""
        self._kept.close_all()

    async def _send(self, url: SplitResult, port: int, request: HttpRequest) -> HttpAnswer:
        origin = (url.scheme, url.hostname or "", port, id(request.tls))
        while True:
            kept = self._kept.take(origin)
            connection = kept or await self._connect(url, port, request.tls)
            try:
                answer, is_reusable = await self._exchange(connection, url, request)
            except BrokenError as exc:
                if kept:
                    self._kept.close(origin)
                    # A server may close a connection that it kept while we did not look.
                    if exc.unanswered:
                        continue
                raise TransientStorageError(f"the connection to {_host(url)} broke: {exc}") from exc
            except TransientStorageError:
                if kept:
                    self._kept.close(origin)
                raise
            if is_reusable:
                self._kept.put(origin, connection)
            else:
                connection.close()
            return answer

    async def _exchange(
        self, connection: Connection, url: SplitResult, request: HttpRequest
    ) -> tuple[HttpAnswer, bool]:
        finished = False
        try:
            with trio.CancelScope(deadline=trio.current_time() + self._idle_s) as patience:
                progress = 0

                def moved(count: int) -> None:
                    # A trickle is no progress: another connection may do better.
                    nonlocal progress
                    progress += count
                    if progress >= _LEAST_PROGRESS:
                        progress = 0
                        patience.deadline = trio.current_time() + self._idle_s

                exchanged = await _Exchange(connection, url, request, moved).run()
                finished = True
            if not finished:
                raise TransientStorageError(f"{_host(url)} stopped answering")
            return exchanged
        finally:
            if not finished:
                connection.close()

    async def _connect(self, url: SplitResult, port: int, tls: ssl.SSLContext | None) -> Connection:
        host = url.hostname or ""
        try:
            with trio.fail_after(min(10.0, self._idle_s)):
                stream = await trio.open_tcp_stream(host, port)
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if url.scheme == "http":
                    return Connection(stream, None)
                return await self._secured(stream, host, tls)
        except socket.gaierror as exc:
            if exc.errno == socket.EAI_NONAME:
                raise StorageError(f"there is no host named {host}: check the URL") from exc
            raise _unreachable(url, exc) from exc
        except trio.BrokenResourceError as exc:
            if isinstance(exc.__cause__, ssl.SSLError):
                raise StorageError(
                    f"{_host(url)}: the TLS connection failed: {exc.__cause__}"
                ) from exc
            raise _unreachable(url, exc) from exc
        except (OSError, trio.TooSlowError) as exc:
            raise _unreachable(url, exc) from exc

    async def _secured(
        self, stream: trio.SocketStream, host: str, tls: ssl.SSLContext | None
    ) -> Connection:
        if tls is None and self._trusted is None:
            self._trusted = ssl.create_default_context()
        context = tls or self._trusted
        assert context is not None
        secure = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
        connection = Connection(stream, secure)
        try:
            await secure.do_handshake()
        except BaseException:  # refused, broken or cancelled
            connection.close()
            raise
        return connection


def _port(url: SplitResult) -> int:
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError(url.scheme)
    return url.port or (443 if url.scheme == "https" else 80)


def _host(url: SplitResult) -> str:
    return url.netloc.rpartition("@")[2]


def _unreachable(url: SplitResult, exc: Exception) -> TransientStorageError:
    told = str(exc) or "no answer in time"
    return TransientStorageError(f"cannot connect to {_host(url)}: {told}", refused=True)


class _Exchange:
    """One request and its answer on one connection; *moved* is told how much arrives."""

    def __init__(
        self,
        connection: Connection,
        url: SplitResult,
        request: HttpRequest,
        moved: Callable[[int], None],
    ) -> None:
        self._connection = connection
        self._url = url
        self._request = request
        self._moved = moved
        self._protocol = h11.Connection(h11.CLIENT)
        self._is_broken = False

    async def run(self) -> tuple[HttpAnswer, bool]:
        """Return the answer, and whether the connection can be used again."""
        try:
            await self._ask()
            response = await self._head()
            headers: CIMultiDict[str] = CIMultiDict(
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in response.headers
            )
            body, is_complete = await self._body(response.status_code, headers)
        except h11.RemoteProtocolError as exc:
            raise BrokenError(f"not HTTP as it should be: {exc}") from exc
        closes = "close" in headers.get("Connection", "").lower() or response.http_version < b"1.1"
        answer = HttpAnswer(
            response.status_code, bytes(response.reason).decode("latin-1"), headers, body
        )
        return answer, is_complete and not closes and not self._is_broken

    async def _ask(self) -> None:
        target = self._url.path or "/"
        if self._url.query:
            target = f"{target}?{self._url.query}"
        headers = {"Accept-Encoding": "identity", "User-Agent": "zfuse", **self._request.headers}
        if not any(name.lower() == "host" for name in headers):
            headers["Host"] = _host(self._url)
        body = self._request.body
        if body is not None:
            headers["Content-Length"] = str(len(body))
        message = h11.Request(
            method=self._request.method, target=target, headers=list(headers.items())
        )
        sent = self._protocol.send(message) or b""
        if body is None:
            sent += self._protocol.send(h11.EndOfMessage()) or b""
        await self._connection.send(sent)
        if body is not None:
            await self._give(body)

    async def _give(self, body: bytes) -> None:
        """Send the body, unless the other side has heard enough: its answer then tells why."""
        self._protocol.send_with_data_passthrough(h11.Data(data=body))
        self._protocol.send(h11.EndOfMessage())
        view = memoryview(body)
        try:
            for start in range(0, len(view), _BODY_PIECE):
                piece = view[start : start + _BODY_PIECE]
                await self._connection.send(piece)
                self._moved(len(piece))
        except BrokenError:
            self._is_broken = True

    async def _head(self) -> h11.Response:
        is_first = True
        while True:
            event = self._protocol.next_event()
            if isinstance(event, h11.Response):
                return event
            if event is not h11.NEED_DATA:
                continue  # 100 Continue and its like
            data = await self._connection.receive(_HEAD_PIECE)
            if not data:
                raise BrokenError("closed without an answer", unanswered=is_first)
            is_first = False
            self._moved(len(data))
            self._protocol.receive_data(data)

    async def _body(self, status: int, headers: CIMultiDict[str]) -> tuple[bytes, bool]:
        """Return the wanted part of the body, and whether all of it was read."""
        if self._request.method == "HEAD" or status in {204, 304}:
            return b"", True
        length = headers.get("Content-Length", "")
        is_plain = length.isdecimal() and "Transfer-Encoding" not in headers
        size = int(length) if is_plain else None
        wanted = self._request.window
        if status >= 300:
            return await self._pieces(ByteRange(0, _ERROR_BODY_MAX))
        if wanted is not None and status == 200:
            return await self._pieces(wanted)
        if wanted is not None:
            check_size(self._request.url, size or 0, wanted)
        if size is not None and size <= _AT_ONCE:
            return await self._exactly(size), True
        if wanted is None:
            return await self._pieces(None)
        # One byte more shows whether there are too many.
        body, is_complete = await self._pieces(ByteRange(0, len(wanted) + 2))
        check_size(self._request.url, len(body), wanted)
        return body, is_complete

    async def _exactly(self, size: int) -> bytes:
        """Read a body of known length into one piece of memory."""
        begun, _ = self._protocol.trailing_data
        if len(begun) > size:
            raise BrokenError("more bytes than announced")
        if len(begun) == size:
            return bytes(begun)
        # getvalue() hands this memory out without copying it.
        holder = io.BytesIO(bytes(size))
        with holder.getbuffer() as view:
            view[: len(begun)] = begun
            filled = len(begun)
            while filled < size:
                count = await self._connection.receive_into(view[filled:])
                if not count:
                    raise BrokenError(f"the answer broke off after {filled} of {size} bytes")
                filled += count
                self._moved(count)
        return holder.getvalue()

    async def _pieces(self, window: ByteRange | None) -> tuple[bytes, bool]:
        """Read a body piece by piece, keeping what lies in *window*, and stop behind that."""
        pieces: list[bytes] = []
        position = 0
        while True:
            event = self._protocol.next_event()
            if isinstance(event, h11.EndOfMessage):
                return b"".join(pieces), True
            if isinstance(event, h11.Data):
                data = bytes(event.data)
                if window is not None:
                    end = position + len(data)
                    data = data[max(0, window.start - position) : max(0, window.stop - position)]
                    position = end
                pieces.append(data)
                if window is not None and position >= window.stop:
                    # The rest may be gigabytes: rather a new connection than to read on.
                    return b"".join(pieces), False
            else:
                received = await self._connection.receive(1 << 16)
                self._moved(len(received))
                self._protocol.receive_data(received)
