"""What Linux remembers of a FUSE mount, as a model: names for ever, pages as long as inodes."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.compat.oracle import Content, Refused
from tests.fs.driving import READ_SIZE, Driven
from zfuse.errors import NotFoundError, StaleError, ZfuseError
from zfuse.fs.entry import Attributes, EntryKind, Inode


@dataclass
class Kernel:
    """Walks and reads a file system through a cache that only the file system can clear.

    ``pinned`` are inodes that somebody uses: with them, and with what leads to them, a name
    that is taken away does not lose what is known below it.
    """

    driven: Driven
    root: Attributes
    names: dict[Inode, dict[str, Inode]] = field(default_factory=dict)
    attributes: dict[Inode, Attributes] = field(default_factory=dict)
    lookups: Counter[Inode] = field(default_factory=Counter)
    pages: dict[Inode, bytes] = field(default_factory=dict)
    pinned: set[Inode] = field(default_factory=set)

    async def find(self, path: Iterable[str], *, anew: bool = False) -> Attributes:
        """Walk *path*, from the cache where it has the name, unless *anew*."""
        found = self.root
        for name in path:
            if found.kind is not EntryKind.DIRECTORY:
                raise NotADirectoryError(name)
            known = None if anew else self.names.get(found.inode, {}).get(name)
            if known is None:
                found = await self._look_up(found.inode, name)
            else:
                found = self.attributes[known]
        return found

    async def _look_up(self, parent: Inode, name: str) -> Attributes:
        try:
            found = await self.driven.fs.lookup(parent, name)
        except NotFoundError:
            self._let_go(parent, name)
            raise
        self.lookups[found.inode] += 1
        self._learn(parent, name, found)
        return found

    def _learn(self, parent: Inode, name: str, found: Attributes) -> None:
        if self.names.get(parent, {}).get(name, found.inode) != found.inode:
            self._let_go(parent, name)
        self.names.setdefault(parent, {})[name] = found.inode
        known = self.attributes.get(found.inode)
        if known is not None and known.kind is EntryKind.FILE:
            # The kernel would go on with pages, and a size, that it has.
            assert (known.size, known.mtime_ns) == (found.size, found.mtime_ns)
        self.attributes[found.inode] = found

    async def walk(self, path: Iterable[str]) -> Attributes:
        """Walk *path* as open(2) and stat(2) do: once more with new eyes after ESTALE."""
        try:
            return await self.find(path)
        except StaleError:
            return await self.find(path, anew=True)

    async def read(self, path: Iterable[str]) -> Content:
        """Return the bytes that read(2) gives, or the errno."""
        path = list(path)
        try:
            try:
                return await self._read((await self.find(path)).inode)
            except StaleError:
                return await self._read((await self.find(path, anew=True)).inode)
        except ZfuseError as exc:
            return Refused(exc.errno, str(exc))

    async def _read(self, inode: Inode) -> bytes:
        opened = await self.driven.fs.open(inode, os.O_RDONLY)
        try:
            size = self.attributes[inode].size
            if inode not in self.pages:
                pieces = [
                    await self.driven.fs.read(opened.handle, offset, READ_SIZE)
                    for offset in range(0, size, READ_SIZE)
                ]
                self.pages[inode] = b"".join(pieces)[:size]
            return self.pages[inode]
        finally:
            self.driven.fs.release(opened.handle)

    async def list(self, path: Iterable[str]) -> dict[str, Attributes]:
        """List a directory, and learn what the listing tells."""
        directory = await self.walk(path)
        found = {}
        for item in await self.driven.list(directory.inode):
            self.lookups[item.attributes.inode] += 1
            self._learn(directory.inode, item.name, item.attributes)
            found[item.name] = item.attributes
        self.driven.references.clear()  # they are counted here
        return found

    def invalidate(self, stale: Iterable[tuple[Inode, str]]) -> None:
        """Take names away, as FUSE_NOTIFY_INVAL_ENTRY does."""
        for parent, name in stale:
            self._let_go(parent, name)

    def _let_go(self, parent: Inode, name: str) -> None:
        inode = self.names.get(parent, {}).pop(name, None)
        if inode is not None:
            self._shrink(inode)
            self._forget(inode)

    def _shrink(self, inode: Inode) -> bool:
        """Drop what nobody uses below *inode*, and tell whether somebody uses something."""
        for name, child in list(self.names.get(inode, {}).items()):
            if not self._shrink(child):
                del self.names[inode][name]
                self._forget(child)
        return inode in self.pinned or bool(self.names.get(inode))

    def _forget(self, inode: Inode) -> None:
        used = inode in self.pinned or self.names.get(inode)
        named = any(inode in children.values() for children in self.names.values())
        if not used and not named and (count := self.lookups.pop(inode, 0)):
            self.names.pop(inode, None)
            self.attributes.pop(inode)
            self.pages.pop(inode, None)
            self.driven.fs.forget(inode, count)

    def release(self, inode: Inode) -> None:
        """Stop using an inode."""
        self.pinned.discard(inode)
        if not any(inode in children.values() for children in self.names.values()):
            self._shrink(inode)
            self._forget(inode)

    def drop_caches(self) -> None:
        """Forget all that nobody uses, as under memory pressure."""
        for name in list(self.names.get(self.root.inode, {})):
            self._let_go(self.root.inode, name)
