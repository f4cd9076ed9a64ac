"""``zfuse umount``."""

import os
from pathlib import Path
from typing import Final

import click

from zfuse.cli import output
from zfuse.daemon.control import call_mount
from zfuse.daemon.settings import mount_file
from zfuse.daemon.unmount import mount_at, unmount, wait_for_end
from zfuse.errors import BusyError, InvalidInputError, NotMountedError

_ASK_S: Final = 5.0
_PATIENCE_S: Final = 30.0


@click.command(epilog="Example: zfuse umount /mnt/repo")
@click.argument("directory", metavar="DIR", required=False)
@click.option("--name", metavar="NAME", help="Take DIR from /etc/zfuse/mounts.d/NAME.toml.")
@click.option(
    "--force",
    is_flag=True,
    help="Even if it is in use or its daemon is gone: who uses it loses it.",
)
@output.as_json
def command(*, directory: str | None, name: str | None, force: bool, as_json: bool) -> None:
    """End the mount at DIR, and wait until its daemon has ended.

    A mount in use stays, and the processes that use it are named.
    """
    if directory is None:
        if name is None:
            raise InvalidInputError("say which mount to end: zfuse umount DIR")
        directory = str(mount_file(name)["mountpoint"])
    mount = mount_at(Path(directory))
    try:
        pid = call_mount(mount, "status", timeout_s=_ASK_S)["pid"]
    except NotMountedError:
        pid = None  # the daemon is gone; what it left is taken away
    os.chdir("/")  # this process shall not be what keeps the mount busy
    unmount(mount, lazy=force)
    ended = pid is None or wait_for_end(pid, _PATIENCE_S if not force else 1.0)
    if not ended and not force:
        raise BusyError(
            f"{mount.path} is unmounted, but its daemon (pid {pid}) goes on; see its log"
        )
    if as_json:
        output.print_json({"mountpoint": str(mount.path), "pid": pid, "daemon_ended": ended})
