"""The settings of a repository, under the official library's names.

None stands for the default everywhere. The values of a stored config have the names of the
attributes here, so one pair of functions (``zfuse.api.config_values``) serves all classes.

Settings that have no meaning for zfuse are kept, stored and left to others.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import Enum
from typing import Any, Self

from zfuse.api.boundary import translated
from zfuse.api.containers import VirtualChunkContainer
from zfuse.api.manifest_conditions import (
    ManifestPreloadCondition,
    ManifestSplitCondition,
    ManifestSplitDimCondition,
)
from zfuse.format.container_values import check_place


class CompressionAlgorithm(Enum):
    """How metadata files are compressed."""

    Zstd = 0

    @staticmethod
    def default() -> "CompressionAlgorithm":
        """Return the only one."""
        return CompressionAlgorithm.Zstd


@dataclass(slots=True)
class CompressionConfig:
    """How metadata files are compressed."""

    algorithm: CompressionAlgorithm | None = None
    level: int | None = None

    @staticmethod
    def default() -> "CompressionConfig":
        """Return the defaults."""
        return CompressionConfig()


@dataclass(slots=True)
class CachingConfig:
    """How much is kept in memory; zfuse keeps all of it under one limit of its own."""

    num_snapshot_nodes: int | None = None
    num_chunk_refs: int | None = None
    num_transaction_changes: int | None = None
    num_bytes_attributes: int | None = None
    num_bytes_chunks: int | None = None

    @staticmethod
    def default() -> "CachingConfig":
        """Return the defaults."""
        return CachingConfig()


@dataclass(slots=True)
class ManifestPreloadConfig:
    """Which manifests are loaded before they are asked for; zfuse loads none."""

    max_total_refs: int | None = None
    preload_if: ManifestPreloadCondition | None = None
    max_arrays_to_scan: int | None = None


SplitSizes = tuple[
    tuple[ManifestSplitCondition, tuple[tuple[ManifestSplitDimCondition, int], ...]], ...
]


@dataclass(slots=True, init=False)
class ManifestSplittingConfig:
    """How many chunks along which dimensions one manifest holds, for which arrays.

    The first condition that an array fulfils counts.
    """

    split_sizes: SplitSizes

    def __init__(
        self,
        split_sizes: Iterable[
            tuple[ManifestSplitCondition, Iterable[tuple[ManifestSplitDimCondition, int]]]
        ]
        | None = None,
    ) -> None:
        self.split_sizes = tuple(
            (condition, tuple((dim, int(size)) for dim, size in sizes))
            for condition, sizes in split_sizes or ()
        )

    @staticmethod
    def from_dict(
        split_sizes: Mapping[ManifestSplitCondition, Mapping[ManifestSplitDimCondition, int]],
    ) -> "ManifestSplittingConfig":
        """Return the splitting that a dict of dicts, in its order, tells of."""
        return ManifestSplittingConfig((c, sizes.items()) for c, sizes in split_sizes.items())

    def to_dict(self) -> dict[ManifestSplitCondition, dict[ManifestSplitDimCondition, int]]:
        """Return what ``from_dict`` takes."""
        return {condition: dict(sizes) for condition, sizes in self.split_sizes}


@dataclass(slots=True)
class ManifestVirtualChunkLocationCompressionConfig:
    """When and how the locations of virtual chunks are compressed in manifests."""

    min_num_chunks: int | None = None
    dictionary_max_training_samples: int | None = field(default=None, kw_only=True)
    dictionary_max_size_bytes: int | None = field(default=None, kw_only=True)
    compression_level: int | None = field(default=None, kw_only=True)


@dataclass(slots=True)
class ManifestConfig:
    """How manifests are written and read."""

    preload: ManifestPreloadConfig | None = None
    splitting: ManifestSplittingConfig | None = None
    virtual_chunk_location_compression: ManifestVirtualChunkLocationCompressionConfig | None = None
    max_concurrent_manifest_fetches_during_commit: int | None = None


@dataclass(slots=True)
class StorageRetriesSettings:
    """How often a request is tried, and the pauses in between."""

    max_tries: int | None = None
    initial_backoff_ms: int | None = None
    max_backoff_ms: int | None = None


@dataclass(slots=True)
class StorageTimeoutSettings:
    """How long parts of a request may take."""

    connect_timeout_ms: int | None = None
    read_timeout_ms: int | None = None
    operation_timeout_ms: int | None = None
    operation_attempt_timeout_ms: int | None = None


@dataclass(slots=True)
class StorageConcurrencySettings:
    """How many requests fetch one object, and of which size."""

    max_concurrent_requests_for_object: int | None = None
    ideal_concurrent_request_size: int | None = None


@dataclass(slots=True)
class StorageSettings:
    """How a store is used."""

    concurrency: StorageConcurrencySettings | None = None
    retries: StorageRetriesSettings | None = None
    unsafe_use_conditional_create: bool | None = None
    unsafe_use_conditional_update: bool | None = None
    unsafe_use_metadata: bool | None = None
    storage_class: str | None = None
    metadata_storage_class: str | None = None
    chunks_storage_class: str | None = None
    minimum_size_for_multipart_upload: int | None = None
    timeouts: StorageTimeoutSettings | None = None


@dataclass(slots=True)
class RepoUpdateRetryConfig:
    """How often a change of the repository is tried when others are faster."""

    default: StorageRetriesSettings | None = None


@dataclass(slots=True)
class RepositoryConfig:
    """All settings of a repository."""

    inline_chunk_threshold_bytes: int | None = None
    get_partial_values_concurrency: int | None = None
    compression: CompressionConfig | None = None
    max_concurrent_requests: int | None = None
    caching: CachingConfig | None = None
    storage: StorageSettings | None = None
    virtual_chunk_containers: dict[str, VirtualChunkContainer] | None = None
    manifest: ManifestConfig | None = None
    repo_update_retries: RepoUpdateRetryConfig | None = None
    num_updates_per_repo_info_file: int | None = None
    max_concurrent_decodes: int | None = None

    @staticmethod
    def default() -> "RepositoryConfig":
        """Return the settings of a repository that says nothing."""
        return RepositoryConfig()

    def get_virtual_chunk_container(self, name: str) -> VirtualChunkContainer | None:
        """Return the container with the URL prefix *name*, None if there is none."""
        return (self.virtual_chunk_containers or {}).get(name)

    def set_virtual_chunk_container(self, cont: VirtualChunkContainer) -> None:
        """Declare a container, in place of those with its URL prefix or its name.

        Raises:
            InvalidInputError: the container is not valid.
        """
        with translated():
            check_place(cont.to_stored())
        others = {
            prefix: other
            for prefix, other in (self.virtual_chunk_containers or {}).items()
            if cont.name is None or other.name != cont.name
        }
        self.virtual_chunk_containers = {**others, cont.url_prefix: cont}

    def clear_virtual_chunk_containers(self) -> None:
        """Declare no containers any more."""
        self.virtual_chunk_containers = {}

    def merge(self, other: Self) -> "RepositoryConfig":
        """Return these settings with those in their place that *other* has."""
        return merged(self, other)


def merged[C: Any](ours: C, theirs: C) -> C:
    """Return the settings *ours* with those in their place that *theirs* has."""
    changed: dict[str, object] = {}
    for setting in fields(ours):
        new, old = getattr(theirs, setting.name), getattr(ours, setting.name)
        if new is None:
            continue
        changed[setting.name] = new
        if isinstance(old, dict):
            changed[setting.name] = {**old, **new}
        elif is_dataclass(old) and not isinstance(old, ManifestSplittingConfig | type):
            changed[setting.name] = merged(old, new)
    return replace(ours, **changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Who works with the repository: the program, the job, the person."""

    client: str | None = None
    workload: str | None = None
    principal: str | None = None
