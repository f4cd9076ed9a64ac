"""What of an HDF5 file no reference can lead to, although VirtualiZarr's parser makes no fuss.

It takes for granted that the values of a data set lie in the file as its type and its filters
say. Where they do not, it leaves them out, or refers to bytes that decode to something else.
Specification: HDF5 File Format, "Data Layout Message" and "Version 1 B-trees" (filter mask).
"""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import numpy as np

from zfuse.errors import InvalidInputError
from zfuse.format.ragged import Ragged
from zfuse.ingest.parsed import ChunkTable

_SKIP: Final = "leave it out with --skip"
_COPY: Final = f"{_SKIP}, or ingest a copy that has its values in the file, as numpy knows them"


@dataclass(frozen=True, slots=True)
class Contents:
    """What an HDF5 file has, by path.

    ``groups`` are all groups, parents first, with the names of those directly below; ``compact``
    the chunks of data sets that are kept among the metadata.
    """

    groups: Mapping[str, Set[str]]
    compact: Mapping[str, ChunkTable]


def contents_of(reader: Any, location: str, skip: Set[str]) -> Contents:  # noqa: ANN401
    """Return what is in the HDF5 file *reader*, but for what is called as a name in *skip*.

    Raises:
        InvalidInputError: a data set can not be referenced; this names it.
    """
    look = _Look(import_module("h5py"), location, skip)
    return look.contents(reader)


class _Look:
    """A look at all data sets of a file."""

    def __init__(self, h5py: Any, location: str, skip: Set[str]) -> None:  # noqa: ANN401
        self._h5py = h5py
        self._location = location
        self._skip = skip
        self._groups: dict[str, set[str]] = {}

    def contents(self, reader: Any) -> Contents:  # noqa: ANN401 - a file
        """Return all that is there, if there is nothing wrong with any of it."""
        found = {}
        with self._h5py.File(reader, mode="r") as file:
            for path, data_set in self._data_sets(file, "", ()):
                fault = self._fault(data_set)
                if fault is not None:
                    raise InvalidInputError(f"{self._location}/{path} {fault}; {_COPY}")
                layout = data_set.id.get_create_plist().get_layout()
                # Strings of any length are elsewhere, and read by the parser.
                if layout == self._h5py.h5d.COMPACT and data_set.size and data_set.dtype != "O":
                    found[path] = _one_chunk(data_set)
        return Contents(self._groups, found)

    def _data_sets(
        self,
        group: Any,  # noqa: ANN401 - h5py's
        path: str,
        above: tuple[int, ...],
    ) -> Iterator[tuple[str, Any]]:
        """Yield the paths of all data sets below *group*, and them; *above* are its parents."""
        address = self._h5py.h5o.get_info(group.id).addr
        if address in above:
            raise InvalidInputError(
                f"{self._location}/{path} is a link to a group that it lies in; {_SKIP}"
            )
        below_here = self._groups.setdefault(path, set())
        for name in group:
            below = f"{path}/{name}".lstrip("/")
            if name in self._skip:
                continue
            if isinstance(group.get(name, getlink=True), self._h5py.ExternalLink):
                raise InvalidInputError(
                    f"{self._location}/{below} is a link to another file; {_SKIP}"
                )
            member = group.get(name)
            if member is None:
                raise InvalidInputError(
                    f"{self._location}/{below} is a link that leads nowhere; {_SKIP}"
                )
            if isinstance(member, self._h5py.Dataset):
                yield below, member
            elif isinstance(member, self._h5py.Group):
                below_here.add(name)
                yield from self._data_sets(member, below, (*above, address))

    def _fault(self, data_set: Any) -> str | None:  # noqa: ANN401 - h5py's
        """Return why the bytes of a data set are not its values in Zarr, None if they are."""
        settings = data_set.id.get_create_plist()
        if data_set.shape is None:
            return "has no values at all, which Zarr does not know"
        if settings.get_layout() == self._h5py.h5d.VIRTUAL:
            return "is a virtual data set, made of others"
        if settings.get_external_count():
            return "has its values in another file"
        if not self._is_plain(data_set):
            return "has numbers with some bits unused, or in a place of their own"
        if data_set.chunks is not None and settings.get_nfilters() and _skips_filters(data_set):
            return "has chunks that did not go through all of its filters"
        return None

    def _is_plain(self, data_set: Any) -> bool:  # noqa: ANN401
        """Tell whether numbers are stored as numpy has them in memory."""
        stored = data_set.id.get_type()
        if isinstance(stored, self._h5py.h5t.TypeEnumID):
            stored = stored.get_super()
        if data_set.dtype.kind not in "iuf":
            return True
        return bool(stored == self._h5py.h5t.py_create(np.dtype(data_set.dtype.str)))


def _skips_filters(data_set: Any) -> bool:  # noqa: ANN401 - h5py's
    return data_set.id.chunk_iter(lambda chunk: chunk.filter_mask or None) is not None


def _one_chunk(data_set: Any) -> ChunkTable:  # noqa: ANN401 - h5py's
    data = np.asarray(data_set[()], data_set.dtype).tobytes()
    return ChunkTable(
        np.zeros((1, len(data_set.shape)), np.uint32),
        np.array([-1]),
        np.zeros(1, np.uint64),
        np.array([len(data)], np.uint64),
        Ragged.of([data]),
    )
