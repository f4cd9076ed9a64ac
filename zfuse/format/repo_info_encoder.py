"""Writes the repo info file.

Specification: spec-v2, "Repo Info File".
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from zfuse.errors import InvalidInputError, UnsupportedVersionError
from zfuse.format.envelope import DEFAULT_LEVEL, encode
from zfuse.format.flat_writer import REF, Field, FlatWriter, utf8
from zfuse.format.header import FileType
from zfuse.format.ids import SnapshotId
from zfuse.format.metadata_items import encode_items
from zfuse.format.repo_info import RepoInfo, RepoStatus, SnapshotInfo, Update, UpdateKind
from zfuse.format.values_encoder import encode_flexbuffer

MAIN_BRANCH: Final = "main"
_NO_PARENT: Final = -1

_NAME, _ID, _STATUS = "name", "12s", "status"

_FIELDS: Final[Mapping[UpdateKind, Sequence[tuple[str, str]]]] = {
    UpdateKind.REPO_INITIALIZED: (),
    UpdateKind.REPO_MIGRATED: (("from_version", "B"), ("to_version", "B")),
    UpdateKind.CONFIG_CHANGED: (),
    UpdateKind.METADATA_CHANGED: (),
    UpdateKind.TAG_CREATED: (("name", _NAME),),
    UpdateKind.TAG_DELETED: (("name", _NAME), ("previous_snap_id", _ID)),
    UpdateKind.BRANCH_CREATED: (("name", _NAME),),
    UpdateKind.BRANCH_DELETED: (("name", _NAME), ("previous_snap_id", _ID)),
    UpdateKind.BRANCH_RESET: (("name", _NAME), ("previous_snap_id", _ID)),
    UpdateKind.NEW_COMMIT: (("branch", _NAME), ("new_snap_id", _ID)),
    UpdateKind.COMMIT_AMENDED: (
        ("branch", _NAME),
        ("previous_snap_id", _ID),
        ("new_snap_id", _ID),
    ),
    UpdateKind.NEW_DETACHED_SNAPSHOT: (("new_snap_id", _ID),),
    UpdateKind.GC_RAN: (),
    UpdateKind.EXPIRATION_RAN: (),
    UpdateKind.FEATURE_FLAG_CHANGED: (("id", "H"), ("new_value", "B"), ("is_set", "B")),
    UpdateKind.REPO_STATUS_CHANGED: (("status", _STATUS),),
}
"""The fields of each kind of update, in the order of the schema."""


def encode_repo_info(info: RepoInfo, *, level: int = DEFAULT_LEVEL) -> bytes:
    """Return the file of *info*; everything in it is sorted as the format wants it.

    Raises:
        InvalidInputError: there is no branch ``main``, a ref or a parent is a snapshot that
            is not listed, or a value is not one that JSON has.
        UnsupportedVersionError: the ops log has an entry of a kind that a later version
            added, which would get lost.
    """
    if MAIN_BRANCH not in info.branches:
        raise InvalidInputError("a repository must have the branch main")
    snapshots = sorted(info.snapshots.values(), key=lambda snapshot: snapshot.id)
    index = {snapshot.id: n for n, snapshot in enumerate(snapshots)}
    w = FlatWriter()
    before = info.repo_before_updates
    root = w.table(
        (1, REF, _refs(w, info.tags, index)),
        (2, REF, _refs(w, info.branches, index)),
        (3, REF, w.offsets([w.string(name) for name in sorted(info.deleted_tags, key=utf8)])),
        (4, REF, w.offsets([_snapshot(w, snapshot, index) for snapshot in snapshots])),
        (5, REF, _status(w, info.status)),
        (6, REF, encode_items(w, info.metadata, encode_flexbuffer)),
        (7, REF, w.offsets([_update(w, update) for update in info.latest_updates])),
        (8, REF, None if before is None else w.string(before)),
        (9, REF, None if info.config is None else w.byte_vector(encode_flexbuffer(info.config))),
        (10, REF, _flags(w, info.enabled_feature_flags)),
        (11, REF, _flags(w, info.disabled_feature_flags)),
        (0, "B", info.spec_version),
    )
    return encode(FileType.REPO_INFO, info.spec_version, w.finish(root), level=level)


def _refs(w: FlatWriter, refs: Mapping[str, SnapshotId], index: Mapping[SnapshotId, int]) -> int:
    return w.offsets(
        [
            w.table((0, REF, w.string(name)), (1, "I", _find(index, refs[name], name)))
            for name in sorted(refs, key=utf8)
        ]
    )


def _find(index: Mapping[SnapshotId, int], snapshot_id: SnapshotId, what: str) -> int:
    found = index.get(snapshot_id)
    if found is None:
        raise InvalidInputError(f"{what!r} is at the snapshot {snapshot_id}, which is not listed")
    return found


def _snapshot(w: FlatWriter, snapshot: SnapshotInfo, index: Mapping[SnapshotId, int]) -> int:
    parent, pruned = snapshot.parent_id, snapshot.pruned_ancestor_tx_logs
    return w.table(
        # An index in spite of its name in the schema, and 0 would mean the first snapshot.
        (1, "i", _NO_PARENT if parent is None else _find(index, parent, str(snapshot.id))),
        (2, "Q", snapshot.flushed_at),
        (3, REF, w.string(snapshot.message)),
        (4, REF, encode_items(w, snapshot.metadata, encode_flexbuffer)),
        (5, REF, w.vector(b"".join(pruned), len(pruned)) if pruned else None),
        (0, "12s", snapshot.id),
    )


def _status(w: FlatWriter, status: RepoStatus) -> int:
    reason = None if status.reason is None else w.string(status.reason)
    return w.table((2, REF, reason), (1, "Q", status.set_at), (0, "B", status.availability))


def _update(w: FlatWriter, update: Update) -> int:
    if update.kind is UpdateKind.UNKNOWN:
        raise UnsupportedVersionError(
            "a newer program changed this repository in a way that this zfuse does not know, "
            "and would forget: upgrade zfuse"
        )
    fields = _FIELDS[update.kind]
    details = [
        _detail(w, slot, code, update.details, name) for slot, (name, code) in enumerate(fields)
    ]
    backup = None if update.backup_path is None else w.string(update.backup_path)
    return w.table(
        (1, REF, w.table(*details)),
        (2, "Q", update.updated_at),
        (3, REF, backup),
        (0, "B", update.kind),
    )


def _detail(w: FlatWriter, slot: int, code: str, details: Mapping[str, Any], name: str) -> Field:
    if code == _NAME:
        return slot, REF, w.string(details[name])
    if code == _STATUS:
        return slot, REF, _status(w, details[name])
    return slot, code, details[name]


def _flags(w: FlatWriter, flags: Iterable[int] | None) -> int | None:
    if flags is None:
        return None
    ordered = sorted(flags)
    return w.vector(struct.pack(f"<{len(ordered)}H", *ordered), len(ordered))
