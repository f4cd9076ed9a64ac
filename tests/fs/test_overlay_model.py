"""Any file operations in any order on a writable branch, against a model of what POSIX says.

After each step that ends a session in some way, and at the end, the branch must show the very
tree of the model. After a commit the official library has all of it that is Zarr, and what it
has not is told as untracked.
"""

import itertools
import os
import shutil
from collections import Counter
from pathlib import Path as DiskPath
from tempfile import TemporaryDirectory

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compat.oracle import METADATA
from tests.fs.overlay_commits import DOCUMENTS, build, committed, nested_files, zarr_files
from tests.fs.overlay_model import Branch, ModelFile, Path
from zfuse.errors import BusyError, NotFoundError
from zfuse.fs.sync_request import InvalidChangesError, SyncRequest

pytestmark = [pytest.mark.compat, pytest.mark.expects_log("is not shown")]

NAMES = ["0", "1", "2", "c", "c.0.1", "1.1", "a", "g", "x.partial", "\udcff", ".zarray"]
NAMES += [METADATA] * 3


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    directory = tmp_path_factory.mktemp("template")
    build(directory)
    return directory / "repository"


class Run(Branch):
    """Does the steps that Hypothesis draws; the numbers in them pick from what there is."""

    def __init__(self, repository, directory, model):
        super().__init__(repository, directory, model)
        self._bytes = itertools.count(1)

    def data(self, size):
        """Return bytes that were never written before."""
        return (b"%d|" % next(self._bytes)).ljust(size, b".")

    def directory_at(self, pick):
        return sorted(self.model.directories)[pick % len(self.model.directories)]

    def file_at(self, pick):
        files = sorted(self.model.files)
        return files[pick % len(files)] if files else None

    def any_at(self, pick):
        paths = sorted(set(self.model.paths()) - {()})
        return paths[pick % len(paths)] if paths else None

    def place(self, pick, name):
        return (*self.directory_at(pick), NAMES[name % len(NAMES)])

    # --- steps ---------------------------------------------------------------------------------

    async def do_put(self, pick, name, size):
        path = self.place(pick, name)
        if path not in self.model.directories:
            await self.put(path, self.data(size))

    async def do_rewrite(self, pick, size):
        path = self.file_at(pick)
        if path is not None:
            await self.put(path, self.data(size))

    async def do_append(self, pick, size):
        path = self.file_at(pick)
        if path is not None:
            await self.put(path, self.data(size), 0)

    async def do_document(self, pick, kind):
        path = (*self.directory_at(pick), METADATA)
        if path not in self.model.directories:
            await self.put(path, DOCUMENTS[kind % len(DOCUMENTS)])

    async def do_atomic(self, pick, size, by_link):
        """Write a file as most libraries do: beside its name, then over it."""
        path = self.file_at(pick)
        if path is None:
            return
        temporary = (*path[:-1], f"{path[-1]}.tmp")
        await self.put(temporary, self.data(size))
        if by_link and not self.is_held(path):
            await self.unlink(path)
            await self.link(temporary, path)
            await self.unlink(temporary)
        else:
            await self.rename(temporary, path)

    async def do_hold(self, pick):
        path = self.file_at(pick)
        if path is not None and len(self.held) < 4 and self.links(path) == 1:
            await self.open(path, 0)

    async def do_create(self, pick, name):
        path = self.place(pick, name)
        if path not in self.model and len(self.held) < 4:
            await self.open(path, os.O_EXCL)

    async def do_write(self, pick, offset, size):
        if self.held:
            await self.write(self.held[pick % len(self.held)], offset, self.data(size))

    async def do_cut(self, pick, size):
        if self.held:
            await self.truncate_open(self.held[pick % len(self.held)], size)

    async def do_look(self, pick):
        if self.held:
            await self.read_open(self.held[pick % len(self.held)])

    async def do_flush(self, pick):
        if self.held:
            await self.flush(self.held[pick % len(self.held)])

    async def do_shut(self, pick):
        if self.held:
            await self.shut(pick % len(self.held))

    async def do_truncate(self, pick, size):
        path = self.file_at(pick)
        if path is not None:
            await self.truncate(path, size)

    async def do_rename(self, source, pick, name, replace):
        path = self.any_at(source)
        if path is not None:
            await self.rename(path, self.place(pick, name), replace=replace)

    async def do_replace(self, source, target):
        paths = self.any_at(source), self.any_at(target)
        if None not in paths:
            await self.rename(*paths)

    async def do_link(self, source, pick, name):
        path = self.file_at(source)
        if path is not None and not self.is_held(path):
            await self.link(path, self.place(pick, name))

    async def do_unlink(self, pick):
        path = self.file_at(pick)
        if path is not None:
            await self.unlink(path)

    async def do_mkdir(self, pick, name):
        await self.make_directory(self.place(pick, name))

    async def do_rmdir(self, pick):
        if path := self.directory_at(pick):
            await self.remove_directory(path)

    async def do_remove_all(self, pick):
        await self.remove_all(self.directory_at(pick))

    async def do_forget(self):
        if not self.held:
            self.forget()

    async def do_discard_all(self):
        while self.held:
            await self.shut(0)
        self.stale(await (await self.session()).discard())
        self.model = self.base.copy()
        await self.check()

    async def do_discard(self, pick):
        path = self.any_at(pick)
        if path is None:
            return
        while self.held:
            await self.shut(0)
        expected = self.model.copy()
        expected.discard(path, self.base)
        try:
            self.stale(await (await self.session()).discard([path]))
        except NotFoundError:
            assert expected.content() == self.model.content()
        else:
            self.model = expected
        await self.check()

    async def do_copy(self, source, pick, name):
        path, target = self.any_at(source), self.place(pick, name)
        if path is None or target in self.model or target[: len(path)] == path:
            return
        files = [file for p, file in self.model.files.items() if p[: len(path)] == path]
        try:
            await (await self.session()).copy(path, target)
        except BusyError:
            assert any(held.file in files for held in self.held)
        else:
            assert not any(map(self.is_being_written, files))
            self.model.graft(target, self.model.copy(), path)
        await self.check()

    async def do_remount(self):
        await self.unmount()
        await self.mount()
        await self.check()

    async def do_crash(self):
        await self.crash()
        await self.check()

    async def do_sync(self, meanwhile):
        """Commit, doing the steps *meanwhile* once all chunks are stored."""
        one_by_one = trio.Lock()
        for _ in range(6):
            before = self.model.copy()
            self.fresh.clear()
            writing = {p for p, f in self.model.files.items() if self.is_being_written(f)}
            left = list(meanwhile)

            async def do_steps(operation, key, left=left):
                if operation == "put" and not key.startswith("chunks/"):
                    async with one_by_one:
                        while left:
                            await self.do(left.pop(0))

            session = await self.session()
            try:
                self.driven.storage.before = do_steps
                outcome = await session.sync(SyncRequest("a commit"))
            except InvalidChangesError as exc:
                self.driven.storage.before = None
                await self.check()
                await self.mend(exc.problems)
                continue
            finally:
                self.driven.storage.before = None
            self.stale(outcome.stale)
            official = committed(self.repository)
            await self.lose_orphans(official)
            await self.check()
            self.check_commit(official, before, writing)
            self.part_links(official, before)
            return

    async def lose_orphans(self, official):
        """Forget what a commit may take from the branch though nobody removed it.

        The chunks of an array that was deleted, and directories that no chunk is in any more.
        """
        model, found = self.model, await self.content()
        for path, file in list(model.files.items()):
            if not file.own and path not in official.files and path not in found:
                model.drop(path)
        from_base = {p[:n] for p, o in model.directories.items() if o for n in range(len(p) + 1)}
        for path in sorted(from_base - found.keys(), reverse=True):
            if model.is_empty(path):
                model.drop(path)

    def part_links(self, official, before):
        """Make each committed name of a file a file of its own."""
        files = self.model.files
        shared, nested = Counter(files.values()), nested_files(before)
        for path, file in list(files.items()):
            data = before.files[path].data if path in before.files else None
            is_taken = path in official.files and path not in self.fresh | nested
            if is_taken and file.data == data == official.files[path].data:
                if shared[file] > 1:
                    shared[file] -= 1
                    files[path] = ModelFile(bytearray(file.data))
                files[path].own = False

    async def mend(self, problems):
        """Take away what can not be committed."""
        for problem in problems:
            path: Path = tuple(filter(None, problem.path.split("/")))
            if path in self.model.files:
                await self.unlink(path)
            elif path in self.model.directories:
                await self.remove_all(path)

    def check_commit(self, official, before, writing):
        nested = nested_files(before)
        for path, file in official.files.items():
            if path not in writing | nested:
                assert path in before.files, f"nobody wrote {path}"
                assert file.data == before.files[path].data, path
        missing = before.files.keys() - official.files.keys() - writing
        assert not missing & zarr_files(before)
        for path in official.directories:
            assert path in before.directories
        self.base = official
        for path in self.model.directories:
            if path in before.directories:
                self.model.directories[path] = path

    async def do(self, step):
        kind, *arguments = step
        await getattr(self, f"do_{kind}")(*arguments)


