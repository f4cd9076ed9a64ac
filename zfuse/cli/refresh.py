"""``zfuse refresh``."""

from pathlib import Path

import click

from zfuse.cli import output
from zfuse.daemon.control import call


@click.command(epilog="Example: zfuse refresh /mnt/repo")
@click.argument("path", required=False)
@output.as_json
def command(*, path: str | None, as_json: bool) -> None:
    """Let the branches that the mount of PATH shows move to their newest snapshot.

    When it returns no reader gets old content under a new name; files that are open stay
    as they were. PATH is anything inside the mount, by default the current directory.
    """
    moved = call(Path(path or "."), "refresh")["moved"]
    if as_json:
        output.print_json({"moved": moved})
        return
    if not moved:
        print("nothing moved")
    for move in moved:
        after = move["after"] or "is gone"
        print(f"branch {output.plain(move['branch'])}: {move['before']} -> {after}")
