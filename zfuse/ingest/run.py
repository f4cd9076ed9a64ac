"""One ingest from beginning to end: parse all, check all, then one commit.

Nothing is written before everything is known to fit: the references of a million chunks are
in memory by then, and the rest takes seconds.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import trio

from zfuse.errors import (
    AlreadyExistsError,
    BusyError,
    InvalidInputError,
    ReadOnlyError,
    ZfuseError,
)
from zfuse.format.config import VirtualChunkContainer
from zfuse.format.ids import SnapshotId
from zfuse.ingest.append import append
from zfuse.ingest.containers import missing_containers, reach_of
from zfuse.ingest.coordinates import check_coordinates
from zfuse.ingest.files import present_table
from zfuse.ingest.parsed import ParsedSource
from zfuse.ingest.placement import Arrival, check_free, exists, place
from zfuse.ingest.sources import Source, unique_nodes
from zfuse.ingest.workers import Parsing, forget_parsed, parse_all
from zfuse.repo.catch_up import BranchConflictError
from zfuse.repo.documents import parse_document
from zfuse.repo.repository import Repository, fetch_state
from zfuse.repo.session import Session
from zfuse.repo.settings import add_container, remove_container
from zfuse.storage.foreign_files import ObjectAccess

_LONGEST_WAIT_NS: Final = 3_000_000_000
_LOOKS_AT_ONCE: Final = 8
_ATTEMPTS: Final = 10

Tell = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class Request:
    """A source, and the absolute path of the node that it becomes."""

    source: Source
    node: str


@dataclass(frozen=True, slots=True)
class Choices:
    """How an ingest is done.

    ``append_dim`` names the dimension along which sources extend what is at their node.
    With ``keep_going`` a source that fails is left out, else nothing is committed.
    """

    message: str
    branch: str = "main"
    overwrite: bool = False
    append_dim: str | None = None
    keep_going: bool = False
    parsing: Parsing = field(default_factory=Parsing)


@dataclass(frozen=True, slots=True)
class Ingested:
    """A source that is in the commit now."""

    location: str
    format: str
    node: str
    arrays: int
    chunks: int


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What became of all sources; ``snapshot`` is None if no source could be committed."""

    snapshot: SnapshotId | None
    ingested: tuple[Ingested, ...]
    failed: tuple[tuple[str, ZfuseError], ...]
    containers: tuple[VirtualChunkContainer, ...]


def _silent(what: str, done: int, of: int) -> None:
    del what, done, of


async def ingest(
    repository: Repository,
    requests: Sequence[Request],
    choices: Choices,
    tell: Tell = _silent,
) -> IngestReport:
    """Commit references to all chunks of the sources, and declare the containers they need.

    Raises:
        AccessDeniedError: a source may not be read.
        AlreadyExistsError: there is something at a node.
        BusyError: a source changed meanwhile.
        ConflictError: others changed the same nodes.
        InvalidInputError: a source can not be referenced, or sources do not fit together.
        NotFoundError: a source, or the branch, does not exist.
        ReadOnlyError: the repository takes no changes.
    """
    run = _Run(repository, choices, tell)
    return await run.complete(requests)


