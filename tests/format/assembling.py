"""Makes whole repositories out of nothing but what the format layer writes."""

from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import numpy as np

from tests.compat.documents import GROUP, array_document
from zfuse.format import initial
from zfuse.format import repo_update as change
from zfuse.format.chunk_ref import NativeRef
from zfuse.format.ids import INITIAL_SNAPSHOT, ChunkId, ManifestId, NodeId, ObjectId, SnapshotId
from zfuse.format.layout import (
    REPO_INFO_KEY,
    backup_name,
    chunk_key,
    manifest_key,
    overwritten_key,
    snapshot_key,
    transaction_log_key,
)
from zfuse.format.manifest import Manifest
from zfuse.format.manifest_encoder import encode_manifest
from zfuse.format.ref_columns import RefColumns, merge
from zfuse.format.ref_file import branch_key, encode_ref, tag_key, tombstone_key
from zfuse.format.repo_info import RepoInfo, SnapshotInfo
from zfuse.format.repo_info_encoder import encode_repo_info
from zfuse.format.snapshot import ArrayNode, DimensionShape, GroupNode, Snapshot
from zfuse.format.snapshot_encoder import encode_snapshot
from zfuse.format.stored_refs import stored_refs
from zfuse.format.transaction_log import MoveOperation, TransactionLog
from zfuse.format.transaction_log_encoder import encode_transaction_log

_BEGAN = 1_700_000_000_000_000


@dataclass
class Edit:
    """What one commit does: nodes by path, chunks by path and index, or in columns.

    A chunk of None is deleted. ``moves`` are from path to path, of arrays.
    """

    nodes: dict = field(default_factory=dict)
    chunks: dict = field(default_factory=dict)
    moves: dict = field(default_factory=dict)


