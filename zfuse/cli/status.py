"""``zfuse status``."""

from pathlib import Path
from typing import Final

import click

from zfuse.cli import output
from zfuse.daemon.control import call_mount
from zfuse.daemon.mountinfo import find_mount

_ASK_S: Final = 10.0


@click.command(epilog="Example: zfuse status /mnt/repo --json | jq .trees")
@click.argument("path", required=False)
@output.as_json
def command(*, path: str | None, as_json: bool) -> None:
    """Say what the mount of PATH shows: repository, snapshots, and nodes it cannot show.

    PATH is anything inside the mount, by default the current directory.
    """
    status = call_mount(find_mount(Path(path or ".")), "status", timeout_s=_ASK_S)
    if as_json:
        output.print_json(status)
        return
    output.print_fields(
        {
            "repository": status["repository"],
            "mounted at": status["mountpoint"],
            "shows": status["ref"] or "all refs",
            "writes": "no" if status["read_only"] else "yes",
            "daemon": f"pid {status['pid']}, since {status['mounted_at']}",
            "refreshed": status["refreshed_at"],
        }
    )
    if status["trees"]:
        print("\nin use:")
        output.print_table([(f"  {tree['ref']}", tree["snapshot"]) for tree in status["trees"]])
    if status["not_shown"]:
        print("\nnot shown:")
        output.print_table([(f"  {n['ref']}", n["path"], n["reason"]) for n in status["not_shown"]])
