"""Where a test repository is made, and what the maker says of it afterwards."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import icechunk

icechunk.set_logs_filter("off")

RefKind = Literal["branch", "tag", "snapshot"]


@dataclass(frozen=True)
class Place:
    """An empty spot for one repository.

    *url* is what zfuse is told, *storage* the same for the official library, *data* a
    directory on this machine for the files that virtual chunks lie in.
    """

    url: str
    storage: icechunk.Storage
    data: Path

    @property
    def prefix(self) -> str:
        """URL prefix of the container that covers *data*."""
        return f"file://{self.data}/"


def local_place(directory: Path, name: str = "repository") -> Place:
    """Return a place below *directory*, which exists."""
    target = directory / name
    data = directory / f"{name}-virtual"
    data.mkdir(parents=True)
    return Place(str(target), icechunk.local_filesystem_storage(str(target)), data)


def s3_place(
    directory: Path, *, endpoint: str, bucket: str, prefix: str, key: str, secret: str
) -> Place:
    """Return a place in *bucket* at *endpoint*; *directory* gets the virtual files."""
    data = directory / f"{prefix.replace('/', '-')}-virtual"
    data.mkdir(parents=True)
    storage = icechunk.s3_storage(
        bucket=bucket,
        prefix=prefix,
        region="us-east-1",
        endpoint_url=endpoint,
        allow_http=endpoint.startswith("http://"),
        access_key_id=key,
        secret_access_key=secret,
        force_path_style=True,
    )
    return Place(f"s3://{bucket}/{prefix}", storage, data)


@dataclass(frozen=True)
class Ref:
    """A branch, a tag, or a snapshot by its id."""

    kind: RefKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name[:40]!r}"


@dataclass
class Made:
    """A finished repository.

    ``allow`` are the container prefixes that a reader must authorise. ``branches`` and
    ``tags`` give the true names with the snapshot each names; ``snapshots`` are all ids that
    can be opened, anonymous ones included. ``spec`` is the version of the repository.
    """

    place: Place
    spec: int
    allow: tuple[str, ...] = ()
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    snapshots: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """What zfuse is told."""
        return self.place.url

    def open(self) -> icechunk.Repository:
        """Open it with the official library, all containers authorised."""
        return icechunk.Repository.open(
            self.place.storage, authorize_virtual_chunk_access=access(*self.allow)
        )

    def refs(self) -> Iterator[Ref]:
        """Yield every ref of it."""
        yield from (Ref("branch", name) for name in self.branches)
        yield from (Ref("tag", name) for name in self.tags)
        yield from (Ref("snapshot", name) for name in self.snapshots)

    def snapshot_of(self, ref: Ref) -> str:
        """Return the id of the snapshot that *ref* names."""
        names = {"branch": self.branches, "tag": self.tags}
        return names[ref.kind][ref.name] if ref.kind in names else ref.name

    def with_refs(self, **more: Mapping[str, str]) -> "Made":
        """Fill in the refs that the official library lists, and *more* (branches, tags)."""
        repo = self.open()
        self.branches = {n: repo.lookup_branch(n) for n in _names(repo.list_branches(), more)}
        self.branches |= more.get("branches", {})
        self.tags = {n: repo.lookup_tag(n) for n in repo.list_tags()} | dict(more.get("tags", {}))
        self.snapshots = sorted(set(self.snapshots) | set(_known(repo, self)))
        return self


def _names(listed: set[str], more: Mapping[str, Mapping[str, str]]) -> set[str]:
    # Version 1 on a local file system lists odd names in their encoded form, which cannot
    # be looked up; whoever made them gives the true names.
    return {name for name in listed if "%" not in name} if more.get("branches") else listed


def _known(repo: icechunk.Repository, made: Made) -> Iterator[str]:
    if made.spec > 1:
        yield from (s["id"] for s in repo.inspect_repo_info()["snapshots"])
    for tip in {*made.branches.values(), *made.tags.values()}:
        yield from (s.id for s in repo.ancestry(snapshot_id=tip))


def access(*prefixes: str) -> dict[str, Any] | None:
    """Return what the official library wants in order to read from local containers."""
    granted = icechunk.credentials.LocalFileSystemAccess
    return dict.fromkeys(prefixes, granted) or None


def create(place: Place, spec: int, config: icechunk.RepositoryConfig | None = None, **kw: Any):
    """Make an empty repository of version *spec* at *place*."""
    return icechunk.Repository.create(place.storage, config=config, spec_version=spec, **kw)


@contextlib.contextmanager
def changing(repo: icechunk.Repository, message: str, **options: Any) -> Iterator[Any]:
    """Commit what the body does to the store that this gives; *options* are commit's."""
    branch = options.pop("branch", "main")
    session = repo.writable_session(branch)
    yield session.store
    session.commit(message, **options)


def container(place: Place, name: str | None = None) -> icechunk.VirtualChunkContainer:
    """Return the container that covers the virtual files of *place*."""
    store = icechunk.local_filesystem_store(str(place.data))
    return icechunk.VirtualChunkContainer(place.prefix, store, name)


def source(place: Place, name: str, content: bytes, mtime: int = 1_700_000_000) -> str:
    """Write a file that virtual chunks refer to; return its URL.

    Its time is a whole number of seconds, as the official library's check wants it.
    """
    path = place.data / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (mtime, mtime))
    return place.prefix + name
