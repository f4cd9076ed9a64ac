"""Checks what a repository is entered by: the repo info, or the refs and config of version 1."""

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from zfuse.errors import (
    CorruptionError,
    ObjectNotFoundError,
    RepositoryNotFoundError,
    UnsupportedVersionError,
    corruption_of,
)
from zfuse.format.config import RepositoryConfig
from zfuse.format.header import FileType
from zfuse.format.ids import SnapshotId
from zfuse.format.layout import (
    CONFIG_KEY_V1,
    REFS_PREFIX_V1,
    REPO_INFO_KEY,
    overwritten_key,
)
from zfuse.format.order import disorders
from zfuse.format.repo_info import RepoInfo
from zfuse.maintenance.fsck_findings import Finding
from zfuse.repo.publish import has_encoded_names
from zfuse.repo.refs_v1 import MAIN_KEY, parse_ref
from zfuse.storage.base import Storage

_REF: Final = "/ref.json"
_TOMBSTONE: Final = ".deleted"
_SNAPSHOTS: Final = "snapshots/"


@dataclass(slots=True)
class Entry:
    """What a repository's entry objects say, None for what is not known; and what is wrong.

    ``tips`` are the snapshots that refs point at, each with its refs, main first.
    """

    spec_version: int
    findings: list[Finding] = field(default_factory=list)
    info: RepoInfo | None = None
    config: RepositoryConfig = field(default_factory=RepositoryConfig)
    tips: dict[SnapshotId, list[str]] = field(default_factory=dict)

    def add(self, key: str, problem: object) -> None:
        """Note that something is wrong with an entry object."""
        self.findings.append(Finding(key, str(problem)))

    def point(self, branches: Mapping[str, SnapshotId], tags: Mapping[str, SnapshotId]) -> None:
        """Take over where refs point."""
        names = [("branch", name, branches[name]) for name in _main_first(branches)]
        names += [("tag", name, target) for name, target in sorted(tags.items())]
        for kind, name, target in names:
            self.tips.setdefault(target, []).append(f"{kind}/{name}")


async def read_entry(storage: Storage) -> Entry:
    """Read and check the entry of the repository in *storage*.

    Raises:
        RepositoryNotFoundError: there is none, not even a damaged one.
        UnsupportedVersionError: it is of a newer format.
    """
    try:
        data = (await storage.get(REPO_INFO_KEY)).data
    except ObjectNotFoundError:
        return await _read_v1(storage)
    entry = Entry(2)
    try:
        entry.info = RepoInfo.decode(data)
    except CorruptionError as exc:
        entry.add(REPO_INFO_KEY, f"{exc}{await _newest_backup(storage)}")
        return entry
    for wrong in disorders(data, FileType.REPO_INFO):
        entry.add(REPO_INFO_KEY, f"its {wrong.what} are out of order, or one comes twice")
    _read_config(entry, REPO_INFO_KEY, entry.info.config)
    for problem in _faults(entry.info):
        entry.add(REPO_INFO_KEY, problem)
    entry.point(entry.info.branches, entry.info.tags)
    return entry


def _read_config(entry: Entry, key: str, values: object) -> None:
    try:
        entry.config = RepositoryConfig.from_values(values)
    except CorruptionError as exc:
        entry.add(key, exc)
        return
    declared = entry.config.raw.get("virtual_chunk_containers") or {}
    known = {container.url_prefix for container in entry.config.virtual_chunk_containers.values()}
    for name, told in declared.items():
        prefix = told.get("url_prefix") if isinstance(told, dict) else None
        if prefix not in known:
            entry.add(key, f"the virtual chunk container {name!r} of its config is not valid")


def _faults(info: RepoInfo) -> Iterator[str]:
    if "main" not in info.branches:
        yield "there is no branch main"
    for name in sorted(info.tags.keys() & set(info.deleted_tags)):
        yield f"the tag {name!r} is said to be deleted, too"
    for snapshot in info.snapshots.values():
        parent = info.snapshots.get(snapshot.parent_id) if snapshot.parent_id else None
        if parent is not None and not parent.flushed_at < snapshot.flushed_at:
            yield f"the snapshot {snapshot.id} is not younger than its parent {parent.id}"
    if not info.latest_updates:
        yield "its ops log is empty"


