"""A writable branch beside a plain model of it: what is done to one is done to the other.

The model is what POSIX says: names, bytes, directories. For taking changes back it also knows
where each directory has its base from, as that decides what shows again.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path as DiskPath

import pytest

from tests.fs.driving import Driven, driving
from zfuse.errors import ZfuseError
from zfuse.fs.branch_session import BranchSession
from zfuse.fs.entry import Attributes, EntryKind, Inode
from zfuse.fs.filesystem import Handle
from zfuse.fs.session_edits import StaleNames

Path = tuple[str, ...]


@dataclass(eq=False)
class ModelFile:
    """Bytes that any number of names and open files share.

    Those that are not its ``own`` the session has by nothing but the place of their directory.
    """

    data: bytearray = field(default_factory=bytearray)
    own: bool = True

    def write(self, offset: int, data: bytes) -> None:
        if offset > len(self.data):
            self.data.extend(bytes(offset - len(self.data)))
        self.data[offset : offset + len(data)] = data

    def truncate(self, size: int) -> None:
        del self.data[size:]
        self.data.extend(bytes(size - len(self.data)))


@dataclass
class Model:
    """A tree: files by path, and directories with the path in the base that shows in each."""

    files: dict[Path, ModelFile] = field(default_factory=dict)
    directories: dict[Path, Path | None] = field(default_factory=dict)

    def copy(self) -> "Model":
        """Return another tree with the same bytes, nothing shared."""
        files = {p: ModelFile(bytearray(f.data), f.own) for p, f in self.files.items()}
        return Model(files, dict(self.directories))

    def content(self) -> dict[Path, bytes | None]:
        """Return the bytes of each file; None is a directory."""
        return {path: bytes(file.data) for path, file in self.files.items()} | dict.fromkeys(
            self.directories
        )

    def __contains__(self, path: object) -> bool:
        return path in self.files or path in self.directories

    def is_empty(self, path: Path) -> bool:
        return not any(inner[:-1] == path for inner in self.paths() if inner)

    def paths(self) -> Iterator[Path]:
        yield from self.files
        yield from self.directories

    def below(self, path: Path) -> list[Path]:
        """Return *path* and all below, directories before what they hold."""
        return sorted(inner for inner in self.paths() if inner[: len(path)] == path)

    def drop(self, path: Path) -> None:
        """Remove *path* and all below."""
        for inner in self.below(path):
            self.files.pop(inner, None)
            self.directories.pop(inner, None)

    def move(self, source: Path, target: Path) -> None:
        self.drop(target)
        for inner in self.below(source):
            moved = target + inner[len(source) :]
            if inner in self.files:
                self.files[moved] = self.files.pop(inner)
            else:
                self.directories[moved] = self.directories.pop(inner)

    def graft(self, target: Path, other: "Model", source: Path) -> None:
        """Put a copy of what *other* has at *source* at *target*."""
        for inner in other.below(source):
            path = target + inner[len(source) :]
            if inner in other.files:
                file = other.files[inner]
                self.files[path] = ModelFile(bytearray(file.data), file.own)
            else:
                self.directories[path] = other.directories[inner]

    def discard(self, path: Path, base: "Model") -> None:
        """Let *path* be what the base has there, and let go back what had been moved to it."""
        origins = [self.directories.get(inner) for inner in self.below(path)]
        self.drop(path)
        above = self.directories[path[:-1]]
        if above is not None:
            self.graft(path, base, (*above, path[-1]))
        for origin in filter(None, origins):
            parent = origin[:-1]
            if origin not in self and self.directories.get(parent, None) == parent:
                self.graft(origin, base, origin)


@dataclass
class Held:
    """An open file; ``wrote`` tells whether it was changed through it."""

    handle: Handle
    inode: Inode
    file: ModelFile
    wrote: bool = False


class Branch:
    """The branch main of a mount, whose journal is in a directory that changes with crashes.

    ``known`` are the inodes that the kernel has by path, and ``seen`` the bytes it was given by
    inode and time. ``fresh`` are the names that changed since somebody cleared it.
    """

    def __init__(self, repository: str, directory: DiskPath, model: Model) -> None:
        self.repository = repository
        self.directory = directory
        self.model = model
        self.base = model.copy()
        self.held: list[Held] = []
        self.fresh: set[Path] = set()
        self.known: dict[Path, Inode] = {}
        self.seen: dict[tuple[Inode, int], bytes] = {}
        self.driven: Driven
        self._stack = AsyncExitStack()
        self._runs = 0

    @property
    def journal(self) -> DiskPath:
        return self.directory / f"journal{self._runs}"

    async def mount(self) -> None:
        self.known, self.seen = {}, {}
        self.driven = await self._stack.enter_async_context(
            driving(self.repository, journal=self.journal)
        )

    async def unmount(self) -> None:
        """End the mount as the kernel does: open files are closed first."""
        while self.held:
            await self.shut(0)
        await self._stack.aclose()

    async def crash(self) -> None:
        """Leave the journal as a kill leaves it, and mount again."""
        self._runs += 1
        if (before := self.directory / f"journal{self._runs - 1}").exists():
            shutil.copytree(before, self.journal)
        await self.unmount()
        await self.mount()

    async def session(self) -> BranchSession:
        assert self.driven.branches is not None
        return await self.driven.branches.get("main")

    # --- names ---------------------------------------------------------------------------------

    async def find(self, path: Path) -> Attributes:
        """Look *path* up; a name that the kernel knows must lead where it led before."""
        found = await self.driven.find("branch/main")
        for depth, name in enumerate(path, start=1):
            found = await self.driven.lookup(found.inode, name)
            place = path[:depth]
            assert self.known.setdefault(place, found.inode) == found.inode, place
        return found

    async def parent(self, path: Path) -> Inode:
        return (await self.find(path[:-1])).inode

    def stale(self, names: StaleNames) -> None:
        """Take names from the kernel."""
        parents = {inode: path for path, inode in self.known.items()}
        for inode, name in self.driven.fs.numbered(names):
            if inode in parents or inode == self.known.get(()):
                self._unknow((*parents[inode], name))
            else:
                self._unknow((name,))
        self.driven.fs.look_anew()

    def _unknow(self, path: Path) -> None:
        for inner in [inner for inner in self.known if inner[: len(path)] == path]:
            del self.known[inner]

    def forget(self) -> None:
        """Let the kernel forget all that is not open."""
        self.known.clear()
        self.driven.forget_all()

    async def rename(self, source: Path, target: Path, *, replace: bool = True) -> None:
        """Rename what the kernel would let through; anything else does nothing."""
        model = self.model
        is_directory = source in model.directories
        if target[: len(source)] == source or source[: len(target)] == target:
            return
        if target in model and (target in model.directories) is not is_directory:
            return
        fs, above = self.driven.fs, await self.parent(source)
        args = (above, source[-1], await self.parent(target), target[-1])
        if target in model and not replace:
            await refused(errno.EEXIST, fs.rename(*args, replace=False))
        elif target in model.directories and not model.is_empty(target):
            await refused(errno.ENOTEMPTY, fs.rename(*args, replace=True))
        elif source in model.files and model.files[source] is model.files.get(target):
            await fs.rename(*args, replace=True)  # two names of one file: nothing happens
        else:
            await fs.rename(*args, replace=replace)
            model.move(source, target)
            if target in model.files:
                model.files[target].own = True
                self.fresh.add(target)
            self._unknow(target)
            for inner in [inner for inner in self.known if inner[: len(source)] == source]:
                self.known[target + inner[len(source) :]] = self.known.pop(inner)

    async def link(self, source: Path, target: Path) -> None:
        args = ((await self.find(source)).inode, await self.parent(target), target[-1])
        if target in self.model:
            await refused(errno.EEXIST, self.driven.fs.link(*args))
            return
        made = await self.driven.fs.link(*args)
        self.driven.references[made.inode] += 1
        self.known[target] = made.inode
        file = self.model.files[target] = self.model.files[source]
        self.fresh |= {target} if file.own else {source, target}
        file.own = True
        assert made.links == self.links(source)

    async def unlink(self, path: Path) -> None:
        await self.driven.fs.remove_file(await self.parent(path), path[-1])
        del self.model.files[path]
        self._unknow(path)

    async def make_directory(self, path: Path) -> None:
        above = await self.parent(path)
        if path in self.model:
            await refused(errno.EEXIST, self.driven.fs.make_directory(above, path[-1], 0o755))
            return
        made = await self.driven.fs.make_directory(above, path[-1], 0o755)
        self.driven.references[made.inode] += 1
        self.known[path] = made.inode
        self.model.directories[path] = None

    async def remove_directory(self, path: Path) -> None:
        removal = self.driven.fs.remove_directory(await self.parent(path), path[-1])
        if not self.model.is_empty(path):
            await refused(errno.ENOTEMPTY, removal)
            return
        await removal
        self.model.drop(path)
        self._unknow(path)

    async def remove_all(self, path: Path) -> None:
        for inner in reversed(self.model.below(path)):
            if inner in self.model.files:
                await self.unlink(inner)
            elif inner:
                await self.remove_directory(inner)

    # --- bytes ---------------------------------------------------------------------------------

    async def open(self, path: Path, flags: int) -> Held:
        """Open or create a file for reading and writing."""
        fs = self.driven.fs
        if path in self.model.files:
            opened = await fs.open((await self.find(path)).inode, os.O_RDWR | flags)
            if flags & os.O_TRUNC:
                self.model.files[path].truncate(0)
                self.model.files[path].own = True
        else:
            above = await self.parent(path)
            opened = await fs.create(above, path[-1], 0o644, os.O_RDWR | os.O_CREAT | flags)
            self.driven.references[opened.attributes.inode] += 1
            self.known[path] = opened.attributes.inode
            self.model.files[path] = ModelFile()
        inode = opened.attributes.inode
        fs.remember(inode)
        held = Held(opened.handle, inode, self.model.files[path], bool(flags & os.O_TRUNC))
        held.wrote |= not held.file.data
        assert opened.attributes.size == len(held.file.data)
        self.held.append(held)
        return held

    async def write(self, held: Held, offset: int, data: bytes) -> None:
        assert await self.driven.fs.write(held.handle, offset, data) == len(data)
        self._renew(held.file)
        held.file.write(offset, data)
        held.wrote = held.file.own = True

    async def truncate_open(self, held: Held, size: int) -> None:
        await self.driven.fs.truncate(held.inode, held.handle, size)
        self._renew(held.file)
        held.file.truncate(size)
        held.wrote = held.file.own = True

    async def truncate(self, path: Path, size: int) -> None:
        await self.driven.fs.truncate((await self.find(path)).inode, None, size)
        self.model.files[path].truncate(size)
        self._renew(self.model.files[path])
        self.model.files[path].own = True

    def _renew(self, file: ModelFile) -> None:
        self.fresh |= {path for path, other in self.model.files.items() if other is file}

    async def read_open(self, held: Held) -> None:
        """Read what an open file has, and compare."""
        expected = bytes(held.file.data)
        found = await self.driven.fs.getattr(held.inode)
        assert found.size == len(expected)
        assert await self.driven.fs.read(held.handle, 0, len(expected) + 10) == expected
        self._note(found, expected)

    async def flush(self, held: Held) -> None:
        self.driven.fs.flush(held.handle)  # as when somebody who has a copy of it ends

    async def shut(self, index: int) -> None:
        held = self.held.pop(index)
        self.driven.fs.flush(held.handle)
        assert self.driven.fs.release(held.handle) == held.inode
        self.driven.fs.forget(held.inode, 1)

    async def put(self, path: Path, data: bytes, flags: int = os.O_TRUNC) -> None:
        """Write a whole file, or with other *flags* append to it."""
        held = await self.open(path, flags)
        await self.write(held, len(held.file.data), data)
        await self.shut(self.held.index(held))

    def is_held(self, path: Path) -> bool:
        return any(held.file is self.model.files[path] for held in self.held)

    def links(self, path: Path) -> int:
        return list(self.model.files.values()).count(self.model.files[path])

    def is_being_written(self, file: ModelFile) -> bool:
        return any(held.wrote and held.file is file for held in self.held)

    # --- looking -------------------------------------------------------------------------------

    def _note(self, found: Attributes, data: bytes) -> None:
        key = (found.inode, found.mtime_ns)
        assert self.seen.setdefault(key, data) == data, "other bytes under the same inode and time"

    async def content(self) -> dict[Path, bytes | None]:
        """Return the bytes of all files that listings lead to; None is a directory."""
        found: dict[Path, bytes | None] = {(): None}
        pending: list[Path] = [()]
        while pending:
            path = pending.pop()
            directory = await self.find(path)
            names = set()
            for item in await self.driven.list(directory.inode):
                inner = (*path, item.name)
                assert item.name not in names, f"{inner} is listed twice"
                names.add(item.name)
                attributes = await self.find(inner)
                assert attributes == item.attributes, inner
                if attributes.kind is EntryKind.DIRECTORY:
                    pending.append(inner)
                    found[inner] = None
                else:
                    data = found[inner] = await self.driven.read(attributes.inode)
                    self._note(attributes, data)
        return found

    async def check(self) -> None:
        """Compare the whole tree, and what is open."""
        found, expected = await self.content(), self.model.content()
        assert found == expected, _differences(found, expected)
        for held in self.held:
            await self.read_open(held)
        assert self.driven.fs.open_handles == len(self.held)


async def refused(expected: int, request) -> None:
    """Fail unless *request* ends with the errno *expected*."""
    with pytest.raises(ZfuseError) as caught:
        await request
    assert caught.value.errno == expected, caught.value


def _differences(found: dict, expected: dict) -> str:
    lines = [
        f"{'/'.join(path)}: expected {_brief(expected.get(path, '-'))}, "
        f"found {_brief(found.get(path, '-'))}"
        for path in sorted(found.keys() | expected.keys())
        if found.get(path, "-") != expected.get(path, "-")
    ]
    return "\n" + "\n".join(lines)


def _brief(content: bytes | str | None) -> str:
    match content:
        case None:
            return "a directory"
        case bytes():
            return f"{len(content)} B {content[:30]!r}"
        case _:
            return "nothing"
