"""The session of one branch: how it is committed, follows the branch, and is taken back."""

import contextlib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any, Final

import trio

from zfuse.errors import (
    AlreadyExistsError,
    ConflictError,
    NotFoundError,
    StorageError,
    ZfuseError,
)
from zfuse.format.chunk_ref import InlineRef
from zfuse.format.ids import SnapshotId
from zfuse.format.snapshot import Snapshot
from zfuse.fs.journal import PendingCommit
from zfuse.fs.journal_commit import Completed, complete_commit, set_pending
from zfuse.fs.kept_session import KeptSession
from zfuse.fs.overlay_directory import OverlayDirectory
from zfuse.fs.overlay_file import OverlayFile
from zfuse.fs.plan import SessionRows
from zfuse.fs.plan_changes import Plan, taken_along
from zfuse.fs.plan_summary import summary
from zfuse.fs.session_edits import StaleNames, copy, discard_all, discard_paths
from zfuse.fs.staged import Path
from zfuse.fs.sync_request import InvalidChangesError, SyncOutcome, SyncRequest
from zfuse.fs.tree import Tree
from zfuse.fs.upload import Uploader
from zfuse.repo.conflicts import DETECT
from zfuse.repo.new_ids import new_id
from zfuse.repo.session import Session

_SHOWN: Final = 5


