"""What is known of versions."""

from zfuse.api.graph import AncestryGraph
from zfuse.api.values import Diff, ManifestFileInfo, SnapshotInfo

__all__ = ["AncestryGraph", "Diff", "ManifestFileInfo", "SnapshotInfo"]
