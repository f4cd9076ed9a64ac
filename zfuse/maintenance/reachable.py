"""Everything that snapshots lead to: their manifests, and the chunks these refer to."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Final

import trio

from zfuse.errors import MissingObjectError, NotFoundError
from zfuse.format.ids import ManifestId, SnapshotId
from zfuse.format.layout import snapshot_key
from zfuse.format.manifest import Manifest
from zfuse.format.ref_columns import RefColumns
from zfuse.format.repo_info import SnapshotInfo
from zfuse.format.snapshot import ManifestFileInfo
from zfuse.repo.array_columns import stored_columns
from zfuse.repo.asset_manager import AssetManager
from zfuse.repo.at_once import at_once
from zfuse.repo.repository import Repository

Tell = Callable[[str, int, int], None]
"""Is told of progress: what is being done, how much of it is done, and how much there is."""

_SNAPSHOTS_AT_ONCE: Final = 8
_MANIFESTS_AT_ONCE: Final = 16
_MANY_REFS: Final = 100_000
"""Manifests of so many references are read alone, for the memory that takes."""


def quiet(what: str, done: int, whole: int) -> None:
    """Tell nobody."""


async def snapshots_of_refs(repository: Repository) -> dict[SnapshotId, SnapshotInfo]:
    """Return the snapshots that the refs lead to, as of ``state``.

    Raises:
        MissingObjectError: the file of one is gone, so what lies beyond it is not known.
    """
    found: dict[SnapshotId, SnapshotInfo] = {}
    pending = [*repository.branches.values(), *repository.tags.values()]
    while pending:
        snapshot_id = pending.pop()
        if snapshot_id in found:
            continue
        try:
            found[snapshot_id] = await repository.snapshot_info(snapshot_id)
        except NotFoundError as exc:
            place = f"{repository.storage.url}/{snapshot_key(snapshot_id)}"
            raise MissingObjectError(
                f"{place} is referenced but gone; restore it from a copy"
            ) from exc
        parent_id = found[snapshot_id].parent_id
        if parent_id is not None:
            pending.append(parent_id)
    return found


async def manifests_of(
    assets: AssetManager, snapshots: Iterable[SnapshotId], tell: Tell = quiet
) -> dict[ManifestId, ManifestFileInfo]:
    """Return what is known of the manifests of *snapshots*.

    Raises:
        MissingObjectError: the file of a snapshot is gone.
    """
    wanted = list(snapshots)
    found: dict[ManifestId, ManifestFileInfo] = {}
    done = 0

    async def look(snapshot_id: SnapshotId) -> None:
        nonlocal done
        found.update(await assets.fetch_manifest_files(snapshot_id))
        done += 1
        tell("snapshots", done, len(wanted))

    await at_once((partial(look, each) for each in wanted), most=_SNAPSHOTS_AT_ONCE)
    return found


async def visit_references(
    assets: AssetManager,
    manifests: Mapping[ManifestId, ManifestFileInfo],
    visit: Callable[[RefColumns], None],
    tell: Tell = quiet,
) -> None:
    """Call *visit* with all references of each array in each of *manifests*, of each rank.

    It is called in worker threads, never twice at the same time.

    Raises:
        MissingObjectError: the file of a manifest is gone.
    """
    one_large, one_visit = trio.Lock(), trio.Lock()
    done = 0

    def visit_all(manifest: Manifest) -> None:
        for node_id in manifest.node_ids():
            for columns in stored_columns(manifest, node_id):
                visit(columns)

    async def read(manifest_id: ManifestId) -> None:
        nonlocal done
        manifest = await assets.fetch_manifest(manifest_id)
        async with one_visit:
            await trio.to_thread.run_sync(visit_all, manifest)
        done += 1
        tell("manifests", done, len(manifests))

    async def read_bounded(info: ManifestFileInfo) -> None:
        if info.num_chunk_refs < _MANY_REFS:
            await read(info.manifest_id)
        else:
            async with one_large:
                await read(info.manifest_id)

    jobs: list[Callable[[], Awaitable[None]]] = [
        partial(read_bounded, info) for info in manifests.values()
    ]
    await at_once(jobs, most=_MANIFESTS_AT_ONCE)
