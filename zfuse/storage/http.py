"""Objects on a plain web server, to be read only."""

from collections.abc import AsyncGenerator
from typing import Final, NoReturn
from urllib.parse import quote

from zfuse.byterange import ByteRange
from zfuse.errors import NotAllowedError, StorageError
from zfuse.storage.asyncio_thread import AsyncioThread
from zfuse.storage.base import Blob, Expectation, ObjectInfo, Storage, Unmodified, Version
from zfuse.storage.http_answers import (
    object_info,
    range_headers,
    ranged_body,
    status_error,
    version_of,
)
from zfuse.storage.http_pool import HttpPool
from zfuse.storage.http_redirects import redirected
from zfuse.storage.http_session import HttpAnswer, HttpRequest, HttpSession
from zfuse.storage.keys import check_key

_MAX_REDIRECTS: Final = 10


class HttpStorage(Storage):
    """The files below a base URL.

    Redirects are followed, but not from https to http nor into a private network. A server that
    does not know ranges sends whole files; what is not wanted of them is dropped as it arrives.
    """

    bounds_silence = True

    def __init__(
        self, thread: AsyncioThread, session: HttpSession, pool: HttpPool, base_url: str
    ) -> None:
        self._thread = thread
        self._session = session
        self._pool = pool
        self._base_url = base_url

    @property
    def url(self) -> str:
        """Return the base URL."""
        return self._base_url

    async def get(self, key: str) -> Blob:
        """Return the whole object."""
        answer = await self._send("GET", key, {})
        if answer.status != 200:
            raise status_error(self._name(key), answer)
        return Blob(answer.body, version_of(answer.headers))

    async def get_range(
        self, key: str, byte_range: ByteRange, *, unmodified: Unmodified | None = None
    ) -> bytes:
        """Return the asked bytes."""
        headers = range_headers(byte_range, unmodified)
        answer = await self._send("GET", key, headers, byte_range)
        return ranged_body(self._name(key), answer, byte_range, unmodified)

    async def head(self, key: str) -> ObjectInfo:
        """Return size, time (in whole seconds) and version."""
        answer = await self._send("HEAD", key, {})
        if answer.status != 200:
            raise status_error(self._name(key), answer)
        return object_info(self._name(key), key, answer)

    async def put(self, key: str, data: bytes, *, expect: Expectation = None) -> Version:
        """Raise NotAllowedError."""
        self._refuse("writing")

    async def delete(self, key: str) -> None:
        """Raise NotAllowedError."""
        self._refuse("deleting")

    def list(self, prefix: str) -> AsyncGenerator[ObjectInfo]:
        """Raise NotAllowedError."""
        self._refuse("listing")

    def _refuse(self, what: str) -> NoReturn:
        raise NotAllowedError(f"{self.url}: {what} is not possible over plain HTTP")

    async def _send(
        self, method: str, key: str, headers: dict[str, str], window: ByteRange | None = None
    ) -> HttpAnswer:
        check_key(key)
        url = f"{self._base_url}/{quote(key, safe='/~')}"
        for _ in range(_MAX_REDIRECTS):
            request = HttpRequest(method, url, headers, window=window)
            if self._pool.reaches(url):
                answer = await self._pool.send(request)
            else:
                answer = await self._thread.run(self._session.send, request)
            target = redirected(url, answer)
            if target is None:
                return answer
            url = target
        raise StorageError(f"{self._name(key)} redirects in circles")

    def _name(self, key: str) -> str:
        return f"{self.url}/{key}"
