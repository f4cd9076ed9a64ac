"""What the command line asks of the sessions of a mount."""

from collections.abc import Mapping
from typing import Any, Final

from zfuse.daemon.control import Command, LongCommand, Tell
from zfuse.errors import BusyError, ConflictError, InvalidInputError, NotFoundError, ZfuseError
from zfuse.fs.branch_session import BranchSession
from zfuse.fs.filesystem import FileSystem
from zfuse.fs.notifier import Notifier
from zfuse.fs.plan_changes import Plan
from zfuse.fs.plan_summary import node_differences, summary
from zfuse.fs.session_edits import StaleNames
from zfuse.fs.sync_request import InvalidChangesError, SyncOutcome, SyncRequest
from zfuse.fs.writable import WritableBranches
from zfuse.repo.catch_up import BranchConflictError, Obstacle
from zfuse.repo.conflicts import DETECT, ChunkChoice, ConflictPolicy

POLICIES: Mapping[str | None, ConflictPolicy] = {
    None: DETECT,
    "ours": ConflictPolicy(ChunkChoice.OURS),
    "theirs": ConflictPolicy(ChunkChoice.THEIRS),
}


MOST_TOLD: Final = 10_000
"""Chunks of one conflict that are told; all of them could be more than an answer may hold."""


class SessionCommands:
    """The commands of a mount that can be written to."""

    def __init__(
        self, writable: WritableBranches, file_system: FileSystem, notifier: Notifier
    ) -> None:
        self._writable = writable
        self._file_system = file_system
        self._notifier = notifier

    def short(self) -> Mapping[str, Command]:
        """Return the commands that answer at once."""
        return {"discard": self.discard, "copy": self.copy}

    def long(self) -> Mapping[str, LongCommand]:
        """Return the commands that may take long."""
        return {"sync": self.sync, "changes": self.changes, "diff": self.diff}

    async def _writable_session(self, arguments: Mapping[str, Any]) -> BranchSession:
        """Return the session that a command is to change."""
        session = await self._session(arguments)
        if session.staging.refusal is not None:
            raise BusyError(session.staging.refusal)
        return session

    async def _session(self, arguments: Mapping[str, Any]) -> BranchSession:
        branch = arguments.get("branch")
        if isinstance(branch, str):
            return await self._writable.get(branch)
        changed = [s for s in self._writable.open_sessions() if s.has_changes]
        if len(changed) == 1:
            return changed[0]
        if not changed:
            sessions = self._writable.open_sessions()
            return sessions[0] if len(sessions) == 1 else await self._writable.get("main")
        names = ", ".join(f"branch/{s.branch}" for s in changed)
        raise InvalidInputError(f"there are changes on {names}; say which: a path inside one")

    async def sync(self, arguments: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
        """Commit the session of a branch."""
        session = await self._writable_session(arguments)
        request = SyncRequest(
            message=str(arguments.get("message") or ""),
            metadata=arguments.get("metadata") or {},
            amends=bool(arguments.get("amend")),
            allow_empty=bool(arguments.get("allow_empty")),
            policy=POLICIES[arguments.get("rebase")],
            new_branch=arguments.get("new_branch"),
        )
        try:
            outcome = await session.sync(
                request, lambda done, whole: tell({"bytes": done, "of_bytes": whole})
            )
        except NotFoundError as exc:
            await session.tree.repository.refresh()
            if session.branch in session.tree.repository.branches:
                raise
            raise NotFoundError(
                f"others deleted the branch {session.branch!r}; keep the changes on another:"
                " zfuse sync --new-branch NAME"
            ) from exc
        except ConflictError as exc:
            if not request.amends or isinstance(exc, BranchConflictError):
                raise
            raise ConflictError(
                f"{exc}, so there is another commit to amend: zfuse sync without --amend goes on"
                " top of it; or zfuse refresh, look, and amend that one"
            ) from exc
        await self._tell_kernel(outcome.stale)
        return await _outcome(session, outcome)

    async def changes(self, arguments: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
        """Return what differs from the base, of one branch or of all that somebody looked at."""
        sessions = self._writable.open_sessions()
        if isinstance(arguments.get("branch"), str):
            sessions = [await self._session(arguments)]
        told = [
            {**session.facts(), **await _changes(session, None)}
            for session in sessions
            if session.has_changes or session.staging.refusal or len(sessions) == 1
        ]
        return {"sessions": told}

    async def diff(self, arguments: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
        """Return what differs from the base, with the changes of each zarr.json."""
        session = await self._session(arguments)
        plan = await session.plan()
        view = await session.tree.view()
        return {
            **session.facts(),
            **await _changes(session, plan),
            "metadata": node_differences(plan.changes, view),
        }

    async def discard(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Take changes back, all or those at and below some paths."""
        session = await self._writable_session(arguments)
        paths = arguments.get("paths")
        had = session.has_changes
        stale = await session.discard(None if paths is None else [tuple(p) for p in paths])
        await self._tell_kernel(stale)
        return {"branch": session.branch, "discarded": had, "changes_left": session.has_changes}

    async def copy(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Copy what is at a path to another, by reference."""
        session = await self._writable_session(arguments)
        source, target = tuple(arguments["source"]), tuple(arguments["target"])
        if not source or not target:
            raise NotFoundError("the root of a branch can not be copied, nor be copied to")
        await session.copy(source, target)
        return {"branch": session.branch}

    async def _tell_kernel(self, stale: StaleNames) -> None:
        if stale:
            self._file_system.look_anew()
            await self._notifier.invalidate(self._file_system.numbered(stale))


def details_of(exc: ZfuseError) -> dict[str, Any]:
    """Return what a program may want to know of an error beyond its message."""
    match exc:
        case InvalidChangesError():
            return {"invalid": [{"path": p.path, "reason": p.reason} for p in exc.problems]}
        case BranchConflictError():
            conflicts = [_obstacle(obstacle) for obstacle in exc.obstacles]
            return {"conflicts": conflicts, "solvable": exc.is_solvable}
        case _:
            return {}


def _obstacle(obstacle: Obstacle) -> dict[str, Any]:
    conflict, by = obstacle.conflict, obstacle.by
    return {
        "kind": conflict.kind.name.lower(),
        "path": conflict.path,
        "chunks": None if conflict.chunks is None else conflict.chunks[:MOST_TOLD].tolist(),
        "chunk_count": None if conflict.chunks is None else len(conflict.chunks),
        "snapshot": None if by is None else str(by.id),
        "message": None if by is None else by.message,
        "committed_at_us": None if by is None else by.flushed_at,
    }


async def _outcome(session: BranchSession, outcome: SyncOutcome) -> Mapping[str, Any]:
    return {
        "branch": outcome.branch,
        "snapshot": None if outcome.snapshot_id is None else str(outcome.snapshot_id),
        "chunks_stored": outcome.chunks_stored,
        **outcome.summary,
        "changes_left": session.has_changes,
    }


async def _changes(session: BranchSession, plan: Plan | None) -> dict[str, Any]:
    plan = plan or await session.plan()
    return summary(plan, await session.tree.view())
