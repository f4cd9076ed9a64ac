"""``zfuse show``."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
import trio

from zfuse.cli import output
from zfuse.cli.log import snapshot_row
from zfuse.cli.options import ref_options, storage_options
from zfuse.cli.target import (
    Target,
    find_target_and_ref,
    locate_snapshot,
    opened,
    points_at_version,
)
from zfuse.errors import MissingObjectError
from zfuse.format.ids import NodeId, SnapshotId
from zfuse.format.transaction_log import TransactionLog
from zfuse.repo.repository import Repository


@click.command(epilog="Example: zfuse show s3://bucket/repo v1.0")
@click.argument("arguments", metavar="[REPO|PATH] [REF]", nargs=-1)
@ref_options
@storage_options
@output.as_json
def command(*, arguments: Sequence[str], as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """Show what the snapshot of REF changed; without REF, the refs and settings of the repository.

    REF is a branch, a tag, a snapshot id, or branch/NAME or tag/NAME; a path inside a mount
    such as branch/main names one too. Without REPO|PATH it is looked for in the mount of the
    current directory.
    """
    target, ref = find_target_and_ref(arguments, flags)
    shown = trio.run(_show, target, ref)
    if as_json:
        output.print_json(shown)
    elif points_at_version(target, ref):
        _print_snapshot(shown)
    else:
        _print_repository(shown)


async def _show(target: Target, ref: str | None) -> dict[str, Any]:
    async with opened(target) as repository:
        if points_at_version(target, ref):
            return await _snapshot(repository, await locate_snapshot(repository, target, ref))
        return _repository(repository)


def _repository(repository: Repository) -> dict[str, Any]:
    state = repository.state
    status = state.info.status if state.info is not None else None
    return {
        "repository": repository.storage.url,
        "spec_version": state.spec_version,
        "availability": status.availability.name.lower() if status else "online",
        "availability_reason": status.reason if status else None,
        "snapshots": len(state.info.snapshots) if state.info is not None else None,
        "branches": {name: str(i) for name, i in sorted(repository.branches.items())},
        "tags": {name: str(i) for name, i in sorted(repository.tags.items())},
        "virtual_chunk_containers": [
            {"url_prefix": c.url_prefix, "name": c.name, "store": c.store.kind}
            for c in state.config.virtual_chunk_containers.values()
        ],
    }


async def _snapshot(repository: Repository, snapshot_id: SnapshotId) -> dict[str, Any]:
    info = await repository.snapshot_info(snapshot_id)
    row = snapshot_row(info, repository)
    if info.parent_id is None:
        return row | {"changes": None}
    try:
        log = await repository.assets.fetch_transaction_log(snapshot_id)
    except MissingObjectError:
        return row | {"changes": None}  # an expiration took it
    paths = await _paths(repository, snapshot_id, info.parent_id)
    return row | {"changes": _changes(log, paths)}


async def _paths(
    repository: Repository, snapshot_id: SnapshotId, parent_id: SnapshotId
) -> Mapping[NodeId, str]:
    """Return where nodes are, deleted ones under the path that they had."""
    paths: dict[NodeId, str] = {}
    for version in (parent_id, snapshot_id):
        try:
            view = await repository.assets.fetch_hierarchy(version)
        except MissingObjectError:
            continue
        paths |= {node.id: node.path for node in view.nodes.values()}
    return paths


def _changes(log: TransactionLog, paths: Mapping[NodeId, str]) -> dict[str, Any]:
    def named(nodes: Iterable[NodeId]) -> list[str]:
        return sorted(paths.get(node, f"node {node}") for node in nodes)

    chunks = {paths.get(n, f"node {n}"): indices for n, indices in log.updated_chunks.items()}
    return {
        "new_groups": named(log.new_groups),
        "new_arrays": named(log.new_arrays),
        "deleted_groups": named(log.deleted_groups),
        "deleted_arrays": named(log.deleted_arrays),
        "updated_groups": named(log.updated_groups),
        "updated_arrays": named(log.updated_arrays),
        "updated_chunks": {path: sum(map(len, chunks[path])) for path in sorted(chunks)},
        "moved": [{"from": m.source, "to": m.target} for m in log.moved_nodes],
    }


def _print_repository(shown: Mapping[str, Any]) -> None:
    output.print_fields(
        {
            "repository": shown["repository"],
            "spec version": shown["spec_version"],
            "availability": shown["availability"],
            "reason": shown["availability_reason"],
            "snapshots": shown["snapshots"],
        }
    )
    rows = [(f"branch/{name}", target) for name, target in shown["branches"].items()]
    rows += [(f"tag/{name}", target) for name, target in shown["tags"].items()]
    rows += [
        ("container", f"{c['url_prefix']} ({c['store']})")
        for c in shown["virtual_chunk_containers"]
    ]
    print()
    output.print_table(rows)


def _print_snapshot(shown: Mapping[str, Any]) -> None:
    fields = {
        "snapshot": shown["id"],
        "parent": shown["parent_id"],
        "written at": shown["written_at"],
        "branches": ", ".join(shown["branches"]),
        "tags": ", ".join(shown["tags"]),
        **shown["metadata"],
    }
    output.print_fields(fields)
    message = [f"    {output.plain(line)}" for line in shown["message"].splitlines()]
    print("\n" + "\n".join(message) + "\n")
    changes = shown["changes"] or {}
    rows = [
        (kind.replace("_", " ").removesuffix("s"), path)
        for kind in ("new_groups", "new_arrays", "deleted_groups", "deleted_arrays")
        for path in changes.get(kind, ())
    ]
    rows += [
        ("changed", p) for k in ("updated_groups", "updated_arrays") for p in changes.get(k, ())
    ]
    rows += [("moved", f"{m['from']} -> {m['to']}") for m in changes.get("moved", ())]
    rows += [("chunks", f"{p} ({n})") for p, n in changes.get("updated_chunks", {}).items()]
    output.print_table(rows)
