"""All references of an array at once, as columns."""

from collections.abc import Sequence

import trio

from zfuse.format.ids import NodeId
from zfuse.format.manifest import Manifest
from zfuse.format.ref_columns import RefColumns, merge
from zfuse.format.snapshot import ArrayNode
from zfuse.format.stored_refs import stored_refs
from zfuse.repo.asset_manager import AssetManager
from zfuse.repo.change_set import ChangeSet


async def array_columns(
    assets: AssetManager, array: ArrayNode, layers: Sequence[ChangeSet]
) -> list[RefColumns]:
    """Return the references of *array* with changes on top, the oldest of *layers* first.

    There are no columns, or one of the rank of the array. What is stored under another rank
    is left out, no reader finds it.
    """
    rank = len(array.shape)
    manifests = [await assets.fetch_manifest(ref.manifest_id) for ref in array.manifests]
    parts = await trio.to_thread.run_sync(_of_rank, manifests, array.id, rank)
    for layer in layers:
        changes = layer.chunks.get(array.id)
        for table in () if changes is None else changes.tables():
            if table.rank == rank:
                parts = [part.without(table.deleted) for part in parts]
                parts.append(table.refs)
    parts = [part for part in parts if len(part)]
    return [merge(parts)] if parts else []


def _of_rank(manifests: Sequence[Manifest], node_id: NodeId, rank: int) -> list[RefColumns]:
    columns = [part for manifest in manifests for part in stored_columns(manifest, node_id)]
    return [part for part in columns if part.rank == rank]


def stored_columns(manifest: Manifest, node_id: NodeId) -> list[RefColumns]:
    """Return the references of an array in *manifest*, one part per rank."""
    arrays = [manifest.array(node_id, rank) for rank in manifest.ranks(node_id)]
    return [stored_refs(array) for array in arrays if array is not None]
