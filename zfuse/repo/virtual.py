"""Virtual chunks: where their bytes are, and whether this reader may have them.

A location is read only if it lies in a container that the repository's configuration
declares, and under a prefix that the person mounting allowed. Both are needed: a
repository can be written by a stranger who would like to see your files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import quote, unquote, urlsplit

from zfuse.byterange import ByteRange
from zfuse.errors import (
    AccessDeniedError,
    ChunkModifiedError,
    ContainerNotAllowedError,
    CorruptionError,
    InvalidInputError,
    MissingObjectError,
    ObjectNotFoundError,
    PreconditionFailedError,
)
from zfuse.format.chunk_ref import VirtualRef
from zfuse.format.config import StoreConfig, VirtualChunkContainer
from zfuse.storage.base import Storage, Unmodified

_CONTAINER_SCHEME: Final = "vcc"
_S3_KINDS: Final = frozenset({"s3", "s3_compatible", "tigris"})


@dataclass(frozen=True, slots=True)
class AllowedPrefix:
    """A URL prefix that may be read, and with whose credentials.

    ``credentials`` is ``anonymous``, ``env`` (whatever botocore finds), ``profile:NAME``,
    or None for what the container's own configuration says.
    """

    prefix: str
    credentials: str | None = None

    @classmethod
    def parse(cls, text: str) -> "AllowedPrefix":
        """Read ``PREFIX[=anonymous|env|profile:NAME]``.

        Raises:
            InvalidInputError: *text* is not of that form.
        """
        prefix, mark, credentials = text.rpartition("=")
        known = credentials in {"anonymous", "env"} or credentials.startswith("profile:")
        if not mark or not known:
            # An "=" inside a URL is no separator, so only the known words count as one.
            prefix, credentials = text, ""
        if "://" not in prefix:
            raise InvalidInputError(
                f"{text!r} is not a URL prefix; write --allow-virtual s3://bucket/path/"
                " or file:///directory/, with =anonymous, =env or =profile:NAME behind it"
            )
        return cls(_as_directory(prefix), credentials or None)


class ContainerOpener(Protocol):
    """Opens the storage that a virtual location lies in."""

    async def open_container(
        self, root: str, store: StoreConfig, credentials: str | None
    ) -> Storage:
        """Return the storage whose keys are the paths below *root* (``s3://bucket/``)."""
        ...


class VirtualChunkResolver:
    """Reads virtual chunks from the containers that are both declared and allowed."""

    def __init__(
        self,
        containers: Mapping[str, VirtualChunkContainer],
        allowed: Sequence[AllowedPrefix],
        opener: ContainerOpener,
    ) -> None:
        self._containers = sorted(
            containers.values(), key=lambda c: len(_comparable(c.url_prefix)), reverse=True
        )
        self._allowed = sorted(allowed, key=lambda a: len(a.prefix), reverse=True)
        self._opener = opener
        self._storages: dict[tuple[str, str | None, str], Storage] = {}

    def declare(self, containers: Mapping[str, VirtualChunkContainer]) -> None:
        """Take over the containers of a configuration that changed."""
        self._containers = sorted(
            containers.values(), key=lambda c: len(_comparable(c.url_prefix)), reverse=True
        )

    def resolve(self, location: str) -> tuple[str, VirtualChunkContainer, AllowedPrefix]:
        """Return the absolute URL of *location*, its container, and what allows reading it.

        Raises:
            ContainerNotAllowedError: it lies in no declared container, or nobody allowed it.
            CorruptionError: *location* is not a URL that can be read.
        """
        url = self._absolute(location)
        target = _comparable(url)
        container = next(
            (c for c in self._containers if _inside(target, _comparable(c.url_prefix))), None
        )
        if container is None:
            raise ContainerNotAllowedError(
                f"{url} lies in no virtual chunk container of this repository;"
                " its owner has to declare one"
            )
        allowed = next((a for a in self._allowed if _inside(target, _comparable(a.prefix))), None)
        if allowed is None:
            raise ContainerNotAllowedError(
                f"{url} may not be read: mount with --allow-virtual {container.url_prefix}"
            )
        return url, container, allowed

    async def read(self, ref: VirtualRef, byte_range: ByteRange) -> bytes:
        """Return the bytes of *byte_range* of the chunk.

        Raises:
            ContainerNotAllowedError: see ``resolve``.
            MissingObjectError: the file is gone.
            ChunkModifiedError: the file is not the one that was referenced.
        """
        url, container, allowed = self.resolve(ref.location)
        root, key = split_url(url)
        storage = await self._storage(root, container, allowed)
        check = None
        if ref.etag is not None or ref.last_modified is not None:
            check = Unmodified(ref.etag, ref.last_modified)
        try:
            return await storage.get_range(
                key, byte_range.within(ref.offset, ref.size), unmodified=check
            )
        except ObjectNotFoundError as exc:
            raise MissingObjectError(f"{url} is referenced but gone") from exc
        except PreconditionFailedError as exc:
            raise ChunkModifiedError(f"{url} changed since it was referenced: {exc}") from exc
        except AccessDeniedError as exc:
            raise AccessDeniedError(
                f"{url}: {exc}; try --allow-virtual {allowed.prefix}=anonymous, =env"
                " or =profile:NAME"
            ) from exc

    async def _storage(
        self, root: str, container: VirtualChunkContainer, allowed: AllowedPrefix
    ) -> Storage:
        key = (root, allowed.credentials, repr(container.store))
        storage = self._storages.get(key)
        if storage is None:
            storage = await self._opener.open_container(root, container.store, allowed.credentials)
            storage = self._storages.setdefault(key, storage)
        return storage

    def _absolute(self, location: str) -> str:
        scheme, mark, rest = location.partition("://")
        if not mark:
            raise CorruptionError(f"virtual location {location!r} is not a URL")
        if scheme.lower() != _CONTAINER_SCHEME:
            return location
        name, _, path = rest.partition("/")
        for container in self._containers:
            if container.name == name:
                return _as_directory(container.url_prefix) + path
        raise ContainerNotAllowedError(
            f"{location}: this repository declares no virtual chunk container named {name!r}"
        )


def split_url(url: str) -> tuple[str, str]:
    """Return the root of the store that *url* lies in, and the key of the object there.

    Raises:
        CorruptionError: *url* has no path, or one that climbs with ``..``.
    """
    parts = urlsplit(url)
    path = parts.path
    if parts.scheme in {"http", "https"}:
        key = path.lstrip("/") + (f"?{parts.query}" if parts.query else "")
    else:
        key = unquote(path).removeprefix("/") if parts.scheme == "file" else path.lstrip("/")
    if not key or ".." in unquote(path).split("/"):
        raise CorruptionError(f"virtual location {url!r} names no object")
    if parts.scheme == "file":
        return "file:///", key
    return f"{parts.scheme.lower()}://{parts.netloc}/", key


def store_options(store: StoreConfig) -> Mapping[str, Any]:
    """Return the S3 options of a container's store, empty for the other kinds."""
    return store.options if store.kind in _S3_KINDS else {}


def _as_directory(prefix: str) -> str:
    return prefix if prefix.endswith("/") else f"{prefix}/"


def _comparable(url: str) -> str:
    """Return *url* in a form in which one place has one spelling."""
    parts = urlsplit(url)
    host = "" if parts.scheme.lower() == "file" else parts.netloc
    return f"{parts.scheme.lower()}://{host}{quote(unquote(parts.path))}"


def _inside(target: str, prefix: str) -> bool:
    """Tell whether *target* lies under *prefix*, and does not climb out of it."""
    return target.startswith(_as_directory(prefix)) and ".." not in target.split("/")
