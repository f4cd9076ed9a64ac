"""A branch that changes in every way, seen through a cache that keeps all it is not told to drop.

Three things must hold after every refresh: each name gives what the official library has for
it; (inode, mtime) of a file never stands for other bytes; and mtime is the time of the
snapshot that brought the bytes, as all ancestors tell it.
"""

import contextlib
import itertools
import json
import random
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import icechunk
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compat.documents import DOT, GROUP, V2_DOT, V2_SLASH, array_document, delete, put
from tests.compat.oracle import METADATA, Ref, _claim, expected_tree, official_keys
from tests.compat.place import create, local_place
from tests.fs.driving import driving, shown_path
from tests.fs.kernel import Kernel
from zfuse.errors import NotFoundError, StaleError
from zfuse.fs.entry import EntryKind
from zfuse.repo.provenance import MAX_LOGS, MAX_LOGS_V1
from zfuse.repo.ref import Ref as ZfuseRef
from zfuse.repo.ref import RefKind

pytestmark = [pytest.mark.compat, pytest.mark.expects_log("is not shown")]

PATHS = ["", "a", "g", "g/b", "a/c", "a/c/0", "g/h/a"]
ENCODINGS = [{"name": "default"}, DOT, V2_DOT, V2_SLASH]
SIZES = [1, 5, 513, 700]


class History:
    """An official repository whose branch main goes through any changes.

    ``contents`` are the snapshots that there ever were. ``is_straight`` says that each of
    them was made on top of the one before.
    """

    def __init__(self, directory, spec):
        place = local_place(Path(directory))
        config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=512)
        self.url = place.url
        self.spec = spec
        self.repo = create(place, spec, config)
        self.shapes = {}
        self.unique = itertools.count(1)
        self.contents = {}
        self.is_straight = True
        self.note()

    @property
    def tip(self):
        return self.repo.lookup_branch("main")

    def note(self):
        """Remember what the branch holds now."""
        tip = self.tip
        if tip in self.contents:
            return
        nodes = {n["path"].strip("/"): n["id"] for n in self.repo.inspect_snapshot(tip)["nodes"]}
        official = official_keys(self.repo, Ref("snapshot", tip))
        self.contents[tip] = Held(official, shown_names(official), nodes, self._flushed(tip))

    def _flushed(self, tip):
        told = self.repo.lookup_snapshot(tip).written_at
        return (int(told.timestamp()) * 1_000_000 + told.microsecond) * 1000

    def data(self, size):
        """Return bytes that were never written before."""
        return (b"%d|" % next(self.unique)).ljust(size, b".")

    def apply(self, step):
        """Do one thing; what the library does not allow just now is left out."""
        kind, *arguments = step
        with contextlib.suppress(icechunk.IcechunkError, KeyError, ValueError):
            getattr(self, kind)(*arguments)
        self.note()

    def edit(self, changes, amend):
        session = self.repo.writable_session("main")
        for kind, *arguments in changes:
            with contextlib.suppress(icechunk.IcechunkError, KeyError):
                getattr(self, kind)(session.store, *arguments)
        if not session.has_uncommitted_changes:
            return
        if amend and self.spec > 1 and len(self.contents) > 2:
            session.amend("amended")
            self.is_straight = False
        else:
            session.commit("edited")

    def array(self, store, path, shape, encoding):
        if path.startswith("a/"):  # two arrays may not have one name for their chunks
            encoding = ENCODINGS[0]
        document = array_document(
            shape,
            [1] * len(shape),
            chunk_key_encoding=encoding,
            attributes={"n": next(self.unique)},
        )
        put(store, key(path, "zarr.json"), document)
        self.shapes[path] = shape

    def chunk(self, store, path, coords, size):
        rank = len(self.shapes[path])
        name = "/".join(["c", *map(str, coords[:rank])])
        put(store, key(path, name), self.data(size))

    def odd_chunk(self, store, path, coords, size):
        put(store, key(path, "/".join(["c", *map(str, coords)])), self.data(size))

    def erase(self, store, path, coords):
        rank = len(self.shapes[path])
        delete(store, key(path, "/".join(["c", *map(str, coords[:rank])])))

    def group(self, store, path):
        document = GROUP.replace(b"{}", b'{"n":%d}' % next(self.unique))
        put(store, key(path, "zarr.json"), document)

    def remove(self, store, path):
        delete(store, key(path, "zarr.json"))

    def again(self, store, path, shape):
        """Delete an array and make another in its place at once."""
        delete(store, key(path, "zarr.json"))
        self.array(store, path, shape, ENCODINGS[0])
        self.chunk(store, path, (0,) * len(shape), 5)

    def move(self, source, target):
        session = self.repo.rearrange_session("main")
        session.move(f"/{source}", f"/{target}")
        session.commit("moved")
        self.is_straight = False  # the keys of what moved do not tell where it comes from

    def reset(self, which):
        self.is_straight = False
        known = list(self.contents)
        self.repo.reset_branch("main", known[which % len(known)])

    def recreate(self, which):
        self.is_straight = False
        known = list(self.contents)
        self.repo.create_branch("spare", known[0])
        self.repo.delete_branch("main")
        self.repo.create_branch("main", known[which % len(known)])
        self.repo.delete_branch("spare")

    def expire(self):
        self.is_straight = False
        if self.spec > 1:
            self.repo.expire_snapshots(self.repo.lookup_snapshot(self.tip).written_at)

    def rewrite(self):
        self.repo.rewrite_manifests("rewritten", branch="main")

    def check_time(self, shown, mtime_ns):
        """Compare the time of a name at the tip with what all its ancestors tell."""
        held = self.contents[self.tip]
        name = held.names[shown]
        origin = self._origin(name)
        if not is_metadata(name):
            document = json.loads(held.official[key(owner(name), METADATA)])
            rank = len(name.removeprefix(key(owner(name), "c")).split("/")) - 1
            if rank != len(document["shape"]):
                # What a session wrote before it changed the rank is in the log, but dropped.
                assert mtime_ns >= origin, shown
                return
        assert mtime_ns == origin, shown

    def _origin(self, name):
        ancestry = [info.id for info in self.repo.ancestry(branch="main")][:-1]
        content = self._identity(ancestry[0], name)
        same = itertools.takewhile(lambda s: self._identity(s, name) == content, ancestry)
        limit = MAX_LOGS if self.spec > 1 else MAX_LOGS_V1
        return self.contents[list(same)[: limit + 1][-1]].flushed_ns

    def _identity(self, snapshot, name):
        held = self.contents[snapshot]
        return held.official.get(name), held.nodes.get(owner(name))


