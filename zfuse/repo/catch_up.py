"""What others committed to a branch since a snapshot, and which of it is in the way."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Final

from zfuse.errors import ConflictError, MissingObjectError
from zfuse.format.ids import SnapshotId
from zfuse.format.repo_info import SnapshotInfo
from zfuse.format.snapshot import Snapshot
from zfuse.format.transaction_log import TransactionLog
from zfuse.repo.at_once import at_once
from zfuse.repo.conflicts import Conflict, ConflictKind, ConflictPolicy
from zfuse.repo.merged_log import merge_logs
from zfuse.repo.repository import Repository

_AT_ONCE: Final = 16
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A conflict, and the newest snapshot that brought the other side of it, if that is known."""

    conflict: Conflict
    by: SnapshotInfo | None


class BranchConflictError(ConflictError):
    """Others changed the same things on the branch; ``obstacles`` says which, and who."""

    def __init__(self, branch: str, obstacles: Sequence[Obstacle]) -> None:
        self.obstacles = tuple(obstacles)
        places = sorted({o.conflict.path for o in obstacles if o.conflict.path is not None})
        more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
        did = [f"changed {', '.join(places[:_SHOWN])}{more}"] if places else []
        if any(o.conflict.path is None for o in obstacles):
            did.append("moved nodes")
        way = "say whose chunks count" if self.is_solvable else "no rebase solves that"
        super().__init__(
            f"others {' and '.join(did)} on the branch {branch!r} meanwhile;"
            f" {way}; or commit to a new branch, or discard yours"
        )

    @property
    def is_solvable(self) -> bool:
        """Whether saying whose chunks count would solve all of it."""
        policy = ConflictPolicy()
        return all(policy.solves(obstacle.conflict) for obstacle in self.obstacles)


@dataclass(frozen=True, slots=True)
class TheirCommits:
    """The tip of a branch, and the logs that led there from a snapshot, oldest first.

    Each log comes with the snapshot that stands for it.
    """

    tip: Snapshot
    logs: tuple[tuple[SnapshotInfo, TransactionLog], ...]

    def merged(self) -> TransactionLog:
        """Return all logs as one."""
        return merge_logs(self.tip.id, [log for _, log in self.logs])

    def obstacle(self, conflict: Conflict) -> Obstacle:
        """Return *conflict* with whose commit it is."""
        found = [info for info, log in self.logs if _concerns(log, conflict)]
        return Obstacle(conflict, found[-1] if found else None)


async def their_commits(
    repository: Repository, branch: str, base_id: SnapshotId
) -> TheirCommits | None:
    """Return what came to *branch* since *base_id*, None if nothing did.

    The repository's state is read anew.

    Raises:
        ConflictError: the branch was reset or rewritten, or what others did was forgotten.
        NotFoundError: there is no such branch any more.
    """
    await repository.refresh()
    tip_id = repository.lookup_branch(branch)
    if tip_id == base_id:
        return None
    wanted = await _logs_since(repository, branch, tip_id, base_id)
    logs: dict[int, TransactionLog] = {}

    async def fetch(number: int, log_id: SnapshotId) -> None:
        logs[number] = await repository.assets.fetch_transaction_log(log_id)

    try:
        await at_once(
            [partial(fetch, number, log_id) for number, (_, log_id) in enumerate(wanted)],
            most=_AT_ONCE,
        )
    except MissingObjectError as exc:
        raise ConflictError(
            f"what others did on the branch {branch!r} was forgotten when snapshots expired, so"
            f" changes can not be merged ({exc}); commit to a new branch"
        ) from exc
    tip = (await repository.assets.fetch_hierarchy(tip_id)).snapshot
    return TheirCommits(tip, tuple((wanted[number][0], logs[number]) for number in sorted(logs)))


async def _logs_since(
    repository: Repository, branch: str, tip_id: SnapshotId, base_id: SnapshotId
) -> list[tuple[SnapshotInfo, SnapshotId]]:
    """Return the ids of the logs since *base_id*, oldest first, each with its snapshot."""
    found: list[tuple[SnapshotInfo, SnapshotId]] = []
    async with aclosing(repository.ancestry(tip_id)) as ancestry:
        async for info in ancestry:
            if info.id == base_id:
                return found[::-1]
            found.append((info, info.id))
            for log_id in reversed(info.pruned_ancestor_tx_logs):
                if log_id == base_id:  # itself expired by now
                    return found[::-1]
                found.append((info, log_id))
    raise ConflictError(
        f"the branch {branch!r} was reset or its history rewritten: {base_id}, where these changes"
        " began, is not in it any more; commit to a new branch"
    )


def _concerns(log: TransactionLog, conflict: Conflict) -> bool:
    node_id = conflict.node_id
    match conflict.kind:
        case ConflictKind.CHUNK_DOUBLE_UPDATE:
            return node_id in log.updated_chunks
        case ConflictKind.MOVE_OPERATION_CANNOT_BE_REBASED if node_id is None:
            return bool(log.moved_nodes)
        case _:
            return any(
                node_id in nodes
                for nodes in (
                    *(log.new_groups, log.new_arrays, log.deleted_groups, log.deleted_arrays),
                    *(log.updated_groups, log.updated_arrays, log.updated_chunks),
                )
            )
