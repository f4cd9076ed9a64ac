"""What a person names to be ingested, and what it turns out to be."""

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from zfuse.errors import InvalidInputError, NotFoundError
from zfuse.ingest.kerchunk import is_kerchunk, load_references
from zfuse.ingest.key_table import V2_ARRAY, V2_GROUP, V3
from zfuse.repo.documents import path_fault
from zfuse.storage.foreign_files import (
    ForeignFiles,
    ObjectAccess,
    below,
    canonical_url,
    split_url,
)
from zfuse.storage.options import DEFAULT_OPTIONS, StorageOptions

FORMATS: Final = ("auto", "zarr", "hdf5", "netcdf3", "kerchunk", "tiff", "grib")
_MAGIC: Final = (
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"CDF\x01", "netcdf3"),
    (b"CDF\x02", "netcdf3"),
    (b"CDF\x05", "netcdf3"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),
    (b"MM\x00+", "tiff"),
    (b"GRIB", "grib"),
)
_ZARR_FILES: Final = (V3, V2_GROUP, V2_ARRAY, ".zmetadata")
_HEAD: Final = 4096
_HDF5_STARTS: Final = (512, 1024, 2048)  # behind a user block the signature comes later


@dataclass(frozen=True, slots=True)
class Source:
    """A source as it was asked for: ``location`` is its URL, ``group`` the part to take.

    Arrays and groups whose name is in ``skip`` are left out, wherever in the source they are.
    """

    location: str
    format: str = "auto"
    group: str | None = None
    skip: frozenset[str] = frozenset()
    options: StorageOptions = DEFAULT_OPTIONS

    @property
    def stem(self) -> str:
        """Its name without directory and suffix, for a node."""
        return PurePosixPath(split_url(self.location)[1]).stem


def source_of(
    text: str,
    *,
    kind: str = "auto",
    group: str | None = None,
    skip: Collection[str] = (),
    options: StorageOptions = DEFAULT_OPTIONS,
) -> Source:
    """Return the source that a path or URL names.

    Raises:
        InvalidInputError: there is no such format, or no group can be called so, or zfuse can not
            read from there.
    """
    if kind not in FORMATS:
        near = difflib.get_close_matches(kind, FORMATS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(FORMATS)}"
        raise InvalidInputError(f"there is no format {kind!r}; {hint}")
    if not text:
        raise InvalidInputError("an empty text names no source")
    part = (group or "").strip("/") or None
    if part is not None and path_fault(f"/{part}") is not None:
        raise InvalidInputError(f"{group!r} can be no group; write --group A/B, from the root on")
    return Source(canonical_url(text), kind, part, frozenset(skip), options)


def detect_format(access: ObjectAccess, location: str) -> str:
    """Return what is at *location*, by its content: a name of FORMATS, or ``kerchunk-parquet``.

    Raises:
        InvalidInputError: zfuse does not know it.
        NotFoundError: there is nothing.
    """
    root, key = split_url(location)
    files = access.files(root)
    head = _read_head(files, key) if key else None
    if head is not None:
        return _format_of(files, key, head, location)
    if not location.startswith(("file:", "s3:")):
        raise NotFoundError(
            f"{location} does not exist as a file; web servers list no files, so a Zarr store on"
            " one can not be referenced: make kerchunk references to it"
        )
    return _format_of_directory(files, below(key), location)


def _read_head(files: ForeignFiles, key: str) -> bytes | None:
    """Return how a file begins, None if there is no file of that name."""
    try:
        size = int(files.head(key).sizes[0])
        return files.read(key, 0, min(size, _HEAD)) if size else b""
    except NotFoundError:
        return None
    except InvalidInputError:  # a directory
        return None


def _format_of(files: ForeignFiles, key: str, head: bytes, location: str) -> str:
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    hdf5 = _MAGIC[0][0]
    if any(head[start : start + len(hdf5)] == hdf5 for start in _HDF5_STARTS):
        return "hdf5"
    if head.lstrip().startswith(b"{") and is_kerchunk(load_references(files.read(key), location)):
        return "kerchunk"
    if not head:
        raise InvalidInputError(f"{location} is empty, so it may be half-written")
    raise InvalidInputError(
        f"{location} is in no format that zfuse knows by its content; name one with --format"
    )


def _format_of_directory(files: ForeignFiles, prefix: str, location: str) -> str:
    present = [name for name in _ZARR_FILES if _read_head(files, prefix + name) is not None]
    if present == [".zmetadata"] and b'"record_size"' in files.read(prefix + ".zmetadata"):
        return "kerchunk-parquet"
    if present:
        return "zarr"
    if len(files.list(prefix).sizes) == 0:
        raise NotFoundError(f"{location} does not exist, or is empty")
    raise InvalidInputError(
        f"{location} has no zarr.json, .zgroup or .zarray, so it is no Zarr store; name one, or"
        " say --format zarr if its groups have no metadata of their own"
    )


def unique_nodes(nodes: Sequence[str], sources: Sequence[Source]) -> None:
    """Check that no two sources go to one node, or into each other.

    Raises:
        InvalidInputError: two do; this names them.
    """
    taken: dict[str, Source] = {}
    for node, source in zip(nodes, sources, strict=True):
        if node in taken:
            raise InvalidInputError(
                f"{taken[node].location} and {source.location} would both be {node}; write"
                " SOURCE=/NODE to tell them apart, or join them with --append-dim"
            )
        taken[node] = source
    for node, source in taken.items():
        for above in PurePosixPath(node).parents:
            other = str(above)
            if other in taken and other != node:
                raise InvalidInputError(
                    f"{source.location} would be {node}, inside of {other}, which is"
                    f" {taken[other].location}; write SOURCE=/NODE to keep them apart"
                )
