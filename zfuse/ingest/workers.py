"""Who parses: threads of this process, or a Dask cluster; and what was parsed before."""

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final

import trio

from zfuse.errors import StorageError, ZfuseError
from zfuse.ingest.extra import missing_extra
from zfuse.ingest.files import present_table
from zfuse.ingest.parse import parse_source, parse_to_bytes
from zfuse.ingest.parsed import ParsedSource
from zfuse.ingest.sources import Source
from zfuse.repo.at_once import at_once
from zfuse.storage.foreign_files import ObjectAccess

_THREADS: Final = 4
_CONNECT_S: Final = 10
_FORMAT: Final = "1"  # of what is kept; another one is not read

Outcome = ParsedSource | ZfuseError
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Parsing:
    """How sources are parsed: by so many threads, or on a cluster.

    ``dask`` is the address of a scheduler, or a ``distributed.Client``. In the directory
    ``kept`` what was parsed is kept until all of it is committed; with ``resume`` a run starts
    from what another has left there.
    """

    jobs: int = _THREADS
    dask: Any = None
    kept: Path | None = None
    resume: bool = False


async def parse_all(
    sources: Sequence[Source], how: Parsing, tell: Tell, *, until_one_fails: bool
) -> list[Outcome]:
    """Return what parsing each of *sources* gives, in their order.

    Raises:
        ZfuseError: parsing one fails, and that ends it all.
    """
    parser = _Parser(sources, how, tell, until_one_fails=until_one_fails)
    with warnings.catch_warnings():
        # Of libraries, about what has no standard yet. Once for all threads, as they share it.
        warnings.simplefilter("ignore")
        return await parser.outcomes()


async def forget_parsed(how: Parsing) -> None:
    """Remove what was kept for a run that would go on."""
    if how.kept is not None:
        await trio.to_thread.run_sync(_Kept(how.kept).forget)


class _Parser:
    def __init__(
        self, sources: Sequence[Source], how: Parsing, tell: Tell, *, until_one_fails: bool
    ) -> None:
        self._sources = sources
        self._how = how
        self._tell = tell
        self._until_one_fails = until_one_fails
        self._kept = None if how.kept is None else _Kept(how.kept)
        self._outcomes: dict[int, Outcome] = {}

    async def outcomes(self) -> list[Outcome]:
        await self._recall()
        left = [n for n in range(len(self._sources)) if n not in self._outcomes]
        self._tell("parsing", len(self._outcomes), len(self._sources))
        if left and self._how.dask is not None:
            await trio.to_thread.run_sync(self._on_cluster, left, abandon_on_cancel=True)
        else:
            await at_once((partial(self._in_thread, n) for n in left), most=self._how.jobs)
        return [self._outcomes[number] for number in range(len(self._sources))]

    async def _recall(self) -> None:
        """Take what another run has parsed, as far as it still holds."""
        if self._kept is None:
            return
        if not self._how.resume:
            await trio.to_thread.run_sync(self._kept.forget)
            return

        async def recall(number: int) -> None:
            assert self._kept is not None
            found = await trio.to_thread.run_sync(self._kept.recall, self._sources[number])
            if found is not None:
                self._outcomes[number] = found

        await at_once((partial(recall, n) for n in range(len(self._sources))), most=self._how.jobs)

    async def _in_thread(self, number: int) -> None:
        outcome: Outcome
        source = self._sources[number]
        try:
            outcome = await trio.to_thread.run_sync(parse_source, source, abandon_on_cancel=True)
            if self._kept is not None:
                await trio.to_thread.run_sync(self._kept.keep, source, outcome.to_bytes())
        except ZfuseError as exc:
            outcome = exc
        self._arrived(number, outcome)

    def _arrived(self, number: int, outcome: Outcome) -> None:
        if isinstance(outcome, ZfuseError) and self._until_one_fails:
            raise outcome
        self._outcomes[number] = outcome
        self._tell("parsing", len(self._outcomes), len(self._sources))

    def _on_cluster(self, left: Sequence[int]) -> None:
        """Have a cluster parse; this runs in a thread, where Dask's own calls may wait."""
        try:
            distributed = import_module("distributed")
        except ImportError as exc:
            raise missing_extra(exc) from exc
        with _client(distributed, self._how.dask) as client:
            sources = [self._sources[number] for number in left]
            futures = client.map(parse_to_bytes, sources, pure=False)
            numbers = dict(zip(futures, left, strict=True))
            try:
                for future in distributed.as_completed(futures, loop=client.loop):
                    outcome = self._gathered(future, numbers[future])
                    trio.from_thread.run_sync(self._arrived, numbers[future], outcome)
            finally:
                client.cancel(futures)

    def _gathered(self, future: Any, number: int) -> Outcome:  # noqa: ANN401 - a Future of Dask
        try:
            data: bytes | ZfuseError = future.result()
        except Exception as exc:  # noqa: BLE001 - a worker died, or lacks a library
            return StorageError(f"a Dask worker failed: {type(exc).__name__}: {exc}")
        if isinstance(data, ZfuseError):
            return data
        if self._kept is not None:
            self._kept.keep(self._sources[number], data)
        return ParsedSource.from_bytes(data)


@contextmanager
def _client(distributed: Any, dask: Any) -> Iterator[Any]:  # noqa: ANN401 - Dask has no types
    if isinstance(dask, distributed.Client):
        yield dask
        return
    try:
        client = distributed.Client(dask, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as exc:
        raise StorageError(f"no Dask scheduler answers at {dask}: {exc}; check --dask") from exc
    with client:
        yield client


class _Kept:
    """What was parsed, in files of a directory, so that a killed run need not parse it again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def keep(self, source: Source, data: bytes) -> None:
        """Keep what *source* was parsed to, if that is possible."""
        # Another run of this may forget it all meanwhile, or the disk be full or not to be written
        # to. Then it is to be parsed again, should this run be killed.
        with suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            # A name of its own, as one source may be parsed for several nodes at once.
            with NamedTemporaryFile(dir=self._directory, suffix=".new", delete=False) as file:
                file.write(data)
            Path(file.name).replace(self._path(source))

    def recall(self, source: Source) -> ParsedSource | None:
        """Return what was kept, None if there is nothing, or the source has changed since."""
        try:
            parsed = ParsedSource.from_bytes(self._path(source).read_bytes())
            now = present_table(ObjectAccess(source.options), parsed)
        except (OSError, ZfuseError):
            return None
        return parsed if parsed.files.changed(now) is None else None

    def forget(self) -> None:
        """Remove all."""
        if self._directory.is_dir():
            for path in (*self._directory.glob("*.npz"), *self._directory.glob("*.new")):
                path.unlink(missing_ok=True)
            with suppress(OSError):  # somebody has put something else there
                self._directory.rmdir()

    def _path(self, source: Source) -> Path:
        # Not the options, which may hold secrets, and say only how the source is reached.
        told = (
            f"{_FORMAT}\n{source.location}\n{source.format}\n{source.group}\n{sorted(source.skip)}"
        )
        return self._directory / f"{hashlib.sha256(told.encode()).hexdigest()}.npz"
