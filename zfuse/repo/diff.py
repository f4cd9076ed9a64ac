"""What differs between two versions, by looking at both; their history does not matter."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from zfuse.format.ids import SnapshotId
from zfuse.format.index_keys import IndexKeys
from zfuse.format.ref_columns import RefColumns, plain
from zfuse.format.snapshot import ArrayNode, Node
from zfuse.repo.array_columns import array_columns
from zfuse.repo.asset_manager import AssetManager
from zfuse.repo.repository import Repository


async def difference(
    repository: Repository, before: SnapshotId, after: SnapshotId
) -> dict[str, Any]:
    """Return the nodes that are new, updated, deleted or moved, and chunks written and deleted.

    Nodes are the same where their ids are. A chunk counts as written where its reference is
    another one.

    Raises:
        MissingObjectError, CorruptionError: a snapshot or manifest can not be read.
    """
    assets = repository.assets
    old = {node.id: node for node in (await assets.fetch_hierarchy(before)).snapshot.nodes}
    new = {node.id: node for node in (await assets.fetch_hierarchy(after)).snapshot.nodes}
    both = [(old[node_id], new[node_id]) for node_id in old.keys() & new.keys()]
    both.sort(key=lambda pair: pair[1].path)
    updated = [(was, now) for was, now in both if was.user_data != now.user_data]
    moved = [(was, now) for was, now in both if was.path != now.path]
    chunks = [
        counts
        for was, now in [*both, *((None, new[i]) for i in new.keys() - old.keys())]
        if (counts := await _chunks(assets, was, now)) is not None
    ]
    return {
        "new": sorted(new[node_id].path for node_id in new.keys() - old.keys()),
        "updated": [now.path for _, now in updated],
        "deleted": sorted(old[node_id].path for node_id in old.keys() - new.keys()),
        "moved": [{"from": was.path, "to": now.path} for was, now in moved],
        "copied": [],
        "chunks": sorted(chunks, key=lambda told: told["path"]),
        "untracked": [],
        "invalid": [],
        "open_files": [],
        "metadata": [
            {"path": now.path, "differences": json_differences(was.user_data, now.user_data)}
            for was, now in updated
        ],
    }


async def _chunks(assets: AssetManager, was: Node | None, now: Node) -> dict[str, Any] | None:
    if not isinstance(now, ArrayNode):
        return None
    if isinstance(was, ArrayNode) and was.manifests == now.manifests:
        return None
    rank = len(now.shape)
    after = await _columns(assets, now, rank)
    before = RefColumns.empty(rank)
    gone = 0
    if isinstance(was, ArrayNode):
        before = await _columns(assets, was, len(was.shape))
        if before.rank != rank:
            gone, before = len(before), RefColumns.empty(rank)
    keys = IndexKeys(before.coords)
    rows = keys.find_many(after.coords)
    same = _equal(before, after, rows)
    deleted = gone + int((IndexKeys(after.coords).find_many(before.coords) < 0).sum())
    written = int((~same).sum())
    return {"path": now.path, "written": written, "deleted": deleted} if written + deleted else None


async def _columns(assets: AssetManager, array: ArrayNode, rank: int) -> RefColumns:
    found = await array_columns(assets, array, ())
    return plain(found[0]) if found else RefColumns.empty(rank)


def _equal(
    before: RefColumns, after: RefColumns, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Return which references of *after* are those in *rows* of *before*, -1 for none."""
    same = rows >= 0
    found = np.flatnonzero(same)
    other = rows[found]
    equal = (
        (before.kinds[other] == after.kinds[found])
        & (before.offsets[other] == after.offsets[found])
        & (before.lengths[other] == after.lengths[found])
        & (before.chunk_ids[other] == after.chunk_ids[found]).all(axis=1)
        & (before.last_modified[other] == after.last_modified[found])
    )
    for position in np.flatnonzero(equal).tolist():
        left, right = int(other[position]), int(found[position])
        if before.texts[left] != after.texts[right] or before.etags[left] != after.etags[right]:
            equal[position] = False
    same[found] = equal
    return same


def json_differences(before: bytes, after: bytes) -> list[dict[str, Any]]:
    """Return which members of a JSON document differ: their names, and both values.

    A member that one side lacks has no value there.
    """
    try:
        old, new = json.loads(before), json.loads(after)
    except ValueError:
        return []
    return list(_differences(old, new, ""))


def _differences(old: Any, new: Any, path: str) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - JSON
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            inner = f"{path}.{name}" if path else name
            if name not in new:
                yield {"member": inner, "before": old[name]}
            elif name not in old:
                yield {"member": inner, "after": new[name]}
            else:
                yield from _differences(old[name], new[name], inner)
    elif old != new or type(old) is not type(new):
        yield {"member": path, "before": old, "after": new}
