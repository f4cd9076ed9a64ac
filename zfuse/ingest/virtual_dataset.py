"""Virtual data sets, opened with VirtualiZarr or combined with xarray, into a session's store."""

import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from importlib import import_module
from typing import Any, Final, Literal, Protocol

import numpy as np

from zfuse import portal
from zfuse.errors import InvalidInputError, ReadOnlyError
from zfuse.format.ragged import Ragged
from zfuse.ingest.append import append
from zfuse.ingest.containers import uncovered
from zfuse.ingest.extra import missing_extra
from zfuse.ingest.metadata import encoded_fill_value, group_document
from zfuse.ingest.parsed import FileTable, ParsedNode, ParsedSource
from zfuse.ingest.parsers import array_document, chunk_table
from zfuse.ingest.placement import Arrival, check_free, exists, joined, node_path, place
from zfuse.repo.workspace import Workspace
from zfuse.storage.foreign_files import canonical_url

_NS: Final = 1_000_000_000
_ENCODINGS: Final = ("_FillValue", "missing_value", "scale_factor", "add_offset")

Mode = Literal["w", "w-", "a"]


class SessionStore(Protocol):
    """What is asked of the store of a session."""

    @property
    def session(self) -> Any:  # noqa: ANN401 - of the layers above
        """The session; ``session.workspace`` are its nodes and chunks."""

    @property
    def read_only(self) -> bool:
        """Whether nothing may be changed."""


def write(  # noqa: PLR0913 - the official signature, in part
    virtual: Any,  # noqa: ANN401 - xarray is not imported for this
    store: SessionStore,
    *,
    group: str | None = None,
    append_dim: str | None = None,
    mode: Mode | None = None,
    validate_containers: bool = True,
    last_updated_at: datetime | None = None,
) -> None:
    """Write a virtual data set, or a tree of them, to a group of the store of a session.

    Variables that hold references become arrays of references, others are written as xarray
    does. With *append_dim* what is there goes on along that dimension; else a group that exists
    is an error, unless *mode* is "w", which replaces it, or "a", which adds to it arrays that it
    does not have. What was modified after *last_updated_at*, by default now, is not read later.

    Raises:
        AlreadyExistsError: the group exists, or with the mode "a" one of the arrays.
        InvalidInputError: a reference lies in no container of the repository, unless
            *validate_containers* is false; or the arrays do not fit to those that are there.
        ReadOnlyError: the session takes no changes.
    """
    if store.read_only:
        raise ReadOnlyError("the store only reads; take that of a writable session")
    if append_dim is not None and mode in {"w", "w-"}:
        raise InvalidInputError(
            f"append_dim goes on with what is there, which mode={mode!r} denies"
        )
    node = node_path(group or "/")
    data_sets = dict(_data_sets(virtual))
    parsed, loaded = _split(data_sets, last_updated_at)
    workspace: Workspace = store.session.workspace
    if validate_containers:
        _check_containers(workspace, parsed)
    besides = {joined(node, joined(path, name).strip("/")) for path, name in loaded}
    portal.run(_put, workspace, Arrival(node, parsed), mode, append_dim, besides)
    for path, data_set in data_sets.items():
        names = [name for where, name in loaded if where == path]
        if names:
            variables = {name: data_set.variables[name] for name in names}
            _write_loaded(type(data_set)(variables), store, joined(node, path), append_dim)


