"""``zfuse ingest``."""

import hashlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
import trio

from zfuse.cli import output
from zfuse.cli.options import storage_options
from zfuse.cli.target import Target, find_target, locate, opened
from zfuse.daemon.control import call
from zfuse.daemon.settings import merge
from zfuse.daemon.settings import storage_options as interpreted
from zfuse.errors import InvalidInputError, NotAllowedError, NotMountedError, ZfuseError
from zfuse.ingest.placement import joined, node_path
from zfuse.ingest.run import Choices, IngestReport, Request, ingest
from zfuse.ingest.sources import FORMATS, Source, source_of
from zfuse.ingest.workers import Parsing
from zfuse.repo.ref import RefKind
from zfuse.storage.options import StorageOptions

_PARTLY: Final = 3
_JOBS: Final = 4
_INTERRUPTED: Final = 130


@click.command(
    epilog="Example: zfuse ingest s3://bucket/old.zarr /data/repo --anonymous -m 'add old'"
)
@click.argument("sources", metavar="SOURCE[=/NODE]...", nargs=-1, required=True)
@click.argument("target", metavar="REPO|PATH")
@click.option("--into", metavar="NODE", help="The node that a source becomes; many go below it.")
@click.option("--group", metavar="GROUP", help="Take this group of each source alone.")
@click.option("--skip", metavar="NAME", multiple=True, help="Leave out what is called so.")
@click.option("--format", "kind", type=click.Choice(FORMATS), default="auto", show_default=True)
@click.option("--branch", metavar="NAME", help="Commit to this branch [main].")
@click.option("--overwrite", is_flag=True, help="Replace what is at the nodes.")
@click.option("--append-dim", metavar="DIM", help="Extend the arrays at the node along DIM.")
@click.option("--keep-going", is_flag=True, help="Leave out sources that fail; exit 3 then.")
@click.option("--resume", is_flag=True, help="Go on with what a killed run has parsed.")
@click.option("--jobs", type=click.IntRange(1), default=_JOBS, show_default=True, help="Threads.")
@click.option("--dask", metavar="ADDRESS", help="Parse on the Dask cluster of this scheduler.")
@click.option("--source-endpoint-url", metavar="URL", help="S3 server of the sources alone.")
@click.option("--source-region", metavar="REGION", help="S3 region of the sources alone.")
@click.option("--source-profile", metavar="NAME", help="AWS profile for the sources alone.")
@click.option("-m", "--message", metavar="TEXT", help="What the commit does.")
@storage_options
@output.as_json
def command(
    *,
    sources: tuple[str, ...],
    target: str,
    as_json: bool,
    **flags: Any,  # noqa: ANN401
) -> int:
    """Reference all chunks of existing data in one commit, without copying any.

    SOURCE is a Zarr store (v2 or v3), an HDF5, NetCDF, TIFF or GRIB file, or kerchunk references:
    a path, or a URL. A single one becomes the root, or the NODE of --into; several become a node
    each, called after their file, unless =/NODE says so. The container that they lie in is
    declared in the repository where that is needed. The storage options are those of the
    sources and of the repository alike; but --anonymous, and those named so, are for the
    sources alone.
    """
    choices = {name: flags.pop(name) for name in _OWN}
    options = {name: flags.pop(name) for name in ("anonymous", *_SOURCES)}
    found = find_target(target, flags)
    if choices["overwrite"] and choices["append_dim"] is not None:
        raise InvalidInputError("--overwrite replaces and --append-dim extends; give one of them")
    with _ending_on_interrupt():
        report = trio.run(_ingest, found, sources, choices, _source_options(found, options))
    if found.inside or found.mounted:
        _refresh(target)
    if as_json:
        output.print_json(_told(report))
    else:
        _print(report)
    return _PARTLY if report.failed else 0


@contextmanager
def _ending_on_interrupt() -> Iterator[None]:
    """Let an interrupt end the process at once, as parsers in threads can not be stopped.

    Whatever an ingest writes stands a sudden end; what was parsed is kept for --resume.
    """

    def end(_number: int, _frame: object) -> None:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        os._exit(_INTERRUPTED)

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield  # somebody else deals with it, or it is ignored
        return
    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_OWN: Final = (
    *("into", "group", "skip", "kind", "overwrite", "append_dim", "keep_going"),
    *("resume", "jobs", "dask", "message"),
)


_SOURCES: Final = {
    "source_endpoint_url": "endpoint-url",
    "source_region": "region",
    "source_profile": "profile",
}


def _source_options(target: Target, flags: Mapping[str, Any]) -> StorageOptions:
    """Return how sources are reached: as the repository, but for what is said of them alone."""
    own = {name: flags[flag] for flag, name in _SOURCES.items() if flags[flag] is not None}
    if flags["anonymous"]:
        own["anonymous"] = True
    return interpreted(merge([own, target.layer]))


