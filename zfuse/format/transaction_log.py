"""Transaction logs: what one snapshot changed.

Specification: spec-v2, "Transaction Log Files".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from zfuse.format.ids import NodeId, SnapshotId


@dataclass(frozen=True, slots=True)
class MoveOperation:
    """A node that went from one path to another."""

    source: str
    target: str
    node_id: NodeId
    is_array: bool


@dataclass(frozen=True, slots=True)
class TransactionLog:
    """The changes between a snapshot and its parent.

    ``updated_chunks`` gives per array the indices of the chunks that were added,
    overwritten or deleted: one (n, rank) array, sorted, per rank that occurs.
    ``nbytes`` is about what this object occupies in memory.
    """

    spec_version: int
    id: SnapshotId
    new_groups: frozenset[NodeId]
    new_arrays: frozenset[NodeId]
    deleted_groups: frozenset[NodeId]
    deleted_arrays: frozenset[NodeId]
    updated_arrays: frozenset[NodeId]
    updated_groups: frozenset[NodeId]
    updated_chunks: Mapping[NodeId, tuple[npt.NDArray[np.uint32], ...]]
    moved_nodes: tuple[MoveOperation, ...]
    nbytes: int

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a transaction log file.

        Raises:
            CorruptionError: *data* is not a sound transaction log.
            UnsupportedVersionError: it is of a newer specification.
        """
        raise NotImplementedError
