"""Repositories of both writers that a check finds sound, and how faults are planted in them."""

import shutil
import struct
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import icechunk
import numpy as np

from tests.compat.documents import GROUP, array_document, put_all
from tests.compat.place import access, container, create, local_place, source
from tests.format.building import unwrap, wrap
from tests.repo.driving import NoVirtualChunks
from zfuse.errors import StorageError
from zfuse.format.chunk_ref import VirtualRef
from zfuse.format.flat import FlatBuffer
from zfuse.format.ids import SnapshotId
from zfuse.format.manifest import Manifest
from zfuse.format.manifest_encoder import encode_manifest
from zfuse.format.ref_columns import RefColumns, merge
from zfuse.format.ref_file import branch_key
from zfuse.format.repo_info import RepoInfo
from zfuse.format.repo_info_encoder import encode_repo_info
from zfuse.format.snapshot import ManifestFileInfo, Snapshot
from zfuse.format.snapshot_encoder import encode_snapshot
from zfuse.format.transaction_log import TransactionLog
from zfuse.format.transaction_log_encoder import encode_transaction_log
from zfuse.maintenance.fsck import Depth, RepositoryCheck
from zfuse.repo.array_columns import stored_columns
from zfuse.repo.repository import Repository
from zfuse.repo.session import Session
from zfuse.repo.virtual import AllowedPrefix, VirtualChunkResolver
from zfuse.storage.local import LocalStorage

SQUARE = array_document((4, 4), (2, 2), dimension_names=["y", "x"])
LINE = array_document((8,), (1,))
BIG = 700  # bytes of a chunk that is an object of its own
FIRST = {"zarr.json": GROUP, "g/zarr.json": GROUP, "a/zarr.json": SQUARE, "line/zarr.json": LINE}
FIRST |= {"a/c/0/0": b"A" * BIG, "a/c/0/1": b"B" * BIG, "a/c/1/0": b"tiny"}
FIRST |= {f"line/c/{n}": b"%d" % n * BIG for n in range(8)}
SECOND = {"line/c/3": b"new", "g/inner/zarr.json": GROUP, "v/zarr.json": LINE}
MTIME = 1_700_000_000


