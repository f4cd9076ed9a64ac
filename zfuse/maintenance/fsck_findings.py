"""What a check of a repository finds, and what it counts."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

U32 = npt.NDArray[np.uint32]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """One thing that is wrong.

    ``object`` is the key of an object of the repository, or the location of a virtual source.
    ``path`` is the node that it hits, None for more than one, ``refs`` the versions
    (``branch/main``, ``tag/v1``, and ``snapshot/ID`` where no ref shows it), ``chunks`` (n, rank)
    the chunks of the node, None where it is not about chunks.
    """

    object: str
    problem: str
    path: str | None = None
    refs: Sequence[str] = ()
    chunks: U32 | None = None


@dataclass(slots=True)
class Counts:
    """How many objects of a kind there are, and their bytes."""

    objects: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """Count one more."""
        self.objects += 1
        self.bytes += size


@dataclass(slots=True)
class Summary:
    """What was looked at. ``unreferenced`` objects are garbage, which is no fault.

    ``not_asked`` counts, by the prefix of their container, the ``virtual_sources`` that nobody
    allowed to ask for.
    """

    spec_version: int = 0
    snapshots: int = 0
    manifests: int = 0
    chunk_refs: int = 0
    native_chunks: int = 0
    virtual_sources: int = 0
    bytes_read: int = 0
    findings: int = 0
    unreferenced: dict[str, Counts] = field(default_factory=dict)
    not_asked: dict[str, int] = field(default_factory=dict)
