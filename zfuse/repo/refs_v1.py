"""Branches and tags of a version 1 repository: one small JSON file each.

Specification: spec-v1, "References". On local directories the official library's store
percent-encodes characters of the names in the path; elsewhere names are keys verbatim.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

import trio

from zfuse.errors import CorruptionError, InvalidInputError, ObjectNotFoundError, ZfuseError
from zfuse.format.ids import SnapshotId
from zfuse.format.layout import REFS_PREFIX_V1
from zfuse.storage.base import Storage

MAIN_KEY: Final = f"{REFS_PREFIX_V1}branch.main/ref.json"
"""A version 1 repository exists where this object does."""

_TOMBSTONE: Final = "/ref.json.deleted"
_REF: Final = "/ref.json"


@dataclass(frozen=True, slots=True)
class RefsV1:
    """All refs of a version 1 repository at one moment."""

    branches: Mapping[str, SnapshotId]
    tags: Mapping[str, SnapshotId]
    deleted_tags: tuple[str, ...]


async def fetch_refs(storage: Storage, *, encoded_names: bool) -> RefsV1:
    """Read every branch and tag.

    *encoded_names* says that the store keeps names percent-encoded (local directories). A
    ref that can not be read is an error, never a ref that does not exist: the official
    library takes it for deleted, and collects its snapshots as garbage.
    """
    vanished: set[str] = set()
    while True:
        keys = [info.key async for info in storage.list(REFS_PREFIX_V1)]
        dead = {key.removesuffix(_TOMBSTONE) for key in keys if key.endswith(_TOMBSTONE)}
        live = [key for key in keys if key.endswith(_REF) and key.removesuffix(_REF) not in dead]
        targets = await _fetch_targets(storage, live)
        missing = set(live) - targets.keys()
        if missing <= vanished:
            break
        # Deleted since the listing, perhaps after another branch was made there: look again.
        vanished |= missing

    def named(kind: str, stems: Mapping[str, SnapshotId]) -> dict[str, SnapshotId]:
        start = f"{REFS_PREFIX_V1}{kind}."
        found = {s.removeprefix(start): i for s, i in stems.items() if s.startswith(start)}
        return {unquote(n) if encoded_names else n: found[n] for n in sorted(found)}

    tombs = named("tag", dict.fromkeys(dead, SnapshotId(bytes(12))))
    stems = {key.removesuffix(_REF): target for key, target in targets.items()}
    return RefsV1(named("branch", stems), named("tag", stems), tuple(tombs))


async def _fetch_targets(storage: Storage, keys: Iterable[str]) -> dict[str, SnapshotId]:
    """Return what the ref files *keys* name, without those that are not there any more."""
    targets: dict[str, SnapshotId] = {}
    errors: list[ZfuseError] = []

    async def fetch(key: str) -> None:
        try:
            targets[key] = parse_ref((await storage.get(key)).data, key)
        except ObjectNotFoundError:
            pass
        except ZfuseError as exc:
            errors.append(exc)

    async with trio.open_nursery() as nursery:
        for key in keys:
            nursery.start_soon(fetch, key)
    if errors:
        raise errors[0]
    return targets


def parse_ref(data: bytes, key: str) -> SnapshotId:
    """Return the snapshot that a ``ref.json`` points at.

    Raises:
        CorruptionError: *data* is not such a file.
    """
    try:
        return SnapshotId.parse(json.loads(data)["snapshot"])
    except (ValueError, KeyError, TypeError, InvalidInputError, RecursionError) as exc:
        raise CorruptionError(f"{key} does not name a snapshot: {data[:80]!r}") from exc
