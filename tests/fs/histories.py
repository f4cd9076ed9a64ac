"""An official repository that changes, and what each of its versions held."""

import contextlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import icechunk

from tests.compat.documents import DOT, GROUP, V2_DOT, V2_SLASH, array_document, delete, put
from tests.compat.oracle import METADATA, Ref, _claim, official_keys
from tests.compat.place import create, local_place
from zfuse.repo.provenance import MAX_LOGS, MAX_LOGS_V1

ENCODINGS = [{"name": "default"}, DOT, V2_DOT, V2_SLASH]
START = [
    ("array", "a", [4, 3], ENCODINGS[0]),
    ("array", "g/b", [4], ENCODINGS[0]),
    *[("chunk", "a", (row, column, 0), 5) for row in range(3) for column in range(2)],
    *[("chunk", "g/b", (row, 0, 0), 700) for row in range(3)],
    ("group", "g"),
]


class History:
    """An official repository whose branch main goes through any changes.

    ``contents`` are the snapshots that there ever were. ``is_straight`` says that each of
    them was made on top of the one before. ``refused`` is what the last edit could not do.
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
        self.refused = []
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
        self.refused = []
        for kind, *arguments in changes:
            try:
                getattr(self, kind)(session.store, *arguments)
            except (icechunk.IcechunkError, KeyError) as exc:
                self.refused.append((kind, arguments, exc))
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
