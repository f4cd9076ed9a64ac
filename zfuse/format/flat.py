"""A reader of flatbuffers that trusts nothing: every offset, length and string is checked.

The flatbuffers package reads what it is told to read. Here a damaged or hostile buffer
gives CorruptionError and nothing else, in bounded time: offsets may point anywhere, also
many of them at one place, so everything read is charged to a budget in proportion to the
size of the buffer.

Fields are named by slot, their position in the schema counting from 0; a union takes two
slots. Format: https://flatbuffers.dev/internals/
"""

import struct
from collections.abc import Iterable
from operator import add
from typing import Final

from zfuse.errors import CorruptionError

_U16: Final = struct.Struct("<H")
_U32: Final = struct.Struct("<I")
_I32: Final = struct.Struct("<i")
_U64: Final = struct.Struct("<Q")
_VTABLE_HEAD: Final = struct.Struct("<HH")

_OFFSETS: Final = tuple(struct.Struct(f"<{n}I") for n in range(9))
"""For short vectors of offsets, of which snapshots have a few per array."""

TABLE_COST: Final = 32
"""What a table takes from the budget of its buffer, in bytes."""

_STRUCT_COST: Final = 8
_BUDGET_FACTOR: Final = 4
_BUDGET_FLOOR: Final = 4 << 20


def required[T](value: T | None, name: str) -> T:
    """Return *value*, which the schema calls required.

    Raises:
        CorruptionError: it is absent.
    """
    if value is None:
        raise CorruptionError(f"the required field {name} is missing")
    return value


class FlatBuffer:
    """The bytes of one flatbuffer, and how much may still be read of them."""

    __slots__ = ("_budget", "_vtables", "data", "size")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self._budget = _BUDGET_FACTOR * len(data) + _BUDGET_FLOOR
        self._vtables: dict[int, tuple[int, ...]] = {}

    def root(self) -> "Table":
        """Return the table that the buffer starts with."""
        if self.size < 8:
            raise CorruptionError(f"{self.size} bytes are too few for a flatbuffer")
        return self.table_at(_U32.unpack_from(self.data)[0])

    def charge(self, cost: int) -> None:
        """Take *cost* from the budget.

        Sound buffers never use it up: nothing in them is read twice but what writers share.

        Raises:
            CorruptionError: nothing is left of it.
        """
        self._budget -= cost
        if self._budget < 0:
            raise CorruptionError("the flatbuffer refers to the same bytes over and over")

    def table_at(self, position: int) -> "Table":
        """Return the table at *position*."""
        self.charge(TABLE_COST)
        return self.tables_at((position,))[0]

    def tables_at(self, positions: Iterable[int]) -> "list[Table]":
        """Return the tables at *positions*, which the caller has charged."""
        # A snapshot of 100,000 nodes has a million tables, hence one loop without calls.
        data, last, vtables = self.data, self.size - 4, self._vtables
        unpack = _I32.unpack_from
        tables = []
        for position in positions:
            if position > last or position & 3:
                raise CorruptionError(f"a table at {position} is outside of the flatbuffer")
            vtable = position - unpack(data, position)[0]
            fields = vtables.get(vtable) or self._read_vtable(vtable)
            if position + fields[0] > last + 4:
                raise CorruptionError(f"the table at {position} is cut off")
            tables.append(Table(self, position, fields))
        return tables

    def _read_vtable(self, position: int) -> tuple[int, ...]:
        """Return the size of the table, then the offset of each field in it, 0 for absent."""
        if not 4 <= position <= self.size - 4 or position & 1:
            raise CorruptionError(f"a vtable at {position} is outside of the flatbuffer")
        length, table_size = _VTABLE_HEAD.unpack_from(self.data, position)
        if length < 4 or length % 2 or table_size < 4 or position + length > self.size:
            raise CorruptionError(f"the vtable at {position} is damaged")
        self.charge(length + TABLE_COST)
        fields = struct.unpack_from(f"<{length // 2 - 2}H", self.data, position + 4)
        if any(field >= table_size for field in fields):
            raise CorruptionError(f"the vtable at {position} points outside of its table")
        found = self._vtables[position] = (table_size, *fields)
        return found


