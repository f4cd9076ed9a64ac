"""Object ids: random bytes inside files, Crockford base 32 in file names.

Specification: spec-v2, "Common Types" (ObjectId12, ObjectId8).
"""

from typing import ClassVar, Self

from zfuse.errors import InvalidInputError

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {c: n for n, c in enumerate(_ALPHABET)} | {c.lower(): n for n, c in enumerate(_ALPHABET)}
_VALUES |= {"o": 0, "O": 0, "i": 1, "I": 1, "l": 1, "L": 1}


class ObjectId(bytes):
    """A fixed number of bytes that name one object; ``str()`` gives its text form."""

    __slots__ = ()
    SIZE: ClassVar[int] = 12

    def __new__(cls, data: bytes) -> Self:
        """Wrap *data*, which must be of the right length."""
        if len(data) != cls.SIZE:
            raise InvalidInputError(f"{cls.__name__} takes {cls.SIZE} bytes, not {len(data)}")
        return super().__new__(cls, data)

    def __str__(self) -> str:
        bits = len(self) * 8
        digits = -(-bits // 5)
        number = int.from_bytes(self) << (digits * 5 - bits)
        return "".join(_ALPHABET[number >> (5 * n) & 31] for n in reversed(range(digits)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the id that *text* spells, as leniently as the official library reads it.

        Lower case counts, O is 0, I and L are 1, and padding bits are dropped, so several
        texts name one id: compare ids, not texts.

        Raises:
            InvalidInputError: *text* is too long or too short, or has other characters.
        """
        bits = cls.SIZE * 8
        digits = -(-bits // 5)
        if len(text) != digits or any(c not in _VALUES for c in text):
            raise InvalidInputError(f"{text!r} is not an id of {digits} base 32 digits")
        number = 0
        for c in text:
            number = number << 5 | _VALUES[c]
        return cls((number >> (digits * 5 - bits)).to_bytes(cls.SIZE))


class SnapshotId(ObjectId):
    """Names a snapshot file and its transaction log."""

    __slots__ = ()


class ManifestId(ObjectId):
    """Names a manifest file."""

    __slots__ = ()


class ChunkId(ObjectId):
    """Names a chunk file."""

    __slots__ = ()


class NodeId(ObjectId):
    """Names a group or array for its whole life, moves included."""

    __slots__ = ()
    SIZE = 8


INITIAL_SNAPSHOT = SnapshotId(bytes.fromhex("0b1cc8d6787580f0e33a6534"))
"""The empty snapshot that every repository starts with."""
