"""``zfuse list``."""

import os
from typing import Any, Final

import click

from zfuse.cli import output
from zfuse.daemon.control import call_mount
from zfuse.daemon.mountinfo import MountPoint, zfuse_mounts
from zfuse.errors import NotMountedError

_ASK_S: Final = 5.0


@click.command(epilog="Example: zfuse list --json | jq -r .mountpoint")
@output.as_json
def command(*, as_json: bool) -> None:
    """List your mounts: where, of which repository and ref, what was changed, and the daemon.

    Branches with changes that are not committed are named; zfuse status tells which changes.
    Root sees everybody's mounts. With --json, one object a line.
    """
    me = os.geteuid()
    rows = [_row(mount) for mount in zfuse_mounts() if me in {0, mount.user_id}]
    if as_json:
        for row in rows:
            output.print_json(row)
        return
    output.print_table(
        [
            (
                row["mountpoint"],
                row["repository"],
                row["ref"] or "all refs",
                _session(row),
                _daemon(row),
            )
            for row in rows
        ]
    )


def _session(row: dict[str, Any]) -> str:
    if row["read_only"] is None:
        return "?"
    if row["read_only"]:
        return "read-only"
    return f"changes on {', '.join(row['changed'])}" if row["changed"] else "no changes"


def _daemon(row: dict[str, Any]) -> str:
    if row["alive"]:
        return f"pid {row['pid']}"
    return f"no daemon: run zfuse umount {row['mountpoint']}"


def _row(mount: MountPoint) -> dict[str, Any]:
    row: dict[str, Any] = {
        "mountpoint": str(mount.path),
        "repository": mount.source,
        "ref": None,
        "read_only": None,
        "changed": [],
        "pid": None,
        "alive": False,
    }
    try:
        status = call_mount(mount, "status", timeout_s=_ASK_S)
    except NotMountedError:
        return row
    return row | {
        "repository": status["repository"],
        "ref": status["ref"],
        "read_only": status["read_only"],
        "changed": [s["branch"] for s in status.get("sessions", ()) if s["has_changes"]],
        "pid": status["pid"],
        "alive": True,
    }
