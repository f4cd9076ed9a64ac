"""Ids by the million, in 12 bytes each."""

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Keys = npt.NDArray[np.bytes_]


class IdSet:
    """A set of ids of 12 bytes that grows: sorted runs, of which each is half of the one before.

    So adding is cheap however often it is done, and a question is a search in few runs.
    """

    def __init__(self) -> None:
        self._runs: list[Keys] = []

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def add(self, ids: U8) -> Mask:
        """Add *ids* (n, 12); return which rows were not there, nor in an earlier row."""
        keys = _keys(ids)
        different, first = np.unique(keys, return_index=True)
        new = ~self._has(different)
        is_first = np.zeros(len(keys), np.bool_)
        is_first[first[new]] = True
        run = different[new]
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = np.concatenate([self._runs.pop(), run])
            run.sort()
        if len(run):
            self._runs.append(run)
        return is_first

    def has(self, ids: U8) -> Mask:
        """Return which rows of *ids* (n, 12) are in the set."""
        return self._has(_keys(ids))

    def _has(self, keys: Keys) -> Mask:
        found = np.zeros(len(keys), np.bool_)
        for run in self._runs:
            places = np.minimum(np.searchsorted(run, keys), len(run) - 1)
            found |= run[places] == keys
        return found


def _keys(ids: U8) -> Keys:
    """Return *ids* as values that numpy compares as a whole."""
    return np.ascontiguousarray(ids).view("S12").reshape(-1)
