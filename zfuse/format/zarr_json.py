"""What zfuse needs to know of an array's zarr.json: its chunk grid and the names of its chunks.

Specification: Zarr v3 core, "Array metadata", "Chunk key encoding", and the rectilinear
chunk grid extension.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


class ChunkKeyEncoding(ABC):
    """How the index of a chunk becomes a file name below its array."""

    @abstractmethod
    def encode(self, coords: Sequence[int]) -> str:
        """Return the name of the chunk at *coords*, relative to the array (``c/0/1``)."""

    @abstractmethod
    def directories(self, rank: int) -> int:
        """Return how many directories below the array lead to a chunk of *rank* (2 for ``c/0/1``)."""

    @abstractmethod
    def decode(self, name: str, rank: int) -> tuple[int, ...] | None:
        """Return the index that *name* spells, None unless it is the canonical spelling."""


@dataclass(frozen=True, slots=True)
class ArrayMetadata:
    """The parts of an array's zarr.json that a file system needs.

    ``data_type`` is the name of the type, or of its extension. ``chunk_shape`` is the shape
    of a regular chunk in elements (of the whole shard where ``inner_chunk_shape`` is set),
    None for a rectilinear grid, whose chunk lengths per dimension are in ``chunk_lengths``.
    """

    shape: tuple[int, ...]
    data_type: str
    chunk_shape: tuple[int, ...] | None
    chunk_lengths: tuple[tuple[int, ...], ...] | None
    inner_chunk_shape: tuple[int, ...] | None
    codecs: tuple[str, ...]
    dimension_names: tuple[str | None, ...] | None
    chunk_key_encoding: ChunkKeyEncoding | None

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
        raise NotImplementedError
