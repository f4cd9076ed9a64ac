"""How stores of virtual chunks are reached, under the official library's names."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Final

from zfuse.api.nested import nest
from zfuse.errors import InvalidInputError
from zfuse.format.config import StoreConfig


class ChecksumAlgorithm(Enum):
    """What an S3 store checks uploads with."""

    Crc32 = 0
    Crc32c = 1
    Crc64Nvme = 2
    Sha1 = 3
    Sha256 = 4

    @property
    def stored_name(self) -> str:
        """What a repository's config calls it."""
        return self.name.lower().replace("nvme", "_nvme")


@dataclass(slots=True, unsafe_hash=True)
class S3Options:
    """Where a store that speaks S3 is, and how it is spoken to."""

    region: str | None = None
    endpoint_url: str | None = None
    allow_http: bool = False
    anonymous: bool = False
    force_path_style: bool = False
    network_stream_timeout_seconds: int | None = None
    requester_pays: bool = False
    checksum_algorithm: ChecksumAlgorithm | None = None

    def to_values(self) -> dict[str, Any]:
        """Return the options as a repository's config stores them."""
        chosen = self.checksum_algorithm
        return {
            "region": self.region,
            "endpoint_url": self.endpoint_url,
            "anonymous": self.anonymous,
            "allow_http": self.allow_http,
            "force_path_style": self.force_path_style,
            "network_stream_timeout_seconds": self.network_stream_timeout_seconds,
            "requester_pays": self.requester_pays,
            "checksum_algorithm": None if chosen is None else chosen.stored_name,
        }

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> "S3Options":
        """Read what ``to_values`` returned."""
        known = {name: values[name] for name in cls.__slots__ if values.get(name) is not None}
        if (name := known.get("checksum_algorithm")) is not None:
            by_name = {choice.stored_name: choice for choice in ChecksumAlgorithm}
            known["checksum_algorithm"] = by_name.get(name)
        return cls(**known)


class ObjectStoreConfig:
    """A kind of store, with how to reach it: one of the classes below."""

    InMemory: ClassVar[type["_InMemory"]]
    LocalFileSystem: ClassVar[type["_LocalFileSystem"]]
    S3Compatible: ClassVar[type["_S3Compatible"]]
    S3: ClassVar[type["_S3"]]
    Tigris: ClassVar[type["_Tigris"]]
    Gcs: ClassVar[type["_Gcs"]]
    Azure: ClassVar[type["_Azure"]]
    Http: ClassVar[type["_Http"]]

    def store_config(self) -> StoreConfig:
        """Return this as a repository's config stores it."""
        raise NotImplementedError

    @staticmethod
    def of(store: StoreConfig) -> "AnyObjectStoreConfig":
        """Return the store that a repository's config tells of."""
        if store.kind == "local_file_system":
            return _LocalFileSystem(str(store.options["path"]))
        if store.kind in _SPEAKING_S3:
            return _SPEAKING_S3[store.kind](S3Options.from_values(store.options))
        return _WITH_OPTIONS[store.kind](store.options)


class _InMemory(ObjectStoreConfig):
    """The memory of this process, which no other one can read."""

    def store_config(self) -> StoreConfig:
        """Refuse: a repository can not tell others of it."""
        raise InvalidInputError("virtual chunks can not lie in the memory of a process")

    def __repr__(self) -> str:
        return "ObjectStoreConfig.InMemory()"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _InMemory)

    __hash__ = None  # type: ignore[assignment]  # as those of the other kinds


class _LocalFileSystem(ObjectStoreConfig):
    """Files of this machine; *path* is a directory."""

    def __init__(self, path: str) -> None:
        self.path = path

    def store_config(self) -> StoreConfig:
        """Return this as a repository's config stores it."""
        return StoreConfig("local_file_system", {"path": self.path})

    def __repr__(self) -> str:
        return f"ObjectStoreConfig.LocalFileSystem({self.path!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _LocalFileSystem) and self.path == other.path

    __hash__ = None  # type: ignore[assignment]  # it can change


