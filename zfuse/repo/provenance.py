"""Which snapshot brought the content that a version shows.

A file system must tell when the content of a name last changed. Icechunk keeps no such time
per chunk, but the transaction logs of the ancestors say what each snapshot changed. They
are read newest first, up to a limit. What none of them mentions has been as it is since the
*horizon*, the oldest snapshot looked at; that snapshot then stands for its origin. So an
origin is never newer than the content, and content of one node under one origin never
changes: ``(node, origin)`` identifies content, whatever the limit.
"""

import logging
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import trio

from zfuse.errors import (
    CorruptionError,
    MissingObjectError,
    NotFoundError,
    UnsupportedVersionError,
    ZfuseError,
)
from zfuse.format.ids import INITIAL_SNAPSHOT, NodeId, SnapshotId
from zfuse.format.repo_info import SnapshotInfo
from zfuse.repo.change_log import ChangeLog, index_key
from zfuse.repo.repository import Repository

log = logging.getLogger(__name__)

MAX_LOGS: Final = 100
MAX_LOGS_V1: Final = 8
"""In version 1 each step back costs the fetch of a snapshot before the next is known."""

MAX_KEPT_LOGS: Final = 1000
"""So many logs a mount that follows a branch for years keeps at most."""

MAX_LOG_BYTES: Final = 64 << 20
_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class Origin:
    """A snapshot as the source of content; ``flushed_at`` is in microseconds since 1970."""

    snapshot_id: SnapshotId
    flushed_at: int


class Provenance:
    """The origins of everything in one version.

    ``changes`` are the logs that were read, newest first, each with its snapshot.
    """

    def __init__(self, changes: Sequence[tuple[Origin, ChangeLog]], horizon: Origin) -> None:
        self.changes = tuple(changes)
        self.origins = (*(origin for origin, _ in self.changes), horizon)
        self._metadata: dict[NodeId, int] = {}
        for number, (_, change) in enumerate(self.changes):
            for touched in (
                change.log.new_groups,
                change.log.new_arrays,
                change.log.updated_groups,
                change.log.updated_arrays,
            ):
                for node_id in touched:
                    self._metadata.setdefault(node_id, number)
        self._changing: dict[NodeId, list[int]] = {}

    def of_metadata(self, node_id: NodeId) -> Origin:
        """Return which snapshot brought the node's zarr.json."""
        return self.origins[self._metadata.get(node_id, -1)]

    def of_chunk(self, node_id: NodeId, coords: Sequence[int]) -> Origin:
        """Return which snapshot brought the chunk at *coords*."""
        key = index_key(coords)
        for number in self._changes_of(node_id):
            if self.changes[number][1].touches_one(node_id, len(coords), key):
                return self.origins[number]
        return self.origins[-1]

    def of_chunks(
        self, node_id: NodeId, coords: npt.NDArray[np.uint32]
    ) -> npt.NDArray[np.intp] | None:
        """Return for each of *coords* (n, rank) the position in ``origins`` of its snapshot.

        None means that all of them come from the last of ``origins``, the horizon.
        """
        changing = self._changes_of(node_id)
        if not changing:
            return None
        found = np.full(len(coords), len(self.origins) - 1, dtype=np.intp)
        for number in reversed(changing):
            found[self.changes[number][1].touches(node_id, coords)] = number
        return found

    def _changes_of(self, node_id: NodeId) -> list[int]:
        """Return the positions of the logs that name chunks of a node, newest first."""
        changing = self._changing.get(node_id)
        if changing is None:
            changing = [
                number
                for number, (_, change) in enumerate(self.changes)
                if node_id in change.updated_chunks
            ]
            self._changing[node_id] = changing
        return changing


