"""The configuration that a repository carries: ``config.yaml`` in version 1, FlexBuffers in 2.

Settings that zfuse does not interpret are kept as they were read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self
from urllib.parse import urlsplit

from zfuse.errors import CorruptionError
from zfuse.format.config_yaml import decode_yaml

_DEFAULT_INLINE_THRESHOLD: Final = 512
_DEFAULT_LEVEL: Final = 3
_HIGHEST_LEVEL: Final = 22
_DEFAULT_UPDATES_PER_FILE: Final = 1000

SCHEMES: Final[Mapping[str, tuple[str, ...]]] = {
    "s3": ("s3",),
    "s3_compatible": ("s3",),
    "tigris": ("s3", "tigris"),
    "gcs": ("gs", "gcs"),
    "azure": ("az", "azure", "abfs"),
    "http": ("http", "https"),
    "local_file_system": ("file",),
}
"""Per kind of store, how the URL of a container in it may begin."""


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """How to reach the objects of a virtual chunk container.

    ``kind`` is the variant's name: ``s3``, ``s3_compatible``, ``tigris``, ``gcs``,
    ``azure``, ``http`` or ``local_file_system``. ``options`` are its fields; a local file
    system has the one field ``path``.
    """

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VirtualChunkContainer:
    """A place that virtual chunks may lie in: all locations that start with ``url_prefix``."""

    url_prefix: str
    store: StoreConfig
    name: str | None = None


@dataclass(frozen=True, slots=True)
class RepositoryConfig:
    """The settings of a repository; ``raw`` holds all of them as they were stored.

    ``raw`` uses plain values, with the variants of an enum as one-key mappings (FlexBuffer
    style) whichever file it came from.
    """

    inline_chunk_threshold_bytes: int = _DEFAULT_INLINE_THRESHOLD
    virtual_chunk_containers: Mapping[str, VirtualChunkContainer] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_values(cls, values: object) -> Self:
        """Interpret the plain values of a version 2 config; None means all defaults.

        Containers that are not valid are left out, as the official library does.

        Raises:
            CorruptionError: *values* is not a mapping of settings.
        """
        if values is None:
            return cls()
        if not isinstance(values, dict):
            raise CorruptionError("the config of the repository is not a mapping of settings")
        return cls(
            inline_chunk_threshold_bytes=_inline_threshold(values),
            virtual_chunk_containers=_containers(values.get("virtual_chunk_containers")),
            raw=values,
        )

    @classmethod
    def from_yaml(cls, data: bytes) -> Self:
        """Read a version 1 ``config.yaml``.

        Raises:
            CorruptionError: *data* is not YAML, or not a mapping of settings.
        """
        return cls.from_values(decode_yaml(data))

    @property
    def compression_level(self) -> int:
        """The zstd level of metadata files; 0, which zstd takes for its default, is that too."""
        level = _number(self.raw, "compression", "level", default=_DEFAULT_LEVEL)
        return min(level, _HIGHEST_LEVEL) if level > 0 else _DEFAULT_LEVEL

    @property
    def num_updates_per_repo_info_file(self) -> int:
        """After how many entries the ops log goes on in another file; at least 1."""
        key = "num_updates_per_repo_info_file"
        return max(1, _number(self.raw, key, default=_DEFAULT_UPDATES_PER_FILE))


def _number(values: object, *keys: str, default: int) -> int:
    """Return the number that lies in *values* under *keys*, *default* if none does."""
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values if isinstance(values, int) and not isinstance(values, bool) else default


def _inline_threshold(values: Mapping[str, Any]) -> int:
    threshold = values.get("inline_chunk_threshold_bytes")
    if threshold is None:
        return _DEFAULT_INLINE_THRESHOLD
    if not isinstance(threshold, int) or isinstance(threshold, bool) or threshold < 0:
        raise CorruptionError(f"the config says inline_chunk_threshold_bytes = {threshold!r}")
    return threshold


def _containers(values: object) -> dict[str, VirtualChunkContainer]:
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise CorruptionError("the virtual_chunk_containers of the config are not a mapping")
    found = filter(None, map(_container, values.values()))
    return {container.url_prefix: container for container in found}


def _container(values: object) -> VirtualChunkContainer | None:
    """Return the container that *values* describe, None unless it is a valid one."""
    if not isinstance(values, dict):
        return None
    prefix, name, store = values.get("url_prefix"), values.get("name"), _store(values.get("store"))
    if not isinstance(prefix, str) or store is None or not is_prefix(prefix, store.kind):
        return None
    if name is not None and (not isinstance(name, str) or not name or "/" in name):
        return None
    return VirtualChunkContainer(prefix, store, name)


def _store(values: object) -> StoreConfig | None:
    if not isinstance(values, dict) or len(values) != 1:
        return None
    [(kind, options)] = values.items()
    if kind == "local_file_system":
        return StoreConfig(kind, {"path": options}) if isinstance(options, str) else None
    if kind not in SCHEMES or not isinstance(options, dict | None):
        return None
    return StoreConfig(kind, options or {})


def is_prefix(prefix: str, kind: str) -> bool:
    """Tell whether *prefix* can be that of a container in a store of the kind *kind*."""
    try:
        url = urlsplit(prefix)
    except ValueError:
        return False
    place = url.path.strip("/") if url.scheme == "file" else url.netloc
    return prefix.endswith("/") and url.scheme in SCHEMES[kind] and bool(place)
