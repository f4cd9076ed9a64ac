"""Any file operations in any order on a writable branch, against a model of what POSIX says.

After each step that ends a session in some way, and at the end, the branch must show the very
tree of the model. After a commit the official library has all of it that is Zarr, and what it
has not is told as untracked.
"""

import itertools
import json
import os
import shutil
from collections import Counter
from pathlib import Path as DiskPath
from tempfile import TemporaryDirectory

import icechunk
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compat.documents import DOT, GROUP, V2_DOT, array_document, put_all
from tests.compat.oracle import METADATA, Ref, expected_tree, official_keys
from tests.compat.place import changing, create, local_place
from tests.fs.overlay_model import Branch, Model, ModelFile, Path
from zfuse.errors import NotFoundError
from zfuse.fs.branch_session import InvalidChangesError, SyncRequest

pytestmark = pytest.mark.compat

SHARDS = [
    {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": [1, 1],
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        },
    }
]
DOCUMENTS = [
    GROUP,
    array_document((3, 2), (1, 1)),
    array_document((3, 2), (1, 1), chunk_key_encoding=DOT),
    array_document((3, 2), (1, 1), chunk_key_encoding=V2_DOT),
    array_document((6, 4), (3, 2), codecs=SHARDS),
    array_document((3,), (1,)),
    array_document((), ()),
]
NAMES = ["0", "1", "2", "c", "c.0.1", "1.1", "a", "g", "x.partial", "\udcff", ".zarray"]
NAMES += [METADATA] * 3


def build(directory):
    """Make a repository that has nodes and chunks of every kind of name."""
    place = local_place(DiskPath(directory))
    repo = create(place, 2)
    with changing(repo, "base") as store:
        kinds = dict(
            zip(("a", "flat", "v2", "shards", "line", "point"), DOCUMENTS[1:], strict=True)
        )
        documents = {f"g/{name}/{METADATA}": document for name, document in kinds.items()}
        put_all(store, {METADATA: GROUP, f"g/{METADATA}": GROUP, **documents})
        put_all(store, {f"implicit/b/{METADATA}": DOCUMENTS[1], "implicit/b/c/2/1": b"b" * 600})
        for name in ("a", "flat", "v2", "shards"):
            sizes = zip(itertools.product(range(2), range(2)), (3, 700), (40, 513), strict=False)
            for (row, column), *_ in sizes:
                data = f"{name} {row} {column} ".encode() * (60 if column else 1)
                put_all(store, {f"g/{name}/c/{row}/{column}": data})
        put_all(store, {"g/line/c/2": b"line" * 200, "g/point/c": b"point"})
    return place.url


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    directory = tmp_path_factory.mktemp("template")
    build(directory)
    return directory / "repository"


def committed(url):
    """Return what the official library has on the branch, as a tree that a mount must show."""
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(url)))
    tree = expected_tree(official_keys(repo, Ref("branch", "main")))
    assert not tree.hidden
    files = {tuple(key.split("/")): ModelFile(bytearray(d), False) for key, d in tree.files.items()}
    directories = {tuple(key.split("/")) if key else () for key in tree.directories}
    return Model(files, {path: path for path in directories})


def zarr_files(model):
    """Return the files of which there can be no doubt that a commit has to take them."""
    documents = {
        path[:-1]: json.loads(bytes(file.data))
        for path, file in model.files.items()
        if path[-1] == METADATA and bytes(file.data) in DOCUMENTS
    }
    arrays = {path: d for path, d in documents.items() if d["node_type"] == "array"}
    found = {(*path, METADATA) for path in documents if _is_plain(path)}
    for path, document in arrays.items():
        if _is_plain(path):
            found |= {(*path, *name.split("/")) for name in _chunk_names(document)}
    return {path for path in found if path in model.files}


def _is_plain(path):
    return not any("\udcff" in name or name == METADATA for name in path)


def _chunk_names(document):
    encoding = document["chunk_key_encoding"]
    default = "/" if encoding["name"] == "default" else "."
    separator = encoding.get("configuration", {}).get("separator", default)
    sizes = document["chunk_grid"]["configuration"]["chunk_shape"]
    grid = [range(-(-n // size)) for n, size in zip(document["shape"], sizes, strict=True)]
    for coords in itertools.product(*grid):
        parts = ["c"] * (encoding["name"] == "default") + [str(n) for n in coords]
        yield separator.join(parts) or "0"


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
        await (await self.session()).copy(path, target)
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
        """Commit, doing the steps *meanwhile* as soon as the commit stores something."""
        for _ in range(6):
            before = self.model.copy()
            writing = {p for p, f in self.model.files.items() if self.is_being_written(f)}
            left = list(meanwhile)

            async def do_steps(operation, key, left=left):
                while operation == "put" and left:
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
        for path in sorted(model.directories, reverse=True):
            came_from_base = model.directories[path] is not None
            if came_from_base and model.is_empty(path) and path not in found:
                model.drop(path)

    def part_links(self, official, before):
        """Make each committed name of a file a file of its own."""
        files = self.model.files
        shared = Counter(files.values())
        for path, file in list(files.items()):
            data = before.files[path].data if path in before.files else None
            if path in official.files and file.data == data == official.files[path].data:
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
        for path, file in official.files.items():
            if path not in writing:
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


@settings(max_examples=40)
@given(plan=st.lists(steps, min_size=1, max_size=20))
def test_a_branch_is_what_was_done_to_it(template, plan):
    follow(template, plan)


@pytest.mark.long
@settings(max_examples=3000, derandomize=False)
@given(plan=st.lists(steps, min_size=1, max_size=40))
def test_a_branch_is_what_was_done_to_it_for_long(template, plan):
    follow(template, plan)
