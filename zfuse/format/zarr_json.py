"""What zfuse needs to know of an array's zarr.json: its chunk grid and the names of its chunks.

Specification: Zarr v3 core, "Array metadata", "Chunk key encoding", and the rectilinear
chunk grid extension. The official library checks little of what it stores (node type, shape
and chunk grid), so the rest may be anything and must not stand in the way of the chunks.
"""

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from zfuse.errors import CorruptionError
from zfuse.format.shard_index import ShardLayout
from zfuse.format.values import Json

_MAX_CHUNKS: Final = 1 << 22
"""Chunks along all dimensions of a rectilinear grid: more would be a memory bomb."""

_MAX_COORD: Final = 2**32 - 1
_LONGEST_INTEGER: Final = 4000  # digits; Python refuses to parse more than 4300


class ChunkKeyEncoding(ABC):
    """How the index of a chunk becomes a file name below its array."""

    @abstractmethod
    def encode(self, coords: Sequence[int]) -> str:
        """Return the name of the chunk at *coords*, relative to the array (``c/0/1``)."""

    @abstractmethod
    def directories(self, rank: int) -> int:
        """Return how many directories below the array lead to a chunk (2 for ``c/0/1``)."""

    @abstractmethod
    def decode(self, name: str, rank: int) -> tuple[int, ...] | None:
        """Return the index that *name* spells, None unless it is the canonical spelling."""


@dataclass(frozen=True, slots=True)
class DefaultChunkKeys(ChunkKeyEncoding):
    """The encoding ``default``: ``c/0/1``, and ``c`` for the chunk of a scalar."""

    separator: str = "/"

    def encode(self, coords: Sequence[int]) -> str:
        """Return the name of the chunk at *coords*."""
        return self.separator.join(("c", *map(str, coords)))

    def directories(self, rank: int) -> int:
        """Return how many directories below the array lead to a chunk."""
        return rank if self.separator == "/" else 0

    def decode(self, name: str, rank: int) -> tuple[int, ...] | None:
        """Return the index that *name* spells, None unless it is the canonical spelling."""
        first, *numbers = name.split(self.separator)
        return _coords(numbers, rank) if first == "c" else None


@dataclass(frozen=True, slots=True)
class V2ChunkKeys(ChunkKeyEncoding):
    """The encoding ``v2``: ``0.1``, and ``0`` for the chunk of a scalar."""

    separator: str = "."

    def encode(self, coords: Sequence[int]) -> str:
        """Return the name of the chunk at *coords*."""
        return self.separator.join(map(str, coords)) or "0"

    def directories(self, rank: int) -> int:
        """Return how many directories below the array lead to a chunk."""
        return max(rank - 1, 0) if self.separator == "/" else 0

    def decode(self, name: str, rank: int) -> tuple[int, ...] | None:
        """Return the index that *name* spells, None unless it is the canonical spelling."""
        if rank == 0:
            return () if name == "0" else None
        return _coords(name.split(self.separator), rank)


@dataclass(frozen=True, slots=True)
class AffixedChunkKeys(ChunkKeyEncoding):
    """The extensions ``suffix`` and ``prefix``: another encoding's names between two strings."""

    base: ChunkKeyEncoding
    prefix: str = ""
    suffix: str = ""

    def encode(self, coords: Sequence[int]) -> str:
        """Return the name of the chunk at *coords*."""
        return f"{self.prefix}{self.base.encode(coords)}{self.suffix}"

    def directories(self, rank: int) -> int:
        """Return how many directories below the array lead to a chunk."""
        return self.prefix.count("/") + self.base.directories(rank)

    def decode(self, name: str, rank: int) -> tuple[int, ...] | None:
        """Return the index that *name* spells, None unless it is the canonical spelling."""
        if not (name.startswith(self.prefix) and name.endswith(self.suffix)):
            return None
        return self.base.decode(name.removeprefix(self.prefix).removesuffix(self.suffix), rank)


def _coords(numbers: Sequence[str], rank: int) -> tuple[int, ...] | None:
    if len(numbers) != rank or not all(_is_canonical(number) for number in numbers):
        return None
    return tuple(map(int, numbers))


def _is_canonical(number: str) -> bool:
    if not (number.isascii() and number.isdecimal()) or len(number) > 10:
        return False
    return (number[0] != "0" or number == "0") and int(number) <= _MAX_COORD


