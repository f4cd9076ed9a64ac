"""What a directory can hold, in the file system's own terms.

Every entry describes itself: a directory looks names up and lists them, a file tells its
size and opens. ``inodes`` numbers them; ``filesystem`` keeps what is open.
"""

import enum
import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NewType

from zfuse.errors import ReadOnlyError

Inode = NewType("Inode", int)


class EntryKind(enum.Enum):
    """What stat(2) says an entry is."""

    DIRECTORY = enum.auto()
    FILE = enum.auto()
    LINK = enum.auto()


class Caching(enum.Enum):
    """How long the kernel may keep what it was told of an entry."""

    FOREVER = enum.auto()
    """Nothing about it changes; a branch's names are invalidated one by one when it moves."""
    BRIEFLY = enum.auto()
    """Its times may change; what it is does not."""
    NEVER = enum.auto()


@dataclass(slots=True)
class Attributes:
    """What stat(2) shows of an entry; ``size`` in bytes.

    ``mode`` are the permission bits, None for those of what can not be written.
    """

    inode: Inode
    kind: EntryKind
    size: int
    mtime_ns: int
    caching: Caching
    mode: int | None = None
    links: int = 1


@dataclass(slots=True)
class DirectoryItem:
    """A line of a listing."""

    name: str
    attributes: Attributes


class InodeGroup(ABC):
    """Entries that are numbered by arithmetic instead of one by one.

    Equal groups get equal numbers: equality must mean that equal indices have equal
    content for ever.
    """

    @abstractmethod
    def entry_at(self, index: int) -> "Entry":
        """Return the entry with that *index*, below 2**40."""


class Entry(ABC):
    """Something that has an inode; hashable, equal where it is the same thing."""

    @property
    @abstractmethod
    def kind(self) -> EntryKind:
        """Directory, file or link."""

    @property
    def place(self) -> tuple[InodeGroup, int] | None:
        """The group that numbers this entry, and its index there; None if it stands alone."""
        return None

    @property
    @abstractmethod
    def mtime_ns(self) -> int:
        """When the content came to be, in nanoseconds since 1970."""

    @property
    @abstractmethod
    def caching(self) -> Caching:
        """How long the kernel may keep what it was told."""

    @property
    def mode(self) -> int | None:
        """The permission bits, None for those of what can not be written."""
        return None

    @property
    def links(self) -> int:
        """How many names it has."""
        return 1

    def set_mode(self, mode: int) -> None:
        """Change the permission bits."""
        raise ReadOnlyError(f"{self.describe()} can only be read")

    def set_times(self, mtime_ns: int) -> None:
        """Change the time of change."""
        raise ReadOnlyError(f"{self.describe()} can only be read")

    @abstractmethod
    async def size(self) -> int:
        """Return the size in bytes.

        Raises:
            StaleError: the entry is no longer there.
        """

    def describe(self) -> str:
        """Return the path inside the mount, for log lines."""
        return repr(self)


class Listing(ABC):
    """The names in a directory as they were when it was opened."""

    @abstractmethod
    def __len__(self) -> int:
        """Return how many items there are."""

    @abstractmethod
    async def items(self, start: int, stop: int) -> Sequence[tuple[str, Entry, int]]:
        """Return name, entry and size in bytes of the items from *start* up to *stop*."""


class Directory(Entry):
    """An entry that holds others."""

    @property
    def kind(self) -> EntryKind:
        """A directory."""
        return EntryKind.DIRECTORY

    async def size(self) -> int:
        """Return what directories conventionally show."""
        return 4096

    @abstractmethod
    async def lookup(self, name: str) -> Entry | None:
        """Return the entry called *name*, None if there is none."""

    @abstractmethod
    async def listing(self) -> Listing:
        """Return the entries, without ``.`` and ``..``."""

    # What changes names is refused where nothing can be written.

    async def create(self, name: str, mode: int, *, exclusive: bool) -> "File":
        """Make an empty file, or return the one that is there unless *exclusive*.

        Raises:
            AlreadyExistsError: there is something of that name.
            ReadOnlyError: nothing changes here.
        """
        raise self._read_only()

    async def make_directory(self, name: str, mode: int) -> "Directory":
        """Make an empty directory.

        Raises:
            AlreadyExistsError: there is something of that name.
            ReadOnlyError: nothing changes here.
        """
        raise self._read_only()

    async def remove_file(self, name: str) -> None:
        """Take a name from a file; who has it open keeps it."""
        raise self._read_only()

    async def remove_directory(self, name: str) -> None:
        """Remove an empty directory."""
        raise self._read_only()

    async def rename(self, name: str, target: "Directory", new_name: str, *, replace: bool) -> None:
        """Give what is called *name* another name, maybe in another directory.

        Raises:
            AlreadyExistsError: there is something at the new name, and *replace* is not set.
            CrossTreeError: the other directory is of another ref.
        """
        raise self._read_only()

    async def link(self, entry: "Entry", name: str) -> None:
        """Give a file one more name."""
        raise self._read_only()

    async def sync(self) -> None:
        """Return when the names would survive a loss of power."""

    def _read_only(self) -> ReadOnlyError:
        return ReadOnlyError(f"{self.describe()} can only be read")