class Table:
    """One table of a flatbuffer. An absent field gives None, an absent scalar its default."""

    __slots__ = ("_buffer", "_fields", "_position")

    def __init__(self, buffer: FlatBuffer, position: int, fields: tuple[int, ...]) -> None:
        self._buffer = buffer
        self._position = position
        self._fields = fields

    def _find(self, slot: int, size: int, mask: int = 3) -> int:
        """Return the position of a field of *size* bytes, 0 where it is absent.

        The position shall have none of the bits in *mask*: by default it is a multiple of 4.
        """
        fields = self._fields
        try:
            offset = fields[slot + 1]
        except IndexError:
            return 0
        if offset == 0:
            return 0
        position = self._position + offset
        if offset < 4 or offset + size > fields[0] or position & mask:
            raise CorruptionError(f"field {slot} lies outside of its table")
        return position

    def u8(self, slot: int, default: int = 0) -> int:
        """Return an 8 bit number."""
        position = self._find(slot, 1, 0)
        return self._buffer.data[position] if position else default

    def u16(self, slot: int, default: int = 0) -> int:
        """Return an unsigned 16 bit number."""
        position = self._find(slot, 2, 1)
        if not position:
            return default
        number: int = _U16.unpack_from(self._buffer.data, position)[0]
        return number

    def u32(self, slot: int, default: int = 0) -> int:
        """Return an unsigned 32 bit number."""
        position = self._find(slot, 4)
        if not position:
            return default
        number: int = _U32.unpack_from(self._buffer.data, position)[0]
        return number

    def i32(self, slot: int, default: int = 0) -> int:
        """Return a signed 32 bit number."""
        position = self._find(slot, 4)
        if not position:
            return default
        number: int = _I32.unpack_from(self._buffer.data, position)[0]
        return number

    def u64(self, slot: int, default: int = 0) -> int:
        """Return an unsigned 64 bit number."""
        position = self._find(slot, 8)
        if not position:
            return default
        number: int = _U64.unpack_from(self._buffer.data, position)[0]
        return number

    def struct(self, slot: int, size: int) -> bytes | None:
        """Return the *size* bytes of a struct."""
        position = self._find(slot, size, 0)
        return self._buffer.data[position : position + size] if position else None

    def table(self, slot: int) -> "Table | None":
        """Return a table that the field points to."""
        position = self._find(slot, 4)
        if not position:
            return None
        buffer = self._buffer
        return buffer.table_at(position + int(_U32.unpack_from(buffer.data, position)[0]))

    def vector(self, slot: int, item_size: int) -> tuple[int, int] | None:
        """Return where the first item of a vector is, and how many items it has.

        All of them lie in the buffer, and are charged.
        """
        position = self._find(slot, 4)
        return self._vector_at(position, item_size) if position else None

    def _vector_at(self, position: int, item_size: int) -> tuple[int, int]:
        """Return start and length of the vector that the offset at *position* leads to."""
        buffer = self._buffer
        data, size = buffer.data, buffer.size
        start: int = position + _U32.unpack_from(data, position)[0] + 4
        if start > size or start & 3:
            raise CorruptionError(f"a vector at {start - 4} is outside of the flatbuffer")
        count: int = _U32.unpack_from(data, start - 4)[0]
        if start + count * item_size > size:
            raise CorruptionError(f"the vector at {start - 4} is cut off")
        buffer.charge(count * item_size)
        return start, count

    def byte_vector(self, slot: int) -> bytes | None:
        """Return a vector of bytes."""
        found = self.vector(slot, 1)
        return None if found is None else self._buffer.data[found[0] : found[0] + found[1]]

    def structs(self, slot: int, size: int) -> list[bytes] | None:
        """Return the items of a vector of structs of *size* bytes."""
        found = self.vector(slot, size)
        if found is None:
            return None
        start, count = found
        data = self._buffer.data
        self._buffer.charge(count * _STRUCT_COST)
        return [data[p : p + size] for p in range(start, start + count * size, size)]

    def u16s(self, slot: int) -> tuple[int, ...] | None:
        """Return a vector of unsigned 16 bit numbers."""
        found = self.vector(slot, 2)
        if found is None:
            return None
        return struct.unpack_from(f"<{found[1]}H", self._buffer.data, found[0])

    def tables(self, slot: int) -> "list[Table] | None":
        """Return the items of a vector of tables."""
        found = self.vector(slot, 4)
        if found is None:
            return None
        start, count = found
        buffer = self._buffer
        buffer.charge(count * TABLE_COST)
        layout = _OFFSETS[count] if count < len(_OFFSETS) else struct.Struct(f"<{count}I")
        offsets = layout.unpack_from(buffer.data, start)
        return buffer.tables_at(map(add, offsets, range(start, start + 4 * count, 4)))

    def string(self, slot: int) -> str | None:
        """Return a string."""
        position = self._find(slot, 4)
        return self._string_at(position) if position else None

    def strings(self, slot: int) -> list[str] | None:
        """Return the items of a vector of strings."""
        found = self.vector(slot, 4)
        if found is None:
            return None
        start, count = found
        self._buffer.charge(count * TABLE_COST)
        return [self._string_at(start + 4 * n) for n in range(count)]

    def _string_at(self, position: int) -> str:
        start, length = self._vector_at(position, 1)
        data = self._buffer.data
        stop = start + length
        if stop >= self._buffer.size or data[stop]:
            raise CorruptionError(f"the string at {start} has no end")
        try:
            return data[start:stop].decode()
        except UnicodeDecodeError:
            raise CorruptionError(f"the string at {start} is not UTF-8") from None
