"""``zfuse fsck``."""

import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from typing import Any, Final

import click
import trio

from zfuse.cli import output
from zfuse.cli.options import storage_options, virtual_option
from zfuse.cli.target import Target, find_target
from zfuse.daemon.assemble import Containers
from zfuse.daemon.settings import mount_settings
from zfuse.errors import CorruptionError
from zfuse.repo.fsck import Depth, RepositoryCheck
from zfuse.repo.fsck_findings import Finding, Summary
from zfuse.repo.virtual import VirtualChunkResolver
from zfuse.storage.open import StorageOpener

_SHOWN: Final = 5
_EVERY_S: Final = 0.5


@click.command(epilog="Example: zfuse fsck s3://bucket/repo --virtual --allow-virtual s3://data/")
@click.argument("target", metavar="[REPO|PATH]", required=False)
@click.option("--deep", is_flag=True, help="Read all native chunks, too.")
@click.option("--virtual", is_flag=True, help="Ask for every file that virtual chunks lie in.")
@virtual_option
@storage_options
@output.as_json
def command(
    *,
    target: str | None,
    deep: bool,
    virtual: bool,
    as_json: bool,
    **flags: Any,  # noqa: ANN401
) -> int:
    """Check a repository: is all that its versions need there, readable and well formed?

    A line for each fault says which object it is, what is wrong, and which node, chunks and
    refs it hits; the exit code is 8 then. Objects that nothing refers to are counted, and are
    no fault: zfuse gc removes them. Nothing is changed. With --json it prints a line for each
    fault (event "finding") and one at the end (event "summary").
    """
    found = find_target(target, flags)
    summary = trio.run(_check, found, Depth(deep, virtual), as_json)
    if as_json:
        output.print_json({"event": "summary", "sound": not summary.findings, **asdict(summary)})
    else:
        _print_summary(summary)
    return CorruptionError.exit_code if summary.findings else 0


async def _check(target: Target, depth: Depth, as_json: bool) -> Summary:  # noqa: FBT001
    settings = mount_settings(target.location, {**target.layer, "rw": False})
    async with StorageOpener() as opener:
        storage = await opener.open(settings.repository, settings.storage)
        containers = Containers(opener, settings.deadline_s, [])
        resolver = VirtualChunkResolver({}, settings.allow_virtual, containers)
        check = RepositoryCheck(storage, resolver, depth)
        async with _progress(check.summary), aclosing(check.findings()) as findings:
            async for finding in findings:
                if as_json:
                    output.print_json(_as_json(finding))
                else:
                    print(output.plain(_line(finding)), flush=True)
        return check.summary


@asynccontextmanager
async def _progress(summary: Summary) -> AsyncIterator[None]:
    """Show on a terminal how far the check is while the block runs."""

    async def show() -> None:
        while True:
            await trio.sleep(_EVERY_S)
            told = f"{summary.manifests} manifests, {summary.chunk_refs} chunk references"
            read = f", {output.human_size(summary.bytes_read)} read" if summary.bytes_read else ""
            print(f"\r\x1b[K{told}{read}", end="", file=sys.stderr, flush=True)

    async with trio.open_nursery() as nursery:
        if sys.stderr.isatty():
            nursery.start_soon(show)
        yield
        nursery.cancel_scope.cancel()
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _as_json(finding: Finding) -> dict[str, Any]:
    chunks = None if finding.chunks is None else finding.chunks.tolist()
    return {
        "event": "finding",
        "object": finding.object,
        "problem": finding.problem,
        "path": finding.path,
        "refs": list(finding.refs),
        "chunks": chunks,
    }


def _line(finding: Finding) -> str:
    text = f"{finding.object}: {finding.problem}"
    if finding.path is not None:
        text += f": {finding.path}"
    if finding.chunks is not None:
        shown = ["/".join(map(str, coords)) or "()" for coords in finding.chunks[:_SHOWN].tolist()]
        more = len(finding.chunks) - len(shown)
        noun = "chunk" if len(finding.chunks) == 1 else "chunks"
        text += f" {noun} {', '.join(shown)}{f' and {more} more' if more else ''}"
    return f"{text} ({', '.join(finding.refs)})" if finding.refs else text


def _print_summary(summary: Summary) -> None:
    looked = [
        output.count(summary.snapshots, "snapshot"),
        output.count(summary.manifests, "manifest"),
        output.count(summary.chunk_refs, "chunk reference"),
        output.count(summary.native_chunks, "chunk object"),
        output.count(summary.virtual_sources, "virtual source"),
    ]
    garbage = sum(counts.objects for counts in summary.unreferenced.values())
    size = output.human_size(sum(counts.bytes for counts in summary.unreferenced.values()))
    print(f"checked {', '.join(looked)}")
    if garbage:
        print(f"{output.count(garbage, 'object')} of {size} that nothing refers to: zfuse gc")
    print(output.count(summary.findings, "fault") if summary.findings else "no faults")