@dataclass
class Planted:
    """A copy of a repository to be damaged; ``data`` has the files of its virtual chunks."""

    root: Path
    data: Path
    spec: int

    def file(self, key):
        return self.root / key

    def info(self):
        return RepoInfo.decode(self.file("repo").read_bytes())

    def tip(self):
        if self.spec > 1:
            return self.info().branches["main"]
        text = self.file(branch_key("main", encoded_names=True)).read_text()
        return SnapshotId.parse(text.split('"')[3])

    def parent(self):
        if self.spec > 1:
            return self.info().snapshots[self.tip()].parent_id
        return self.snapshot().parent_id

    def snapshot(self, snapshot_id=None):
        key = f"snapshots/{snapshot_id or self.tip()}"
        return Snapshot.decode(self.file(key).read_bytes())

    def node(self, path):
        (found,) = [node for node in self.snapshot().nodes if node.path == path]
        return found

    def manifest_key(self, path="/a", number=0):
        return f"manifests/{self.node(path).manifests[number].manifest_id}"

    def log_key(self):
        return f"transactions/{self.tip()}"

    def chunk_key(self, path="/a", row=0):
        manifest = Manifest.decode(self.file(self.manifest_key(path)).read_bytes())
        columns = self.columns(manifest, path)
        ids = [str(manifest.array(self.node(path).id, columns.rank).ref(row).chunk_id)]
        return f"chunks/{ids[0]}"

    def columns(self, manifest, path):
        (columns,) = stored_columns(manifest, self.node(path).id)
        return columns

    def change_info(self, **changes):
        """Write the repo info anew, with other values of its fields."""
        self.file("repo").write_bytes(encode_repo_info(replace(self.info(), **changes)))

    def change_snapshot(self, snapshot_id=None, **changes):
        """Write a snapshot anew, with other values of its fields."""
        snapshot_id = snapshot_id or self.tip()
        changed = replace(self.snapshot(snapshot_id), **changes)
        self.file(f"snapshots/{snapshot_id}").write_bytes(encode_snapshot(changed))

    def change_node(self, path, **changes):
        nodes = [replace(n, **changes) if n.path == path else n for n in self.snapshot().nodes]
        self.change_snapshot(nodes=tuple(nodes))

    def change_log(self, **changes):
        log = TransactionLog.decode(self.file(self.log_key()).read_bytes())
        self.file(self.log_key()).write_bytes(encode_transaction_log(replace(log, **changes)))

    def change_refs(self, path, change):
        """Write the first manifest of an array with what *change* makes of its columns.

        All snapshots get its size and number of references.
        """
        key = self.manifest_key(path)
        manifest = Manifest.decode(self.file(key).read_bytes())
        columns = change(self.columns(manifest, path))
        parts = columns if isinstance(columns, list) else [columns]
        encoded = encode_manifest(manifest.id, {self.node(path).id: parts}, spec_version=self.spec)
        self.file(key).write_bytes(encoded.data)
        self.set_file_info(encoded.info)

    def set_file_info(self, info: ManifestFileInfo):
        for path in self.root.glob("snapshots/*"):
            snapshot = Snapshot.decode(path.read_bytes())
            if info.manifest_id in snapshot.manifest_files:
                files = {**snapshot.manifest_files, info.manifest_id: info}
                path.write_bytes(encode_snapshot(replace(snapshot, manifest_files=files)))

    def cut(self, key, size=60):
        """Leave the first bytes of a file."""
        self.file(key).write_bytes(self.file(key).read_bytes()[:size])

    def patch(self, key, at, *data):
        """Replace single bytes of a file."""
        content = bytearray(self.file(key).read_bytes())
        content[at : at + len(data)] = bytes(data)
        self.file(key).write_bytes(content)

    def patch_payload(self, key, change):
        """Let *change* work on the flatbuffer inside of a file, and on its size in snapshots."""
        data = self.file(key).read_bytes()
        payload = bytearray(unwrap(data))
        change(payload, FlatBuffer(bytes(payload)).root())
        data = wrap(data[37], bytes(payload), data[36])
        self.file(key).write_bytes(data)
        if key.startswith("manifests/"):
            manifest_id = Manifest.decode(data).id
            for path in self.root.glob("snapshots/*"):
                known = Snapshot.decode(path.read_bytes()).manifest_files.get(manifest_id)
                if known is not None:
                    self.set_file_info(replace(known, size_bytes=len(data)))


def swap(payload, table, slot, *, first=0, double=False):
    """Exchange two neighbours in a vector of tables, or let the second be the first, too."""
    start, count = table.vector(slot, 4)
    assert count > first + 1
    places = [start + 4 * (first + n) for n in (0, 1)]
    targets = [at + struct.unpack_from("<I", payload, at)[0] for at in places]
    if double:
        targets[1] = targets[0]
    else:
        targets.reverse()
    for at, target in zip(places, targets, strict=True):
        struct.pack_into("<I", payload, at, target - at)


def put_number(payload, table, slot, code, value):
    """Overwrite a scalar field that is there."""
    struct.pack_into(code, payload, table._find(slot, struct.calcsize(code)), value)


class ZfuseReader:
    """Opens the local files that virtual chunks lie in."""

    async def open_container(self, root, store, credentials):
        assert root == "file:///"
        return LocalStorage(Path("/"))


async def check(root, *, allowed=(), depth=Depth(), storage=None):  # noqa: B008
    """Return the findings of a check of the repository in a directory, and its summary."""
    resolver = VirtualChunkResolver({}, [AllowedPrefix(p) for p in allowed], ZfuseReader())
    looked = RepositoryCheck(storage or LocalStorage(root), resolver, depth)
    found = [finding async for finding in looked.findings()]
    return found, looked.summary


def told(findings):
    """Return findings as lines, to be compared and shown."""
    return [
        f"{f.object}: {f.problem} [{f.path}] {'' if f.chunks is None else f.chunks.tolist()}"
        for f in findings
    ]


