"""A FileSystem without a kernel, and what stands in for the kernel's requests."""

import errno
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.compat.oracle import METADATA, Content, Refused, Tree
from tests.counting import CountingStorage
from zfuse.cache.budget import MemoryBudget
from zfuse.errors import ZfuseError
from zfuse.format.config import StoreConfig
from zfuse.fs.control_directory import ControlDirectory
from zfuse.fs.entry import Attributes, Directory, DirectoryItem, EntryKind, Inode
from zfuse.fs.filesystem import FileSystem
from zfuse.fs.hierarchy import NodeDirectory
from zfuse.fs.inodes import ROOT
from zfuse.fs.names import decode_name, encode_name
from zfuse.fs.refs_directory import RepositoryDirectory
from zfuse.fs.tree import Trees
from zfuse.fs.writable import WritableBranches, sessions_directory
from zfuse.repo.ref import Ref
from zfuse.repo.repository import Repository, fetch_state
from zfuse.repo.virtual import AllowedPrefix, VirtualChunkResolver
from zfuse.storage.base import Storage
from zfuse.storage.local import LocalStorage
from zfuse.storage.open import StorageOpener

READ_SIZE = 128 << 10
"""What the kernel asks for at a time, as a rule."""


@dataclass(frozen=True)
class Containers:
    """Opens the stores of virtual chunks, whatever the container says of them."""

    opener: StorageOpener

    async def open_container(
        self, root: str, store: StoreConfig, credentials: str | None
    ) -> Storage:
        return await self.opener.open(root)


@dataclass
class Driven:
    """A file system in the place of a mounted one, and what it is made of.

    ``references`` counts what a kernel would have to forget. ``branches`` are the sessions
    where it can be written to.
    """

    fs: FileSystem
    repository: Repository
    storage: CountingStorage
    trees: Trees
    nursery: trio.Nursery
    references: Counter[Inode] = field(default_factory=Counter)
    branches: WritableBranches | None = None

    async def lookup(self, parent: Inode, name: str) -> Attributes:
        """Look one name up."""
        attributes = await self.fs.lookup(parent, name)
        self.references[attributes.inode] += 1
        return attributes

    async def find(self, path: str, start: Inode = ROOT) -> Attributes:
        """Look *path* (shown names) up name by name."""
        attributes = await self.fs.getattr(start)
        for name in path.split("/"):
            attributes = await self.lookup(attributes.inode, name)
        return attributes

    def forget_all(self) -> None:
        """Give all references back, as the kernel does under memory pressure."""
        for inode, count in self.references.items():
            self.fs.forget(inode, count)
        self.references.clear()

    async def read(self, inode: Inode, read_size: int = READ_SIZE) -> bytes:
        """Open, read and close a file as a reader of the whole does."""
        opened = await self.fs.open(inode, os.O_RDONLY)
        try:
            pieces: list[bytes] = []
            offset = 0
            while piece := await self.fs.read(opened.handle, offset, read_size):
                pieces.append(piece)
                offset += len(piece)
            content = b"".join(pieces)
            assert len(content) == opened.attributes.size
            assert opened.prepared in {None, content}
            return content
        finally:
            assert self.fs.release(opened.handle) == inode

    async def read_path(self, path: str, start: Inode = ROOT) -> bytes:
        """Return the bytes of the file at *path*."""
        return await self.read((await self.find(path, start)).inode)

    async def list(self, inode: Inode, at_once: int = 25) -> list[DirectoryItem]:
        """List a directory as readdirplus does, *at_once* entries a request; remember them."""
        handle = await self.fs.opendir(inode)
        found: list[DirectoryItem] = []
        position = 0
        try:
            while True:
                items, current = await self.fs.readdir(handle, position)
                if not items:
                    return found
                assert current
                for item in items[:at_once]:
                    position += 1
                    if item.name:
                        self.fs.remember(item.attributes.inode)
                        self.references[item.attributes.inode] += 1
                        found.append(item)
        finally:
            self.fs.releasedir(handle)


