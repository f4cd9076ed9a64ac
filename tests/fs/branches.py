"""A writable branch without a kernel, and beside it a plain directory that gets the same changes.

What a directory is to show, and what a commit is to hold, is then what the plain one has: the
names in it are read as those of chunks by the oracle's rules, not by zfuse's.
"""

import os
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import icechunk

from tests.compat.oracle import Tree, differences, expected_tree, official_keys
from tests.compat.place import Ref
from tests.fs.driving import Driven, driving
from zfuse.fs.branch_session import BranchSession
from zfuse.fs.entry import Directory, Entry, EntryKind, File
from zfuse.fs.plan_changes import Plan
from zfuse.fs.plan_summary import summary
from zfuse.fs.sync_request import SyncOutcome, SyncRequest
from zfuse.fs.writable import WritableBranches, sessions_directory

MAIN = Ref("branch", "main")


@dataclass
class Branch:
    """The branch main of a repository; every change goes to ``shadow``, a directory, as well."""

    driven: Driven
    writable: WritableBranches
    session: BranchSession
    shadow: Path
    place: Path

    # --- changes -------------------------------------------------------------------------------

    async def write(self, path: str, data: bytes) -> None:
        """Make a file, or give it other bytes; directories are made on the way."""
        above = await self.make(path.rpartition("/")[0])
        file = await above.create(path.rpartition("/")[2], 0o644, exclusive=False)
        content = await file.open()
        await content.truncate(0)
        await content.write(0, data)
        content.close()
        self._beside(path).parent.mkdir(parents=True, exist_ok=True)
        self._beside(path).write_bytes(data)

    async def write_all(self, files: dict[str, bytes]) -> None:
        """Write several files."""
        for path, data in files.items():
            await self.write(path, data)

    async def make(self, path: str) -> Directory:
        """Return a directory, made if there is none."""
        place: Directory = await self.root()
        for name in [name for name in path.split("/") if name]:
            below = await place.lookup(name) or await place.make_directory(name, 0o755)
            assert isinstance(below, Directory), f"{path} leads through a file"
            place = below
        self._beside(path).mkdir(parents=True, exist_ok=True)
        return place

    async def unlink(self, path: str) -> None:
        """Remove a file."""
        above, name = await self._above(path)
        await above.remove_file(name)
        self._beside(path).unlink()

    async def remove(self, path: str) -> None:
        """Remove a directory with all in it, as ``rm -r`` does."""
        above, name = await self._above(path)
        found = await above.lookup(name)
        assert isinstance(found, Directory)
        await self._empty(found)
        await above.remove_directory(name)
        shutil.rmtree(self._beside(path))

    async def clear(self) -> None:
        """Remove all that the branch holds."""
        await self._empty(await self.root())
        shutil.rmtree(self.shadow)
        self.shadow.mkdir()

    async def move(self, source: str, target: str) -> None:
        """Rename a file or directory."""
        above, name = await self._above(source)
        to, new_name = await self._above(target)
        await above.rename(name, to, new_name, replace=True)
        self._beside(source).rename(self._beside(target))

    async def copy(self, source: str, target: str) -> None:
        """Copy a directory or file by reference."""
        await self.session.copy(tuple(source.split("/")), tuple(target.split("/")))
        if self._beside(source).is_dir():
            shutil.copytree(self._beside(source), self._beside(target))
        else:
            shutil.copyfile(self._beside(source), self._beside(target))

    async def link(self, source: str, target: str) -> None:
        """Give a file one more name."""
        above, name = await self._above(target)
        await above.link(await self.find(source), name)
        os.link(self._beside(source), self._beside(target))

    # --- looking -------------------------------------------------------------------------------

    async def root(self) -> Directory:
        """Return the root of the branch."""
        assert self.session.root is not None
        return self.session.root

    async def find(self, path: str) -> Entry:
        """Return the entry at *path*."""
        place: Entry = await self.root()
        for name in [name for name in path.split("/") if name]:
            assert isinstance(place, Directory)
            found = await place.lookup(name)
            assert found is not None, f"there is no {path}"
            place = found
        return place

    async def read(self, path: str) -> bytes:
        """Return the bytes of a file."""
        found = await self.find(path)
        assert isinstance(found, File)
        return await _bytes(found)

    async def tree(self) -> Tree:
        """Return all that the branch shows."""
        tree = Tree(directories={""})
        pending: list[tuple[str, Directory]] = [("", await self.root())]
        while pending:
            path, directory = pending.pop()
            for name, entry, size in await _items(directory):
                key = f"{path}/{name}".lstrip("/")
                if entry.kind is EntryKind.DIRECTORY:
                    assert isinstance(entry, Directory)
                    tree.directories.add(key)
                    pending.append((key, entry))
                else:
                    assert isinstance(entry, File)
                    tree.files[key] = await _bytes(entry)
                    assert len(tree.files[key]) == size
        return tree

    async def assert_shows_the_same(self) -> None:
        """Fail unless the branch shows what the plain directory has."""
        lines = differences(Tree(dict(self.files())), Tree((await self.tree()).files))
        assert not lines, "the branch shows otherwise:\n" + "\n".join(lines[:20])

    def files(self) -> dict[str, bytes]:
        """Return the files of the plain directory."""
        return {
            str(path.relative_to(self.shadow)): path.read_bytes()
            for path in self.shadow.rglob("*")
            if path.is_file()
        }

    async def plan(self) -> Plan:
        """Return what a commit would do."""
        return await self.session.plan()

    async def told(self) -> dict[str, object]:
        """Return what status tells: what is not empty of it."""
        told = summary(await self.plan(), await self.session.tree.view())
        return {kind: found for kind, found in told.items() if found}

    # --- committing ----------------------------------------------------------------------------

    async def sync(self, message: str = "sync", **options: object) -> SyncOutcome:
        """Commit, and forget in the plain directory what a snapshot can not hold."""
        return await self.session.sync(SyncRequest(message, **options))  # type: ignore[arg-type]

    def official(self) -> icechunk.Repository:
        """Open the repository with the official library."""
        return icechunk.Repository.open(icechunk.local_filesystem_storage(str(self.place)))

    def assert_committed(self, without: Iterable[str] = ()) -> None:
        """Fail unless the official library has what the plain directory has, less *without*."""
        left = set(without)
        expected = {path: data for path, data in self.files().items() if path not in left}
        found = expected_tree(official_keys(self.official(), MAIN)).files
        lines = differences(Tree(dict(expected)), Tree(found))
        assert not lines, "the official library has otherwise:\n" + "\n".join(lines[:20])

    async def assert_syncs(self, untracked: Iterable[str] = ()) -> SyncOutcome:
        """Commit; fail unless all but *untracked* is in, and all shows as before."""
        before = self.official().lookup_branch("main")
        outcome = await self.sync()
        assert outcome.snapshot_id is not None
        assert outcome.snapshot_id != before
        told = outcome.summary["untracked"]
        assert told == sorted(f"/{path}" for path in untracked), f"untracked: {told}"
        self.assert_committed(untracked)
        await self.assert_shows_the_same()
        return outcome

    async def assert_sync_does_nothing(self) -> None:
        """Fail unless there is nothing to commit."""
        before = self.official().lookup_branch("main")
        assert (await self.sync()).snapshot_id is None
        assert self.official().lookup_branch("main") == before
        await self.assert_shows_the_same()

    def _beside(self, path: str) -> Path:
        return self.shadow / path

    async def _above(self, path: str) -> tuple[Directory, str]:
        above, _, name = path.rpartition("/")
        found = await self.find(above)
        assert isinstance(found, Directory)
        return found, name

    async def _empty(self, directory: Directory) -> None:
        for name, entry, _ in await _items(directory):
            if isinstance(entry, Directory):
                await self._empty(entry)
                await directory.remove_directory(name)
            else:
                await directory.remove_file(name)


