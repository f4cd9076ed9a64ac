"""Values of any JSON type inside the binary files: MessagePack in version 1, FlexBuffers in 2.

Both decoders return None, bool, int, float, str, list and dict only. Numbers that JSON does
not have (NaN, infinities) become None, as the official library has it.

Specifications: https://github.com/msgpack/msgpack/blob/master/spec.md,
https://flatbuffers.dev/internals/#flexbuffers
"""

import math
import struct
from collections.abc import Callable
from typing import Final

import msgpack

from zfuse.errors import CorruptionError

type Json = bool | int | float | str | list[Json] | dict[str, Json] | None

MAX_DEPTH: Final = 200
"""How deep values may nest; deeper ones end in a RecursionError somewhere down the line."""

_BUDGET_FACTOR: Final = 8
_BUDGET_FLOOR: Final = 1 << 10
_VALUE_COST: Final = 4

_UNSIGNED: Final = {1: "<B", 2: "<H", 4: "<I", 8: "<Q"}
_SIGNED: Final = {1: "<b", 2: "<h", 4: "<i", 8: "<q"}
_FLOAT: Final = {2: "<e", 4: "<f", 8: "<d"}
_FORMATS: Final = (_SIGNED, _UNSIGNED, _FLOAT)  # in the order of the type numbers

_NULL, _INT, _FLOAT_TYPE, _KEY, _STRING = 0, 1, 3, 4, 5
_INDIRECT_INT, _INDIRECT_FLOAT, _MAP, _VECTOR = 6, 8, 9, 10
_VECTOR_INT, _VECTOR_FLOAT, _VECTOR_KEY, _VECTOR_STRING = 11, 13, 14, 15
_TUPLE_INT2, _TUPLE_FLOAT4, _BLOB, _BOOL, _VECTOR_BOOL = 16, 24, 25, 26, 36


def decode_msgpack(data: bytes) -> Json:
    """Return the value that *data* holds.

    Raises:
        CorruptionError: *data* is not one MessagePack value of the types that JSON has.
    """
    try:
        value = msgpack.unpackb(data, strict_map_key=False)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as exc:
        raise CorruptionError(f"a MessagePack value is damaged: {exc}") from None
    return plain(value)


def plain(value: object, depth: int = MAX_DEPTH) -> Json:
    """Return *value* with nothing but the types of JSON in it, at most *depth* levels of them.

    Raises:
        CorruptionError: it holds something else, or is deeper.
    """
    if depth == 0:
        raise CorruptionError(f"a value is nested more than {MAX_DEPTH} deep")
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case list():
            return [plain(item, depth - 1) for item in value]
        case dict():
            return {_plain_key(key): plain(item, depth - 1) for key, item in value.items()}
        case _:
            raise CorruptionError(f"a value is a {type(value).__name__}, which JSON has not")


def _plain_key(key: object) -> str:
    if not isinstance(key, str):
        raise CorruptionError(f"a mapping has the key {key!r}, which is no string")
    return key


def decode_flexbuffer(data: bytes) -> Json:
    """Return the value that *data* holds.

    Raises:
        CorruptionError: *data* is not a sound FlexBuffer.
    """
    if len(data) < 3:
        raise CorruptionError(f"{len(data)} bytes are too few for a FlexBuffer")
    packed_type, width = data[-2], data[-1]
    reader = _FlexReader(data)
    return reader.value(len(data) - 2 - width, width, packed_type, MAX_DEPTH)


