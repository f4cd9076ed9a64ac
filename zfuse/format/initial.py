"""The files of a repository that has no data yet.

Every repository starts with the same empty snapshot, so these are constant but for the moment
of creation and the settings.

Specification: spec-v2, "Repo Info File", "Snapshot Files"; spec-v1.
"""

from collections.abc import Mapping
from typing import Any, Final

from zfuse.format.ids import INITIAL_SNAPSHOT
from zfuse.format.repo_info import (
    Availability,
    RepoInfo,
    RepoStatus,
    SnapshotInfo,
    Update,
    UpdateKind,
)
from zfuse.format.repo_info_encoder import MAIN_BRANCH
from zfuse.format.snapshot import Snapshot
from zfuse.format.transaction_log import TransactionLog

INITIAL_MESSAGE: Final = "Repository initialized"
_METADATA: Final = {"__icechunk": {"is_root": True}}


def initial_snapshot(*, spec_version: int, flushed_at: int) -> Snapshot:
    """Return the snapshot without nodes; *flushed_at* is in microseconds since 1970."""
    return Snapshot(
        spec_version=spec_version,
        id=INITIAL_SNAPSHOT,
        parent_id=None,
        flushed_at=flushed_at,
        message=INITIAL_MESSAGE,
        metadata=_METADATA,
        manifest_files={},
        nodes=(),
    )


def initial_transaction_log() -> TransactionLog:
    """Return the log of the initial snapshot, which changed nothing; version 1 has none."""
    nothing = frozenset[Any]()
    return TransactionLog(
        spec_version=2,
        id=INITIAL_SNAPSHOT,
        new_groups=nothing,
        new_arrays=nothing,
        deleted_groups=nothing,
        deleted_arrays=nothing,
        updated_arrays=nothing,
        updated_groups=nothing,
        updated_chunks={},
        moved_nodes=(),
    )


def initial_repo_info(*, flushed_at: int, config: Mapping[str, Any] | None = None) -> RepoInfo:
    """Return the repo info whose branch ``main`` is at the initial snapshot."""
    root = SnapshotInfo(INITIAL_SNAPSHOT, None, flushed_at, INITIAL_MESSAGE, _METADATA)
    return RepoInfo(
        spec_version=2,
        tags={},
        branches={MAIN_BRANCH: INITIAL_SNAPSHOT},
        deleted_tags=(),
        snapshots={INITIAL_SNAPSHOT: root},
        status=RepoStatus(Availability.ONLINE, flushed_at, None),
        metadata={},
        latest_updates=(Update(UpdateKind.REPO_INITIALIZED, flushed_at, None, {}),),
        repo_before_updates=None,
        config=config,
        enabled_feature_flags=None,
        disabled_feature_flags=None,
    )
