"""Decodes a file and asks for everything in it, as somebody must before it is called safe."""

import contextlib

import numpy as np

from zfuse.errors import CorruptionError, UnsupportedVersionError
from zfuse.format.config import RepositoryConfig
from zfuse.format.header import FileType
from zfuse.format.manifest import Manifest
from zfuse.format.repo_info import RepoInfo
from zfuse.format.snapshot import ArrayNode, Snapshot
from zfuse.format.transaction_log import TransactionLog
from zfuse.format.zarr_json import ArrayMetadata

REFUSALS = (CorruptionError, UnsupportedVersionError)


def snapshot(data):
    """Decode a snapshot, and the zarr.json of every array in it."""
    decoded = Snapshot.decode(data)
    paths = [node.path.encode() for node in decoded.nodes]
    assert paths == sorted(set(paths))
    assert decoded.nbytes >= 0
    for node in decoded.nodes:
        if isinstance(node, ArrayNode):
            with contextlib.suppress(CorruptionError):
                ArrayMetadata.parse(node.user_data)


def manifest(data):
    """Decode a manifest and use all references of all its arrays."""
    decoded = Manifest.decode(data)
    assert decoded.nbytes > 0
    for node_id in decoded.node_ids():
        ranks = decoded.ranks(node_id)
        assert ranks
        assert decoded.array(node_id, max(ranks) + 1) is None
        for rank in ranks:
            array(decoded.array(node_id, rank))


def array(references):
    """Use every reference of an array."""
    count = len(references)
    coords = references.coords(0, count)
    assert coords.shape == (count, references.rank)
    assert np.array_equal(references.find_many(coords), np.arange(count))
    sizes = references.sizes(0, count).tolist()
    assert references.rows_under(()) == (0, count)
    for row, (index, size) in enumerate(zip(coords.tolist(), sizes, strict=True)):
        assert references.find(index) == row
        assert references.rows_under(index) == (row, row + 1)
        with contextlib.suppress(CorruptionError):
            assert references.ref(row).size == size


def transaction_log(data):
    """Decode a transaction log."""
    decoded = TransactionLog.decode(data)
    for ranks in decoded.updated_chunks.values():
        for coords in ranks:
            assert coords.tolist() == sorted(map(list, set(map(tuple, coords.tolist()))))


def repo_info(data):
    """Decode a repo info file, interpret its config and walk all ancestries."""
    decoded = RepoInfo.decode(data)
    RepositoryConfig.from_values(decoded.config)
    for snapshot_id in (*decoded.branches.values(), *decoded.tags.values(), *decoded.snapshots):
        seen = set()
        current = snapshot_id
        while current is not None:
            assert current not in seen
            seen.add(current)
            current = decoded.snapshots[current].parent_id


def config(data):
    """Read a config.yaml."""
    RepositoryConfig.from_yaml(data)


EXERCISES = {
    FileType.SNAPSHOT: snapshot,
    FileType.MANIFEST: manifest,
    FileType.TRANSACTION_LOG: transaction_log,
    FileType.REPO_INFO: repo_info,
}


def one_line(refusal):
    """Check that the message of an error is fit for a log."""
    assert "\n" not in str(refusal)


def exercise(data):
    """Read the file *data*, whichever kind its header says it is.

    Returns:
        Whether it was read; if not it was refused in a proper way.
    """
    kind = data[37] if len(data) > 37 else 0
    try:
        EXERCISES.get(kind, snapshot)(data)
    except REFUSALS as refusal:
        one_line(refusal)
        return False
    return True
