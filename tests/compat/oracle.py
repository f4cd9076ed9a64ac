"""The judge: what the official library says a tree holds, and whether a directory shows it.

A *key* is a path inside the tree with ``/`` between its segments; the segments are true
names, not the escaped ones that a directory shows.
"""

import errno
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import icechunk
from zarr.core.sync import sync

from tests.compat.documents import get
from tests.compat.place import Ref
from zfuse.fs.names import decode_name

METADATA = "zarr.json"


@dataclass(frozen=True)
class Refused:
    """Reading gives this errno instead of bytes; *reason* is for people and not compared."""

    errno: int
    reason: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{errno.errorcode.get(self.errno, self.errno)} ({self.reason[:80]})"


Content = bytes | Refused


@dataclass
class Tree:
    """Files by key, and directories; *hidden* are keys that no directory can show.

    *optional* directories may be there or not.
    """

    files: dict[str, Content] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)
    optional: set[str] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set)


def official_keys(repo: icechunk.Repository, ref: Ref) -> dict[str, Content]:
    """Return what the official store lists for *ref*, and what it gives for each key.

    A listed key that the store then denies (it lists nodes of a path that is not canonical,
    which it cannot find) is left out: there is no such thing to show.
    """
    store = _session(repo, ref).store

    async def collect() -> dict[str, Content | None]:
        return {key: await _official_get(store, key) async for key in store.list()}

    return {key: content for key, content in sync(collect()).items() if content is not None}


def _session(repo: icechunk.Repository, ref: Ref) -> icechunk.Session:
    match ref.kind:
        case "branch":
            return repo.readonly_session(branch=ref.name)
        case "tag":
            return repo.readonly_session(tag=ref.name)
        case "snapshot":
            return repo.readonly_session(snapshot_id=ref.name)


_DENIED = {"unauthorized-virtual-chunk-container", "no-container-for-virtual-chunk"}


async def _official_get(store: icechunk.IcechunkStore, key: str) -> Content | None:
    try:
        return await get(store, key)
    except icechunk.IcechunkError as error:
        kind = str(error.kind)
        if kind == "invalid-byte-range":
            return b""  # a chunk of length zero, which 1.x stored and 2.x cannot read
        return Refused(errno.EACCES if kind in _DENIED else errno.EIO, f"{kind}: {error}")


def expected_tree(official: Mapping[str, Content]) -> Tree:
    """Return what a mount must show for the keys of the official store.

    Chunk files are named by their array's ``chunk_key_encoding``, which the official store
    ignores. Where two things claim one name, as a file and as a directory, the chunk of the
    array's rank stays (a reader that found a directory would take it for the fill value),
    then the nodes, then chunks of a wrong rank; what lies below a hidden one goes with it.
    """
    arrays = {
        key[: -len(METADATA)].rstrip("/"): json.loads(content)
        for key, content in official.items()
        if isinstance(content, bytes) and _is_metadata(key)
    }
    arrays = {path: found for path, found in arrays.items() if found["node_type"] == "array"}
    claims = sorted(_claim(key, content, arrays) for key, content in official.items())
    tree = Tree(directories={""}, optional={_join(path, "c") for path in arrays})
    for _, key, content in claims:
        _show(tree, key, content)
    return tree


def _is_metadata(key: str) -> bool:
    return key.rsplit("/", 1)[-1] == METADATA


def _claim(key: str, content: Content, arrays: Mapping[str, Any]) -> tuple[int, str, "_Held"]:
    if _is_metadata(key):
        return 1, key, _Held(content)
    segments = key.split("/")
    at = len(segments) - 1 - segments[::-1].index("c")
    path, coords = "/".join(segments[:at]), segments[at + 1 :]
    array = arrays[path]
    right = len(coords) == len(array["shape"])
    return 0 if right else 2, _join(path, _chunk_name(array, coords)), _Held(content)


