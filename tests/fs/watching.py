"""Someone who reads a branch while it moves, and believes what the kernel shows."""

import contextlib

from tests.compat.oracle import expected_tree
from tests.fs.driving import shown_path
from tests.fs.kernel import Kernel
from zfuse.errors import NotFoundError, StaleError
from zfuse.fs.entry import EntryKind


class Watcher:
    """Reads a file system through a kernel's eyes, and holds it to what must hold."""

    def __init__(self, history, driven, root, dice):
        self.history = history
        self.driven = driven
        self.kernel = Kernel(driven, root)
        self.dice = dice
        self.seen = {}  # (inode, mtime) -> bytes
        self.files = set()  # keys that were there some time

    async def refresh(self):
        refreshed = await self.driven.fs.refresh()
        assert refreshed.errors == []
        self.kernel.invalidate(refreshed.stale)

    async def check(self):
        expected = expected_tree(self.history.contents[self.history.tip].official)
        names = sorted({*expected.files, *self.files, *expected.directories} - {""})
        self.dice.shuffle(names)
        for name in names:
            await self._check_name(expected, name)
        await self._check_listings(expected)
        await self._check_inodes()
        self.files |= set(expected.files)

    async def _check_name(self, expected, name):
        is_file = name not in expected.directories
        path = list(shown_path(name, is_file=is_file))
        if name not in expected.files:
            await self._check_absent(expected, name, path)
            return
        content = await self.kernel.read(path)
        assert content == expected.files[name], name
        found = await self.kernel.walk(path)
        self._note(found, content)
        if self.history.is_straight:  # else the name may have kept an inode of another line
            self.history.check_time(name, found.mtime_ns)

    async def _check_absent(self, expected, name, path):
        try:
            found = await self.kernel.walk(path)
        except (NotFoundError, NotADirectoryError):
            assert name not in expected.directories
        else:
            assert found.kind is EntryKind.DIRECTORY, f"{name} is still there"
            assert name in expected.directories | expected.optional, f"{name} is still there"

    def _note(self, found, content):
        known = self.seen.setdefault((found.inode, found.mtime_ns), content)
        assert known == content, "one inode and mtime for two contents"
        assert found.size == len(content)

    async def _check_listings(self, expected):
        for directory in sorted(expected.directories):
            path = list(shown_path(directory, is_file=False)) if directory else []
            listed = await self.kernel.list(path)
            below = f"{directory}/" if directory else ""
            wanted = {
                n.removeprefix(below).split("/")[0]
                for n in (expected.directories | expected.files.keys()) - {""}
                if n.startswith(below)
            }
            optional = {n.removeprefix(below) for n in expected.optional if n.startswith(below)}
            assert wanted <= listed.keys() <= wanted | optional, directory

    async def _check_inodes(self):
        """Ask for inodes that the kernel knew before: the same bytes, or word that it is over."""
        for (inode, mtime_ns), content in list(self.seen.items()):
            if inode in self.kernel.attributes:
                with contextlib.suppress(StaleError):
                    found = await self.driven.fs.getattr(inode)
                    assert (found.mtime_ns, found.size) == (mtime_ns, len(content))
                    assert await self.driven.read(inode) == content

    def pin(self):
        """Begin, or cease, to use something."""
        if self.kernel.pinned and self.dice.random() < 0.3:
            self.kernel.release(self.dice.choice(sorted(self.kernel.pinned)))
        if self.kernel.attributes and self.dice.random() < 0.7:
            self.kernel.pinned.add(self.dice.choice(sorted(self.kernel.attributes)))
