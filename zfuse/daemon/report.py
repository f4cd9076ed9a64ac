"""What a mount tells about itself: ``status``, and the files in ``.zfuse/``."""

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zfuse.daemon.assemble import Assembled
from zfuse.daemon.metrics import counter, exposition, gauge, storage_metrics
from zfuse.daemon.settings import MountSettings
from zfuse.fs.tree import Trees
from zfuse.fs.writable import WritableBranches


@dataclass(frozen=True, slots=True)
class Occupancy:
    """How much the kernel keeps a mount from forgetting."""

    open_handles: int
    known_inodes: int


class MountReport:
    """Describes one mount, from memory alone."""

    def __init__(
        self,
        settings: MountSettings,
        mountpoint: Path,
        parts: Assembled,
        trees: Trees,
        occupancy: Callable[[], Occupancy],
        writable: WritableBranches | None = None,
    ) -> None:
        self.since_ns = time.time_ns()
        self._settings = settings
        self._mountpoint = mountpoint
        self._repository = parts.repository
        self._storages = parts.storages
        self._trees = trees
        self._occupancy = occupancy
        self._writable = writable

    def files(self) -> Mapping[str, Callable[[], bytes]]:
        """Return the makers of the control files, by name."""
        return {
            "status.json": lambda: _json(self.status()),
            "config.json": lambda: _json(self.config()),
            "stats": self.metrics,
        }

    def status(self) -> dict[str, Any]:
        """Return what is mounted, which snapshots it shows, and what it cannot show."""
        trees = sorted(self._trees.open_trees(), key=lambda tree: str(tree.ref))
        state = self._repository.state
        return {
            "repository": self._repository.storage.url,
            "spec_version": state.spec_version,
            "mountpoint": str(self._mountpoint),
            "ref": None if self._settings.ref is None else str(self._settings.ref),
            "read_only": not self._settings.rw,
            "pid": os.getpid(),
            "mounted_at": _rfc3339(self.since_ns // 1000),
            "refreshed_at": _rfc3339(state.fetched_at),
            "trees": [{"ref": str(tree.ref), "snapshot": str(tree.snapshot_id)} for tree in trees],
            "not_shown": [
                {"ref": str(tree.ref), "path": path, "reason": reason}
                for tree in trees
                for path, reason in tree.not_shown()
            ],
            "sessions": [] if self._writable is None else self._writable.facts(),
        }

    def config(self) -> dict[str, Any]:
        """Return the settings in force, without secrets."""
        settings = asdict(self._settings)
        for secret in ("secret_access_key", "session_token"):
            settings["storage"].pop(secret, None)
        return settings

    def metrics(self) -> bytes:
        """Return counters and gauges in Prometheus' text format."""
        assets = self._repository.assets
        chunks, budget, now = assets.chunk_cache, assets.budget, self._occupancy()
        return exposition(
            [
                gauge("memory_bytes", "Bytes held by the caches.", budget.used),
                gauge("memory_limit_bytes", "Memory budget.", budget.limit),
                counter("cache_hits_total", "Blocks of chunks found in memory.", chunks.hits),
                counter("cache_misses_total", "Blocks of chunks not in memory.", chunks.misses),
                gauge("open_handles", "Open files and directories.", now.open_handles),
                gauge("known_inodes", "Entries that the kernel may name.", now.known_inodes),
                *storage_metrics(self._storages),
            ]
        )


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2, default=str).encode() + b"\n"


def _rfc3339(microseconds: int) -> str:
    moment = datetime.fromtimestamp(microseconds / 1e6, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