class Content(ABC):
    """The bytes of an open file, as they were when it was opened."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Length in bytes."""

    async def prepare(self) -> bytes | None:
        """Get all bytes at once if that serves a reader best, and return them; else None."""
        return None

    def delivered(self) -> None:  # noqa: B027 - most contents hold nothing back
        """Take note that the kernel has all bytes now, and keeps them itself."""

    @abstractmethod
    async def read(self, offset: int, size: int) -> bytes:
        """Return up to *size* bytes at *offset*, fewer only at the end of the file."""

    async def write(self, offset: int, data: bytes) -> int:
        """Put *data* at *offset* and return its length."""
        raise ReadOnlyError("it can only be read")

    async def truncate(self, size: int) -> None:
        """Cut the file at *size* bytes, or fill it up with zeros."""
        raise ReadOnlyError("it can only be read")

    def flush(self) -> None:  # noqa: B027 - there is nothing to do for most
        """Take note that somebody closed the file."""

    async def sync(self) -> None:  # noqa: B027
        """Return when what was written would survive a loss of power."""

    def close(self) -> None:  # noqa: B027
        """Let go of the file."""


class File(Entry):
    """An entry with bytes."""

    @property
    def kind(self) -> EntryKind:
        """A regular file."""
        return EntryKind.FILE

    @abstractmethod
    async def open(self) -> Content:
        """Return the content.

        Raises:
            StaleError: the file is no longer there.
        """

    async def truncate(self, size: int) -> None:
        """Cut the file at *size* bytes, or fill it up with zeros."""
        raise ReadOnlyError(f"{self.describe()} can only be read")

    @property
    def is_writable(self) -> bool:
        """Whether it can be opened for writing."""
        return False

    async def attribute(self, name: str) -> bytes | None:
        """Return the extended attribute ``user.zfuse.NAME``, None if there is none."""
        return None


class Link(Entry):
    """A symbolic link."""

    @property
    def kind(self) -> EntryKind:
        """A symbolic link."""
        return EntryKind.LINK

    @property
    @abstractmethod
    def target(self) -> str:
        """Where it leads."""

    async def size(self) -> int:
        """Return the length of the target."""
        return len(self.target.encode())


class FixedListing(Listing):
    """A listing whose entries are all known."""

    def __init__(self, items: Sequence[tuple[str, Entry]]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    async def items(self, start: int, stop: int) -> Sequence[tuple[str, Entry, int]]:
        """Return a piece of the listing."""
        return [(name, entry, await entry.size()) for name, entry in self._items[start:stop]]


class ChainedListing(Listing):
    """Several listings one behind the other."""

    def __init__(self, parts: Sequence[Listing]) -> None:
        self._parts = parts
        self._starts = [0, *itertools.accumulate(len(part) for part in parts)]

    def __len__(self) -> int:
        return self._starts[-1]

    async def items(self, start: int, stop: int) -> Sequence[tuple[str, Entry, int]]:
        """Return a piece of the listing; it ends early where a part does."""
        for number, part in enumerate(self._parts):
            first, end = self._starts[number], self._starts[number + 1]
            if start < end:
                return await part.items(start - first, min(stop, end) - first)
        return []


class BytesContent(Content):
    """Content that is in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self._data)

    async def prepare(self) -> bytes | None:
        """Return all bytes."""
        return self._data

    async def read(self, offset: int, size: int) -> bytes:
        """Return a piece."""
        return self._data[offset : offset + size]
