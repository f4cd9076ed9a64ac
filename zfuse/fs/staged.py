"""What a session keeps of a branch that differs from its base: staged files and directories.

An overlay is told in terms of paths as they are shown, whatever Zarr would make of them. A
directory that was changed has a row of its own with the names that changed in it: a staged
file, a staged directory, or a whiteout, which hides what the base has there. All other names
are those of the base at the directory's *origin*.
"""

import base64
import enum
import json
from dataclasses import dataclass
from typing import NamedTuple

from zfuse.errors import JournalError
from zfuse.format.chunk_ref import ChunkRef, InlineRef, NativeRef, VirtualRef
from zfuse.format.ids import ChunkId

Path = tuple[str, ...]
"""Names as a mount shows them, from the root of the branch; () is the root."""


class RowKind(enum.IntEnum):
    """What a name of a staged directory stands for."""

    WHITEOUT = 0
    DIRECTORY = 1
    FILE = 2


class EntryRow(NamedTuple):
    """A name in a staged directory; ``child`` is the id of what it names, ``seq`` its age.

    Every change gets a higher ``seq`` than all before it. ``anew`` tells that what the base
    has there was removed before this came.
    """

    kind: RowKind
    child: int
    seq: int
    anew: bool


@dataclass(slots=True)
class StagedDirectory:
    """A directory whose names differ from those of the base.

    ``origin`` is the directory of the base whose names show through, None for one that the
    base does not have. While a commit is under way ``pending`` is the same for the snapshot
    that it is to become.
    """

    id: int
    origin: Path | None
    pending: Path | None
    mode: int
    mtime_ns: int


@dataclass(slots=True)
class StagedFile:
    """A file whose bytes are in the journal, in the repository, or in both.

    ``blob`` names the journal's copy; ``ref`` is where the repository has the same bytes.
    ``is_closed`` tells whether the last who wrote it closed it.
    """

    id: int
    blob: str | None
    ref: ChunkRef | None
    size: int
    mtime_ns: int
    mode: int
    is_closed: bool


def ref_to_text(ref: ChunkRef | None) -> str | None:
    """Return a reference as the journal keeps it."""
    match ref:
        case None:
            return None
        case InlineRef():
            return json.dumps({"inline": base64.b64encode(ref.data).decode()})
        case NativeRef():
            return json.dumps({"native": str(ref.chunk_id), "range": [ref.offset, ref.size]})
        case VirtualRef():
            checksum = [ref.etag, ref.last_modified]
            place = {"range": [ref.offset, ref.size], "checksum": checksum}
            return json.dumps({"virtual": ref.location, **place})


def ref_from_text(text: str | None) -> ChunkRef | None:
    """Return the reference that ``ref_to_text`` made *text* of.

    Raises:
        JournalError: it made it of none.
    """
    if text is None:
        return None
    try:
        told = json.loads(text)
        if "inline" in told:
            return InlineRef(base64.b64decode(told["inline"]))
        offset, size = told["range"]
        if "native" in told:
            return NativeRef(ChunkId.parse(told["native"]), offset, size)
        return VirtualRef(told["virtual"], offset, size, *told["checksum"])
    except (ValueError, KeyError, TypeError) as exc:
        raise JournalError(f"the journal has the damaged reference {text[:80]!r}") from exc


def path_to_bytes(path: Path | None) -> bytes | None:
    """Return a path as the journal keeps it."""
    return None if path is None else "/".join(path).encode("utf-8", "surrogateescape")


def path_from_bytes(data: bytes | None) -> Path | None:
    """Return the path that ``path_to_bytes`` made *data* of."""
    if data is None:
        return None
    text = data.decode("utf-8", "surrogateescape")
    return tuple(text.split("/")) if text else ()
