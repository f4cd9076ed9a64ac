"""Changes to a branch that become one commit.

A session starts at the tip of a branch, its *base*. While a commit is being made the session
goes on: what changes meanwhile belongs to the next one. Only if others moved the branch do
changes wait, until the commit has been brought on top of theirs.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import trio

from zfuse.errors import (
    BusyError,
    ConflictError,
    OutcomeUnknownError,
    ReadOnlyError,
    StorageError,
    ZfuseError,
)
from zfuse.format.ids import SnapshotId
from zfuse.format.snapshot import Snapshot
from zfuse.repo.catch_up import BranchConflictError, TheirCommits, their_commits
from zfuse.repo.change_set import ChangeSet
from zfuse.repo.commit import (
    CommitRequest,
    StoredCommit,
    has_landed,
    publish_commit,
    publish_detached,
    store_commit,
)
from zfuse.repo.conflicts import DETECT, ConflictPolicy, rebase
from zfuse.repo.new_ids import new_id
from zfuse.repo.publish import pause
from zfuse.repo.refs import create_branch
from zfuse.repo.repository import Repository
from zfuse.repo.working_tree import WorkingTree
from zfuse.repo.workspace import Workspace

_ATTEMPTS: Final = 100


class Session(Workspace):
    """Uncommitted changes of a branch, and how they are committed."""

    def __init__(
        self, repository: Repository, branch: str, base: Snapshot, changes: ChangeSet | None = None
    ) -> None:
        super().__init__(repository, base, changes)
        self.branch = branch
        self._unsure: StoredCommit | None = None  # whose outcome is not known; it is pending
        self._committing = trio.Lock()

    @classmethod
    async def open(
        cls,
        repository: Repository,
        branch: str,
        *,
        base_id: SnapshotId | None = None,
        changes: ChangeSet | None = None,
    ) -> "Session":
        """Start at the tip of *branch*, or go on with *changes* of the snapshot *base_id*.

        Raises:
            NotFoundError: there is no such branch.
            ReadOnlyError: the repository takes no changes.
        """
        if repository.is_read_only:
            raise ReadOnlyError("the repository is set to read-only; see zfuse show")
        tip = repository.lookup_branch(branch)
        view = await repository.assets.fetch_hierarchy(base_id or tip)
        return cls(repository, branch, view.snapshot, changes)

    async def commit(
        self,
        message: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        policy: ConflictPolicy | None = DETECT,
        allow_empty: bool = False,
        snapshot_id: SnapshotId | None = None,
    ) -> SnapshotId | None:
        """Commit all changes up to now and return the snapshot, None if there is nothing to do.

        If others moved the branch, this goes on top of theirs, as far as *policy* solves what
        both sides changed; without one it fails. Chunks outside of their array's grid are left
        out. An earlier commit whose outcome was not known is brought to an end first, and counts
        if nothing else is left to do. Who may have to find out after a crash whether this one
        landed chooses its *snapshot_id*; see ``has_landed``.

        Raises:
            BranchConflictError: others changed the same things; the session is as it was.
            ConflictError: the branch was reset, or moved and there is no *policy*.
            InvalidInputError: metadata are not what JSON has, or the clock is wrong.
            NotAllowedError: nodes moved, and the repository forbids that by now.
            NotFoundError: there is no such branch any more.
            OutcomeUnknownError: whether that succeeded can not be found out now.
            ReadOnlyError: the repository takes no changes.
        """
        request = CommitRequest(message, metadata or {}, snapshot_id or new_id(SnapshotId))
        async with self._committing:
            finished = await self._finish_unsure()
            with self._pending_changes():
                if not self._pending and not allow_empty:
                    return finished
                try:
                    await self._attempt(request)
                except ConflictError:
                    if policy is None:
                        raise
                    if not await self._commit_on_top(request, policy, allow_empty=allow_empty):
                        return finished
            return request.snapshot_id

    async def amend(
        self,
        message: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        snapshot_id: SnapshotId | None = None,
    ) -> SnapshotId:
        """Put all changes up to now, if any, into the last commit, with a new message.

        Raises:
            ConflictError: the branch is not at the base of the session any more.
            NotAllowedError: there is no commit to amend, or the repository is of version 1.
        """
        chosen = snapshot_id or new_id(SnapshotId)
        request = CommitRequest(message, metadata or {}, chosen, amends=True)
        async with self._committing:
            await self._finish_unsure()
            with self._pending_changes():
                await self._attempt(request)
            return request.snapshot_id

    async def flush(self, message: str, *, metadata: Mapping[str, Any] | None = None) -> SnapshotId:
        """Make all changes up to now a snapshot that no branch has, and go on from it.

        Raises:
            ReadOnlyError: the repository takes no changes.
        """
        request = CommitRequest(message, metadata or {}, new_id(SnapshotId))
        async with self._committing:
            await self._finish_unsure()
            with self._pending_changes():
                stored = await store_commit(self.repository, self.base, self._pending, request)
                await publish_detached(self.repository, self.base, stored)
                self._start_from(stored.snapshot)
        return request.snapshot_id

    @property
    def is_unsure(self) -> bool:
        """Whether a commit ended, as by a cancellation, without anybody knowing its outcome.

        ``finish`` finds out; every other change of the branch does so first.
        """
        return self._unsure is not None

    async def finish(self) -> SnapshotId | None:
        """Bring a commit whose outcome is not known to an end; return it if it is in.

        Raises:
            OutcomeUnknownError: it is still not known.
        """
        async with self._committing:
            return await self._finish_unsure()

    async def rebase(self, policy: ConflictPolicy = DETECT) -> bool:
        """Bring all changes on top of what others committed; tell whether there was anything.

        Raises:
            BranchConflictError: others changed the same things; the session is as it was.
            ConflictError: the branch was reset, or its history is gone.
        """
        async with self._committing:
            await self._finish_unsure()
            with self._changes_wait():
                theirs = await their_commits(self.repository, self.branch, self.base.id)
                if theirs is not None:
                    self._rebase(theirs, policy)
                return theirs is not None

    async def branch_off(self, name: str) -> None:
        """Make a new branch at the base, and go on there with all changes.

        Raises:
            AlreadyExistsError: there is one of that name.
            InvalidInputError: version 1 can not hold such a name.
            ReadOnlyError: the repository takes no changes.
        """
        async with self._committing:
            await self._finish_unsure()
            await create_branch(self.repository, name, self.base.id)
            self.branch = name

    async def discard(self) -> None:
        """Forget all changes, but not a commit whose outcome is not known."""
        async with self._committing:
            await self._finish_unsure()
            self.tree = WorkingTree(self.base.nodes)

    async def _attempt(self, request: CommitRequest) -> None:
        """Commit what is pending on top of the base, which the tip of the branch has to be."""
        stored = await store_commit(self.repository, self.base, self._pending, request)
        await self._publish(stored)

    async def _publish(self, stored: StoredCommit) -> None:
        try:
            await publish_commit(self.repository, self.branch, self.base, stored)
        except BaseException as exc:
            # A cancellation can hit the one write that counts, too.
            known = isinstance(exc, ZfuseError) and not isinstance(exc, OutcomeUnknownError)
            self._unsure = None if known else stored
            raise
        self._start_from(stored.snapshot)

    def _start_from(self, snapshot: Snapshot) -> None:
        """Go on from *snapshot*, which has all that was pending."""
        self.base = snapshot
        self._pending, self._unsure = ChangeSet(), None
        self.tree = WorkingTree(snapshot.nodes, self.tree.changes)

    async def _finish_unsure(self) -> SnapshotId | None:
        """Bring a commit whose outcome is not known to an end; return it if it is in."""
        stored = self._unsure
        if stored is None:
            return None
        snapshot_id = stored.snapshot.id
        if await has_landed(self.repository, self.branch, snapshot_id):
            self._start_from(stored.snapshot)
            return snapshot_id
        try:
            # Once more, as it is: as long as the branch stands still, the lost write could
            # land at any time, and must not meet another commit of the same changes.
            await self._publish(stored)
        except ConflictError:
            if await has_landed(self.repository, self.branch, snapshot_id):
                self._start_from(stored.snapshot)
                return snapshot_id
            self._put_back()
            return None
        except StorageError:
            self._unsure = stored
            raise
        except ZfuseError:
            self._put_back()
            raise
        return snapshot_id

    async def _commit_on_top(
        self, request: CommitRequest, policy: ConflictPolicy, *, allow_empty: bool
    ) -> bool:
        """Commit what is pending on top of what others did; False if nothing is left of it."""
        with self._changes_wait():
            for attempt in range(_ATTEMPTS):
                theirs = await their_commits(self.repository, self.branch, self.base.id)
                if theirs is not None:
                    self._rebase(theirs, policy)
                if not self._pending and not allow_empty:
                    return False
                try:
                    await self._attempt(request)
                except ConflictError:
                    await pause(attempt)
                else:
                    return True
        raise BusyError(f"the branch {self.branch!r} goes on faster than this commit; try again")

    def _rebase(self, theirs: TheirCommits, policy: ConflictPolicy) -> None:
        log, nodes = theirs.merged(), theirs.tip.nodes
        pending = rebase(self._pending, self.base.nodes, nodes, log, policy)
        rest = rebase(
            self.tree.changes,
            self._pending.apply(self.base.nodes),
            pending.changes.apply(nodes),
            log,
            policy,
        )
        told = {(c.kind, c.path) for c in pending.conflicts if c.chunks is None}
        conflicts = [c for c in rest.conflicts if (c.kind, c.path) not in told]
        if conflicts := [*pending.conflicts, *conflicts]:
            raise BranchConflictError(self.branch, [theirs.obstacle(c) for c in conflicts])
        self.base, self._pending = theirs.tip, pending.changes
        self.tree = WorkingTree(pending.changes.apply(nodes), rest.changes)

    @contextmanager
    def _pending_changes(self) -> Iterator[None]:
        """Set the changes up to now apart; what is not committed in the end comes back."""
        self._pending = self.tree.take_changes()
        try:
            yield
        finally:
            if self._unsure is None:
                self._put_back()

    def _put_back(self) -> None:
        self._pending.then(self.tree.changes)
        self.tree.changes, self._pending = self._pending, ChangeSet()
        self._unsure = None