class Unreadable(LocalStorage):
    """A directory on a disk that can not read some objects any more."""

    def __init__(self, root, prefix):
        super().__init__(root)
        self.prefix = prefix

    async def get(self, key):
        self._fail(key)
        return await super().get(key)

    async def get_range(self, key, byte_range, *, unmodified=None):
        self._fail(key)
        return await super().get_range(key, byte_range, unmodified=unmodified)

    def _fail(self, key):
        if key.startswith(self.prefix):
            raise StorageError(f"{key}: Input/output error")


def _new(directory, spec):
    config = icechunk.RepositoryConfig.default()
    place = local_place(directory)
    axis = icechunk.ManifestSplitDimCondition.Axis(0)
    rule = icechunk.ManifestSplitCondition.path_matches("^/line$")
    config.manifest = icechunk.ManifestConfig(
        splitting=icechunk.ManifestSplittingConfig.from_dict({rule: {axis: 3}})
    )
    config.set_virtual_chunk_container(container(place, "virt"))
    if spec > 1:
        config.num_updates_per_repo_info_file = 3
    options = {"authorize_virtual_chunk_access": access(place.prefix)}
    repo = create(place, spec, config, **options)
    repo.save_config()
    for name in ("one.bin", "two.bin"):
        source(place, name, bytes(range(256)) * 4, MTIME)
    return place, repo


def virtual_refs(prefix):
    """Return the virtual chunks of /v by their index."""
    one, two = prefix + "one.bin", prefix + "two.bin"
    places = [(one, 0, 600), (one, 600, 100), (two, 24, 1000), ("vcc://virt/two.bin", 0, 20)]
    return {n: VirtualRef(*place, last_modified=MTIME) for n, place in enumerate(places)}


def _refs(repo):
    """Make some branches and tags."""
    main = repo.lookup_branch("main")
    repo.create_tag("v1", main)
    repo.create_tag("gone", main)
    repo.delete_tag("gone")
    repo.create_branch("dev", main)


def make_icechunk(directory, spec):
    """Make the repository with the official library."""
    place, repo = _new(directory, spec)
    session = repo.writable_session("main")
    put_all(session.store, FIRST)
    session.commit("first")
    _refs(repo)
    session = repo.writable_session("main")
    put_all(session.store, SECOND)
    when = datetime.fromtimestamp(MTIME, UTC)
    for n, ref in virtual_refs(place.prefix).items():
        session.store.set_virtual_ref(
            f"v/c/{n}",
            ref.location,
            offset=ref.offset,
            length=ref.size,
            checksum=when,
        )
    session.commit("second")
    return Planted(directory / "repository", place.data, spec)


async def make_zfuse(directory, spec):
    """Make the same with sessions of zfuse."""
    place, _ = _new(directory, spec)
    root = directory / "repository"
    await _commit(root, FIRST, {}, "first")
    _refs(icechunk.Repository.open(place.storage))
    await _commit(root, SECOND, virtual_refs(place.prefix), "second")
    return Planted(root, place.data, spec)


async def _commit(root, entries, virtual, message):
    repository = await Repository.open(LocalStorage(root), virtual=_Silent())
    session = await Session.open(repository, "main")
    for key, data in entries.items():
        if key.endswith("zarr.json"):
            await session.set_metadata(("/" + key).removesuffix("/zarr.json") or "/", data)
    for key, data in entries.items():
        path, mark, numbers = ("/" + key).partition("/c/")
        if mark:
            await session.set_chunk(path, tuple(map(int, numbers.split("/"))), data)
    for n, ref in virtual.items():
        await session.set_chunk_ref("/v", (n,), ref)
    await session.commit(message)


class _Silent(NoVirtualChunks):
    def declare(self, containers):
        pass


def copy(made, directory):
    """Return a copy of a repository, to be damaged; its virtual files stay where they are."""
    root = directory / "copy"
    shutil.copytree(made.root, root)
    return Planted(root, made.data, made.spec)


def with_row(columns, row, **values):
    """Return columns with other values in one row."""
    changed = {}
    for name, value in values.items():
        column = np.array(getattr(columns, name))
        column[row] = value
        changed[name] = column
    return replace(columns, **changed)


def with_ref(columns, coords, ref):
    """Return columns with one reference more, or another one."""
    return merge([columns, RefColumns.of_refs(len(coords), [(coords, ref)])])