class BranchSession(KeptSession):
    """The session of a writable branch, and how it becomes commits."""

    def __init__(self, tree: Tree, directory: FilePath, nursery: trio.Nursery) -> None:
        super().__init__(tree, directory, nursery)
        self._uploader = Uploader(tree.repository, self.staging)
        self._working = trio.Lock()
        self._unsure: tuple[Session, Snapshot, int] | None = None
        self._landed: tuple[Snapshot, int] | None = None
        self._is_foreign = False
        self._gives_way = False  # what was written here may not be what the base has then

    async def upload_in_background(self) -> None:
        """Store chunks as they are closed, and clear up what is left behind, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._uploader.run)
            nursery.start_soon(self.staging.sweep_in_background)

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
            stale = await self._finish()
            if not (self.has_changes or request.amends or request.allow_empty):
                told = await self._summary(await self.plan())
                return SyncOutcome(self.branch, None, told, 0, stale)
            await self.closed_for_good()
            async with self.staging.naming:
                journal = self.staging.begin()
                with self.staging.holding():
                    rows, cut = await self.rows(journal)
                    # From the journal itself: a directory may have got a row meanwhile.
                    paths = set_pending(journal)
                    for place in self._live_directories():
                        if place.row is not None:
                            place.row.pending = paths.get(place.row.id)
                    files = rows.files.items()
                    blobs = (file.blob for i, file in files if i not in rows.open_files)
                    self.staging.begin_commit(rows.names, filter(None, blobs))
            try:
                outcome = await self._commit(request, rows, cut, progress)
                return replace(outcome, stale=stale + outcome.stale)
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
        plan = await self.plan_of(rows)
        if plan.invalid:
            raise InvalidChangesError(plan.invalid)
        told = await self._summary(plan)  # by the base as it is before the commit
        base = (await self.tree.view()).snapshot
        if plan.is_empty and not request.amends and not request.allow_empty:
            # What was written is what the base has: nothing of it need be kept.
            self.staging.begin().begin_commit(PendingCommit(base.id, cut, self.branch), plan.kept)
            self._landed = (base, cut)
            return SyncOutcome(self.branch, None, told, 0, await self._complete())
        stored = await self._store(plan, progress)
        with contextlib.ExitStack() as waiting:
            if await self._has_moved(base, request):
                # What is written while this goes on top of theirs could hide theirs.
                waiting.enter_context(self.staging.changes_wait())
                await (await self._touching(base)).rebase(request.policy)
            outcome = await self._make_commit(request, plan, base, cut)
        return replace(outcome, summary=told, chunks_stored=stored)

    async def _make_commit(
        self, request: SyncRequest, plan: Plan, base: Snapshot, cut: int
    ) -> SyncOutcome:
        """Publish a plan whose chunks are stored, and let the session go on from there."""
        session = Session(self.tree.repository, self.branch, base, plan.changes)
        if request.new_branch is not None:
            await self._branch_off(session, request.new_branch)
        snapshot_id = new_id(SnapshotId)
        pending = PendingCommit(snapshot_id, cut, session.branch)
        journal = self.staging.begin()
        journal.begin_commit(pending, plan.kept)
        await trio.to_thread.run_sync(journal.sync)
        self._gives_way = request.gives_way
        try:
            landed = await _publish(session, request, snapshot_id)
        except BaseException:
            # A cancellation leaves it open too.
            if session.is_unsure:
                self._unsure = (session, base, cut)
            raise
        self._note_landed(session, base, cut)
        if request.new_branch is not None:
            self._landed = (await self._tip() or base, cut)
        else:
            self._is_foreign = landed is None or await self._has_foreign(base, session)
        return SyncOutcome(session.branch, landed, {}, 0, await self._complete())

    async def _branch_off(self, session: Session, name: str) -> None:
        """Have *session* commit to a new branch, or to one that an earlier try made for it."""
        try:
            await session.branch_off(name)
        except AlreadyExistsError:
            await self.tree.repository.refresh()
            tip = self.tree.repository.branches.get(name)
            is_own = self.staging.begin().fact("onto") == name != self.branch
            if tip != session.base.id or not is_own:
                raise
            session.branch = name

    async def _summary(self, plan: Plan) -> Mapping[str, Any]:
        return summary(plan, await self.tree.view())

    def _note_landed(self, session: Session, base: Snapshot, cut: int) -> None:
        """Note, before anything else can go wrong, that changes of *base* are committed.

        Where they went to another branch, this one shows what it has without them.
        """
        is_own = session.branch == self.branch
        self._landed = (session.base if is_own else base, cut)
        self._unsure, self._is_foreign = None, True

    async def _tip(self) -> Snapshot | None:
        """Return what the branch points at, None if that is nothing or can not be had now."""
        tip = self.tree.repository.branches.get(self.branch)
        if tip is None:
            return None
        try:
            return (await self.tree.repository.assets.fetch_hierarchy(tip)).snapshot
        except StorageError:
            return None

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

    async def _finish(self) -> StaleNames:
        """Bring what an earlier sync began to an end, as far as that can be known."""
        if self._unsure is not None:
            session, base, cut = self._unsure
            if await session.finish() is None:
                self._unsure = None
                self._abandon()
            else:
                self._gives_way = True
                self._note_landed(session, base, cut)
        return [] if self._landed is None else await self._complete()

    def _abandon(self) -> None:
        staging = self.staging
        staging.end_commit()
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
            staging.end_commit()
            self._landed = None
            for place in self._live_directories():
                _rebase_row(place, completed)
            taken = {f for f in self._live_files() if f.staged and f.staged.id in completed.files}
            stale = self._forget(completed, taken)
        await staging.drop_blobs(completed.blobs)
        if self._is_foreign or self._gives_way:
            own = set() if self._gives_way else taken
            self._is_foreign = self._gives_way = False
            stale += await self.reconcile(own)
        return stale

    def _forget(self, completed: Completed, taken: Set[OverlayFile]) -> StaleNames:
        """Forget that files are staged that a commit took along; return names that are others now.

        Each name of a linked file is a file of its own in a snapshot. The newest stays what
        it was. Where this side gave way a name may stand for what others wrote.
        """
        stale: StaleNames = []
        for file in self._live_files():
            file_id = 0 if file.staged is None else file.staged.id
            if file in taken:
                self.staging.files.pop(file_id, None)
                file.committed()
                if self._gives_way:
                    stale += self._let_go(file)
            elif file.staged is None and not file.is_gone and not self._is_foreign:
                file.lower = None  # same bytes, but its directory may have moved
            if file_id in completed.linked:
                stale += file.part()
        return stale

    def _let_go(self, file: OverlayFile) -> StaleNames:
        """Have the names of a file looked up anew; who has it open reads on what it was."""
        gone: StaleNames = []
        for place, name in list(file.names):
            assert isinstance(place, OverlayDirectory)
            place.detach(name)
            gone.append((place, name))
        return gone

    # --- following the branch ------------------------------------------------------------------

    async def advance(self, target: SnapshotId) -> StaleNames:
        """Let the branch show the snapshot *target* that others brought, with all changes.

        Raises:
            ConflictError: others changed the same things; everything stays as it is.
        """
        async with self._working:
            stale = await self._finish()
            if target == self.tree.snapshot_id:
                return stale
            # A first try may meet somebody who writes; during the second they wait.
            if not await self._moves_to(target, others_wait=False):
                with self.staging.changes_wait():
                    await self._moves_to(target, others_wait=True)
            return stale + await self.reconcile()

    async def _moves_to(self, target: SnapshotId, *, others_wait: bool) -> bool:
        """Show *target*, or what is newer; False if something changed before that could be."""
        seq = self._seq
        if self.has_changes:
            target = await self._rebased()
        version = await self.tree.prepare(target)
        async with self.staging.naming:
            if self._seq != seq and not others_wait:
                return False
            self.tree.move(version, ())
            self.staging.stamp += 1
            if self.staging.journal is not None:
                self.staging.journal.set_facts(base=str(target))
        return True

    @property
    def _seq(self) -> int:
        """How new the newest change is."""
        return 0 if self.staging.journal is None else self.staging.journal.seq

    async def _has_moved(self, base: Snapshot, request: SyncRequest) -> bool:
        """Tell whether a commit has to go on top of what others did."""
        if request.new_branch is not None or request.amends:
            return False
        await self.tree.repository.refresh()
        return self.tree.repository.branches.get(self.branch) not in {None, base.id}

    async def _touching(self, base: Snapshot) -> Session:
        """Return a session that changes all that this one touches, ready to be committed or not."""
        plan = await self.plan(touched=True)
        for node_id, chunk in plan.staged:
            plan.changes.set_chunk(node_id, chunk.coords, InlineRef(b"staged"))
        return Session(self.tree.repository, self.branch, base, plan.changes)

    async def _rebased(self) -> SnapshotId:
        session = await self._touching((await self.tree.view()).snapshot)
        await session.rebase(DETECT)
        view = await self.tree.repository.assets.fetch_hierarchy(session.base.id)
        taken = taken_along(await self.plan(view), session.tree.changes, view)
        if taken:
            raise ConflictError(
                f"others added {', '.join(taken[:_SHOWN])} below what was removed here; after a"
                " refresh it would be removed, too: zfuse sync first, which leaves it"
            )
        return session.base.id

    async def discard(self, paths: Sequence[Path] | None = None) -> StaleNames:
        """Forget all changes, or those at and below *paths*.

        Raises:
            NotFoundError: nothing changed at one of the paths.
            NotAllowedError: what was moved there can not go back.
            OutcomeUnknownError: a commit may still land; the next sync finds out.
        """
        async with self._working:
            stale = await self._finish()
            if self.staging.journal is None:
                return stale
            async with self.staging.naming:
                if paths is not None and () not in paths:
                    return stale + discard_paths(self.staging, paths)
                root = self.root or OverlayDirectory(self.staging, None, "", None)
                stale += discard_all(self.staging, root)
                self.root = root
            return stale

    async def copy(self, source: Path, target: Path) -> None:
        """Let *target* show what is at *source*, by reference."""
        async with self._working:
            if self.root is None:
                raise NotFoundError(f"there is nothing at /{'/'.join(source)}")
            await self.closed_for_good()
            async with self.staging.naming:
                await copy(self.staging, self.root, source, target)

    async def reconcile(self, own: Set[OverlayFile] = frozenset()) -> StaleNames:
        """Find the entries whose names mean something else since another base shows through.

        *own* are files that the base got from here.
        """
        stale: StaleNames = []
        for entry in list(self.staging.live):
            if entry in own:
                continue
            if isinstance(entry, OverlayFile):
                if entry.staged is None and not entry.is_gone and not await _is_current(entry):
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


def _rebase_row(place: OverlayDirectory, completed: Completed) -> None:
    """Give a directory the origin that it has in the snapshot that a commit made."""
    if place.row is not None and place.row.id in completed.directories:
        place.row = None
    elif place.row is not None:
        place.row.origin = completed.origins.get(place.row.id)
        place.row.pending = None


async def _publish(
    session: Session, request: SyncRequest, snapshot_id: SnapshotId
) -> SnapshotId | None:
    """Commit what *session* changes; None if there was nothing to do."""
    if request.amends:
        return await session.amend(
            request.message, metadata=request.metadata, snapshot_id=snapshot_id
        )
    return await session.commit(
        request.message,
        metadata=request.metadata,
        policy=request.policy,
        allow_empty=request.allow_empty,
        snapshot_id=snapshot_id,
    )


async def _is_current(file: OverlayFile) -> bool:
    """Tell whether a file is what its name stands for; one that can not be asked is looked up."""
    try:
        return await file.is_current()
    except ZfuseError:
        return False
