"""The first pass of a check: all snapshots with their logs, and which manifests they have."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Final

import trio

from zfuse.errors import CorruptionError, UnsupportedVersionError
from zfuse.format.header import FileType
from zfuse.format.ids import ManifestId, NodeId, SnapshotId
from zfuse.format.layout import snapshot_key, transaction_log_key
from zfuse.format.order import disorders
from zfuse.format.snapshot import ArrayNode, ManifestRef, Snapshot
from zfuse.format.transaction_log import TransactionLog
from zfuse.maintenance.fsck_entry import Entry, labels_of
from zfuse.maintenance.fsck_findings import Counts, Finding
from zfuse.maintenance.fsck_listing import GONE, list_sizes, read_objects, unreferenced
from zfuse.maintenance.fsck_manifest import ManifestUses, Use
from zfuse.maintenance.fsck_snapshot import (
    Documents,
    Expected,
    Fault,
    counts_of,
    log_faults,
    needs_log,
    overlapping,
    snapshot_faults,
)
from zfuse.storage.base import Storage

_AT_ONCE: Final = 8
_MOST_LABELS: Final = 8
_MOST_OVERLAPS: Final = 1000


class ManifestMap:
    """Which manifests the snapshots have, and how.

    ``firsts`` are the first users of all, by number; ``overlaps`` are manifests of one array
    whose extents overlap.
    """

    def __init__(self) -> None:
        self.manifests: dict[ManifestId, ManifestUses] = {}
        self.firsts: list[Use] = []
        self.overlaps: list[tuple[Use, ManifestRef, ManifestRef]] = []
        self._uses: dict[object, Use] = {}
        self._looked_at: dict[NodeId, tuple[ManifestRef, ...]] = {}

    def note(self, snapshot: Snapshot, labels: Sequence[str], *, is_tip: bool) -> None:
        """Note which manifests the arrays of *snapshot* have, which is called *labels*."""
        for node in snapshot.nodes:
            if isinstance(node, ArrayNode) and node.manifests:
                counts = counts_of(node)
                uses = [self._use(node, ref, counts) for ref in node.manifests]
                for use in uses:
                    if is_tip or not use.refs:
                        use.refs += labels[: max(0, _MOST_LABELS - len(use.refs))]
                self._note_overlaps(node, uses[0])
        for info in snapshot.manifest_files.values():
            if info.manifest_id in self.manifests:
                self.manifests[info.manifest_id].infos.add(info)

    def _note_overlaps(self, node: ArrayNode, use: Use) -> None:
        if self._looked_at.get(node.id) != node.manifests:
            self._looked_at[node.id] = node.manifests
            pairs = overlapping(node)[:_MOST_OVERLAPS]
            self.overlaps += [(use, one, other) for one, other in pairs]

    def _use(self, node: ArrayNode, ref: ManifestRef, counts: tuple[int, ...]) -> Use:
        key = (ref.manifest_id, node.id, counts, ref.extents)
        use = self._uses.get(key)
        if use is None:
            use = self._uses[key] = Use(node.id, node.path, counts, ref.extents)
            uses = self.manifests.get(ref.manifest_id)
            if uses is None:
                uses = ManifestUses(ref.manifest_id, number=len(self.firsts))
                self.manifests[ref.manifest_id] = uses
                self.firsts.append(use)
            uses.uses.append(use)
        return use


class HistoryCheck:
    """Looks at every snapshot that the repository knows.

    ``manifests`` is whole when it has ended, as are ``seen``, the snapshots, and
    ``unreferenced``, the garbage by folder.
    """

    def __init__(self, storage: Storage, entry: Entry) -> None:
        self.manifests = ManifestMap()
        self.unreferenced: dict[str, Counts] = {}
        listed = () if entry.info is None else entry.info.snapshots
        # Those that refs show come first, so that faults are told of them.
        self._pending = list(dict.fromkeys((*entry.tips, *listed)))
        self.seen: set[SnapshotId] = set(self._pending)
        self._storage = storage
        self._entry = entry
        self._documents = Documents()
        self._times: dict[SnapshotId, int] = {}
        self._parents: dict[SnapshotId, SnapshotId] = {}

    async def findings(self) -> AsyncGenerator[Finding]:
        """Yield what is wrong with snapshots and transaction logs."""
        while self._pending:
            batch, self._pending = self._pending[:_AT_ONCE], self._pending[_AT_ONCE:]
            keys = [k for i in batch for k in (snapshot_key(i), transaction_log_key(i))]
            blobs = await read_objects(self._storage, keys)
            for snapshot_id in batch:
                checked = _CheckedSnapshot(self._entry, snapshot_id, blobs)
                snapshot = await trio.to_thread.run_sync(checked.decode, self._documents)
                for finding in checked.found:
                    yield finding
                if snapshot is not None:
                    self._take(snapshot_id, snapshot, checked.labels)
        for finding in self._ancestry_v1():
            yield finding
        async for finding in self._logs():
            yield finding

    def _take(self, snapshot_id: SnapshotId, snapshot: Snapshot, labels: Sequence[str]) -> None:
        is_tip = snapshot_id in self._entry.tips
        self.manifests.note(snapshot, labels, is_tip=is_tip)
        if self._entry.info is None:
            self._times[snapshot_id] = snapshot.flushed_at
            if snapshot.parent_id is not None:
                self._parents[snapshot_id] = snapshot.parent_id
                if snapshot.parent_id not in self.seen:
                    self.seen.add(snapshot.parent_id)
                    self._pending.append(snapshot.parent_id)

    def _ancestry_v1(self) -> Iterator[Finding]:
        """Yield the snapshots that are no younger than their parents, as those of a loop."""
        for child, parent in self._parents.items():
            if parent in self._times and self._times[parent] >= self._times[child]:
                labels = labels_of(child, self._entry.tips)
                problem = f"it is not younger than its parent {parent}"
                yield Finding(snapshot_key(child), problem, refs=labels)

    async def _logs(self) -> AsyncGenerator[Finding]:
        """Yield the logs of expired snapshots that are gone, though others need them."""
        snapshots = await list_sizes(self._storage, "snapshots/")
        logs = await list_sizes(self._storage, "transactions/")
        needed = set(self.seen)
        infos = () if self._entry.info is None else self._entry.info.snapshots.values()
        for info in infos:
            for log_id in info.pruned_ancestor_tx_logs:
                if log_id not in needed and transaction_log_key(log_id) not in logs:
                    problem = "gone, though a snapshot has it in place of an expired parent"
                    labels = labels_of(info.id, self._entry.tips)
                    yield Finding(transaction_log_key(log_id), problem, refs=labels)
                needed.add(log_id)
        self.unreferenced["snapshots"] = unreferenced(snapshots, map(snapshot_key, self.seen))
        self.unreferenced["transactions"] = unreferenced(logs, map(transaction_log_key, needed))


class _CheckedSnapshot:
    """A snapshot and its log, and what is wrong with them."""

    def __init__(
        self, entry: Entry, snapshot_id: SnapshotId, blobs: dict[str, bytes | str]
    ) -> None:
        info = entry.info.snapshots.get(snapshot_id) if entry.info is not None else None
        self.found: list[Finding] = []
        self.labels = labels_of(snapshot_id, entry.tips)
        self._expected = Expected(snapshot_id, entry.spec_version, info)
        self._key, self._log_key = snapshot_key(snapshot_id), transaction_log_key(snapshot_id)
        self._data, self._log = blobs.pop(self._key), blobs.pop(self._log_key)
        self._is_gone = False

    def _add(self, key: str, fault: Fault) -> None:
        self.found.append(Finding(key, fault.problem, fault.path, tuple(self.labels)))

    def decode(self, documents: Documents) -> Snapshot | None:
        """Check both; return the snapshot, None if it can not be read."""
        if not isinstance(self._data, bytes):
            self._add(self._key, Fault(self._data))
            return None
        try:
            snapshot = Snapshot.decode(self._data)
        except (CorruptionError, UnsupportedVersionError) as exc:
            self._add(self._key, Fault(f"damaged: {exc}"))
            return None
        for wrong in disorders(self._data, FileType.SNAPSHOT):
            problem = f"its {wrong.what} are out of order, or one comes twice"
            self._add(self._key, Fault(problem))
        for fault in snapshot_faults(snapshot, self._expected, documents):
            self._add(self._key, fault)
        self._check_log(snapshot)
        return snapshot

    def _check_log(self, snapshot: Snapshot) -> None:
        key = self._log_key
        if not isinstance(self._log, bytes):
            if needs_log(snapshot.id) or self._log != GONE:
                self._add(key, Fault(self._log))
            return
        try:
            log = TransactionLog.decode(self._log)
        except (CorruptionError, UnsupportedVersionError) as exc:
            self._add(key, Fault(f"damaged: {exc}"))
            return
        for wrong in disorders(self._log, FileType.TRANSACTION_LOG):
            self._add(key, Fault(f"its {wrong.what} are out of order, or one comes twice"))
        for fault in log_faults(log, self._expected, snapshot):
            self._add(key, fault)
