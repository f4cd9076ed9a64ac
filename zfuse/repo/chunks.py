"""Find the references of an array's chunks in its manifests, loading only those needed."""

from collections.abc import Sequence
from dataclasses import dataclass

from cachetools import LRUCache

from zfuse.format.chunk_ref import ChunkRef
from zfuse.format.manifest import ArrayManifest, Manifest
from zfuse.format.snapshot import ArrayNode, ManifestRef
from zfuse.repo.asset_manager import AssetManager


@dataclass(frozen=True, slots=True)
class ChunkRows:
    """A run of rows in one manifest."""

    references: ArrayManifest
    start: int
    stop: int


class ChunkIndex:
    """Answers where the chunks of arrays are."""

    def __init__(self, assets: AssetManager) -> None:
        self._assets = assets
        self._ranks: LRUCache[object, tuple[int, ...]] = LRUCache(1 << 12)

    async def find(self, node: ArrayNode, coords: Sequence[int]) -> ChunkRef | None:
        """Return the reference of the chunk at *coords*, None if it was never written.

        Raises:
            MissingObjectError, CorruptionError: a manifest that may hold it can not be read.
        """
        for manifest_ref in covering(node, coords):
            manifest = await self._manifest(manifest_ref)
            references = manifest.array(node.id, len(coords))
            if references is None:
                continue
            row = references.find(coords)
            if row is not None:
                return references.ref(row)
        return None

    async def rows(self, node: ArrayNode, prefix: Sequence[int], rank: int) -> list[ChunkRows]:
        """Return the written chunks whose index has *rank* numbers and starts with *prefix*."""
        found: list[ChunkRows] = []
        for manifest_ref in covering(node, prefix):
            manifest = await self._manifest(manifest_ref)
            references = manifest.array(node.id, rank)
            if references is None:
                continue
            start, stop = references.rows_under(prefix)
            if start < stop:
                found.append(ChunkRows(references, start, stop))
        return found

    async def has_any(self, node: ArrayNode, prefix: Sequence[int], rank: int) -> bool:
        """Tell whether any chunk's index starts with *prefix*, loading as little as it takes."""
        for manifest_ref in covering(node, prefix):
            references = (await self._manifest(manifest_ref)).array(node.id, rank)
            if references is not None:
                start, stop = references.rows_under(prefix)
                if start < stop:
                    return True
        return False

    def cached(self, node: ArrayNode, rank: int) -> tuple[list[ArrayManifest], list[ManifestRef]]:
        """Return the references that are in memory, and the manifests that are not."""
        found: list[ArrayManifest] = []
        elsewhere: list[ManifestRef] = []
        for manifest_ref in node.manifests:
            manifest = self._assets.cached_manifest(manifest_ref.manifest_id)
            if manifest is None:
                elsewhere.append(manifest_ref)
            elif (references := manifest.array(node.id, rank)) is not None:
                found.append(references)
        return found, elsewhere

    async def odd_ranks(self, node: ArrayNode, prefix: Sequence[int]) -> Sequence[int]:
        """Return the ranks other than the array's among indices that may start with *prefix*."""
        ranks: set[int] = set()
        for manifest_ref in covering(node, prefix):
            manifest = await self._manifest(manifest_ref)
            found = self._ranks.get((manifest.id, node.id))
            if found is None:  # it takes a look at every reference
                found = self._ranks[manifest.id, node.id] = manifest.ranks(node.id)
            ranks.update(found)
        return sorted(ranks - {len(node.shape)})

    async def _manifest(self, manifest_ref: ManifestRef) -> Manifest:
        manifest_id = manifest_ref.manifest_id
        return self._assets.cached_manifest(manifest_id) or await self._assets.fetch_manifest(
            manifest_id
        )


def covering(node: ArrayNode, prefix: Sequence[int]) -> Sequence[ManifestRef]:
    """Return the manifests that may hold chunks whose index starts with *prefix*."""
    if not prefix or len(node.manifests) <= 1:
        return node.manifests
    return [ref for ref in node.manifests if covers(ref, prefix)]


def covers(ref: ManifestRef, prefix: Sequence[int]) -> bool:
    """Tell whether a manifest may hold chunks whose index starts with *prefix*."""
    # Extents of another rank than the index (see Manifest.ranks) say nothing about it.
    return all(
        low <= number < high for number, (low, high) in zip(prefix, ref.extents, strict=False)
    )
