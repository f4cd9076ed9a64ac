"""Half-open byte ranges, and how to ask for many of them in few requests."""

from collections.abc import Iterable
from dataclasses import dataclass

from zfuse.errors import InvalidInputError


@dataclass(frozen=True, slots=True, order=True)
class ByteRange:
    """The bytes from *start* up to, not including, *stop*."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop:
            raise InvalidInputError(f"bad byte range {self.start}..{self.stop}")

    def __len__(self) -> int:
        return self.stop - self.start

    def within(self, offset: int, size: int) -> "ByteRange":
        """Return this range of an object that lies at *offset* in a larger one."""
        return ByteRange(offset + min(self.start, size), offset + min(self.stop, size))


def coalesce(ranges: Iterable[ByteRange], *, gap: int = 0) -> list[ByteRange]:
    """Return the fewest ranges that cover *ranges*, bridging holes of up to *gap* bytes.

    The result is sorted and its ranges lie more than *gap* bytes apart; empty ranges vanish.
    """
    merged: list[ByteRange] = []
    for piece in sorted(r for r in ranges if len(r)):
        if merged and piece.start - merged[-1].stop <= gap:
            last = merged.pop()
            merged.append(ByteRange(last.start, max(last.stop, piece.stop)))
        else:
            merged.append(piece)
    return merged