async def _newest_backup(storage: Storage) -> str:
    """Say which copy of the repo info, the newest, can be read."""
    async with aclosing(storage.list(overwritten_key(f"{REPO_INFO_KEY}."))) as found:
        names = sorted([info.key async for info in found])
    for name in names[:10]:
        try:
            RepoInfo.decode((await storage.get(name)).data)
        except (CorruptionError, UnsupportedVersionError, ObjectNotFoundError):
            continue
        return f"; the newest copy that can be read is {name}"
    return "; there is no copy that can be read"


async def ops_log_findings(storage: Storage, info: RepoInfo) -> AsyncGenerator[Finding]:
    """Yield what is wrong with the older pages of the ops log."""
    seen: set[str] = set()
    page, oldest = info.repo_before_updates, info.latest_updates
    while page is not None:
        key = overwritten_key(page)
        if page in seen:
            yield Finding(key, "the ops log comes back to this page, so older ones are lost")
            return
        seen.add(page)
        try:
            before = RepoInfo.decode((await storage.get(key)).data)
        except ObjectNotFoundError:
            yield Finding(key, "gone, though the ops log goes on there")
            return
        except (CorruptionError, UnsupportedVersionError) as exc:
            yield Finding(key, f"the ops log goes on there, but it is damaged: {exc}")
            return
        newer, updates = oldest, before.latest_updates
        if newer and updates and updates[0].updated_at >= newer[-1].updated_at:
            yield Finding(key, "its updates are younger than those of the page before it")
        page, oldest = before.repo_before_updates, updates


# -- version 1 ----------------------------------------------------------------------------------


async def _read_v1(storage: Storage) -> Entry:
    entry = Entry(1)
    async with aclosing(storage.list(REFS_PREFIX_V1)) as found:
        keys = sorted([info.key async for info in found])
    if MAIN_KEY not in keys:
        if not keys and not await _has_any(storage, _SNAPSHOTS):
            raise RepositoryNotFoundError(
                f"no Icechunk repository at {storage.url}; check the location"
            )
        missing = f"{REPO_INFO_KEY} or {MAIN_KEY}" if not keys else MAIN_KEY
        entry.add(missing, "gone, so no reader finds the repository")
    for key in keys:
        dead = key.endswith(_TOMBSTONE) or f"{key}{_TOMBSTONE}" in keys
        if key.endswith(_REF) and not dead:
            await _read_ref(storage, key, entry)
    try:
        data = (await storage.get(CONFIG_KEY_V1)).data
        with corruption_of(CONFIG_KEY_V1):
            _read_config(entry, CONFIG_KEY_V1, RepositoryConfig.from_yaml(data).raw)
    except ObjectNotFoundError:
        pass
    except (CorruptionError, UnsupportedVersionError) as exc:
        entry.add(CONFIG_KEY_V1, exc)
    return entry


async def _read_ref(storage: Storage, key: str, entry: Entry) -> None:
    """Read one ref; those that can be read count, should others be damaged."""
    try:
        target = parse_ref((await storage.get(key)).data, key)
    except ObjectNotFoundError:
        return  # deleted since the listing
    except CorruptionError as exc:
        entry.add(key, exc)
        return
    kind, _, name = key.removeprefix(REFS_PREFIX_V1).removesuffix(_REF).partition(".")
    name = unquote(name) if has_encoded_names(storage) else name
    entry.tips.setdefault(target, []).append(f"{kind}/{name}")


async def _has_any(storage: Storage, prefix: str) -> bool:
    async with aclosing(storage.list(prefix)) as found:
        async for _ in found:
            return True
    return False


def _main_first(branches: Mapping[str, SnapshotId]) -> list[str]:
    return sorted(branches, key=lambda name: (name != "main", name))


def labels_of(snapshot_id: SnapshotId, tips: Mapping[SnapshotId, list[str]]) -> list[str]:
    """Return how a snapshot is called: by its refs, or else by its id."""
    return tips.get(snapshot_id) or [f"snapshot/{snapshot_id}"]
