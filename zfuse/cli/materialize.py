"""``zfuse materialize``."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import trio

from zfuse.cli import output
from zfuse.cli.findings import finding_json, finding_line
from zfuse.cli.options import storage_options, virtual_option
from zfuse.cli.serving import copies_directory
from zfuse.cli.sessions import explained, has_changes
from zfuse.cli.target import Place, Target, find_target, locate
from zfuse.cli.ticker import ticking
from zfuse.daemon.assemble import assembled
from zfuse.daemon.control import ReportedError, call_mount
from zfuse.daemon.mountinfo import MountPoint, find_mount
from zfuse.daemon.sessions import details_of
from zfuse.daemon.settings import mount_settings
from zfuse.errors import (
    InvalidInputError,
    NotAllowedError,
    NotMountedError,
    UncommittedChangesError,
)
from zfuse.format.ids import SnapshotId
from zfuse.maintenance.copy_pieces import Limits, PieceCopier, Progress
from zfuse.maintenance.materialize import LostSourcesError, materialize
from zfuse.maintenance.stored_pieces import StoredPieces, state_name
from zfuse.repo.catch_up import BranchConflictError
from zfuse.repo.ref import RefKind
from zfuse.repo.session import Session

_ASK_S: Final = 10.0
_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be done: in which repository, below which places, and how."""

    targets: Sequence[Target]
    nodes: Sequence[str]
    message: str
    jobs: int


@click.command(
    epilog='Example: zfuse materialize /mnt/repo/branch/main/air -m "own the air data"'
    " --allow-virtual s3://archive/"
)
@click.argument("targets", metavar="[REPO|PATH [NODE|PATH]...]", nargs=-1)
@click.option("-m", "--message", metavar="TEXT", help="What the commit does; needed.")
@click.option("--branch", metavar="NAME", help="Work on this branch [main].")
@click.option(
    "--jobs", type=click.IntRange(1, 256), default=16, show_default=True, help="Requests at once."
)
@virtual_option
@storage_options
@output.as_json
def command(
    *,
    targets: tuple[str, ...],
    message: str | None,
    jobs: int,
    as_json: bool,
    **flags: Any,  # noqa: ANN401
) -> None:
    """Turn virtual chunks into chunks of the repository, in one commit.

    Works on every array at and below the given places: PATHs in a mount, all of one branch,
    or NODEs of REPO, by default everything. Bytes stay as they are; afterwards nobody needs
    the files that they came from. If one of these changed or vanished, its chunks are listed
    and nothing is committed (exit code 8). A run that ended early goes on where it was when
    it is started again. A mount of the branch shows the result at once; with changes there
    that are not committed, the exit code is 4.
    """
    if not (message or "").strip():
        raise InvalidInputError('say what the commit does: zfuse materialize -m "..."')
    first = targets[0] if targets else None
    mount = _mount_of(first)
    places = [find_target(text, flags) for text in (targets if mount else targets[:1])]
    places = places or [find_target(None, flags)]
    nodes = () if mount else targets[1:]
    _check_same(places)
    work = _Work(places, nodes, str(message), jobs)
    try:
        with explained(as_json=as_json, snapshot=None):
            told = trio.run(_run, work, mount)
    except LostSourcesError as exc:
        _tell_lost(exc, as_json=as_json)
        raise
    if mount is not None and told["snapshot"] is not None:
        call_mount(mount, "refresh")
    if as_json:
        output.print_json(told)
    else:
        _print(told)


def _mount_of(text: str | None) -> MountPoint | None:
    """Return the mount that *text* is in, None for a repository."""
    if text is not None and "://" in text:
        return None
    try:
        return find_mount(Path(text or "."))
    except NotMountedError:
        if text is None:
            raise
        return None


def _check_same(targets: Sequence[Target]) -> None:
    if len({(target.location, target.mounted) for target in targets}) > 1:
        raise InvalidInputError("the paths are not in one branch of one mount")


