"""``zfuse refresh``."""

from pathlib import Path

import click

from zfuse.cli import output
from zfuse.daemon.control import call


@click.command(epilog="Example: zfuse refresh /mnt/repo")
@click.argument("path", required=False)
@output.as_json
def command(*, path: str | None, as_json: bool) -> None:
    """Let the branches that the mount of PATH shows move, and new branches and tags appear.

    When it returns no reader gets old content under a new name; files that are open stay
    as they were. PATH is anything inside the mount, by default the current directory.
    """
    told = call(Path(path or "."), "refresh")
    if as_json:
        output.print_json(told)
        return
    if not any(told.values()):
        print("nothing moved")
    for kind in ("new", "gone"):
        for ref in told[kind]:
            print(f"{output.plain(ref)} is {kind}")
    for move in told["moved"]:
        after = move["after"] or "is gone"
        print(f"branch {output.plain(move['branch'])}: {move['before']} -> {after}")
