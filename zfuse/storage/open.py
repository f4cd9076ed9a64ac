"""From what a person writes to a Storage: locations, options, and what owns the connections."""

import os
import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, assert_never
from urllib.parse import unquote, urlsplit

import trio

from zfuse.errors import InvalidInputError
from zfuse.storage.asyncio_thread import AsyncioThread
from zfuse.storage.local import LocalStorage
from zfuse.storage.options import DEFAULT_OPTIONS, StorageOptions
from zfuse.storage.retry import RetryingStorage, RetryPolicy

if TYPE_CHECKING:
    from zfuse.storage.base import Storage
    from zfuse.storage.remote import Remote

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_CLOUD_SCHEMES: Final = {"gs", "gcs", "az", "azure", "abfs"}


@dataclass(frozen=True, slots=True)
class LocalLocation:
    """A directory, as an absolute path without ".." and links."""

    path: Path


@dataclass(frozen=True, slots=True)
class S3Location:
    """A bucket, and the prefix inside it without slashes around it ("" for all of it)."""

    bucket: str
    prefix: str


@dataclass(frozen=True, slots=True)
class HttpLocation:
    """A base URL without a slash at its end."""

    base_url: str


Location = LocalLocation | S3Location | HttpLocation


def parse_location(location: str) -> Location:
    """Tell what *location* names; a path that is not absolute is below the working directory.

    However a directory is spelled, it has one path: sessions are found by that.

    Raises:
        InvalidInputError: zfuse knows no such store.
    """
    if not location:
        raise InvalidInputError("an empty string is no location: give a path or an URL")
    found = _SCHEME.match(location)
    if found is None:
        return _directory(location)
    scheme, rest = found[1].lower(), location[found.end() :]
    match scheme:
        case "file":
            return _local(location, rest)
        case "s3":
            return _s3(location, rest)
        case "http" | "https":
            return _http(location, rest)
        case _ if scheme in _CLOUD_SCHEMES:
            raise InvalidInputError(
                f"{scheme}:// needs the extra 'cloud', which this version of zfuse has not yet"
            )
        case _:
            raise InvalidInputError(
                f"unknown scheme {scheme}://; use a path, file://, s3:// or https://"
            )


def _local(location: str, rest: str) -> LocalLocation:
    host, slash, path = rest.partition("/")
    if host not in {"", "localhost"} or not slash:
        raise InvalidInputError(f"{location}: a file URL has three slashes, file:///PATH")
    return _directory(unquote(slash + path))


def _directory(path: str) -> LocalLocation:
    return LocalLocation(Path(os.path.realpath(path)))


def _s3(location: str, rest: str) -> S3Location:
    bucket, _, prefix = rest.partition("/")
    if not bucket:
        raise InvalidInputError(f"{location} names no bucket: write s3://BUCKET/PREFIX")
    return S3Location(bucket, prefix.strip("/"))


def _http(location: str, rest: str) -> HttpLocation:
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        raise InvalidInputError(
            "credentials do not belong into URLs, where logs and settings would show them:"
            " leave out what is before the @"
        )
    if not authority:
        raise InvalidInputError(f"{location} names no host")
    try:
        _ = urlsplit(location).port
    except ValueError as exc:
        # Not shown: with a slash in it, a password looks like a port.
        raise InvalidInputError("the URL has no valid host and port") from exc
    return HttpLocation(location.rstrip("/"))


class StorageOpener:
    """Opens storages and owns what they share; closing it closes them all.

        async with StorageOpener() as opener:
            storage = await opener.open("s3://bucket/prefix", StorageOptions(anonymous=True))

    The asyncio thread, the HTTP connections and botocore's clients begin with the first remote
    storage that needs them: whoever opens local directories only does not pay for them.
    """

    def __init__(self) -> None:
        self._remotes: dict[StorageOptions, Remote] = {}
        self._thread: AsyncioThread | None = None
        self._opening = trio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def open(
        self, location: str, options: StorageOptions = DEFAULT_OPTIONS
    ) -> RetryingStorage:
        """Return the storage at *location*; whether anything is there shows with its first use.

        Raises:
            InvalidInputError: zfuse knows no such store.
        """
        match found := parse_location(location):
            case LocalLocation(path):
                inner: Storage = LocalStorage(path)
            case S3Location(bucket, prefix):
                inner = (await self._remote(options)).s3(bucket, prefix)
            case HttpLocation(base_url):
                inner = (await self._remote(options)).http(base_url)
            case _:
                assert_never(found)
        return RetryingStorage(inner, RetryPolicy(deadline_s=options.deadline_s))

    async def _remote(self, options: StorageOptions) -> "Remote":
        async with self._opening:
            if self._thread is None:
                self._thread = AsyncioThread()
                await self._thread.start()
            if options not in self._remotes:
                # Importing botocore and aiohttp takes half a second.
                remote = await trio.to_thread.run_sync(import_module, "zfuse.storage.remote")
                self._remotes[options] = remote.Remote(self._thread, options)
            return self._remotes[options]

    async def aclose(self) -> None:
        """Close every storage that was opened here; what is still under way there fails."""
        with trio.CancelScope(shield=True):
            while self._remotes:
                await self._remotes.popitem()[1].aclose()
            if self._thread is not None:
                await self._thread.stop()
                self._thread = None
