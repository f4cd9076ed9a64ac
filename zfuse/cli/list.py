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
    """List your mounts: where, of which repository and ref, and the daemon's process.

    Root sees everybody's. With --json, one object a line.
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
                _daemon(row),
            )
            for row in rows
        ]
    )


def _daemon(row: dict[str, Any]) -> str:
    if row["alive"]:
        return f"pid {row['pid']}"
    return f"no daemon: run zfuse umount {row['mountpoint']}"


def _row(mount: MountPoint) -> dict[str, Any]:
    row = {
        "mountpoint": str(mount.path),
        "repository": mount.source,
        "ref": None,
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
        "pid": status["pid"],
        "alive": True,
    }