@dataclass(frozen=True)
class _Held:
    """A content that sorting leaves where it is."""

    content: Content

    def __lt__(self, other: object) -> bool:
        return False


def _chunk_name(array: Mapping[str, Any], coords: list[str]) -> str:
    encoding = array.get("chunk_key_encoding", {"name": "default"})
    options = encoding.get("configuration", {})
    if encoding["name"] in {"prefix", "suffix"}:
        inner = _chunk_name({"chunk_key_encoding": options["base_encoding"]}, coords)
        return options.get("prefix", "") + inner + options.get("suffix", "")
    if encoding["name"] == "v2":
        return options.get("separator", ".").join(coords) or "0"
    return options.get("separator", "/").join(["c", *coords])


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _show(tree: Tree, key: str, held: _Held) -> None:
    above = [key[:n] for n, letter in enumerate(key) if letter == "/"]
    if key in tree.directories or key in tree.files or any(d in tree.files for d in above):
        tree.hidden.add(key)
        return
    tree.files[key] = held.content
    tree.directories.update(above)


def mounted_tree(directory: Path, names: Iterable[str] = ()) -> Tree:
    """Return what *directory* shows: every file read, every name decoded.

    *names* are segments that may have been shortened to fit a directory entry.
    """
    tree = Tree(directories={""})
    known = list({segment for name in names for segment in name.split("/")})
    pending: list[tuple[Path, str | None]] = [(directory, None)]
    while pending:
        place, key = pending.pop()
        for entry in _entries(place):
            is_directory = entry.is_dir(follow_symlinks=False)
            name = entry.name
            if is_directory or name != METADATA:
                name = _true_name(entry, known)
            child = name if key is None else f"{key}/{name}"
            if is_directory:
                tree.directories.add(child)
                pending.append((Path(entry.path), child))
            else:
                tree.files[child] = _read(entry)
    return tree


def mounted_keys(directory: Path, names: Iterable[str] = ()) -> dict[str, Content]:
    """Return the content of every file below *directory* by its key."""
    return mounted_tree(directory, names).files


def _entries(place: Path) -> list[os.DirEntry[str]]:
    with os.scandir(place) as entries:
        return list(entries)


def _true_name(entry: os.DirEntry[str], known: list[str]) -> str:
    name = decode_name(entry.name, known)
    assert name is not None, f"{entry.path} is listed but its name means nothing"
    return name


def _read(entry: os.DirEntry[str]) -> Content:
    size = entry.stat(follow_symlinks=False).st_size
    try:
        content = Path(entry.path).read_bytes()
    except OSError as error:
        return Refused(error.errno or 0, "read of the mount")
    assert len(content) == size, f"{entry.path}: st_size {size}, but {len(content)} bytes"
    return content


def differences(expected: Tree, found: Tree) -> list[str]:
    """Return a line for each thing that *found* shows otherwise than *expected*."""
    lines = [f"missing file {key!r}" for key in expected.files.keys() - found.files.keys()]
    lines += [f"surplus file {key!r}" for key in found.files.keys() - expected.files.keys()]
    for key in expected.files.keys() & found.files.keys():
        want, have = expected.files[key], found.files[key]
        if want != have:
            lines.append(f"{key!r}: expected {_brief(want)}, found {_brief(have)}")
    lines += [f"missing directory {d!r}" for d in expected.directories - found.directories]
    surplus = found.directories - expected.directories - expected.optional
    lines += [f"surplus directory {d!r}" for d in surplus]
    return sorted(lines)


def _brief(content: Content) -> str:
    return str(content) if isinstance(content, Refused) else f"{len(content)} B {content[:40]!r}"


def assert_shows(directory: Path, official: Mapping[str, Content]) -> None:
    """Fail with every difference unless *directory* shows exactly the keys of *official*."""
    expected = expected_tree(official)
    found = mounted_tree(directory, [*official, *expected.files])
    lines = differences(expected, found)
    assert not lines, f"{len(lines)} differences below {directory}:\n" + "\n".join(lines[:40])
