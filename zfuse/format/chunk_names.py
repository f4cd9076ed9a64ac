"""The directories and file names that a chunk key encoding makes of chunk indices.

A directory of chunks is known by its *level* (how many names below the array it is) and
its *prefix* (the numbers of the index that its path fixes).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from zfuse.format.zarr_json import ChunkKeyEncoding


@dataclass(frozen=True)
class ChunkNames:
    """Translates between indices of *rank* numbers and paths below their array.

    ``depth`` is the level at which chunk files lie; the first ``_unnumbered`` of the
    directories on the way have no number of the index in their names.
    """

    encoding: ChunkKeyEncoding
    rank: int
    depth: int = field(init=False)
    _unnumbered: int = field(init=False, repr=False)
    _leaf_is_a_number: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        probe = self.encoding.encode((7,) * self.rank).split("/")
        depth = self.encoding.directories(self.rank)
        one_each = self.encoding.directories(3) > self.encoding.directories(2)
        numbered = max(self.rank - 1, 0) if one_each else 0
        object.__setattr__(self, "depth", depth)
        object.__setattr__(self, "_unnumbered", depth - numbered)
        object.__setattr__(self, "_leaf_is_a_number", self.rank > 0 and probe[-1] == "7")

    def known(self, level: int) -> int:
        """Return how many numbers of the index the path of a directory at *level* fixes."""
        return max(level - self._unnumbered, 0)

    def level_of(self, known: int) -> int:
        """Return the level at which directories fix *known* numbers of the index, and no more."""
        return self._unnumbered + known

    def directory_name(self, level: int, prefix: Sequence[int]) -> str:
        """Return the last name of the path of the directory at *level* with *prefix*."""
        return self._parts(prefix)[level - 1]

    def enter(self, level: int, prefix: tuple[int, ...], name: str) -> tuple[int, ...] | None:
        """Return the prefix of the directory *name* in the one at *level*, None if it has none."""
        if level >= self.depth:
            return None
        candidate = prefix
        template = self._parts(prefix)[level]
        if self.known(level + 1) > len(prefix):
            # A prefix extension may put something in front of the number, never behind it.
            number = name.removeprefix(template.removesuffix("0"))
            if not _is_number(number):
                return None
            candidate = (*prefix, int(number))
        return candidate if self._parts(candidate)[level] == name else None

    def leaf(self, prefix: tuple[int, ...], name: str) -> tuple[int, ...] | None:
        """Return the index of the chunk file *name* in the directory of *prefix*, None if none."""
        parts = [*self._parts(prefix)[: self.depth], name]
        coords = self.encoding.decode("/".join(parts), self.rank)
        return coords if coords is not None and coords[: len(prefix)] == prefix else None

    def leaf_name(self, coords: Sequence[int]) -> str:
        """Return the last name of the path of the chunk at *coords*."""
        if self._leaf_is_a_number:
            return str(coords[-1])
        return self.encoding.encode(coords).rpartition("/")[2]

    def leaf_names(self, coords: Sequence[Sequence[int]]) -> list[str]:
        """Return the last names of many chunks' paths."""
        if self._leaf_is_a_number:
            return [str(index[-1]) for index in coords]
        return [self.encoding.encode(index).rpartition("/")[2] for index in coords]

    def find_directory(self, names: Sequence[str]) -> tuple[int, ...] | None:
        """Return the prefix of the directory that *names* lead to from the array, None if none."""
        prefix: tuple[int, ...] = ()
        for level, name in enumerate(names):
            entered = self.enter(level, prefix, name)
            if entered is None:
                return None
            prefix = entered
        return prefix

    def _parts(self, prefix: Sequence[int]) -> list[str]:
        filled = [*prefix, *([0] * (self.rank - len(prefix)))]
        return self.encoding.encode(filled).split("/")


def read_numbers(encoding: ChunkKeyEncoding, path: Sequence[str]) -> tuple[int, ...] | None:
    """Return the numbers in a *path* of chunks of whatever rank, None where there are none."""
    prefix = ChunkNames(encoding, len(path) + 2).find_directory(path)
    if prefix is not None:
        return prefix
    name = "/".join(path)
    for rank in range(name.count("/") + name.count(".") + 1, -1, -1):
        coords = encoding.decode(name, rank)
        if coords is not None:
            return coords
    return None


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal() and len(name) <= 10
