"""Zarr stores, v2 and v3, from one listing of their files."""

from collections.abc import Set
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import numpy as np

from zfuse.errors import InvalidInputError, NotFoundError
from zfuse.format.ragged import Ragged
from zfuse.ingest.files import directory_table
from zfuse.ingest.key_table import KeyTable, hierarchy, metadata_keys
from zfuse.ingest.parsed import ParsedSource
from zfuse.storage.foreign_files import ForeignFiles, ObjectAccess, below, split_url

_READS_AT_ONCE: Final = 16


def parse_zarr(access: ObjectAccess, location: str, skip: Set[str] = frozenset()) -> ParsedSource:
    """Return the hierarchy of the Zarr store, or of a part of it, at *location*.

    Nodes of a name in *skip* are left out.

    Raises:
        InvalidInputError: it is no Zarr store, or not a whole one, or v3 can not express it.
        NotFoundError: there is nothing.
    """
    root, key = split_url(location)
    names, files = directory_table(access, location)
    if len(files) == 0:
        raise NotFoundError(f"{location} does not exist, or is empty")
    documents = _read_all(access.files(root), below(key), names)
    nothing = np.zeros(len(files), np.uint64)
    table = KeyTable(
        documents, names, np.arange(len(files)), nothing, files.sizes, Ragged.absent(len(files))
    )
    nodes = hierarchy(table, location, skip)
    if not nodes:
        raise InvalidInputError(f"{location} has no Zarr metadata, so it is no Zarr store")
    return ParsedSource(location, "zarr", nodes, files)


def _read_all(files: ForeignFiles, prefix: str, names: Ragged) -> dict[str, bytes]:
    keys = [key for _, key in metadata_keys(names)]
    with ThreadPoolExecutor(_READS_AT_ONCE) as threads:
        return dict(zip(keys, threads.map(partial(_read, files, prefix), keys), strict=True))


def _read(files: ForeignFiles, prefix: str, key: str) -> bytes:
    return files.read(prefix + key)
