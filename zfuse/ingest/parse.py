"""From a source to its hierarchy: the one function that runs in threads and on Dask clusters."""

from dataclasses import replace

import numpy as np

from zfuse.errors import InvalidInputError, NotFoundError, ZfuseError
from zfuse.ingest.extra import missing_extra
from zfuse.ingest.kerchunk import parse_kerchunk_json, parse_kerchunk_parquet
from zfuse.ingest.parsed import ParsedNode, ParsedSource
from zfuse.ingest.parsers import parse_file
from zfuse.ingest.sources import Source, detect_format
from zfuse.ingest.zarr_store import parse_zarr
from zfuse.storage.foreign_files import ObjectAccess, below, split_url, url_of


def parse_source(source: Source) -> ParsedSource:
    """Return the hierarchy of *source*; this takes its time.

    Raises:
        AccessDeniedError: it may not be read.
        InvalidInputError: it is of no known format, half-written, or beyond Zarr v3.
        NotFoundError: there is nothing, or not the group that is asked for.
    """
    try:
        return _parsed(source)
    except ImportError as exc:
        raise missing_extra(exc) from exc


def _parsed(source: Source) -> ParsedSource:
    access = ObjectAccess(source.options)
    kind = source.format
    if kind in {"auto", "kerchunk"}:
        kind = detect_format(access, source.location)
        if source.format == "kerchunk" and not kind.startswith("kerchunk"):
            raise InvalidInputError(f"{source.location} has no kerchunk references")
    match kind:
        case "zarr":
            return _zarr(access, source)
        case "kerchunk":
            parsed = parse_kerchunk_json(access, source.location, source.skip)
        case "kerchunk-parquet":
            parsed = parse_kerchunk_parquet(access, source.location, source.skip)
        case _:
            parsed = parse_file(access, source.location, kind, source.skip)
    _check_ranges(parsed)
    return parsed if source.group is None else _part(parsed, source.group)


def parse_to_bytes(source: Source) -> bytes | ZfuseError:
    """Do the same, and return the result in the form in which it travels, or what went wrong.

    A worker that raised it would write a traceback to its log.
    """
    try:
        return parse_source(source).to_bytes()
    except ZfuseError as exc:
        return exc


def _zarr(access: ObjectAccess, source: Source) -> ParsedSource:
    if source.group is None:
        return parse_zarr(access, source.location, source.skip)
    root, key = split_url(source.location)
    try:
        return parse_zarr(access, url_of(root, below(key) + source.group), source.skip)
    except NotFoundError as exc:
        raise _no_group(source.location, source.group) from exc


def _part(parsed: ParsedSource, group: str) -> ParsedSource:
    """Return the part of a hierarchy at and below *group*."""
    nodes = [
        replace(node, path=node.path[len(group) + 1 :])
        for node in parsed.nodes
        if node.path == group or node.path.startswith(f"{group}/")
    ]
    if not nodes:
        raise _no_group(parsed.location, group)
    return replace(parsed, nodes=tuple(nodes))


def _no_group(location: str, group: str) -> NotFoundError:
    return NotFoundError(f"{location} has no group {group!r}")


def _check_ranges(parsed: ParsedSource) -> None:
    """Check that all chunks lie inside of their files.

    Raises:
        InvalidInputError: one does not, as in a file that was cut off.
    """
    for node in parsed.nodes:
        if node.chunks is not None and _reaches_beyond(node, parsed):
            raise InvalidInputError(
                f"{parsed.location}: chunks of {node.path} lie behind the end of their file, so"
                " it may be half-written"
            )


def _reaches_beyond(node: ParsedNode, parsed: ParsedSource) -> bool:
    chunks = node.chunks
    assert chunks is not None
    rows = chunks.files >= 0
    ends = chunks.offsets[rows] + chunks.lengths[rows]
    return bool(np.any(ends > parsed.files.sizes[chunks.files[rows]]))
