"""Conflicts and what solves them, under the official library's names."""

from collections.abc import Sequence
from enum import Enum

from zfuse.api.listing import described
from zfuse.repo.conflicts import DETECT, ChunkChoice, ConflictKind, ConflictPolicy
from zfuse.repo.conflicts import Conflict as RepoConflict


class VersionSelection(Enum):
    """Whose chunk stays where both sides wrote it."""

    Fail = 0
    UseOurs = 1
    UseTheirs = 2


class ConflictType(Enum):
    """What both sides changed."""

    NewNodeConflictsWithExistingNode = (1,)
    NewNodeInInvalidGroup = (2,)
    ZarrMetadataDoubleUpdate = (3,)
    ZarrMetadataUpdateOfDeletedArray = (4,)
    ZarrMetadataUpdateOfDeletedGroup = (5,)
    ChunkDoubleUpdate = (6,)
    ChunksUpdatedInDeletedArray = (7,)
    ChunksUpdatedInUpdatedArray = (8,)
    DeleteOfUpdatedArray = (9,)
    DeleteOfUpdatedGroup = (10,)
    MoveOperationCannotBeRebased = (11,)

    def __str__(self) -> str:
        return ConflictKind(self.value[0]).name.replace("_", " ").capitalize()


class Conflict:
    """Something that both sides changed.

    ``conflicted_chunks`` are the indices of the chunks, None unless it is about chunks.
    """

    def __init__(
        self,
        conflict_type: ConflictType,
        path: str,
        conflicted_chunks: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.conflict_type = conflict_type
        self.path = path
        self.conflicted_chunks = (
            None if conflicted_chunks is None else [list(index) for index in conflicted_chunks]
        )

    @classmethod
    def of(cls, conflict: RepoConflict) -> "Conflict":
        """Return what the repository found in the words of this interface."""
        chunks = None if conflict.chunks is None else conflict.chunks.tolist()
        return cls(ConflictType((int(conflict.kind),)), conflict.path or "/", chunks)

    def __repr__(self) -> str:
        return described(
            "Conflict",
            conflict_type=self.conflict_type.name,
            path=self.path,
            conflicted_chunks=self.conflicted_chunks,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Conflict) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # the official one has none either


class ConflictSolver:
    """Says which conflicts a rebase solves, and how; use one of its subclasses."""

    def policy(self) -> ConflictPolicy:
        """Return this in the words of the repository."""
        return DETECT


class ConflictDetector(ConflictSolver):
    """Solves nothing: only changes that do not touch each other come together."""


class BasicConflictSolver(ConflictSolver):
    """Solves conflicts about chunks by a choice of a side, and lets deletions win or fail."""

    def __init__(
        self,
        *,
        on_chunk_conflict: VersionSelection = VersionSelection.UseOurs,
        fail_on_delete_of_updated_array: bool = False,
        fail_on_delete_of_updated_group: bool = False,
    ) -> None:
        self._policy = ConflictPolicy(
            _CHOICES[on_chunk_conflict],
            fail_on_delete_of_updated_array=fail_on_delete_of_updated_array,
            fail_on_delete_of_updated_group=fail_on_delete_of_updated_group,
        )

    def policy(self) -> ConflictPolicy:
        """Return this in the words of the repository."""
        return self._policy


_CHOICES = {
    VersionSelection.Fail: ChunkChoice.FAIL,
    VersionSelection.UseOurs: ChunkChoice.OURS,
    VersionSelection.UseTheirs: ChunkChoice.THEIRS,
}
