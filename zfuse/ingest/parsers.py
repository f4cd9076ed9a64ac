"""Files of other formats, with the parsers of VirtualiZarr and its companions.

Their manifest stores are read directly: those hold nested groups and arrays without names of
dimensions, which no xarray data set does.
"""

import warnings
from collections.abc import Iterator, Set
from dataclasses import replace
from importlib import import_module
from typing import Any, Final

import numpy as np

from zfuse.errors import InvalidInputError, ZfuseError
from zfuse.format.ragged import Ragged
from zfuse.ingest.files import files_table
from zfuse.ingest.hdf5 import contents_of
from zfuse.ingest.metadata import group_document, v3_document, without_strange_mask
from zfuse.ingest.parsed import ChunkTable, ParsedNode, ParsedSource
from zfuse.storage.foreign_files import ObjectAccess

_INLINED: Final = "__inlined__"
_STRUCTURED: Final = frozenset({"struct", "structured"})


def parse_file(
    access: ObjectAccess, location: str, kind: str, skip: Set[str] = frozenset()
) -> ParsedSource:
    """Return the hierarchy of the file at *location*, whose format is *kind*.

    Arrays and groups of a name in *skip* are left out.

    Raises:
        InvalidInputError: it can not be read, or Zarr v3 can not express it.
        NotFoundError: there is none.
    """
    files = files_table(access, [location])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Zarr v3 has no standard for yet
            if kind == "hdf5":
                nodes = tuple(_hdf5_nodes(access, location, skip))
            else:
                nodes = tuple(_nodes(_group(access, location, kind, skip), "", location, skip))
    except (ZfuseError, ImportError):
        raise
    except Exception as exc:
        raise InvalidInputError(
            f"{location} can not be referenced as {kind}: {_one_line(exc)}; see --skip, if it is"
            " about a part of it"
        ) from exc
    return ParsedSource(location, kind, nodes, files)


def _hdf5_nodes(access: ObjectAccess, location: str, skip: Set[str]) -> Iterator[ParsedNode]:
    """Yield the nodes of an HDF5 file, group by group: the parser leaves out only what is in one.

    What it takes for missing, but is kept among the metadata of the file, is put back.
    """
    registry = access.registry()
    reader = import_module("obspec_utils.readers").BlockStoreReader(*registry.resolve(location))
    contents = contents_of(reader, location, skip)
    for path, groups in contents.groups.items():
        parser = import_module("virtualizarr.parsers").HDFParser(
            group=path or None,
            drop_variables=skip | groups,
            reader_factory=lambda *_: reader,  # what was read of it need not be read again
        )
        for node in _nodes(group_of(parser(url=location, registry=registry)), path, location, skip):
            yield replace(node, chunks=contents.compact.get(node.path, node.chunks))


def _group(access: ObjectAccess, location: str, kind: str, skip: Set[str]) -> Any:  # noqa: ANN401
    registry = access.registry()
    match kind:
        case "netcdf3":
            parser = import_module("virtualizarr.parsers").NetCDF3Parser(skip_variables=skip)
        case "grib":
            parser = import_module("gribberish.virtualizarr").GribberishParser()
        case _:
            return _tiff_group(location, registry)
    return group_of(parser(url=location, registry=registry))


def _tiff_group(location: str, registry: Any) -> Any:  # noqa: ANN401 - VirtualiZarr's classes
    """Return the image as an array, or several as a group each, as their sizes differ."""
    parser = import_module("virtual_tiff").VirtualTIFF
    group = group_of(parser(ifd_layout="flat")(url=location, registry=registry))
    if len(group.arrays) > 1:
        group = group_of(parser(ifd_layout="nested")(url=location, registry=registry))
    return group


def group_of(store: Any) -> Any:  # noqa: ANN401 - a ManifestStore and its ManifestGroup
    """Return the root of a ManifestStore."""
    return store._group  # noqa: SLF001 - there is no other way to it


def _nodes(group: Any, path: str, location: str, skip: Set[str]) -> Iterator[ParsedNode]:  # noqa: ANN401
    yield ParsedNode(path, group_document(group.metadata.attributes))
    for name, array in group.arrays.items():
        if name in skip:
            continue
        below = f"{path}/{name}".lstrip("/")
        document = array_document(f"{location}/{below}", array.metadata.to_dict())
        yield ParsedNode(below, document, chunk_table(array.manifest, {location: 0}))
    for name, member in group.groups.items():
        if name not in skip:
            yield from _nodes(member, f"{path}/{name}".lstrip("/"), location, skip)


def array_document(name: str, metadata: dict[str, Any]) -> bytes:
    """Return the zarr.json of an array that VirtualiZarr made *metadata* for.

    Raises:
        InvalidInputError: its data type has no standard in Zarr v3.
    """
    data_type = metadata.get("data_type")
    if isinstance(data_type, dict) and data_type.get("name") in _STRUCTURED:
        raise InvalidInputError(
            f"array {name} has a structured data type, which Zarr v3 has no standard for; leave"
            " it out with --skip, or copy its fields to arrays of their own"
        )
    return v3_document(name, without_strange_mask(metadata))


def chunk_table(manifest: Any, places: dict[str, int]) -> ChunkTable:  # noqa: ANN401
    """Return the chunks of a ChunkManifest.

    *places* are rows of a FileTable by path; those of paths that are not in it are added.
    """
    # The columns behind a ChunkManifest have no public name; its methods make an object a chunk.
    columns = (manifest._paths, manifest._offsets, manifest._lengths)  # noqa: SLF001
    shape = columns[0].shape
    paths, offsets, lengths = (column.reshape(-1) for column in columns)
    rows = np.flatnonzero(paths != "")
    coords = np.empty((len(rows), len(shape)), np.uint32)
    for axis, numbers in enumerate(np.unravel_index(rows, shape) if shape else ()):
        coords[:, axis] = numbers
    return ChunkTable(
        coords,
        _places(paths[rows], places),
        offsets[rows].astype(np.uint64),
        lengths[rows].astype(np.uint64),
        _inline(manifest._inlined, coords, paths[rows] == _INLINED),  # noqa: SLF001
    )


def _places(paths: Any, places: dict[str, int]) -> Any:  # noqa: ANN401 - numpy's StringDType
    unique = np.unique(paths).tolist() if len(paths) else []
    found = np.full(len(paths), -1)
    for path in unique:
        if path != _INLINED:
            found[paths == path] = places.setdefault(path, len(places))
    return found


def _inline(chunks: dict[tuple[int, ...], bytes], coords: Any, present: Any) -> Ragged:  # noqa: ANN401
    if not chunks:
        return Ragged.absent(len(coords))
    return Ragged.of(
        bytes(chunks[tuple(index)]) if is_inline else None
        for index, is_inline in zip(coords.tolist(), present.tolist(), strict=True)
    )


def _one_line(exc: BaseException) -> str:
    return " ".join(str(exc).split()) or type(exc).__name__
