"""Arrays that go on along one dimension where those in the repository end.

Icechunk finds chunks by their index in a regular grid, so what comes has to have the same
grid, and what is there has to end with a whole chunk.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from zfuse.errors import InvalidInputError
from zfuse.format.snapshot import ArrayNode
from zfuse.format.values import Json
from zfuse.ingest.metadata import v3_document
from zfuse.ingest.parsed import ChunkTable, ParsedNode
from zfuse.ingest.placement import Arrival, put_chunks
from zfuse.repo.workspace import Workspace

_SAME: Final = ("data_type", "codecs", "fill_value", "chunk_grid", "dimension_names")
_MEANING: Final = (
    *("units", "calendar", "scale_factor", "add_offset", "_FillValue", "missing_value"),
    *("_Unsigned", "dtype", "flag_values", "flag_masks", "flag_meanings"),
)
"""Attributes that say what stored numbers stand for (CF conventions, and xarray's own)."""


@dataclass(frozen=True, slots=True, eq=False)
class _Extension:
    path: str
    document: bytes
    chunks: ChunkTable
    shift: tuple[int, ...]


async def append(
    workspace: Workspace, arrival: Arrival, dimension: str, besides: Collection[str] = ()
) -> None:
    """Extend the arrays at the node of *arrival* along *dimension*; add those that are new.

    Arrays without that dimension, and the attributes of all that is there, stay as they are.
    The arrays at the paths *besides* the caller extends.

    Raises:
        InvalidInputError: the arrays do not fit together; nothing has changed then.
    """
    extensions: list[_Extension] = []
    new: list[ParsedNode] = []
    for node in arrival.parsed.nodes:
        present = workspace.node(arrival.path_of(node))
        if present is None:
            _check_new(arrival, node, dimension)
            new.append(node)
        elif isinstance(present, ArrayNode) is not (node.chunks is not None):
            raise InvalidInputError(
                f"{present.path} is an array, and a group in {arrival.parsed.location}, or the"
                " reverse"
            )
        elif isinstance(present, ArrayNode):
            extensions += _extension(present, node, dimension)
    growing = {*(each.path for each in extensions), *besides}
    _check_all_grow(workspace, arrival, dimension, growing)
    for node in new:
        path = arrival.path_of(node)
        await workspace.set_metadata(path, node.document)
        if node.chunks is not None:
            await put_chunks(workspace, path, node.chunks, arrival.parsed.files)
    for each in extensions:
        await workspace.set_metadata(each.path, each.document)
        await put_chunks(workspace, each.path, each.chunks, arrival.parsed.files, each.shift)


def _check_new(arrival: Arrival, node: ParsedNode, dimension: str) -> None:
    names = json.loads(node.document).get("dimension_names") or ()
    if dimension in names:
        raise InvalidInputError(
            f"{arrival.path_of(node)} is not there yet, so it can not go on along {dimension!r};"
            " ingest it to another node"
        )


def _check_all_grow(
    workspace: Workspace, arrival: Arrival, dimension: str, growing: Collection[str]
) -> None:
    """Check that no array would end before the others."""
    there = [
        node
        for node in workspace.tree.subtree(arrival.node)
        if isinstance(node, ArrayNode) and dimension in (node.dimension_names or ())
    ]
    if not there:
        raise InvalidInputError(
            f"no array at {arrival.node} has the dimension {dimension!r};"
            " zfuse info shows what it has"
        )
    for node in there:
        if node.path not in growing:
            raise InvalidInputError(
                f"{node.path} has the dimension {dimension!r}, but {arrival.parsed.location} has"
                " nothing that it could go on with"
            )


def _extension(present: ArrayNode, node: ParsedNode, dimension: str) -> list[_Extension]:
    """Return how an array goes on, nothing if it does not have the dimension."""
    assert node.chunks is not None
    before, after = json.loads(present.user_data), json.loads(node.document)
    names = present.dimension_names or ()
    axis = names.index(dimension) if dimension in names else None
    _check_same(present.path, before, after, axis)
    if axis is None:
        return []
    _check_same_meaning(present.path, before, after)
    length = present.shape[axis].array_length
    chunk = _chunk_length(before, axis)
    if chunk is None or length % chunk:
        raise InvalidInputError(
            f"{present.path} is {length} long along {dimension!r}, which is no multiple of its"
            f" chunks of {chunk}: nothing can go on behind a part of a chunk"
        )
    shape = list(before["shape"])
    shape[axis] += after["shape"][axis]
    document = v3_document(present.path, {**before, "shape": shape})
    shift = tuple(length // chunk if n == axis else 0 for n in range(len(shape)))
    return [_Extension(present.path, document, node.chunks, shift)]


def _chunk_length(document: Mapping[str, Any], axis: int) -> int | None:
    grid = document["chunk_grid"]
    return grid["configuration"]["chunk_shape"][axis] if grid["name"] == "regular" else None


def _check_same(
    path: str, before: Mapping[str, Json], after: Mapping[str, Json], axis: int | None
) -> None:
    for member in _SAME:
        if _plain(before.get(member)) != _plain(after.get(member)):
            raise InvalidInputError(
                f"{path} can not be extended: its {member} is {json.dumps(before.get(member))},"
                f" that of the source {json.dumps(after.get(member))}"
            )
    shapes = [document["shape"] for document in (before, after)]
    assert isinstance(shapes[0], list)
    assert isinstance(shapes[1], list)
    first, second = list(shapes[0]), list(shapes[1])
    if axis is not None:
        first[axis] = second[axis]
    if first != second:
        raise InvalidInputError(
            f"{path} can not be extended: its shape is {shapes[0]}, that of the source {shapes[1]}"
        )


def _check_same_meaning(path: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Check that numbers mean the same in both: one set of attributes stays for all of them."""
    first, second = before.get("attributes") or {}, after.get("attributes") or {}
    for name in _MEANING:
        if first.get(name) != second.get(name):
            raise InvalidInputError(
                f"{path} can not be extended: its attribute {name!r} is"
                f" {json.dumps(first.get(name))}, that of the source"
                f" {json.dumps(second.get(name))}, so the same numbers would mean something else;"
                " ingest the source to another node"
            )


def _plain(value: Json) -> Json:
    """Return a value as it is compared: what a name of its own says is the same as none."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict) and set(value) <= {"name", "configuration"}:
        return [value.get("name"), value.get("configuration") or {}]
    return value
