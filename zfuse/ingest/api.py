"""What Python programs call."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Protocol

from zfuse import portal
from zfuse.errors import InvalidInputError
from zfuse.ingest.placement import joined, node_path
from zfuse.ingest.run import Choices, IngestReport, Request
from zfuse.ingest.run import ingest as ingest_requests
from zfuse.ingest.sources import Source, source_of
from zfuse.ingest.virtual_dataset import write
from zfuse.ingest.workers import Parsing
from zfuse.repo.repository import Repository
from zfuse.storage.options import StorageOptions

__all__ = ["ingest", "write"]

Place = str | PathLike[str]
Places = Place | Sequence[Place] | Mapping[Place, str]


class OpenRepository(Protocol):
    """A repository of the Python interface."""

    def engine(self) -> Awaitable[Repository]:
        """Return the engine's repository; for the trio world."""
        ...


def ingest(  # noqa: PLR0913 - one for each option of the command
    sources: Places,
    repository: OpenRepository,
    *,
    into: str | None = None,
    group: str | None = None,
    skip: Collection[str] = (),
    format: str = "auto",  # noqa: A002 - as the option of the command
    branch: str = "main",
    message: str | None = None,
    overwrite: bool = False,
    append_dim: str | None = None,
    keep_going: bool = False,
    jobs: int = 4,
    dask: Any = None,  # noqa: ANN401 - an address, or a distributed.Client
    kept: Path | None = None,
    resume: bool = False,
    options: StorageOptions | None = None,
    anonymous: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> IngestReport:
    """Commit references to all chunks of existing data, without copying any.

    *sources* is a path or URL, or several, or a mapping of them to their nodes. A single one
    becomes the root of the hierarchy, or the node *into*; several become a node each below
    that, called after their file; with *append_dim* all go on at the one node.
    Arrays and groups of a name in *skip* are left out. *dask* is the
    address of a scheduler, or a ``distributed.Client``. With *kept*, a directory, what was parsed
    survives a killed process, and is used again if *resume* says so. *options* say how the
    sources are reached, by default as botocore finds it. *progress* is told what is being done,
    how much of it is done, and how much there is.

    Raises:
        ZfuseError: see ``zfuse.ingest.run.ingest``; nothing is written then.
    """
    reached = options or StorageOptions(anonymous=anonymous)
    requests = _requests(
        sources,
        into,
        lambda place: source_of(
            fspath(place), kind=format, group=group, skip=skip, options=reached
        ),
        together=append_dim is not None,
    )
    choices = Choices(
        message or _message([request.source for request in requests]),
        branch,
        overwrite=overwrite,
        append_dim=append_dim,
        keep_going=keep_going,
        parsing=Parsing(jobs, dask, kept, resume),
    )

    async def work() -> IngestReport:
        told = () if progress is None else (progress,)
        return await ingest_requests(await repository.engine(), requests, choices, *told)

    return portal.run(work)


def _requests(
    sources: Places,
    into: str | None,
    source_at: Callable[[Place], Source],
    *,
    together: bool,
) -> list[Request]:
    root = node_path(into or "/")
    if isinstance(sources, Mapping):
        return [Request(source_at(place), node_path(node)) for place, node in sources.items()]
    places: Iterable[Place] = [sources] if isinstance(sources, str | PathLike) else sources
    found = [source_at(place) for place in places]
    if not found:
        raise InvalidInputError("there are no sources")
    if together or len(found) == 1:
        return [Request(source, root) for source in found]
    return [Request(source, joined(root, source.stem)) for source in found]


def _message(sources: Sequence[Source]) -> str:
    rest = f" and {len(sources) - 1} more" if len(sources) > 1 else ""
    return f"ingest {sources[0].location}{rest}"
