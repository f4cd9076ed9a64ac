"""A session as it is on disk: found again after a crash, and understood."""

import logging
import time
from pathlib import Path as FilePath
from typing import Any, Final

import trio

from zfuse.errors import ConflictError, InvalidInputError, MissingObjectError, NotFoundError
from zfuse.format.chunk_ref import InlineRef
from zfuse.format.ids import SnapshotId
from zfuse.fs.journal import ROOT_ROW, Journal, read_rows
from zfuse.fs.journal_commit import complete_commit
from zfuse.fs.overlay_directory import OverlayDirectory
from zfuse.fs.overlay_file import OverlayFile
from zfuse.fs.plan import SessionRows, Walk
from zfuse.fs.plan_changes import Plan, Planner
from zfuse.fs.staged import StagedFile
from zfuse.fs.staging import Staging
from zfuse.fs.tree import Tree, Version
from zfuse.repo.commit import has_landed
from zfuse.repo.view import HierarchyView

log = logging.getLogger(__name__)

_LOOKS: Final = 25
_LOOK_EVERY_S: Final = 0.02
"""How often it is seen whether somebody who closed a file has it open still."""

_NO_ROWS: Final = SessionRows({}, {}, {}, frozenset(), frozenset())


class KeptSession:
    """A writable branch, and the changes of it that are kept on disk."""

    def __init__(self, tree: Tree, directory: FilePath, nursery: trio.Nursery) -> None:
        self.tree = tree
        tree.follows_session = True
        self.staging = Staging(tree, directory, nursery)
        self.root: OverlayDirectory | None = OverlayDirectory(self.staging, None, "", None)
        self.interrupted: set[int] = set()
        self.recovered = False

    @property
    def branch(self) -> str:
        """The name of the branch."""
        return self.tree.ref.name

    @property
    def has_changes(self) -> bool:
        """Whether anything differs from the base."""
        journal = self.staging.journal
        return journal is not None and not journal.is_empty

    def facts(self) -> dict[str, Any]:
        """Return what is known of the session without asking for its changes."""
        return {
            "branch": self.branch,
            "base": str(self.tree.snapshot_id),
            "recovered": self.recovered and self.has_changes,
            "has_changes": self.has_changes,
            "branch_is_gone": self.branch not in self.tree.repository.branches,
            "refusal": self.staging.refusal,
        }

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
            ConflictError: the snapshot that it changes is gone.
        """
        journal = self.staging.resume()
        try:
            await self._resume(journal)
        except BaseException:
            self.staging.close()
            raise

    async def _resume(self, journal: Journal) -> None:
        pending = journal.pending_commit()
        base = journal.base
        if pending is not None:
            landed = await has_landed(self.tree.repository, pending.branch, pending.snapshot_id)
            if landed:
                is_own = pending.branch == self.branch
                base = pending.snapshot_id if is_own else self.tree.snapshot_id
                complete_commit(journal, base, pending.cut)
                log.info("branch %s: commit %s had landed", pending.branch, pending.snapshot_id)
            else:
                journal.abandon_commit()
        if base is not None and base != self.tree.snapshot_id and self.has_changes:
            self.tree.move(await self._kept_base(base), ())
        elif base != self.tree.snapshot_id:
            journal.set_facts(base=str(self.tree.snapshot_id))
        self.staging.stamp += 1
        await trio.to_thread.run_sync(self._examine_blobs, journal)
        assert self.root is not None
        self.root.row = self.staging.root_row()
        self.recovered = self.has_changes
        if self.recovered:
            log.info("branch %s: a session with changes was found", self.branch)

    async def _kept_base(self, base: SnapshotId) -> Version:
        try:
            return await self.tree.prepare(base)
        except (MissingObjectError, NotFoundError) as exc:
            raise ConflictError(
                f"the snapshot {base}, which the kept changes of {self.tree.ref} began from, is"
                " gone; zfuse recover saves their files"
            ) from exc

    def _examine_blobs(self, journal: Journal) -> None:
        journal.sync()  # before bytes go that a row had, which might come back after a power loss
        sizes = journal.blobs.sizes()
        used: set[str] = set()
        for row_id, blob, size, closed in journal.run("SELECT id, blob, size, closed FROM file"):
            if blob is None:
                continue
            used.add(blob)
            found = sizes.get(blob, -1)
            if not closed or found != size:
                self.interrupted.add(row_id)
                update = "UPDATE file SET size = ?, closed = 0 WHERE id = ?"
                journal.run(update, max(found, 0), row_id)
        for blob in sizes.keys() - used:
            journal.blobs.remove(blob)

    # --- looking -------------------------------------------------------------------------------

    async def plan(self, view: HierarchyView | None = None, *, touched: bool = False) -> Plan:
        """Return what a commit would do now, on the base or on another *view*.

        With *touched* all counts that is being changed, also what could not be committed yet.
        """
        journal = self.staging.journal
        if journal is None:
            return await self.plan_of(_NO_ROWS, view)
        if not touched:
            await self.closed_for_good()
        with self.staging.holding():
            rows, _ = await self.rows(journal)
            return await self.plan_of(rows, view, touched=touched)

    async def closed_for_good(self) -> None:
        """Return when the kernel has told which of the files closed before nobody has open still.

        It tells that behind close(2). Who has a copy of the descriptor, as a fork makes them,
        is not waited for: the file counts as being written.
        """
        for _ in range(_LOOKS):  # no deadline: a daemon that gets no CPU gets late to the kernel
            if not self._half_closed():
                return
            await trio.sleep(_LOOK_EVERY_S)

    def _half_closed(self) -> list[OverlayFile]:
        files = self.staging.half_closed.values()
        return [file for file in files if isinstance(file, OverlayFile) and not file.is_gone]

    async def rows(self, journal: Journal) -> tuple[SessionRows, int]:
        """Return the rows of this moment, and how new the newest of them is."""
        database = journal.connect()
        try:
            database.execute("BEGIN")
            database.execute("SELECT 1 FROM fact LIMIT 1").fetchall()
            cut = journal.seq
            half_closed = set(self._half_closed())
            writing = {
                file.staged.id
                for file in self.staging.live
                if isinstance(file, OverlayFile) and file.staged is not None
                if file.is_being_written or file in half_closed
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
                frozenset(journal.fact("copies") or ()),
            ),
            cut,
        )

    async def plan_of(
        self, rows: SessionRows, view: HierarchyView | None = None, *, touched: bool = False
    ) -> Plan:
        """Return what a commit of *rows* would do; see ``plan``."""
        repository = self.tree.repository
        view = view or await self.tree.view()
        planner = Planner(repository.assets, view)
        root = rows.directories.get(ROOT_ROW)
        walk = Walk(rows, view, repository.state.spec_version, self._read, touched=touched)
        if root is None:
            return await planner.plan(walk.found)
        return await planner.plan(await trio.to_thread.run_sync(walk.run, root))

    def _read(self, file: StagedFile) -> bytes:
        if isinstance(file.ref, InlineRef):
            return file.ref.data
        if file.blob is None:
            raise InvalidInputError("its bytes are those of a chunk")
        return self.staging.begin().blobs.read(file.blob)
