"""Status, feature flags and sums of a repository, under the official library's names."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from zfuse.api.listing import described
from zfuse.api.values import moment
from zfuse.format.repo_info import Availability
from zfuse.format.repo_info import RepoStatus as EngineStatus
from zfuse.maintenance.gc import GcSummary
from zfuse.maintenance.stats import ChunkStorageStats as EngineStats


class RepoAvailability(Enum):
    """Whether a repository takes changes."""

    online = 0
    read_only = 1

    def __repr__(self) -> str:
        return str(self)


class RepoStatus:
    """Whether a repository takes changes, since when, and why not."""

    def __init__(
        self,
        availability: RepoAvailability,
        set_at: datetime | None = None,
        limited_availability_reason: str | None = None,
    ) -> None:
        self.availability = availability
        self.set_at = set_at or datetime.now().astimezone()
        self.limited_availability_reason = limited_availability_reason

    @classmethod
    def of(cls, status: EngineStatus) -> "RepoStatus":
        """Return what the engine read in the words of this interface."""
        online = status.availability is Availability.ONLINE
        availability = RepoAvailability.online if online else RepoAvailability.read_only
        return cls(availability, moment(status.set_at), status.reason)

    def __repr__(self) -> str:
        return described(
            "RepoStatus",
            availability=self.availability.name,
            set_at=self.set_at.isoformat(),
            limited_availability_reason=self.limited_availability_reason,
        )


@dataclass(frozen=True, slots=True, repr=False)
class FeatureFlag:
    """Something that a repository can forbid.

    ``setting`` is None where nobody said anything; then ``default_enabled`` counts.
    """

    id: int
    name: str
    default_enabled: bool
    setting: bool | None

    @property
    def enabled(self) -> bool:
        """Whether it is allowed."""
        return self.default_enabled if self.setting is None else self.setting

    def __repr__(self) -> str:
        return described(
            "FeatureFlag",
            id=self.id,
            name=self.name,
            default_enabled=self.default_enabled,
            setting=self.setting,
            enabled=self.enabled,
        )


@dataclass(frozen=True, slots=True, repr=False)
class GCSummary:
    """What a collection of garbage deleted."""

    bytes_deleted: int
    chunks_deleted: int
    manifests_deleted: int
    snapshots_deleted: int
    attributes_deleted: int
    transaction_logs_deleted: int
    objects_failed_to_delete: int = 0
    throttled_batches: int = 0
    delete_errors: tuple[str, ...] = ()
    skipped_phases: tuple[str, ...] = ()

    @classmethod
    def of(cls, summary: GcSummary) -> "GCSummary":
        """Return what the engine did in the words of this interface."""
        return cls(
            summary.bytes_deleted,
            summary.chunks_deleted,
            summary.manifests_deleted,
            summary.snapshots_deleted,
            summary.attributes_deleted,
            summary.transaction_logs_deleted,
        )

    def __repr__(self) -> str:
        return described("GCSummary", **{name: getattr(self, name) for name in self.__slots__})


@dataclass(frozen=True, slots=True, repr=False)
class ChunkStorageStats:
    """How many bytes the chunks of all versions occupy, by where they are."""

    native_bytes: int
    virtual_bytes: int
    inlined_bytes: int

    @classmethod
    def of(cls, stats: EngineStats) -> "ChunkStorageStats":
        """Return what the engine counted in the words of this interface."""
        return cls(stats.native_bytes, stats.virtual_bytes, stats.inlined_bytes)

    def non_virtual_bytes(self) -> int:
        """Return how many lie in the repository."""
        return self.native_bytes + self.inlined_bytes

    def total_bytes(self) -> int:
        """Return how many there are."""
        return self.non_virtual_bytes() + self.virtual_bytes

    def __add__(self, other: "ChunkStorageStats") -> "ChunkStorageStats":
        return ChunkStorageStats(
            self.native_bytes + other.native_bytes,
            self.virtual_bytes + other.virtual_bytes,
            self.inlined_bytes + other.inlined_bytes,
        )

    def __repr__(self) -> str:
        return described(
            "ChunkStorageStats",
            native_bytes=self.native_bytes,
            virtual_bytes=self.virtual_bytes,
            inlined_bytes=self.inlined_bytes,
        )
