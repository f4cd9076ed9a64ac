"""Kerchunk references: a JSON file, or a directory of parquet files.

They are a Zarr store, of v2 or v3, whose keys lead to parts of other files or to bytes that
came along. Read as such they keep all that Zarr has: nested groups, arrays without names of
dimensions, order F.

Specification: fsspec, "ReferenceFileSystem", versions 0 and 1, and "LazyReferenceMapper".
"""

import base64
import binascii
import io
import json
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final

import numpy as np

from zfuse.errors import InvalidInputError
from zfuse.format.ragged import Ragged
from zfuse.ingest.files import directory_table, files_table
from zfuse.ingest.key_table import METADATA, KeyTable, hierarchy
from zfuse.ingest.parsed import FileTable, ParsedSource
from zfuse.storage.foreign_files import ObjectAccess, below, canonical_url, split_url

_WHOLE: Final = np.uint64(2**64 - 1)  # the length of a reference to a whole file
_FARTHEST: Final = 2**62  # sums of two of these do not begin again at 0
_TEMPLATE: Final = "{{"
_COLUMNS: Final = ("path", "raw", "offset", "size")  # of a parquet file


@dataclass
class References:
    """References by key, as they are read; ``places`` are rows of the files by their URL."""

    base: str
    documents: dict[str, bytes] = field(default_factory=dict)
    keys: list[bytes] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    inline: list[bytes | None] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    _rows: dict[str, int] = field(default_factory=dict)

    def row_of(self, url: str) -> int:
        """Return the row of the file that a reference names, be it relative to the references."""
        row = self._rows.get(url)
        if row is None:
            absolute = url
            if "://" not in url and not url.startswith("/"):
                root, key = split_url(self.base)
                start = "/" if root == "file:///" else root
                absolute = f"{start}{below(key)}{url}"
            row = self.places.setdefault(canonical_url(absolute), len(self.places))
            self._rows[url] = row
        return row

    def add(self, key: str, value: object) -> None:
        """Add the reference of *key*, in any of the forms that kerchunk has.

        Raises:
            InvalidInputError: it has none of them.
        """
        if key.rpartition("/")[2] in METADATA:
            self.documents[key] = _bytes(key, value)
            return
        match value:
            case [str() as url]:
                self.add_part(key, url, 0, int(_WHOLE))
            case [str() as url, int() as offset, int() as length]:
                self.add_part(key, url, offset, length)
            case [None]:
                return
            case _:
                self._add_row(key, -1, (0, 0), _bytes(key, value))

    def add_part(self, key: str, url: str, offset: int, length: int) -> None:
        """Add a reference to a part of a file.

        Raises:
            InvalidInputError: no file has such a part.
        """
        if not (0 <= offset <= _FARTHEST and (0 <= length <= _FARTHEST or length == _WHOLE)):
            raise InvalidInputError(
                f"the kerchunk reference of {key} is to {length} bytes at {offset}, which no file"
                " has"
            )
        if length:  # else there is no chunk
            self._add_row(key, self.row_of(url), (offset, length), None)

    def _add_row(self, key: str, row: int, part: tuple[int, int], data: bytes | None) -> None:
        self.keys.append(key.encode())
        self.files.append(row)
        self.offsets.append(part[0])
        self.lengths.append(part[1])
        self.inline.append(data)

    def table(self, files: FileTable) -> KeyTable:
        """Return all of them, with the sizes of whole files."""
        rows = np.array(self.files, np.int64)
        lengths = np.array(self.lengths, np.uint64)
        whole = lengths == _WHOLE
        lengths[whole] = files.sizes[rows[whole]]
        return KeyTable(
            self.documents,
            Ragged.of(self.keys),
            rows,
            np.array(self.offsets, np.uint64),
            lengths,
            Ragged.of(self.inline),
        )


def parse_kerchunk_json(
    access: ObjectAccess, location: str, skip: Set[str] = frozenset()
) -> ParsedSource:
    """Return the hierarchy of the references in a JSON file; see ``parse_zarr``.

    Raises:
        InvalidInputError: they are none, or need what zfuse does not have.
        NotFoundError: the file, or one that they lead to, does not exist.
    """
    root, key = split_url(location)
    references = References(base=location.rpartition("/")[0])
    references.row_of(location)
    loaded = load_references(access.files(root).read(key), location)
    for name, value in _substituted(loaded, location).items():
        references.add(name, value)
    return _parsed(access, location, references, skip)


def load_references(data: bytes, location: str) -> dict[str, Any]:
    """Return the JSON object that kerchunk wrote.

    Raises:
        InvalidInputError: it is none.
    """
    try:
        loaded = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise InvalidInputError(
            f"{location} is not JSON, so it may be half-written: {exc}"
        ) from exc
    if not isinstance(loaded, dict):
        raise InvalidInputError(f"{location} has no kerchunk references")
    return loaded


def is_kerchunk(loaded: Mapping[str, Any]) -> bool:
    """Tell whether a JSON object looks like references."""
    references = loaded.get("refs", loaded)
    return isinstance(references, dict) and any(
        key.rpartition("/")[2] in METADATA for key in references
    )


