"""Whether the lists of a file are in the order that readers search them by.

The decoders of this package bring every list into order, as an official reader does not: it
searches by halves, and takes what is out of order, or hidden behind a double, for absent.

Specification: spec-v2 says of each list what it is sorted by.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from zfuse.format.envelope import Envelope
from zfuse.format.flat import FlatBuffer, Table
from zfuse.format.header import FileType
from zfuse.format.ids import NodeId
from zfuse.format.index_keys import IndexKeys
from zfuse.format.indexed_tables import IndexedTables

_FILE_INFO_V1_SIZE: Final = 32
_TRANSACTION_LISTS: Final = (
    "new groups",
    "new arrays",
    "deleted groups",
    "deleted arrays",
    "updated arrays",
    "updated groups",
)


@dataclass(frozen=True, slots=True)
class Disorder:
    """A list that is not in ascending order, or has something twice; of an array, or None."""

    what: str
    node_id: NodeId | None = None


def disorders(data: bytes, file_type: FileType) -> list[Disorder]:
    """Return the lists of the file *data*, which decodes, that are out of order.

    Raises:
        CorruptionError: it does not decode.
    """
    buffer = FlatBuffer(Envelope.decode(data, expect=file_type).payload)
    return _READERS[file_type](buffer)


def _snapshot(buffer: FlatBuffer) -> list[Disorder]:
    root = buffer.root()
    files = root.structs(6, _FILE_INFO_V1_SIZE) or ()
    return _unsorted(
        {
            "nodes": _strings(root, 2, 1),
            "manifest files": [item[:12] for item in files],
            "manifest files of version 2": _ids(root, 7, 12),
        }
    )


def _manifest(buffer: FlatBuffer) -> list[Disorder]:
    root = buffer.root()
    return [*_unsorted({"arrays": _ids(root, 1, 8)}), *_references(buffer, root)]


def _transaction_log(buffer: FlatBuffer) -> list[Disorder]:
    root = buffer.root()
    lists: dict[str, Sequence[Any]] = {
        name: root.structs(slot, NodeId.SIZE) or ()
        for slot, name in enumerate(_TRANSACTION_LISTS, start=1)
    }
    # The changed chunks of an array come in any order: 1.x writers go through them by manifest.
    return _unsorted({**lists, "arrays with changed chunks": _ids(root, 7, 8)})


def _repo_info(buffer: FlatBuffer) -> list[Disorder]:
    root = buffer.root()
    # The newest update comes first.
    updates = [-table.u64(2) for table in root.tables(7) or ()]
    return _unsorted(
        {
            "tags": _strings(root, 1, 0),
            "branches": _strings(root, 2, 0),
            "deleted tags": [name.encode() for name in root.strings(3) or ()],
            "snapshots": _ids(root, 4, 12),
            "updates": updates,
            "enabled feature flags": root.u16s(10) or (),
            "disabled feature flags": root.u16s(11) or (),
        }
    )


_READERS: Final[Mapping[FileType, Callable[[FlatBuffer], list[Disorder]]]] = {
    FileType.SNAPSHOT: _snapshot,
    FileType.MANIFEST: _manifest,
    FileType.TRANSACTION_LOG: _transaction_log,
    FileType.REPO_INFO: _repo_info,
}


def _unsorted(lists: Mapping[str, Sequence[Any]]) -> list[Disorder]:
    return [Disorder(what) for what, items in lists.items() if not _ascends(items)]


def _ascends(items: Iterable[Any]) -> bool:
    return all(a < b for a, b in pairwise(items))


def _ids(root: Table, slot: int, size: int) -> list[bytes]:
    return [table.struct(0, size) or b"" for table in root.tables(slot) or ()]


def _strings(root: Table, slot: int, name: int) -> list[bytes]:
    return [(table.string(name) or "").encode() for table in root.tables(slot) or ()]


def _references(buffer: FlatBuffer, root: Table) -> list[Disorder]:
    """Return which arrays have references that are out of order, looking at each rank."""
    found = []
    arrays = root.tables(1) or ()
    vectors = [table.vector(1, 4) or (0, 0) for table in arrays]
    tables, slices = IndexedTables.locate(buffer, vectors)
    for table, rows in zip(arrays, slices, strict=True):
        ranks = tables.ranks(rows)
        if not all(IndexKeys(tables.select(rows, rank)[1]).is_sorted() for rank in ranks):
            found.append(Disorder("references", NodeId(table.struct(0, NodeId.SIZE) or bytes(8))))
    return found