def owner(name):
    """Return the path of the node that an official key belongs to."""
    segments = name.split("/")
    last = METADATA if is_metadata(name) else "c"
    return "/".join(segments[: len(segments) - 1 - segments[::-1].index(last)])


@dataclass(frozen=True)
class Held:
    """What a snapshot holds: official keys, these by shown name, and node ids by path."""

    official: dict[str, bytes]
    names: dict[str, str]
    nodes: dict[str, str]
    flushed_ns: int


def shown_names(official):
    """Return the official keys by the names that a mount shows them under, shadowed or not."""
    documents = {k[:-9].strip("/"): json.loads(v) for k, v in official.items() if is_metadata(k)}
    arrays = {path: d for path, d in documents.items() if d["node_type"] == "array"}
    claims = sorted((*_claim(k, v, arrays)[:2], k) for k, v in official.items())
    return {shown: name for _, shown, name in reversed(claims)}


def is_metadata(name):
    return name.rsplit("/", 1)[-1] == METADATA


def key(path, name):
    return f"{path}/{name}" if path else name


paths = st.sampled_from(PATHS)
coords = st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 1))
shapes = st.one_of(
    st.lists(st.integers(1, 4), min_size=1, max_size=2), st.just([]), st.just([4, 3])
)
sizes = st.sampled_from(SIZES)
changes = st.one_of(
    st.tuples(st.just("array"), paths, shapes, st.sampled_from(ENCODINGS)),
    *[st.tuples(st.just("chunk"), paths, coords, sizes)] * 4,
    st.tuples(st.just("odd_chunk"), paths, coords.map(lambda c: c[: 1 + c[2]]), sizes),
    st.tuples(st.just("erase"), paths, coords),
    st.tuples(st.just("group"), paths),
    st.tuples(st.just("remove"), paths),
    st.tuples(st.just("again"), paths, shapes),
)
steps = st.one_of(
    *[st.tuples(st.just("edit"), st.lists(changes, min_size=1, max_size=6), st.just(False))] * 5,
    st.tuples(st.just("edit"), st.lists(changes, min_size=1, max_size=6), st.just(True)),
    st.tuples(st.just("move"), paths, paths),
    st.tuples(st.just("reset"), st.integers(0, 20)),
    st.tuples(st.just("recreate"), st.integers(0, 20)),
    st.tuples(st.just("expire")),
    st.tuples(st.just("rewrite")),
)
START = [
    ("array", "a", [4, 3], ENCODINGS[0]),
    ("array", "g/b", [4], ENCODINGS[0]),
    *[("chunk", "a", (row, column, 0), 5) for row in range(3) for column in range(2)],
    *[("chunk", "g/b", (row, 0, 0), 700) for row in range(3)],
    ("group", "g"),
]


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


async def watch(history, plan, seed, ref):
    async with driving(history.url, ref=ref, memory=1 << 20) as driven:
        dice = random.Random(seed)
        path = "branch/main" if ref is None else None
        root = await driven.find(path) if path else await driven.fs.getattr(1)
        watcher = Watcher(history, driven, root, dice)
        await watcher.check()
        for step in plan:
            history.apply(step)
            if dice.random() < 0.8:
                await watcher.refresh()
                await watcher.check()
                watcher.pin()
                if dice.random() < 0.1:
                    watcher.kernel.drop_caches()
        await watcher.refresh()
        await watcher.check()
        assert driven.fs.open_handles == 0


async def check_times(history):
    """Compare the time of every file of a new mount with what all ancestors tell."""
    expected = expected_tree(history.contents[history.tip].official)
    async with driving(history.url) as driven:
        root = await driven.find("branch/main")
        for name in expected.files:
            found = await driven.find("/".join(shown_path(name, is_file=True)), root.inode)
            history.check_time(name, found.mtime_ns)


def follow(spec, plan, seed, *, alone):
    ref = ZfuseRef(RefKind.BRANCH, "main") if alone else None
    with TemporaryDirectory() as directory:
        history = History(directory, spec)
        history.apply(("edit", START, False))
        trio.run(watch, history, plan, seed, ref)
        if not any(step[0] == "move" for step in plan):
            trio.run(check_times, history)


@pytest.mark.parametrize("spec", [1, 2])
@settings(max_examples=25)
@given(plan=st.lists(steps, min_size=1, max_size=8), seed=st.integers(0, 999), alone=st.booleans())
def test_what_a_reader_sees_is_always_what_the_branch_holds(spec, plan, seed, alone):
    follow(spec, plan, seed, alone=alone)


@pytest.mark.long
@pytest.mark.parametrize("spec", [1, 2])
@settings(max_examples=1500, derandomize=False)
@given(plan=st.lists(steps, min_size=1, max_size=25), seed=st.integers(0, 999), alone=st.booleans())
def test_what_a_reader_sees_for_long(spec, plan, seed, alone):
    follow(spec, plan, seed, alone=alone)