@dataclass(frozen=True, slots=True)
class ArrayMetadata:
    """The parts of an array's zarr.json that a file system needs.

    ``data_type`` is the name of the type, or of its extension. ``chunk_shape`` is the shape
    of a regular chunk in elements (of the whole shard where ``inner_chunk_shape`` is set),
    None for a rectilinear grid, whose chunk lengths per dimension are in ``chunk_lengths``.
    Both are None where the grid is an extension that zfuse does not know.
    """

    shape: tuple[int, ...]
    data_type: str
    chunk_shape: tuple[int, ...] | None
    chunk_lengths: tuple[tuple[int, ...], ...] | None
    inner_chunk_shape: tuple[int, ...] | None
    codecs: tuple[str, ...]
    dimension_names: tuple[str | None, ...] | None
    chunk_key_encoding: ChunkKeyEncoding | None
    shard_layout: ShardLayout | None = None

    @property
    def is_sharded(self) -> bool:
        """Whether a chunk file holds many inner chunks behind an index."""
        return self.inner_chunk_shape is not None

    @classmethod
    def parse(cls, user_data: bytes) -> Self:
        """Interpret the bytes of an array's zarr.json.

        Members that zfuse does not need are not looked at, so this succeeds for codecs and
        data types that it never heard of. ``chunk_key_encoding`` is None where the encoding
        is an extension that zfuse does not know.

        Raises:
            CorruptionError: the bytes are not the metadata of an array.
        """
        document = _document(user_data)
        if document.get("node_type") != "array":
            raise CorruptionError("the zarr.json is not that of an array")
        shape = _lengths(document.get("shape"), "shape")
        grid, configuration = _named(document.get("chunk_grid"))
        codecs = _list(document.get("codecs"))
        data_type = _named(document.get("data_type"))[0] or "unknown"
        chunk_shape = _chunk_shape(configuration, shape) if grid == "regular" else None
        return cls(
            shape=shape,
            data_type=data_type,
            chunk_shape=chunk_shape,
            chunk_lengths=_chunk_lengths(configuration, shape) if grid == "rectilinear" else None,
            inner_chunk_shape=_inner_chunk_shape(codecs),
            codecs=tuple(name for name, _ in map(_named, codecs) if name is not None),
            dimension_names=_dimension_names(document.get("dimension_names")),
            chunk_key_encoding=_chunk_key_encoding(document.get("chunk_key_encoding", "default")),
            shard_layout=_shard_layout(codecs, chunk_shape, _item_size(data_type)),
        )


def _document(user_data: bytes) -> Mapping[str, Json]:
    # Official writers let through bytes that are not UTF-8, inside attributes for example.
    text = user_data.decode(errors="surrogateescape")
    try:
        document = json.loads(text, parse_int=_integer)
    except (ValueError, RecursionError) as exc:
        raise CorruptionError(f"the zarr.json is not JSON: {exc}") from None
    if not isinstance(document, dict):
        raise CorruptionError("the zarr.json is not a JSON object")
    return document


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < _LONGEST_INTEGER else float(digits)


def _named(value: Json) -> tuple[str | None, Mapping[str, Json]]:
    """Return name and configuration of an extension point; a bare string is the name."""
    if isinstance(value, str):
        return value, {}
    if not isinstance(value, dict):
        return None, {}
    name, configuration = value.get("name"), value.get("configuration")
    return (
        name if isinstance(name, str) else None,
        configuration if isinstance(configuration, dict) else {},
    )


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _lengths(value: Json, what: str) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise CorruptionError(f"the {what} in the zarr.json is not a list")
    return tuple(_length(item, what) for item in value)


