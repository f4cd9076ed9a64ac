"""Cut-offs of maintenance: what a person writes, and the sessions that hold them back."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click

from zfuse.cli import output
from zfuse.cli.mounted_here import is_same_repository, settings_of_mounts
from zfuse.cli.serving import copies_directory, state_directory
from zfuse.cli.target import Target
from zfuse.errors import InvalidInputError, JournalError, NotFoundError
from zfuse.format.ids import SnapshotId
from zfuse.fs.kept_files import KeptFiles, find_sessions
from zfuse.fs.writable import sessions_directory
from zfuse.maintenance.stored_pieces import began_at, state_name
from zfuse.repo.publish import now_us
from zfuse.repo.ref import parse_time
from zfuse.repo.repository import Repository

_CLOCKS_US: Final = 600_000_000
"""How far the clocks of this machine and of a store may be apart."""
_DURATION: Final = re.compile(r"(\d+)\s*([smhdw])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

older_than_option = click.option(
    "--older-than",
    required=True,
    metavar="TIME|DURATION",
    help="A moment (RFC 3339; a date is UTC), or how long ago: 30d, 12h, 90m.",
)

journal_option = click.option(
    "--journal", metavar="DIR", help="Where else sessions are kept [~/.local/state/zfuse]."
)


def parse_cutoff(text: str, now: int) -> int:
    """Return the moment that *text* names, in microseconds since 1970 as *now* is.

    Raises:
        InvalidInputError: it is neither a time nor a duration, has no zone, or is still to come.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is not None:
        return max(0, now - int(found[1]) * _SECONDS[found[2]] * 1_000_000)
    try:
        moment = parse_time(text)
    except InvalidInputError:
        raise InvalidInputError(
            f"{text!r} is neither a time nor a duration; write 2026-08-20T09:00:00Z, or 30d"
        ) from None
    if len(text) > len("2026-08-20") and datetime.fromisoformat(text).tzinfo is None:
        # What is deleted must not depend on whether somebody thought of UTC or of their clock.
        raise InvalidInputError(f"{text} has no time zone; write {text}Z if it is UTC")
    if moment > now:
        raise InvalidInputError(f"{text} is still to come; name a time in the past, or 1h")
    return moment


@dataclass(frozen=True, slots=True)
class UnfinishedCopy:
    """A run of ``zfuse materialize`` on a branch that did not commit yet."""

    branch: str
    began: int


@dataclass(frozen=True, slots=True)
class Cutoff:
    """The moment that counts, and what made it earlier than what was asked for."""

    at: int
    held_by: KeptFiles | UnfinishedCopy | None = None

    def facts(self) -> dict[str, Any]:
        """Return it for JSON."""
        held = self.held_by
        base = held.base if isinstance(held, KeptFiles) else None
        return {
            "older_than": output.utc(self.at),
            "held_by": None if held is None else {"branch": held.branch, "base": base},
        }

    def print(self) -> None:
        """Tell a person if it is not what was asked for."""
        if self.held_by is None:
            return
        what, way = "a session", "zfuse recover"
        if isinstance(self.held_by, KeptFiles) and not self.held_by.files:
            print(
                f"the branch {output.plain(self.held_by.branch)} is mounted to be written to, so"
                f" only what is older than {output.utc(self.at)} goes"
            )
            return
        if isinstance(self.held_by, UnfinishedCopy):
            what, way = "a run of zfuse materialize", "run it again to finish it"
        print(
            f"{what} on the branch {output.plain(self.held_by.branch)} is not committed, so only"
            f" what is older than {output.utc(self.at)} goes ({way})"
        )


def sessions_of(target: Target, repository: Repository) -> list[KeptFiles]:
    """Return the sessions on this machine that change *repository*, in use or kept.

    Raises:
        BusyError: a mount of it does not answer, so where its sessions are is not known.
        JournalError: one of them can not be read.
    """
    now = now_us()
    found = {each.directory: each for each in _sessions(target, repository)}
    for session in found.values():
        if session.damage is not None or session.began is None:
            why = session.damage or f"the session in {session.directory} is of an older zfuse"
            raise JournalError(
                f"{why}, so what it needs is not known; zfuse recover saves its files and"
                " deletes it"
            )
    # One that has nothing staged needs no more than what it stores from now on.
    return [each if each.files else replace(each, began=now) for each in found.values()]


def unfinished_copies(repository: Repository) -> list[UnfinishedCopy]:
    """Return the runs of ``zfuse materialize`` on this machine whose chunks nothing refers to."""
    url, found = repository.storage.url, []
    for branch in repository.branches:
        began = began_at(copies_directory() / state_name(url, branch))
        if began is not None:
            found.append(UnfinishedCopy(branch, began))
    return found


def collection_cutoff(older_than: int, holders: Iterable[KeptFiles | UnfinishedCopy]) -> Cutoff:
    """Return *older_than*, or what is before the oldest of *holders* began."""
    oldest = min(holders, key=_began, default=None)
    if oldest is None or _began(oldest) - _CLOCKS_US >= older_than:
        return Cutoff(older_than)
    return Cutoff(_began(oldest) - _CLOCKS_US, oldest)


def _began(holder: KeptFiles | UnfinishedCopy) -> int:
    return holder.began or 0


async def expiration_cutoff(
    repository: Repository, older_than: int, sessions: Iterable[KeptFiles]
) -> Cutoff:
    """Return *older_than*, or when the oldest base of *sessions* was flushed.

    What others committed since can be told from the session's changes only by the history.
    """
    cutoff = Cutoff(older_than)
    for session in sessions:
        base = SnapshotId.parse(session.base)
        if base in repository.branches.values():
            continue
        try:
            flushed_at = (await repository.snapshot_info(base)).flushed_at
        except NotFoundError:
            continue  # it is gone already
        if flushed_at < cutoff.at:
            cutoff = Cutoff(flushed_at, session)
    return cutoff


def _sessions(target: Target, repository: Repository) -> Iterator[KeptFiles]:
    url = repository.storage.url
    for state in {*_state_directories(target, url)}:
        own = sessions_directory(state, repository)
        for session in find_sessions(state):
            if session.directory.parent == own or is_same_repository(session.repository, url):
                yield session


def _state_directories(target: Target, url: str) -> Iterator[Path]:
    yield state_directory()
    journal = target.layer.get("journal")
    if journal is not None:
        yield Path(journal).expanduser().absolute()
    for _, settings in settings_of_mounts(url):
        if settings["journal"]:
            yield Path(settings["journal"])