async def _items(directory: Directory) -> list[tuple[str, Entry, int]]:
    listing = await directory.listing()
    found: list[tuple[str, Entry, int]] = []
    position = 0
    while position < len(listing):
        piece = await listing.items(position, len(listing))
        assert piece
        position += len(piece)
        found += [item for item in piece if item[0]]
    return found


async def _bytes(file: File) -> bytes:
    content = await file.open()
    try:
        return await content.read(0, content.size)
    finally:
        content.close()


@asynccontextmanager
async def writing(place: Path, state: Path) -> AsyncIterator[Branch]:
    """Open the branch main of the repository at *place*; sessions are kept below *state*."""
    with ExitStack() as closing:  # when nothing goes on in the background any more
        async with driving(place) as driven:
            directory = sessions_directory(state, driven.repository)
            writable = WritableBranches(driven.trees, directory, driven.nursery)
            closing.callback(writable.close)
            shadow = state / "shadow"
            session = await writable.get("main")
            branch = Branch(driven, writable, session, shadow, place)
            if not shadow.exists():
                _export(await branch.tree(), shadow)
            yield branch


def _export(tree: Tree, target: Path) -> None:
    for path in sorted(tree.directories):
        (target / path).mkdir(parents=True, exist_ok=True)
    for path, data in tree.files.items():
        assert isinstance(data, bytes)
        (target / path).write_bytes(data)
