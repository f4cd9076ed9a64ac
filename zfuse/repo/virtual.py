"""Virtual chunks: where their bytes are, and whether this reader may have them.

A location is read only if it lies in a container that the repository's configuration
declares, and under a prefix that the person mounting allowed. Both are needed: a
repository can be written by a stranger who would like to see your files.
"""

import contextlib
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol
from urllib.parse import unquote

from zfuse.byterange import ByteRange
from zfuse.errors import (
    AccessDeniedError,
    ChunkModifiedError,
    ContainerNotAllowedError,
    ContainerNotOfferedError,
    CorruptionError,
    InvalidInputError,
    MissingObjectError,
    ObjectNotFoundError,
    PreconditionFailedError,
)
from zfuse.format.chunk_ref import VirtualRef
from zfuse.format.config import StoreConfig, VirtualChunkContainer
from zfuse.storage.base import Storage, Unmodified
from zfuse.storage.preconditions import check_etag, check_last_modified

_CONTAINER_SCHEME: Final = "vcc"
_LOCAL_ROOT: Final = "file:///"
_HTTP_PORTS: Final = {"http": ":80", "https": ":443"}
_ENCODED_DOT: Final = re.compile("%2e", re.IGNORECASE)
_S3_KINDS: Final = frozenset({"s3", "s3_compatible", "tigris"})