class _S3Compatible(ObjectStoreConfig):
    """A store that speaks _S3 and is not Amazon's."""

    kind = "s3_compatible"

    def __init__(self, options: S3Options) -> None:
        self.options = options

    def store_config(self) -> StoreConfig:
        """Return this as a repository's config stores it."""
        return StoreConfig(self.kind, self.options.to_values())

    def __repr__(self) -> str:
        return f"ObjectStoreConfig.{type(self).__name__}({self.options!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # it can change


class _S3(_S3Compatible):
    """Amazon _S3."""

    kind = "s3"


class _Tigris(_S3Compatible):
    """Tigris."""

    kind = "tigris"


class _Gcs(ObjectStoreConfig):
    """Google Cloud Storage."""

    kind = "gcs"

    def __init__(self, opts: Mapping[str, str] | None = None) -> None:
        self.opts = None if opts is None else dict(opts)

    def store_config(self) -> StoreConfig:
        """Return this as a repository's config stores it."""
        return StoreConfig(self.kind, self.opts or {})

    def __repr__(self) -> str:
        return f"ObjectStoreConfig.{type(self).__name__}({self.opts!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and (self.opts or {}) == (other.opts or {})

    __hash__ = None  # type: ignore[assignment]  # it can change


class _Azure(_Gcs):
    """Azure Blob Storage."""

    kind = "azure"


class _Http(_Gcs):
    """Files behind a web server; *headers* are sent with every request."""

    kind = "http"

    def __init__(
        self, opts: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(opts)
        self.headers = None if headers is None else dict(headers)


nest(
    ObjectStoreConfig,
    InMemory=_InMemory,
    LocalFileSystem=_LocalFileSystem,
    S3Compatible=_S3Compatible,
    S3=_S3,
    Tigris=_Tigris,
    Gcs=_Gcs,
    Azure=_Azure,
    Http=_Http,
)

_SPEAKING_S3: Final[Mapping[str, type[_S3Compatible]]] = {
    each.kind: each for each in (_S3, _S3Compatible, _Tigris)
}
_WITH_OPTIONS: Final[Mapping[str, type[_Gcs]]] = {each.kind: each for each in (_Gcs, _Azure, _Http)}

AnyObjectStoreConfig = (
    _InMemory | _LocalFileSystem | _S3 | _S3Compatible | _Gcs | _Azure | _Tigris | _Http
)


def s3_store(  # noqa: PLR0913, PLR0917 - the official signature
    region: str | None = None,
    endpoint_url: str | None = None,
    allow_http: bool = False,  # noqa: FBT001, FBT002 - the official signature
    anonymous: bool = False,  # noqa: FBT001, FBT002
    s3_compatible: bool = False,  # noqa: FBT001, FBT002
    force_path_style: bool = False,  # noqa: FBT001, FBT002
    network_stream_timeout_seconds: int = 60,
    requester_pays: bool = False,  # noqa: FBT001, FBT002
    checksum_algorithm: ChecksumAlgorithm | None = None,
) -> _S3Compatible | _S3:
    """Return how a store of virtual chunks that speaks _S3 is reached."""
    options = S3Options(
        region=region,
        endpoint_url=endpoint_url,
        allow_http=allow_http,
        anonymous=anonymous,
        force_path_style=force_path_style,
        network_stream_timeout_seconds=network_stream_timeout_seconds,
        requester_pays=requester_pays,
        checksum_algorithm=checksum_algorithm,
    )
    return _S3Compatible(options) if s3_compatible else _S3(options)


def http_store(
    opts: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> _Http:
    """Return how virtual chunks behind a web server are reached."""
    return _Http(opts, headers)


def local_filesystem_store(path: str) -> _LocalFileSystem:
    """Return how virtual chunks below a directory are reached."""
    return _LocalFileSystem(path)


def gcs_store(opts: Mapping[str, str] | None = None) -> _Gcs:
    """Return how virtual chunks in Google Cloud Storage are reached, which zfuse can not yet."""
    return _Gcs(opts)


def azure_store(*, account: str, config: Mapping[str, str] | None = None) -> _Azure:
    """Return how virtual chunks in _Azure are reached, which zfuse can not yet."""
    return _Azure({"account": account, **(config or {})})
