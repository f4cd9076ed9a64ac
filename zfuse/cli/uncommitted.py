"""Whether a branch has changes on this machine that nobody committed yet."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import trio

from zfuse.cli.serving import state_directory
from zfuse.cli.target import Target
from zfuse.daemon.control import call_mount
from zfuse.daemon.mountinfo import zfuse_mounts
from zfuse.errors import UncommittedChangesError, ZfuseError
from zfuse.fs.kept_files import find_sessions
from zfuse.repo.repository import Repository

_ASK_S: Final = 10.0


async def refuse_to_lose(target: Target, repository: Repository, branch: str) -> None:
    """Make sure that no session on this machine has changes of *branch*.

    Those of mounts count, and those that are kept for the next mount.

    Raises:
        UncommittedChangesError: one has; the message says where, and what to do.
    """
    journal = target.layer.get("journal")
    await trio.to_thread.run_sync(_look, repository.storage.url, branch, journal)


def _look(repository: str, branch: str, journal: str | None) -> None:
    state = state_directory() if journal is None else Path(journal).expanduser().absolute()
    told = dict(_mounted(repository, branch))
    for mountpoint, has_changes in told.items():
        if has_changes:
            raise UncommittedChangesError(
                f"the branch {branch!r} has changes in the mount {mountpoint} that are not"
                " committed; zfuse sync or zfuse discard them there first, or lose the way to"
                " commit them with --force"
            )
    for number, session in enumerate(find_sessions(state), 1):
        is_meant = session.branch == branch and _is_same(session.repository, repository)
        if is_meant and not (session.is_in_use and told):
            raise UncommittedChangesError(
                f"the branch {branch!r} has changes that are not committed, kept on this machine"
                f" (session {number} of zfuse recover); mount it with --rw and sync or discard"
                " them, or lose the way to commit them with --force"
            )


def _mounted(repository: str, branch: str) -> Iterator[tuple[str, bool]]:
    """Yield the mounts that have the branch open to be written to, and whether it was."""
    me = os.geteuid()
    for mount in zfuse_mounts():
        if me not in {0, mount.user_id}:
            continue
        try:
            status = call_mount(mount, "status", timeout_s=_ASK_S)
        except ZfuseError:
            continue  # its sessions are on disk
        if not _is_same(status["repository"], repository):
            continue
        for session in status["sessions"]:
            if session["branch"] == branch:
                yield str(mount.path), session["has_changes"]


def _is_same(one: str, other: str) -> bool:
    if "://" in one or "://" in other:
        return one == other
    return os.path.realpath(one) == os.path.realpath(other)
