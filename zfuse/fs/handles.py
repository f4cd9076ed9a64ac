"""What the file system keeps of each open file and directory."""

from collections.abc import Sequence
from dataclasses import dataclass

from zfuse.fs.entry import Content, DirectoryItem, Inode, Listing


@dataclass(slots=True)
class OpenFile:
    """A file that somebody has open.

    ``left`` counts the bytes that the kernel has not read yet, over all reads.
    """

    inode: Inode
    content: Content
    left: int


@dataclass(slots=True)
class OpenDirectory:
    """A directory that somebody has open, and the items of its listing from ``start`` on."""

    inode: Inode
    listing: Listing
    epoch: int
    start: int = 0
    items: Sequence[DirectoryItem] = ()
    was_read: bool = False
