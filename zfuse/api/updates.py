"""The ops log, under the official library's names."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, ClassVar, Final

from zfuse.api.administration_values import RepoStatus
from zfuse.api.listing import described
from zfuse.api.nested import nest
from zfuse.api.values import moment
from zfuse.format.repo_info import RepoStatus as EngineStatus
from zfuse.format.repo_info import Update as EngineUpdate
from zfuse.format.repo_info import UpdateKind


class UpdateType:
    """What a change of the repository was: one of the classes below."""

    BranchCreated: ClassVar[type["_BranchCreated"]]
    BranchDeleted: ClassVar[type["_BranchDeleted"]]
    BranchReset: ClassVar[type["_BranchReset"]]
    CommitAmended: ClassVar[type["_CommitAmended"]]
    ConfigChanged: ClassVar[type["_ConfigChanged"]]
    ExpirationRan: ClassVar[type["_ExpirationRan"]]
    FeatureFlagChanged: ClassVar[type["_FeatureFlagChanged"]]
    GCRan: ClassVar[type["_GCRan"]]
    MetadataChanged: ClassVar[type["_MetadataChanged"]]
    NewCommit: ClassVar[type["_NewCommit"]]
    NewDetachedSnapshot: ClassVar[type["_NewDetachedSnapshot"]]
    RepoInitialized: ClassVar[type["_RepoInitialized"]]
    RepoMigrated: ClassVar[type["_RepoMigrated"]]
    RepoStatusChanged: ClassVar[type["_RepoStatusChanged"]]
    TagCreated: ClassVar[type["_TagCreated"]]
    TagDeleted: ClassVar[type["_TagDeleted"]]
    Unknown: ClassVar[type["_Unknown"]]

    def __repr__(self) -> str:
        told = ", ".join(f"{f.name}={_quoted(getattr(self, f.name))}" for f in fields(self))  # type: ignore[arg-type]
        return f"UpdateType.{type(self).__name__}({told})"


def _quoted(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    title, *lines = str(value).strip().splitlines()
    return f"{title.strip('<>').removeprefix('zfuse.')}({', '.join(lines)})" if lines else title


@dataclass(frozen=True, slots=True, repr=False)
class _BranchCreated(UpdateType):
    name: str


@dataclass(frozen=True, slots=True, repr=False)
class _BranchDeleted(UpdateType):
    name: str
    previous_snap_id: str


@dataclass(frozen=True, slots=True, repr=False)
class _BranchReset(UpdateType):
    name: str
    previous_snap_id: str


@dataclass(frozen=True, slots=True, repr=False)
class _CommitAmended(UpdateType):
    branch: str
    previous_snap_id: str
    new_snap_id: str


@dataclass(frozen=True, slots=True, repr=False)
class _ConfigChanged(UpdateType):
    pass


@dataclass(frozen=True, slots=True, repr=False)
class _ExpirationRan(UpdateType):
    pass


@dataclass(frozen=True, slots=True, repr=False)
class _FeatureFlagChanged(UpdateType):
    id: int
    new_value: bool | None


@dataclass(frozen=True, slots=True, repr=False)
class _GCRan(UpdateType):
    pass


@dataclass(frozen=True, slots=True, repr=False)
class _MetadataChanged(UpdateType):
    pass


@dataclass(frozen=True, slots=True, repr=False)
class _NewCommit(UpdateType):
    branch: str
    new_snap_id: str


@dataclass(frozen=True, slots=True, repr=False)
class _NewDetachedSnapshot(UpdateType):
    new_snap_id: str


@dataclass(frozen=True, slots=True, repr=False)
class _RepoInitialized(UpdateType):
    pass


@dataclass(frozen=True, slots=True, repr=False)
class _RepoMigrated(UpdateType):
    from_version: int
    to_version: int


@dataclass(frozen=True, slots=True, repr=False)
class _RepoStatusChanged(UpdateType):
    status: RepoStatus


@dataclass(frozen=True, slots=True, repr=False)
class _TagCreated(UpdateType):
    name: str


@dataclass(frozen=True, slots=True, repr=False)
class _TagDeleted(UpdateType):
    name: str
    previous_snap_id: str


@dataclass(frozen=True, slots=True, repr=False)
class _Unknown(UpdateType):
    update_type: int


_CLASSES: Final[Mapping[UpdateKind, type[UpdateType]]] = {
    UpdateKind.BRANCH_CREATED: _BranchCreated,
    UpdateKind.BRANCH_DELETED: _BranchDeleted,
    UpdateKind.BRANCH_RESET: _BranchReset,
    UpdateKind.COMMIT_AMENDED: _CommitAmended,
    UpdateKind.CONFIG_CHANGED: _ConfigChanged,
    UpdateKind.EXPIRATION_RAN: _ExpirationRan,
    UpdateKind.FEATURE_FLAG_CHANGED: _FeatureFlagChanged,
    UpdateKind.GC_RAN: _GCRan,
    UpdateKind.METADATA_CHANGED: _MetadataChanged,
    UpdateKind.NEW_COMMIT: _NewCommit,
    UpdateKind.NEW_DETACHED_SNAPSHOT: _NewDetachedSnapshot,
    UpdateKind.REPO_INITIALIZED: _RepoInitialized,
    UpdateKind.REPO_MIGRATED: _RepoMigrated,
    UpdateKind.REPO_STATUS_CHANGED: _RepoStatusChanged,
    UpdateKind.TAG_CREATED: _TagCreated,
    UpdateKind.TAG_DELETED: _TagDeleted,
    UpdateKind.UNKNOWN: _Unknown,
}
nest(UpdateType, **{each.__name__.lstrip("_"): each for each in _CLASSES.values()})


@dataclass(frozen=True, slots=True, repr=False)
class Update:
    """A change of the repository.

    ``backup_path`` names what was replaced, inside ``overwritten/``.
    """

    kind: UpdateType
    updated_at: datetime
    backup_path: str | None

    @classmethod
    def of(cls, update: EngineUpdate) -> "Update":
        """Return what the engine read in the words of this interface."""
        details = {name: _plain(value) for name, value in update.details.items()}
        if update.kind is UpdateKind.FEATURE_FLAG_CHANGED and not details.pop("is_set"):
            details["new_value"] = None
        kind = _CLASSES[update.kind](**details)
        return cls(kind, moment(update.updated_at), update.backup_path)

    def __repr__(self) -> str:
        return described(
            "Update",
            kind=self.kind,
            updated_at=self.updated_at.isoformat(),
            backup_path=self.backup_path,
        )


def _plain(value: object) -> Any:  # noqa: ANN401 - any detail
    match value:
        case EngineStatus():
            return RepoStatus.of(value)
        case bytes():
            return str(value)
        case _:
            return value
