"""Replaces the files of a repository, under their own names, by what zfuse writes for them."""

from dataclasses import replace
from pathlib import Path

from zfuse.format.manifest import Manifest
from zfuse.format.manifest_encoder import EncodedManifest, encode_manifest
from zfuse.format.repo_info import RepoInfo
from zfuse.format.repo_info_encoder import encode_repo_info
from zfuse.format.snapshot import ArrayNode, Snapshot
from zfuse.format.snapshot_encoder import encode_snapshot
from zfuse.format.stored_refs import stored_refs
from zfuse.format.transaction_log import TransactionLog
from zfuse.format.transaction_log_encoder import encode_transaction_log

_SPEC_VERSION_AT = 36


def rewrite(repository: Path) -> int:
    """Rewrite every file of *repository* that is not a chunk; return how many there were."""
    manifests = {}
    for path in repository.glob("manifests/*"):
        encoded = _manifest(path.read_bytes())
        manifests[encoded.info.manifest_id] = encoded
        path.write_bytes(encoded.data)
    others = 0
    for pattern, rewritten in {
        "snapshots/*": lambda data: _snapshot(data, manifests),
        "transactions/*": lambda data: encode_transaction_log(TransactionLog.decode(data)),
        "repo": lambda data: encode_repo_info(RepoInfo.decode(data)),
        "overwritten/repo.*": lambda data: encode_repo_info(RepoInfo.decode(data)),
    }.items():
        for path in repository.glob(pattern):
            path.write_bytes(rewritten(path.read_bytes()))
            others += 1
    return len(manifests) + others


def _manifest(data: bytes) -> EncodedManifest:
    manifest = Manifest.decode(data)
    arrays = {
        node_id: [stored_refs(manifest.array(node_id, n)) for n in manifest.ranks(node_id)]
        for node_id in manifest.node_ids()
    }
    return encode_manifest(manifest.id, arrays, spec_version=data[_SPEC_VERSION_AT])


def _snapshot(data: bytes, manifests: dict[object, EncodedManifest]) -> bytes:
    snapshot = Snapshot.decode(data)
    known = {manifest_id: encoded.info for manifest_id, encoded in manifests.items()}
    infos = {i: known.get(i, info) for i, info in snapshot.manifest_files.items()}
    for old, new in zip(snapshot.manifest_files.values(), infos.values(), strict=True):
        assert old.num_chunk_refs == new.num_chunk_refs
    for node in snapshot.nodes:
        if isinstance(node, ArrayNode):
            for ref in node.manifests:
                box = manifests[ref.manifest_id].refs[node.id].extents
                # Official writers may give more dimensions where indices are of several ranks.
                assert ref.extents[: len(box)] == box
                assert len(box) in {len(ref.extents), 1}
    return encode_snapshot(replace(snapshot, manifest_files=infos))
