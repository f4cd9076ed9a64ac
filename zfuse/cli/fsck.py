"""``zfuse fsck``."""

from contextlib import aclosing
from dataclasses import asdict
from typing import Any

import click
import trio

from zfuse.cli import output
from zfuse.cli.findings import finding_json, finding_line
from zfuse.cli.options import storage_options, virtual_option
from zfuse.cli.target import Target, find_target
from zfuse.cli.ticker import ticking
from zfuse.daemon.assemble import Containers
from zfuse.daemon.settings import mount_settings
from zfuse.errors import AccessDeniedError, CorruptionError
from zfuse.maintenance.fsck import Depth, RepositoryCheck
from zfuse.maintenance.fsck_findings import Summary
from zfuse.repo.virtual import VirtualChunkResolver
from zfuse.storage.open import StorageOpener


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
    no fault: zfuse gc removes them. With --virtual, the files that nobody allowed to ask for are
    counted by their container; the exit code is 12 if there is no fault. Nothing is changed.
    With --json it prints a line for each fault (event "finding") and one at the end (event
    "summary").
    """
    found = find_target(target, flags)
    summary = trio.run(_check, found, Depth(deep, virtual), as_json)
    if as_json:
        sound = not (summary.findings or summary.not_asked)
        output.print_json({"event": "summary", "sound": sound, **asdict(summary)})
    else:
        _print_summary(summary, asked=virtual)
    if summary.findings:
        return CorruptionError.exit_code
    return AccessDeniedError.exit_code if summary.not_asked else 0


async def _check(target: Target, depth: Depth, as_json: bool) -> Summary:  # noqa: FBT001
    settings = mount_settings(target.location, {**target.layer, "rw": False})
    async with StorageOpener() as opener:
        storage = await opener.open(settings.repository, settings.storage)
        containers = Containers(opener, settings.deadline_s, [])
        resolver = VirtualChunkResolver({}, settings.allow_virtual, containers)
        check = RepositoryCheck(storage, resolver, depth)
        async with ticking(lambda: _told(check.summary)), aclosing(check.findings()) as findings:
            async for finding in findings:
                if as_json:
                    output.print_json({"event": "finding", **finding_json(finding)})
                else:
                    print(output.plain(finding_line(finding)), flush=True)
        return check.summary


def _told(summary: Summary) -> str:
    read = f", {output.human_size(summary.bytes_read)} read" if summary.bytes_read else ""
    return f"{summary.manifests} manifests, {summary.chunk_refs} chunk references{read}"


def _print_summary(summary: Summary, *, asked: bool) -> None:
    not_asked = "" if asked or not summary.virtual_sources else " (not asked for; see --virtual)"
    looked = [
        output.count(summary.snapshots, "snapshot"),
        output.count(summary.manifests, "manifest"),
        output.count(summary.chunk_refs, "chunk reference"),
        output.count(summary.native_chunks, "chunk object"),
        output.count(summary.virtual_sources, "virtual source") + not_asked,
    ]
    garbage = sum(counts.objects for counts in summary.unreferenced.values())
    size = output.human_size(sum(counts.bytes for counts in summary.unreferenced.values()))
    print(f"checked {', '.join(looked)}")
    if garbage:
        # Of what is damaged nobody knows what it referred to: that is garbage only when mended.
        way = "keep them until the faults are mended" if summary.findings else "zfuse gc"
        print(f"{output.count(garbage, 'object')} of {size} that nothing refers to: {way}")
    for prefix, count in sorted(summary.not_asked.items()):
        told = f"not asked for: {output.count(count, 'virtual source')} in {prefix}"
        print(output.plain(f"{told}; allow it with --allow-virtual {prefix}"))
    print(output.count(summary.findings, "fault") if summary.findings else "no faults")
