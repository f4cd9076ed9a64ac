"""A transaction log in the form in which questions about single chunks are fast."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zfuse.format.ids import NodeId
from zfuse.format.transaction_log import TransactionLog

Keys = npt.NDArray[np.bytes_]
_SCALAR = b"-"  # the key of an index without numbers


@dataclass(frozen=True, slots=True)
class _Changed:
    """The keys of the chunks of one rank that changed in an array, sorted, at least one."""

    keys: Keys
    first: bytes
    last: bytes

    @classmethod
    def of(cls, coords: npt.NDArray[np.uint32]) -> "_Changed":
        keys = np.sort(_keys(coords))
        return cls(keys, bytes(keys[0]), bytes(keys[-1]))

    def has(self, key: bytes) -> bool:
        # Most commits touch one region: for chunks elsewhere numpy is not asked.
        if not self.first <= key <= self.last:
            return False
        position = int(self.keys.searchsorted(np.array(key, self.keys.dtype)))
        return bool(self.keys[position] == key)


class ChangeLog:
    """What one snapshot changed, shared by all versions that descend from it.

    ``nbytes`` is about what this occupies in memory once everything was asked.
    """

    def __init__(self, log: TransactionLog) -> None:
        self.log = log
        self.nbytes = 2 * log.nbytes
        self._by_node: dict[NodeId, dict[int, _Changed]] = {}

    @property
    def updated_chunks(self) -> Mapping[NodeId, tuple[npt.NDArray[np.uint32], ...]]:
        """The indices of the changed chunks of each array, see TransactionLog."""
        return self.log.updated_chunks

    def touches(self, node_id: NodeId, coords: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
        """Return for each of *coords* (n, rank) whether that chunk of a node was changed."""
        changed = self._changed(node_id).get(coords.shape[1])
        if changed is None:
            return np.zeros(len(coords), dtype=np.bool_)
        keys = _keys(coords)
        positions = np.searchsorted(changed.keys, keys)
        positions[positions == len(changed.keys)] = 0
        found: npt.NDArray[np.bool_] = changed.keys[positions] == keys
        return found

    def touches_one(self, node_id: NodeId, rank: int, key: bytes) -> bool:
        """Return whether the chunk of a node whose index has that ``index_key`` was changed."""
        changed = self._changed(node_id).get(rank)
        return changed is not None and changed.has(key)

    def _changed(self, node_id: NodeId) -> dict[int, _Changed]:
        """Return which chunks of a node were changed, by the rank of their index."""
        changed = self._by_node.get(node_id)
        if changed is None:
            chunks = self.log.updated_chunks.get(node_id, ())
            changed = {coords.shape[1]: _Changed.of(coords) for coords in chunks if len(coords)}
            self._by_node[node_id] = changed
        return changed


def index_key(coords: Sequence[int]) -> bytes:
    """Return what stands for a chunk index among those of one rank, and sorts like them."""
    # As numpy has it, without the zeros at the end.
    return b"".join(n.to_bytes(4) for n in coords).rstrip(b"\0") if coords else _SCALAR


def _keys(coords: npt.NDArray[np.uint32]) -> Keys:
    """Return one fixed-width byte string per row of *coords*, in the same order."""
    rank = coords.shape[1]
    if rank == 0:
        return np.full(len(coords), _SCALAR)
    return np.ascontiguousarray(coords, dtype=">u4").view(f"S{4 * rank}").reshape(-1)