class Assembler:
    """Writes the files of one repository into a directory."""

    def __init__(self, root: Path, spec_version: int, config=None) -> None:
        self.root = root
        self.spec_version = spec_version
        self._numbers = count(1)
        self._clock = count(_BEGAN, 1_000_000)
        at = self.now()
        self.snapshots = {
            INITIAL_SNAPSHOT: initial.initial_snapshot(spec_version=spec_version, flushed_at=at)
        }
        self.put(snapshot_key(INITIAL_SNAPSHOT), encode_snapshot(self.snapshots[INITIAL_SNAPSHOT]))
        if spec_version == 1:
            self.put_ref(branch_key("main", encoded_names=True), INITIAL_SNAPSHOT)
        else:
            log = initial.initial_transaction_log()
            self.put(transaction_log_key(INITIAL_SNAPSHOT), encode_transaction_log(log))
            info = initial.initial_repo_info(flushed_at=at, config=config)
            self.put(REPO_INFO_KEY, encode_repo_info(info))

    def now(self) -> int:
        """Return the next second."""
        return next(self._clock)

    def new_id(self, kind):
        """Return an id; they come in no order."""
        number = next(self._numbers) * 0x9E3779B97F4A7C15 % 2**64
        return kind(number.to_bytes(8) + bytes(kind.SIZE - 8))

    def put(self, key: str, data: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def put_ref(self, key: str, target: SnapshotId) -> None:
        self.put(key, encode_ref(target))

    def native(self, data: bytes) -> NativeRef:
        """Store a chunk; return the reference to it."""
        chunk_id = self.new_id(ChunkId)
        self.put(chunk_key(chunk_id), data)
        return NativeRef(chunk_id, 0, len(data))

    def update(self, make, *arguments, page_size=1000, **options) -> None:
        """Change the repo info by *make*, one of the functions of repo_update."""
        old = (self.root / REPO_INFO_KEY).read_bytes()
        at = self.now()
        name = backup_name(REPO_INFO_KEY, at, self.new_id(ObjectId))
        stamp = change.Stamp(at, name, page_size)
        info = make(RepoInfo.decode(old), *arguments, stamp, **options)
        self.put(overwritten_key(name), old)
        self.put(REPO_INFO_KEY, encode_repo_info(info))

    def commit(self, edit: Edit, message: str, branch: str = "main", metadata=None) -> SnapshotId:
        """Commit *edit* to a branch."""
        info = self.write(edit, message, self.tip(branch), metadata)
        if self.spec_version == 1:
            self.put_ref(branch_key(branch, encoded_names=True), info.id)
        else:
            self.update(change.add_commit, branch, info)
        return info.id

    def tip(self, branch: str) -> SnapshotId:
        if self.spec_version == 1:
            data = (self.root / branch_key(branch, encoded_names=True)).read_text()
            return SnapshotId.parse(data.split('"')[3])
        return RepoInfo.decode((self.root / REPO_INFO_KEY).read_bytes()).branches[branch]

    def delete_tag(self, name: str) -> None:
        if self.spec_version == 1:
            self.put(tombstone_key(name, encoded_names=True), b"")
        else:
            self.update(change.delete_tag, name)

    def create_tag(self, name: str, target: SnapshotId) -> None:
        if self.spec_version == 1:
            self.put_ref(tag_key(name, encoded_names=True), target)
        else:
            self.update(change.create_tag, name, target)

    def create_branch(self, name: str, target: SnapshotId) -> None:
        if self.spec_version == 1:
            self.put_ref(branch_key(name, encoded_names=True), target)
        else:
            self.update(change.create_branch, name, target)

    def write(
        self, edit: Edit, message: str, parent: SnapshotId, metadata=None, base=None
    ) -> SnapshotInfo:
        """Write manifests, snapshot and transaction log of *edit* on the snapshot *base*."""
        old = self.snapshots[base or parent]
        snapshot_id = self.new_id(SnapshotId)
        log = replace(
            initial.initial_transaction_log(), spec_version=self.spec_version, id=snapshot_id
        )
        nodes = {node.path: node for node in old.nodes}
        log = self._change_nodes(nodes, edit, log)
        files = dict(old.manifest_files)
        log = self._change_chunks(nodes, edit, log, files)
        snapshot = Snapshot(
            spec_version=self.spec_version,
            id=snapshot_id,
            parent_id=parent,
            flushed_at=self.now(),
            message=message,
            metadata=metadata or {},
            manifest_files=files,
            nodes=tuple(nodes.values()),
        )
        self.snapshots[snapshot_id] = snapshot
        self.put(snapshot_key(snapshot_id), encode_snapshot(snapshot))
        self.put(transaction_log_key(snapshot_id), encode_transaction_log(log))
        return SnapshotInfo(snapshot_id, parent, snapshot.flushed_at, message, snapshot.metadata)

    def _change_nodes(self, nodes, edit: Edit, log: TransactionLog) -> TransactionLog:
        for source, target in edit.moves.items():
            nodes[target] = replace(nodes.pop(source), path=target)
            is_array = isinstance(nodes[target], ArrayNode)
            move = MoveOperation(source, target, nodes[target].id, is_array=is_array)
            log = replace(log, moved_nodes=(*log.moved_nodes, move))
        for path, (document, shape) in edit.nodes.items():
            before = nodes.pop(path, None)
            node_id = self.new_id(NodeId) if before is None else before.id
            kind = "groups" if shape is None else "arrays"
            verb = "new" if before is None else "deleted" if document is None else "updated"
            log = replace(log, **{f"{verb}_{kind}": getattr(log, f"{verb}_{kind}") | {node_id}})
            if document is not None:
                nodes[path] = _node(node_id, path, document, shape, before)
        return log

    def _change_chunks(self, nodes, edit: Edit, log: TransactionLog, files) -> TransactionLog:
        for path, chunks in edit.chunks.items():
            node = nodes[path]
            rank = len(node.shape)
            new = chunks
            if not isinstance(chunks, RefColumns):
                new = RefColumns.of_refs(rank, [(c, ref) for c, ref in chunks.items() if ref])
            changed = new.coords if new is chunks else _indices(chunks, rank)
            old = [self._stored(ref.manifest_id, node.id, rank) for ref in node.manifests]
            refs = merge([*(part.without(changed) for part in old), new])
            manifests = ()
            if len(refs):
                file = encode_manifest(
                    self.new_id(ManifestId), {node.id: [refs]}, spec_version=self.spec_version
                )
                self.put(manifest_key(file.info.manifest_id), file.data)
                files[file.info.manifest_id] = file.info
                manifests = (file.refs[node.id],)
            nodes[path] = replace(node, manifests=manifests)
            log = replace(log, updated_chunks={**log.updated_chunks, node.id: (changed,)})
        return log

    def _stored(self, manifest_id: ManifestId, node_id: NodeId, rank: int) -> RefColumns:
        manifest = Manifest.decode((self.root / manifest_key(manifest_id)).read_bytes())
        return stored_refs(manifest.array(node_id, rank))


def _indices(chunks, rank: int):
    return np.array(list(chunks), np.uint32).reshape(len(chunks), rank)


def _node(node_id, path, document, shape, before):
    if shape is None:
        return GroupNode(node_id, path, document)
    manifests = () if before is None else before.manifests
    return ArrayNode(node_id, path, document, shape, None, manifests)


def group():
    """Return a node for an Edit."""
    return GROUP, None


def array(shape, chunks):
    """Return a node for an Edit."""
    dimensions = tuple(
        DimensionShape(length, -(-length // step))
        for length, step in zip(shape, chunks, strict=True)
    )
    return array_document(shape, chunks), dimensions


def gone(*, is_array):
    """Return what deletes a node in an Edit."""
    return None, () if is_array else None