class UnallowedContainerError(ContainerNotAllowedError):
    """The container *prefix* is declared, but nobody allowed to read from it."""

    def __init__(self, message: str, prefix: str) -> None:
        super().__init__(message)
        self.prefix = prefix


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
            if prefix.endswith("/") and "/" not in credentials:
                raise InvalidInputError(_no_credentials(text, credentials))
            prefix, credentials = text, ""
        try:
            place = Place.parse(prefix)
        except CorruptionError:
            raise InvalidInputError(
                f"{text!r} is not a URL prefix; write --allow-virtual s3://bucket/path/"
                " or file:///directory/, with =anonymous, =env or =profile:NAME behind it"
            ) from None
        if place.root == "s3:///":
            raise InvalidInputError(f"{text!r} names no bucket; write s3://BUCKET/")
        if credentials == "profile:":
            raise InvalidInputError(f"{text!r} names no profile; write =profile:NAME")
        return cls(_as_directory(prefix), credentials or None)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a URL leads, as the official library reads it.

    ``root`` is the URL of the store; ``key`` that of the object there, percent-decoded and
    without query and fragment. ``path`` is the key without ``.`` and ``..``, to be compared.
    """

    root: str
    key: str
    path: str

    @classmethod
    def parse(cls, url: str) -> "Place":
        """Take *url* apart.

        Raises:
            CorruptionError: it is no URL, or no text when decoded.
        """
        scheme, mark, rest = url.partition("://")
        if not mark or not scheme:
            raise CorruptionError(f"virtual location {url!r} is not a URL")
        scheme = scheme.lower()
        authority, _, path = re.split("[?#]", rest, maxsplit=1)[0].partition("/")
        if scheme == "file":
            authority = "" if authority == "localhost" else authority
            # As web browsers read such URLs; in those of other stores keys are literal.
            path = _without_dots(_ENCODED_DOT.sub(".", path.replace("\\", "/")))
        elif scheme in _HTTP_PORTS:
            authority = authority.lower().removesuffix(_HTTP_PORTS[scheme])
        try:
            key = unquote(path, errors="strict")
        except UnicodeDecodeError:
            raise CorruptionError(f"virtual location {url!r} is not UTF-8") from None
        return cls(f"{scheme}://{authority}/", key, _without_dots(key))

    def holds(self, other: "Place") -> bool:
        """Tell whether *other* lies below this place."""
        above = _as_directory(self.path) if self.path else ""
        return self.root == other.root and other.path.startswith(above)


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """A file that virtual chunks lie in: its size, its time, and its etag if its store has them.

    ``last_modified_ns`` is in nanoseconds since 1970.
    """

    size: int
    last_modified_ns: int
    etag: str | None

    def check(self, location: str, wanted: Unmodified) -> None:
        """Raise PreconditionFailedError where reading as *wanted* would."""
        if wanted.etag is not None and self.etag is None:
            raise PreconditionFailedError(
                f"{location}: an etag ({wanted.etag}) can not be verified for a local file"
            )
        check_etag(location, self.etag or "", wanted)
        check_last_modified(location, self.last_modified_ns, wanted)


class ContainerOpener(Protocol):
    """Opens the storage that a virtual location lies in."""

    async def open_container(
        self, root: str, store: StoreConfig, credentials: str | None
    ) -> Storage:
        """Return the storage whose keys are the paths below *root* (``s3://bucket/``)."""
        ...


class DeclaredContainers:
    """The virtual chunk containers that the configuration of a repository declares."""

    def __init__(self, containers: Mapping[str, VirtualChunkContainer]) -> None:
        placed: list[tuple[Place, VirtualChunkContainer]] = []
        for container in containers.values():
            with contextlib.suppress(CorruptionError):  # as the official library does
                placed.append((Place.parse(container.url_prefix), container))
        self._containers = _longest_first(placed)

    def absolute(self, location: str) -> str:
        """Return *location* as a URL, which it is unless it is ``vcc://CONTAINER/rest``.

        Raises:
            ContainerNotAllowedError: there is no container of that name.
        """
        scheme, _, rest = location.partition("://")
        if scheme.lower() != _CONTAINER_SCHEME:
            return location
        name, _, path = rest.partition("/")
        for _, container in self._containers:
            if container.name == name:
                return _as_directory(container.url_prefix) + path
        raise ContainerNotAllowedError(
            f"{location}: this repository declares no virtual chunk container named {name!r}"
        )

    def holding(self, place: Place) -> VirtualChunkContainer | None:
        """Return the container that *place* lies in, None if it lies in none."""
        return next((c for above, c in self._containers if above.holds(place)), None)


class VirtualChunkResolver:
    """Reads virtual chunks from the containers that are both declared and allowed.

    ``way_to_allow`` and ``way_to_credentials`` tell what to do about a prefix in errors.
    """

    way_to_allow: ClassVar[str] = "allow it with --allow-virtual {prefix}"
    way_to_credentials: ClassVar[str] = (
        "try --allow-virtual {prefix}=anonymous, =env or =profile:NAME"
    )

    def __init__(
        self,
        containers: Mapping[str, VirtualChunkContainer],
        allowed: Sequence[AllowedPrefix],
        opener: ContainerOpener,
    ) -> None:
        self.declare(containers)
        self._allowed = _longest_first([(Place.parse(a.prefix), a) for a in allowed])
        self._opener = opener
        self._storages: dict[tuple[str, str | None, str], Storage] = {}

    def declare(self, containers: Mapping[str, VirtualChunkContainer]) -> None:
        """Take over the containers of a configuration that changed."""
        self._containers = DeclaredContainers(containers)

    def locate(self, location: str) -> Place:
        """Return where *location* is, whoever may read it.

        Raises:
            ContainerNotAllowedError: it lies in no declared container.
            CorruptionError: *location* is not a URL that can be read.
        """
        url, target, _ = self._contained(location)
        _refuse_to_climb(url, target)
        return target

    def resolve(self, location: str) -> tuple[Place, VirtualChunkContainer, AllowedPrefix]:
        """Return where *location* is, its container, and what allows reading it.

        Raises:
            ContainerNotAllowedError: it lies in no declared container, or nobody allowed it
                (UnallowedContainerError).
            CorruptionError: *location* is not a URL that can be read.
        """
        url, target, container = self._contained(location)
        allowed = next((a for place, a in self._allowed if place.holds(target)), None)
        if allowed is None:
            way = self.way_to_allow.format(prefix=container.url_prefix)
            raise UnallowedContainerError(f"{url} may not be read: {way}", container.url_prefix)
        _refuse_to_climb(url, target)
        return target, container, allowed

    def _contained(self, location: str) -> tuple[str, Place, VirtualChunkContainer]:
        """Return the URL that *location* stands for, where it is, and its container."""
        url = self._containers.absolute(location)
        target = Place.parse(url)
        container = self._containers.holding(target)
        if container is None:
            raise ContainerNotAllowedError(
                f"{url} lies in no virtual chunk container of this repository;"
                " its owner has to declare one"
            )
        return url, target, container

    async def head(self, location: str) -> SourceInfo:
        """Return what the store tells of the file at *location*.

        Raises:
            ContainerNotAllowedError: see ``resolve``.
            MissingObjectError: the file is gone.
        """
        place, container, allowed = self.resolve(location)
        storage = await self._storage(place.root, container, allowed)
        try:
            found = await storage.head(place.key)
        except ObjectNotFoundError as exc:
            raise MissingObjectError(f"{location} is referenced but gone") from exc
        except InvalidInputError as exc:
            raise CorruptionError(f"{location} can not be read: {exc}") from exc
        etag = None if place.root == _LOCAL_ROOT else str(found.version)
        return SourceInfo(found.size, found.last_modified_ns, etag)

    async def read(self, ref: VirtualRef, byte_range: ByteRange) -> bytes:
        """Return the bytes of *byte_range* of the chunk.

        Raises:
            ContainerNotAllowedError: see ``resolve``.
            MissingObjectError: the file is gone.
            ChunkModifiedError: the file is not the one that was referenced.
        """
        place, container, allowed = self.resolve(ref.location)
        storage = await self._storage(place.root, container, allowed)
        check = None
        if ref.etag is not None or ref.last_modified is not None:
            check = Unmodified(ref.etag, ref.last_modified)
        try:
            return await storage.get_range(
                place.key, byte_range.within(ref.offset, ref.size), unmodified=check
            )
        except ObjectNotFoundError as exc:
            raise MissingObjectError(f"{ref.location} is referenced but gone") from exc
        except InvalidInputError as exc:
            raise CorruptionError(f"{ref.location} can not be read: {exc}") from exc
        except PreconditionFailedError as exc:
            raise ChunkModifiedError(
                f"{ref.location} changed since it was referenced: {exc}"
            ) from exc
        except AccessDeniedError as exc:
            way = self.way_to_credentials.format(prefix=allowed.prefix)
            raise AccessDeniedError(f"{ref.location}: {exc}; {way}") from exc

    async def _storage(
        self, root: str, container: VirtualChunkContainer, allowed: AllowedPrefix
    ) -> Storage:
        key = (root, allowed.credentials, repr(container.store))
        storage = self._storages.get(key)
        if storage is None:
            opening = self._opener.open_container(root, container.store, allowed.credentials)
            try:
                storage = await opening
            except InvalidInputError as exc:
                raise ContainerNotOfferedError(
                    f"the container {container.url_prefix} can not be opened: {exc}"
                ) from exc
            storage = self._storages.setdefault(key, storage)
        return storage


def store_options(store: StoreConfig) -> Mapping[str, Any]:
    """Return the S3 options of a container's store, empty for the other kinds."""
    return store.options if store.kind in _S3_KINDS else {}


def _no_credentials(text: str, word: str) -> str:
    known = {"anonymous": "anonymous", "env": "env", "profile": "profile:NAME"}
    near = difflib.get_close_matches(word.partition(":")[0].lower(), known, 1)
    hint = f"did you mean ={known[near[0]]}?" if near else "write =anonymous, =env or =profile:NAME"
    return f"{text}: {word!r} are no credentials; {hint}"


def _refuse_to_climb(url: str, target: Place) -> None:
    if target.key != target.path:
        raise CorruptionError(f"{url} climbs with '..', which no object's name does")


def _as_directory(prefix: str) -> str:
    return prefix if prefix.endswith("/") else f"{prefix}/"


def _without_dots(path: str) -> str:
    """Return *path* with ``.`` and ``..`` resolved; it never climbs above its beginning."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == ".." and kept:
            kept.pop()
        if segment not in {".", ".."}:
            kept.append(segment)
    if path.endswith(("/.", "/..")):
        kept.append("")
    return "/".join(kept)


def _longest_first[T](placed: list[tuple[Place, T]]) -> list[tuple[Place, T]]:
    return sorted(placed, key=lambda pair: len(pair[0].path), reverse=True)
