"""What a plan says, for people and for programs."""

from collections import Counter
from typing import Any

from zfuse.format.ids import NodeId
from zfuse.fs.plan_changes import Plan
from zfuse.repo.change_set import ChangeSet
from zfuse.repo.diff import json_differences
from zfuse.repo.view import HierarchyView


def summary(plan: Plan, view: HierarchyView) -> dict[str, Any]:
    """Return the changes of a plan by kind, in paths of nodes; *view* is the base.

    ``chunks`` counts per array those that were written and deleted. ``untracked``,
    ``invalid`` and ``open_files`` are paths of files.
    """
    changes = plan.changes
    paths = paths_of(changes, view)
    copied = plan.copied_from
    written = Counter(node_id for node_id, _ in plan.staged)
    deleted: Counter[NodeId] = Counter()
    for node_id, chunks in changes.chunks.items():
        if node_id not in copied:
            for table in chunks.tables():
                written[node_id] += len(table.refs)
                deleted[node_id] += len(table.deleted)
    return {
        "new": sorted(new.path for i, new in changes.new.items() if i not in copied),
        "updated": sorted(paths[node_id] for node_id in changes.updated),
        "deleted": sorted(gone.path for gone in changes.deleted.values()),
        "moved": [
            {"from": move.source, "to": move.target}
            for move in sorted(changes.moved.values(), key=lambda move: move.source)
        ],
        "copied": [
            {"from": source, "to": changes.new[node_id].path}
            for node_id, source in sorted(copied.items(), key=lambda item: item[1])
        ],
        "chunks": [
            {"path": paths[i], "written": written[i], "deleted": deleted[i]}
            for i in sorted(written.keys() | deleted.keys(), key=lambda i: paths[i])
            if written[i] or deleted[i]
        ],
        "untracked": sorted(plan.untracked),
        "invalid": [{"path": p.path, "reason": p.reason} for p in plan.invalid],
        "open_files": sorted(plan.open_files),
    }


def paths_of(changes: ChangeSet, view: HierarchyView) -> dict[NodeId, str]:
    """Return the path of each node after the changes, or before for those that are gone."""
    paths = {node.id: node.path for node in view.nodes.values()}
    paths |= {node_id: new.path for node_id, new in changes.new.items()}
    paths |= {node_id: move.target for node_id, move in changes.moved.items()}
    return paths


def node_differences(changes: ChangeSet, view: HierarchyView) -> list[dict[str, Any]]:
    """Return for each zarr.json that changed how its members did."""
    paths, before = paths_of(changes, view), {node.id: node for node in view.nodes.values()}
    return [
        {
            "path": paths[node_id],
            "differences": json_differences(before[node_id].user_data, document.user_data),
        }
        for node_id, document in sorted(changes.updated.items(), key=lambda item: paths[item[0]])
    ]
