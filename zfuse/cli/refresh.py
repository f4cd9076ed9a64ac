"""``zfuse refresh``."""

import time
from pathlib import Path
from typing import Final

import click

from zfuse.cli import output
from zfuse.cli.sessions import explained
from zfuse.daemon.control import call
from zfuse.errors import BusyError

_EVERY_S: Final = 1.0


@click.command(epilog="Example: zfuse refresh /mnt/repo")
@click.argument("path", required=False)
@click.option("--wait", is_flag=True, help="Return once a branch has moved.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Wait no longer than that.")
@output.as_json
def command(*, path: str | None, wait: bool, timeout: float | None, as_json: bool) -> None:
    """Let the branches that the mount of PATH shows move, and new branches and tags appear.

    When it returns no reader gets old content under a new name; files that are open stay
    as they were. PATH is anything inside the mount, by default the current directory. A
    branch with changes moves under them, unless they touch the same things as those of
    others: it stays then, and the exit code is 5. With --wait it asks every second until
    something is new, and ends with exit code 7 if that takes longer than --timeout.
    """
    place, deadline = (
        Path(path or "."),
        time.monotonic() + (float("inf") if timeout is None else timeout),
    )
    with explained(as_json=as_json):
        told = call(place, "refresh")
        while wait and not any(told.values()):
            if time.monotonic() >= deadline:
                raise BusyError(f"nothing moved within {timeout:g} s")
            time.sleep(min(_EVERY_S, max(deadline - time.monotonic(), 0)))
            told = call(place, "refresh")
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
