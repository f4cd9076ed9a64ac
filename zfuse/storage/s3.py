"""Objects in S3, or in what speaks its language.

An object's version is its etag. Conditional writes need a store that honours If-Match and
If-None-Match on PUT.
"""

from typing import Any
from urllib.parse import quote

from zfuse.byterange import ByteRange
from zfuse.errors import ObjectNotFoundError, StorageError, VersionMismatchError
from zfuse.storage.base import (
    ABSENT,
    Blob,
    Expectation,
    ObjectInfo,
    PagedStorage,
    Unmodified,
    Version,
)
from zfuse.storage.http_answers import object_info, range_headers, ranged_body, version_of
from zfuse.storage.http_session import HttpAnswer, HttpRequest
from zfuse.storage.keys import check_key, check_prefix, is_key
from zfuse.storage.s3_answers import error_code, s3_error
from zfuse.storage.s3_client import S3Client


class S3Storage(PagedStorage):
    """The part of a bucket below a prefix; "" is all of it."""

    bounds_silence = True

    def __init__(self, client: S3Client, bucket: str, prefix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._folder = f"{prefix}/" if prefix else ""

    @property
    def url(self) -> str:
        """Return the s3:// URL."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    async def get(self, key: str) -> Blob:
        """Return the whole object."""
        answer = await self._send("GET", key, {})
        if answer.status != 200:
            raise self._error(key, answer)
        return Blob(answer.body, version_of(answer.headers))

    async def get_range(
        self, key: str, byte_range: ByteRange, *, unmodified: Unmodified | None = None
    ) -> bytes:
        """Return the asked bytes."""
        headers = range_headers(byte_range, unmodified)
        answer = await self._send("GET", key, headers, window=byte_range)
        if answer.status not in {200, 206, 412, 416}:
            raise self._error(key, answer)
        return ranged_body(self._name(key), answer, byte_range, unmodified)

    async def head(self, key: str) -> ObjectInfo:
        """Return size, time (in whole seconds) and version."""
        answer = await self._send("HEAD", key, {})
        if answer.status != 200:
            raise self._error(key, answer)
        return object_info(self._name(key), key, answer)

    async def put(self, key: str, data: bytes, *, expect: Expectation = None) -> Version:
        """Store *data* under *key*; a conditional put is sent once only.

        Raises:
            TransientStorageError: if ``refused`` is not set, the object may be there all the same.
        """
        headers = {"Content-Type": "application/octet-stream"}
        if expect is ABSENT:
            headers["If-None-Match"] = "*"
        elif expect is not None:
            headers["If-Match"] = f'"{expect}"'
        answer = await self._send("PUT", key, headers, body=bytes(data), once=expect is not None)
        if answer.status not in {200, 201, 204}:
            raise self._put_error(key, answer, expect)
        if "ETag" not in answer.headers:
            raise StorageError(f"{self._name(key)}: the store tells no etag of what it stored")
        return version_of(answer.headers)

    def _put_error(self, key: str, answer: HttpAnswer, expect: Expectation) -> StorageError:
        error = self._error(key, answer)
        if expect is None:
            return error
        if answer.status == 501:
            return StorageError(
                f"{self.url}: this store can not write conditionally, so no commit is safe there"
            )
        if answer.status == 412 or (
            isinstance(error, ObjectNotFoundError) and error_code(answer) != "NoSuchBucket"
        ):
            return VersionMismatchError(
                f"{self._name(key)} is not in the expected state: another writer was faster"
            )
        return error

    async def delete(self, key: str) -> None:
        """Remove the object."""
        answer = await self._send("DELETE", key, {})
        if answer.status not in {200, 202, 204} and error_code(answer) != "NoSuchKey":
            raise self._error(key, answer)

    async def list_page(
        self, prefix: str, token: str | None
    ) -> tuple[list[ObjectInfo], str | None]:
        """Return one page of a listing, without what is no key for zfuse."""
        check_prefix(prefix)
        entries, following = await self._client.list_page(
            self._bucket, self._folder + prefix, token
        )
        return [info for entry in entries if (info := self._listed(entry))], following

    def _listed(self, entry: dict[str, Any]) -> ObjectInfo | None:
        key = entry["Key"].removeprefix(self._folder)
        if not is_key(key):  # such as the "folder/" that a console makes
            return None
        modified = int(entry["LastModified"].timestamp() * 1000) * 1_000_000
        return ObjectInfo(key, entry["Size"], modified, Version(entry["ETag"].strip('"')))

    async def _send(
        self,
        method: str,
        key: str,
        headers: dict[str, str],
        *,
        body: bytes | None = None,
        window: ByteRange | None = None,
        once: bool = False,
    ) -> HttpAnswer:
        check_key(key)
        path = quote(self._folder + key, safe="/~")
        request = HttpRequest(method, path, headers, body, window)
        return await self._client.send(self._bucket, request, once=once)

    def _name(self, key: str) -> str:
        return f"{self.url}/{key}"

    def _error(self, key: str, answer: HttpAnswer) -> StorageError:
        return s3_error(self._bucket, self._folder + key, answer)