@asynccontextmanager
async def driving(
    directory: str | Path,
    *,
    ref: Ref | None = None,
    allow: Sequence[str] = (),
    memory: int = 64 << 20,
    journal: Path | None = None,
) -> AsyncIterator[Driven]:
    """Assemble a file system over the repository in *directory*, as the daemon does.

    With *journal*, a directory for the sessions, its branches can be written to; they are
    let go of at the end, as by an unmount that keeps the changes.
    """
    async with StorageOpener() as opener, trio.open_nursery() as nursery:
        storage = CountingStorage(LocalStorage(Path(directory)))
        state = await fetch_state(storage)
        allowed = [AllowedPrefix.parse(prefix) for prefix in allow]
        containers = state.config.virtual_chunk_containers
        virtual = VirtualChunkResolver(containers, allowed, Containers(opener))
        repository = await Repository.open(
            storage, budget=MemoryBudget(memory), virtual=virtual, state=state
        )
        trees = Trees(repository)
        branches = None
        if journal is not None:
            branches = WritableBranches(trees, sessions_directory(journal, repository), nursery)
        root = await _root(trees, ref, nursery, branches)
        control = ControlDirectory({}, "/nowhere", 0)
        fs = FileSystem(root, control, trees, nursery, branches)
        yield Driven(fs, repository, storage, trees, nursery, branches=branches)
        nursery.cancel_scope.cancel()
    if branches is not None:
        branches.close()


async def _root(
    trees: Trees, ref: Ref | None, nursery: trio.Nursery, branches: WritableBranches | None
) -> Directory:
    if ref is None:
        if branches is not None:
            await branches.recover_all()
        return RepositoryDirectory(trees, nursery, branches)
    if branches is not None:
        session = await branches.get(ref.name, is_mount_root=True)
        assert session.root is not None
        return session.root
    return NodeDirectory(await trees.get(ref, is_mount_root=True), "/", nursery)


async def content_of(driven: Driven, inode: Inode) -> Content:
    """Return what reading gives: bytes, or the errno that FUSE would answer."""
    try:
        return await driven.read(inode)
    except ZfuseError as exc:
        return Refused(exc.errno, str(exc))


async def listed_tree(driven: Driven, root: Inode, names: Iterable[str] = ()) -> Tree:
    """Return all below *root* as listings tell it, every entry compared with its look-up."""
    tree = Tree(directories={""})
    known = list({segment for name in names for segment in name.split("/")})
    pending: list[tuple[Inode, str | None]] = [(root, None)]
    while pending:
        directory, key = pending.pop()
        items = await driven.list(directory)
        shown = [item.name for item in items]
        assert len(shown) == len(set(shown)), f"names come twice in {key}: {sorted(shown)}"
        for item in items:
            found = await driven.lookup(directory, item.name)
            assert found == item.attributes
            assert await driven.fs.getattr(found.inode) == found
            is_directory = found.kind is EntryKind.DIRECTORY
            child = _child(key, item.name, known, is_directory=is_directory)
            if is_directory:
                tree.directories.add(child)
                pending.append((found.inode, child))
            else:
                content = await content_of(driven, found.inode)
                assert isinstance(content, Refused) or len(content) == found.size
                tree.files[child] = content
    return tree


def _child(key: str | None, shown: str, known: list[str], *, is_directory: bool) -> str:
    name: str | None = shown
    if is_directory or shown != METADATA:
        name = decode_name(shown, known)
    assert name is not None, f"{shown!r} is listed but its name means nothing"
    return name if key is None else f"{key}/{name}"


async def looked_up_tree(driven: Driven, root: Inode, expected: Tree) -> Tree:
    """Return what is found of *expected* by looking its names up, nothing else being known."""
    tree = Tree(directories={""})
    for key in sorted({*expected.files, *expected.directories, *expected.hidden} - {""}):
        is_file = key not in expected.directories
        attributes = await _look_up(driven, root, shown_path(key, is_file=is_file))
        if attributes is None:
            continue
        if attributes.kind is EntryKind.DIRECTORY:
            tree.directories.add(key)
        else:
            tree.files[key] = await content_of(driven, attributes.inode)
    return tree


async def _look_up(driven: Driven, root: Inode, path: Iterable[str]) -> Attributes | None:
    attributes = await driven.fs.getattr(root)
    for name in path:
        if attributes.kind is not EntryKind.DIRECTORY:
            return None  # ENOTDIR, which the kernel answers by itself
        try:
            attributes = await driven.lookup(attributes.inode, name)
        except ZfuseError as exc:
            if exc.errno != errno.ENOENT:
                raise
            return None
    return attributes


def shown_path(key: str, *, is_file: bool) -> Iterator[str]:
    """Yield the shown names of the segments of *key*."""
    *above, last = key.split("/")
    yield from map(encode_name, above)
    yield last if is_file and last == METADATA else encode_name(last)
