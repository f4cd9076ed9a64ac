"""Writing the manifests of a commit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import trio

from zfuse.format.ids import ManifestId, NodeId
from zfuse.format.manifest import Manifest
from zfuse.format.manifest_encoder import EncodedManifest, encode_manifest
from zfuse.format.snapshot import ArrayNode, ManifestFileInfo, ManifestRef, Node, Snapshot
from zfuse.repo.array_columns import stored_columns
from zfuse.repo.asset_manager import AssetManager
from zfuse.repo.at_once import at_once
from zfuse.repo.change_set import ChangeSet
from zfuse.repo.manifest_plan import ManifestPart, plan_manifests, plan_rewriting
from zfuse.repo.manifest_splits import splits_of
from zfuse.repo.new_ids import new_id

_AT_ONCE: Final = 16
_MANY_REFS: Final = 100_000
"""Manifests made of so many references are written alone, for the memory that takes."""


@dataclass(frozen=True, slots=True)
class FileSettings:
    """How files are written: the version of the specification, and the zstd level."""

    spec_version: int
    level: int


@dataclass(frozen=True, slots=True)
class WrittenNodes:
    """The nodes of a new version with their manifests, and what is known of those files."""

    nodes: tuple[Node, ...]
    manifest_files: Mapping[ManifestId, ManifestFileInfo]


async def write_manifests(
    assets: AssetManager,
    base: Snapshot,
    changes: ChangeSet,
    config: Mapping[str, Any],
    settings: FileSettings,
) -> WrittenNodes:
    """Store the manifests that *changes* of *base* take, and return the nodes of the result.

    *config* are the settings of the repository.
    """
    nodes: list[Node] = []
    writer = _Writer(assets, base, settings)
    for node in changes.apply(base.nodes):
        touched = node.id in changes.chunks or node.id in changes.updated
        if isinstance(node, ArrayNode) and touched:
            chunks = changes.chunks.get(node.id)
            tables = () if chunks is None else chunks.tables()
            plan = plan_manifests(node.manifests, tables, splits_of(node, config))
            writer.parts += [(node.id, part) for part in plan.written]
            nodes.append(replace(node, manifests=plan.kept))
        else:
            nodes.append(node)
    return await writer.finish(nodes)


async def write_all_manifests(
    assets: AssetManager, base: Snapshot, config: Mapping[str, Any], settings: FileSettings
) -> WrittenNodes:
    """Store all references of *base* in new manifests, and return its nodes with these.

    *config* are the settings of the repository, which say how they are split.
    """
    nodes: list[Node] = []
    writer = _Writer(assets, base, settings)
    for node in base.nodes:
        if isinstance(node, ArrayNode):
            plan = plan_rewriting(node.manifests, splits_of(node, config))
            writer.parts += [(node.id, part) for part in plan.written]
            nodes.append(replace(node, manifests=plan.kept))
        else:
            nodes.append(node)
    return await writer.finish(nodes)


class _Writer:
    """Writes manifests, several at once."""

    def __init__(self, assets: AssetManager, base: Snapshot, settings: FileSettings) -> None:
        self.parts: list[tuple[NodeId, ManifestPart]] = []
        self.files: dict[ManifestId, ManifestFileInfo] = {}
        self._refs: dict[NodeId, list[ManifestRef]] = {}
        self._assets = assets
        self._known = base.manifest_files
        self._settings = settings
        self._large = trio.Lock()

    async def finish(self, nodes: Sequence[Node]) -> WrittenNodes:
        """Write all parts, and return *nodes* with the manifests that were written for them."""
        jobs = (partial(self._write_bounded, node_id, part) for node_id, part in self.parts)
        await at_once(jobs, most=_AT_ONCE)
        return WrittenNodes(tuple(map(self._with_manifests, nodes)), {**self._known, **self.files})

    def _with_manifests(self, node: Node) -> Node:
        if not isinstance(node, ArrayNode) or node.id not in self._refs:
            return node
        refs = sorted((*node.manifests, *self._refs[node.id]), key=lambda ref: ref.extents)
        return replace(node, manifests=tuple(refs))

    async def _write_bounded(self, node_id: NodeId, part: ManifestPart) -> None:
        count = sum(map(len, part.changes)) + sum(
            self._known[ref.manifest_id].num_chunk_refs
            for ref in part.sources
            if ref.manifest_id in self._known
        )
        if count < _MANY_REFS:
            await self._write(node_id, part)
        else:
            async with self._large:
                await self._write(node_id, part)

    async def _write(self, node_id: NodeId, part: ManifestPart) -> None:
        sources = [await self._assets.fetch_manifest(ref.manifest_id) for ref in part.sources]
        manifest_id = new_id(ManifestId)
        encoded = await trio.to_thread.run_sync(
            _encode, manifest_id, node_id, part, sources, self._settings
        )
        if encoded is not None:
            await self._assets.store_manifest(manifest_id, encoded.data)
            self.files[manifest_id] = encoded.info
            self._refs.setdefault(node_id, []).append(encoded.refs[node_id])


def _encode(
    manifest_id: ManifestId,
    node_id: NodeId,
    part: ManifestPart,
    sources: Sequence[Manifest],
    settings: FileSettings,
) -> EncodedManifest | None:
    """Return the manifest of *part*, None if nothing is left in its box."""
    stored = [columns for manifest in sources for columns in stored_columns(manifest, node_id)]
    columns = part.compose(stored)
    if not columns:
        return None
    return encode_manifest(
        manifest_id,
        {node_id: columns},
        spec_version=settings.spec_version,
        level=settings.level,
    )
