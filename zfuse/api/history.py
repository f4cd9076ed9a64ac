"""How a repository came to be what it is: ancestry, differences, the ops log."""

from collections.abc import AsyncGenerator, Iterator, Sequence, Set
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from zfuse.api.boundary import iterate, iterate_async, twins
from zfuse.api.error_kind import ErrorKind
from zfuse.api.exceptions import InvalidInputError
from zfuse.api.graph import AncestryGraph, Told
from zfuse.api.opened import ConfiguredRepository, Opening
from zfuse.api.refs import known, resolve
from zfuse.api.status import diff_of_log
from zfuse.api.updates import Update
from zfuse.api.values import Diff, ManifestFileInfo, SnapshotInfo
from zfuse.format.ids import NodeId, SnapshotId
from zfuse.format.transaction_log import MoveOperation, TransactionLog
from zfuse.repo.merged_log import merge_logs, sort_moves

if TYPE_CHECKING:
    from zfuse.format.repo_info import SnapshotInfo as EngineSnapshotInfo


class History:
    """The part of a repository that tells of its past."""

    _opening: Opening

    async def _lookup_snapshot(self, snapshot_id: str) -> SnapshotInfo:
        """Return what is known of a snapshot."""
        engine = await self._opening.fresh()
        return SnapshotInfo.of(await engine.snapshot_info(await known(engine, snapshot_id)))

    async def _list_manifest_files(self, snapshot_id: str) -> list[ManifestFileInfo]:
        """Return what is known of the manifests of a snapshot."""
        engine = await self._opening.fresh()
        view = await engine.assets.fetch_hierarchy(await known(engine, snapshot_id))
        return [
            ManifestFileInfo(str(each.manifest_id), each.size_bytes, each.num_chunk_refs)
            for each in view.snapshot.manifest_files.values()
        ]

    async def _ancestors(
        self, branch: str | None, tag: str | None, snapshot_id: str | None
    ) -> AsyncGenerator[SnapshotInfo]:
        engine = await self._opening.fresh()
        start = await resolve(engine, branch, tag, snapshot_id)
        async with aclosing(engine.ancestry(start)) as ancestry:
            async for info in ancestry:
                yield SnapshotInfo.of(info)

    def ancestry(
        self,
        *,
        branch: str | None = None,
        tag: str | None = None,
        snapshot_id: str | None = None,
    ) -> Iterator[SnapshotInfo]:
        """Yield a version and what it came from, newest first; one of the arguments names it."""
        return iterate(lambda: self._ancestors(branch, tag, snapshot_id))

    def async_ancestry(
        self,
        *,
        branch: str | None = None,
        tag: str | None = None,
        snapshot_id: str | None = None,
    ) -> AsyncGenerator[SnapshotInfo]:
        """Yield the same, in asyncio."""
        return iterate_async(lambda: self._ancestors(branch, tag, snapshot_id))

    async def _ancestry_graph(
        self,
        *,
        branch: str | None = None,
        tag: str | None = None,
        snapshot_id: str | None = None,
        plain: bool = False,
    ) -> AncestryGraph:
        """Return a drawing of the history of one version, or without one of all refs."""
        engine = await self._opening.fresh()
        tips = [*engine.branches.values(), *engine.tags.values()]
        if (branch, tag, snapshot_id) != (None, None, None):
            tips = [await resolve(engine, branch, tag, snapshot_id)]
        infos: dict[SnapshotId, EngineSnapshotInfo] = {}
        for tip in tips:
            async with aclosing(engine.ancestry(tip)) as ancestry:
                async for info in ancestry:
                    if info.id in infos:
                        break
                    infos[info.id] = info
        newest = sorted(infos.values(), key=lambda info: info.flushed_at, reverse=True)
        refs = [*engine.branches.items(), *engine.tags.items()]
        return AncestryGraph(
            Told(info, [name for name, target in refs if target == info.id]) for info in newest
        )

    async def _updates(self) -> AsyncGenerator[Update]:
        engine = await self._opening.fresh()
        async with aclosing(engine.updates()) as updates:
            async for update in updates:
                yield Update.of(update)

    def ops_log(self) -> Iterator[Update]:
        """Yield the changes of the repository, newest first; version 1 kept none."""
        return iterate(self._updates)

    def ops_log_async(self) -> AsyncGenerator[Update]:
        """Yield the same, in asyncio."""
        return iterate_async(self._updates)

    async def _diff(
        self,
        *,
        from_branch: str | None = None,
        from_tag: str | None = None,
        from_snapshot_id: str | None = None,
        to_branch: str | None = None,
        to_tag: str | None = None,
        to_snapshot_id: str | None = None,
    ) -> Diff:
        """Return what changed from one version to a later one of the same history.

        Raises:
            InvalidInputError: the first is not in the history of the second.
        """
        engine = await self._opening.fresh()
        before = await resolve(engine, from_branch, from_tag, from_snapshot_id)
        after = await resolve(engine, to_branch, to_tag, to_snapshot_id)
        if before == after:
            return Diff()
        log = await _log_between(engine, before, after)
        old = await engine.assets.fetch_hierarchy(before)
        new = await engine.assets.fetch_hierarchy(after)
        paths = {node.id: node.path for node in old.snapshot.nodes}
        now = {node.id: node.path for node in new.snapshot.nodes}
        return diff_of_log(log, paths, paths | now)

    lookup_snapshot, lookup_snapshot_async = twins(_lookup_snapshot)
    list_manifest_files, list_manifest_files_async = twins(_list_manifest_files)
    diff, diff_async = twins(_diff)
    ancestry_graph, ancestry_graph_async = twins(_ancestry_graph)


async def _log_between(
    engine: ConfiguredRepository, before: SnapshotId, after: SnapshotId
) -> TransactionLog:
    """Return all changes from one snapshot to a later one.

    Raises:
        InvalidInputError: *before* is no ancestor of *after*.
    """
    wanted: list[SnapshotId] = []
    async with aclosing(engine.ancestry(after)) as ancestry:
        async for info in ancestry:
            if info.id == before:
                break
            wanted += [info.id, *reversed(info.pruned_ancestor_tx_logs)]
        else:
            raise InvalidInputError(
                f"the snapshot {before} is not in the history of {after}",
                ErrorKind.BAD_SNAPSHOT_CHAIN_FOR_DIFF,
            )
    logs = [await engine.assets.fetch_transaction_log(log_id) for log_id in reversed(wanted)]
    merged = merge_logs(after, logs)
    return replace(merged, moved_nodes=_moves(logs, merged.deleted_groups | merged.deleted_arrays))


def _moves(logs: Sequence[TransactionLog], gone: Set[NodeId]) -> tuple[MoveOperation, ...]:
    """Return all moves, those of nodes that did not exist before included, as others tell them."""
    moves: dict[NodeId, MoveOperation] = {}
    for log in logs:
        for move in log.moved_nodes:
            first = moves.get(move.node_id, move)
            moves[move.node_id] = replace(first, target=move.target)
    kept = [move for move in moves.values() if move.source != move.target]
    return sort_moves(move for move in kept if move.node_id not in gone)
