"""Keeping a repository healthy: expiration, garbage, manifests, sums."""

import warnings
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from zfuse.api.administration_values import ChunkStorageStats, GCSummary
from zfuse.api.boundary import twins
from zfuse.api.opened import Opening
from zfuse.api.refs import branch_tip
from zfuse.api.values import microseconds
from zfuse.maintenance.expire import expire_snapshots
from zfuse.maintenance.gc import collect_garbage
from zfuse.maintenance.rewrite_manifests import rewrite_manifests
from zfuse.maintenance.stats import chunk_storage_stats

CommitMethod = Literal["new_commit", "amend"]


class Maintenance:
    """The part of a repository that is for whoever looks after it.

    Limits of memory and requests are taken as the official library takes them; only
    *max_concurrent_deletes* does something, as zfuse needs little memory here.
    """

    _opening: Opening

    async def _expire_snapshots(
        self,
        older_than: datetime,
        *,
        delete_expired_branches: bool = False,
        delete_expired_tags: bool = False,
    ) -> set[str]:
        """Take snapshots that were written before a time out of the history; return their ids.

        The first snapshot and the tips of refs stay; what a ref was at before goes with
        *delete_expired_branches* and *delete_expired_tags*.
        """
        gone = await expire_snapshots(
            await self._opening.fresh(),
            microseconds(older_than),
            delete_expired_branches=delete_expired_branches,
            delete_expired_tags=delete_expired_tags,
        )
        return set(map(str, gone))

    async def _garbage_collect(  # noqa: PLR0913 - the official signature
        self,
        delete_object_older_than: datetime,
        *,
        dry_run: bool = False,
        max_snapshots_in_memory: int = 50,
        max_compressed_manifest_mem_bytes: int = 512 << 20,
        max_decoded_manifest_mem_bytes: int = 4 << 30,
        max_concurrent_manifest_fetches: int = 500,
        max_concurrent_deletes: int = 10,
        max_consecutive_delete_failures: int = 50,
        max_concurrent_listings: int | None = None,
    ) -> GCSummary:
        """Delete objects that were stored before a time and that no version needs.

        The time must lie before any session began that is not committed yet.
        """
        summary = await collect_garbage(
            await self._opening.fresh(),
            microseconds(delete_object_older_than),
            dry_run=dry_run,
            max_concurrent_deletes=max_concurrent_deletes,
        )
        return GCSummary.of(summary)

    async def _rewrite_manifests(
        self,
        message: str,
        *,
        branch: str,
        metadata: Mapping[str, Any] | None = None,
        commit_method: CommitMethod = "new_commit",
    ) -> str:
        """Write the manifests of a branch anew, as the settings say; return the new snapshot."""
        engine = await self._opening.fresh()
        branch_tip(engine, branch)
        made = await rewrite_manifests(
            engine, message, branch=branch, metadata=metadata, commit_method=commit_method
        )
        return str(made)

    async def _chunk_storage_stats(
        self,
        *,
        max_snapshots_in_memory: int = 50,
        max_compressed_manifest_mem_bytes: int = 512 << 20,
        max_decoded_manifest_mem_bytes: int = 4 << 30,
        max_concurrent_manifest_fetches: int = 500,
    ) -> ChunkStorageStats:
        """Return how many bytes the chunks of all versions occupy."""
        return ChunkStorageStats.of(await chunk_storage_stats(await self._opening.fresh()))

    async def _total_chunks_storage(
        self,
        *,
        max_snapshots_in_memory: int = 50,
        max_compressed_manifest_mem_bytes: int = 512 << 20,
        max_decoded_manifest_mem_bytes: int = 4 << 30,
        max_concurrent_manifest_fetches: int = 500,
    ) -> int:
        """Return how many bytes the chunks with an object of their own occupy."""
        warnings.warn(
            "total_chunks_storage is deprecated: use chunk_storage_stats().native_bytes",
            DeprecationWarning,
            stacklevel=2,
        )
        return (await self._chunk_storage_stats()).native_bytes

    expire_snapshots, expire_snapshots_async = twins(_expire_snapshots)
    garbage_collect, garbage_collect_async = twins(_garbage_collect)
    rewrite_manifests, rewrite_manifests_async = twins(_rewrite_manifests)
    chunk_storage_stats, chunk_storage_stats_async = twins(_chunk_storage_stats)
    total_chunks_storage, total_chunks_storage_async = twins(_total_chunks_storage)
