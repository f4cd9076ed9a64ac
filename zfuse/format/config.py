"""The configuration that a repository carries: ``config.yaml`` in version 1, FlexBuffers in 2.

Settings that zfuse does not interpret are kept as they were read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


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

    inline_chunk_threshold_bytes: int = 512
    virtual_chunk_containers: Mapping[str, VirtualChunkContainer] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_values(cls, values: object) -> Self:
        """Interpret the plain values of a version 2 config; None means all defaults.

        Containers that are not valid are left out, as the official library does.

        Raises:
            CorruptionError: *values* is not a mapping of settings.
        """
        raise NotImplementedError

    @classmethod
    def from_yaml(cls, data: bytes) -> Self:
        """Read a version 1 ``config.yaml``.

        Raises:
            CorruptionError: *data* is not YAML, or not a mapping of settings.
        """
        raise NotImplementedError
