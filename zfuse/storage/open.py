"""From what a person writes to a Storage: locations, options, and what owns the connections."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self, assert_never
from urllib.parse import unquote

from zfuse.errors import InvalidInputError
from zfuse.storage.base import Storage
from zfuse.storage.local import LocalStorage

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_CLOUD_SCHEMES: Final = {"gs", "gcs", "az", "azure", "abfs"}


@dataclass(frozen=True, slots=True)
class LocalLocation:
    """A directory, as an absolute path."""

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


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """How to reach a store; what is None is left to botocore's own look-up.

    Only S3 looks at anything but ``deadline_s``, the seconds that one call may take with all
    its retries.
    """

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    anonymous: bool = False
    force_path_style: bool = False
    requester_pays: bool = False
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    deadline_s: float = 30.0


_DEFAULTS: Final = StorageOptions()


def parse_location(location: str) -> Location:
    """Tell what *location* names; a path that is not absolute is below the working directory.

    Raises:
        InvalidInputError: zfuse knows no such store.
    """
    if not location:
        raise InvalidInputError("an empty string is no location: give a path or an URL")
    found = _SCHEME.match(location)
    if found is None:
        return LocalLocation(Path(location).absolute())
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
                f"{location}: unknown scheme {scheme}://; use a path, file://, s3:// or https://"
            )


def _local(location: str, rest: str) -> LocalLocation:
    host, slash, path = rest.partition("/")
    if host not in {"", "localhost"} or not slash:
        raise InvalidInputError(f"{location}: a file URL has three slashes, file:///PATH")
    return LocalLocation(Path(unquote(slash + path)))


def _s3(location: str, rest: str) -> S3Location:
    bucket, _, prefix = rest.partition("/")
    if not bucket:
        raise InvalidInputError(f"{location} names no bucket: write s3://BUCKET/PREFIX")
    return S3Location(bucket, prefix.strip("/"))


def _http(location: str, rest: str) -> HttpLocation:
    if not rest.partition("/")[0]:
        raise InvalidInputError(f"{location} names no host")
    return HttpLocation(location.rstrip("/"))


class StorageOpener:
    """Opens storages and owns what they share; closing it closes them all.

    async with StorageOpener() as opener:
        storage = await opener.open("s3://bucket/prefix", StorageOptions(anonymous=True))
    """

    def __init__(self) -> None:
        self._opened: list[Storage] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def open(self, location: str, options: StorageOptions = _DEFAULTS) -> Storage:
        """Return the storage at *location*; whether anything is there shows with its first use.

        Raises:
            InvalidInputError: zfuse knows no such store.
        """
        storage = self._make(parse_location(location), options)
        self._opened.append(storage)
        return storage

    def _make(self, location: Location, _options: StorageOptions) -> Storage:
        match location:
            case LocalLocation(path):
                return LocalStorage(path)
            case S3Location() | HttpLocation():
                raise InvalidInputError("remote stores are not there yet")
            case _:
                assert_never(location)

    async def aclose(self) -> None:
        """Close every storage that was opened here."""
        while self._opened:
            await self._opened.pop().aclose()