async def _ingest(
    target: Target, texts: Sequence[str], choices: Mapping[str, Any], options: StorageOptions
) -> IngestReport:
    named = [_split(text) for text in texts]
    sources = [
        source_of(
            text,
            kind=choices["kind"],
            group=choices["group"],
            skip=choices["skip"],
            options=options,
        )
        for text, _ in named
    ]
    async with opened(target) as repository:
        place = await locate(repository, target, None)
        if place.ref.kind is not RefKind.BRANCH:
            raise NotAllowedError(f"{place.ref} never changes; only branches do")
        into = joined(place.path, (choices["into"] or "").strip("/"))
        nodes = _nodes(sources, [node for _, node in named], into, choices)
        message = choices["message"] or _message(sources)
        # A run of one source that is killed has nothing yet that could be kept.
        kept = _state(target.location, sources, nodes) if len(sources) > 1 else None
        how = Parsing(choices["jobs"], choices["dask"], kept, choices["resume"])
        progress = Progress()
        try:
            return await ingest(
                repository,
                [Request(source, node) for source, node in zip(sources, nodes, strict=True)],
                Choices(
                    message,
                    place.ref.name,
                    overwrite=choices["overwrite"],
                    append_dim=choices["append_dim"],
                    keep_going=choices["keep_going"],
                    parsing=how,
                ),
                progress,
            )
        finally:
            progress.end()


def _split(text: str) -> tuple[str, str | None]:
    """Tell the source from its node in ``SOURCE=/NODE``; a path that is there is all source."""
    source, mark, node = text.rpartition("=")
    if not mark or not node.startswith("/") or Path(text).exists():
        return text, None
    return source, node


def _nodes(
    sources: Sequence[Source],
    named: Sequence[str | None],
    into: str,
    choices: Mapping[str, Any],
) -> list[str]:
    """Return the node of each source."""
    together = len(sources) == 1 or choices["append_dim"] is not None
    default = [into if together else joined(into, source.stem) for source in sources]
    return [node_path(node or below) for node, below in zip(named, default, strict=True)]


def _message(sources: Sequence[Source]) -> str:
    rest = f" and {len(sources) - 1} more" if len(sources) > 1 else ""
    return f"ingest {sources[0].location}{rest}"


def _state(repository: str, sources: Sequence[Source], nodes: Sequence[str]) -> Path:
    """Return the directory for what this ingest has parsed, the same if it runs again."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    told = [repository, *nodes, *(f"{s.location} {s.format} {s.group}" for s in sources)]
    name = hashlib.sha256("\n".join(told).encode()).hexdigest()[:32]
    return Path(state, "zfuse", "ingest", name)


class Progress:
    """Shows on a terminal how far an ingest is."""

    def __init__(self) -> None:
        self._shows = sys.stderr.isatty()

    def __call__(self, what: str, done: int, of: int) -> None:
        """Show it."""
        if self._shows:
            print(f"\r\x1b[K{what} {done} of {of}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Clear the line."""
        if self._shows:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _refresh(path: str) -> None:
    """Let the mount show the commit; what keeps it from that does not undo the commit."""
    try:
        call(Path(path), "refresh")
    except (NotMountedError, ZfuseError) as exc:
        print(f"the mount does not show it yet: {exc}; run: zfuse refresh", file=sys.stderr)


def _told(report: IngestReport) -> dict[str, Any]:
    return {
        "snapshot": None if report.snapshot is None else str(report.snapshot),
        "ingested": [
            {
                "source": each.location,
                "format": each.format,
                "node": each.node,
                "arrays": each.arrays,
                "chunks": each.chunks,
            }
            for each in report.ingested
        ],
        "failed": [{"source": source, "error": str(exc)} for source, exc in report.failed],
        "containers": [container.url_prefix for container in report.containers],
    }


def _print(report: IngestReport) -> None:
    for each in report.ingested:
        counts = f"{output.count(each.arrays, 'array')}, {output.count(each.chunks, 'chunk')}"
        print(output.plain(f"{each.location} ({each.format}) is {each.node}: {counts}"))
    for container in report.containers:
        prefix, told = output.plain(container.url_prefix), container.store.options
        # To a server of its own, credentials are sent only if somebody says so.
        how = "=env" if told.get("endpoint_url") and not told.get("anonymous") else ""
        print(f"declared the virtual chunk container {prefix}")
        print(f"  to read it: --allow-virtual {prefix}{how}")
    for source, exc in report.failed:
        print(output.plain(f"left out {source}: {exc}"), file=sys.stderr)
    if report.snapshot is None:
        print("nothing is committed")
    else:
        print(f"the branch is at {report.snapshot} now")
