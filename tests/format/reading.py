"""Reads files of a repository that a test has just made."""

from pathlib import Path

from zfuse.format.manifest import Manifest
from zfuse.format.snapshot import Snapshot


def array_of(data, rank):
    """Return the references of the first array in the manifest file *data*."""
    decoded = Manifest.decode(data)
    return decoded.array(decoded.node_ids()[0], rank)


def decoded_snapshot(place, name):
    """Return the snapshot *name* of the repository at *place*."""
    return Snapshot.decode(Path(place.url, "snapshots", name).read_bytes())


def manifests_of(place, node):
    """Yield the manifests of an array."""
    for ref in node.manifests:
        path = Path(place.url, "manifests", str(ref.manifest_id))
        yield Manifest.decode(path.read_bytes())