class _Run:
    def __init__(self, repository: Repository, choices: Choices, tell: Tell) -> None:
        self._repository = repository
        self._choices = choices
        self._tell = tell
        self._failed: list[tuple[str, ZfuseError]] = []
        self._session: Session | None = None  # the one that is committed

    async def complete(self, requests: Sequence[Request]) -> IngestReport:
        """Do all of it."""
        if not requests:
            raise InvalidInputError("there are no sources")
        session = await self._opened()
        if self._choices.append_dim is None:
            unique_nodes([r.node for r in requests], [r.source for r in requests])
        requests = [r for r in requests if self._passes(r, partial(self._check, session, r.node))]
        parsed = await self._parse(requests)
        parsed = [pair for pair in parsed if self._passes(pair[0], partial(self._fits, pair[1]))]
        await self._wait_until_quiet([source for _, source in parsed])
        parsed = await self._unchanged(parsed)
        return await self._written(parsed)

    async def _opened(self) -> Session:
        await self._repository.refresh()
        if self._repository.is_read_only:
            raise ReadOnlyError("the repository is set to read-only; see zfuse show")
        return await Session.open(self._repository, self._choices.branch)

    def _check(self, session: Session, node: str) -> None:
        tree = session.tree
        if self._choices.append_dim is None or not exists(tree, node):
            check_free(tree, node, overwrite=self._choices.overwrite)

    def _passes(self, request: Request, check: Callable[[], None]) -> bool:
        try:
            check()
        except ZfuseError as exc:
            self._fail(request, exc)
            return False
        return True

    def _fail(self, request: Request, exc: ZfuseError) -> None:
        if not self._choices.keep_going:
            raise exc
        self._failed.append((request.source.location, exc))

    async def _parse(self, requests: Sequence[Request]) -> list[tuple[Request, ParsedSource]]:
        sources = [request.source for request in requests]
        outcomes = await parse_all(
            sources, self._choices.parsing, self._tell, until_one_fails=not self._choices.keep_going
        )
        parsed = []
        for request, outcome in zip(requests, outcomes, strict=True):
            if isinstance(outcome, ZfuseError):
                self._fail(request, outcome)
            else:
                parsed.append((request, outcome))
        return parsed

    def _fits(self, parsed: ParsedSource) -> None:
        """Check that the repository can hold all nodes."""
        version = self._repository.state.spec_version
        for node in parsed.nodes:
            try:
                parse_document(node.document, spec_version=version)
            except InvalidInputError as exc:
                raise InvalidInputError(f"{parsed.location}/{node.path}: {exc}") from exc

    async def _wait_until_quiet(self, parsed: Sequence[ParsedSource]) -> None:
        """Wait until a change of any file would show in the time that is recorded for it."""
        quiet = max((source.files.quiet_from_ns() for source in parsed), default=0)
        wait = quiet - time.time_ns()
        if 0 < wait < _LONGEST_WAIT_NS:  # else it is old, or its clock is another
            await trio.sleep(wait / 1e9)

    async def _unchanged(
        self, parsed: list[tuple[Request, ParsedSource]]
    ) -> list[tuple[Request, ParsedSource]]:
        """Return those whose files are as they were before they were parsed."""
        changed: dict[int, ZfuseError] = {}
        looks = trio.CapacityLimiter(_LOOKS_AT_ONCE)
        accesses = {request.source.options: None for request, _ in parsed}
        opened = {options: ObjectAccess(options) for options in accesses}

        async def look(number: int, request: Request, source: ParsedSource) -> None:
            access = opened[request.source.options]
            try:
                now = await trio.to_thread.run_sync(present_table, access, source, limiter=looks)
                found = await trio.to_thread.run_sync(source.files.changed, now)
            except ZfuseError as exc:
                changed[number] = exc
                return
            if found is not None:
                changed[number] = BusyError(
                    f"{found} changed while it was ingested; try again when nobody writes to it"
                )

        async with trio.open_nursery() as nursery:
            for number, (request, source) in enumerate(parsed):
                nursery.start_soon(look, number, request, source)
        for number, exc in sorted(changed.items()):
            self._fail(parsed[number][0], exc)
        return [pair for number, pair in enumerate(parsed) if number not in changed]

    async def _written(self, parsed: Sequence[tuple[Request, ParsedSource]]) -> IngestReport:
        """Put all into a session, declare the containers that are missing, and commit."""
        self._session = await self._opened()
        placed = await self._placed(self._session, parsed)
        if not placed:
            return IngestReport(None, (), tuple(self._failed), ())
        # Not those of the settings that a program has passed in: nobody else would have them.
        stored = await fetch_state(self._repository.storage)
        declared = stored.config.virtual_chunk_containers
        missing = missing_containers(
            declared, [reach_of(source, request.source) for request, source in placed]
        )
        self._tell("writing", 0, 1)
        added: list[VirtualChunkContainer] = []
        try:
            for container in missing:
                new = await add_container(self._repository, container)
                added += [container] if new else []
            snapshot = await self._committed(placed)
        except BaseException:
            if not self._session.is_unsure:  # else the commit may be there, and needs them
                with trio.CancelScope(shield=True):
                    for container in added:
                        await remove_container(self._repository, container.url_prefix)
            raise
        await forget_parsed(self._choices.parsing)
        self._tell("writing", 1, 1)
        ingested = tuple(_ingested(request, source) for request, source in placed)
        return IngestReport(snapshot, ingested, tuple(self._failed), tuple(added))

    async def _committed(self, placed: Sequence[tuple[Request, ParsedSource]]) -> SnapshotId | None:
        """Commit; if others touched the same nodes meanwhile, begin with what they made of them.

        What was parsed is still true then, but an array may be longer by now, or a group above
        be there.
        """
        assert self._session is not None
        for _ in range(_ATTEMPTS):
            with suppress(BranchConflictError):
                return await self._session.commit(self._choices.message)
            self._session = await self._opened()
            for request, source in placed:
                await self._place(self._session, request, source)
        return await self._session.commit(self._choices.message)

    async def _placed(
        self, session: Session, parsed: Sequence[tuple[Request, ParsedSource]]
    ) -> list[tuple[Request, ParsedSource]]:
        """Put sources into the session; return those that fit."""
        placed = []
        for request, source in parsed:
            try:
                await self._place(session, request, source)
            except (AlreadyExistsError, InvalidInputError) as exc:
                self._fail(request, exc)
            else:
                placed.append((request, source))
        return placed

    async def _place(self, session: Session, request: Request, source: ParsedSource) -> None:
        arrival = Arrival(request.node, source)
        dimension = self._choices.append_dim
        if dimension is not None and exists(session.tree, arrival.node):
            access = ObjectAccess(request.source.options)
            await check_coordinates(session, arrival, dimension, access)
            await append(session, arrival, dimension)
        else:
            check_free(session.tree, arrival.node, overwrite=self._choices.overwrite)
            await place(session, arrival)


def _ingested(request: Request, parsed: ParsedSource) -> Ingested:
    arrays = sum(node.chunks is not None for node in parsed.nodes)
    return Ingested(
        request.source.location, parsed.format, request.node, arrays, parsed.chunk_count
    )
