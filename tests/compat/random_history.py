"""Random histories of a local repository, made by both libraries, and what it holds afterwards."""

import contextlib
import random
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import icechunk
import trio

from tests.compat.documents import GROUP, array_document, delete, get_all, put
from tests.compat.place import Place, access, container, create, local_place, source
from zfuse.cache.budget import MemoryBudget
from zfuse.errors import ZfuseError
from zfuse.format.chunk_ref import NativeRef, VirtualRef
from zfuse.format.repo_info import RepoInfo
from zfuse.format.snapshot import Snapshot
from zfuse.repo.chunks import ChunkIndex
from zfuse.repo.repository import DEFAULT_BUDGET, Repository
from zfuse.repo.session import Session
from zfuse.repo.view import HierarchyView
from zfuse.storage.local import LocalStorage

_LENGTH = 6
_EXPIRES = 0.03
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ARRAYS = [array_document((_LENGTH,), (1,), attributes={"v": v}) for v in range(2)]
_STEPS = ["official"] * 4 + ["zfuse"] * 4 + ["branch", "branch", "tag", "tag", "reset"]
_STEPS += ["delete branch", "delete tag", "amend", "zfuse amend", "flush", "abandon"]


class NoContainers:
    """Virtual chunks are counted and compared by reference here, never read."""

    def declare(self, containers: object) -> None:
        """Take note of nothing."""

    async def read(self, ref: VirtualRef, byte_range: object) -> bytes:
        """Fail."""
        raise AssertionError(f"{ref} was read")


