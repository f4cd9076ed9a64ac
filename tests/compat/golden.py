"""The golden repositories, and what the format layer makes of their files."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.compat.golden_report import digest, reference
from zfuse.format.chunk_ref import ChunkRef, InlineRef, NativeRef, VirtualRef
from zfuse.format.ids import SnapshotId
from zfuse.format.manifest import Manifest
from zfuse.format.repo_info import RepoInfo
from zfuse.format.snapshot import ArrayNode, Snapshot

DATA = Path(__file__).parents[1] / "data"
NAMES = sorted(path.name for path in DATA.glob("icechunk-*"))


@dataclass(frozen=True)
class Golden:
    """One golden repository: its files, and the report of the library that wrote it."""

    name: str

    @property
    def repository(self) -> Path:
        """The directory of the repository."""
        return DATA / self.name / "repository"

    @cached_property
    def report(self) -> dict[str, Any]:
        """What the official library said."""
        return json.loads((DATA / self.name / "report.json").read_text())

    def read(self, key: str) -> bytes:
        """Return the object *key*."""
        return (self.repository / key).read_bytes()

    def snapshot(self, name: str) -> Snapshot:
        """Decode a snapshot file."""
        return Snapshot.decode(self.read(f"snapshots/{name}"))

    def repo_info(self) -> RepoInfo:
        """Decode the repo info file."""
        return RepoInfo.decode(self.read("repo"))

    def references(self, node: ArrayNode) -> Iterator[tuple[tuple[int, ...], ChunkRef]]:
        """Yield every chunk reference of an array with its index."""
        for manifest_ref in node.manifests:
            manifest = Manifest.decode(self.read(f"manifests/{manifest_ref.manifest_id}"))
            for rank in manifest.ranks(node.id):
                array = manifest.array(node.id, rank)
                assert array is not None
                coords = array.coords(0, len(array)).tolist()
                yield from ((tuple(c), array.ref(row)) for row, c in enumerate(coords))

    def content(self, ref: ChunkRef) -> str | None:
        """Return the digest of a chunk, None where it lies outside of the repository."""
        match ref:
            case InlineRef():
                return digest(ref.data)
            case NativeRef():
                stored = self.read(f"chunks/{ref.chunk_id}")
                return digest(stored[ref.offset : ref.offset + ref.size])
            case VirtualRef():
                return None

    def keys(self, snapshot: Snapshot) -> dict[str, str | None]:
        """Return every key of a snapshot with the digest of its content."""
        found: dict[str, str | None] = {}
        for node in snapshot.nodes:
            path = node.path.lstrip("/")
            prefix = f"{path}/" if path else ""
            found[f"{prefix}zarr.json"] = digest(node.user_data)
            if isinstance(node, ArrayNode):
                for coords, ref in self.references(node):
                    key = "/".join([f"{prefix}c", *map(str, coords)])
                    assert key not in found
                    found[key] = self.content(ref)
        return found


def microseconds(text: str) -> int:
    """Return the microseconds since 1970 of a time as the official library writes it."""
    time = datetime.fromisoformat(text)
    return int(time.timestamp()) * 1_000_000 + time.microsecond


def as_id(text: str | None) -> SnapshotId | None:
    """Return the snapshot id that *text* spells."""
    return None if text is None else SnapshotId.parse(text)


def line(coords: tuple[int, ...], ref: ChunkRef, containers: dict[str, str]) -> str:
    """Return *ref* as the report has it; *containers* are the prefixes of those with a name."""
    match ref:
        case InlineRef():
            return reference(coords, "inline", 0, ref.size, digest(ref.data))
        case NativeRef():
            return reference(coords, "native", ref.offset, ref.size, str(ref.chunk_id))
        case VirtualRef():
            location = ref.location
            for name, prefix in containers.items():
                location = location.replace(f"vcc://{name}/", prefix)
            return reference(coords, "virtual", ref.offset, ref.size, location)
