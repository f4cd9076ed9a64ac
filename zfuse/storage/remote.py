"""The stores that are reached through the network, with what they share.

Imports aiohttp and botocore; zfuse.storage.open imports this module when it is needed.
"""

from zfuse.storage.asyncio_thread import AsyncioThread
from zfuse.storage.http import HttpStorage
from zfuse.storage.http_pool import HttpPool
from zfuse.storage.http_session import HttpSession
from zfuse.storage.options import StorageOptions
from zfuse.storage.s3 import S3Storage
from zfuse.storage.s3_client import S3Client


class Remote:
    """The connections and the credentials of all remote storages with the same options."""

    def __init__(self, thread: AsyncioThread, options: StorageOptions) -> None:
        self._thread = thread
        self._session = HttpSession(options.idle_s)
        self._pool = HttpPool(options.idle_s)
        self._client = S3Client(thread, self._session, self._pool, options)

    def s3(self, bucket: str, prefix: str) -> S3Storage:
        """Return the part of *bucket* below *prefix*."""
        return S3Storage(self._client, bucket, prefix)

    def http(self, base_url: str) -> HttpStorage:
        """Return the files below *base_url*."""
        return HttpStorage(self._thread, self._session, self._pool, base_url)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()
        await self._client.aclose()
        await self._thread.run(self._session.close)