def microseconds(moment: datetime) -> int:
    """Return *moment* as zfuse has it."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


@dataclass
class History:
    """A repository in the making: its place, and the snapshots that it ever had."""

    place: Place
    spec: int
    rng: random.Random
    snapshots: list[str] = field(default_factory=list)

    @classmethod
    def make(cls, directory: Path, spec: int, rng: random.Random, steps: int) -> "History":
        """Make a repository of *steps* random steps below the new *directory*."""
        directory.mkdir(parents=True)
        place = local_place(directory)
        config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=20)
        config.set_virtual_chunk_container(container(place))
        if rng.random() < 0.3:
            config.num_updates_per_repo_info_file = 3
        if rng.random() < 0.5:
            split = {icechunk.ManifestSplitDimCondition.Any(): 2}
            sizes = {icechunk.ManifestSplitCondition.AnyArray(): split}
            splitting = icechunk.ManifestSplittingConfig.from_dict(sizes)
            config.manifest = icechunk.ManifestConfig(splitting=splitting)
        create(place, spec, config).save_config()
        source(place, "data.bin", bytes(range(100)))
        history = cls(place, spec, rng)
        history.snapshots.append(history.open().lookup_branch("main"))
        history._commit(history.open(), "main", "commit")
        for _ in range(steps):
            history._step("expire" if rng.random() < _EXPIRES else rng.choice(_STEPS))
        return history

    @property
    def path(self) -> Path:
        """Where the repository is."""
        return Path(self.place.url)

    def open(self, path: Path | None = None) -> icechunk.Repository:
        """Open it, or a copy at *path*, with the official library."""
        storage = icechunk.local_filesystem_storage(str(path or self.path))
        return icechunk.Repository.open(storage, authorize_virtual_chunk_access=self.access())

    def access(self) -> dict[str, Any] | None:
        """Return what the official library wants to read the virtual chunks."""
        return access(self.place.prefix)

    def copy(self, name: str) -> Path:
        """Return a copy of it, times included."""
        target = self.path.with_name(name)
        shutil.copytree(self.path, target)
        return target

    def moment(self) -> datetime:
        """Return a random moment: when a snapshot was flushed, or just after that."""
        repo, moments = self.open(), []
        for snapshot in self.snapshots:
            try:
                moments.append(repo.lookup_snapshot(snapshot).written_at)
            except icechunk.IcechunkError:
                continue  # expired
        return self.rng.choice(moments) + timedelta(microseconds=self.rng.randrange(2))

    def _step(self, step: str) -> None:
        """Do one step; what is not possible as things are is left out."""
        repo, rng = self.open(), self.rng
        branch = rng.choice(sorted(repo.list_branches()))
        tag = rng.choice([*sorted(repo.list_tags()), "none"])
        target, new = rng.choice(self.snapshots), f"n{rng.randrange(10**6)}"
        does = {
            "official": lambda: self._commit(repo, branch, "commit"),
            "zfuse": lambda: trio.run(self._commit_with_zfuse, branch, False),
            "zfuse amend": lambda: trio.run(self._commit_with_zfuse, branch, True),
            "branch": lambda: repo.create_branch(new, target),
            "tag": lambda: repo.create_tag(new, target),
            "reset": lambda: repo.reset_branch(branch, target),
            "delete branch": lambda: repo.delete_branch(branch),
            "delete tag": lambda: repo.delete_tag(tag),
            "expire": lambda: repo.expire_snapshots(self.moment()),
        }
        with contextlib.suppress(icechunk.IcechunkError, ZfuseError):
            does.get(step, lambda: self._commit(repo, branch, step))()

    def _commit(self, repo: icechunk.Repository, branch: str, how: str) -> None:
        session = repo.writable_session(branch)
        for name in "abc":
            if self.rng.random() < 0.4 or how == "commit":
                put(session.store, f"{name}/zarr.json", self.rng.choice(_ARRAYS))
        for _ in range(self.rng.randrange(1, 5)):
            with contextlib.suppress(icechunk.IcechunkError):
                self._edit(session.store)
        put(session.store, "g/zarr.json", GROUP)
        if how != "abandon":
            self.snapshots.append(getattr(session, how)(f"{how} {self.rng.random()}"))

    def _edit(self, store: icechunk.IcechunkStore) -> None:
        name = self.rng.choice("abc")
        key = f"{name}/c/{self.rng.randrange(_LENGTH)}"
        match self.rng.randrange(10):
            case 0 | 1:
                delete(store, key)
            case 2 | 3:
                location, size = self.place.prefix + "data.bin", self.rng.randrange(1, 50)
                store.set_virtual_ref(key, location, offset=size, length=size)
            case 4:
                delete(store, f"{name}/zarr.json")
            case _:
                put(store, key, self._bytes())

    async def _commit_with_zfuse(self, branch: str, amends: bool) -> None:
        repository = await open_for_tests(self.path)
        session = await Session.open(repository, branch)
        for name in "ab":
            await session.set_metadata(f"/{name}", self.rng.choice(_ARRAYS))
            n = self.rng.randrange(_LENGTH)
            await session.set_chunk(f"/{name}", (n,), self._bytes())
        commit = session.amend if amends else session.commit
        snapshot_id = await commit(f"zfuse {self.rng.random()}")
        if snapshot_id is not None:
            self.snapshots.append(str(snapshot_id))

    def _bytes(self) -> bytes:
        return self.rng.randbytes(self.rng.choice([5, 100]))


async def open_for_tests(path: Path) -> Repository:
    """Open the repository at *path* with zfuse, virtual chunks not to be read."""
    return await Repository.open(
        LocalStorage(path), budget=MemoryBudget(DEFAULT_BUDGET), virtual=NoContainers()
    )


def objects(path: Path) -> set[str]:
    """Return the keys of the repository at *path*, but for the former repo info files."""
    found = {str(f.relative_to(path)) for f in path.rglob("*") if f.is_file()}
    return {key for key in found if not key.startswith("overwritten/") and "#" not in key}


def facts(path: Path) -> dict[str, object]:
    """Return what two equal repositories have in common but their objects: refs and history."""
    if (path / "repo").exists():
        info = RepoInfo.decode((path / "repo").read_bytes())
        return {
            "branches": dict(info.branches),
            "tags": dict(info.tags),
            "deleted": sorted(info.deleted_tags),
            "snapshots": dict(info.snapshots),
        }
    return {
        "refs": {str(f.relative_to(path)): f.read_bytes() for f in (path / "refs").rglob("*json*")},
        "parents": {
            f.name: Snapshot.decode(f.read_bytes()).parent_id
            for f in (path / "snapshots").iterdir()
        },
    }


def read_officially(repo: icechunk.Repository) -> dict[str, dict[str, bytes]]:
    """Return the content of every ref, and its history, as the official library reads them."""
    found = {}
    for kind, names in (("branch", repo.list_branches()), ("tag", repo.list_tags())):
        for name in names:
            keys = get_all(repo.readonly_session(**{kind: name}).store)
            messages = [each.message for each in repo.ancestry(**{kind: name})]
            found[f"{kind} {name}"] = {**keys, "history": messages}
    return found


async def read_with_zfuse(path: Path, data: bytes) -> dict[str, dict[str, bytes]]:
    """Return the same, read by zfuse; virtual chunks all lie in a file that holds *data*."""
    repository = await open_for_tests(path)
    found = {}
    for kind, refs in (("branch", repository.branches), ("tag", repository.tags)):
        for name, tip in refs.items():
            view = HierarchyView(await repository.assets.fetch_snapshot(tip))
            keys = await _keys(repository, view, data)
            messages = [info.message async for info in repository.ancestry(tip)]
            found[f"{kind} {name}"] = {**keys, "history": messages}
    return found


async def _keys(repository: Repository, view: HierarchyView, data: bytes) -> dict[str, bytes]:
    found, index = {}, ChunkIndex(repository.assets)
    for node in view.snapshot.nodes:
        found[f"{node.path[1:]}/zarr.json"] = node.user_data
        if not hasattr(node, "manifests"):
            continue
        for run in await index.rows(node, (), 1):
            for row in range(run.start, run.stop):
                ref = run.references.ref(row)
                (n,) = run.references.coords(row, row + 1)[0].tolist()
                found[f"{node.path[1:]}/c/{n}"] = await _bytes(repository, ref, data)
    return found


async def _bytes(repository: Repository, ref: Any, data: bytes) -> bytes:
    match ref:
        case NativeRef():
            blob = await repository.storage.get(f"chunks/{ref.chunk_id}")
            return blob.data[ref.offset : ref.offset + ref.size]
        case VirtualRef():
            return data[ref.offset : ref.offset + ref.size]
        case _:
            return ref.data