numbers = st.integers(0, 200)
sizes = st.sampled_from([1, 5, 40, 513, 700])
names = st.integers(0, len(NAMES) - 1)


def step(kind, *arguments):
    return st.tuples(st.just(kind), *arguments)


file_steps = st.one_of(
    step("put", numbers, names, sizes),
    step("rewrite", numbers, sizes),
    step("append", numbers, sizes),
    *[step("document", numbers, st.integers(0, len(DOCUMENTS) - 1))] * 2,
    step("atomic", numbers, sizes, st.booleans()),
    step("hold", numbers),
    step("create", numbers, names),
    *[step("write", numbers, st.integers(0, 900), sizes)] * 2,
    step("cut", numbers, st.integers(0, 900)),
    step("look", numbers),
    step("flush", numbers),
    step("shut", numbers),
    step("truncate", numbers, st.integers(0, 900)),
    *[step("rename", numbers, numbers, names, st.booleans())] * 2,
    *[step("replace", numbers, numbers)] * 2,
    step("link", numbers, numbers, names),
    step("unlink", numbers),
    step("mkdir", numbers, names),
    step("rmdir", numbers),
    step("remove_all", numbers),
    step("forget"),
)
steps = st.one_of(
    *[file_steps] * 6,
    step("discard_all"),
    step("discard", numbers),
    step("copy", numbers, numbers, names),
    step("remount"),
    step("crash"),
    *[step("sync", st.lists(file_steps, max_size=4))] * 3,
)


async def carry_out(run, plan):
    await run.mount()
    try:
        for each in plan:
            await run.do(each)
        await run.check()
        await run.do(("sync", []))
        await run.do(("remount",))
    except BaseException:
        run.held.clear()
        raise
    finally:
        await run.unmount()


def follow(template, plan):
    with TemporaryDirectory() as directory:
        repository = DiskPath(directory) / "repository"
        shutil.copytree(template, repository)
        run = Run(str(repository), DiskPath(directory), committed(repository))
        trio.run(carry_out, run, plan)


@settings(max_examples=60)
@given(plan=st.lists(steps, min_size=1, max_size=20))
def test_a_branch_is_what_was_done_to_it(template, plan):
    follow(template, plan)


@pytest.mark.long
@pytest.mark.timeout(3600)
@settings(max_examples=2000, derandomize=False)
@given(plan=st.lists(steps, min_size=1, max_size=40))
def test_a_branch_is_what_was_done_to_it_for_long(template, plan):
    follow(template, plan)