def _data_sets(virtual: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - xarray's classes
    """Yield the data sets by their path below the group."""
    if not hasattr(virtual, "subtree_with_keys"):
        yield "", virtual
        return
    for path, node in virtual.subtree_with_keys:
        below = "" if path == "." else path
        yield below, node.to_dataset(inherit=not below)


def _split(
    data_sets: Mapping[str, Any], last_updated_at: datetime | None
) -> tuple[ParsedSource, list[tuple[str, str]]]:
    """Return the nodes of groups and of virtual variables, and the names of the other variables."""
    manifest_array = _manifest_array_class()
    places: dict[str, int] = {}
    nodes: list[ParsedNode] = []
    loaded: list[tuple[str, str]] = []
    for path, data_set in data_sets.items():
        nodes.append(ParsedNode(path, group_document(_group_attributes(data_set))))
        for name, variable in data_set.variables.items():
            if isinstance(variable.data, manifest_array):
                nodes.append(_array(joined(path, name).lstrip("/"), variable, places))
            else:
                loaded.append((path, name))
    files = _files(list(places), last_updated_at)
    return ParsedSource("the data set", "virtual", tuple(nodes), files), loaded


def _manifest_array_class() -> type:
    try:
        found: type = import_module("virtualizarr.manifests").ManifestArray
    except ImportError as exc:
        raise missing_extra(exc) from exc
    return found


def _group_attributes(data_set: Any) -> dict[str, Any]:  # noqa: ANN401 - an xarray.Dataset
    attributes = dict(data_set.attrs)
    if len(data_set.coords):
        attributes["coordinates"] = " ".join(map(str, data_set.coords))
    return attributes


def _array(path: str, variable: Any, places: dict[str, int]) -> ParsedNode:  # noqa: ANN401
    metadata = variable.data.metadata.to_dict()
    attributes = dict(variable.attrs)
    for key in _ENCODINGS:
        if key in variable.encoding:
            attributes[key] = variable.encoding[key]
    if isinstance(attributes.get("_FillValue"), int | float | np.number):
        fill_value = encoded_fill_value(attributes.pop("_FillValue"), variable.dtype)
        if fill_value is not None:
            attributes["_FillValue"] = fill_value
    metadata |= {"attributes": attributes, "dimension_names": list(variable.dims)}
    document = array_document(path, metadata)
    return ParsedNode(path, document, chunk_table(variable.data.manifest, places))


def _files(paths: Sequence[str], last_updated_at: datetime | None) -> FileTable:
    """Return the files at *paths* with one time for all, which the official library has too."""
    moment = time.time() + 1 if last_updated_at is None else last_updated_at.timestamp()
    locations = [canonical_url(path).encode() for path in paths]
    return FileTable(
        Ragged.of(locations),
        np.zeros(len(paths), np.uint64),
        np.full(len(paths), math.floor(moment) * _NS),
        Ragged.absent(len(paths)),
    )


def _check_containers(workspace: Workspace, parsed: ParsedSource) -> None:
    declared = workspace.repository.state.config.virtual_chunk_containers
    missing = uncovered(declared, parsed)
    if missing is not None:
        raise InvalidInputError(
            f"{missing} lies in no virtual chunk container of the repository; declare one first"
            " (zfuse container add)"
        )


async def _put(
    workspace: Workspace,
    arrival: Arrival,
    mode: Mode | None,
    append_dim: str | None,
    besides: Collection[str],
) -> None:
    tree = workspace.tree
    if append_dim is not None:
        await append(workspace, arrival, append_dim, besides)
    elif mode == "a" and exists(tree, arrival.node):
        for node in arrival.parsed.nodes:
            if node.chunks is not None:
                check_free(tree, arrival.path_of(node), overwrite=False)
        await place(workspace, arrival, beside=True)
    else:
        check_free(tree, arrival.node, overwrite=mode == "w")
        await place(workspace, arrival)


def _write_loaded(
    data_set: Any,  # noqa: ANN401 - an xarray.Dataset
    store: SessionStore,
    node: str,
    append_dim: str | None,
) -> None:
    """Write variables that hold values; the group, which is there, stays as it is."""
    workspace: Workspace = store.session.workspace
    group = workspace.node(node)
    assert group is not None
    how: dict[str, Any] = {"mode": "a"} if append_dim is None else {"append_dim": append_dim}
    data_set.to_zarr(
        store, group=node.lstrip("/") or None, zarr_format=3, consolidated=False, **how
    )
    portal.run(workspace.set_metadata, node, group.user_data)