class _FlexReader:
    """Reads one FlexBuffer.

    Offsets can form loops and point many times at one value, hence the depth and budget.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._budget = _BUDGET_FACTOR * len(data) + _BUDGET_FLOOR
        # Writers share keys, and may share strings: each is read and charged once.
        self._keys_at: dict[int, str] = {}
        self._strings_at: dict[tuple[int, int], str] = {}

    def value(self, position: int, width: int, packed_type: int, depth: int) -> Json:
        """Return the value of *packed_type* whose slot of *width* bytes is at *position*."""
        if depth == 0:
            raise CorruptionError(f"a FlexBuffer is nested more than {MAX_DEPTH} deep")
        self._charge(_VALUE_COST)
        kind = packed_type >> 2
        if kind == _NULL:
            return None
        if kind == _BOOL:
            return self._number(_UNSIGNED, position, width) != 0
        if _INT <= kind <= _FLOAT_TYPE:
            return self._number(_FORMATS[kind - _INT], position, width)
        target = self._follow(position, width)
        return self._at(target, 1 << (packed_type & 3), kind, depth)

    def _at(self, target: int, width: int, kind: int, depth: int) -> Json:
        """Return the value of a type that lies apart from its slot."""
        if kind == _MAP:
            return self._map(target, width, depth)
        if kind == _VECTOR:
            return self._vector(target, width, depth)
        if _INDIRECT_INT <= kind <= _INDIRECT_FLOAT:
            return self._number(_FORMATS[kind - _INDIRECT_INT], target, width)
        if kind in (_STRING, _KEY):
            return self._key(target) if kind == _KEY else self._string(target, width)
        return self._typed_vector(target, width, kind)

    def _typed_vector(self, target: int, width: int, kind: int) -> list[Json]:
        if _TUPLE_INT2 <= kind <= _TUPLE_FLOAT4:
            count = 2 + (kind - _TUPLE_INT2) // 3
            return self._numbers(_FORMATS[(kind - _TUPLE_INT2) % 3], target, width, count)
        count = self._size(target, width)
        if kind == _BLOB:
            return list(self._slice(target, count))
        if _VECTOR_INT <= kind <= _VECTOR_FLOAT:
            return self._numbers(_FORMATS[kind - _VECTOR_INT], target, width, count)
        if kind == _VECTOR_BOOL:
            return [n != 0 for n in self._numbers(_UNSIGNED, target, width, count)]
        if kind == _VECTOR_KEY:
            return list(self._keys(target, width, count))
        if kind == _VECTOR_STRING:  # no longer written; each string has a one byte length
            return [self._string(at, 1) for at in self._targets(target, width, count)]
        raise CorruptionError(f"a FlexBuffer has a value of the unknown type {kind}")

    def _vector(self, target: int, width: int, depth: int) -> list[Json]:
        count = self._size(target, width)
        types = self._slice(target + count * width, count)
        return [
            self.value(target + n * width, width, packed_type, depth - 1)
            for n, packed_type in enumerate(types)
        ]

    def _map(self, target: int, width: int, depth: int) -> dict[str, Json]:
        keys = self._follow(target - 3 * width, width)
        key_width = self._unsigned(target - 2 * width, width)
        values = self._vector(target, width, depth)
        return dict(zip(self._keys(keys, key_width, len(values)), values, strict=True))

    def _keys(self, target: int, width: int, count: int) -> list[str]:
        return [self._key(at) for at in self._targets(target, width, count)]

    def _targets(self, target: int, width: int, count: int) -> list[int]:
        self._slice(target, count * width)
        return [self._follow(target + n * width, width) for n in range(count)]

    def _key(self, target: int) -> str:
        key = self._keys_at.get(target)
        if key is None:
            end = self._data.find(0, target)
            if end < 0:
                raise CorruptionError("a key of a FlexBuffer has no end")
            key = self._keys_at[target] = self._text(target, end - target)
        return key

    def _string(self, target: int, width: int) -> str:
        place = (target, self._size(target, width))
        string = self._strings_at.get(place)
        if string is None:
            string = self._strings_at[place] = self._text(*place)
        return string

    def _text(self, position: int, size: int) -> str:
        try:
            return self._slice(position, size).decode()
        except UnicodeDecodeError:
            raise CorruptionError("a string of a FlexBuffer is not UTF-8") from None

    def _numbers(self, formats: dict[int, str], target: int, width: int, count: int) -> list[Json]:
        self._slice(target, count * width)
        self._charge(count * _VALUE_COST)
        return [self._number(formats, target + n * width, width) for n in range(count)]

    def _size(self, target: int, width: int) -> int:
        """Return the number that stands in front of a vector or string."""
        return self._unsigned(target - width, width)

    def _follow(self, position: int, width: int) -> int:
        """Return where the offset at *position* leads; offsets lead backwards."""
        target = position - self._unsigned(position, width)
        if target < 0:
            raise CorruptionError("a FlexBuffer has an offset out of its bounds")
        return target

    def _unsigned(self, position: int, width: int) -> int:
        return int(self._number(_UNSIGNED, position, width) or 0)

    def _number(self, formats: dict[int, str], position: int, width: int) -> int | float | None:
        code = formats.get(width)
        if code is None or not 0 <= position <= len(self._data) - width:
            raise CorruptionError("a FlexBuffer has a number out of its bounds")
        number: int | float = struct.unpack_from(code, self._data, position)[0]
        return None if isinstance(number, float) and not math.isfinite(number) else number

    def _slice(self, position: int, size: int) -> bytes:
        if position < 0 or position + size > len(self._data):
            raise CorruptionError("a FlexBuffer has a value out of its bounds")
        self._charge(size)
        return self._data[position : position + size]

    def _charge(self, cost: int) -> None:
        self._budget -= cost
        if self._budget < 0:
            raise CorruptionError("a FlexBuffer refers to the same bytes over and over")


Decoder = Callable[[bytes], Json]


def decoder_of(spec_version: int) -> Decoder:
    """Return how the values in a file of *spec_version* are encoded."""
    return decode_msgpack if spec_version == 1 else decode_flexbuffer
