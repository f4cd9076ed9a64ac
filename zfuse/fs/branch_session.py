"""The session of one branch: what is shown, how it is committed, and how it is taken back."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Final

import trio

from zfuse.errors import InvalidInputError, OutcomeUnknownError
from zfuse.format.chunk_ref import InlineRef
from zfuse.format.ids import SnapshotId
from zfuse.format.snapshot import Snapshot
from zfuse.fs.entry import Directory
from zfuse.fs.journal import ROOT_ROW, Journal, read_rows
from zfuse.fs.journal_commit import complete_commit, set_pending
from zfuse.fs.overlay_directory import OverlayDirectory
from zfuse.fs.overlay_file import OverlayFile
from zfuse.fs.plan import Problem, SessionRows, Walk
from zfuse.fs.plan_changes import Plan, Planner
from zfuse.fs.staged import Path, RowKind, StagedFile
from zfuse.fs.staging import Staging
from zfuse.fs.tree import Tree
from zfuse.fs.upload import Uploader
from zfuse.repo.commit import has_landed
from zfuse.repo.conflicts import DETECT, ConflictPolicy
from zfuse.repo.new_ids import new_id
from zfuse.repo.session import Session

log = logging.getLogger(__name__)

StaleNames = list[tuple[Directory, str]]
_SHOWN: Final = 5


class InvalidChangesError(InvalidInputError):
    """A session holds what can not be committed; ``problems`` says what, and why."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        told = "; ".join(f"{p.path}: {p.reason}" for p in problems[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        super().__init__(f"nothing was committed: {told}{more}; mend or zfuse discard them")


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """What a sync shall do; ``new_branch`` is one to make for the commit."""

    message: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    amends: bool = False
    allow_empty: bool = False
    policy: ConflictPolicy = DETECT
    new_branch: str | None = None


@dataclass(frozen=True, slots=True)
class SyncOutcome:
    """What a sync did: ``snapshot_id`` is None if there was nothing to commit.

    ``stale`` are names that the kernel must look up again.
    """

    branch: str
    snapshot_id: SnapshotId | None
    plan: Plan
    chunks_stored: int
    stale: StaleNames


