"""``zfuse status``."""

from pathlib import Path
from typing import Final

import click

from zfuse.cli import output
from zfuse.cli.sessions import print_changes
from zfuse.daemon.control import call_mount
from zfuse.daemon.mountinfo import find_mount

_ASK_S: Final = 10.0
_CHANGES_S: Final = 600.0


@click.command(epilog="Example: zfuse status /mnt/repo --json | jq .trees")
@click.argument("path", required=False)
@output.as_json
def command(*, path: str | None, as_json: bool) -> None:
    """Say what the mount of PATH shows, and what was changed on its branches.

    Of a mount that can be written to it tells the changes that ``zfuse sync`` would commit,
    the files that are none of Zarr's (untracked), and those that stand in the way (invalid).

    PATH is anything inside the mount, by default the current directory.
    """
    mount = find_mount(Path(path or "."))
    status = call_mount(mount, "status", timeout_s=_ASK_S)
    status["sessions"] = []
    if not status["read_only"]:
        told = call_mount(mount, "changes", timeout_s=_CHANGES_S)
        status["sessions"] = told["sessions"]
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
    for session in status["sessions"]:
        found = ", found again after its mount had ended" if session["recovered"] else ""
        print(f"\nbranch {output.plain(session['branch'])}, since {session['base']}{found}:")
        if session["refusal"] is not None:
            print(f"  can only be read: {output.plain(session['refusal'])}")
        if session["branch_is_gone"]:
            print("  others deleted the branch: zfuse sync --new-branch NAME, or zfuse discard")
        nothing = "nothing to commit" if session["has_changes"] else "no changes"
        print_changes(session, nothing=nothing)
