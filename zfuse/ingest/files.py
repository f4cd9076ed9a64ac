"""What is known of the files of a source, and that it still holds when the commit comes."""

from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from zfuse.errors import InvalidInputError
from zfuse.format.ragged import Ragged, windows
from zfuse.ingest.parsed import FileTable, ParsedSource
from zfuse.storage.foreign_files import (
    FileColumns,
    ObjectAccess,
    below,
    is_plain,
    joined_columns,
    split_url,
    url_of,
)

I64 = npt.NDArray[np.int64]

_HEADS_AT_ONCE: Final = 32
_ASCII_END: Final = 128


def directory_table(access: ObjectAccess, location: str) -> tuple[Ragged, FileTable]:
    """Return the names below *location* of all files there, and their table.

    Raises:
        InvalidInputError: the name of one is not UTF-8, which no URL holds.
    """
    root, key = split_url(location)
    found = access.files(root).list(below(key))
    names = Ragged(*found.names)
    if len(names.data) and names.data.max() >= _ASCII_END:
        _check_utf8(location, names)
    return names, _table(_located(url_of(root, below(key)), names), found)


def _check_utf8(location: str, names: Ragged) -> None:
    good = names.is_utf8()
    if not good.all():
        name = (names[int(np.argmin(good))] or b"").decode(errors="backslashreplace")
        raise InvalidInputError(f"{location}: the name {name!r} is not UTF-8, which no URL holds")


def files_table(access: ObjectAccess, locations: list[str]) -> FileTable:
    """Return the table of the files at *locations*, in that order.

    Raises:
        NotFoundError: one does not exist.
    """
    with ThreadPoolExecutor(_HEADS_AT_ONCE) as threads:
        found = joined_columns(list(threads.map(access.head, locations)))
    return _table(Ragged.of(location.encode() for location in locations), found)


def present_table(access: ObjectAccess, parsed: ParsedSource) -> FileTable:
    """Return the table of the files that *parsed* is made of, as they are now."""
    if parsed.format == "zarr":
        return directory_table(access, parsed.location)[1]
    return files_table(access, [(place or b"").decode() for place in parsed.files.locations])


def _table(locations: Ragged, found: FileColumns) -> FileTable:
    return FileTable(locations, found.sizes, found.modified_ns, Ragged(*found.etags))


def _located(prefix: str, names: Ragged) -> Ragged:
    """Return the URLs of *names* below *prefix*, which is encoded already."""
    if not is_plain(names.data):
        return Ragged.of(prefix.encode() + _quoted(name or b"") for name in names)
    front = np.frombuffer(prefix.encode(), np.uint8)
    sizes = names.sizes + len(front)
    starts = np.cumsum(sizes) - sizes
    data = np.empty(int(sizes.sum()), np.uint8)
    if len(names):
        windows(data, len(front))[starts] = windows(front, len(front))[0]
    names.copy_to(data, starts + len(front))
    return Ragged(data, starts, sizes)


def _quoted(name: bytes) -> bytes:
    return quote(name, safe="/!$&'()*+,;=:@~").encode()
