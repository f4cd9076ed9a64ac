"""A transaction log in the form in which questions about single chunks are fast."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from zfuse.format.ids import NodeId
from zfuse.format.transaction_log import TransactionLog

Keys = npt.NDArray[np.bytes_]
_SCALAR = b"-"  # the key of an index without numbers


class ChangeLog:
    """What one snapshot changed, shared by all versions that descend from it.

    ``nbytes`` is about what this occupies in memory once everything was asked.
    """

    def __init__(self, log: TransactionLog) -> None:
        self.log = log
        self.nbytes = 2 * log.nbytes
        self._keys: dict[NodeId, dict[int, Keys]] = {}

    @property
    def updated_chunks(self) -> Mapping[NodeId, tuple[npt.NDArray[np.uint32], ...]]:
        """The indices of the changed chunks of each array, see TransactionLog."""
        return self.log.updated_chunks

    def touches(self, node_id: NodeId, coords: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
        """Return for each of *coords* (n, rank) whether that chunk of a node was changed."""
        changed = self._changed(node_id).get(coords.shape[1])
        if changed is None or not len(changed):
            return np.zeros(len(coords), dtype=np.bool_)
        keys = _keys(coords)
        positions = np.searchsorted(changed, keys)
        positions[positions == len(changed)] = 0
        found: npt.NDArray[np.bool_] = changed[positions] == keys
        return found

    def touches_one(self, node_id: NodeId, coords: tuple[int, ...]) -> bool:
        """Return whether the chunk at *coords* of a node was changed."""
        changed = self._changed(node_id).get(len(coords))
        if changed is None:
            return False
        key = b"".join(number.to_bytes(4) for number in coords) if coords else _SCALAR
        position = int(changed.searchsorted(np.array(key, changed.dtype)))
        return position < len(changed) and bool(changed[position] == key.rstrip(b"\0"))

    def _changed(self, node_id: NodeId) -> dict[int, Keys]:
        """Return the sorted keys of the changed chunks of a node, by the rank of their index."""
        keys = self._keys.get(node_id)
        if keys is None:
            chunks = self.log.updated_chunks.get(node_id, ())
            keys = {coords.shape[1]: np.sort(_keys(coords)) for coords in chunks}
            self._keys[node_id] = keys
        return keys


def _keys(coords: npt.NDArray[np.uint32]) -> Keys:
    """Return one fixed-width byte string per row of *coords*, in the same order."""
    rank = coords.shape[1]
    if rank == 0:
        return np.full(len(coords), _SCALAR)
    return np.ascontiguousarray(coords, dtype=">u4").view(f"S{4 * rank}").reshape(-1)
