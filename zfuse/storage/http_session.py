"""HTTP requests through aiohttp, for the stores that speak HTTP.

The coroutine functions here run in the asyncio thread; see zfuse.storage.asyncio_thread. They
turn what can go wrong on a connection into zfuse's errors, and leave the meaning of a status to
the store.
"""

import io
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ssl import SSLContext
from typing import Final
from urllib.request import getproxies, proxy_bypass

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from zfuse.byterange import ByteRange
from zfuse.errors import StorageError, TransientStorageError

_ERROR_BODY_MAX: Final = 1 << 16
_READ_BUFFER: Final = 1 << 20
"""How much a connection reads ahead; the default of 64 KiB pauses a 1 MiB body 8 times."""

_UNKNOWN_NAME: Final = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request; *url* is sent as it is, so its path must be percent-encoded already.

    ``window`` is what the caller wants of the body. A server that ignores the Range header and
    sends everything is read up to the window's end, and what lies before it is dropped.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None = None
    window: ByteRange | None = None
    tls: SSLContext | None = None


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A complete answer; look its headers up in any case."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes


class HttpSession:
    """A pool of connections without a limit of its own: the callers keep one.

    A connection that delivers nothing for *idle_s* seconds counts as broken.
    """

    def __init__(self, idle_s: float) -> None:
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=min(10.0, idle_s), sock_read=idle_s
        )
        self._pooled: aiohttp.ClientSession | None = None
        self._single: aiohttp.ClientSession | None = None
        self._proxies: dict[str, str] | None = None

    async def send(self, request: HttpRequest) -> HttpAnswer:
        """Return the answer, over any connection.

        aiohttp itself sends a request a second time if a kept connection turns out dead.

        Raises:
            TransientStorageError: the connection failed.
            StorageError: the host does not exist, or its certificate is not trusted.
        """
        if self._pooled is None:
            self._pooled = self._session(aiohttp.TCPConnector(limit=0, ttl_dns_cache=60))
        return await self._send(self._pooled, request)

    async def send_once(self, request: HttpRequest) -> HttpAnswer:
        """Like send, but over a new connection and certainly not twice.

        For requests that mean something else the second time.
        """
        if self._single is None:
            connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=60, force_close=True)
            self._single = self._session(connector, middlewares=(_once,))
        return await self._send(self._single, request)

    async def close(self) -> None:
        """Close all connections."""
        for session in (self._pooled, self._single):
            if session is not None:
                await session.close()

    def _session(
        self,
        connector: aiohttp.TCPConnector,
        middlewares: tuple[aiohttp.ClientMiddlewareType, ...] = (),
    ) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            middlewares=middlewares,
            read_bufsize=_READ_BUFFER,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Content-Type"),
            headers={"Accept-Encoding": "identity", "User-Agent": "zfuse"},
        )

    async def _send(self, session: aiohttp.ClientSession, request: HttpRequest) -> HttpAnswer:
        try:
            url = URL(request.url, encoded=True)
        except ValueError as exc:
            raise _invalid(request.url) from exc
        try:
            async with session.request(
                request.method,
                url,
                headers=request.headers,
                data=None if request.body is None else io.BytesIO(request.body),
                allow_redirects=False,
                proxy=self._proxy(url),
                ssl=request.tls or True,
            ) as response:
                body = await _read(response, request.window)
                headers: CIMultiDict[str] = CIMultiDict(
                    (name.decode("latin-1"), value.decode("latin-1"))
                    for name, value in response.raw_headers
                )
                return HttpAnswer(response.status, response.reason or "", headers, body)
        except (aiohttp.ClientError, OSError, EOFError, ValueError) as exc:
            raise _translated(url, exc) from exc

    def _proxy(self, url: URL) -> str | None:
        # Read once: aiohttp's own trust_env goes through the environment and netrc on each
        # request, in a thread.
        if self._proxies is None:
            self._proxies = getproxies()
        if not self._proxies or proxy_bypass(url.host or ""):
            return None
        proxy = self._proxies.get(url.scheme)
        if proxy is None:
            return None
        proxy = proxy if "://" in proxy else f"http://{proxy}"  # as curl and requests read it
        try:
            URL(proxy)
        except ValueError as exc:
            raise StorageError(f"{url.scheme}_proxy is set to what is no URL of a proxy") from exc
        return proxy


async def _once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from repeating the request, by an error that it does not know."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as exc:
        raise _translated(request.url, exc) from exc


async def _read(response: aiohttp.ClientResponse, window: ByteRange | None) -> bytes:
    if response.status >= 300:
        return await _at_most(response, _ERROR_BODY_MAX)
    if response.status == 200 and window is not None:
        return await _cut(response, window)
    if window is not None and response.status == 206:
        body = await _at_most(response, max(len(window), 1))
        check_size(str(response.url), len(body), window)
        return body
    length = response.headers.get("Content-Length")
    if length is None or response.method == "HEAD":
        return await response.read()
    # Joins the pieces once; read() costs a tenth more on a body of 1 MiB.
    return await response.content.readexactly(int(length))


async def _at_most(response: aiohttp.ClientResponse, size: int) -> bytes:
    pieces = []
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size -= len(piece)
        if size < 0:
            response.close()
            break
    return b"".join(pieces)


async def _cut(response: aiohttp.ClientResponse, window: ByteRange) -> bytes:
    pieces = []
    position = 0
    async for piece in response.content.iter_any():
        pieces.append(piece[max(0, window.start - position) : max(0, window.stop - position)])
        position += len(piece)
        if position >= window.stop:
            # The rest may be gigabytes: rather a new connection than to read on.
            response.close()
            break
    return b"".join(pieces)


def check_size(url: str, size: int, wanted: ByteRange) -> None:
    """Raise StorageError if a partial answer of *size* bytes is longer than what was *wanted*."""
    if size > max(len(wanted), 1):  # nothing can only be asked for as one byte
        raise StorageError(
            f"{without_credentials(url)}: asked for {len(wanted)} bytes, the server sends more"
        )


def without_credentials(url: str) -> str:
    """Return *url* as it may be shown: without user, password and query, which may be signed."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def _invalid(url: str) -> StorageError:
    return StorageError(f"{without_credentials(url)} is not a valid URL")


def _translated(url: URL, exc: Exception) -> StorageError:
    host = url.authority.rpartition("@")[2]
    told = str(exc) or repr(exc)
    error: StorageError
    match exc:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            error = StorageError(f"{host}: the TLS connection failed: {told}")
        case aiohttp.ClientConnectorDNSError() if _unknown_name(exc):
            error = StorageError(f"there is no host named {url.host}: check the URL")
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            error = TransientStorageError(f"cannot connect to {host}: {told}", refused=True)
        case TimeoutError():
            error = TransientStorageError(f"{host} stopped answering")
        case aiohttp.InvalidURL() | ValueError():
            error = _invalid(str(url))
        case _:
            error = TransientStorageError(f"the connection to {host} broke: {told}")
    return error


def _unknown_name(exc: aiohttp.ClientConnectorDNSError) -> bool:
    cause = exc.os_error.__cause__
    return isinstance(cause, socket.gaierror) and cause.errno in _UNKNOWN_NAME
