"""What the command line asks of the sessions of a mount."""

from collections.abc import Mapping
from typing import Any

from zfuse.daemon.control import Command
from zfuse.errors import InvalidInputError
from zfuse.fs.branch_session import BranchSession, SyncRequest
from zfuse.fs.filesystem import FileSystem
from zfuse.fs.notifier import Notifier
from zfuse.fs.writable import WritableBranches
from zfuse.repo.conflicts import DETECT, ChunkChoice, ConflictPolicy

POLICIES: Mapping[str | None, ConflictPolicy] = {
    None: DETECT,
    "ours": ConflictPolicy(ChunkChoice.OURS),
    "theirs": ConflictPolicy(ChunkChoice.THEIRS),
}


def session_commands(
    writable: WritableBranches, file_system: FileSystem, notifier: Notifier
) -> Mapping[str, Command]:
    """Return the commands of a mount that can be written to."""

    async def session_of(arguments: Mapping[str, Any]) -> BranchSession:
        branch = arguments.get("branch")
        if not isinstance(branch, str):
            raise InvalidInputError("say which branch")
        return await writable.get(branch)

    async def sync(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        session = await session_of(arguments)
        request = SyncRequest(
            message=arguments["message"],
            metadata=arguments.get("metadata") or {},
            amends=bool(arguments.get("amend")),
            allow_empty=bool(arguments.get("allow_empty")),
            policy=POLICIES[arguments.get("rebase")],
            new_branch=arguments.get("new_branch"),
        )
        outcome = await session.sync(request)
        if outcome.stale:
            file_system.look_anew()
            await notifier.invalidate(file_system.numbered(outcome.stale))
        return {
            "branch": outcome.branch,
            "snapshot": None if outcome.snapshot_id is None else str(outcome.snapshot_id),
            "chunks_stored": outcome.chunks_stored,
            "open_files": outcome.plan.open_files,
            "untracked": outcome.plan.untracked,
        }

    return {"sync": sync}
