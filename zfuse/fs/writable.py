"""The branches of a mount that can be written to."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import trio

from zfuse.errors import BusyError, ConflictError, JournalError, NotFoundError, ZfuseError
from zfuse.format.ids import SnapshotId
from zfuse.fs.branch_session import BranchSession
from zfuse.fs.entry import Directory
from zfuse.fs.names import decode_name, encode_name
from zfuse.fs.tree import Trees
from zfuse.repo.ref import Ref, RefKind
from zfuse.repo.repository import Repository

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Moved:
    """A branch that shows another snapshot now."""

    branch: str
    before: SnapshotId
    after: SnapshotId | None


@dataclass(frozen=True, slots=True)
class Movement:
    """What moved, and the names that mean something else since.

    ``errors`` say why other branches did not move.
    """

    moved: list[Moved]
    stale: list[tuple[Directory, str]]
    errors: list[ZfuseError]


def sessions_directory(state: FilePath, repository: Repository) -> FilePath:
    """Return where the sessions of a repository are kept below the directory *state*."""
    url = repository.storage.url.encode("utf-8", "surrogateescape")  # a path may be any bytes
    digest = hashlib.sha256(url).hexdigest()[:20]
    return state / "sessions" / digest


class WritableBranches:
    """The sessions of a mount, one for each branch that somebody looks at.

    They stay open until the mount ends, so that nobody else changes what is shown here.
    """

    def __init__(self, trees: Trees, directory: FilePath, nursery: trio.Nursery) -> None:
        self.trees = trees
        self._directory = directory
        self._nursery = nursery
        self._sessions: dict[str, BranchSession] = {}
        self._opening = trio.Lock()

    def open_sessions(self) -> list[BranchSession]:
        """Return the sessions that somebody looked at, those without changes too."""
        return list(self._sessions.values())

    def facts(self) -> list[dict[str, Any]]:
        """Return what is known of each open session without asking for its changes."""
        return [session.facts() for session in self._sessions.values()]

    def recovered(self) -> list[str]:
        """Return the branches on which changes of an earlier mount were found."""
        return [branch for branch, session in self._sessions.items() if session.recovered]

    def kept(self) -> list[str]:
        """Return the branches of which there are sessions on this machine."""
        shown = [path.parent.name for path in self._directory.glob("*/session.sqlite")]
        return [name for name in map(decode_name, shown) if name is not None]

    async def get(self, branch: str, *, is_mount_root: bool = False) -> BranchSession:
        """Return the session of a branch.

        Raises:
            NotFoundError: there is no such branch, nor was there when the session began.
        """
        session = self._sessions.get(branch)
        if session is not None:
            return session
        async with self._opening:
            session = self._sessions.get(branch)
            if session is None:
                session = await self._open(branch, is_mount_root=is_mount_root)
                self._sessions[branch] = session
            return session

    async def _open(self, branch: str, *, is_mount_root: bool) -> BranchSession:
        directory = self._directory / encode_name(branch)
        ref = Ref(RefKind.BRANCH, branch)
        tree = await self.trees.get(ref, is_mount_root=is_mount_root)
        session = BranchSession(tree, directory, self._nursery)
        # Who mounts one branch for writing is told at once that another mount has it.
        if is_mount_root or (directory / "session.sqlite").exists():
            try:
                await session.recover()
            except (BusyError, ConflictError, JournalError) as exc:
                if is_mount_root:
                    raise
                log.warning("branch %s can only be read: %s", branch, exc)
                session.staging.refusal = str(exc)
        self._nursery.start_soon(session.upload_in_background)
        return session

    async def advance(self, movement: Movement) -> None:
        """Let the branches show what they point at by now, and note what that changed.

        A branch that is gone stays with its changes, for a sync to another one.
        """
        for session in list(self._sessions.values()):
            before = session.tree.snapshot_id
            target = self.trees.repository.branches.get(session.branch)
            if target is None and not session.has_changes:
                self._let_go(session)
            if target is None or target == before:
                continue
            try:
                movement.stale.extend(await session.advance(target))
            except ZfuseError as exc:
                movement.errors.append(exc)
            else:
                movement.moved.append(Moved(session.branch, before, session.tree.snapshot_id))

    def _let_go(self, session: BranchSession) -> None:
        """Leave a branch that is gone to the rules for those that can only be read."""
        session.staging.close()
        session.tree.follows_session = False
        del self._sessions[session.branch]

    async def recover_all(self) -> None:
        """Open every session that was kept, so that status tells of it."""
        for branch in self.kept():
            try:
                await self.get(branch)
            except NotFoundError as exc:
                log.warning(
                    "a session of branch %s was kept, but: %s; see zfuse recover", branch, exc
                )

    def close(self) -> None:
        """Let go of all sessions; their changes are kept."""
        for session in self._sessions.values():
            session.staging.close()
