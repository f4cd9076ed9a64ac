"""What the official library tells of a repository, as plain JSON values.

Runs under icechunk 1.1.21 and 2.3.0 alike; a question that the old one cannot answer is
left out. Ids are in their text form, times in RFC 3339 as the library prints them.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import icechunk
from zarr.core.sync import sync

from tests.compat.documents import get

MODERN = hasattr(icechunk.Repository, "ops_log")


def digest(content: bytes) -> str:
    """Return length and shortened hash of *content*."""
    return f"{len(content)} {hashlib.sha256(content).hexdigest()[:24]}"


def report(repo: icechunk.Repository, odd_refs: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Return everything about *repo*; *odd_refs* are those that it cannot list by name."""
    branches = {n: repo.lookup_branch(n) for n in repo.list_branches() if "%" not in n}
    tags = {n: repo.lookup_tag(n) for n in repo.list_tags()}
    branches |= odd_refs.get("branches", {})
    tags |= odd_refs.get("tags", {})
    told: dict[str, Any] = {
        "icechunk": icechunk.__version__,
        "branches": dict(sorted(branches.items())),
        "tags": dict(sorted(tags.items())),
        "ancestry": {
            tip: [s.id for s in repo.ancestry(snapshot_id=tip)]
            for tip in {*branches.values(), *tags.values()}
        },
    }
    ids = {snapshot for line in told["ancestry"].values() for snapshot in line}
    if MODERN:
        told |= _repository_details(repo)
        if told["repo_info"] is not None:
            ids |= {snapshot["id"] for snapshot in told["repo_info"]["snapshots"]}
    told["snapshots"] = {snapshot: _snapshot(repo, snapshot) for snapshot in sorted(ids)}
    if MODERN:
        told["references"] = _all_references(repo, told["snapshots"])
        files = {f.id for snapshot in ids for f in repo.list_manifest_files(snapshot)}
        told["manifests"] = {file: repo.inspect_manifest(file) for file in sorted(files)}
    return told


def _all_references(repo: icechunk.Repository, snapshots: dict[str, Any]) -> dict[str, Any]:
    """Return the chunk references of each array by its node id and manifests."""
    found: dict[str, Any] = {}
    for snapshot, told in snapshots.items():
        session = repo.readonly_session(snapshot_id=snapshot)
        for node in told["inspect"]["nodes"]:
            manifests = [ref["id"] for ref in node.get("manifest_refs", ())]
            key = " ".join([node["id"], *manifests])
            if manifests and key not in found:
                found[key] = sync(_references(session, node["path"]))
    return found


def _repository_details(repo: icechunk.Repository) -> dict[str, Any]:
    if int(repo.spec_version) == 1:
        return {"repo_info": None}
    return {
        "repo_info": repo.inspect_repo_info(),
        "ops_log": [_update(update) for update in repo.ops_log()],
        "repository_metadata": repo.get_metadata(),
        "enabled_flags": sorted(flag.id for flag in repo.enabled_feature_flags()),
        "disabled_flags": sorted(flag.id for flag in repo.disabled_feature_flags()),
    }


def _update(update: Any) -> dict[str, Any]:
    kind = update.kind
    fields = {
        name: _plain(getattr(kind, name))
        for name in dir(kind)
        if not name.startswith("_") and not isinstance(getattr(kind, name), type)
    }
    return {
        "kind": type(kind).__name__,
        "updated_at": _plain(update.updated_at),
        "backup_path": update.backup_path,
        "fields": fields,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if MODERN and isinstance(value, icechunk.RepoStatus):
        return {"set_at": _plain(value.set_at), "reason": value.limited_availability_reason}
    return value if isinstance(value, str | int | float | None) else str(value)


def _snapshot(repo: icechunk.Repository, snapshot: str) -> dict[str, Any]:
    session = repo.readonly_session(snapshot_id=snapshot)
    info = repo.lookup_snapshot(snapshot)
    nodes = repo.inspect_snapshot(snapshot)
    content = sync(_keys(session.store))
    told = {
        "parent": info.parent_id,
        "written_at": _plain(info.written_at),
        "message": info.message,
        "metadata": info.metadata,
        "keys": {key: told for key, told in content.items() if not told.startswith("error ")},
        "unreadable": _by_error(content),
        "inspect": json.loads(nodes) if isinstance(nodes, str) else nodes,
    }
    if info.parent_id is not None:
        told["changes"] = _changes(repo, info)
    if MODERN:
        told["transaction_log"] = _transaction_log(repo, snapshot)
    return told


def _changes(repo: icechunk.Repository, info: Any) -> dict[str, Any]:
    diff = repo.diff(from_snapshot_id=info.parent_id, to_snapshot_id=info.id)
    sets = ("new_groups", "new_arrays", "deleted_groups", "deleted_arrays", "updated_groups")
    told: dict[str, Any] = {name: sorted(getattr(diff, name)) for name in (*sets, "updated_arrays")}
    told["updated_chunks"] = {path: sorted(c) for path, c in sorted(diff.updated_chunks.items())}
    if MODERN:
        told["moved_nodes"] = [list(move) for move in diff.moved_nodes]
    return told


def _transaction_log(repo: icechunk.Repository, snapshot: str) -> dict[str, Any] | None:
    try:
        return repo.inspect_transaction_log(snapshot)
    except icechunk.IcechunkError:
        return None  # version 1 has none for the first snapshot


async def _keys(store: Any) -> dict[str, str]:
    return {key: await _content(store, key) async for key in store.list()}


def _by_error(content: dict[str, str]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for key, told in sorted(content.items()):
        if told.startswith("error "):
            grouped.setdefault(told[6:], []).append(key)
    return grouped


async def _content(store: Any, key: str) -> str:
    try:
        content = await get(store, key)
    except icechunk.IcechunkError as error:
        return f"error {getattr(error, 'kind', 'not told')}"
    return "nothing" if content is None else digest(content)


async def _references(session: Any, path: str) -> list[str] | None:
    rows: list[tuple[list[int], str]] = []
    try:
        async for batch in session.store.array_chunk_iterator(path):
            rows.extend(_rows(*batch))
    except ValueError:  # it cannot cope with indices of several ranks in one array
        return None
    return [row for _, row in sorted(rows)]


def _rows(coords: Any, kinds: Any, locations: Any, offsets: Any, lengths: Any, inlined: Any) -> Any:
    for row, index in enumerate(coords.tolist()):
        kind = {1: "native", 2: "virtual", 3: "inline"}[int(kinds[row])]
        where = digest(inlined[row]) if kind == "inline" else locations[row]
        yield index, reference(index, kind, int(offsets[row]), int(lengths[row]), where)


def reference(index: Sequence[int], kind: str, offset: int, length: int, where: str) -> str:
    """Return one chunk reference as a line; *where* is a location, id or digest."""
    return f"{'/'.join(map(str, index))} {kind} {offset}+{length} {where}"
