"""A writer of flatbuffers, many times as fast as the builder of the flatbuffers package.

That one calls Python for every field; a commit to a repository of 10,000 snapshots would
take it half a second. Here every table is packed in one call.

Buffers are written from their end to their start, as offsets lead forwards: what is pointed
to comes first. A *place* is the distance of an object from the end of the buffer, which
does not change while the buffer grows. Slots count from 0; a union takes two.

Format: https://flatbuffers.dev/internals/
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from zfuse.errors import InvalidInputError

REF: Final = "ref"
"""The format of a field that holds the place of a table, vector or string."""

Field = tuple[int, str, int | bytes | None]
"""Slot, format (REF, or one of the struct module: ``B H i I Q 8s 12s``), value; None: absent."""

_IDENTIFIER: Final = b"Ichk"
_HEAD: Final = struct.Struct("<I4s")
_LENGTH: Final = struct.Struct("<I")
MAX_SIZE: Final = 2**31 - 1
_MAX_ALIGN: Final = 8


class _Layout(NamedTuple):
    """How tables with certain fields are laid out."""

    size: int
    align: int
    vtable: bytes
    pack: Callable[..., bytes]
    refs: tuple[tuple[int, int], ...]
    """Which of the fields are references, and their offsets in the table."""


class FlatWriter:
    """The part of one flatbuffer that is written."""

    __slots__ = ("_pieces", "_size", "_vtables")

    def __init__(self) -> None:
        self._pieces: list[bytes | memoryview] = []
        self._size = 0
        self._vtables: dict[bytes, int] = {}

    def table(self, *fields: Field) -> int:
        """Write a table, in which the fields lie in the order given; return its place."""
        present = [field for field in fields if field[2] is not None]
        layout = _layout(tuple([field[:2] for field in present]))
        values = [field[2] for field in present]
        place = self._aligned(layout.size, layout.align)
        for n, end in layout.refs:
            values[n] = place - end - values[n]  # type: ignore[operator]
        known = self._vtables.get(layout.vtable)
        # A new vtable goes right in front of its first table.
        vtable = place + len(layout.vtable) if known is None else known
        self._append(layout.pack(vtable - place, *values), place)
        if known is None:
            self._vtables[layout.vtable] = self._append(layout.vtable, vtable)
        return place

    def string(self, text: str) -> int:
        """Write a string; return its place.

        Raises:
            InvalidInputError: *text* has lone surrogates, which UTF-8 has not.
        """
        data = utf8(text)
        return self.vector(data + b"\0", len(data))

    def byte_vector(self, data: bytes) -> int:
        """Write a vector of bytes; return its place."""
        return self.vector(data, len(data))

    def vector(self, items: bytes, count: int, align: int = 4) -> int:
        """Write a vector of *count* numbers or structs of that alignment; return its place."""
        first = self._aligned(len(items), max(align, 4))
        return self._append(_LENGTH.pack(count) + items, first + 4)

    def offsets(self, places: Sequence[int]) -> int:
        """Write a vector of tables or strings, given by their places; return its place."""
        count = len(places)
        first = self._aligned(4 * count, 4)
        distances = [first - 4 * n - place for n, place in enumerate(places)]
        return self.vector(struct.pack(f"<{count}I", *distances), count)

    def block(self, words: npt.NDArray[np.uint32]) -> int:
        """Write finished objects that begin with a vector; return its place.

        *words* are an even number, and their offsets lead to nothing outside of them.
        """
        # Not copied: there may be gigabytes of it.
        return self._append(memoryview(words).cast("B"), self._aligned(words.nbytes, 8))

    def part(self) -> bytes:
        """Return all that is written, which begins with the last object, for ``embed``."""
        return b"".join(reversed(self._pieces))

    def embed(self, part: bytes) -> int:
        """Write what another writer wrote; return the place of its last object."""
        return self._append(part, self._aligned(0, _MAX_ALIGN) + len(part))

    def finish(self, root: int) -> bytes:
        """Return the flatbuffer of the table *root*."""
        place = self._aligned(_HEAD.size, _MAX_ALIGN)
        self._append(_HEAD.pack(place - root, _IDENTIFIER), place)
        return b"".join(reversed(self._pieces))

    def _aligned(self, size: int, align: int) -> int:
        """Return the place that an object of *size* bytes would get."""
        return -(-(self._size + size) // align) * align

    def _append(self, data: bytes | memoryview, place: int) -> int:
        """Put *data* at *place*, with zeros behind it as needed."""
        if place > MAX_SIZE:
            raise InvalidInputError("a file of the repository would be larger than 2 GiB")
        padding = place - self._size - len(data)
        if padding:
            self._pieces.append(bytes(padding))
        self._pieces.append(data)
        self._size = place
        return place


def utf8(text: str) -> bytes:
    """Return *text* in UTF-8.

    Raises:
        InvalidInputError: it has lone surrogates, which UTF-8 has not.
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidInputError(f"{text[:80]!r} can not be written in UTF-8") from None


def vtable_of(table_size: int, offsets: Mapping[int, int]) -> bytes:
    """Return the vtable of tables of *table_size* bytes with *offsets* by slot."""
    entries = [0] * (max(offsets, default=-1) + 1)
    for slot, offset in offsets.items():
        entries[slot] = offset
    return struct.pack(f"<{len(entries) + 2}H", 4 + 2 * len(entries), table_size, *entries)


@cache
def _layout(fields: tuple[tuple[int, str], ...]) -> _Layout:
    """Return how tables with *fields* (slot, format) are laid out."""
    offset, align, pattern, refs = 4, 4, "<i", []
    offsets: dict[int, int] = {}
    for n, (slot, field) in enumerate(fields):
        code = "I" if field == REF else field
        size = struct.calcsize(f"<{code}")
        own_align = 1 if code.endswith("s") else size
        padding = -offset % own_align
        offset += padding
        pattern += f"{padding}x{code}"
        if field == REF:
            refs.append((n, offset))
        offsets[slot] = offset
        offset += size
        align = max(align, own_align)
    pack = struct.Struct(pattern).pack
    return _Layout(offset, align, vtable_of(offset, offsets), pack, tuple(refs))
