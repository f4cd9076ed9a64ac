"""Writes manifest files.

Specification: spec-v2, "Chunk Manifest Files".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zfuse.errors import InvalidInputError
from zfuse.format import ref_slots as slots
from zfuse.format.envelope import DEFAULT_LEVEL, encode
from zfuse.format.extents import tight
from zfuse.format.flat_writer import REF, FlatWriter
from zfuse.format.header import FileType
from zfuse.format.ids import ManifestId, NodeId
from zfuse.format.index_keys import places_of
from zfuse.format.ragged import Ragged
from zfuse.format.ref_columns import RefColumns, RefKind, common_dictionary, merge, plain
from zfuse.format.row_writer import RowKind, write_rows
from zfuse.format.snapshot import ManifestFileInfo, ManifestRef

I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]

_UNCOMPRESSED, _ZSTD_WITH_DICTIONARY = 0, 1
_HAS_OFFSET, _HAS_ETAG, _HAS_TIME = 8, 16, 32  # beside the number of the kind
_KIND_MASK: Final = 7

_LOCATED: Final = (RefKind.NATIVE, RefKind.VIRTUAL, RefKind.PACKED)
_TAILS: Final = {RefKind.INLINE: slots.INLINE, RefKind.PACKED: slots.COMPRESSED_LOCATION}
"""Where the bytes of these kinds go."""


@dataclass(frozen=True, slots=True)
class EncodedManifest:
    """A manifest file, and what the snapshot says of it: itself, and the box of each array."""

    data: bytes
    info: ManifestFileInfo
    refs: Mapping[NodeId, ManifestRef]


def encode_manifest(
    manifest_id: ManifestId,
    arrays: Mapping[NodeId, Sequence[RefColumns]],
    *,
    spec_version: int,
    level: int = DEFAULT_LEVEL,
) -> EncodedManifest:
    """Return the manifest of some arrays, with the references of each in one or more parts.

    Parts of one array may differ in rank, as repositories hold chunks of a rank that is not
    their array's. Of several references with one index the last stays. Compressed
    locations stay so if all are of one dictionary and the version allows it (2).

    Raises:
        InvalidInputError: an array has no references, or all are too many for one file.
    """
    parts = {node_id: _by_rank(arrays[node_id]) for node_id in sorted(arrays)}
    if not parts or not all(parts.values()):
        raise InvalidInputError("a manifest must have references of each of its arrays")
    every = [part for own in parts.values() for part in own]
    dictionary = common_dictionary(every)
    if dictionary is None or spec_version == 1:
        dictionary = None
        parts = {node_id: [plain(part) for part in own] for node_id, own in parts.items()}
    w = FlatWriter()
    tables = [
        w.table((0, "8s", node_id), (1, REF, w.block(_refs(own)))) for node_id, own in parts.items()
    ]
    root = w.table(
        (1, REF, w.offsets(tables)),
        (0, "12s", manifest_id),
        (2, REF, None if dictionary is None else w.byte_vector(dictionary)),
        # Absent it would count as 1, so official writers say 0 in version 1 as well.
        (3, "B", _UNCOMPRESSED if dictionary is None else _ZSTD_WITH_DICTIONARY),
    )
    data = encode(FileType.MANIFEST, spec_version, w.finish(root), level=level)
    boxes = {node_id: tight([part.coords for part in own]) for node_id, own in parts.items()}
    return EncodedManifest(
        data=data,
        info=ManifestFileInfo(manifest_id, len(data), sum(map(len, every))),
        refs={node_id: ManifestRef(manifest_id, box) for node_id, box in boxes.items()},
    )


def _by_rank(parts: Sequence[RefColumns]) -> list[RefColumns]:
    """Return the references of *parts*, sorted, in one part for each rank."""
    ranks = sorted({part.rank for part in parts if len(part)})
    return [merge([part for part in parts if part.rank == rank]) for rank in ranks]


def _refs(parts: Sequence[RefColumns]) -> U32:
    """Return the vector of the references of one array, in one part for each rank."""
    strings, numbers = _strings(parts)
    kinds: list[RowKind] = []
    places = places_of([part.coords for part in parts])
    for part, rows, (locations, etags) in zip(parts, places, numbers, strict=True):
        codes = _codes(part)
        for code in np.unique(codes).tolist():
            own = np.flatnonzero(codes == code)
            kinds.append(_row_kind(part.take(own), code, rows[own], (locations[own], etags[own])))
    return write_rows(kinds, strings)


def _strings(parts: Sequence[RefColumns]) -> tuple[Ragged, list[tuple[I64, I64]]]:
    """Return all strings of *parts* without repetition.

    Also returns for each part by row the number of the location, and of the etag.
    """
    columns: list[Ragged] = []
    for part in parts:
        virtual = part.kinds == RefKind.VIRTUAL
        etags = part.etags.only(virtual | (part.kinds == RefKind.PACKED))
        columns += [part.texts.only(virtual), etags]
    strings, numbers = Ragged.concat(columns).unique()
    kept = strings.present
    numbers = (np.cumsum(kept) - 1)[numbers] if len(strings) else numbers
    split = np.split(numbers, np.cumsum([len(column) for column in columns])[:-1])
    return strings.take(kept), list(zip(split[::2], split[1::2], strict=True))


def _codes(part: RefColumns) -> npt.NDArray[np.uint8]:
    """Return by row which fields the table has: the kind, and what else is not the default."""
    codes = part.kinds.copy()
    virtual = (codes == RefKind.VIRTUAL) | (codes == RefKind.PACKED)
    codes[np.isin(part.kinds, _LOCATED) & (part.offsets > 0)] |= _HAS_OFFSET
    codes[virtual & part.etags.present] |= _HAS_ETAG
    codes[virtual & (part.last_modified > 0)] |= _HAS_TIME
    return codes


def _row_kind(part: RefColumns, code: int, rows: I64, numbers: tuple[I64, I64]) -> RowKind:
    """Return the rows of *part*, whose tables all have the fields that *code* says."""
    kind = RefKind(code & _KIND_MASK)
    fields: dict[int, tuple[object, npt.NDArray[Any], int]] = {
        slots.OFFSET: (code & _HAS_OFFSET, part.offsets, 2),
        slots.LENGTH: (kind in _LOCATED, part.lengths, 2),
        slots.CHUNK_ID: (kind is RefKind.NATIVE, part.chunk_ids, 3),
        slots.LAST_MODIFIED: (code & _HAS_TIME, part.last_modified, 1),
    }
    strings = {
        slots.LOCATION: (kind is RefKind.VIRTUAL, numbers[0]),
        slots.ETAG: (code & _HAS_ETAG, numbers[1]),
    }
    return RowKind(
        rows,
        part.coords,
        tuple((n, _words(column, width)) for n, (has, column, width) in fields.items() if has),
        tuple((n, column) for n, (has, column) in strings.items() if has),
        (_TAILS[kind], part.texts) if kind in _TAILS else None,
    )


def _words(column: npt.NDArray[Any], width: int) -> U32:
    return np.ascontiguousarray(column).view(np.uint32).reshape(-1, width)