async def _run(work: _Work, mount: MountPoint | None) -> dict[str, Any]:
    first = work.targets[0]
    settings = mount_settings(first.location, {**first.layer, "rw": False})
    async with assembled(settings) as parts:
        repository = parts.repository
        nodes = work.nodes or (None,)
        if len(work.targets) > 1:
            places = [await locate(repository, target, None) for target in work.targets]
        else:
            places = [await locate(repository, first, node) for node in nodes]
        branch = _branch_of(places)
        if mount is not None:
            _refuse_changes(mount, branch)
        session = await Session.open(repository, branch)
        with StoredPieces(
            copies_directory() / state_name(repository.storage.url, branch)
        ) as stored:
            limits = Limits(jobs=work.jobs)
            copier = PieceCopier(repository, parts.virtual, stored, limits)
            paths = [place.path for place in places]
            snapshot_id = None
            async with ticking(lambda: _so_far(copier.progress)):
                if await materialize(session, paths, copier, parts.virtual, stored):
                    snapshot_id = await commit(session, work.message)
            stored.forget()
    done = copier.progress
    return {
        "branch": branch,
        "snapshot": None if snapshot_id is None else str(snapshot_id),
        "chunks": done.of_chunks,
        "bytes": done.of_bytes,
        "objects_stored": done.objects,
        "bytes_stored": done.object_bytes,
        "objects_reused": done.reused,
        "inline_chunks": done.inline,
    }


async def commit(session: Session, message: str) -> SnapshotId | None:
    """Commit what was copied.

    Raises:
        ReportedError: others wrote some of the same chunks; its details name them.
    """
    try:
        return await session.commit(message)
    except BranchConflictError as exc:
        raise ReportedError(
            "others changed the same chunks meanwhile, so nothing was committed; start it again:"
            " theirs stay, and nothing is fetched twice",
            exc.exit_code,
            details_of(exc),
        ) from exc


def _branch_of(places: Sequence[Place]) -> str:
    refs = {place.ref for place in places}
    if len(refs) > 1:
        raise InvalidInputError("the paths are not in one branch of one mount")
    ref = refs.pop()
    if ref.kind is not RefKind.BRANCH:
        raise NotAllowedError(f"{ref} is fixed; only branches change")
    return ref.name


def _refuse_changes(mount: MountPoint, branch: str) -> None:
    """Raise UncommittedChangesError if the mount holds changes of *branch*."""
    sessions = call_mount(mount, "status", timeout_s=_ASK_S).get("sessions") or ()
    held = any(each["branch"] == branch and each["has_changes"] for each in sessions)
    if held and has_changes(call_mount(mount, "diff", branch=branch)):
        raise UncommittedChangesError(
            f"{mount.path} has changes of branch {branch} that are not committed;"
            " zfuse sync or zfuse discard them first"
        )


def _so_far(progress: Progress) -> str:
    done, whole = output.human_size(progress.object_bytes), output.human_size(progress.of_bytes)
    return f"stored {done} of {whole}, {progress.objects} chunks"


def _tell_lost(exc: LostSourcesError, *, as_json: bool) -> None:
    """List the chunks that can not be had: as JSON, or a line each on standard error."""
    if as_json:
        findings = [finding_json(finding) for finding in exc.findings]
        output.print_json({"snapshot": None, "error": str(exc), "lost": findings})
        return
    for finding in exc.findings[:_SHOWN]:
        print(f"  lost: {output.plain(finding_line(finding))}", file=sys.stderr)
    if len(exc.findings) > _SHOWN:
        print(f"  and {len(exc.findings) - _SHOWN} more; --json names all", file=sys.stderr)


def _print(told: Mapping[str, Any]) -> None:
    branch = output.plain(told["branch"])
    if told["snapshot"] is None:
        print(f"branch {branch} has no virtual chunks there")
        return
    size = output.human_size(told["bytes"])
    print(f"branch {branch} is at {told['snapshot']} now")
    print(f"  {output.count(told['chunks'], 'chunk')} of {size} are its own now")
    if told["objects_reused"]:
        print(f"  {output.count(told['objects_reused'], 'chunk')} stored by an earlier run")
