"""Sessions: reading one version of a repository, or changing a branch."""

import copy
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from zfuse.api.boundary import refusing, run, twins
from zfuse.api.config import RepositoryConfig
from zfuse.api.conflicts import Conflict, ConflictSolver
from zfuse.api.error_kind import ErrorKind
from zfuse.api.exceptions import (
    ConflictError,
    RebaseFailedError,
    SessionStateError,
)
from zfuse.api.listing import described
from zfuse.api.nodes import Nodes
from zfuse.api.opened import Opening, info_of
from zfuse.api.status import diff_of_changes
from zfuse.api.store import IcechunkStore
from zfuse.api.values import Diff, SessionMode, commit_message, properties
from zfuse.errors import ConflictError as MovedError
from zfuse.errors import MergeError, NotAllowedError
from zfuse.format.ids import SnapshotId
from zfuse.repo.catch_up import BranchConflictError
from zfuse.repo.fork import Fork
from zfuse.repo.fork_workspace import ForkWorkspace
from zfuse.repo.session import Session as EngineSession
from zfuse.repo.workspace import Workspace

_RESERVED: Final = "__icechunk"  # metadata of a commit that are not its author's


class Session(Nodes):
    """One version of a repository, or a branch with changes that are not committed.

    Methods that wait for the store have a twin to be awaited in asyncio, whose name ends with
    ``_async``. Uncommitted changes live in the memory of this process, apart from chunks.
    """

    def __init__(
        self,
        opening: Opening,
        workspace: Workspace,
        mode: SessionMode,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._opening = opening
        self._workspace = workspace
        self._pid = os.getpid()
        self._mode = mode
        self._metadata = dict(metadata or {})
        self._gave_way = False  # a rebase left nothing of the changes

    @classmethod
    async def open(cls, opening: Opening, snapshot_id: SnapshotId) -> "Session":
        """Return a session that reads a snapshot."""
        engine = await opening.engine()
        view = await engine.assets.fetch_hierarchy(snapshot_id)
        return cls(opening, Workspace(engine, view.snapshot), SessionMode.readonly)

    @classmethod
    async def on_branch(
        cls, opening: Opening, branch: str, mode: SessionMode, metadata: Mapping[str, Any]
    ) -> "Session":
        """Return a session that changes a branch; *metadata* go into each of its commits."""
        session = await EngineSession.open(await opening.engine(), branch)
        return cls(opening, session, mode, metadata)

    @property
    def workspace(self) -> Workspace:
        """The nodes and chunks as the engine has them, in this process."""
        if self._pid != os.getpid():
            run(self._here)
        return self._workspace

    async def _here(self) -> Workspace:
        """Return the workspace; in a process that was forked, a copy that works there."""
        if self._pid != os.getpid():
            self._workspace = await self._moved(self._workspace)
            self._pid = os.getpid()
        return self._workspace

    async def _moved(self, former: Workspace) -> Workspace:
        engine = await self._opening.engine()
        match former:
            case EngineSession(branch=branch):
                return EngineSession(engine, branch, former.base, former.changes())
            case ForkWorkspace():
                return await ForkWorkspace.open(engine, former.as_fork())
            case _:
                return Workspace(engine, former.base)

    async def _changing(self) -> EngineSession:
        """Return the engine's session.

        Raises:
            SessionStateError: this one can not be committed.
        """
        workspace = await self._here()
        if not isinstance(workspace, EngineSession):
            raise SessionStateError(
                "read-only and forked sessions are not committed: merge a fork into the session"
                " that it came from, and commit that",
                ErrorKind.COMMIT_NOT_ALLOWED,
            )
        return workspace

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Session) and self.workspace is other.workspace

    __hash__ = None  # type: ignore[assignment]  # the official one has none either

    def __repr__(self) -> str:
        return described(
            type(self).__name__,
            read_only=self.read_only,
            snapshot_id=self.snapshot_id,
            **({} if self.branch is None else {"branch": self.branch}),
            **({} if self.read_only else {"has_uncommitted_changes": self.has_uncommitted_changes}),
        )

    @property
    def read_only(self) -> bool:
        """Whether nothing can be changed."""
        return self._mode is SessionMode.readonly

    @property
    def mode(self) -> SessionMode:
        """What can be done."""
        return self._mode

    @property
    def snapshot_id(self) -> str:
        """The snapshot that is read, or changed."""
        return str(self._workspace.base.id)

    @property
    def branch(self) -> str | None:
        """The branch that is changed, None where none is."""
        return self._workspace.branch if isinstance(self._workspace, EngineSession) else None

    @property
    def has_uncommitted_changes(self) -> bool:
        """Whether there is something to commit."""
        return run(self._has_changes)

    async def _has_changes(self) -> bool:
        return (await self._here()).has_changes

    @property
    def config(self) -> RepositoryConfig:
        """The settings that hold here."""
        return copy.deepcopy(self._opening.effective)

    def __reduce__(self) -> tuple[Callable[..., "Session"], tuple[object, ...]]:
        """Tell how another process makes it.

        Raises:
            ValueError: it can be committed, which only one process may do.
        """
        if not self.read_only:
            raise ValueError(
                "a writable session stays in its process: give others session.fork(), and merge"
                " what they did; or a read-only session, if they only read"
            )
        return _reopened, (self._opening, self._workspace.base.id)

    @property
    def store(self) -> IcechunkStore:
        """The nodes and chunks for zarr."""
        return IcechunkStore(self)

    async def _status(self) -> Diff:
        workspace = await self._here()
        if isinstance(workspace, ForkWorkspace):
            fork = workspace.as_fork()
            return diff_of_changes(fork.inherited.apply(workspace.base.nodes), fork.changes)
        return diff_of_changes(workspace.base.nodes, workspace.changes())

    def status(self) -> Diff:
        """Return what is changed and not committed."""
        return run(self._status)

    async def _discard_changes(self) -> None:
        self._check_changes()
        await (await self._changing()).discard()

    def discard_changes(self) -> None:
        """Forget all changes that are not committed."""
        run(self._discard_changes)

    async def _commit(
        self,
        message: str,
        metadata: dict[str, Any] | None = None,
        *,
        rebase_with: ConflictSolver | None = None,
        rebase_tries: int = 1_000,
        allow_empty: bool = False,
    ) -> str:
        """Make all changes one snapshot on the branch, and return its id.

        The session reads that snapshot from then on. With *rebase_with*, what others committed
        meanwhile goes below these changes.

        Raises:
            ConflictError: others committed to the branch meanwhile.
            RebaseFailedError: they changed the same things.
            SessionStateError: there is nothing to commit, or this is no session of a branch.
        """
        session = await self._changing()
        told = self._metadata | properties(metadata or {})
        tries = rebase_tries if rebase_with else 0
        for tries_left in range(tries, -1, -1):
            if rebase_with is not None:
                told = told | {_RESERVED: {"rebase_attempts": tries - tries_left}}
            try:
                made = await session.commit(
                    commit_message(message),
                    metadata=told,
                    policy=None,
                    allow_empty=allow_empty or self._gave_way,
                )
            except MovedError as exc:
                if rebase_with is None or not tries_left:
                    raise _moved_error(session) from exc
                await self._rebased(session, rebase_with)
            else:
                return await self._settled(made)
        raise AssertionError("a commit succeeds or fails")

    async def _amend(
        self, message: str, *, metadata: dict[str, Any] | None = None, allow_empty: bool = False
    ) -> str:
        """Put all changes into the last commit of the branch, and return the new id.

        Raises:
            ConflictError: others committed to the branch meanwhile.
            SessionStateError: there is no commit, or nothing to change about it.
        """
        session = await self._changing()
        info_of(await self._opening.engine())
        if not session.has_changes and not allow_empty:
            raise SessionStateError(
                "there is nothing to commit; pass allow_empty=True to commit anyway",
                ErrorKind.NO_CHANGES_TO_COMMIT,
            )
        told = self._metadata | properties(metadata or {})
        no_commit = ErrorKind.NO_AMEND_FOR_INITIAL_COMMIT
        try:
            with refusing(NotAllowedError, SessionStateError, no_commit):
                made = await session.amend(commit_message(message), metadata=told)
        except MovedError as exc:
            raise _moved_error(session) from exc
        return await self._settled(made)

    async def _flush(self, message: str, *, metadata: dict[str, Any] | None = None) -> str:
        """Make all changes a snapshot that no branch has, and return its id."""
        session = await self._changing()
        told = self._metadata | properties(metadata or {})
        return await self._settled(await session.flush(commit_message(message), metadata=told))

    async def _settled(self, made: SnapshotId | None) -> str:
        """Read from now on the snapshot that was made.

        Raises:
            SessionStateError: none was, as there was nothing to commit.
        """
        if made is None:
            raise SessionStateError(
                "there is nothing to commit; pass allow_empty=True to commit anyway",
                ErrorKind.NO_CHANGES_TO_COMMIT,
            )
        self._workspace = Workspace(self._workspace.repository, self._workspace.base)
        self._mode = SessionMode.readonly
        return str(made)

    async def _rebase(self, solver: ConflictSolver) -> None:
        """Put all changes on top of what others committed to the branch meanwhile.

        Where *solver* lets all of them give way, there is an empty commit left to make.

        Raises:
            RebaseFailedError: they changed the same things, and *solver* does not solve that.
        """
        await self._rebased(await self._changing(), solver)

    async def _rebased(self, session: EngineSession, solver: ConflictSolver) -> None:
        had_changes = session.has_changes
        try:
            await session.rebase(solver.policy())
            self._gave_way |= had_changes and not session.has_changes
        except BranchConflictError as exc:
            by = next((o.by.id for o in exc.obstacles if o.by is not None), session.base.id)
            conflicts = [Conflict.of(obstacle.conflict) for obstacle in exc.obstacles]
            raise RebaseFailedError(str(by), conflicts, str(exc)) from exc

    def fork(self) -> "ForkSession":
        """Return a copy to be changed somewhere else, as in other processes, and merged later.

        Raises:
            SessionStateError: this session reads only.
        """
        if self.read_only:
            raise SessionStateError(
                "a read-only session needs no fork: give it to others as it is",
                ErrorKind.CANNOT_FORK_READ_ONLY_SESSION,
            )
        return run(self._forked)

    async def _forked(self) -> "ForkSession":
        fork = (await self._here()).fork()
        return await _fork_session(self._opening, fork)

    async def _merge(self, *others: "ForkSession") -> None:
        """Add what was changed in forks of this session: all of it, or nothing.

        Raises:
            SessionStateError: two changed the same thing differently, or something is no fork.
        """
        workspace = await self._for_chunks()
        forks: list[Fork] = []
        for other in others:
            theirs = await other._here()  # noqa: SLF001 - of the same class
            if not isinstance(theirs, ForkWorkspace):
                raise SessionStateError(
                    f"a {type(other).__name__} is no fork: only what fork() returned can be merged",
                    ErrorKind.MERGE_NOT_ALLOWED,
                )
            forks.append(theirs.as_fork())
        with refusing(MergeError, SessionStateError, ErrorKind.MERGE_FAILED):
            await workspace.merge(forks)

    merge, merge_async = twins(_merge)
    commit, commit_async = twins(_commit)
    amend, amend_async = twins(_amend)
    flush, flush_async = twins(_flush)
    rebase, rebase_async = twins(_rebase)