def _length(value: Json, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise CorruptionError(f"the {what} in the zarr.json has the length {value!r}")
    return value


def _chunk_shape(configuration: Mapping[str, Json], shape: Sequence[int]) -> tuple[int, ...]:
    lengths = _lengths(configuration.get("chunk_shape"), "chunk shape")
    if len(lengths) < len(shape):
        raise CorruptionError("the chunk shape in the zarr.json has too few dimensions")
    return lengths[: len(shape)]  # official writers ignore what is too much


def _chunk_lengths(
    configuration: Mapping[str, Json], shape: Sequence[int]
) -> tuple[tuple[int, ...], ...]:
    dimensions = _list(configuration.get("chunk_shapes"))
    if configuration.get("kind") != "inline" or len(dimensions) != len(shape):
        raise CorruptionError("the rectilinear chunk grid in the zarr.json does not fit the shape")
    runs = [_runs(item, length) for item, length in zip(dimensions, shape, strict=True)]
    if sum(count for dimension in runs for _, count in dimension) > _MAX_CHUNKS:
        raise CorruptionError("the rectilinear chunk grid in the zarr.json is beyond all bounds")
    return tuple(
        tuple(step for step, count in dimension for _ in range(count)) for dimension in runs
    )


def _runs(value: Json, length: int) -> list[tuple[int, int]]:
    """Return (chunk length, count) along a dimension that is *length* elements long."""
    if not isinstance(value, list):
        step = _length(value, "chunk grid")
        return [(step, -(-length // step) if step else 0)]
    return [_run(item if isinstance(item, list) else [item, 1]) for item in value]


def _run(item: Sequence[Json]) -> tuple[int, int]:
    if len(item) != 2:
        raise CorruptionError("a run of chunks in the zarr.json is not [length, count]")
    return _length(item[0], "chunk grid"), _length(item[1], "chunk grid")


def _inner_chunk_shape(codecs: Sequence[Json]) -> tuple[int, ...] | None:
    for name, configuration in map(_named, codecs):
        if name == "sharding_indexed":
            return _lengths(configuration.get("chunk_shape"), "inner chunk shape")
    return None


def _shard_layout(
    codecs: Sequence[Json], chunk_shape: tuple[int, ...] | None, item_size: int
) -> ShardLayout | None:
    """Return how shards are laid out, None where there are none."""
    named = [_named(codec) for codec in codecs]
    at = next((n for n, (name, _) in enumerate(named) if name == "sharding_indexed"), None)
    if at is None:
        return None
    configuration = named[at][1]
    inner = _lengths(configuration.get("chunk_shape"), "inner chunk shape")
    inner_bytes = math.prod(inner) * item_size
    index = [name for name, _ in map(_named, _list(configuration.get("index_codecs")))]
    nested = any(_named(c)[0] == "sharding_indexed" for c in _list(configuration.get("codecs")))
    # Behind codecs of the whole shard nothing is where the index says, and the inner chunks
    # of nested shards are not read whole.
    if at < len(named) - 1 or nested or index not in (["bytes"], ["bytes", "crc32c"]):
        return ShardLayout(inner_bytes)
    if chunk_shape is None or len(inner) != len(chunk_shape) or 0 in inner:
        return ShardLayout(inner_bytes)
    count = math.prod(outer // part for outer, part in zip(chunk_shape, inner, strict=True))
    at_start = configuration.get("index_location") == "start"
    return ShardLayout(inner_bytes, count, 4 * (len(index) - 1), at_start)


def _item_size(data_type: str) -> int:
    """Return about how many bytes an element takes."""
    bits = re.fullmatch(r"[a-z]+(\d{1,4})", data_type)
    if bits:
        return max(int(bits[1]) // 8, 1)
    return 1 if data_type == "bool" else 16


def _dimension_names(value: Json) -> tuple[str | None, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(name if isinstance(name, str) else None for name in value)


def _chunk_key_encoding(value: Json) -> ChunkKeyEncoding | None:
    name, configuration = _named(value)
    if isinstance(value, dict) and "separator" in value:  # zarr-python reads this form too
        configuration = {"separator": value["separator"], **configuration}
    if name in ("suffix", "prefix"):
        return _affixed(name, configuration)
    if name not in ("default", "v2"):
        return None
    separator = configuration.get("separator", "/" if name == "default" else ".")
    if separator not in ("/", "."):
        return None
    return DefaultChunkKeys(separator) if name == "default" else V2ChunkKeys(separator)


def _affixed(name: str, configuration: Mapping[str, Json]) -> ChunkKeyEncoding | None:
    # The text of the extension says base_encoding, one of its examples base-encoding.
    base_encoding = configuration.get("base_encoding", configuration.get("base-encoding"))
    base, affix = _chunk_key_encoding(base_encoding), configuration.get(name)
    if base is None or not isinstance(affix, str) or not _is_affix(name, affix):
        return None
    return AffixedChunkKeys(base, **{name: affix})


def _is_affix(name: str, affix: str) -> bool:
    if name == "suffix":  # with a slash the last directory would not be the last but one number
        return "/" not in affix and "\0" not in affix
    return not affix.startswith("/") and not any(
        part in affix for part in ("..", "\\", "\0", "//", "zarr.json")
    )
