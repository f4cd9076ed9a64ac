"""Checks a manifest against the arrays that refer to it, and its references one by one.

A manifest is looked at once, however many snapshots have it; references are columns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zfuse.errors import CorruptionError, UnsupportedVersionError
from zfuse.format.envelope import Envelope
from zfuse.format.extents import Extents, contains, inside, tight
from zfuse.format.header import FileType
from zfuse.format.ids import ManifestId, NodeId
from zfuse.format.layout import manifest_key
from zfuse.format.manifest import Manifest
from zfuse.format.order import disorders
from zfuse.format.ref_columns import RefColumns, RefKind, plain
from zfuse.format.snapshot import ManifestFileInfo
from zfuse.maintenance.fsck_findings import Finding
from zfuse.maintenance.fsck_listing import GONE
from zfuse.maintenance.fsck_snapshot import as_box
from zfuse.repo.array_columns import stored_columns
from zfuse.repo.chunk_files import ChunkFiles, chunk_name

I64 = npt.NDArray[np.int64]
_MAX_OBJECT = np.uint64(2**63 - 1)


@dataclass(slots=True)
class Use:
    """An array that has a manifest: how it looks, and in which versions it does so."""

    node_id: NodeId
    path: str
    counts: tuple[int, ...]
    extents: Extents
    refs: list[str] = field(default_factory=list)

    def finding(self, key: str, problem: str, chunks: object = None) -> Finding:
        """Return what is wrong, as it hits this array."""
        coords = None if chunks is None else np.asarray(chunks, np.uint32)
        return Finding(key, problem, self.path, tuple(self.refs), coords)


@dataclass(slots=True)
class ManifestUses:
    """What snapshots say of one manifest; ``number`` is that of its first user."""

    id: ManifestId
    uses: list[Use] = field(default_factory=list)
    infos: set[ManifestFileInfo] = field(default_factory=set)
    number: int = 0

    @property
    def key(self) -> str:
        """Where the manifest is."""
        return manifest_key(self.id)

    def finding(self, problem: str) -> Finding:
        """Return what is wrong with all of the manifest, as it hits its first user."""
        return self.uses[0].finding(self.key, problem)


@dataclass(frozen=True, slots=True)
class CheckedPart:
    """The references of one array in a manifest, locations unpacked, and their first user."""

    use: Use
    columns: RefColumns


def decode_manifest(
    data: bytes, uses: ManifestUses, repository_version: int
) -> tuple[Manifest | None, list[Finding]]:
    """Decode a manifest; return it, None where that fails, and what is wrong with the file."""
    found: list[Finding] = []

    def add(problem: str) -> None:
        found.append(uses.finding(problem))

    for info in uses.infos:
        if info.size_bytes != len(data):
            add(f"it has {len(data)} bytes, a snapshot says {info.size_bytes}")
    try:
        manifest = Manifest.decode(data)
        version = Envelope.decode(data, expect=FileType.MANIFEST).header.spec_version
    except (CorruptionError, UnsupportedVersionError) as exc:
        add(f"damaged: {exc}")
        return None, found
    if manifest.id != uses.id:
        add(f"it says that its id is {manifest.id}")
    if version > repository_version:
        add(f"it is of version {version}, newer than the repository")
    paths = {use.node_id: use for use in uses.uses}
    for wrong in disorders(data, FileType.MANIFEST):
        use = uses.uses[0] if wrong.node_id is None else paths.get(wrong.node_id, uses.uses[0])
        problem = f"its {wrong.what} are out of order, or one comes twice"
        found.append(use.finding(uses.key, problem))
    return manifest, found


def check_arrays(
    manifest: Manifest, uses: ManifestUses, parts: list[CheckedPart]
) -> Iterator[Finding]:
    """Yield where the references of *manifest* do not fit its arrays; fill *parts* with them."""
    total = 0
    columns: dict[NodeId, list[RefColumns]] = {}
    for node_id in manifest.node_ids():
        columns[node_id] = [plain(part) for part in stored_columns(manifest, node_id)]
        total += sum(map(len, columns[node_id]))
    for info in uses.infos:
        if info.num_chunk_refs != total:
            yield uses.finding(f"it has {total} references, a snapshot says {info.num_chunk_refs}")
    first: dict[NodeId, Use] = {}
    for use in uses.uses:
        own = columns.get(use.node_id, [])
        yield from _check_use(own, use, uses.key)
        if first.setdefault(use.node_id, use) is use:
            parts += [CheckedPart(use, part) for part in own]


def _check_use(own: Sequence[RefColumns], use: Use, key: str) -> Iterator[Finding]:
    if not own:
        yield use.finding(key, "it has no reference of the array")
    for part in own:
        yield from _fit(part, use, key)
    # With indices of several ranks extents go as far as the shortest.
    if len(own) == 1 and own[0].rank == len(use.counts):
        yield from _check_extents(own[0], use, key)


def _fit(part: RefColumns, use: Use, key: str) -> Iterator[Finding]:
    rank = len(use.counts)
    if part.rank != rank:
        problem = f"a chunk index has {part.rank} numbers, but the array has {rank} dimensions"
        yield use.finding(key, problem, part.coords)
        return
    outside = ~inside(part.coords, [(0, count) for count in use.counts])
    if outside.any():
        problem = "chunks lie outside of the array's grid"
        yield use.finding(key, problem, part.coords[outside])
    hidden = ~inside(part.coords, use.extents)
    if hidden.any():
        problem = f"chunks lie outside of its extents, {as_box(use.extents)}: nobody finds them"
        yield use.finding(key, problem, part.coords[hidden])


def _check_extents(part: RefColumns, use: Use, key: str) -> Iterator[Finding]:
    box = tight([part.coords])
    if len(use.extents) != len(box):
        yield use.finding(key, f"its extents have {len(use.extents)} dimensions, not {len(box)}")
    elif contains(use.extents, box) and box != use.extents:
        problem = f"its extents, {as_box(use.extents)}, are wider than {as_box(box)}"
        yield use.finding(key, problem)


def check_refs(part: CheckedPart, key: str, files: ChunkFiles, number: int) -> Iterator[Finding]:
    """Yield which references are not sound, or to chunk objects that are not.

    *number* is noted for the objects that there are.
    """
    columns, use = part.columns, part.use
    kinds, coords = columns.kinds, columns.coords
    damaged = kinds == RefKind.DAMAGED
    if damaged.any():
        problem = "references say nowhere where the chunks are, or can not be read"
        yield use.finding(key, problem, coords[damaged])
    inline = kinds == RefKind.INLINE
    sizes = np.where(inline, np.maximum(columns.texts.sizes, 0).astype(np.uint64), columns.lengths)
    empty = (sizes == 0) & ~damaged
    if empty.any():
        yield use.finding(key, "chunks have no bytes", coords[empty])
    elsewhere = ~inline & ~damaged
    far = elsewhere & (
        (columns.offsets > _MAX_OBJECT) | (columns.lengths > _MAX_OBJECT - columns.offsets)
    )
    if far.any():
        yield use.finding(key, "chunks are said to lie beyond all bounds", coords[far])
    native = np.flatnonzero((kinds == RefKind.NATIVE) & ~far)
    if len(native):
        yield from _check_native(part, native, files, number)


def _check_native(
    part: CheckedPart, native: I64, files: ChunkFiles, number: int
) -> Iterator[Finding]:
    columns, use = part.columns, part.use
    ids = np.ascontiguousarray(columns.chunk_ids[native])
    ends = (columns.offsets[native] + columns.lengths[native]).astype(np.int64)
    found = files.find(ids)
    gone = found < 0
    files.use(found[~gone], ends[~gone], number)
    for rows in _by_id(ids, np.flatnonzero(gone)):
        key = f"chunks/{chunk_name(ids[rows[0]])}"
        yield use.finding(key, GONE, columns.coords[native[rows]])
    short = ~gone
    short[short] = files.sizes[found[short]] < ends[short]
    for n in np.flatnonzero(short).tolist():
        key, size = f"chunks/{chunk_name(ids[n])}", int(files.sizes[found[n]])
        problem = f"it has {size} bytes, a reference goes up to {ends[n]}"
        yield use.finding(key, problem, columns.coords[native[n : n + 1]])


def _by_id(ids: npt.NDArray[np.uint8], rows: I64) -> Iterator[I64]:
    """Yield those *rows* that have the same id, together."""
    if len(rows) == 0:
        return
    _, group = np.unique(ids[rows], axis=0, return_inverse=True)
    order = np.argsort(group.reshape(-1), kind="stable")
    edges = np.flatnonzero(np.diff(group.reshape(-1)[order])) + 1
    yield from np.split(rows[order], edges)


def check_overlap(
    left: Manifest, right: Manifest, use: Use, keys: tuple[str, str]
) -> Iterator[Finding]:
    """Yield the chunks of an array that are in both of two manifests."""
    rank = len(use.counts)
    one, two = left.array(use.node_id, rank), right.array(use.node_id, rank)
    if one is None or two is None:
        return
    coords = one.coords(0, len(one))
    both = two.find_many(coords) >= 0
    if both.any():
        yield use.finding(keys[0], f"chunks are in {keys[1]}, too", coords[both])
