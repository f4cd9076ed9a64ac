"""What parsing a source gives: a hierarchy, and where each chunk of it lies, in numpy columns.

It is made in worker threads or on other machines, and may be kept in a file for a run that
goes on after another was killed: ``to_bytes`` and ``from_bytes`` are the one way for both.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zfuse.errors import CorruptionError
from zfuse.format.ragged import Ragged
from zfuse.format.ref_columns import RefColumns

I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

_NS: Final = 1_000_000_000
_LATEST: Final = 2**32 - 1
_RAGGED: Final = ("data", "starts", "sizes")


@dataclass(frozen=True, slots=True, eq=False)
class FileTable:
    """The files that references lead to, a row each, as they were when they were looked at.

    ``locations`` are their URLs. A row without an etag is known by its time, in nanoseconds
    since 1970.
    """

    locations: Ragged
    sizes: U64
    modified_ns: I64
    etags: Ragged

    def __len__(self) -> int:
        return len(self.locations)

    def last_modified(self) -> U32:
        """Return when each was modified, in seconds since 1970, rounded up.

        The official library compares them to the fraction of a second: a file that did not
        change must not be younger than what is recorded.
        """
        seconds = -(-self.modified_ns // _NS)
        return np.clip(seconds, 0, _LATEST).astype(np.uint32)

    def quiet_from_ns(self) -> int:
        """Return the moment from which every change of a file without an etag shows.

        That is the end of the second that is recorded for the youngest, in nanoseconds since
        1970: until then a file could be written again and look the same.
        """
        timed = self.modified_ns[~self.etags.present]
        return (int(-(-timed.max() // _NS)) + 1) * _NS if len(timed) else 0

    def changed(self, later: "FileTable") -> str | None:
        """Return the location of a file that is not as it was, None if all are."""
        if _rows(self) == _rows(later):
            return None
        before, after = _by_location(self), _by_location(later)
        for location in sorted(before.keys() | after.keys()):
            if before.get(location) != after.get(location):
                return location.decode()
        return None


@dataclass(frozen=True, slots=True, eq=False)
class ChunkTable:
    """The chunks of one array: *coords* (n, rank), and where the bytes of each are.

    ``files`` are rows of the source's FileTable, -1 for chunks whose bytes are in *inline*.
    """

    coords: U32
    files: I64
    offsets: U64
    lengths: U64
    inline: Ragged

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def rank(self) -> int:
        """How many numbers an index has."""
        return int(self.coords.shape[1])

    def take(self, rows: npt.NDArray[Any]) -> "ChunkTable":
        """Return some *rows*."""
        return ChunkTable(
            self.coords[rows],
            self.files[rows],
            self.offsets[rows],
            self.lengths[rows],
            self.inline.take(rows),
        )

    def references(self, files: FileTable) -> RefColumns:
        """Return those that lie in *files*, with checksums."""
        rows = np.flatnonzero(self.files >= 0)
        places = self.files[rows]
        columns = RefColumns.virtual(
            self.coords[rows],
            files.locations.take(places),
            self.offsets[rows],
            self.lengths[rows],
        )
        return columns.with_checksums(
            etags=files.etags.take(places), last_modified=files.last_modified()[places]
        )

    def inlined(self) -> list[tuple[tuple[int, ...], bytes]]:
        """Return those whose bytes came along, with their indices."""
        rows = np.flatnonzero(self.files < 0).tolist()
        return [(tuple(self.coords[row].tolist()), self.inline[row] or b"") for row in rows]


@dataclass(frozen=True, slots=True, eq=False)
class ParsedNode:
    """A group, or an array with its chunks.

    ``path`` is relative to the source (``a/b``), "" is its root; ``document`` the zarr.json.
    """

    path: str
    document: bytes
    chunks: ChunkTable | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ParsedSource:
    """A source: its nodes, parents first, and the files that it is made of."""

    location: str
    format: str
    nodes: tuple[ParsedNode, ...]
    files: FileTable

    @property
    def chunk_count(self) -> int:
        """How many chunks its arrays have."""
        return sum(len(node.chunks) for node in self.nodes if node.chunks is not None)

    def to_bytes(self) -> bytes:
        """Return all of this as an npz archive."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "files.sizes": self.files.sizes,
            "files.modified_ns": self.files.modified_ns,
        }
        _put_ragged(arrays, "files.locations", self.files.locations)
        _put_ragged(arrays, "files.etags", self.files.etags)
        nodes = []
        for number, node in enumerate(self.nodes):
            nodes.append([node.path, node.document.decode(), node.chunks is not None])
            if node.chunks is not None:
                for name in ("coords", "files", "offsets", "lengths"):
                    arrays[f"{number}.{name}"] = getattr(node.chunks, name)
                _put_ragged(arrays, f"{number}.inline", node.chunks.inline)
        head = {"location": self.location, "format": self.format, "nodes": nodes}
        arrays["head"] = np.frombuffer(json.dumps(head).encode(), np.uint8)
        archive = io.BytesIO()
        np.savez(archive, allow_pickle=False, **arrays)
        return archive.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "ParsedSource":
        """Read what ``to_bytes`` wrote.

        Raises:
            CorruptionError: it is something else.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return cls._from_arrays({name: arrays[name] for name in arrays.files})
        except Exception as exc:
            raise CorruptionError(f"what was kept of a parsed source is damaged: {exc}") from exc

    @classmethod
    def _from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> "ParsedSource":
        head = json.loads(arrays["head"].tobytes())
        files = FileTable(
            _get_ragged(arrays, "files.locations"),
            arrays["files.sizes"],
            arrays["files.modified_ns"],
            _get_ragged(arrays, "files.etags"),
        )
        nodes = []
        for number, (path, document, has_chunks) in enumerate(head["nodes"]):
            chunks = None
            if has_chunks:
                chunks = ChunkTable(
                    arrays[f"{number}.coords"],
                    arrays[f"{number}.files"],
                    arrays[f"{number}.offsets"],
                    arrays[f"{number}.lengths"],
                    _get_ragged(arrays, f"{number}.inline"),
                )
            nodes.append(ParsedNode(path, document.encode(), chunks))
        return cls(head["location"], head["format"], tuple(nodes), files)


def _put_ragged(arrays: dict[str, npt.NDArray[Any]], name: str, texts: Ragged) -> None:
    compact = texts.compact()
    arrays |= {f"{name}.{part}": getattr(compact, part) for part in _RAGGED}


def _get_ragged(arrays: Mapping[str, npt.NDArray[Any]], name: str) -> Ragged:
    return Ragged(*(arrays[f"{name}.{part}"] for part in _RAGGED))


def _rows(files: FileTable) -> tuple[bytes, ...]:
    """Return all that is known, for a comparison that holds if the order is the same."""
    parts: list[bytes] = [files.sizes.tobytes(), files.modified_ns.tobytes()]
    for texts in (files.locations, files.etags):
        needed = np.maximum(texts.sizes, 0)
        dense = np.empty(int(needed.sum()), np.uint8)
        texts.copy_to(dense, np.cumsum(needed) - needed)
        parts += [texts.sizes.tobytes(), dense.tobytes()]
    return tuple(parts)


def _by_location(files: FileTable) -> dict[bytes, tuple[int, int, bytes | None]]:
    rows = zip(
        files.locations, files.sizes.tolist(), files.modified_ns.tolist(), files.etags, strict=True
    )
    return {place or b"": (size, time, etag) for place, size, time, etag in rows}
