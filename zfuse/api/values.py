"""What a repository tells of itself, under the official library's names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, IntEnum
from typing import Any, Final

from zfuse.api.listing import described
from zfuse.format.repo_info import SnapshotInfo as EngineSnapshotInfo


def moment(microseconds: int) -> datetime:
    """Return the time that is *microseconds* since 1970."""
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC).replace(
        microsecond=microseconds % 1_000_000
    )


def microseconds(time: datetime) -> int:
    """Return *time* in microseconds since 1970.

    Raises:
        TypeError: it is no time, or has no zone: utcnow() and now() give such times, hours apart.
    """
    if not isinstance(time, datetime):
        raise TypeError(f"a datetime is needed, not {time!r}")
    if time.utcoffset() is None:
        raise TypeError(f"{time!r} has no time zone; give it one, such as tzinfo=datetime.UTC")
    whole = time.astimezone(UTC)
    return int(whole.replace(microsecond=0).timestamp()) * 1_000_000 + whole.microsecond


def commit_message(message: str) -> str:
    """Return *message*.

    Raises:
        TypeError: it is no text.
    """
    if not isinstance(message, str):
        raise TypeError(f"a commit message is a text, not {message!r}")
    return message


def properties(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return *metadata* as a dict of its own.

    Raises:
        TypeError: its keys are no texts.
    """
    for key in metadata:
        if not isinstance(key, str):
            raise TypeError(f"keys of metadata are texts, not {key!r}")
    return dict(metadata)


class SpecVersion(IntEnum):
    """The version of the format that a repository is of."""

    v1 = 1
    v2 = 2

    @staticmethod
    def current() -> "SpecVersion":
        """Return the version that new repositories get."""
        return SpecVersion.v2

    def __repr__(self) -> str:
        return f"SpecVersion.{self.name}" + (" (current)" if self is SpecVersion.v2 else "")

    __str__ = __repr__


class SessionMode(Enum):
    """What can be done with a session."""

    readonly = 0
    writable = 1
    rearrange = 2

    def __repr__(self) -> str:
        return str(self)


class ChunkType(Enum):
    """Where the bytes of a chunk are."""

    uninitialized = 0
    native = 1
    virtual = 2
    inline = 3

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, slots=True, repr=False)
class SnapshotInfo:
    """What is known of a snapshot."""

    id: str
    parent_id: str | None
    written_at: datetime
    message: str
    metadata: dict[str, Any]

    @classmethod
    def of(cls, info: EngineSnapshotInfo) -> "SnapshotInfo":
        """Return what the engine knows in the words of this interface."""
        return cls(
            id=str(info.id),
            parent_id=None if info.parent_id is None else str(info.parent_id),
            written_at=moment(info.flushed_at),
            message=info.message,
            metadata=dict(info.metadata),
        )

    def __repr__(self) -> str:
        return described(
            "SnapshotInfo",
            id=self.id,
            parent_id=self.parent_id,
            written_at=self.written_at.isoformat(),
            message=self.message,
            metadata=self.metadata,
        )


@dataclass(frozen=True, slots=True, repr=False)
class ManifestFileInfo:
    """What is known of a manifest without reading it."""

    id: str
    size_bytes: int
    num_chunk_refs: int

    def __repr__(self) -> str:
        return described(
            "ManifestFileInfo",
            id=self.id,
            size_bytes=self.size_bytes,
            num_chunk_refs=self.num_chunk_refs,
        )


@dataclass(frozen=True, slots=True, repr=False)
class Diff:
    """What differs between two versions, by path."""

    new_groups: set[str] = field(default_factory=set)
    new_arrays: set[str] = field(default_factory=set)
    deleted_groups: set[str] = field(default_factory=set)
    deleted_arrays: set[str] = field(default_factory=set)
    updated_groups: set[str] = field(default_factory=set)
    updated_arrays: set[str] = field(default_factory=set)
    updated_chunks: dict[str, list[list[int]]] = field(default_factory=dict)
    moved_nodes: list[tuple[str, str]] = field(default_factory=list)

    def is_empty(self) -> bool:
        """Tell whether nothing differs."""
        return not any(getattr(self, name) for name in self.__slots__)

    def __repr__(self) -> str:
        sections = {
            "Groups created": self.new_groups,
            "Arrays created": self.new_arrays,
            "Group definitions updated": self.updated_groups,
            "Array definitions updated": self.updated_arrays,
            "Groups deleted": self.deleted_groups,
            "Arrays deleted": self.deleted_arrays,
        }
        told = [_section(title, sorted(paths)) + "\n" for title, paths in sections.items() if paths]
        chunks: list[str] = []
        for path, indices in sorted(self.updated_chunks.items()):
            chunks.append(f"{path}:")
            chunks += [f"    {index}" for index in indices[:_SHOWN]]
            if len(indices) > _SHOWN:
                chunks.append(f"    ... {len(indices) - _SHOWN} more")
        if chunks:
            told.append(_section("Chunks updated", chunks))
        if self.moved_nodes:
            moves = [f"{source} -> {target}" for source, target in self.moved_nodes]
            told.append(_section("Nodes moved/renamed", moves) + "\n")
        return "".join(told)


_SHOWN: Final = 10


def _section(title: str, lines: Sequence[str]) -> str:
    return f"{title}:\n" + "".join(f"    {line}\n" for line in lines)
