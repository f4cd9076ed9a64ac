"""Writes values of any JSON type: MessagePack in version 1, FlexBuffers in 2.

As in the official library, numbers that JSON does not have (NaN, infinities) become null,
and integers of more than 64 bits become floating point numbers.

Specifications: https://github.com/msgpack/msgpack/blob/master/spec.md,
https://flatbuffers.dev/internals/#flexbuffers
"""

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import msgpack

from zfuse.errors import InvalidInputError
from zfuse.format.flat_writer import utf8
from zfuse.format.values import MAX_DEPTH, Json

Encoder = Callable[[object], bytes]

_NULL, _INT, _UINT, _FLOAT, _KEY, _STRING = range(6)
_MAP, _VECTOR, _VECTOR_KEY, _BOOL = 9, 10, 14, 26

_UNSIGNED: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}
_FORMATS: Final[Mapping[int, Mapping[int, str]]] = {
    1: {_INT: "b"},
    2: {_INT: "h"},
    4: {_INT: "i", _FLOAT: "f"},
    8: {_INT: "q", _FLOAT: "d"},
}
"""By width and kind, where that is not an unsigned number."""


def encoder_of(spec_version: int) -> Encoder:
    """Return what encodes the values in a file of *spec_version*."""
    return encode_msgpack if spec_version == 1 else encode_flexbuffer


def encode_msgpack(value: object) -> bytes:
    """Return *value* as MessagePack.

    Raises:
        InvalidInputError: it holds something that JSON has not, or is nested too deep.
    """
    packed: bytes = msgpack.packb(to_json(value))
    return packed


def encode_flexbuffer(value: object) -> bytes:
    """Return *value* as a FlexBuffer.

    Raises:
        InvalidInputError: it holds something that JSON has not, is nested too deep, or has
            a NUL in the key of a mapping.
    """
    return _FlexWriter().finish(to_json(value))


def to_json(value: object, depth: int = MAX_DEPTH) -> Json:
    """Return *value* in the plain types of JSON.

    Raises:
        InvalidInputError: it holds something that JSON has not, or is nested too deep.
    """
    if depth == 0:
        raise InvalidInputError(f"a value is nested more than {MAX_DEPTH} deep")
    match value:
        case None | bool():
            return value
        case int():
            return int(value) if -(2**63) <= value < 2**64 else _float(value)
        case float():
            return float(value) if math.isfinite(value) else None
        case str():
            utf8(value)
            return str(value)
        case Mapping():
            return {_key(key): to_json(item, depth - 1) for key, item in value.items()}
        case list() | tuple():
            return [to_json(item, depth - 1) for item in value]
        case _:
            raise InvalidInputError(f"{value!r:.80} is not a value that JSON has")


def _float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise InvalidInputError("a number has more than 300 digits") from None


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise InvalidInputError(f"the key {key!r:.80} of a mapping is not a string")
    utf8(key)
    return str(key)


class _Item(NamedTuple):
    """A value as a vector holds it: a number, or the position of something written before."""

    kind: int
    number: int | float
    is_position: bool = False
    width: int = 1
    """How wide a number must be at least; of what a position leads to, the width there."""


class _FlexWriter:
    """Writes one FlexBuffer, from its start; offsets lead backwards."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._keys: dict[str, int] = {}

    def finish(self, value: Json) -> bytes:
        """Return the FlexBuffer of *value*."""
        item = self._add(value)
        width = self._put([item])
        self._data += bytes([_packed_type(item, width), width])
        return bytes(self._data)

    def _add(self, value: Json) -> _Item:
        match value:
            case None | bool() | int() | float():
                return _number(value)
            case str():
                return self._string(value)
            case list():
                return self._vector(_VECTOR, [self._add(item) for item in value])
            case dict():
                return self._map(value)

    def _string(self, text: str) -> _Item:
        data = utf8(text)
        width = self._put([_integer(len(data))])
        position = len(self._data)
        self._data += data + b"\0"
        return _Item(_STRING, position, is_position=True, width=width)

    def _map(self, value: Mapping[str, Json]) -> _Item:
        names = sorted(value, key=utf8)
        items = [self._add(value[name]) for name in names]
        keys = self._vector(_VECTOR_KEY, [self._key(name) for name in names])
        return self._vector(_MAP, items, keys, _integer(keys.width))

    def _key(self, name: str) -> _Item:
        if "\0" in name:
            raise InvalidInputError(f"the key {name[:80]!r} of a mapping has a NUL in it")
        if name not in self._keys:
            self._keys[name] = len(self._data)
            self._data += utf8(name) + b"\0"
        return _Item(_KEY, self._keys[name], is_position=True)

    def _vector(self, kind: int, items: Sequence[_Item], *head: _Item) -> _Item:
        """Write a vector of *items*, behind its length and the *head*."""
        width = self._put([*head, _integer(len(items)), *items])
        position = len(self._data) - len(items) * width
        if kind != _VECTOR_KEY:
            self._data += bytes([_packed_type(item, width) for item in items])
        return _Item(kind, position, is_position=True, width=width)

    def _put(self, items: Sequence[_Item]) -> int:
        """Write *items* one after the other; return how many bytes each takes."""
        data = self._data
        positions = [item.number for item in items if item.is_position]
        lowest = int(min(positions, default=len(data)))
        width = max([item.width for item in items if not item.is_position], default=1)
        # What it takes for the longest offset, from the last of the items at the most.
        while len(data) + (len(items) + 1) * width - lowest >= 1 << 8 * width:
            width *= 2
        data += bytes(-len(data) % width)
        slots = range(len(data), len(data) + len(items) * width, width)
        numbers = [
            slot - item.number if item.is_position else item.number
            for slot, item in zip(slots, items, strict=True)
        ]
        codes = [_FORMATS[width].get(item.kind, _UNSIGNED[width]) for item in items]
        data += struct.pack("<" + "".join(codes), *numbers)
        return width


def _number(value: float | None) -> _Item:
    match value:
        case None:
            return _Item(_NULL, 0)
        case bool():
            return _Item(_BOOL, int(value))
        case int():
            return _integer(value)
        case float():
            return _Item(_FLOAT, value, width=_float_width(value))


def _integer(value: int) -> _Item:
    bits = value.bit_length() if value >= 0 else (~value).bit_length() + 1
    width = 1 if bits <= 8 else 2 if bits <= 16 else 4 if bits <= 32 else 8
    return _Item(_INT if value < 0 else _UINT, value, width=width)


def _float_width(value: float) -> int:
    try:
        return 4 if struct.unpack("<f", struct.pack("<f", value))[0] == value else 8
    except OverflowError:
        return 8


def _packed_type(item: _Item, width: int) -> int:
    """Return the type of *item* with the width that counts: its target's, or its own."""
    return item.kind << 2 | (item.width if item.is_position else width).bit_length() - 1
