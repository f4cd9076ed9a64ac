"""Boxes in the chunk grid of an array: per dimension a half-open range of chunk indices.

Specification: spec-v2, "Snapshot Files", ManifestRef.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]

type Extents = tuple[tuple[int, int], ...]


def tight(parts: Sequence[U32]) -> Extents:
    """Return the smallest box that holds all indices (n, rank), of which there is at least one.

    Where they are of several ranks the box has as many dimensions as the shortest, as that
    is how far readers compare.
    """
    rank = min(part.shape[1] for part in parts)
    low = np.min([part[:, :rank].min(axis=0) for part in parts], axis=0)
    high = np.max([part[:, :rank].max(axis=0) for part in parts], axis=0)
    return tuple((int(a), int(b) + 1) for a, b in zip(low, high, strict=True))


def inside(coords: U32 | I64, box: Sequence[tuple[int, int]]) -> npt.NDArray[np.bool_]:
    """Return which of *coords* (n, rank) lie in *box*, as far as both have dimensions."""
    found = np.ones(len(coords), np.bool_)
    for axis, (low, high) in enumerate(box[: coords.shape[1]]):
        found &= (coords[:, axis] >= low) & (coords[:, axis] < high)
    return found


def overlap(a: Extents, b: Extents) -> bool:
    """Whether some index lies in both boxes, as far as both have dimensions."""
    return all(max(p[0], q[0]) < min(p[1], q[1]) for p, q in zip(a, b, strict=False))


def contains(outer: Extents, inner: Extents) -> bool:
    """Whether all of *inner* lies in *outer*; both have the same number of dimensions."""
    return len(outer) == len(inner) and all(
        p[0] <= q[0] and q[1] <= p[1] for p, q in zip(outer, inner, strict=True)
    )
