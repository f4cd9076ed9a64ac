"""Reads that failed just now.

Linux reads ahead, and where that fails it asks once more for the page that somebody waits
for. The same answer at once is what that somebody would get anyway, one deadline and one log
line later.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from zfuse.byterange import ByteRange
from zfuse.fs.filesystem import Handle

REMEMBERED_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Failure:
    byte_range: ByteRange
    errno: int
    until: float


class RecentFailures:
    """Remembers for a moment which parts of open files could not be read; *now* in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._failures: dict[Handle, list[_Failure]] = {}

    def note(self, handle: Handle, byte_range: ByteRange, errno: int) -> None:
        """Remember that reading *byte_range* failed."""
        now = self._now()
        recent = [f for f in self._failures.get(handle, ()) if now < f.until]
        recent.append(_Failure(byte_range, errno, now + REMEMBERED_S))
        self._failures[handle] = recent

    def find(self, handle: Handle, offset: int) -> int | None:
        """Return the errno with which reading at *offset* failed just now, None if it did not."""
        for failure in self._failures.get(handle, ()):
            inside = failure.byte_range.start <= offset < failure.byte_range.stop
            if inside and self._now() < failure.until:
                return failure.errno
        return None

    def forget(self, handle: Handle) -> None:
        """Drop what is known of a file that was closed."""
        self._failures.pop(handle, None)
