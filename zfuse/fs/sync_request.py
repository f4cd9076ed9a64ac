"""What is asked of a sync, and what it tells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from zfuse.errors import InvalidInputError
from zfuse.format.ids import SnapshotId
from zfuse.fs.plan import Problem
from zfuse.fs.session_edits import StaleNames
from zfuse.repo.conflicts import DETECT, ChunkChoice, ConflictPolicy

_SHOWN: Final = 5


class InvalidChangesError(InvalidInputError):
    """A session holds what can not be committed; ``problems`` says what, and why."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        told = "; ".join(f"{p.path}: {p.reason}" for p in problems[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        super().__init__(f"nothing was committed: {told}{more}; mend or zfuse discard them")


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """What a sync shall do; ``new_branch`` is one to make for the commit."""

    message: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    amends: bool = False
    allow_empty: bool = False
    policy: ConflictPolicy = DETECT
    new_branch: str | None = None

    @property
    def gives_way(self) -> bool:
        """Whether other bytes may come under the names of what is committed."""
        theirs = self.policy.on_chunk_conflict is ChunkChoice.THEIRS
        return theirs or self.new_branch is not None


@dataclass(frozen=True, slots=True)
class SyncOutcome:
    """What a sync did: ``snapshot_id`` is None if there was nothing to commit.

    ``stale`` are names that the kernel must look up again.
    """

    branch: str
    snapshot_id: SnapshotId | None
    summary: Mapping[str, Any]
    chunks_stored: int
    stale: StaleNames