def _moved_error(session: EngineSession) -> ConflictError:
    tip = session.repository.branches.get(session.branch)
    return ConflictError(str(session.base.id), None if tip is None else str(tip))


class ForkSession(Session):
    """A copy of a session that is changed somewhere else, and merged into the session later.

    It can be pickled, with its changes.
    """

    @property
    def read_only(self) -> bool:
        """Whether nothing can be changed: never."""
        return False

    def _check_changes(self) -> None:
        """Allow changes."""

    def __reduce__(self) -> tuple[Callable[..., Session], tuple[object, ...]]:
        """Tell how another process makes it, with its changes up to now."""
        return _reopened_fork, (self._opening, run(self._changed))

    async def _changed(self) -> Fork:
        workspace = await self._here()
        assert isinstance(workspace, ForkWorkspace)
        return workspace.as_fork()


async def _fork_session(opening: Opening, fork: Fork) -> ForkSession:
    workspace = await ForkWorkspace.open(await opening.engine(), fork)
    return ForkSession(opening, workspace, SessionMode.readonly)


def _reopened(opening: Opening, snapshot_id: SnapshotId) -> Session:
    return run(partial(Session.open, opening, snapshot_id))


def _reopened_fork(opening: Opening, fork: Fork) -> ForkSession:
    return run(partial(_fork_session, opening, fork))
