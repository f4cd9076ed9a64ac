"""How the repository's configuration splits the references of an array into manifests.

Along each axis an array is cut after every so many chunks; the boxes of that grid are the
manifests that it may have.

The patterns of the rules are written for the engine of the official library, which knows POSIX
classes, nested sets and Unicode classes; ``regex`` reads those as meant, ``re`` does not.
What is no pattern there matches nothing. A few things match here that do not there: look-around
and back references.

Source: https://icechunk.io/en/latest/guides/manifests/
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import regex

from zfuse.format.extents import Extents
from zfuse.format.snapshot import ArrayNode

I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]
Cell = tuple[int, ...]

log = logging.getLogger(__name__)

_LONGEST_SEARCH_S: Final = 1.0
"""Whoever writes the settings must not hold up those who commit."""


@dataclass(frozen=True, slots=True)
class Splits:
    """The grid of boxes over the chunks of an array: chunks in all, and per box, by axis."""

    counts: tuple[int, ...]
    steps: tuple[int, ...]

    def box(self, cell: Cell) -> Extents:
        """Return the chunks in the box number *cell*."""
        return tuple(
            (number * step, min((number + 1) * step, count))
            for number, step, count in zip(cell, self.steps, self.counts, strict=True)
        )

    def cells_of(self, coords: U32) -> I64:
        """Return the numbers (n, rank) of the boxes in which *coords* (n, rank) lie."""
        return coords.astype(np.int64) // np.array(self.steps, np.int64)

    def cells_touching(self, extents: Extents) -> Iterator[Cell]:
        """Yield the numbers of all boxes that have chunks in common with *extents*.

        Along an axis that *extents* do not have, that is every box.
        """
        ranges = []
        for axis, (step, count) in enumerate(zip(self.steps, self.counts, strict=True)):
            low, high = extents[axis] if axis < len(extents) else (0, count)
            ranges.append(range(low // step, -(-min(high, count) // step)))
        return product(*ranges)

    @property
    def is_empty(self) -> bool:
        """Whether there is no chunk at all."""
        return 0 in self.counts


def splits_of(array: ArrayNode, config: Mapping[str, Any]) -> Splits:
    """Return how *array* is split by a repository whose settings are *config*.

    Rules that make no sense split nothing.
    """
    counts = tuple(dimension.num_chunks for dimension in array.shape)
    steps: dict[int, int] = {}
    names = array.dimension_names or (None,) * len(counts)
    for condition, dimensions in _rules(config):
        if _matches(condition, array.path):
            for axis, name in enumerate(names[: len(counts)]):
                step = None if axis in steps else _step(dimensions, axis, name)
                if step is not None:
                    steps[axis] = step
    return Splits(
        counts,
        tuple(max(1, min(count, steps.get(axis, count))) for axis, count in enumerate(counts)),
    )


def _rules(config: Mapping[str, Any]) -> list[tuple[Any, list[Any]]]:
    found: Any = config
    for key in ("manifest", "splitting", "split_sizes"):
        found = found.get(key) if isinstance(found, dict) else None
    rules = found if isinstance(found, list) else []
    return [(rule[0], rule[1]) for rule in rules if _is_rule(rule)]


def _is_rule(rule: object) -> bool:
    return isinstance(rule, list) and len(rule) == 2 and isinstance(rule[1], list)


def _matches(condition: object, path: str) -> bool:
    match condition:
        case "any_array":
            return True
        case {"path_matches": {"regex": str(pattern)}}:
            return _search(pattern, path)
        case {"name_matches": {"regex": str(pattern)}}:
            name = path.rpartition("/")[2]
            return bool(name) and _search(pattern, name)
        case {"or": list(conditions)}:
            return any(_matches(each, path) for each in conditions)
        case {"and": list(conditions)}:
            return all(_matches(each, path) for each in conditions)
        case _:
            return False


def _step(dimensions: Sequence[object], axis: int, name: str | None) -> int | None:
    for dimension in dimensions:
        match dimension:
            case {"condition": condition, "num_chunks": int(step)} if step > 0:
                if _matches_axis(condition, axis, name):
                    return step
    return None


def _matches_axis(condition: object, axis: int, name: str | None) -> bool:
    match condition:
        case "Any":
            return True
        case {"Axis": int(number)}:
            return number == axis
        case {"DimensionName": str(pattern)}:
            return name is not None and _search(pattern, name)
        case _:
            return False


def _search(pattern: str, text: str) -> bool:
    try:
        found = regex.search(pattern, text, regex.V1, timeout=_LONGEST_SEARCH_S)
    except (regex.error, TimeoutError) as exc:
        log.info("the split rule %r of the repository is not heeded: %s", pattern, exc)
        return False
    return found is not None
