"""What a call came to, in a form in which two libraries can be compared."""

import datetime
import re
from collections.abc import Iterator, Mapping

import icechunk

ID = re.compile(r"\b[0-9A-HJKMNP-TV-Z]{19}[0G]\b")
NODE_ID = re.compile(r"^[0-9A-HJKMNP-TV-Z]{13}$")
BACKUP = re.compile(r"repo\.\d{14}\.ID")

OFFICIAL = set(icechunk.__all__)

ATTRIBUTES = {
    "AncestryGraph": (),
    "ChunkStorageStats": ("virtual_bytes", "inlined_bytes"),
    "Conflict": ("conflict_type", "path", "conflicted_chunks"),
    "Diff": (
        *("new_groups", "new_arrays", "deleted_groups", "deleted_arrays"),
        *("updated_groups", "updated_arrays", "updated_chunks", "moved_nodes"),
    ),
    "FeatureFlag": ("id", "name", "default_enabled", "setting", "enabled"),
    "ForkSession": ("read_only", "branch", "has_uncommitted_changes"),
    "GCSummary": (
        *("chunks_deleted", "manifests_deleted", "snapshots_deleted"),
        *("transaction_logs_deleted", "objects_failed_to_delete"),
    ),
    "ManifestFileInfo": ("id", "num_chunk_refs"),
    "RepoStatus": ("availability", "limited_availability_reason"),
    "RepositoryConfig": ("inline_chunk_threshold_bytes", "virtual_chunk_containers"),
    "Session": ("read_only", "mode", "snapshot_id", "branch", "has_uncommitted_changes"),
    "SnapshotInfo": ("id", "parent_id", "written_at", "message", "metadata"),
    "Update": ("kind", "updated_at"),
    "VirtualChunkContainer": ("url_prefix", "name"),
}


def outcome(call, known: Mapping[str, str]):
    """Return what *call* returns or raises, without what differs from run to run.

    *known* gives names to ids that matter.
    """
    try:
        result = call()
        if isinstance(result, Iterator):
            result = list(result)
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is compared
        bases = [base.__name__ for base in type(exc).__mro__ if base.__name__ in OFFICIAL]
        details = [getattr(exc, name, None) for name in ("expected_parent", "actual_parent")]
        conflicts = getattr(exc, "conflicts", None)
        kind = str(getattr(exc, "kind", ""))
        names = bases or [type(exc).__name__]
        return ("raised", names, kind, plain([details, conflicts], known))
    return ("returned", plain(result, known))


def plain(value, known):
    """Return *value* as lists, dicts and texts."""
    name = type(value).__name__
    if name in ATTRIBUTES:
        told = {each: plain(getattr(value, each), known) for each in ATTRIBUTES[name]}
        return {"": name} | {k: _sorted(v) for k, v in told.items()}
    match value:
        case dict():
            return {_text(str(key), known): plain(each, known) for key, each in value.items()}
        case list() | tuple():
            return [plain(each, known) for each in value]
        case set() | frozenset():
            return sorted(plain(each, known) for each in value)
        case None | bool() | bytes():
            return value
        case _:
            return _scalar(value, known)


def _scalar(value, known):
    if type(value) in {int, float}:
        return value
    if isinstance(value, datetime.datetime):
        return "TIME"
    return _text(str(value).replace("icechunk.config.", "").replace("icechunk.ops.", ""), known)


def _sorted(value):
    if isinstance(value, dict):
        return {key: _sorted(each) for key, each in sorted(value.items())}
    if isinstance(value, list) and all(isinstance(each, list) for each in value):
        return sorted(value, key=str)
    return value


def _text(text, known):
    if NODE_ID.match(text):
        return "NODE"
    if re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)", text):
        return "TIME"
    named = ID.sub(lambda found: known.get(found[0], "ID"), text)
    return BACKUP.sub("BACKUP", named)