async def trace(
    repository: Repository, snapshot_id: SnapshotId, known: Provenance | None = None
) -> Provenance:
    """Return the provenance of a version.

    *known*, of an earlier version of the same branch, saves reading its logs again, and
    keeps the horizon where it is.
    """
    try:
        way = await _way_back(repository, snapshot_id, known)
    except (NotFoundError, MissingObjectError):
        # Expired, though somebody looks at it still: it stands for all that it shows.
        snapshot = (await repository.assets.fetch_hierarchy(snapshot_id)).snapshot
        return Provenance((), Origin(snapshot_id, snapshot.flushed_at))
    changes, complete = await _fetch_logs(repository, way.wanted)
    if not complete:
        gap = way.wanted[len(changes)]
        return Provenance(changes, Origin(gap.id, gap.flushed_at))
    changes += way.known
    horizon = changes[MAX_KEPT_LOGS][0] if len(changes) > MAX_KEPT_LOGS else way.horizon
    return Provenance(changes[:MAX_KEPT_LOGS], horizon)


@dataclass(frozen=True, slots=True)
class _WayBack:
    """What to read in order to know a version: logs newest first, then those known already."""

    wanted: Sequence[SnapshotInfo]
    known: Sequence[tuple[Origin, ChangeLog]]
    horizon: Origin


async def _way_back(
    repository: Repository, snapshot_id: SnapshotId, known: Provenance | None
) -> _WayBack:
    limit = MAX_LOGS_V1 if repository.state.info is None else MAX_LOGS
    joins = {} if known is None else {o.snapshot_id: n for n, o in enumerate(known.origins)}
    wanted: list[SnapshotInfo] = []
    try:
        async with aclosing(repository.ancestry(snapshot_id)) as ancestry:
            async for info in ancestry:
                if known is not None and info.id in joins:
                    return _WayBack(wanted, known.changes[joins[info.id] :], known.origins[-1])
                # The first snapshot after the empty one brought all that is older than the
                # rest, and one whose ancestors were expired stands for them too: no need of
                # its log.
                first = info.parent_id in {None, INITIAL_SNAPSHOT} or info.pruned_ancestor_tx_logs
                if first or len(wanted) == limit:
                    return _WayBack(wanted, (), Origin(info.id, info.flushed_at))
                wanted.append(info)
    except CorruptionError as exc:
        if not wanted:
            raise
        log.info("change times older than %s are not known: %s", wanted[-1].id, exc)
    last = wanted.pop()
    return _WayBack(wanted, (), Origin(last.id, last.flushed_at))


async def _fetch_logs(
    repository: Repository, wanted: Sequence[SnapshotInfo]
) -> tuple[list[tuple[Origin, ChangeLog]], bool]:
    """Return the logs up to the first that is missing or too much, and whether that is all."""
    changes: list[tuple[Origin, ChangeLog]] = []
    total = 0
    for start in range(0, len(wanted), _AT_ONCE):
        batch = wanted[start : start + _AT_ONCE]
        for info, change in zip(batch, await _fetch_batch(repository, batch), strict=True):
            total += change.nbytes if change is not None else 0
            if change is None or total > MAX_LOG_BYTES:
                return changes, False
            changes.append((Origin(info.id, info.flushed_at), change))
    return changes, True


async def _fetch_batch(
    repository: Repository, batch: Sequence[SnapshotInfo]
) -> list[ChangeLog | None]:
    """Return the logs of a few snapshots, None for those that can not be read ever again."""
    logs: list[ChangeLog | None] = [None] * len(batch)
    errors: list[ZfuseError] = []

    async def fetch(number: int, snapshot_id: SnapshotId) -> None:
        try:
            logs[number] = await repository.assets.fetch_change_log(snapshot_id)
        except (CorruptionError, UnsupportedVersionError) as exc:
            log.info("change times older than %s are not known: %s", snapshot_id, exc)
        except ZfuseError as exc:
            errors.append(exc)

    async with trio.open_nursery() as nursery:
        for number, info in enumerate(batch):
            nursery.start_soon(fetch, number, info.id)
    if errors:
        raise errors[0]
    return logs
