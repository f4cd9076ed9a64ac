"""What can be committed: the zarr.json of a node, its path, and the chunks of an array.

Nothing here looks at a repository. Each check says in words what is wrong, for a person who
copied, edited or generated the files in question.

Specification: Zarr v3 core, "Array metadata"; spec-v2, "Snapshot Files". Official writers
accept more than Zarr allows: dimension names of the wrong number, which end their commit in a
crash, chunks of length 0 and chunk shapes of the wrong rank. These are refused here.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from zfuse.errors import CorruptionError, InvalidInputError
from zfuse.format.ids import NodeId
from zfuse.format.snapshot import ArrayNode, DimensionShape, GroupNode, ManifestRef, Node
from zfuse.format.values import Json
from zfuse.format.zarr_json import ArrayMetadata

_MAX_U32: Final = 2**32 - 1
_MAX_U64: Final = 2**64 - 1
_LONGEST_INTEGER: Final = 4000  # digits; Python refuses to parse more than 4300
_READ_BY_ICECHUNK: Final = {"node_type", "shape", "chunk_grid", "dimension_names"}


@dataclass(frozen=True, slots=True)
class GroupDocument:
    """The zarr.json of a group, fit to be committed."""

    user_data: bytes

    def node(self, node_id: NodeId, path: str) -> GroupNode:
        """Return the group that this describes."""
        return GroupNode(node_id, path, self.user_data)


@dataclass(frozen=True, slots=True)
class ArrayDocument:
    """The zarr.json of an array, fit to be committed, and what snapshots say of it."""

    user_data: bytes
    shape: tuple[DimensionShape, ...]
    dimension_names: tuple[str | None, ...] | None

    def node(
        self, node_id: NodeId, path: str, manifests: tuple[ManifestRef, ...] = ()
    ) -> ArrayNode:
        """Return the array that this describes."""
        return ArrayNode(node_id, path, self.user_data, self.shape, self.dimension_names, manifests)


Document = GroupDocument | ArrayDocument


def document_of(node: Node) -> Document:
    """Return the document of a node that is in a snapshot already, whatever it says."""
    if isinstance(node, GroupNode):
        return GroupDocument(node.user_data)
    return ArrayDocument(node.user_data, node.shape, node.dimension_names)


def parse_document(user_data: bytes, *, spec_version: int) -> Document:
    """Interpret a zarr.json that is to be committed to a repository of *spec_version*.

    Raises:
        InvalidInputError: the repository can not hold it, or it is no Zarr v3 metadata.
    """
    document = _loads(user_data)
    if document.get("zarr_format", 3) != 3:
        raise _refused("its zarr_format is not 3")
    match document.get("node_type"):
        case "group":
            return GroupDocument(user_data)
        case "array":
            shape = _array_shape(document, user_data, spec_version)
            return ArrayDocument(user_data, shape, _dimension_names(document, len(shape)))
        case _:
            raise _refused("its node_type is neither array nor group")


def chunk_fault(shape: Sequence[DimensionShape], coords: Sequence[int], size: int) -> str | None:
    """Return why an array of *shape* can not have a chunk of *size* bytes at *coords*."""
    if len(coords) != len(shape):
        return f"its index has {len(coords)} numbers, but the array has {len(shape)} dimensions"
    for axis, (number, dimension) in enumerate(zip(coords, shape, strict=True)):
        if not 0 <= number < dimension.num_chunks:
            return (
                f"it lies outside of the array, which has {dimension.num_chunks} chunks along"
                f" dimension {axis}"
            )
    return None if size else "it has no bytes, and no chunk decodes from nothing"


def path_fault(path: str) -> str | None:
    """Return why no node can be at *path*, which is absolute."""
    if path != "/":
        first, *segments = path.split("/")
        if first or not segments or any(segment in {"", ".", ".."} for segment in segments):
            return "its path is not canonical"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8, which Icechunk can not hold"
    return None


class _Object(dict[str, Json]):
    """A JSON object that remembers the members that came more than once."""

    __slots__ = ("repeated",)

    def __init__(self, pairs: list[tuple[str, Json]]) -> None:
        super().__init__(pairs)
        names = [name for name, _ in pairs]
        self.repeated = {name for name in names if names.count(name) > 1} if pairs else set[str]()


def _refused(reason: str) -> InvalidInputError:
    return InvalidInputError(f"the zarr.json can not be committed: {reason}")


def _loads(user_data: bytes) -> _Object:
    try:
        document = json.loads(
            user_data.decode(),
            parse_constant=_refuse_constant,
            parse_int=lambda digits: int(digits) if len(digits) < _LONGEST_INTEGER else None,
            object_pairs_hook=_Object,
        )
    except UnicodeDecodeError:
        raise _refused("it is not UTF-8") from None
    except json.JSONDecodeError as exc:
        raise _refused(f"it is not JSON ({exc})") from None
    except RecursionError:
        raise _refused("it is nested too deep") from None
    if not isinstance(document, _Object):
        raise _refused("it is not a JSON object")
    repeated = sorted(document.repeated & _READ_BY_ICECHUNK)
    if repeated:
        raise _refused(f"it has the member {repeated[0]} more than once")
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise _refused(
        f'it has a bare {name}, which JSON does not know; Zarr writes "{name}", in quotes'
    )


def _array_shape(
    document: _Object, user_data: bytes, spec_version: int
) -> tuple[DimensionShape, ...]:
    lengths = _integers(document.get("shape"), "shape", most=_MAX_U64)
    counts = _chunk_counts(document.get("chunk_grid"), lengths, user_data, spec_version)
    for axis, count in enumerate(counts):
        if count > _MAX_U32:
            raise _refused(
                f"it has {count} chunks along dimension {axis}; Icechunk holds {_MAX_U32}"
            )
    return tuple(map(DimensionShape, lengths, counts))


def _chunk_counts(
    grid: Json, lengths: Sequence[int], user_data: bytes, spec_version: int
) -> Sequence[int]:
    if not isinstance(grid, _Object) or not isinstance(grid.get("configuration"), _Object):
        raise _refused("its chunk_grid has no configuration")
    if {"name", "configuration"} & grid.repeated:
        raise _refused("its chunk_grid has a member more than once")
    match grid.get("name"):
        case "regular":
            return _regular_counts(grid["configuration"], lengths)
        case "rectilinear" if spec_version == 1:
            raise _refused("a repository of version 1 can not hold a rectilinear chunk grid")
        case "rectilinear":
            return _rectilinear_counts(user_data)
        case name:
            raise _refused(
                f"its chunk grid is {name!r}; Icechunk holds regular and rectilinear ones"
            )


def _regular_counts(configuration: Json, lengths: Sequence[int]) -> Sequence[int]:
    assert isinstance(configuration, _Object)
    chunks = _integers(configuration.get("chunk_shape"), "chunk_shape", most=_MAX_U64)
    if len(chunks) != len(lengths):
        raise _refused(f"its chunk_shape has {len(chunks)} dimensions, its shape {len(lengths)}")
    if 0 in chunks:
        raise _refused("its chunks have the length 0")
    return [-(-length // chunk) for length, chunk in zip(lengths, chunks, strict=True)]


def _rectilinear_counts(user_data: bytes) -> Sequence[int]:
    try:
        dimensions = ArrayMetadata.parse(user_data).chunk_lengths
    except CorruptionError as exc:
        raise _refused(str(exc)) from None
    assert dimensions is not None
    if any(0 in steps for steps in dimensions):
        raise _refused("its chunks have the length 0")
    return [len(steps) for steps in dimensions]


def _dimension_names(document: _Object, rank: int) -> tuple[str | None, ...] | None:
    names = document.get("dimension_names")
    if names is None:
        return None
    if not isinstance(names, list):
        raise _refused("its dimension_names are not a list")
    if len(names) != rank:
        raise _refused(f"it has {len(names)} dimension_names, but {rank} dimensions")
    return tuple(_dimension_name(name) for name in names)


def _dimension_name(name: Json) -> str | None:
    if name is not None and (not isinstance(name, str) or not _is_utf8(name)):
        raise _refused(f"one of its dimension_names is {name!r}")
    return name or None


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _integers(value: Json, what: str, *, most: int) -> list[int]:
    if not isinstance(value, list):
        raise _refused(f"its {what} is not a list")
    numbers: list[int] = []
    for item in value:
        if not isinstance(item, int) or isinstance(item, bool) or not 0 <= item <= most:
            raise _refused(f"its {what} has the length {item!r}")
        numbers.append(item)
    return numbers