class BranchSession:
    """A writable branch."""

    def __init__(self, tree: Tree, directory: FilePath, nursery: trio.Nursery) -> None:
        self.tree = tree
        tree.follows_session = True
        self.staging = Staging(tree, directory, nursery)
        self.root: OverlayDirectory | None = OverlayDirectory(self.staging, None, "", None)
        self.interrupted: set[int] = set()
        self.recovered = False
        self._uploader = Uploader(tree.repository, self.staging)
        self._working = trio.Lock()
        self._unsure: tuple[Session, int] | None = None
        self._landed: tuple[Snapshot, int] | None = None
        self._is_foreign = False

    @property
    def branch(self) -> str:
        """The name of the branch."""
        return self.tree.ref.name

    @property
    def has_changes(self) -> bool:
        """Whether anything differs from the base."""
        journal = self.staging.journal
        return journal is not None and not journal.is_empty

    async def upload_in_background(self) -> None:
        """Store chunks as they are closed, for ever."""
        await self._uploader.run()

    # --- the root ------------------------------------------------------------------------------

    async def remove_root(self) -> None:
        """Remove the root of the branch, which is empty.

        Raises:
            NotEmptyError: it is not.
        """
        root = self.root
        assert root is not None
        await root.remove_as_root()
        self.root = None

    def make_root(self, mode: int) -> OverlayDirectory:
        """Make the root anew: a tree with nothing in it."""
        journal = self.staging.begin()
        with journal.change():
            journal.run("DELETE FROM entry WHERE parent = ?", ROOT_ROW)
            row = journal.directory_row(ROOT_ROW)
            assert row is not None
            row.origin, row.pending, row.mode, row.mtime_ns = None, None, mode, time.time_ns()
            journal.save_directory(row)
        self.root = OverlayDirectory(self.staging, None, "", row)
        return self.root

    # --- after a crash -------------------------------------------------------------------------

    async def recover(self) -> None:
        """Go on with the session that is on disk.

        Raises:
            BusyError: another mount has it open.
            MissingObjectError: the snapshot that it changes is gone.
        """
        journal = self.staging.begin()
        pending = journal.pending_commit()
        base = journal.base
        if pending is not None:
            landed = await has_landed(self.tree.repository, self.branch, pending.snapshot_id)
            if landed:
                completed = complete_commit(journal, pending.snapshot_id, pending.cut)
                for blob in completed.blobs:
                    journal.blobs.remove(blob)
                log.info("branch %s: commit %s had landed", self.branch, pending.snapshot_id)
                base = pending.snapshot_id
            else:
                journal.abandon_commit()
        if base is not None and base != self.tree.snapshot_id and self.has_changes:
            self.tree.move(await self.tree.prepare(base), ())
        elif base != self.tree.snapshot_id:
            journal.set_facts(base=str(self.tree.snapshot_id))
        self.staging.stamp += 1
        await trio.to_thread.run_sync(self._examine_blobs, journal)
        assert self.root is not None
        self.root.row = self.staging.root_row()
        self.recovered = self.has_changes
        if self.recovered:
            log.info("branch %s: a session with changes was found", self.branch)

    def _examine_blobs(self, journal: Journal) -> None:
        sizes = journal.blobs.sizes()
        used: set[str] = set()
        for row_id, blob, size, closed in journal.run("SELECT id, blob, size, closed FROM file"):
            if blob is None:
                continue
            used.add(blob)
            found = sizes.get(blob, -1)
            if not closed or found != size:
                self.interrupted.add(row_id)
                journal.run("UPDATE file SET size = ? WHERE id = ?", max(found, 0), row_id)
        for blob in sizes.keys() - used:
            journal.blobs.remove(blob)

    # --- looking -------------------------------------------------------------------------------

    async def plan(self) -> Plan:
        """Return what a commit would do now."""
        journal = self.staging.journal
        if journal is None:
            return await self._plan_of(_NO_ROWS)
        async with self.staging.naming:
            rows, _ = await self._rows(journal)
        return await self._plan_of(rows)

    async def _rows(self, journal: Journal) -> tuple[SessionRows, int]:
        """Return the rows of this moment, and how new the newest of them is."""
        database = journal.connect()
        try:
            database.execute("BEGIN")
            database.execute("SELECT 1 FROM fact LIMIT 1").fetchall()
            cut = journal.seq
            writing = {
                file.staged.id
                for file in self.staging.live
                if isinstance(file, OverlayFile) and file.staged is not None
                if file.is_being_written
            }
            directories, files, names = await trio.to_thread.run_sync(read_rows, database)
        finally:
            database.close()
        self.interrupted &= {i for i, file in files.items() if not file.is_closed} - writing
        unclosed = {i for i, file in files.items() if not file.is_closed}
        return (
            SessionRows(
                directories,
                files,
                names,
                frozenset((unclosed | writing) - self.interrupted),
                frozenset(self.interrupted),
            ),
            cut,
        )

    async def _plan_of(self, rows: SessionRows) -> Plan:
        repository = self.tree.repository
        view = await self.tree.view()
        planner = Planner(repository.assets, view)
        root = rows.directories.get(ROOT_ROW)
        walk = Walk(rows, view, repository.state.spec_version, self._read)
        if root is None:
            return await planner.plan(walk.found)
        return await planner.plan(await trio.to_thread.run_sync(walk.run, root))

    def _read(self, file: StagedFile) -> bytes:
        if isinstance(file.ref, InlineRef):
            return file.ref.data
        if file.blob is None:
            raise InvalidInputError("its bytes are those of a chunk")
        return self.staging.begin().blobs.read(file.blob)

    # --- committing ----------------------------------------------------------------------------

    async def sync(
        self, request: SyncRequest, progress: Callable[[int, int], None] = lambda done, whole: None
    ) -> SyncOutcome:
        """Commit all that was closed; *progress* is told the bytes stored, and of how many.

        Raises:
            InvalidChangesError: some of it can not be committed, so nothing was.
            BranchConflictError: others changed the same things; nothing is lost.
            OutcomeUnknownError: whether it landed is not known; the next sync finds out.
            StorageError: the store failed; the session is as it was.
        """
        async with self._working:
            await self._finish()
            if not (self.has_changes or request.amends or request.allow_empty):
                return SyncOutcome(self.branch, None, await self.plan(), 0, [])
            async with self.staging.naming:
                journal = self.staging.begin()
                rows, cut = await self._rows(journal)
                set_pending(journal, paths := _paths(rows))
                for place in self._live_directories():
                    if place.row is not None:
                        place.row.pending = paths.get(place.row.id)
                self.staging.cut = cut
                self.staging.frozen = frozenset(
                    file.blob
                    for i, file in rows.files.items()
                    if file.blob is not None and i not in rows.open_files
                )
            try:
                return await self._commit(request, rows, cut, progress)
            finally:
                if self._unsure is None and self._landed is None:
                    self._abandon()

    async def _commit(
        self,
        request: SyncRequest,
        rows: SessionRows,
        cut: int,
        progress: Callable[[int, int], None],
    ) -> SyncOutcome:
        plan = await self._plan_of(rows)
        if plan.invalid:
            raise InvalidChangesError(plan.invalid)
        if plan.is_empty and not request.amends and not request.allow_empty:
            return SyncOutcome(self.branch, None, plan, 0, [])
        stored = await self._store(plan, progress)
        base = (await self.tree.view()).snapshot
        session = Session(self.tree.repository, self.branch, base, plan.changes)
        if request.new_branch is not None:
            await session.branch_off(request.new_branch)
        snapshot_id = new_id(SnapshotId)
        self.staging.begin().begin_commit(snapshot_id, cut, plan.kept)
        try:
            landed: SnapshotId | None = snapshot_id
            if request.amends:
                await session.amend(
                    request.message, metadata=request.metadata, snapshot_id=snapshot_id
                )
            else:
                landed = await session.commit(
                    request.message,
                    metadata=request.metadata,
                    policy=request.policy,
                    allow_empty=request.allow_empty,
                    snapshot_id=snapshot_id,
                )
        except OutcomeUnknownError:
            self._unsure = (session, cut)
            raise
        self._landed = (session.base, cut)
        if request.new_branch is not None:
            tip = self.tree.repository.branches.get(self.branch)
            if tip is not None:
                view = await self.tree.repository.assets.fetch_hierarchy(tip)
                self._landed = (view.snapshot, cut)
        self._is_foreign = request.new_branch is not None or await self._has_foreign(base, session)
        stale = await self._complete()
        return SyncOutcome(session.branch, landed, plan, stored, stale)

    async def _has_foreign(self, before: Snapshot, session: Session) -> bool:
        """Tell whether the new snapshot has more than what the session changed."""
        info = await self.tree.repository.snapshot_info(session.base.id)
        return info.parent_id != before.id

    async def _store(self, plan: Plan, progress: Callable[[int, int], None]) -> int:
        before, done = self._uploader.stored, 0
        whole = sum(file.size for file in plan.files())

        def count(size: int) -> None:
            nonlocal done
            done += size
            progress(done, whole)

        refs = await self._uploader.store_all(plan.files(), count)
        for node_id, chunk in plan.staged:
            assert chunk.file is not None
            plan.changes.set_chunk(node_id, chunk.coords, refs[chunk.file.id])
        return self._uploader.stored - before

    async def _finish(self) -> None:
        """Bring what an earlier sync began to an end, as far as that can be known."""
        if self._unsure is not None:
            session, cut = self._unsure
            landed = await session.finish()
            self._unsure = None
            if landed is None:
                self._abandon()
            else:
                self._landed, self._is_foreign = (session.base, cut), True
        if self._landed is not None:
            await self._complete()

    def _abandon(self) -> None:
        staging = self.staging
        staging.cut, staging.frozen = None, frozenset()
        staging.clear_blobs()
        if staging.journal is not None:
            staging.journal.abandon_commit()
        for place in self._live_directories():
            if place.row is not None:
                place.row.pending = None

    async def _complete(self) -> StaleNames:
        """Let the snapshot that landed show through, with what came after it on top."""
        assert self._landed is not None
        snapshot, cut = self._landed
        version = await self.tree.prepare(snapshot.id)
        async with self.staging.naming:
            journal = self.staging.begin()
            completed = complete_commit(journal, snapshot.id, cut)
            self.tree.move(version, ())
            staging = self.staging
            staging.stamp += 1
            staging.cut, staging.frozen, self._landed = None, frozenset(), None
            for place in self._live_directories():
                if place.row is not None and place.row.id in completed.directories:
                    place.row = None
                elif place.row is not None:
                    place.row.origin = completed.origins.get(place.row.id)
                    place.row.pending = None
            for file in self._live_files():
                if file.staged is not None and file.staged.id in completed.files:
                    self.staging.files.pop(file.staged.id, None)
                    file.committed()
            for blob in completed.blobs:
                staging.drop_blob(blob)
            staging.clear_blobs()
        if not self._is_foreign:
            return []
        self._is_foreign = False
        return await self.reconcile()

    # --- following the branch ------------------------------------------------------------------

    async def advance(self, target: SnapshotId) -> StaleNames:
        """Let the branch show the snapshot *target* that others brought, with all changes.

        Raises:
            BranchConflictError: others changed the same things; everything stays as it is.
        """
        async with self._working:
            await self._finish()
            if target == self.tree.snapshot_id:
                return []
            if self.has_changes:
                target = await self._rebased()
            version = await self.tree.prepare(target)
            async with self.staging.naming:
                self.tree.move(version, ())
                self.staging.stamp += 1
                if self.staging.journal is not None:
                    self.staging.journal.set_facts(base=str(target))
            return await self.reconcile()

    async def _rebased(self) -> SnapshotId:
        plan = await self.plan()
        for node_id, chunk in plan.staged:
            plan.changes.set_chunk(node_id, chunk.coords, InlineRef(b"staged"))
        base = (await self.tree.view()).snapshot
        session = Session(self.tree.repository, self.branch, base, plan.changes)
        await session.rebase(DETECT)
        return session.base.id

    async def reconcile(self) -> StaleNames:
        """Find the entries whose names mean something else since another base shows through."""
        stale: StaleNames = []
        for entry in list(self.staging.live):
            if isinstance(entry, OverlayFile):
                if entry.staged is None and not entry.is_gone and not await entry.is_current():
                    place = entry.directory
                    assert isinstance(place, OverlayDirectory)
                    place.detach(entry.name)
                    stale.append((place, entry.name))
            elif (
                isinstance(entry, OverlayDirectory)
                and entry.row is None
                and entry.parent is not None
                and not entry.is_gone
                and await entry.lower() is None
            ):
                entry.parent.detach(entry.name)
                stale.append((entry.parent, entry.name))
        return stale

    def _live_directories(self) -> list[OverlayDirectory]:
        return [e for e in self.staging.live if isinstance(e, OverlayDirectory)]

    def _live_files(self) -> list[OverlayFile]:
        return [e for e in self.staging.live if isinstance(e, OverlayFile)]


_NO_ROWS: Final = SessionRows({}, {}, {}, frozenset(), frozenset())


def _paths(rows: SessionRows) -> dict[int, Path]:
    """Return the path of every directory of a session."""
    found: dict[int, Path] = {ROOT_ROW: ()}
    pending = [ROOT_ROW]
    while pending:
        row_id = pending.pop()
        for name, entry in rows.names.get(row_id, ()):
            if entry.kind is RowKind.DIRECTORY:
                found[entry.child] = (*found[row_id], name)
                pending.append(entry.child)
    return found
