"""Object keys of a repository.

Specification: spec-v2, "File Layout"; spec-v1 for ``refs/`` and ``config.yaml``.
"""

from typing import Final

from zfuse.format.ids import ChunkId, ManifestId, ObjectId, SnapshotId

REPO_INFO_KEY: Final = "repo"
CONFIG_KEY_V1: Final = "config.yaml"
REFS_PREFIX_V1: Final = "refs/"
SNAPSHOTS_PREFIX: Final = "snapshots/"
MANIFESTS_PREFIX: Final = "manifests/"
TRANSACTIONS_PREFIX: Final = "transactions/"
CHUNKS_PREFIX: Final = "chunks/"
OVERWRITTEN_PREFIX: Final = "overwritten/"

_YEAR_3000: Final = 32_503_680_000_000
"""In milliseconds since 1970: names of backups count down to it, so that the newest is first."""


def snapshot_key(snapshot_id: SnapshotId) -> str:
    """Return where the snapshot *snapshot_id* is stored."""
    return f"{SNAPSHOTS_PREFIX}{snapshot_id}"


def manifest_key(manifest_id: ManifestId) -> str:
    """Return where the manifest *manifest_id* is stored."""
    return f"{MANIFESTS_PREFIX}{manifest_id}"


def transaction_log_key(snapshot_id: SnapshotId) -> str:
    """Return where the transaction log of the snapshot *snapshot_id* is stored."""
    return f"{TRANSACTIONS_PREFIX}{snapshot_id}"


def chunk_key(chunk_id: ChunkId) -> str:
    """Return where the chunk *chunk_id* is stored."""
    return f"{CHUNKS_PREFIX}{chunk_id}"


def overwritten_key(name: str) -> str:
    """Return where the former repo info *name* (a ``backup_path``) is kept."""
    return f"{OVERWRITTEN_PREFIX}{name}"


def backup_name(key: str, at: int, unique: ObjectId) -> str:
    """Return what the copy of the object *key* (``repo``) is called that a change at *at* makes.

    *at* is in microseconds since 1970; *unique* tells apart those of one millisecond. Where
    the copy lies says ``overwritten_key``.
    """
    return f"{key}.{_YEAR_3000 - at // 1000:014}.{unique}"