def _substituted(loaded: Mapping[str, Any], location: str) -> Mapping[str, Any]:
    """Return the references with the texts in that version 1 has names for."""
    if not is_kerchunk(loaded):
        raise InvalidInputError(f"{location} has no kerchunk references")
    if loaded.get("gen"):
        raise InvalidInputError(
            f"{location} generates references ('gen'), which zfuse does not; write them out with"
            " fsspec"
        )
    references: Mapping[str, Any] = loaded.get("refs", loaded)
    templates = loaded.get("templates") or {}
    if not templates:
        return references
    if not isinstance(templates, dict) or not all(isinstance(t, str) for t in templates.values()):
        raise InvalidInputError(f"{location} has templates that are no texts by name")
    return {key: _with_templates(value, templates) for key, value in references.items()}


def _with_templates(value: object, templates: Mapping[str, str]) -> object:
    if not isinstance(value, list) or not value or _TEMPLATE not in str(value[0]):
        return value
    url = str(value[0])
    for name, text in templates.items():
        url = url.replace("{{" + name + "}}", text).replace("{{ " + name + " }}", text)
    if _TEMPLATE in url:
        raise InvalidInputError(f"the template in the reference {value[0]!r} is beyond zfuse")
    return [url, *value[1:]]


def _bytes(key: str, value: object) -> bytes:
    if isinstance(value, dict):
        return json.dumps(value).encode()
    data = value if isinstance(value, bytes) else None
    if isinstance(value, str):
        data = value.encode()
    if data is None:
        raise InvalidInputError(f"the kerchunk reference of {key} is {value!r}, which is none")
    if not data.startswith(b"base64:"):
        return data
    try:
        return base64.b64decode(data.removeprefix(b"base64:"), validate=True)
    except binascii.Error as exc:
        raise InvalidInputError(f"the kerchunk reference of {key} is not base64: {exc}") from exc


# --- parquet -------------------------------------------------------------------------------------


def parse_kerchunk_parquet(
    access: ObjectAccess, location: str, skip: Set[str] = frozenset()
) -> ParsedSource:
    """Return the hierarchy of the references in a directory of parquet files; see ``parse_zarr``.

    Raises:
        InvalidInputError: they are none.
        NotFoundError: a file that they lead to does not exist.
    """
    root, key = split_url(location)
    files = access.files(root)
    names, table = directory_table(access, location)
    references = References(base=location)
    # The files of the references come first: they, too, have to stay as they are.
    for place in table.locations:
        references.places[(place or b"").decode()] = len(references.places)
    loaded = load_references(files.read(below(key) + ".zmetadata"), location)
    size = int(loaded.get("record_size") or 0)
    for name, value in (loaded.get("metadata") or {}).items():
        references.add(name, value)
    for name in sorted((name or b"").decode() for name in names):
        array, _, part = name.rpartition("/")
        if part.startswith("refs.") and part.endswith(".parq"):
            first = int(part.split(".")[1]) * size
            _add_records(references, array, first, files.read(below(key) + name))
    return _parsed(access, location, references, skip)


def _add_records(references: References, array: str, first: int, data: bytes) -> None:
    """Add the records of one file, whose first is the chunk number *first* in order C."""
    records = _read_parquet(data)
    nothing = [None] * len(records)
    columns = {name: records[name].tolist() if name in records else nothing for name in _COLUMNS}
    names = _chunk_names(references.documents, array, range(first, first + len(records)))
    # What is behind the last chunk only fills up the file.
    for name, path, raw, offset, size in zip(names, *columns.values(), strict=False):
        if isinstance(raw, bytes) and raw:
            references.add(name, raw)
        elif isinstance(path, str) and path:
            references.add_part(name, path, int(offset), int(size) or int(_WHOLE))


def _read_parquet(data: bytes) -> Any:  # noqa: ANN401 - a pandas data frame
    fastparquet = import_module("fastparquet")
    try:
        return fastparquet.ParquetFile(io.BytesIO(data)).to_pandas()
    except Exception as exc:
        raise InvalidInputError(f"a parquet file of references can not be read: {exc}") from exc


def _chunk_names(documents: Mapping[str, bytes], array: str, numbers: range) -> list[str]:
    """Return the keys of the chunks with these *numbers*, in order C, up to the last there is."""
    if f"{array}/.zarray" not in documents:
        raise InvalidInputError(f"the kerchunk references have no metadata of the array {array}")
    zarray = json.loads(documents[f"{array}/.zarray"])
    counts = [
        -(-length // max(chunk, 1))
        for length, chunk in zip(zarray["shape"], zarray["chunks"], strict=True)
    ]
    if not counts:
        return [f"{array}/0"][: len(numbers)]
    separator = zarray.get("dimension_separator") or "."
    stop = min(numbers.stop, int(np.prod(counts, dtype=np.int64)))
    index = np.unravel_index(np.arange(numbers.start, max(stop, numbers.start)), counts)
    rows = zip(*(axis.tolist() for axis in index), strict=True)
    return [f"{array}/{separator.join(map(str, row))}" for row in rows]


def _parsed(
    access: ObjectAccess, location: str, references: References, skip: Set[str]
) -> ParsedSource:
    files = files_table(access, list(references.places))
    nodes = hierarchy(references.table(files), location, skip)
    return ParsedSource(location, "kerchunk", nodes, files)
